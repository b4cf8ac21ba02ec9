import fc from "fast-check";
import { expect, test } from "vitest";
import { DeadlineWheel } from "./deadline-wheel.js";

class Checked {
  readonly deadlines = new Map<number, number>();
  readonly wheel = new DeadlineWheel((id) => {
    const deadlineMs = this.deadlines.get(id);
    if (deadlineMs === undefined) throw new Error(`${id}, which was removed, was looked at`);
    return deadlineMs;
  });

  set(id: number, deadlineMs: number): void {
    this.remove(id);
    this.deadlines.set(id, deadlineMs);
    this.wheel.add(id, deadlineMs);
  }

  remove(id: number): void {
    if (!this.deadlines.has(id)) return;
    this.wheel.remove(id);
    this.deadlines.delete(id);
  }

  /** All that is due, taken in portions; every portion must be due, and the end must be told. */
  take(nowMs: number, portion: number): number[] {
    const taken: number[] = [];
    for (let rounds = 0; ; rounds++) {
      const ids = this.wheel.due(nowMs, portion);
      if (ids.length > portion || ids.some((id) => this.deadlines.get(id)! > nowMs)) expect(ids).toBe("due, and few");
      for (const id of ids) {
        taken.push(id);
        this.remove(id);
      }
      if (ids.length === 0 && this.wheel.nextDueMs > nowMs) return taken;
      if (rounds > 10_000) throw new Error("taking has no end");
    }
  }

  expectBound(): void {
    const soonestMs = Math.min(...this.deadlines.values());
    expect(this.wheel.nextDueMs).toBeLessThanOrEqual(soonestMs);
    expect(this.wheel.count).toBe(this.deadlines.size);
    if (this.deadlines.size === 0) expect(this.wheel.nextDueMs).toBe(Infinity);
  }
}

const FIRST_ID = 65_536;
const distance = fc.oneof(
  fc.integer({ min: -5, max: 20 }),
  fc.integer({ min: 0, max: 10_000 }),
  fc.integer({ min: 0, max: 2 ** 30 }),
  fc.integer({ min: 0, max: 2 ** 45 }),
);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("set" as const), id: fc.nat(200), distance }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remove" as const), id: fc.nat(200), distance }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("pass" as const), id: fc.integer({ min: 1, max: 30 }), distance }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("turn back" as const), id: fc.nat(30), distance }) },
);

test("just what is due is told at every time, however time goes on, or back", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const checked = new Checked();
      let nowMs = 1_700_000_000_000;
      for (const { kind, id, distance } of steps) {
        if (kind === "set") checked.set(FIRST_ID + id, nowMs + distance);
        else if (kind === "remove") checked.remove(FIRST_ID + id);
        else {
          nowMs = kind === "pass" ? nowMs + Math.max(0, distance) : Math.max(0, nowMs - Math.abs(distance));
          const expected = [...checked.deadlines].filter(([, deadlineMs]) => deadlineMs <= nowMs).map(([id]) => id);
          expect(checked.take(nowMs, 1 + (id % 7)).sort()).toEqual(expected.sort());
        }
        checked.expectBound();
      }
    }),
    { numRuns: Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 300) },
  );
});

test("the largest deadline that there is has its place", () => {
  const checked = new Checked();
  checked.set(FIRST_ID, Number.MAX_SAFE_INTEGER);
  expect(checked.take(1_700_000_000_000, 5)).toEqual([]);
  expect(checked.take(Number.MAX_SAFE_INTEGER, 5)).toEqual([FIRST_ID]);
});

test("ids that were not removed are told again, the soonest first", () => {
  const checked = new Checked();
  for (const [n, deadlineMs] of [9000, 3000, 5000, 100_000].entries()) checked.set(FIRST_ID + n, deadlineMs);
  checked.wheel.due(2000, 10);
  checked.wheel.due(4500, 10);
  expect(checked.wheel.due(9000, 10)).toEqual([FIRST_ID + 1, FIRST_ID + 2, FIRST_ID]);
  expect(checked.wheel.due(9000, 2)).toEqual([FIRST_ID + 1, FIRST_ID + 2]);
});

test("a portion looks at few ids, though a million fall due in one second", () => {
  let looks = 0;
  const wheel = new DeadlineWheel((id) => {
    looks++;
    return 60_000 + (id % 1000);
  });
  const ids = 1_000_000;
  for (let id = FIRST_ID; id < FIRST_ID + ids; id++) wheel.add(id, 60_000 + (id % 1000));
  wheel.due(59_999, 10);
  let taken = 0;
  while (wheel.count > 0) {
    looks = 0;
    const due = wheel.due(61_000, 1000);
    if (looks > 2000) expect(looks).toBe("few");
    for (const id of due) wheel.remove(id);
    taken += due.length;
  }
  expect(taken).toBe(ids);
  expect(wheel.bytesTotal).toBeLessThan(200_000);
});

test("the soonest are named one after another, as far as they are wanted", () => {
  const checked = new Checked();
  expect(checked.wheel.soonest(0, () => true)).toBe(0);
  for (let n = 0; n < 300; n++) checked.set(FIRST_ID + n, 1000 + ((n * 7919) % 300) * 5000);
  const named = new Set<number>();
  const isWanted = (id: number): boolean => !named.has(id);
  const order: number[] = [];
  for (let id = checked.wheel.soonest(0, isWanted); id !== 0; id = checked.wheel.soonest(0, isWanted)) {
    named.add(id);
    order.push(checked.deadlines.get(id)!);
  }
  expect(named.size).toBe(300);
  // Buckets of this distance are four seconds wide, so that each has one or two.
  expect(order.slice(0, 5).every((deadlineMs) => deadlineMs <= 30_000)).toBe(true);
});

test("what is due soonest at a time is named first, though nothing was ever due, and few ids are looked at for it", () => {
  const startMs = 1_700_000_000_000;
  const deadlineOf = (id: number): number => startMs + 1000 + ((id * 7919) % 100_000) * 40;
  let looks = 0;
  const wheel = new DeadlineWheel((id) => {
    looks++;
    return deadlineOf(id);
  });
  const ids = 100_000;
  for (let id = FIRST_ID; id < FIRST_ID + ids; id++) wheel.add(id, deadlineOf(id));
  const name = (): number => {
    const id = wheel.soonest(startMs, () => true);
    wheel.remove(id);
    return deadlineOf(id);
  };
  // A few are sorted each time.
  for (let n = 0; n < 2000; n++) name();
  looks = 0;
  const named = Array.from({ length: 1000 }, name);
  expect(looks).toBeLessThan(20_000);
  // Two thousand of these went before, as any came.
  expect(Math.max(...named)).toBeLessThan(startMs + 1000 + 3000 * 40 + 4096);
});
