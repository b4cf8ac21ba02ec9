import { expect, test } from "vitest";
import { checkRegister, outcome, type RegisterOperation } from "./linearizability.js";
import { Random } from "./random.js";

const write = (invokedMs: number, returnedMs: number, leaves: string | null): RegisterOperation => ({
  invokedMs,
  returnedMs,
  leaves,
});
const read = (invokedMs: number, returnedMs: number, found: string | null): RegisterOperation => ({
  invokedMs,
  returnedMs,
  found,
});
const isLinearizable = (...history: RegisterOperation[]): boolean => checkRegister(history).linearizable;

test("a history without overlaps is linearizable exactly when every read finds the last write", () => {
  expect(isLinearizable()).toBe(true);
  expect(isLinearizable(read(0, 1, null))).toBe(true);
  expect(isLinearizable(read(0, 1, "a"))).toBe(false);
  expect(isLinearizable(write(0, 1, "a"), read(2, 3, "a"))).toBe(true);
  expect(isLinearizable(write(0, 1, "a"), read(2, 3, null))).toBe(false);
  expect(isLinearizable(write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a"))).toBe(false);
  expect(isLinearizable(write(0, 1, "a"), write(2, 3, null), read(4, 5, null))).toBe(true);
});

test("a read that overlaps a write may find either value, but not first the new and then the old one", () => {
  expect(isLinearizable(write(0, 10, "a"), read(1, 2, null), read(3, 4, "a"))).toBe(true);
  expect(isLinearizable(write(0, 10, "a"), read(1, 2, "a"), read(3, 4, null))).toBe(false);
  expect(isLinearizable(write(0, 10, "a"), read(1, 5, "a"), read(3, 6, null))).toBe(true);
});

test("a stale read after a newer answer is found, wherever the writes overlap", () => {
  const writes = [write(0, 10, "a"), write(0, 10, "b")];
  expect(isLinearizable(...writes, read(11, 12, "a"), read(13, 14, "a"))).toBe(true);
  expect(isLinearizable(...writes, read(11, 12, "a"), read(13, 14, "b"))).toBe(false);
});

test("a write without an answer may have happened at any time after its call, or never", () => {
  const lost = write(5, Infinity, "a");
  expect(isLinearizable(lost, read(6, 7, null), read(8, 9, null))).toBe(true);
  expect(isLinearizable(lost, read(6, 7, null), read(1000, 1001, "a"))).toBe(true);
  expect(isLinearizable(lost, read(6, 7, "a"), read(8, 9, null))).toBe(false);
  expect(isLinearizable(lost, read(1, 2, "a"))).toBe(false);
  expect(isLinearizable(lost, write(6, 7, "b"), read(8, 9, "b"), read(10, 11, "a"))).toBe(true);
  expect(isLinearizable(lost, write(6, 7, "b"), read(8, 9, "a"), read(10, 11, "b"))).toBe(false);
});

test("whether a write found something is held against the order too", () => {
  const setFound = (invokedMs: number, returnedMs: number, leaves: string | null, existed: boolean) => ({
    ...write(invokedMs, returnedMs, leaves),
    existed,
  });
  expect(isLinearizable(setFound(0, 1, "a", false), setFound(2, 3, null, true), setFound(4, 5, "b", false))).toBe(true);
  expect(isLinearizable(setFound(0, 1, "a", false), setFound(2, 3, "b", false))).toBe(false);
  expect(isLinearizable(setFound(0, 10, "a", false), setFound(0, 10, "b", false))).toBe(false);
  expect(isLinearizable(setFound(0, 10, "a", true), setFound(0, 10, "b", false))).toBe(true);
});

test("what is added to a number is found in it, once; to what is no number nothing is added", () => {
  const add = (invokedMs: number, returnedMs: number, adds: bigint, found?: string | null): RegisterOperation => ({
    invokedMs,
    returnedMs,
    adds,
    ...(found !== undefined && { found }),
  });
  expect(isLinearizable(add(0, 1, 5n, null), add(2, 3, -7n, "5"), read(4, 5, "-2"))).toBe(true);
  expect(isLinearizable(add(0, 9, 5n), add(1, 8, 7n), read(10, 11, "12"))).toBe(true);
  expect(isLinearizable(add(0, 1, 5n), read(2, 3, "10"))).toBe(false);
  expect(isLinearizable(add(0, Infinity, 5n), add(1, 2, 7n), read(3, 4, "7"), read(5, 6, "12"))).toBe(true);
  expect(isLinearizable(add(0, Infinity, 5n), add(1, 2, 7n), read(3, 4, "7"), read(5, 6, "17"))).toBe(false);
  expect(isLinearizable(write(0, 1, "a"), add(2, 3, 5n))).toBe(false);
  expect(isLinearizable(write(0, 1, "a"), add(2, Infinity, 5n), read(3, 4, "a"))).toBe(true);
});

test("a register may begin with a value", () => {
  expect(checkRegister([read(0, 1, "a")], "a").linearizable).toBe(true);
  expect(checkRegister([read(0, 1, null)], "a").linearizable).toBe(false);
});

test("what says no tells the answer that fits nowhere", () => {
  const stale = read(4, 5, null);
  const verdict = checkRegister([write(0, 1, "a"), read(2, 3, "a"), stale]);
  expect(verdict).toMatchObject({ linearizable: false, stuckAt: stale });
});

test("the histories of the literature are judged as it judges them", () => {
  // Herlihy and Wing, figure 1, as registers: (a) and (d) are linearizable, the others are not.
  expect(isLinearizable(write(0, 4, "0"), write(2, 6, "1"), read(7, 9, "0"), read(10, 12, "0"))).toBe(true);
  expect(isLinearizable(write(0, 1, "0"), write(2, 3, "1"), read(4, 5, "0"))).toBe(false);
  expect(isLinearizable(write(0, 9, "0"), read(1, 3, "0"), write(4, 8, "1"), read(10, 12, "1"))).toBe(true);
  expect(isLinearizable(write(0, 9, "0"), read(1, 3, "0"), write(4, 8, "1"), read(10, 12, "0"))).toBe(false);
});

/** Tries every subset of the unanswered operations and every order: right by being simple. */
function bruteForce(history: readonly RegisterOperation[]): boolean {
  const go = (left: readonly RegisterOperation[], value: string | null): boolean => {
    if (left.every(({ returnedMs }) => returnedMs === Infinity)) return true;
    const firstAnswerMs = Math.min(...left.map(({ returnedMs }) => returnedMs));
    return left.some((operation) => {
      if (operation.invokedMs > firstAnswerMs) return false;
      const after = outcome(operation, value);
      return (
        after !== undefined &&
        go(
          left.filter((other) => other !== operation),
          after,
        )
      );
    });
  };
  return go(history, null);
}

function randomHistory(random: Random): RegisterOperation[] {
  const values = ["1", "2", "c", null];
  return Array.from({ length: random.between(1, 7) }, () => {
    const invokedMs = random.below(20);
    const returnedMs = random.chance(0.15) ? Infinity : invokedMs + random.below(8);
    const value = random.pick(values);
    if (random.chance(0.5)) return { invokedMs, returnedMs, found: value };
    if (random.chance(0.3)) return { invokedMs, returnedMs, adds: 1n };
    return { invokedMs, returnedMs, leaves: value, ...(random.chance(0.3) && { existed: random.chance(0.5) }) };
  });
}

test("thousands of random histories are judged as trying every order judges them", () => {
  const random = new Random(4);
  const judged = { good: 0, bad: 0 };
  for (let i = 0; i < 20_000; i++) {
    const history = randomHistory(random);
    const expected = bruteForce(history);
    judged[expected ? "good" : "bad"]++;
    if (checkRegister(history).linearizable !== expected) expect({ history, expected }).toBe("judged alike");
  }
  expect(Math.min(judged.good, judged.bad)).toBeGreaterThan(2000);
});

/** What a real register would have answered, with operations that overlap and some that are never answered. */
function trueHistory(random: Random, length: number): RegisterOperation[] {
  let value: string | null = null;
  let nowMs = 0;
  return Array.from({ length }, (_, i) => {
    nowMs += random.below(5);
    const invokedMs = nowMs - random.below(8);
    const returnedMs = nowMs + random.below(8);
    if (random.chance(0.5)) return { invokedMs, returnedMs, found: value };
    if (random.chance(0.05)) {
      // It was lost on the way, or it was not.
      const leaves = `v${i}`;
      if (random.chance(0.5)) value = leaves;
      return { invokedMs, returnedMs: Infinity, leaves };
    }
    const existed = value !== null;
    value = random.chance(0.2) ? null : `v${i}`;
    return { invokedMs, returnedMs, leaves: value, existed };
  });
}

test("what a real register answers is linearizable, and no longer so once an answer is exchanged for an older one", () => {
  const random = new Random(5);
  let spoiled = 0;
  for (let i = 0; i < 300; i++) {
    const history = trueHistory(random, random.between(20, 120));
    expect(checkRegister(history).linearizable).toBe(true);
    // After everything, a read of what was there long before.
    const written = history.filter(({ leaves, returnedMs }) => leaves !== undefined && returnedMs !== Infinity);
    const [old, newer] = [written[0], written.at(-1)];
    if (!old || !newer || typeof old.leaves !== "string" || old.leaves === newer.leaves) continue;
    const lateMs = 100_000;
    const last = read(lateMs, lateMs + 1, newer.leaves ?? null);
    const settled = checkRegister([...history, last]).linearizable;
    const stale = read(lateMs + 2, lateMs + 3, old.leaves);
    expect(checkRegister([...history, last, stale]).linearizable).toBe(false);
    if (settled) spoiled++;
  }
  expect(spoiled).toBeGreaterThan(20);
});
