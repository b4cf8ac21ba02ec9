import fc from "fast-check";
import { expect, test } from "vitest";
import { CHUNK_IDS } from "./entry-ids.js";
import { KeyWindows } from "./key-windows.js";
import { commonBytes, windowOf } from "./slab-bytes.js";
import { keyName, numbered, shapes } from "./testing/key-names.js";

/** The first four bytes, and the last. */
function copyOf(windows: KeyWindows, id: number): [number, number] {
  const [highs, lows] = [new Uint32Array(2), new Uint32Array(2)];
  windows.copy(Int32Array.of(0, id), 1, 2, highs, lows);
  return [highs[1]!, lows[1]!];
}

/** Ids are spread over chunks, as they are where many entries have gone and come. */
function expectNoted(names: readonly string[]): void {
  const windows = new KeyWindows();
  const keys = names.map((name) => Buffer.from(`<${name}>`, "latin1"));
  // What is noted is read at once, whatever becomes of the bytes.
  const reused = Buffer.alloc(512);
  const idOf = (n: number): number => CHUNK_IDS + (n % 3) * CHUNK_IDS + ((n * 7) % names.length);
  const noted = new Map<number, Buffer>();
  for (const [n, key] of keys.entries()) {
    reused.set(key, n % 9);
    windows.note(idOf(n), reused, (n % 9) + 1, (n % 9) + key.length - 1);
    noted.set(idOf(n), key.subarray(1, -1));
  }
  const steps = windows.settle();
  while (!steps.next().done);
  const [first, ...others] = keys.map((key) => key.subarray(1, -1));
  for (const key of others) expect(commonBytes(first!, 0, windows.skip, key, 0, key.length)).toBe(windows.skip);
  for (const [id, key] of noted) {
    for (const n of [0, 1]) {
      const start = Math.min(windows.skip + n * 4, key.length);
      expect(copyOf(windows, id)[n]).toBe((windowOf(key, start, key.length) ^ 0x80000000) >>> 0);
    }
  }
}

test("what is noted of keys is as if all had been read when the last had come", () => {
  fc.assert(fc.property(fc.array(keyName, { minLength: 1, maxLength: 60 }), expectNoted), { numRuns: 300 });
});

test.each(shapes.map((shape, n) => [n, shape] as const))(
  "what is noted of many keys is so too: shape %i",
  (_, shape) => {
    const names = Array.from({ length: 2500 }, (_, n) => shape((n * 7919) % 2500));
    expectNoted(names);
    expectNoted(names.toReversed());
  },
);

test("what all keys share is left out, also where it is short only in the end", () => {
  const windows = new KeyWindows();
  for (let n = 0; n < 1000; n++) windows.note(CHUNK_IDS + n, Buffer.from(numbered(n)), 0, 9);
  windows.note(CHUNK_IDS * 5, Buffer.from("kex"), 0, 3);
  const steps = windows.settle();
  while (!steps.next().done);
  expect(windows.skip).toBe(2);
  expect(copyOf(windows, CHUNK_IDS + 789)).toEqual([0x792d3030, 0x37383900]);
});
