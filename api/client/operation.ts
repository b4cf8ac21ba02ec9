/** What a write does and what became of it, in plain types, and its translation from and to the messages of the wire. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  DeleteRangeRequestSchema,
  DeleteRequestSchema,
  IncrementRequestSchema,
  Previous,
  SetRequestSchema,
  TouchRequestSchema,
  WriteResult as WireResult,
} from "../gen/cambium/v1/kvstore_pb.js";
import { CambiumError } from "./cambium-error.js";
import { encodeKey } from "./message.js";
import type { KeyRange } from "./scan.js";
import { fromWire, type Position, toPosition, toWire } from "./wire.js";

/** What must hold for a write to be done; it is refused with `condition_failed` otherwise. At most one of them. */
export interface Condition {
  /** The key has not changed since the record of this seq (its `modSeq`). */
  readonly ifSeq?: number | undefined;
  /** The same by the token of the write's receipt; `lineage_lost` where the history that it belongs to was lost. */
  readonly ifToken?: Uint8Array | undefined;
}

export interface SetCondition extends Condition {
  /** The key is absent. The same as an `ifSeq` of 0. */
  readonly ifAbsent?: boolean | undefined;
}

/** Writes a key. A string is stored as UTF-8. */
export interface SetOperation extends SetCondition {
  readonly kind: "set";
  readonly key: string;
  readonly value: Uint8Array | string;
  /** Milliseconds from now after which the key expires; absent: it does not. */
  readonly ttlMs?: number | undefined;
  /** The key keeps the deadline that it has. Not with `ttlMs`. */
  readonly keepTtl?: boolean | undefined;
  /** Whether the result has what the key was before. */
  readonly wantPrevious?: boolean | undefined;
}

/** Removes a key. */
export interface DeleteOperation extends Condition {
  readonly kind: "delete";
  readonly key: string;
  /** Whether the result has what the key was before. */
  readonly wantPrevious?: boolean | undefined;
}

/** Gives a key another deadline; its value stays. */
export interface TouchOperation extends Condition {
  readonly kind: "touch";
  readonly key: string;
  /** Milliseconds from now after which the key expires; 0: it has no deadline any more. */
  readonly ttlMs: number;
}

/** Adds to a number, which a key holds as decimal text. */
export interface IncrementOperation {
  readonly kind: "increment";
  readonly key: string;
  /** What is added. Default 1. */
  readonly delta?: bigint | number | undefined;
  /** What an absent key counts as. Default 0. */
  readonly initial?: bigint | number | undefined;
  /** The sum must not be less; `out_of_bounds` otherwise. Default: the least number of 64 bits. */
  readonly min?: bigint | number | undefined;
  /** The sum must not be more. Default: the greatest number of 64 bits. */
  readonly max?: bigint | number | undefined;
  /** The deadline of a key that this creates, in milliseconds from now. Default: none. */
  readonly ttlMs?: number | undefined;
}

/** One operation of a batch. */
export type WriteOperation = SetOperation | DeleteOperation | TouchOperation | IncrementOperation;

/** A key as it was before a write. */
export interface PreviousEntry {
  readonly value: Uint8Array;
  readonly createSeq: number;
  readonly modSeq: number;
}

/** What one operation found and did. */
export interface WriteResult {
  /** Whether its key existed before it. */
  readonly existed: boolean;
  /** With `wantPrevious`, where there was one. */
  readonly previous?: PreviousEntry;
  /** Of an increment: the sum. */
  readonly value?: bigint;
}

/** A write, committed unless it was to be answered earlier. */
export interface WriteReceipt {
  /** Of the record that holds it; where nothing was to be written, of what showed so. */
  readonly position: Position;
  /** `position` with its lineage, opaque: `atLeast` of a read that must see the write, at whichever node. */
  readonly token: Uint8Array;
  /** The write had been done before, by an earlier try: this is the answer that it got then. */
  readonly repeated?: true;
}

export interface SetReceipt extends WriteReceipt {
  /** With `wantPrevious`, where there was one. */
  readonly previous?: PreviousEntry;
}

export interface DeleteReceipt extends WriteReceipt {
  /** Whether there was a key to remove. */
  readonly existed: boolean;
  /** With `wantPrevious`, where there was one. */
  readonly previous?: PreviousEntry;
}

export interface TouchReceipt extends WriteReceipt {
  /** Whether there was a key to touch. */
  readonly existed: boolean;
}

export interface IncrementReceipt extends WriteReceipt {
  /** The sum. */
  readonly value: bigint;
}

export interface DeleteRangeReceipt extends WriteReceipt {
  /** The keys that were removed; absent when they were more than 10,000, which are not counted. */
  readonly deleted?: number;
}

export interface BatchReceipt extends WriteReceipt {
  /** One an operation, in their order. */
  readonly results: readonly WriteResult[];
}

/** Which keys to remove: all of them only where that is said. */
export type DeletedRange = (KeyRange & { readonly all?: false | undefined }) | { readonly all: true };

