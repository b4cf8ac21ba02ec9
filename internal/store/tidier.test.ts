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
  const value = new Uint8Array(7000);
  const keys = Array.from({ length: 3000 }, (_, n) => keyOf(n));
  await store.write(keys.map((key): WriteCommand => ({ kind: "set", key, value })));
  await store.write(keys.filter((_, n) => n % 8 > 0).map((key): WriteCommand => ({ kind: "delete", key })));
  const before = engine.bytesTotal;
  const tidy = vi.spyOn(engine, "tidy");
  const stepsIn = (ms: number): number => {
    tidy.mockClear();
    clock.advance(ms);
    return tidy.mock.calls.length;
  };
  expect(stepsIn(100)).toBe(16);
  expect(stepsIn(0)).toBe(0);
  expect(stepsIn(1)).toBeGreaterThan(0);
  expect(engine.bytesTotal).toBeLessThan(before * 0.75);
  expect(Buffer.compare(store.get(keyOf(8))!.value, value)).toBe(0);
  expect(stepsIn(10_000)).toBe(0);
  await store.write([{ kind: "delete", key: keyOf(8) }]);
  expect(stepsIn(99)).toBe(0);
  expect(stepsIn(1)).toBe(1);
  await store.write([{ kind: "delete", key: keyOf(16) }]);
  await store.close();
  expect(stepsIn(10_000)).toBe(0);
});
