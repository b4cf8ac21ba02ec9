/** Records of what is overdue: how many are under way, in which order, and what becomes of the others when one fails. */
import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { epochMs } from "../base/position.js";
import { DueRemovals } from "./due-removals.js";
import { StoreError, type StoreErrorCode } from "./store-error.js";

interface UnderWay {
  readonly removed: readonly number[];
  readonly applied: () => void;
  readonly fail: (code: StoreErrorCode) => void;
}

/** Numbers that are overdue all at once, two in a record; the test says what becomes of each record. */
class Removals {
  readonly clock = new FakeClock();
  readonly warnings: unknown[] = [];
  readonly #underWay: UnderWay[] = [];
  /** How many records were asked for, each time. */
  readonly asked: number[] = [];
  overdue: number[];
  readonly removals: DueRemovals<number>;

  constructor(count: number) {
    this.overdue = Array.from({ length: count }, (_, n) => n);
    this.removals = new DueRemovals<number>({
      recordsMax: 3,
      clock: this.clock,
      logger: { debug() {}, info() {}, error() {}, warn: (_message, fields) => this.warnings.push(fields) },
      nowMs: () => epochMs(this.clock.wallMs()),
      nextDueMs: () => (this.overdue.length > 0 ? 0 : Infinity),
      overdue: (recordsMax) => {
        this.asked.push(recordsMax);
        const starts = Array.from({ length: recordsMax }, (_, record) => 2 * record);
        return starts.map((at) => this.overdue.slice(at, at + 2)).filter(({ length }) => length > 0);
      },
      propose: (removed) => this.#propose(removed),
      complaint: "it is tried again",
    });
    this.removals.start();
    this.clock.advance(0);
  }

  /** What was proposed and is not settled. */
  get underWay(): UnderWay[] {
    return [...this.#underWay];
  }

  #propose(removed: readonly number[]): Promise<void> {
    // What is under way is proposed by nobody else.
    expect(this.underWay.flatMap((each) => each.removed).filter((each) => removed.includes(each))).toEqual([]);
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        this.#underWay.splice(this.#underWay.indexOf(record), 1);
        act();
      };
      const record: UnderWay = {
        removed,
        applied: () => {
          this.overdue = this.overdue.filter((each) => !removed.includes(each));
          settle(resolve);
        },
        fail: (code) => settle(() => reject(new StoreError(code, code))),
      };
      this.#underWay.push(record);
    });
  }

  get proposed(): (readonly number[])[] {
    return this.underWay.map(({ removed }) => removed);
  }

  /** The only record under way is applied after so long. */
  async applyAfter(ms: number): Promise<void> {
    await turns();
    expect(this.underWay.length).toBe(1);
    this.clock.advance(ms);
    this.underWay[0]!.applied();
    await turns();
  }
}

/** A few turns of the event loop: more than anything here takes that waits for nothing else. */
async function turns(): Promise<void> {
  for (let count = 0; count < 10; count++) await new Promise((resolve) => setImmediate(resolve));
}

/** The first record has taken long, so that three are under way. */
async function threeUnderWay(count = 20): Promise<Removals> {
  const removals = new Removals(count);
  await removals.applyAfter(5);
  expect(removals.proposed).toEqual([
    [2, 3],
    [4, 5],
    [6, 7],
  ]);
  return removals;
}

test("one record is under way at a time where each is applied soon", async () => {
  const removals = new Removals(10);
  const seen: unknown[] = [];
  while (removals.underWay.length > 0) {
    seen.push(...removals.proposed);
    await removals.applyAfter(1);
  }
  expect(seen).toEqual([
    [0, 1],
    [2, 3],
    [4, 5],
    [6, 7],
    [8, 9],
  ]);
  expect(removals.asked).toEqual([1, 1, 1, 1, 1]);
});

test("one is under way at a time also where the node itself takes long for it", async () => {
  const removals = new Removals(10);
  removals.clock.advance(50);
  removals.underWay[0]!.applied();
  await turns();
  expect(removals.asked).toEqual([1, 1]);
  await removals.applyAfter(1);
  expect(removals.asked).toEqual([1, 1, 1]);
});

test("where a record takes long, the next few are under way together, in their order, and none besides", async () => {
  const removals = await threeUnderWay();
  const [first, second, third] = removals.underWay;
  removals.clock.advance(5);
  first!.applied();
  await turns();
  expect(removals.proposed).toEqual([
    [4, 5],
    [6, 7],
  ]);
  second!.applied();
  third!.applied();
  await turns();
  expect(removals.proposed).toEqual([
    [8, 9],
    [10, 11],
    [12, 13],
  ]);
  expect(removals.asked).toEqual([1, 3, 3]);
});

test("they are made one a turn of the event loop", async () => {
  const removals = new Removals(20);
  await turns();
  removals.clock.advance(5);
  removals.underWay[0]!.applied();
  const counts: number[] = [];
  while (removals.underWay.length < 3) {
    await new Promise((resolve) => setImmediate(resolve));
    counts.push(removals.underWay.length);
  }
  expect(counts.every((count, turn) => count - (counts[turn - 1] ?? 0) <= 1)).toBe(true);
});

test("once records are applied soon again, there is one at a time", async () => {
  const removals = await threeUnderWay();
  for (const { applied } of removals.underWay) applied();
  await turns();
  expect(removals.proposed).toEqual([[8, 9]]);
});

test("when the first fails, what was not proposed yet is not, and all of it is told anew once none is under way", async () => {
  const removals = new Removals(20);
  await turns();
  removals.clock.advance(5);
  removals.underWay[0]!.applied();
  while (removals.underWay.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const [first, second] = removals.underWay;
  first!.fail("disk_full");
  await turns();
  expect(removals.proposed).toEqual([[4, 5]]);
  removals.clock.advance(1000);
  await turns();
  expect(removals.asked).toEqual([1, 3]);
  second!.fail("disk_full");
  await turns();
  expect(removals.warnings).toEqual([{ reason: "disk_full" }]);
  removals.clock.advance(100);
  expect([removals.proposed, removals.asked]).toEqual([[[2, 3]], [1, 3, 1]]);
});

test("when one fails that is not the first, the others are removed all the same, and it is told anew", async () => {
  const removals = await threeUnderWay();
  const [first, second, third] = removals.underWay;
  second!.fail("overloaded");
  first!.applied();
  third!.applied();
  await turns();
  expect(removals.proposed).toEqual([]);
  removals.clock.advance(100);
  expect(removals.proposed).toEqual([[4, 5]]);
});

test("when it is stopped in between, what was not proposed yet never is, and a later start asks anew", async () => {
  const removals = new Removals(20);
  await turns();
  removals.clock.advance(5);
  removals.underWay[0]!.applied();
  while (removals.underWay.length < 2) await new Promise((resolve) => setImmediate(resolve));
  removals.removals.stop();
  removals.removals.start();
  await turns();
  expect(removals.proposed).toEqual([
    [2, 3],
    [4, 5],
  ]);
  removals.overdue = [17, 18];
  for (const { fail } of removals.underWay) fail("outcome_unknown");
  await turns();
  removals.clock.advance(100);
  expect([removals.proposed, removals.warnings]).toEqual([[[17, 18]], []]);
});

test("when it is stopped for good, nothing more is asked for or said, whatever becomes of what is under way", async () => {
  const removals = await threeUnderWay();
  removals.removals.stop();
  for (const { fail } of removals.underWay) fail("closing");
  await turns();
  removals.clock.advance(100_000);
  await turns();
  expect([removals.asked, removals.warnings, removals.proposed]).toEqual([[1, 3], [], []]);
});
