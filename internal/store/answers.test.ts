/** Remembered answers come back as they were given, and requests are told apart. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epochMs, seq } from "../base/position.js";
import { type Answer, decodeAnswer, encodeAnswer, type Request, requestSum } from "./answers.js";
import { FormatError, NewerFormatError } from "./byte-codec.js";
import { bytes } from "./testing/stores.js";
import type { Compare, TxnOperation, WriteCommand } from "./write-command.js";

const OWN = seq(1000);
const anySeq = fc.oneof(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }).map(seq), fc.constant(OWN));
const previous = fc.record({ value: fc.uint8Array({ maxLength: 300 }), createSeq: anySeq, modSeq: anySeq });
const entry = fc.record(
  {
    value: fc.uint8Array({ maxLength: 300 }),
    createSeq: anySeq,
    modSeq: anySeq,
    expiresAtMs: fc.maxSafeNat().map(epochMs),
  },
  { requiredKeys: ["value", "createSeq", "modSeq"] },
);
const result = fc.record(
  {
    existed: fc.boolean(),
    previous,
    sum: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    deleted: fc.maxSafeNat(),
    entry,
  },
  { requiredKeys: ["existed"] },
);
const results = fc.array(result, { maxLength: 20 });
const anyAnswer: fc.Arbitrary<Answer> = fc.oneof(
  fc.record({ kind: fc.constant("write" as const), results }),
  fc.record({
    kind: fc.constant("txn" as const),
    succeeded: fc.boolean(),
    failedCompares: fc.array(fc.nat(200)),
    results,
  }),
  fc.record({ kind: fc.constant("produce" as const), firstOffset: fc.maxSafeNat() }),
);

describe("an answer", () => {
  test("comes back as it was given, with the request's sum", () => {
    fc.assert(
      fc.property(anyAnswer, fc.nat(2 ** 32 - 1), (answer, request) => {
        const decoded = decodeAnswer(encodeAnswer(answer, request, OWN), OWN);
        expect(decoded.request).toBe(request);
        // Of views a clone makes what they were made from.
        expect(structuredClone(decoded.answer)).toEqual(answer);
      }),
    );
  });

  test("of a plain write takes eight bytes", () => {
    expect(encodeAnswer({ kind: "write", results: [{ existed: true }] }, 7, OWN).length).toBe(8);
  });

  test("shows its own record's seq as that of wherever the record stands", () => {
    const own = { value: bytes("v"), createSeq: seq(3), modSeq: OWN };
    const encoded = encodeAnswer({ kind: "write", results: [{ existed: true, previous: own }] }, 7, OWN);
    const { answer } = decodeAnswer(encoded, seq(5000));
    expect(answer).toMatchObject({ results: [{ previous: { createSeq: 3, modSeq: 5000 } }] });
  });

  test("that is cut short or goes on, is of another version or has unknown flags is refused", () => {
    const whole = encodeAnswer(
      { kind: "txn", succeeded: true, failedCompares: [], results: [{ existed: true }] },
      7,
      OWN,
    );
    for (let length = 0; length < whole.length; length++) {
      expect(() => decodeAnswer(whole.subarray(0, length), OWN)).toThrow(FormatError);
    }
    expect(() => decodeAnswer(Buffer.concat([whole, Buffer.of(0)]), OWN)).toThrow("bytes follow on an answer");
    const changed = (at: number, byte: number): Uint8Array => whole.map((old, i) => (i === at ? byte : old));
    expect(() => decodeAnswer(changed(0, 2), OWN)).toThrow(NewerFormatError);
    expect(() => decodeAnswer(changed(0, 0), OWN)).toThrow("version 0 was never released");
    expect(() => decodeAnswer(changed(1, 4), OWN)).toThrow("the kind of an answer is unknown");
    expect(() => decodeAnswer(changed(6, 2), OWN)).toThrow("flags 2 are unknown");
    expect(() => decodeAnswer(changed(whole.length - 1, 64), OWN)).toThrow("flags 64 are unknown");
    expect(() => decodeAnswer(changed(whole.length - 1, 32), OWN)).toThrow("a deadline is of no entry");
  });

  test("any bytes at all are either one or refused with a FormatError", () => {
    fc.assert(
      fc.property(fc.constantFrom(1, 2, 3), fc.uint8Array({ maxLength: 64 }), (kind, rest) => {
        try {
          decodeAnswer(Uint8Array.from([1, kind, ...rest]), OWN);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });
});

describe("requests", () => {
  const key = bytes("k");
  const value = bytes("v");
  const write = (...commands: WriteCommand[]): Request => ({ kind: "write", commands });
  const txn = (
    compares: readonly Compare[],
    whenTrue: readonly TxnOperation[],
    whenNot: readonly TxnOperation[],
  ): Request => {
    return { kind: "txn", txn: { compares, then: whenTrue, else: whenNot } };
  };
  const increment = { kind: "increment", key, delta: 1n, initial: 0n, min: -10n, max: 10n, ttlMs: 0 } as const;

  test("have the same sum exactly when they ask for the same", () => {
    const requests = (): Request[] => [
      write(),
      write({ kind: "set", key, value }),
      write({ kind: "set", key: bytes("kv"), value: bytes("") }),
      write({ kind: "set", key, value: bytes("w") }),
      write({ kind: "set", key, value, ttlMs: 5 }),
      write({ kind: "set", key, value, keepTtl: true }),
      write({ kind: "set", key, value, wantPrevious: true }),
      write({ kind: "set", key, value, condition: { ifAbsent: true } }),
      write({ kind: "set", key, value, condition: { ifSeq: seq(5) } }),
      write({ kind: "set", key, value, condition: { ifToken: bytes("token") } }),
      write({ kind: "set", key, value }, { kind: "set", key, value }),
      write({ kind: "delete", key }),
      write({ kind: "delete", key, wantPrevious: true }),
      write({ kind: "delete", key, condition: { ifSeq: seq(5) } }),
      write({ kind: "touch", key, ttlMs: 5 }),
      write({ kind: "touch", key, ttlMs: 6 }),
      write(increment),
      write({ ...increment, delta: 2n }),
      write({ ...increment, initial: 2n }),
      write({ ...increment, min: -9n }),
      write({ ...increment, max: 9n }),
      write({ ...increment, ttlMs: 9 }),
      write({ kind: "delete-range", range: { start: key } }),
      write({ kind: "delete-range", range: { start: key, end: bytes("") } }),
      write({ kind: "delete-range", range: { start: key, end: bytes("z") } }),
      txn([], [{ kind: "get", key }], []),
      txn([], [], [{ kind: "get", key }]),
      ...(["equal", "less"] as const).flatMap((comparison) =>
        (
          [
            { kind: "mod-seq", seq: seq(1) },
            { kind: "create-seq", seq: seq(1) },
            { kind: "mod-seq", seq: seq(2) },
            { kind: "exists", exists: true },
            { kind: "exists", exists: false },
            { kind: "value", value },
          ] as const
        ).map((target) => txn([{ key, comparison, target }], [], [])),
      ),
      { kind: "produce", records: [value] },
      { kind: "produce", records: [value, value] },
      { kind: "produce", records: [bytes("vv")] },
    ];
    const sums = requests().map(requestSum);
    expect(new Set(sums).size).toBe(sums.length);
    expect(requests().map(requestSum)).toEqual(sums);
    // What is absent and what is given as its default are the same wish.
    expect(requestSum(write({ kind: "set", key, value, ttlMs: 0 }))).toBe(
      requestSum(write({ kind: "set", key, value })),
    );
  });
});
