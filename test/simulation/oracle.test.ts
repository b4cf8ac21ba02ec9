import { expect, test } from "vitest";
import { seq } from "../../internal/base/position.js";
import { INT64_MAX, INT64_MIN } from "../../internal/store/counter.js";
import { StoreError, type WriteCommand } from "../../internal/store/store.js";
import type { ModelEntry } from "./ledger.js";
import { agrees, answerText, judge, refusalText, type Ruling, type Wish } from "./oracle.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const key = bytes("a");
const NOW_MS = 1000;

const state = new Map<string, ModelEntry>([
  ["a", { value: "one", createSeq: 2, modSeq: 3, expiresAtMs: undefined }],
  ["n", { value: "41", createSeq: 4, modSeq: 4, expiresAtMs: undefined }],
  ["x", { value: "gone", createSeq: 5, modSeq: 5, expiresAtMs: NOW_MS }],
]);

const ruled = (wish: Wish): Ruling => judge(wish, { state, nowMs: NOW_MS, ownSeq: 9, seqOf: () => undefined });
const written = (...commands: WriteCommand[]): Ruling => ruled({ kind: "write", commands });

test("each command is judged by what the ones before it leave", () => {
  const ruling = written(
    { kind: "set", key, value: bytes("two"), wantPrevious: true },
    { kind: "delete", key, wantPrevious: true },
    { kind: "delete", key },
  );
  expect(ruling.answer).toBe("true one @2, 3; true two @2, 9; false");
  expect(ruling.events).toEqual(["put a=two until ever", "delete a"]);
});

test("what is past its deadline is absent, to conditions and to ranges", () => {
  const x = bytes("x");
  expect(written({ kind: "set", key: x, value: key, condition: { ifAbsent: true } }).answer).toBe("false");
  expect(written({ kind: "delete-range", range: { start: bytes("b") } }).answer).toBe("true -1");
  expect(written({ kind: "delete-range", range: { start: bytes("o") } })).toEqual({ answer: "false -0", events: [] });
});

test("a counter is counted up within its bounds, and nothing else is", () => {
  const up = { kind: "increment", delta: 1n, initial: 0n, min: INT64_MIN, max: INT64_MAX, ttlMs: 500 } as const;
  expect(written({ ...up, key: bytes("n") })).toEqual({ answer: "true =42", events: ["put n=42 until ever"] });
  expect(written({ ...up, key: bytes("x") })).toEqual({ answer: "false =1", events: ["put x=1 until 1500"] });
  expect(written({ ...up, key: bytes("n"), max: 41n })).toEqual({
    answer: "refused: out_of_bounds at 0 from 41",
    events: [],
  });
  expect(written({ ...up, key })).toEqual({ answer: "refused: not_an_integer at 0", events: [] });
});

test("a transaction names the comparisons that fail, and reads in the order of its operations", () => {
  const get = { kind: "get", key } as const;
  const set = { kind: "set", key, value: bytes("two") } as const;
  const compare = { key, comparison: "equal", target: { kind: "mod-seq", seq: seq(3) } } as const;
  const failing = { ...compare, comparison: "less" } as const;
  const txn = { compares: [compare], then: [get, set, get], else: [get] };
  expect(ruled({ kind: "txn", txn }).answer).toBe(
    "true but for : true one @2, 3 until ever; true; true two @2, 9 until ever",
  );
  expect(ruled({ kind: "txn", txn: { ...txn, compares: [compare, failing] } })).toEqual({
    answer: "false but for 1: true one @2, 3 until ever",
    events: [],
  });
});

test("an answer agrees with what is ruled, and another one does not", () => {
  const ruling = written({ kind: "set", key, value: bytes("two"), condition: { ifSeq: seq(8) } });
  const refusal = (modSeq: number): string | undefined =>
    refusalText(
      new StoreError("condition_failed", "no", {
        failedCondition: { key, exists: true, modSeq: seq(modSeq), operation: 0 },
      }),
    );
  expect(agrees(ruling, refusal(3)!)).toBe(true);
  expect(agrees(ruling, refusal(2)!)).toBe(false);
  const receipt = { position: { epoch: 1, seq: 9 }, token: key, results: [{ existed: true }] } as unknown;
  expect(agrees(ruling, answerText(receipt as Parameters<typeof answerText>[0]))).toBe(false);
});
