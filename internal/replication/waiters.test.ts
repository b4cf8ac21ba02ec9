import { describe, expect, test } from "vitest";
import { Conditions, Waiters } from "./waiters.js";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What has become of a promise, as a word. */
function watch<T>(promise: Promise<T>): { state: string } {
  const seen = { state: "open" };
  promise.then(
    (value) => (seen.state = `has ${String(value)}`),
    (error: unknown) => (seen.state = `failed: ${(error as Error).message}`),
  );
  return seen;
}

describe("those who wait for a number", () => {
  test("are all told once it is reached, each with what is true then", async () => {
    const waiters = new Waiters<string>();
    const seen = [3, 5, 5, 9].map((upTo) => watch(waiters.wait(upTo)));
    expect(waiters.isEmpty).toBe(false);
    waiters.resolve(2, "two");
    waiters.resolve(5, "five");
    waiters.resolve(5, "five again");
    await turn();
    expect(seen.map(({ state }) => state)).toEqual(["has five", "has five", "has five", "open"]);
    waiters.resolve(10, "ten");
    await turn();
    expect(seen[3]?.state).toBe("has ten");
    expect(waiters.isEmpty).toBe(true);
  });

  test("are told that it never will be, from a number on", async () => {
    const waiters = new Waiters();
    const seen = [3, 5, 9].map((upTo) => watch(waiters.wait(upTo)));
    waiters.reject(new Error("lost"), 5);
    waiters.resolve(3, undefined);
    await turn();
    expect(seen.map(({ state }) => state)).toEqual(["has undefined", "failed: lost", "failed: lost"]);
    const last = watch(waiters.wait(1));
    waiters.reject(new Error("over"));
    await turn();
    expect(last.state).toBe("failed: over");
    expect(waiters.isEmpty).toBe(true);
  });

  test("leave when they have had enough, at once if they had before, and leave nothing at their signal", async () => {
    const waiters = new Waiters();
    const patience = new AbortController();
    const seen = [watch(waiters.wait(1, patience.signal)), watch(waiters.wait(2))];
    patience.abort(new Error("enough"));
    const late = watch(waiters.wait(1, patience.signal));
    await turn();
    expect([...seen, late].map(({ state }) => state)).toEqual(["failed: enough", "open", "failed: enough"]);
    waiters.resolve(2, undefined);
    expect(waiters.isEmpty).toBe(true);
  });
});

describe("those who wait for a condition", () => {
  test("are told at the first look at which it holds, or at once", async () => {
    const conditions = new Conditions();
    const { signal } = new AbortController();
    let value = 0;
    const seen = [1, 2].map((least) => watch(conditions.until(() => value >= least, signal)));
    const now = watch(conditions.until(() => true, signal));
    conditions.look();
    await turn();
    expect([...seen, now].map(({ state }) => state)).toEqual(["open", "open", "has undefined"]);
    value = 1;
    conditions.look();
    await turn();
    expect(seen.map(({ state }) => state)).toEqual(["has undefined", "open"]);
  });

  test("are told what went wrong while it was looked at, and when they have had enough", async () => {
    const conditions = new Conditions();
    const patience = new AbortController();
    const broken: { error?: Error } = {};
    const fails = watch(
      conditions.until(() => {
        if (broken.error) throw broken.error;
        return false;
      }, patience.signal),
    );
    const waits = watch(conditions.until(() => false, patience.signal));
    broken.error = new Error("broken");
    conditions.look();
    patience.abort(new Error("enough"));
    const late = watch(conditions.until(() => true, patience.signal));
    await turn();
    expect([fails, waits, late].map(({ state }) => state)).toEqual([
      "failed: broken",
      "failed: enough",
      "failed: enough",
    ]);
  });

  test("are told the end, whoever comes after it too", async () => {
    const conditions = new Conditions();
    const { signal } = new AbortController();
    const before = watch(conditions.until(() => false, signal));
    conditions.end(new Error("over"));
    conditions.end(new Error("over again"));
    const after = watch(conditions.until(() => true, signal));
    await turn();
    expect([before.state, after.state]).toEqual(["failed: over", "failed: over"]);
  });
});
