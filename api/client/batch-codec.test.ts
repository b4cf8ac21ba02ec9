import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BatchRequestSchema, BatchResponseSchema, KVStore } from "../gen/cambium/v1/kvstore_pb.js";
import { type Asked, batchMethod, type Operation, readResults, writeBatch } from "./batch-codec.js";

const texts = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.constantFrom("a", "\ufeffk", "é".repeat(300), "x".repeat(200)),
);
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.constantFrom(0, 127, 128, 5000, 20_000).map((n) => new Uint8Array(n).fill(7)),
);
const seqs = fc.oneof(fc.constantFrom(0n, 1n, 127n, 128n, 2n ** 32n, 2n ** 53n - 1n), fc.bigInt(0n, 2n ** 53n - 1n));
const some = <T extends object>(record: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<Partial<T>> =>
  fc.record(record, { requiredKeys: [] }) as fc.Arbitrary<Partial<T>>;

const writes = { acknowledge: fc.nat(3), clientId: texts, clientSeq: seqs };
const conditions = { ifSeq: seqs, ifToken: bytes };
const consistency = some({ atLeast: bytes, atLeastSeq: seqs, maxStalenessMs: seqs, linearizable: fc.boolean() });
const asked = fc.oneof(
  some({ key: texts, consistency }).map((request) => ({ kind: "get", request })),
  some({ key: texts, value: bytes, ttlMs: seqs, ...writes }).map((request) => ({ kind: "set", request })),
  some({ key: texts, value: bytes, keepTtl: fc.boolean(), ifAbsent: fc.boolean(), ...conditions, ...writes }).map(
    (request) => ({ kind: "set", request }),
  ),
  some({ key: texts, ...conditions, ...writes }).map((request) => ({ kind: "delete", request })),
  some({ key: texts, ttlMs: seqs, ...conditions, ...writes }).map((request) => ({ kind: "touch", request })),
  some({ key: texts, delta: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), min: seqs, ...writes }).map((request) => ({
    kind: "increment",
    request,
  })),
) as fc.Arbitrary<Asked>;
const operation = fc.record(
  { asked, timeoutMs: fc.integer({ min: 1, max: 2 ** 31 - 1 }) },
  { requiredKeys: ["asked"] },
) as fc.Arbitrary<Operation>;

const position = some({ epoch: seqs, seq: seqs });
const previous = some({ value: bytes, createSeq: seqs, modSeq: seqs });
const receipt = { position, token: bytes, repeated: fc.boolean() };
const result = fc.oneof(
  some({
    exists: fc.boolean(),
    value: bytes,
    position,
    createSeq: fc.bigInt(0n, 2n ** 64n - 1n),
    modSeq: seqs,
    ttlMs: seqs,
    stalenessMs: seqs,
    token: bytes,
  }).map((value) => ({ case: "get", value })),
  some({ ...receipt, previous }).map((value) => ({ case: "set", value })),
  some({ ...receipt, previous, existed: fc.boolean() }).map((value) => ({ case: "delete", value })),
  some({ ...receipt, existed: fc.boolean() }).map((value) => ({ case: "touch", value })),
  some({ ...receipt, value: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n) }).map((value) => ({ case: "increment", value })),
  some({ code: texts, message: texts, details: fc.array(some({ type: texts, value: bytes }), { maxLength: 2 }) }).map(
    (value) => ({ case: "error", value }),
  ),
  fc.constant({ case: "leftOut", value: true }),
);

/** A message as the wire carries it. */
const overTheWire = (bytes: Uint8Array) => fromBinary(EmptySchema, bytes);
const strip = (message: unknown): unknown =>
  JSON.parse(
    JSON.stringify(message, (name, value: unknown) => {
      if (name === "$typeName" || name === "$unknown") return undefined;
      if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
      return typeof value === "bigint" ? `${value}n` : value;
    }),
  );

