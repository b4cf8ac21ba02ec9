/** Keys whose time is over leave every node, at one place of the log. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { MapEngine } from "../engine/map-engine.js";
import { SlabEngine } from "../engine/slab-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Store, WriteCommand } from "./store.js";
import { applied, beginMastership, bytes, joinReplica, openStore, push, seq, text } from "./testing/stores.js";

const set = (key: string, ttlMs?: number): WriteCommand => ({
  kind: "set",
  key: bytes(key),
  value: bytes("v"),
  ...(ttlMs !== undefined && { ttlMs }),
});
const has = (store: Store, key: string): boolean => store.get(bytes(key)) !== undefined;

async function master(options: Parameters<typeof openStore>[0] = {}): Promise<{ store: Store; clock: FakeClock }> {
  const clock = new FakeClock();
  const store = await openStore({ clock, ...options });
  await beginMastership(store);
  return { store, clock };
}

/** The events of a store's log from its beginning on, in words. */
async function events(store: Store): Promise<string[]> {
  const { signal } = new AbortController();
  const page = await store.updates({ after: seq(0), limit: 10_000, maxBytes: 1 << 24, waitMs: 0, signal });
  return page.events.map(({ type, key }) => `${type} ${text(key)}`);
}

async function until(store: Store, condition: () => boolean): Promise<void> {
  while (!condition()) await applied(store, store.appliedSeq + 1);
}

