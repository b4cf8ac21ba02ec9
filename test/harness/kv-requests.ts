/**
 * Writes of all kinds by chance, as a user of the client makes them; sent through the client, and held against the plain oracle of
 * the store's tests, which knows nothing of the log, of replication and of the wire.
 */
import fc from "fast-check";
import type {
  CallOptions,
  CambiumClient,
  CambiumError,
  Compare,
  DeletedRange,
  Entry,
  TxnOperation,
  WriteOperation,
  WriteReceipt,
} from "../../api/client/node.js";
import type { Seq } from "../../internal/base/position.js";
import type { Condition as StoreCondition, WriteCommand } from "../../internal/store/store.js";
import { bytes } from "../../internal/store/testing/stores.js";
import { judge, type OracleState, plain, type Wish } from "../../internal/store/testing/write-oracle.js";

export type Request =
  | { readonly kind: "one"; readonly operation: WriteOperation }
  | { readonly kind: "batch"; readonly operations: readonly WriteOperation[] }
  | { readonly kind: "delete-range"; readonly range: DeletedRange }
  | {
      readonly kind: "txn";
      readonly compares: readonly Compare[];
      readonly operations: readonly TxnOperation[];
      readonly otherwise: readonly TxnOperation[];
    };

/** What a client was told, with all bytes as text. */
export interface Answer {
  readonly seq: number;
  readonly token: Uint8Array;
  readonly repeated: boolean;
  readonly failedCompares: readonly number[] | undefined;
  readonly results: readonly Shown[];
}

/** One result; what an answer does not show is undefined. */
export type Shown = Readonly<Record<string, unknown>>;

export type Judged = ReturnType<typeof judge>;

export const KEYS = ["a", "ab", "b", "ba", "c", "é", "😀"] as const;
const INT64_MAX = 2n ** 63n - 1n;

// ---- by chance ---------------------------------------------------------------------------------------------------------

export interface RequestLimits {
  /** Deadlines that are given, beside none. */
  readonly ttlsMs: readonly number[];
  /** Seqs that conditions and comparisons name are below. */
  readonly seqMax: number;
}

const key = fc.constantFrom(...KEYS);
const value = fc.constantFrom("", "0", "7", "-3", "007", "x", "9007199254740993", String(INT64_MAX));

const merged = (...parts: fc.Arbitrary<object>[]): fc.Arbitrary<object> =>
  fc.tuple(...parts).map((all) => Object.assign({}, ...all) as object);
const maybe = (part: fc.Arbitrary<object>): fc.Arbitrary<object> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant({}) }, part);

