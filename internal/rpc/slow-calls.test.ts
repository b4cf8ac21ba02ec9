import { describe, expect, test } from "vitest";
import { contentOf } from "./message-content.js";
import { SLOW_CALLS_MAX, type SlowCall, SlowCalls } from "./slow-calls.js";

const call = (requestId: string): SlowCall => ({
  method: "cambium.v1.KVStore/Get",
  startedMs: 0,
  durationMs: 1,
  code: "ok",
  requestId,
  callerAddress: "",
  identity: "",
  keys: 0,
  keyBytes: 0,
  valueBytes: 0,
  firstKey: "",
});

test("of the calls that were slow the newest stay, the newest first, and all are counted", () => {
  const slow = new SlowCalls(1);
  expect(slow.list()).toEqual([]);
  slow.add(call("0"));
  slow.add(call("1"));
  expect(slow.list().map(({ requestId }) => requestId)).toEqual(["1", "0"]);
  for (let n = 2; n < 300; n++) slow.add(call(String(n)));
  const ids = slow.list().map(({ requestId }) => Number(requestId));
  expect(ids).toEqual(Array.from({ length: SLOW_CALLS_MAX }, (_, place) => 299 - place));
  expect(slow.total).toBe(300);
});

test("slow is what takes longer than the threshold, and nothing when that is 0", () => {
  const slow = new SlowCalls(100);
  expect([slow.isSlow(100), slow.isSlow(100.1)]).toEqual([false, true]);
  expect(new SlowCalls(0).isSlow(1e9)).toBe(false);
});

describe("the content of a request", () => {
  test("is told by the fields of the contract, those inside of others included", () => {
    const message = {
      $typeName: "cambium.v1.TxnRequest",
      compares: [{ key: "compared", target: { case: "value", value: new Uint8Array(3) } }],
      then: [{ operation: { case: "set", value: { key: "set", value: new Uint8Array(5), ttlMs: 5n } } }],
      else: [{ operation: { case: "deleteRange", value: { range: { start: "from", end: "to" } } } }],
      clientId: "not a key",
    };
    expect(contentOf(message)).toEqual({ keys: 3, keyBytes: 15, valueBytes: 8, firstKey: "compared" });
    expect(contentOf({ keys: ["a", "ä"] })).toEqual({ keys: 2, keyBytes: 3, valueBytes: 0, firstKey: "a" });
    expect(contentOf({})).toEqual({ keys: 0, keyBytes: 0, valueBytes: 0, firstKey: "" });
  });

  test("has the beginning of a key without a character cut in two", () => {
    const { firstKey } = contentOf({ key: "😀".repeat(100) });
    expect(firstKey).toBe("😀".repeat(64));
  });
});
