/** Memory is given back also when no operation comes that would do so. */
import { expect, test, vi } from "vitest";
import { FakeClock } from "../base/clock.js";
import { SlabEngine } from "../engine/slab-engine.js";
import type { WriteCommand } from "./store.js";
import { beginMastership, bytes, openStore } from "./testing/stores.js";

const keyOf = (n: number): Uint8Array => bytes(`key-${n}`);

test("after many deletions a store gives back what they have left, a little at a time, and then rests", async () => {
  const clock = new FakeClock();
  const engine = new SlabEngine();
  const store = await openStore({ clock, engine, pendingBytesMax: 1 << 26 });
  await beginMastership(store);
  // Small entries lie in the midst of what a few large ones leave.
  const keys = Array.from({ length: 60_000 }, (_, n) => keyOf(n));
  const [small, large] = [new Uint8Array(100), new Uint8Array(7000)];
  await store.write(keys.map((key, n): WriteCommand => ({ kind: "set", key, value: n % 16 === 0 ? large : small })));
  await store.write(keys.filter((_, n) => n % 16 === 0).map((key): WriteCommand => ({ kind: "delete", key })));
  const before = engine.bytesTotal;
  const tidy = vi.spyOn(engine, "tidy");
  const stepsIn = (ms: number): number => {
    tidy.mockClear();
    clock.advance(ms);
    return tidy.mock.calls.length;
  };
  expect(stepsIn(100)).toBe(16);
  expect(stepsIn(0)).toBe(0);
  expect(stepsIn(1)).toBe(16);
  expect(stepsIn(10_000)).toBeGreaterThan(16);
  expect(engine.bytesTotal).toBeLessThan(before * 0.75);
  expect(keys.filter((key) => store.get(key)?.value.length === small.length)).toHaveLength((keys.length * 15) / 16);
  expect(stepsIn(10_000)).toBe(0);
  await store.write([{ kind: "delete", key: keyOf(8) }]);
  expect(stepsIn(99)).toBe(0);
  expect(stepsIn(1)).toBe(1);
  await store.write([{ kind: "delete", key: keyOf(9) }]);
  await store.close();
  expect(stepsIn(10_000)).toBe(0);
});
