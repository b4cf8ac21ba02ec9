import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { silentLogger } from "../base/logger.js";
import { epochMs } from "../base/position.js";
import { type Extent, Extents } from "./extents.js";
import { RetentionLoop, type RetentionLoopOptions } from "./retention-loop.js";
import { retentionCut } from "./retention.js";

/** Three extents of ten records and 100 bytes each, a second of records each. */
const three: readonly Extent[] = [0, 1, 2].map((index) => ({
  start: index * 10,
  end: index * 10 + 10,
  bytes: 100,
  oldestMs: epochMs(index * 1000),
  newestMs: epochMs(index * 1000 + 900),
}));
const cut = (limits: { ageMs?: number; bytesMax?: number }, nowMs = 3000): number | undefined =>
  retentionCut(three, { ageMs: 0, bytesMax: 0, ...limits }, epochMs(nowMs));

describe("what goes", () => {
  test("nothing without limits, and nothing of nothing", () => {
    expect(cut({})).toBeUndefined();
    expect(retentionCut([], { ageMs: 1, bytesMax: 1 }, epochMs(5000))).toBeUndefined();
  });

  test.each([
    [5000, undefined],
    [2100, undefined],
    [2099, 10],
    [1099, 20],
    [100, 20],
    [99, 30],
  ])("with an age of %i ms the extents whose newest record is older: below %s", (ageMs, below) => {
    expect(cut({ ageMs })).toBe(below);
  });

  test.each([
    [300, undefined],
    [299, 10],
    [200, 10],
    [199, 20],
    [1, 20],
  ])("with %i bytes the oldest, never the newest: below %s", (bytesMax, below) => {
    expect(cut({ bytesMax })).toBe(below);
  });

  test("what either limit demands", () => {
    expect(cut({ ageMs: 2099, bytesMax: 150 })).toBe(20);
    expect(cut({ ageMs: 99, bytesMax: 250 })).toBe(30);
  });

  test("nothing for its age while the clock stands before the records", () => {
    expect(cut({ ageMs: 5000 }, 10)).toBeUndefined();
  });
});

describe("extents", () => {
  const filled = (count: number): Extents => {
    const extents = new Extents(100);
    for (let offset = 0; offset < count; offset++) extents.add(offset, 30, epochMs(offset));
    return extents;
  };

  test("end with the record that fills them, and the last one grows", () => {
    expect(filled(6).all).toEqual([
      { start: 0, end: 4, bytes: 120, oldestMs: 0, newestMs: 3 },
      { start: 4, end: 6, bytes: 60, oldestMs: 4, newestMs: 5 },
    ]);
    expect(filled(4).all).toHaveLength(1);
    expect(filled(0).oldestMs).toBeUndefined();
  });

  test("are forgotten whole from below, and cut inside from above", () => {
    const extents = filled(12);
    extents.truncateBelow(5);
    expect(extents.all.map(({ start, end }) => [start, end])).toEqual([
      [4, 8],
      [8, 12],
    ]);
    expect(extents.oldestMs).toBe(4);
    extents.cutFrom(7);
    expect(extents.all).toEqual([{ start: 4, end: 7, bytes: 90, oldestMs: 4, newestMs: 7 }]);
    extents.add(7, 30, epochMs(20));
    expect(extents.all).toEqual([{ start: 4, end: 8, bytes: 120, oldestMs: 4, newestMs: 20 }]);
    extents.truncateBelow(8);
    expect(extents.all).toEqual([]);
    extents.cutFrom(0);
    expect(extents.all).toEqual([]);
  });

  test("that were handed out stay as they are", () => {
    const extents = filled(2);
    const before = extents.all;
    extents.add(2, 30, epochMs(2));
    expect(before).toMatchObject([{ end: 2 }]);
  });
});

describe("the loop", () => {
  const begin = (
    options: Partial<RetentionLoopOptions> = {},
  ): { clock: FakeClock; cuts: number[]; loop: RetentionLoop } => {
    const clock = new FakeClock();
    const cuts: number[] = [];
    const loop = new RetentionLoop({
      clock,
      logger: silentLogger,
      limits: { ageMs: 1099, bytesMax: 0 },
      isMaster: () => true,
      extents: () => three,
      nowMs: () => epochMs(3000),
      truncateBelow: async (offset) => cuts.push(offset),
      ...options,
    });
    loop.start();
    return { clock, cuts, loop };
  };

  test("has the master truncate what is too old, time and again", async () => {
    const { clock, cuts, loop } = begin();
    expect(cuts).toEqual([]);
    clock.advance(1000);
    expect(cuts).toEqual([20]);
    await expect.poll(() => clock.pendingTimers).toBe(1);
    clock.advance(1000);
    expect(cuts).toEqual([20, 20]);
    await loop.close();
    expect(clock.pendingTimers).toBe(0);
  });

  test("does nothing on a replica, nor without limits", async () => {
    const replica = begin({ isMaster: () => false });
    replica.clock.advance(1000);
    expect(replica.cuts).toEqual([]);
    await replica.loop.close();
    const unlimited = begin({ limits: { ageMs: 0, bytesMax: 0 } });
    expect(unlimited.clock.pendingTimers).toBe(0);
    await unlimited.loop.close();
  });

  test("goes on after a truncation that failed, and says so", async () => {
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
    const { clock, loop } = begin({ logger, truncateBelow: () => Promise.reject(new Error("no longer master")) });
    clock.advance(1000);
    await expect.poll(() => clock.pendingTimers).toBe(1);
    expect(warnings).toHaveLength(1);
    await loop.close();
  });

  test("closes once the truncation under way has ended", async () => {
    let finish: (() => void) | undefined;
    const { clock, loop } = begin({ truncateBelow: () => new Promise<void>((resolve) => (finish = resolve)) });
    clock.advance(1000);
    let closed = false;
    const closing = loop.close().then(() => (closed = true));
    await Promise.resolve();
    expect(closed).toBe(false);
    finish?.();
    await closing;
    expect(clock.pendingTimers).toBe(0);
  });
});
