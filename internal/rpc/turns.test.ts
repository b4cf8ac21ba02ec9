import { describe, expect, test } from "vitest";
import { Turns } from "./turns.js";

const never = new AbortController().signal;
const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("turns", () => {
  test("one who comes alone does not wait, and the next one does not either once something else could be done", async () => {
    const turns = new Turns(2 ** 24);
    const connection = { unsentBytes: 0 };
    expect(turns.take(connection, never)).toBeUndefined();
    const second = turns.take(connection, never);
    expect(second).toBeInstanceOf(Promise);
    await second;
    await later();
    await later();
    expect(turns.take(connection, never)).toBeUndefined();
  });

  test("go round between connections, in the order of each, one at a time", async () => {
    const turns = new Turns(2 ** 24);
    const [a, b] = [{ unsentBytes: 0 }, { unsentBytes: 0 }];
    const done: string[] = [];
    void turns.take(a, never);
    const all = ["a1", "a2", "a3", "b1", "b2"].map(async (name) => {
      await turns.take(name.startsWith("a") ? a : b, never);
      done.push(name);
    });
    for (let n = 1; n <= all.length; n++) {
      await later();
      expect(done.length).toBeLessThanOrEqual(n + 1);
    }
    await Promise.all(all);
    expect(done).toEqual(["a1", "b1", "a2", "b2", "a3"]);
  });

  test("are not for a connection that leaves its answers unread, until it takes them", async () => {
    const turns = new Turns(2 ** 24);
    const full = { unsentBytes: 2 ** 30 };
    let isDone = false;
    const waiting = turns.take(full, never)?.then(() => (isDone = true));
    const other = { unsentBytes: 0 };
    for (let n = 0; n < 5; n++) await turns.take(other, never);
    expect(isDone).toBe(false);
    full.unsentBytes = 0;
    await waiting;
    expect(isDone).toBe(true);
  });

  test("end for those who leave, before or while they wait, and nobody waits for them", async () => {
    const turns = new Turns(2 ** 24);
    const connection = { unsentBytes: 0 };
    void turns.take(connection, never);
    const leaving = new AbortController();
    const waiting = turns.take(connection, leaving.signal);
    const next = turns.take(connection, never);
    leaving.abort(new Error("gone"));
    await expect(waiting).rejects.toThrow("gone");
    await expect(turns.take(connection, leaving.signal)).rejects.toThrow("gone");
    await next;
  });
});