describe("a key with a deadline", () => {
  test("is hidden from that moment on, and removed by a record of its own", async () => {
    const { store, clock } = await master();
    await store.write([set("a", 1000)]);
    await store.write([set("b")]);
    clock.advance(999);
    expect([has(store, "a"), store.status().keys]).toEqual([true, 2]);
    const removed = applied(store, store.appliedSeq + 1);
    clock.advance(1);
    expect(has(store, "a")).toBe(false);
    await removed;
    expect([store.status().keys, await events(store)]).toEqual([1, ["put a", "put b", "expire a"]]);
    await store.close();
  });

  test("that was written anew while its removal was held back is not removed, nor does the log say so", async () => {
    const { store, clock } = await master();
    await store.write([set("a", 1000)]);
    await store.write([set("b", 1000)]);
    const pause = store.pauseWrites();
    const written = store.write([set("a")]);
    clock.advance(1000);
    await new Promise((resolve) => setImmediate(resolve));
    pause.resume();
    await written;
    await until(store, () => store.status().keys === 1);
    expect(await events(store)).toEqual(["put a", "put b", "put a", "expire b"]);
    await store.close();
  });

  test("leaves replicas when the log says so, not before", async () => {
    const { store, clock } = await master();
    await store.write([set("a", 1000)]);
    const replica = await joinReplica(store, { clock });
    await push(store, replica);
    replica.commit(replica.last.seq);
    replica.observeMasterTime(store.masterTimeMs());
    await replica.markCaughtUp();
    const removed = applied(store, store.appliedSeq + 1);
    clock.advance(1500);
    await removed;
    expect([has(replica, "a"), replica.status().keys]).toEqual([false, 1]);
    await push(store, replica);
    replica.commit(replica.last.seq);
    expect([replica.status().keys, replica.stateCheck()]).toEqual([0, store.stateCheck()]);
    await Promise.all([store.close(), replica.close()]);
  });

  test("that is set anew meanwhile stays", async () => {
    const fileSystem = new MemoryFileSystem();
    const { store, clock } = await master({ fileSystem });
    await store.write([set("a", 1000)]);
    clock.advance(990);
    const sync = fileSystem.holdNext("datasync");
    const anew = store.write([set("a", 60_000)]);
    await sync.reached;
    clock.advance(2000);
    expect(store.last.seq).toBe(3);
    sync.release();
    await anew;
    clock.advance(1000);
    expect([has(store, "a"), store.last.seq]).toEqual([true, 3]);
    const removed = applied(store, 4);
    clock.advance(60_000);
    await removed;
    expect(await events(store)).toEqual(["put a", "put a", "expire a"]);
    await store.close();
  });

  test("that is set anew while its removal is synced is made anew, and counts once", async () => {
    const fileSystem = new MemoryFileSystem();
    const { store, clock } = await master({ fileSystem });
    await store.changeLimits({ entriesMax: 2, bytesMax: 0, policy: "noeviction" });
    await store.write([set("a", 1000), set("b", 1000)]);
    const sync = fileSystem.holdNext("datasync");
    clock.advance(1000);
    await sync.reached;
    const anew = store.write([set("a")]);
    const other = store.write([set("c")]);
    await expect(store.write([set("d")])).rejects.toMatchObject({ code: "storage_full" });
    sync.release();
    expect((await anew).results).toEqual([{ existed: false }]);
    await other;
    expect([has(store, "a"), has(store, "b"), has(store, "c"), store.status().keys]).toEqual([true, false, true, 2]);
    expect(await events(store)).toEqual(["put a", "put b", "expire a", "expire b", "put a", "put c"]);
    await store.close();
  });

  test("that comes due before the others is not kept waiting for them", async () => {
    const { store, clock } = await master();
    await store.write([set("late", 100_000)]);
    await store.write([set("soon", 10)]);
    const removed = applied(store, store.appliedSeq + 1);
    clock.advance(10);
    await removed;
    expect(await events(store)).toContain("expire soon");
    await store.close();
  });

  test("is not kept waiting for a great many that fall due seconds after it", async () => {
    const { store, clock } = await master({ engine: new SlabEngine(), pendingBytesMax: 1 << 24 });
    const turnMs = 4096 - (store.masterTimeMs() % 4096);
    // All in one part of the engine's wheel, the soonest behind all others.
    for (let batch = 0; batch < 5; batch++) {
      await store.write(Array.from({ length: 1000 }, (_, i) => set(`later-${batch}-${i}`, turnMs + 4000)));
    }
    await store.write([set("soon", turnMs + 10)]);
    clock.advance(turnMs + 10);
    await store.writesSettled();
    expect([store.status().keys, (await events(store)).at(-1)]).toEqual([5000, "expire soon"]);
    await store.close();
  });

  test("among a great many goes with them, five hundred a record", async () => {
    const { store, clock } = await master({ pendingBytesMax: 1 << 24 });
    for (let batch = 0; batch < 5; batch++) {
      await store.write(Array.from({ length: 1000 }, (_, i) => set(`key-${batch}-${i}`, 5000)));
    }
    const before = store.last.seq;
    const gone = until(store, () => store.status().keys === 0);
    clock.advance(5000);
    await gone;
    expect(store.last.seq - before).toBe(10);
    await store.close();
  });

  test("among a great many is left alone by a record that was to follow, when it was set anew before that was made", async () => {
    const fileSystem = new MemoryFileSystem();
    const { store, clock } = await master({ fileSystem, pendingBytesMax: 1 << 24 });
    const keys = Array.from({ length: 1500 }, (_, i) => `key-${String(i).padStart(4, "0")}`);
    await store.write(keys.map((key) => set(key, 5000)));
    const before = store.last.seq;
    const sync = fileSystem.holdNext("datasync");
    const first = applied(store, before + 1);
    clock.advance(5000);
    await sync.reached;
    // The disk is slow: the next two records are made together, and the last key is in the second.
    for (let turns = 0; turns < 3; turns++) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(5);
    const next = fileSystem.holdNext("datasync");
    const written: Promise<unknown>[] = [];
    void first.then(() => setImmediate(() => written.push(store.write([set("key-1499")]))));
    sync.release();
    while (store.last.seq < before + 4) await new Promise((resolve) => setImmediate(resolve));
    next.release();
    await Promise.all(written);
    await until(store, () => store.status().keys === 1);
    const all = await events(store);
    const found = all.filter((event) => event.includes("key-1499"));
    expect([found, has(store, "key-1499")]).toEqual([["put key-1499", "put key-1499"], true]);
    expect(all.filter((event) => event.startsWith("expire")).length).toBe(1499);
    await store.close();
  });

  test("outlives a failover by no moment, and loses none: the next master takes it over", async () => {
    const fileSystem = new MemoryFileSystem();
    const { store, clock } = await master({ fileSystem });
    await store.write([set("a", 10_000)]);
    await store.write([set("b", 20_000)]);
    await store.close();
    clock.advance(12_000);
    const again = await openStore({ fileSystem, clock, engine: new MapEngine() });
    expect([has(again, "a"), has(again, "b"), again.status().keys]).toEqual([false, true, 2]);
    await beginMastership(again);
    const overdue = until(again, () => again.status().keys === 1);
    clock.advance(1);
    await overdue;
    const gone = until(again, () => again.status().keys === 0);
    clock.advance(7999);
    await gone;
    await again.close();
  });

  test("waits with the writes while mastership is handed over, and is not removed by who is no master", async () => {
    const { store, clock } = await master();
    await store.write([set("a", 1000)]);
    const pause = store.pauseWrites();
    clock.advance(1000);
    await store.writesSettled();
    expect(store.last.seq).toBe(2);
    store.endMastership();
    pause.resume();
    await store.saveRole("replica");
    clock.advance(100_000);
    expect(store.last.seq).toBe(2);
    await store.close();
  });

  test("is tried again after a full disk, and the room kept back is lent to its removal", async () => {
    const fileSystem = new MemoryFileSystem();
    const { store, clock } = await master({ fileSystem });
    await store.write([set("a", 1000)]);
    fileSystem.failNext("write", "ENOSPC");
    const refused = new Promise<void>((resolve) => {
      fileSystem.onOperation = (operation) => operation === "truncate" && resolve();
    });
    clock.advance(1000);
    await refused;
    await new Promise((resolve) => setImmediate(resolve));
    expect(store.status().keys).toBe(1);
    let isRemoved = false;
    void applied(store, store.appliedSeq + 1).then(() => (isRemoved = true));
    while (!isRemoved) {
      clock.advance(100);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(store.status().keys).toBe(0);
    await store.close();
  });

  test("counts as absent to whoever deletes or sets it, before it is removed", async () => {
    const { store, clock } = await master();
    await store.write([set("a", 1000), set("b", 1000)]);
    const pause = store.pauseWrites();
    clock.advance(1000);
    const writes = store.write([set("a"), { kind: "delete", key: bytes("b") }]);
    pause.resume();
    expect((await writes).results).toEqual([{ existed: false }, { existed: false }]);
    await until(store, () => store.status().keys === 1);
    expect(store.get(bytes("a"))?.expiresAtMs).toBeUndefined();
    await store.close();
  });
});

describe("the wall clock", () => {
  test.each([-1, 1])("may step by a year while a master runs (%i): nothing goes early or late", async (direction) => {
    const { store, clock } = await master();
    await store.write([set("a", 10_000)]);
    clock.stepWall(direction * 365 * 86_400_000);
    clock.advance(9999);
    expect(has(store, "a")).toBe(true);
    const removed = applied(store, store.appliedSeq + 1);
    clock.advance(1);
    await removed;
    await store.close();
  });
});

describe("a clock that has jumped when a node starts", () => {
  const DAY = 86_400_000;
  const clockJumpMsMax = 30 * DAY;

  async function stopped(): Promise<{ fileSystem: MemoryFileSystem; clock: FakeClock }> {
    const fileSystem = new MemoryFileSystem();
    const { store, clock } = await master({ fileSystem, clockJumpMsMax });
    await store.write([set("a", 10 * DAY)]);
    await store.close();
    return { fileSystem, clock };
  }

  async function again(fileSystem: MemoryFileSystem, clock: FakeClock, jumpMsMax = clockJumpMsMax): Promise<Store> {
    const store = await openStore({ fileSystem, clock, engine: new MapEngine(), clockJumpMsMax: jumpMsMax });
    await beginMastership(store);
    clock.advance(1);
    await new Promise((resolve) => setImmediate(resolve));
    return store;
  }

  test.each([-365, 31, 365])("by %i days expires nothing early, and keeps nothing late once it runs", async (days) => {
    const { fileSystem, clock } = await stopped();
    clock.stepWall(days * DAY);
    const store = await again(fileSystem, clock);
    expect([has(store, "a"), store.status().clockAheadMs > 0]).toEqual([true, days > 0]);
    clock.advance(10 * DAY - 2);
    expect(has(store, "a")).toBe(true);
    const removed = applied(store, store.appliedSeq + 1);
    clock.advance(1);
    await removed;
    await store.close();
  });

  test("by less is a time in which the node was down, which counts", async () => {
    const { fileSystem, clock } = await stopped();
    clock.stepWall(29 * DAY);
    const store = await again(fileSystem, clock);
    await until(store, () => store.status().keys === 0);
    expect(store.status().clockAheadMs).toBe(0);
    await store.close();
  });

  test("is believed once an operator says that it is right", async () => {
    const { fileSystem, clock } = await stopped();
    clock.stepWall(400 * DAY);
    await (await again(fileSystem, clock)).close();
    const store = await again(fileSystem, clock, Infinity);
    await until(store, () => store.status().keys === 0);
    expect(store.status().clockAheadMs).toBe(0);
    await store.close();
  });

  test("has not jumped after a long time without a write, however that ended", async () => {
    const fileSystem = new MemoryFileSystem();
    const { store, clock } = await master({ fileSystem, clockJumpMsMax });
    await store.write([set("a", 100 * DAY)]);
    for (let day = 0; day < 90; day++) {
      clock.advance(DAY);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const killed = fileSystem.crash();
    const next = await again(killed, clock);
    expect([next.status().clockAheadMs, has(next, "a")]).toEqual([0, true]);
    await Promise.all([next.close(), store.close()]);
  });
});

test("deadlines beyond what timers can count are waited for all the same", async () => {
  const { store, clock } = await master();
  await store.write([set("a", 90 * 86_400_000)]);
  for (let day = 0; day < 89; day++) clock.advance(86_400_000);
  expect(has(store, "a")).toBe(true);
  const removed = applied(store, store.appliedSeq + 1);
  clock.advance(86_400_000);
  await removed;
  expect(store.get(bytes("a"))).toBeUndefined();
  await store.close();
});