/** A token in a condition is the number of one that was seen; `withTokens` puts it in. */
export function requests({ ttlsMs, seqMax }: RequestLimits): fc.Arbitrary<Request> {
  const seq = fc.integer({ min: 1, max: seqMax });
  const ifToken = fc.nat(20).map((n) => Uint8Array.of(n));
  const condition = maybe(fc.oneof(fc.record({ ifSeq: seq }), fc.record({ ifToken })));
  const setCondition = maybe(
    fc.oneof(
      fc.constant({ ifAbsent: true }),
      fc.constant({ ifSeq: 0 }),
      fc.record({ ifSeq: seq }),
      fc.record({ ifToken }),
    ),
  );
  const wantPrevious = maybe(fc.constant({ wantPrevious: true }));
  const given = fc.record({ ttlMs: fc.constantFrom(...ttlsMs) });
  const operation = fc.oneof(
    {
      weight: 4,
      arbitrary: merged(
        fc.record({ kind: fc.constant("set"), key, value }),
        fc.oneof(fc.constant({}), given, fc.constant({ keepTtl: true })),
        setCondition,
        wantPrevious,
      ),
    },
    { weight: 2, arbitrary: merged(fc.record({ kind: fc.constant("delete"), key }), condition, wantPrevious) },
    merged(fc.record({ kind: fc.constant("touch"), key, ttlMs: fc.constantFrom(0, ...ttlsMs) }), condition),
    {
      weight: 2,
      arbitrary: merged(
        fc.record({ kind: fc.constant("increment"), key }),
        maybe(fc.record({ delta: fc.oneof(fc.bigInt(-2n, 2n), fc.constant(2n ** 53n + 1n)) })),
        maybe(fc.record({ initial: fc.bigInt(-1n, 10n) })),
        maybe(fc.record({ min: fc.constantFrom(-3n, 0n) })),
        maybe(fc.record({ max: fc.constantFrom(8n, INT64_MAX) })),
        maybe(given),
      ),
    },
  ) as fc.Arbitrary<WriteOperation>;
  const compare = fc.oneof(
    fc.record({
      key,
      is: fc.constantFrom("=", "!=", "<", ">"),
      target: fc.constantFrom("modSeq", "createSeq"),
      to: fc.nat(seqMax),
    }),
    fc.record({ key, is: fc.constantFrom("=", "!=", "<", ">"), target: fc.constant("value"), to: value }),
    fc.record({ key, is: fc.constantFrom("=", "!="), target: fc.constant("exists"), to: fc.boolean() }),
  ) as fc.Arbitrary<Compare>;
  const get = fc.record({ kind: fc.constant("get" as const), key });
  const txnOperation = fc.oneof({ weight: 3, arbitrary: operation }, get) as fc.Arbitrary<TxnOperation>;
  return fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("one" as const), operation }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("batch" as const),
        operations: fc.array(operation, { minLength: 1, maxLength: 4 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete-range" as const), range: deletedRange }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("txn" as const),
        compares: fc.array(compare, { maxLength: 2 }),
        operations: fc.array(txnOperation, { minLength: 1, maxLength: 4 }),
        otherwise: fc.array(txnOperation, { maxLength: 3 }),
      }),
    },
  );
}

export const ranges = fc.oneof(
  fc.record({ prefix: fc.constantFrom("a", "ab", "b", "😀") }),
  fc
    .tuple(fc.constantFrom("", "a", "ab", "b", "z"), fc.constantFrom("", "ab", "b", "c", "é", "😀"))
    .map(([start, end]) => (end !== "" && end < start ? { start: end, end: start } : { start, end })),
);

const deletedRange: fc.Arbitrary<DeletedRange> = ranges.map((range) =>
  "prefix" in range || range.start !== "" || range.end !== "" ? range : { all: true },
);

/** The same request with tokens where it has numbers of tokens. */
export function withTokens(request: Request, tokens: readonly Uint8Array[]): Request {
  const put = <T extends TxnOperation>(operation: T): T => {
    if (!("ifToken" in operation) || operation.ifToken?.byteLength !== 1) return operation;
    const token = tokens[operation.ifToken[0]! % Math.max(1, tokens.length)];
    return { ...operation, ifToken: token };
  };
  switch (request.kind) {
    case "one":
      return { ...request, operation: put(request.operation) };
    case "batch":
      return { ...request, operations: request.operations.map(put) };
    case "txn":
      return { ...request, operations: request.operations.map(put), otherwise: request.otherwise.map(put) };
    case "delete-range":
      return request;
  }
}

// ---- through the client ------------------------------------------------------------------------------------------------

/** Sends it by the method of the client that is made for it. */
export async function send(
  client: CambiumClient,
  request: Request,
  options: CallOptions & { readonly clientSeq?: number | undefined } = {},
): Promise<Answer> {
  switch (request.kind) {
    case "one": {
      const receipt = await sendOne(client, request.operation, options);
      return toAnswer(receipt, [show(request.operation, receipt as unknown as Shown)]);
    }
    case "batch": {
      const receipt = await client.write(request.operations, options);
      const results = receipt.results.map((result, i) => show(request.operations[i]!, { ...result }));
      return toAnswer(receipt, results);
    }
    case "delete-range": {
      const receipt = await client.deleteRange(request.range, options);
      return toAnswer(receipt, [{ deleted: receipt.deleted }]);
    }
    case "txn": {
      const { compares, operations, otherwise } = request;
      const txn = client
        .txn()
        .compare(...compares)
        .do(...operations)
        .otherwise(...otherwise);
      const receipt = await txn.commit(options);
      const list = receipt.succeeded ? operations : otherwise;
      const results = receipt.results as readonly unknown[];
      if (receipt.succeeded !== (receipt.failedCompares.length === 0)) throw new Error("it contradicts itself");
      const shown = list.map((operation, i) => showOfTxn(operation, results[i]));
      return { ...toAnswer(receipt, shown), failedCompares: receipt.failedCompares };
    }
  }
}

