import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epochId, nodeId } from "../base/ids.js";
import { epochMs, seq } from "../base/position.js";
import { FormatError } from "./byte-codec.js";
import { type Change, decodeChanges, encodeChanges, epochChangeOf, LonePut } from "./change.js";

const hex = (digits: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`));
const bytes = fc.uint8Array({ maxLength: 300 });

/** Of all sizes, and most of all those at which the number of bytes changes. */
const previousSeq = fc
  .oneof(
    fc.maxSafeNat(),
    fc.tuple(fc.nat(7), fc.integer({ min: -1, max: 1 })).map(([groups, off]) => Math.max(0, 2 ** (7 * groups) + off)),
    fc.constant(Number.MAX_SAFE_INTEGER),
  )
  .map(seq);

const anyChange: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant("put" as const), key: bytes, value: bytes, previousSeq }),
  fc.record({
    kind: fc.constant("put" as const),
    key: bytes,
    value: bytes,
    expiresAtMs: fc.maxSafeNat().map(epochMs),
    previousSeq,
  }),
  fc.record({ kind: fc.constant("delete" as const), key: bytes, previousSeq }),
  fc.record({ kind: fc.constant("delete-range" as const), start: bytes, end: bytes }),
  fc.record({ kind: fc.constant("delete-range" as const), start: bytes }),
  fc.record({
    kind: fc.constantFrom("expire" as const, "evict" as const),
    key: bytes,
    modSeq: fc.maxSafeNat().map(seq),
  }),
  fc.record({ kind: fc.constant("produce" as const), offset: fc.maxSafeNat(), record: bytes }),
  fc.record({
    kind: fc.constant("remember" as const),
    clientId: fc.string({ maxLength: 64 }),
    clientSeq: fc.maxSafeNat(),
    answer: bytes,
  }),
  fc.record({ kind: fc.constant("forget" as const), clientIds: fc.array(fc.string({ maxLength: 64 })) }),
  fc.record({ kind: fc.constant("truncate-records" as const), below: fc.maxSafeNat() }),
  fc.record({
    kind: fc.constant("epoch" as const),
    epochId: hex(16).map(epochId),
    forced: fc.boolean(),
    master: hex(32).map(nodeId),
  }),
  fc.record({
    kind: fc.constant("member" as const),
    member: fc.record({
      nodeId: hex(32).map(nodeId),
      address: fc.string({ maxLength: 200 }),
      voter: fc.boolean(),
      source: fc.constantFrom("founder" as const, "listed" as const, "added" as const, "registered" as const),
      removed: fc.boolean(),
    }),
  }),
  fc.record({
    kind: fc.constant("settings" as const),
    settings: fc.record({
      commit: fc.constantFrom("master" as const, "majority" as const),
      voters: fc.constantFrom("listed" as const, "master" as const),
    }),
  }),
  fc.record({
    kind: fc.constant("settings" as const),
    settings: fc.record({
      commit: fc.constant("master" as const),
      voters: fc.constant("listed" as const),
      limits: fc
        .record({
          entriesMax: fc.maxSafeNat(),
          bytesMax: fc.maxSafeNat(),
          policy: fc.constantFrom(...(["noeviction", "lru", "lfu", "random", "ttl"] as const)),
        })
        // Limits that limit nothing are none.
        .filter(({ entriesMax, bytesMax, policy }) => entriesMax + bytesMax > 0 || policy !== "noeviction"),
    }),
  }),
);

/** Views of bytes as plain arrays, whatever type they have. */
const plain = (changes: readonly Change[]): unknown =>
  changes.map((change) =>
    Object.fromEntries(
      Object.entries(change).map(([name, value]) => [name, value instanceof Uint8Array ? [...value] : value]),
    ),
  );

describe("a record's payload", () => {
  test("gives back the changes that went in", () => {
    fc.assert(
      fc.property(fc.array(anyChange, { minLength: 1, maxLength: 20 }), (changes) => {
        expect(plain(decodeChanges(encodeChanges(changes)))).toEqual(plain(changes));
      }),
    );
  });

  test("with a number beyond 2^53 is refused", () => {
    const delete2Pow53 = [4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 7];
    expect(() => decodeChanges(Uint8Array.from(delete2Pow53))).toThrow("a number is out of range");
    delete2Pow53[8] = 0x8f;
    expect(() => decodeChanges(Uint8Array.from(delete2Pow53))).toThrow("a number is out of range");
    const greatest = [4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 7];
    expect(decodeChanges(Uint8Array.from(greatest))).toMatchObject([{ previousSeq: Number.MAX_SAFE_INTEGER }]);
  });

  test.each([127, 128, 16_383, 16_384, 2_097_151, 2_097_152])("holds a value of %d bytes", (length) => {
    const value = new Uint8Array(length).fill(7);
    const [change] = decodeChanges(
      encodeChanges([{ kind: "put", key: new Uint8Array([1]), value, previousSeq: seq(0) }]),
    );
    expect(change).toMatchObject({ kind: "put" });
    expect((change as { value: Uint8Array }).value.length).toBe(length);
  });

  test("cut anywhere it is refused or ends at a whole change, never misread", () => {
    fc.assert(
      fc.property(anyChange, fc.nat(), (change, at) => {
        const payload = encodeChanges([change]);
        const cut = payload.subarray(0, at % payload.length);
        expect(() => decodeChanges(cut)).toThrow(FormatError);
      }),
    );
  });

  test("any bytes at all are either changes or refused with a FormatError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (payload) => {
        try {
          decodeChanges(payload);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });

  test("of a newer version is refused with advice", () => {
    expect(() => decodeChanges(new Uint8Array([99]))).toThrow("kind 99 is unknown to this version; use a newer one");
  });

  test("tells whether it begins an epoch", () => {
    const epoch: Change = {
      kind: "epoch",
      epochId: epochId("ab".repeat(8)),
      forced: true,
      master: nodeId("cd".repeat(16)),
    };
    expect(epochChangeOf(encodeChanges([epoch]))).toEqual(epoch);
    expect(
      epochChangeOf(encodeChanges([{ kind: "delete", key: new Uint8Array([1]), previousSeq: seq(1) }])),
    ).toBeUndefined();
  });
});

test("a put that is all of a record is read where it lies, and nothing else is", () => {
  fc.assert(
    fc.property(fc.array(anyChange, { minLength: 1, maxLength: 3 }), bytes, bytes, (changes, before, after) => {
      const payload = encodeChanges(changes);
      const put = new LonePut();
      const [first, ...others] = changes;
      const all = Buffer.concat([before, payload, after]);
      const isLone = put.read(all, before.length, before.length + payload.length);
      expect(isLone).toBe(first?.kind === "put" && others.length === 0);
      if (!isLone || first?.kind !== "put") return;
      expect(put.keyIn.subarray(put.keyStart, put.keyEnd)).toEqual(Buffer.from(first.key));
      expect(put.valueIn.subarray(put.valueStart, put.valueEnd)).toEqual(Buffer.from(first.value));
      expect(put.deadlineMs).toBe(first.expiresAtMs ?? Infinity);
    }),
  );
});

test("a put that is cut short anywhere is refused where it lies as it is by itself", () => {
  const change: Change = { kind: "put", key: Buffer.from("key"), value: Buffer.alloc(200), previousSeq: seq(300) };
  const payload = encodeChanges([{ ...change, expiresAtMs: epochMs(5) }]);
  for (let length = 1; length < payload.length; length++) {
    // What follows in the same bytes is not taken for the rest.
    expect(() => new LonePut().read(payload, 0, length), `${length} bytes`).toThrow(FormatError);
    expect(() => decodeChanges(payload.subarray(0, length)), `${length} bytes`).toThrow(FormatError);
  }
  expect(new LonePut().read(payload, 0, 0)).toBe(false);
});