export function setRequest(set: Omit<SetOperation, "kind">): MessageInitShape<typeof SetRequestSchema> {
  const { key, value, ttlMs, keepTtl = false, ifAbsent = false, wantPrevious = false } = set;
  encodeKey(key);
  if (ttlMs === 0) throw new CambiumError("invalid_argument", "ttlMs must be more than 0; delete the key instead");
  if (keepTtl && ttlMs !== undefined) throw new CambiumError("invalid_argument", "give ttlMs or keepTtl, not both");
  if (ifAbsent && (set.ifSeq !== undefined || set.ifToken)) {
    throw new CambiumError("invalid_argument", "give one condition: ifAbsent, ifSeq or ifToken");
  }
  return {
    key,
    value: typeof value === "string" ? new TextEncoder().encode(value) : value,
    ttlMs: toWire(ttlMs ?? 0, "ttlMs"),
    ...(keepTtl && { keepTtl }),
    ...(ifAbsent && { ifAbsent }),
    ...conditionOf(set),
    ...(wantPrevious && { wantPrevious }),
  };
}

export function deleteRequest(deletion: Omit<DeleteOperation, "kind">): MessageInitShape<typeof DeleteRequestSchema> {
  const { key, wantPrevious = false } = deletion;
  encodeKey(key);
  return { key, ...conditionOf(deletion), ...(wantPrevious && { wantPrevious }) };
}

export function touchRequest(touch: Omit<TouchOperation, "kind">): MessageInitShape<typeof TouchRequestSchema> {
  encodeKey(touch.key);
  return { key: touch.key, ttlMs: toWire(touch.ttlMs, "ttlMs"), ...conditionOf(touch) };
}

export function incrementRequest(
  increment: Omit<IncrementOperation, "kind">,
): MessageInitShape<typeof IncrementRequestSchema> {
  const { key, delta, initial = 0n, min, max, ttlMs = 0 } = increment;
  encodeKey(key);
  return {
    key,
    ...(delta !== undefined && { delta: toInt64(delta, "delta") }),
    initial: toInt64(initial, "initial"),
    ...(min !== undefined && { min: toInt64(min, "min") }),
    ...(max !== undefined && { max: toInt64(max, "max") }),
    ttlMs: toWire(ttlMs, "ttlMs"),
  };
}

export function deleteRangeRequest(range: DeletedRange): MessageInitShape<typeof DeleteRangeRequestSchema> {
  const { prefix = "", start = "", end = "", all = false } = range as KeyRange & { readonly all?: boolean };
  const isBounded = prefix !== "" || start !== "" || end !== "";
  // An empty prefix, perhaps of a variable that nobody has set, must not remove everything.
  if (isBounded === all) {
    throw new CambiumError(
      "invalid_argument",
      "say which keys to remove by prefix, start or end, or all of them by all",
    );
  }
  for (const bound of [prefix, start, end]) encodeKey(bound);
  return { prefix, start, end, all };
}

/** As it stands in a batch and in a transaction. */
export interface WireOperation {
  readonly operation:
    | { readonly case: "set"; readonly value: MessageInitShape<typeof SetRequestSchema> }
    | { readonly case: "delete"; readonly value: MessageInitShape<typeof DeleteRequestSchema> }
    | { readonly case: "touch"; readonly value: MessageInitShape<typeof TouchRequestSchema> }
    | { readonly case: "increment"; readonly value: MessageInitShape<typeof IncrementRequestSchema> };
}

export function toWireOperation(operation: WriteOperation): WireOperation {
  switch (operation.kind) {
    case "set":
      return { operation: { case: "set", value: setRequest(operation) } };
    case "delete":
      return { operation: { case: "delete", value: deleteRequest(operation) } };
    case "touch":
      return { operation: { case: "touch", value: touchRequest(operation) } };
    case "increment":
      return { operation: { case: "increment", value: incrementRequest(operation) } };
    default:
      throw new CambiumError("invalid_argument", `there is no operation ${JSON.stringify(operation)}`);
  }
}

/** What all answers of writes have. */
export interface WireReceipt {
  readonly position?: { epoch: bigint; seq: bigint } | undefined;
  readonly token: Uint8Array;
  readonly repeated?: boolean;
}

export function toReceipt({ position, token, repeated = false }: WireReceipt): WriteReceipt {
  return { position: toPosition(position), token, ...(repeated && { repeated }) };
}

export function toResult({ existed, previous, value }: WireResult): WriteResult {
  return { existed, ...toPrevious(previous), ...(value !== undefined && { value }) };
}

export function toPrevious(previous: Previous | undefined): { readonly previous?: PreviousEntry } {
  if (!previous) return {};
  const { value, createSeq, modSeq } = previous;
  return {
    previous: { value, createSeq: fromWire(createSeq, "create_seq"), modSeq: fromWire(modSeq, "mod_seq") },
  };
}

function conditionOf({ ifSeq, ifToken }: Condition): { readonly ifSeq?: bigint; readonly ifToken?: Uint8Array } {
  if (ifSeq !== undefined && ifToken)
    throw new CambiumError("invalid_argument", "give one condition: ifSeq or ifToken");
  if (ifToken?.byteLength === 0) throw new CambiumError("invalid_argument", "ifToken is empty; leave it out instead");
  return { ...(ifSeq !== undefined && { ifSeq: toWire(ifSeq, "ifSeq") }), ...(ifToken && { ifToken }) };
}

/** A whole number of 64 bits, signed. A number beyond 2^53 may have been rounded before it came here: that takes a bigint. */
function toInt64(value: bigint | number, field: string): bigint {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new CambiumError(
      "invalid_argument",
      `${field} must be a whole number, beyond 2^53 as a bigint, not ${value}`,
    );
  }
  const exact = BigInt(value);
  if (BigInt.asIntN(64, exact) === exact) return exact;
  throw new CambiumError("invalid_argument", `${field} must be a number of 64 bits, not ${exact}`);
}