function sendOne(client: CambiumClient, operation: WriteOperation, options: object): Promise<WriteReceipt> {
  switch (operation.kind) {
    case "set":
      return client.set(operation.key, operation.value, { ...operation, ...options });
    case "delete":
      return client.delete(operation.key, { ...operation, ...options });
    case "touch":
      return client.touch(operation.key, operation.ttlMs, { ...operation, ...options });
    case "increment":
      return client.increment(operation.key, operation.delta, { ...operation, ...options });
  }
}

function toAnswer({ position, token, repeated }: WriteReceipt, results: readonly Shown[]): Answer {
  const shown = results.map((result) => plain(result) as Shown);
  return { seq: position.seq, token, repeated: repeated === true, failedCompares: undefined, results: shown };
}

function show({ kind }: WriteOperation, { existed, previous, value }: Shown): Shown {
  return kind === "increment" ? { existed, sum: value } : { existed, previous };
}

function showOfTxn({ kind }: TxnOperation, result: unknown): Shown {
  if (kind === "increment") return { sum: result };
  if (kind !== "get") {
    const { existed, previous } = result as Shown;
    return { existed, previous };
  }
  const entry = result as Entry | undefined;
  if (!entry) return { entry: undefined };
  const { value, createSeq, modSeq, ttlMs } = entry;
  return { entry: { value, createSeq, modSeq, ttlMs } };
}

// ---- by the oracle -----------------------------------------------------------------------------------------------------

/** What the request does as the record `ownSeq`, written at `nowMs` over `before`. */
export function judgeRequest(
  request: Request,
  at: {
    readonly before: OracleState;
    readonly nowMs: number;
    readonly ownSeq: number;
    readonly seqOfToken: (token: Uint8Array) => number;
  },
): Judged {
  return judge(toWish(request), at);
}

/** What a client is told of it at `nowMs`; a deadline as the time that is left. */
export function shownOf(request: Request, judged: Judged, nowMs: number): Pick<Answer, "results" | "failedCompares"> {
  const { failedCompares } = judged;
  const list =
    request.kind === "one"
      ? [request.operation]
      : request.kind === "batch"
        ? request.operations
        : request.kind === "txn"
          ? failedCompares!.length === 0
            ? request.operations
            : request.otherwise
          : [undefined];
  const results = list.map((operation, i): Shown => {
    const { existed, previous, sum, deleted, entry } = plain(judged.results![i]) as Record<string, Shown | undefined>;
    if (!operation) return { deleted };
    if (operation.kind === "get") {
      if (!entry) return { entry };
      const { value, createSeq, modSeq, expiresAtMs } = entry;
      const ttlMs = expiresAtMs === undefined ? undefined : (expiresAtMs as number) - nowMs;
      return { entry: { value, createSeq, modSeq, ttlMs } };
    }
    if (operation.kind === "increment") return request.kind === "batch" ? { existed, sum } : { sum };
    // What a set alone replaced is told on request only.
    return request.kind === "one" && operation.kind === "set" ? { previous } : { existed, previous };
  });
  return { results, failedCompares };
}

/** Of an error, as the oracle says it. */
export function refusalOf({ code, condition, counter }: CambiumError): unknown {
  return { code, ...condition, ...counter };
}

function toWish(request: Request): Wish {
  switch (request.kind) {
    case "one":
      return { commands: [toCommand(request.operation)] };
    case "batch":
      return { commands: request.operations.map(toCommand) };
    case "delete-range":
      return { commands: [{ kind: "delete-range", range: toRange(request.range) }] };
    case "txn":
      return {
        txn: {
          compares: request.compares.map(toCompare),
          // A list, which no `await` takes for a promise's.
          then: request.operations.map(toTxnCommand),
          else: request.otherwise.map(toTxnCommand),
        },
      };
  }
}

