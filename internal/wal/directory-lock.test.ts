import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { lockDirectory, type LockMachine, type ProcessIdentity } from "./directory-lock.js";
import { FileSystemError, type DirectoryLock } from "./file-system.js";
import { SeededRandom } from "./testing/logs.js";

/** The files of one data directory, which several machines may see. */
class SharedFiles {
  readonly files = new Map<string, { text: string; modifiedMs: number }>();
  changes = 0;

  set(path: string, text: string): void {
    this.files.set(path, { text, modifiedMs: ++this.changes });
  }
}

class FakeMachine implements LockMachine {
  readonly #shared: SharedFiles;
  readonly #self: ProcessIdentity;
  /** Start times of the processes that live, by pid. */
  readonly processes = new Map<number, string>();
  /** Runs once, just before a rename. */
  beforeRename: (() => void) | undefined;

  constructor(shared: SharedFiles, self: ProcessIdentity) {
    this.#shared = shared;
    this.#self = self;
    if (self.startTime !== undefined) this.processes.set(self.pid, self.startTime);
  }

  async identity(): Promise<ProcessIdentity> {
    return this.#self;
  }
  async startTimeOf(pid: number): Promise<string | undefined> {
    return this.processes.get(pid);
  }
  async create(path: string, text: string): Promise<boolean> {
    if (this.#shared.files.has(path)) return false;
    this.#shared.set(path, text);
    return true;
  }
  async read(path: string): Promise<{ text: string; modifiedMs: number } | undefined> {
    const file = this.#shared.files.get(path);
    return file && { ...file };
  }
  async touch(path: string): Promise<void> {
    this.#shared.set(path, this.#shared.files.get(path)!.text);
  }
  async rename(from: string, to: string): Promise<boolean> {
    this.beforeRename?.();
    this.beforeRename = undefined;
    const file = this.#shared.files.get(from);
    if (!file) return false;
    this.#shared.files.delete(from);
    this.#shared.files.set(to, file);
    return true;
  }
  async link(from: string, to: string): Promise<boolean> {
    if (this.#shared.files.has(to)) return false;
    this.#shared.files.set(to, this.#shared.files.get(from)!);
    return true;
  }
  async remove(path: string): Promise<void> {
    this.#shared.files.delete(path);
  }
}

const HERE: ProcessIdentity = { pid: 7, host: "here", bootId: "boot-1", pidNamespace: "pid:[1]", startTime: "100" };
const OTHER_CONTAINER: ProcessIdentity = { ...HERE, host: "there", pidNamespace: "pid:[2]" };
const NO_PROC: ProcessIdentity = { pid: 7, host: "mac" };

let seed = 0;
function lock(machine: LockMachine, clock = new FakeClock()): Promise<DirectoryLock> {
  return lockDirectory({ machine, clock, random: new SeededRandom(++seed), directory: "/data" });
}

/** Lets what waits for nothing but promises go on. */
async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}

/** Turns the clock until a lock is given or refused. */
async function turningClock<T>(clock: FakeClock, wanted: Promise<T>): Promise<{ result: T; tookMs: number }> {
  const startMs = clock.monotonicMs();
  let over = false;
  const done = wanted.finally(() => (over = true));
  done.catch(() => {});
  for (await settle(); !over; await settle()) clock.advance(100);
  return { result: await done, tookMs: clock.monotonicMs() - startMs };
}

describe("where the holder's processes can be seen", () => {
  test("a living holder is refused at once, by its pid", async () => {
    const shared = new SharedFiles();
    const held = await lock(new FakeMachine(shared, HERE));
    const second = new FakeMachine(shared, { ...HERE, pid: 8, startTime: "200" });
    second.processes.set(7, "100");
    await expect(lock(second)).rejects.toMatchObject({ name: "FileSystemError", code: "ELOCKED" });
    await expect(lock(second)).rejects.toThrow("/data is in use by process 7 on here: stop that process");
    await held.release();
    const given = await lock(second);
    await given.release();
    expect(shared.files.size).toBe(0);
  });

  test("what a dead process left is taken over at once", async () => {
    const shared = new SharedFiles();
    await lock(new FakeMachine(shared, HERE));
    const given = await lock(new FakeMachine(shared, { ...HERE, pid: 8, startTime: "200" }));
    expect([...shared.files.keys()]).toEqual(["LOCK"]);
    expect(shared.files.get("LOCK")!.text).toContain('"pid":8');
    await given.release();
  });

  test("a later process with the dead one's pid does not count as the holder", async () => {
    const shared = new SharedFiles();
    await lock(new FakeMachine(shared, HERE));
    const given = await lock(new FakeMachine(shared, { ...HERE, startTime: "999" }));
    expect(shared.files.get("LOCK")!.text).toContain('"startTime":"999"');
    await given.release();
  });
});

describe("where they cannot be seen", () => {
  test.each([
    ["another container", OTHER_CONTAINER],
    ["a machine that was started again", { ...HERE, bootId: "boot-2" }],
    ["a machine without /proc", NO_PROC],
  ])("a lock that is not refreshed is taken over after six seconds: %s", async (_name, identity) => {
    const shared = new SharedFiles();
    await lock(new FakeMachine(shared, HERE));
    const clock = new FakeClock();
    const { result, tookMs } = await turningClock(clock, lock(new FakeMachine(shared, identity), clock));
    expect(tookMs).toBe(6000);
    await result.release();
    expect(shared.files.size).toBe(0);
  });

  test("a lock that is refreshed is not", async () => {
    const shared = new SharedFiles();
    const clock = new FakeClock();
    const held = await lock(new FakeMachine(shared, HERE), clock);
    const refused = turningClock(clock, lock(new FakeMachine(shared, OTHER_CONTAINER), clock));
    await expect(refused).rejects.toMatchObject({ code: "ELOCKED" });
    expect(clock.monotonicMs()).toBeLessThanOrEqual(3000);
    await held.release();
    expect(clock.pendingTimers).toBe(0);
  });

  test("a lock that is released meanwhile is given", async () => {
    const shared = new SharedFiles();
    const clock = new FakeClock();
    const held = await lock(new FakeMachine(shared, HERE));
    const wanted = lock(new FakeMachine(shared, OTHER_CONTAINER), clock);
    await settle();
    await held.release();
    const { result, tookMs } = await turningClock(clock, wanted);
    expect(tookMs).toBeLessThan(1000);
    await result.release();
  });

  test("a lock file that was never written whole is watched, and then taken over", async () => {
    const shared = new SharedFiles();
    shared.set("LOCK", '{"pid":');
    const clock = new FakeClock();
    const { result, tookMs } = await turningClock(clock, lock(new FakeMachine(shared, HERE), clock));
    expect(tookMs).toBe(6000);
    await result.release();
  });
});

test("of two that take over the same stale lock, one gets it", async () => {
  const shared = new SharedFiles();
  await lock(new FakeMachine(shared, HERE));
  const second = { ...HERE, pid: 8, startTime: "200" };
  const slow = new FakeMachine(shared, { ...HERE, pid: 9, startTime: "300" });
  slow.processes.set(8, "200");
  // The second comes in just as the slow one is about to move the stale lock aside.
  let fast: Promise<DirectoryLock> | undefined;
  slow.beforeRename = () => {
    shared.files.delete("LOCK");
    fast = lock(new FakeMachine(shared, second));
  };
  const refused = lock(slow);
  await expect(refused).rejects.toMatchObject({ code: "ELOCKED" });
  const held = await fast!;
  expect(shared.files.get("LOCK")!.text).toContain('"pid":8');
  expect([...shared.files.keys()]).toEqual(["LOCK"]);
  await held.release();
});

test("a lock that took the stale one's place just before is given back to its holder", async () => {
  const shared = new SharedFiles();
  await lock(new FakeMachine(shared, HERE));
  const late = new FakeMachine(shared, { ...HERE, pid: 9, startTime: "300" });
  late.processes.set(8, "200");
  const lockOfOther = JSON.stringify({ ...HERE, pid: 8, startTime: "200", nonce: "n" });
  late.beforeRename = () => shared.set("LOCK", lockOfOther);
  await expect(lock(late)).rejects.toThrow("in use by process 8");
  expect([...shared.files.entries()].map(([path, file]) => [path, file.text])).toEqual([["LOCK", lockOfOther]]);
});

test("a holder that stood still and was taken over is told, and does not remove the other's lock", async () => {
  const shared = new SharedFiles();
  const clock = new FakeClock();
  const held = await lock(new FakeMachine(shared, HERE), clock);
  const other = await lock(new FakeMachine(shared, { ...HERE, pid: 8, startTime: "200" }));
  clock.advance(2000);
  expect(await held.lost).toBeInstanceOf(FileSystemError);
  await held.release();
  expect(shared.files.has("LOCK")).toBe(true);
  await other.release();
});