describe("a batch that is written by hand", () => {
  test("is what the library reads as the same batch", () => {
    fc.assert(
      fc.property(
        fc.array(operation, { minLength: 1, maxLength: 20 }),
        fc.nat(2 ** 31),
        fc.boolean(),
        (operations, maxBytes, noWaiting) => {
          const written = toBinary(EmptySchema, writeBatch(operations, { maxBytes, noWaiting }));
          const expected = create(BatchRequestSchema, {
            operations: operations.map(({ asked: { kind, request }, timeoutMs }) => ({
              operation: { case: kind, value: request } as never,
              ...(timeoutMs !== undefined && { timeoutMs }),
            })),
            maxBytes,
            noWaiting,
          });
          // By way of the bytes, where a field that is given empty is as one that is not.
          const known = fromBinary(BatchRequestSchema, toBinary(BatchRequestSchema, expected));
          expect(strip(fromBinary(BatchRequestSchema, written))).toEqual(strip(known));
        },
      ),
      { numRuns: 300 },
    );
  });

  test("keeps nothing of the one before", () => {
    const big = { asked: { kind: "set", request: { key: "k", value: new Uint8Array(100_000).fill(1) } } } as const;
    const small = { asked: { kind: "get", request: { key: "k" } } } as const;
    const first = toBinary(EmptySchema, writeBatch([small], { maxBytes: 9, noWaiting: true }));
    const large = writeBatch([big, small], { maxBytes: 9, noWaiting: true });
    expect(toBinary(EmptySchema, writeBatch([small], { maxBytes: 9, noWaiting: true }))).toEqual(first);
    // Not even while the one before is not sent yet.
    const read = fromBinary(BatchRequestSchema, toBinary(EmptySchema, large));
    expect(read.operations[0]?.operation.value).toMatchObject({ key: "k", value: big.asked.request.value });
  });
});

describe("results that are read by hand", () => {
  test("are what the library reads", () => {
    fc.assert(
      fc.property(fc.array(result, { maxLength: 20 }), (results) => {
        const response = create(BatchResponseSchema, { results: results.map((each) => ({ result: each as never })) });
        const written = toBinary(BatchResponseSchema, response);
        const known = fromBinary(BatchResponseSchema, written);
        const expected = known.results.map(({ result: { case: kind, value } }) => {
          if (kind === "error") return { kind, error: value };
          return kind === "leftOut" ? { kind: "left-out" } : { kind, answer: value };
        });
        expect(strip(readResults(overTheWire(written)))).toEqual(strip(expected));
      }),
      { numRuns: 300 },
    );
  });

  test("keep their own bytes, and no others", () => {
    const value = new Uint8Array(10);
    const get = { result: { case: "get" as const, value: { value, token: value } } };
    const written = toBinary(BatchResponseSchema, create(BatchResponseSchema, { results: [get, get] }));
    for (const told of readResults(overTheWire(written))) {
      if (told.kind !== "get") throw new Error("it is a get");
      expect((told.answer as { value: Uint8Array }).value.buffer.byteLength).toBe(10);
    }
  });

  test("may have fields that are new, and none of a kind that is new", () => {
    const get = [0x0a, 0x07, 0x0a, 0x05, 0x08, 0x01, 0xa0, 0x06, 0x01];
    expect(readResults(overTheWire(Uint8Array.from(get)))).toMatchObject([{ kind: "get", answer: { exists: true } }]);
    const unknown = [0x0a, 0x03, 0xa2, 0x06, 0x00];
    expect(() => readResults(overTheWire(Uint8Array.from(unknown)))).toThrow("a kind that this client does not know");
  });

  test("that are broken are refused, and never read past their end", () => {
    fc.assert(
      fc.property(fc.array(result, { minLength: 1, maxLength: 3 }), fc.nat(), fc.nat(255), (results, place, byte) => {
        const response = create(BatchResponseSchema, { results: results.map((each) => ({ result: each as never })) });
        const written = toBinary(BatchResponseSchema, response);
        if (written.length === 0) return;
        written[place % written.length] = byte;
        // What of it makes sense is the library's to say; nothing but an error may come of the rest.
        try {
          readResults(overTheWire(written));
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test("the method is Batch, but for its messages", () => {
  expect(batchMethod).toMatchObject({ name: "Batch", methodKind: "unary", input: EmptySchema, output: EmptySchema });
  expect(batchMethod.parent).toBe(KVStore);
  expect(batchMethod.idempotency).toBe(KVStore.method.batch.idempotency);
});