type StoreTxn = Extract<Wish, { readonly txn: unknown }>["txn"];

function toTxnCommand(operation: TxnOperation): StoreTxn["then"][number] {
  if (operation.kind === "get") return { kind: "get", key: bytes(operation.key) };
  return toCommand(operation) as Exclude<WriteCommand, { kind: "delete-range" }>;
}

function toCommand(operation: WriteOperation): WriteCommand {
  const name = bytes(operation.key);
  switch (operation.kind) {
    case "set": {
      const { value: given, ttlMs, keepTtl, wantPrevious } = operation;
      return {
        kind: "set",
        key: name,
        value: typeof given === "string" ? bytes(given) : given,
        ...(ttlMs !== undefined && { ttlMs }),
        ...(keepTtl && { keepTtl }),
        ...(wantPrevious && { wantPrevious }),
        ...toCondition(operation),
      };
    }
    case "delete":
      return {
        kind: "delete",
        key: name,
        ...(operation.wantPrevious && { wantPrevious: true }),
        ...toCondition(operation),
      };
    case "touch":
      return { kind: "touch", key: name, ttlMs: operation.ttlMs, ...toCondition(operation) };
    case "increment": {
      const { delta = 1n, initial = 0n, min = -INT64_MAX - 1n, max = INT64_MAX, ttlMs = 0 } = operation;
      const [plus, from, low, high] = [delta, initial, min, max].map(BigInt) as [bigint, bigint, bigint, bigint];
      return { kind: "increment", key: name, delta: plus, initial: from, min: low, max: high, ttlMs };
    }
  }
}

function toCondition(given: {
  readonly ifAbsent?: boolean | undefined;
  readonly ifSeq?: number | undefined;
  readonly ifToken?: Uint8Array | undefined;
}): { readonly condition?: StoreCondition } {
  const { ifAbsent, ifSeq, ifToken } = given;
  if (ifAbsent) return { condition: { ifAbsent } };
  if (ifSeq !== undefined) return { condition: { ifSeq: ifSeq as Seq } };
  return ifToken ? { condition: { ifToken } } : {};
}

function toCompare(compare: Compare): StoreTxn["compares"][number] {
  const comparison = ({ "=": "equal", "!=": "not-equal", "<": "less", ">": "greater" } as const)[compare.is];
  const base = { key: bytes(compare.key), comparison };
  switch (compare.target) {
    case "modSeq":
      return { ...base, target: { kind: "mod-seq", seq: compare.to as Seq } };
    case "createSeq":
      return { ...base, target: { kind: "create-seq", seq: compare.to as Seq } };
    case "exists":
      return { ...base, target: { kind: "exists", exists: compare.to } };
    case "value":
      return {
        ...base,
        target: { kind: "value", value: typeof compare.to === "string" ? bytes(compare.to) : compare.to },
      };
  }
}

// ---- ranges ------------------------------------------------------------------------------------------------------------

/** Keys from `start` on, and before `end`, where there is one. */
export interface TextRange {
  readonly start: string;
  readonly end?: string;
}

export function textRange(range: {
  readonly prefix?: string | undefined;
  readonly start?: string | undefined;
  readonly end?: string | undefined;
}): TextRange {
  const { prefix = "", start = "", end = "" } = range;
  if (prefix === "") return { start, ...(end !== "" && { end }) };
  const points = Array.from(prefix);
  const last = points.pop()!.codePointAt(0)!;
  return { start: prefix, end: points.join("") + String.fromCodePoint(last + 1) };
}

function toRange(range: DeletedRange): { start: Uint8Array; end?: Uint8Array } {
  const { start, end } = textRange("all" in range && range.all ? {} : range);
  return { start: bytes(start), ...(end !== undefined && { end: bytes(end) }) };
}

/** By the order of UTF-8, as the store has it. */
export const order = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

export const isWithin = (name: string, { start, end }: TextRange): boolean =>
  order(name, start) >= 0 && (end === undefined || order(name, end) < 0);
