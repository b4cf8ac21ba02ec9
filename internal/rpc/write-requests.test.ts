/** Every field of the requests that write: what it becomes, and what is said where it cannot be. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  Comparison,
  DeleteRangeRequestSchema,
  DeleteRequestSchema,
  IncrementRequestSchema,
  SetRequestSchema,
  TouchRequestSchema,
  TxnRequestSchema,
  WriteRequestSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Acknowledge } from "../../api/gen/cambium/v1/types_pb.js";
import { CLIENT_ID_BYTES_MAX, type Limits, TTL_MS_MAX, TXN_MAX } from "./limits.js";
import {
  checkedDelete,
  checkedDeleteRange,
  checkedIncrement,
  checkedOperations,
  checkedRetry,
  checkedSet,
  checkedTouch,
  checkedTxn,
} from "./write-requests.js";

const limits: Limits = { keyBytesMax: 8, valueBytesMax: 16, messageBytesMax: 1024 };
const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const token = bytes("a token");
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

const set = (init: MessageInitShape<typeof SetRequestSchema>) => checkedSet(create(SetRequestSchema, init), "", limits);
const remove = (init: MessageInitShape<typeof DeleteRequestSchema>) =>
  checkedDelete(create(DeleteRequestSchema, init), "", limits);
const touch = (init: MessageInitShape<typeof TouchRequestSchema>) =>
  checkedTouch(create(TouchRequestSchema, init), "", limits);
const increment = (init: MessageInitShape<typeof IncrementRequestSchema>) =>
  checkedIncrement(create(IncrementRequestSchema, init), "", limits);
const deleteRange = (init: MessageInitShape<typeof DeleteRangeRequestSchema>) =>
  checkedDeleteRange(create(DeleteRangeRequestSchema, init), limits);
const txn = (init: MessageInitShape<typeof TxnRequestSchema>) => checkedTxn(create(TxnRequestSchema, init), limits);
const write = (init: MessageInitShape<typeof WriteRequestSchema>) =>
  checkedOperations(create(WriteRequestSchema, init), limits);
const compare = (init: NonNullable<MessageInitShape<typeof TxnRequestSchema>["compares"]>[number]) =>
  txn({ compares: [init] }).compares[0];

describe("a request becomes", () => {
  test("a set with what it has, and without what it has not", () => {
    expect(set({ key: "k" })).toEqual({ kind: "set", key: bytes("k"), value: bytes("") });
    expect(set({ key: "k", value: bytes("v".repeat(16)), ttlMs: BigInt(TTL_MS_MAX), wantPrevious: true })).toEqual({
      kind: "set",
      key: bytes("k"),
      value: bytes("v".repeat(16)),
      ttlMs: TTL_MS_MAX,
      wantPrevious: true,
    });
    expect(set({ key: "k", keepTtl: true })).toMatchObject({ keepTtl: true });
  });

  test("a set with its condition, of which 0 means that the key is absent", () => {
    expect(set({ key: "k", ifAbsent: true })).toMatchObject({ condition: { ifAbsent: true } });
    expect(set({ key: "k", ifSeq: 0n })).toMatchObject({ condition: { ifSeq: 0 } });
    expect(set({ key: "k", ifSeq: 2n ** 53n - 1n })).toMatchObject({ condition: { ifSeq: Number.MAX_SAFE_INTEGER } });
    expect(set({ key: "k", ifToken: token })).toMatchObject({ condition: { ifToken: token } });
  });

  test("a delete or a touch with its condition", () => {
    expect(remove({ key: "k" })).toEqual({ kind: "delete", key: bytes("k") });
    expect(remove({ key: "k", ifSeq: 1n, wantPrevious: true })).toEqual({
      kind: "delete",
      key: bytes("k"),
      condition: { ifSeq: 1 },
      wantPrevious: true,
    });
    expect(remove({ key: "k", ifToken: token })).toMatchObject({ condition: { ifToken: token } });
    expect(touch({ key: "k" })).toEqual({ kind: "touch", key: bytes("k"), ttlMs: 0 });
    expect(touch({ key: "k", ttlMs: 1n, ifSeq: 7n })).toMatchObject({ ttlMs: 1, condition: { ifSeq: 7 } });
  });

  test("an increment, by 1 and within 64 bits unless it says otherwise", () => {
    expect(increment({ key: "k" })).toEqual({
      kind: "increment",
      key: bytes("k"),
      delta: 1n,
      initial: 0n,
      min: INT64_MIN,
      max: INT64_MAX,
      ttlMs: 0,
    });
    expect(increment({ key: "k", delta: INT64_MIN, initial: INT64_MAX, min: -1n, max: -1n, ttlMs: 9n })).toMatchObject({
      delta: INT64_MIN,
      initial: INT64_MAX,
      min: -1n,
      max: -1n,
      ttlMs: 9,
    });
    expect(increment({ key: "k", delta: 0n }).delta).toBe(0n);
  });

  test("the deletion of a prefix, a range, or of everything by that word only", () => {
    expect(deleteRange({ prefix: "a" }).range).toEqual({ start: bytes("a"), end: Buffer.from("b") });
    expect(deleteRange({ start: "a" }).range).toEqual({ start: bytes("a") });
    expect(deleteRange({ end: "b" }).range).toEqual({ start: bytes(""), end: bytes("b") });
    expect(deleteRange({ start: "a", end: "a" }).range).toEqual({ start: bytes("a"), end: bytes("a") });
    expect(deleteRange({ all: true }).range).toEqual({ start: bytes("") });
  });

  test("a transaction with all that it compares and does", () => {
    const get = { operation: { case: "get" as const, value: { key: "g" } } };
    const sets = { operation: { case: "set" as const, value: { key: "s", ifAbsent: true } } };
    expect(
      txn({ compares: [{ key: "c", target: { case: "exists", value: true } }], then: [get], else: [sets] }),
    ).toEqual({
      compares: [{ key: bytes("c"), comparison: "equal", target: { kind: "exists", exists: true } }],
      then: [{ kind: "get", key: bytes("g") }],
      else: [{ kind: "set", key: bytes("s"), value: bytes(""), condition: { ifAbsent: true } }],
    });
    expect(txn({ then: Array.from({ length: TXN_MAX }, () => get) }).then).toHaveLength(TXN_MAX);
  });

  test("a comparison of each kind with each target that it goes with", () => {
    const kinds = [
      [Comparison.UNSPECIFIED, "equal"],
      [Comparison.EQUAL, "equal"],
      [Comparison.NOT_EQUAL, "not-equal"],
      [Comparison.LESS, "less"],
      [Comparison.GREATER, "greater"],
    ] as const;
    for (const [comparison, name] of kinds) {
      expect(compare({ key: "k", comparison, target: { case: "modSeq", value: 3n } })).toEqual({
        key: bytes("k"),
        comparison: name,
        target: { kind: "mod-seq", seq: 3 },
      });
      expect(compare({ key: "k", comparison, target: { case: "createSeq", value: 0n } })?.target).toEqual({
        kind: "create-seq",
        seq: 0,
      });
      expect(compare({ key: "k", comparison, target: { case: "value", value: bytes("v") } })?.target).toEqual({
        kind: "value",
        value: bytes("v"),
      });
    }
    expect(
      compare({ key: "k", comparison: Comparison.NOT_EQUAL, target: { case: "exists", value: false } }),
    ).toMatchObject({ comparison: "not-equal", target: { kind: "exists", exists: false } });
  });

  test("a batch of operations of every kind", () => {
    const kinds = ["set", "delete", "touch", "increment"] as const;
    const operations = kinds.map((kind) => ({ operation: { case: kind, value: { key: "k" } } }));
    expect(write({ operations }).map(({ kind }) => kind)).toEqual(kinds);
  });

  test("a write to be remembered under its client's id and number", () => {
    const clientId = "x".repeat(CLIENT_ID_BYTES_MAX);
    expect(checkedRetry({ clientId: "", clientSeq: 0n })).toBeUndefined();
    expect(checkedRetry({ clientId, clientSeq: 1n })).toEqual({ clientId, clientSeq: 1 });
    expect(checkedRetry({ clientId: "c", clientSeq: 2n ** 53n - 1n })?.clientSeq).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe("refused, with its field and what to do, is", () => {
  const get = (value: { key: string; consistency?: { linearizable: boolean } }) => ({
    operation: { case: "get" as const, value },
  });
  const inside = (value: object) => ({ operation: { case: "set" as const, value: { key: "k", ...value } } });

  test.each<[string, () => unknown, string]>([
    ["a key that is empty", () => set({}), "key is empty"],
    ["a key that is too long", () => touch({ key: "k".repeat(9) }), "key has at least 9 bytes, a key may have 8"],
    ["a value that is too long", () => set({ key: "k", value: bytes("v".repeat(17)) }), "value has 17 bytes"],
    [
      "a TTL of more than 100 years",
      () => set({ key: "k", ttlMs: BigInt(TTL_MS_MAX) + 1n }),
      "ttl_ms is 3155760000001",
    ],
    ["a TTL of a touch", () => touch({ key: "k", ttlMs: 2n ** 64n - 1n }), "ttl_ms must be from 0"],
    ["a TTL of an increment", () => increment({ key: "k", ttlMs: BigInt(TTL_MS_MAX) + 1n }), "ttl_ms is 3155760000001"],
    [
      "a TTL that is kept and given",
      () => set({ key: "k", ttlMs: 1n, keepTtl: true }),
      "ttl_ms and keep_ttl are both given",
    ],
    [
      "if_absent with if_seq",
      () => set({ key: "k", ifAbsent: true, ifSeq: 0n }),
      "if_absent is given together with if_seq",
    ],
    ["if_absent with if_token", () => set({ key: "k", ifAbsent: true, ifToken: token }), "if_absent is given together"],
    ["if_seq with if_token", () => set({ key: "k", ifSeq: 1n, ifToken: token }), "if_seq and if_token are both given"],
    ["if_seq beyond all seqs", () => set({ key: "k", ifSeq: 2n ** 53n }), "if_seq must be from 0 to 9007199254740991"],
    [
      "the deletion of an absent key",
      () => remove({ key: "k", ifSeq: 0n }),
      "if_seq is 0, which stands for an absent key",
    ],
    ["the touch of an absent key", () => touch({ key: "k", ifSeq: 0n }), "if_seq is 0, which stands for an absent key"],
    ["a delete with if_seq and if_token", () => remove({ key: "k", ifSeq: 1n, ifToken: token }), "are both given"],
    [
      "min above max",
      () => increment({ key: "k", min: 2n, max: 1n }),
      "min is 2, above max, which is 1; exchange them",
    ],
    ["a deletion of nobody knows what", () => deleteRange({}), "prefix, start and end are all empty"],
    ["everything and a prefix", () => deleteRange({ all: true, prefix: "p" }), "all is given together with prefix"],
    ["a prefix and a start", () => deleteRange({ prefix: "p", start: "s" }), "prefix is given together with start"],
    ["an end before its start", () => deleteRange({ start: "b", end: "a" }), "end lies before start"],
    ["a prefix that is too long", () => deleteRange({ prefix: "p".repeat(9) }), "prefix has at least 9 bytes"],
    ["a transaction of nothing", () => txn({}), "compares, then and else are all empty"],
    [
      "a transaction of too much",
      () => txn({ then: Array(TXN_MAX).fill(get({ key: "k" })), else: [get({ key: "k" })] }),
      "compares, then and else have 129 entries together; at most 128",
    ],
    ["a comparison with nothing", () => compare({ key: "k" }), "compares[0] has nothing to compare with"],
    ["a comparison of no key", () => compare({ target: { case: "exists", value: true } }), "compares[0].key is empty"],
    [
      "a comparison that there is not",
      () => compare({ key: "k", comparison: 9 as Comparison, target: { case: "modSeq", value: 1n } }),
      "compares[0].comparison is 9",
    ],
    [
      "less existence",
      () => compare({ key: "k", comparison: Comparison.LESS, target: { case: "exists", value: true } }),
      "compares[0].comparison is of more or less",
    ],
    [
      "a seq beyond all seqs",
      () => compare({ key: "k", target: { case: "createSeq", value: 2n ** 60n } }),
      "compares[0].create_seq must be from 0",
    ],
    [
      "a value that no key can have",
      () => compare({ key: "k", target: { case: "value", value: bytes("v".repeat(17)) } }),
      "compares[0].value has 17 bytes",
    ],
    ["an operation without content", () => txn({ then: [{}] }), "then[0] is empty; give it a get, a set"],
    ["a get without a key", () => txn({ else: [get({ key: "" })] }), "else[0].get.key is empty"],
    [
      "a get with a consistency",
      () => txn({ then: [get({ key: "k", consistency: { linearizable: true } })] }),
      "then[0].get.consistency is given",
    ],
    [
      "an acknowledge of a part",
      () => txn({ then: [inside({ acknowledge: Acknowledge.ALL })] }),
      "then[0].set.acknowledge is given; give acknowledge beside the operations",
    ],
    ["a client_id of a part", () => txn({ else: [inside({ clientId: "c" })] }), "else[0].set.client_id is given"],
    [
      "a client_seq of a part",
      () => write({ operations: [inside({ clientSeq: 1n })] }),
      "operations[0].set.client_seq is",
    ],
    ["a batch of nothing", () => write({}), "operations has 0 entries; 1 to 1024 are possible"],
    ["an empty operation", () => write({ operations: [{}] }), "operations[0] is empty; give it a set"],
    [
      "a condition of a part",
      () => write({ operations: [inside({ ifAbsent: true, ifSeq: 1n })] }),
      "operations[0].set.if_absent",
    ],
    [
      "a client_id without a number",
      () => checkedRetry({ clientId: "c", clientSeq: 0n }),
      "client_id is given without",
    ],
    ["a client_seq without an id", () => checkedRetry({ clientId: "", clientSeq: 1n }), "client_seq is given without"],
    [
      "a client_id that is too long as UTF-8",
      () => checkedRetry({ clientId: "ä".repeat(33), clientSeq: 1n }),
      "client_id has at least 66 bytes, 64 are possible",
    ],
    [
      "a client_id that is no Unicode",
      () => checkedRetry({ clientId: "\ud83c", clientSeq: 1n }),
      "half a surrogate pair",
    ],
    [
      "a client_seq beyond numbers",
      () => checkedRetry({ clientId: "c", clientSeq: 2n ** 53n }),
      "client_seq must be from 0",
    ],
  ])("%s", (_what, check, message) => {
    expect(check).toThrow(message);
  });
});
