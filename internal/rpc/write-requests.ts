/** What requests that write ask of the store: every field checked, and named where it cannot be. */
import {
  type Compare as WireCompare,
  Comparison,
  type DeleteRangeRequest,
  type DeleteRequest,
  type IncrementRequest,
  type SetRequest,
  type TouchRequest,
  type TxnOperation as WireTxnOperation,
  type TxnRequest,
  type WriteOperation,
  type WriteRequest,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Acknowledge } from "../../api/gen/cambium/v1/types_pb.js";
import { fromWire64, seq } from "../base/position.js";
import type { Compare, Condition, Txn, TxnOperation, WriteCommand, WriteOptions } from "../store/store.js";
import { checkedRange } from "./key-range.js";
import {
  checkCount,
  checkedKey,
  checkedTtl,
  checkedValue,
  CLIENT_ID_BYTES_MAX,
  type Limits,
  TXN_MAX,
} from "./limits.js";
import { RequestError } from "./request-error.js";
import { isWellFormed } from "./text-encoding.js";

type Kind<K extends WriteCommand["kind"]> = Extract<WriteCommand, { readonly kind: K }>;

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

// `prefix` stands before the names of the fields in errors.

export function checkedSet(request: SetRequest, prefix: string, limits: Limits): Kind<"set"> {
  const key = checkedKey(request.key, `${prefix}key`, limits);
  const value = checkedValue(request.value, `${prefix}value`, limits);
  const ttlMs = checkedTtl(request.ttlMs, `${prefix}ttl_ms`);
  const { keepTtl, ifAbsent, wantPrevious } = request;
  if (keepTtl && ttlMs > 0) {
    throw invalid(`${prefix}ttl_ms and ${prefix}keep_ttl are both given; give the one or the other`);
  }
  if (ifAbsent && (request.ifSeq !== undefined || request.ifToken.length > 0)) {
    throw invalid(`${prefix}if_absent is given together with if_seq or if_token; give one of them`);
  }
  const condition = ifAbsent ? { ifAbsent } : checkedCondition(request, prefix);
  return {
    kind: "set",
    key,
    value,
    ...(ttlMs > 0 && { ttlMs }),
    ...(keepTtl && { keepTtl }),
    ...(condition && { condition }),
    ...(wantPrevious && { wantPrevious }),
  };
}

export function checkedDelete(request: DeleteRequest, prefix: string, limits: Limits): Kind<"delete"> {
  const key = checkedKey(request.key, `${prefix}key`, limits);
  const condition = checkedConditionOfKey(request, prefix);
  const { wantPrevious } = request;
  return { kind: "delete", key, ...(condition && { condition }), ...(wantPrevious && { wantPrevious }) };
}

export function checkedTouch(request: TouchRequest, prefix: string, limits: Limits): Kind<"touch"> {
  const key = checkedKey(request.key, `${prefix}key`, limits);
  const condition = checkedConditionOfKey(request, prefix);
  return { kind: "touch", key, ttlMs: checkedTtl(request.ttlMs, `${prefix}ttl_ms`), ...(condition && { condition }) };
}

export function checkedIncrement(request: IncrementRequest, prefix: string, limits: Limits): Kind<"increment"> {
  const key = checkedKey(request.key, `${prefix}key`, limits);
  const { delta = 1n, initial, min = INT64_MIN, max = INT64_MAX } = request;
  if (min > max) throw invalid(`${prefix}min is ${min}, above ${prefix}max, which is ${max}; exchange them`);
  return { kind: "increment", key, delta, initial, min, max, ttlMs: checkedTtl(request.ttlMs, `${prefix}ttl_ms`) };
}

export function checkedDeleteRange(request: DeleteRangeRequest, limits: Limits): Kind<"delete-range"> {
  const { prefix, start, end, all } = request;
  const isBounded = prefix !== "" || start !== "" || end !== "";
  // Who forgets a field must not lose everything by it.
  if (!isBounded && !all) throw invalid("prefix, start and end are all empty; give one of them, or all for every key");
  if (isBounded && all) throw invalid("all is given together with prefix, start or end; give the one or the other");
  return { kind: "delete-range", range: checkedRange(request, "", limits) };
}

/** The operations of a batch. */
export function checkedOperations({ operations }: WriteRequest, limits: Limits): WriteCommand[] {
  checkCount(operations.length, "operations");
  return operations.map(({ operation }: WriteOperation, index) => {
    const field = `operations[${index}]`;
    if (operation.case === undefined) {
      throw invalid(`${field} is empty; give it a set, a delete, a touch or an increment`);
    }
    return checkedPart(operation, field, limits);
  });
}

export function checkedTxn(request: TxnRequest, limits: Limits): Txn {
  const count = request.compares.length + request.then.length + request.else.length;
  if (count === 0) throw invalid("compares, then and else are all empty; give the transaction something to do");
  if (count > TXN_MAX) {
    throw invalid(`compares, then and else have ${count} entries together; at most ${TXN_MAX} are possible`);
  }
  return {
    compares: request.compares.map((compare, index) => checkedCompare(compare, `compares[${index}]`, limits)),
    then: request.then.map((operation, index) => checkedTxnOperation(operation, `then[${index}]`, limits)),
    else: request.else.map((operation, index) => checkedTxnOperation(operation, `else[${index}]`, limits)),
  };
}

/** Under what a write is remembered for safe retries; undefined where its caller wants none. */
export function checkedRetry(request: {
  readonly clientId: string;
  readonly clientSeq: bigint;
}): WriteOptions["retry"] {
  const { clientId } = request;
  if (clientId === "" && request.clientSeq === 0n) return undefined;
  if (clientId === "") throw invalid("client_seq is given without client_id; give both, or none of them");
  if (request.clientSeq === 0n) {
    throw invalid("client_id is given without client_seq; number the writes of a client from 1 on");
  }
  // A character is one byte at least.
  const bytes = clientId.length > CLIENT_ID_BYTES_MAX ? clientId.length : Buffer.byteLength(clientId);
  if (bytes > CLIENT_ID_BYTES_MAX) {
    throw invalid(`client_id has at least ${bytes} bytes, ${CLIENT_ID_BYTES_MAX} are possible; use a shorter one`);
  }
  if (!isWellFormed(clientId)) {
    throw invalid("client_id holds half a surrogate pair, which UTF-8 cannot express; send Unicode");
  }
  return { clientId, clientSeq: fromWire64(request.clientSeq, "client_seq") };
}

type Part = Exclude<WriteOperation["operation"], { readonly case: undefined }>;

function checkedPart(part: Part, field: string, limits: Limits): Exclude<WriteCommand, Kind<"delete-range">> {
  const name = `${field}.${part.case}`;
  checkBare(part.value, name);
  switch (part.case) {
    case "set":
      return checkedSet(part.value, `${name}.`, limits);
    case "delete":
      return checkedDelete(part.value, `${name}.`, limits);
    case "touch":
      return checkedTouch(part.value, `${name}.`, limits);
    case "increment":
      return checkedIncrement(part.value, `${name}.`, limits);
  }
}

function checkedTxnOperation({ operation }: WireTxnOperation, field: string, limits: Limits): TxnOperation {
  switch (operation.case) {
    case undefined:
      throw invalid(`${field} is empty; give it a get, a set, a delete, a touch or an increment`);
    case "get":
      if (operation.value.consistency) {
        throw invalid(`${field}.get.consistency is given; what a transaction reads is as fresh as its writes`);
      }
      return { kind: "get", key: checkedKey(operation.value.key, `${field}.get.key`, limits) };
    default:
      return checkedPart(operation, field, limits);
  }
}

/** What concerns the whole request is not said of a part of it. */
function checkBare(
  part: { readonly acknowledge: Acknowledge; readonly clientId: string; readonly clientSeq: bigint },
  field: string,
): void {
  if (part.acknowledge !== Acknowledge.UNSPECIFIED) {
    throw invalid(`${field}.acknowledge is given; give acknowledge beside the operations instead`);
  }
  if (part.clientId !== "") {
    throw invalid(`${field}.client_id is given; give client_id beside the operations instead`);
  }
  if (part.clientSeq !== 0n) {
    throw invalid(`${field}.client_seq is given; give client_seq beside the operations instead`);
  }
}

function checkedCondition(
  { ifSeq, ifToken }: { readonly ifSeq?: bigint | undefined; readonly ifToken: Uint8Array },
  prefix: string,
): Condition | undefined {
  if (ifSeq === undefined) return ifToken.length > 0 ? { ifToken } : undefined;
  if (ifToken.length > 0) throw invalid(`${prefix}if_seq and ${prefix}if_token are both given; give one of them`);
  return { ifSeq: seq(fromWire64(ifSeq, `${prefix}if_seq`)) };
}

/** Of an operation that wants the key to be there. */
function checkedConditionOfKey(
  request: { readonly ifSeq?: bigint | undefined; readonly ifToken: Uint8Array },
  prefix: string,
): Condition | undefined {
  if (request.ifSeq === 0n) {
    throw invalid(`${prefix}if_seq is 0, which stands for an absent key; give the mod_seq of the key, or leave it out`);
  }
  return checkedCondition(request, prefix);
}

function checkedCompare({ key, comparison, target }: WireCompare, field: string, limits: Limits): Compare {
  const compare = {
    key: checkedKey(key, `${field}.key`, limits),
    comparison: comparisonFromWire(comparison, `${field}.comparison`),
  };
  switch (target.case) {
    case "modSeq":
      return { ...compare, target: { kind: "mod-seq", seq: seq(fromWire64(target.value, `${field}.mod_seq`)) } };
    case "createSeq":
      return { ...compare, target: { kind: "create-seq", seq: seq(fromWire64(target.value, `${field}.create_seq`)) } };
    case "exists":
      if (compare.comparison === "less" || compare.comparison === "greater") {
        throw invalid(
          `${field}.comparison is of more or less, and exists is neither; compare it with EQUAL or NOT_EQUAL`,
        );
      }
      return { ...compare, target: { kind: "exists", exists: target.value } };
    case "value":
      return { ...compare, target: { kind: "value", value: checkedValue(target.value, `${field}.value`, limits) } };
    case undefined:
      throw invalid(`${field} has nothing to compare with; give mod_seq, create_seq, exists or value`);
  }
}

function comparisonFromWire(comparison: Comparison, field: string): Compare["comparison"] {
  switch (comparison) {
    case Comparison.UNSPECIFIED:
    case Comparison.EQUAL:
      return "equal";
    case Comparison.NOT_EQUAL:
      return "not-equal";
    case Comparison.LESS:
      return "less";
    case Comparison.GREATER:
      return "greater";
    default:
      throw invalid(`${field} is ${String(comparison)}, which this version does not know`);
  }
}

function invalid(message: string): RequestError {
  return new RequestError("invalid", message);
}
