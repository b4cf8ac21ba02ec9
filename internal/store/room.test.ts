/** How much is stored, and what goes for it. */
import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { FakeClock } from "../base/clock.js";
import { accountedBytesOf } from "../engine/engine.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { StorageLimits } from "./room.js";
import type { Store, WriteCommand } from "./store.js";
import { applied, beginMastership, bytes, joinReplica, openStore, push, seq, text } from "./testing/stores.js";

const set = (key: string, value = "v", ttlMs?: number): WriteCommand => ({
  kind: "set",
  key: bytes(key),
  value: bytes(value),
  ...(ttlMs !== undefined && { ttlMs }),
});
const del = (key: string): WriteCommand => ({ kind: "delete", key: bytes(key) });
const has = (store: Store, key: string): boolean => store.get(bytes(key)) !== undefined;

async function limited(
  limits: Partial<StorageLimits>,
  options: Parameters<typeof openStore>[0] & { commits?: boolean } = {},
): Promise<Store> {
  const store = await openStore(options);
  const all: StorageLimits = { entriesMax: 0, bytesMax: 0, policy: "noeviction", ...limits };
  const settings = { commit: "master", voters: "master", limits: all } as const;
  await beginMastership(store, { changes: [{ kind: "settings", settings }], ...options });
  return store;
}

async function events(store: Store): Promise<string[]> {
  const { signal } = new AbortController();
  const page = await store.updates({ after: seq(0), limit: 10_000, maxBytes: 1 << 24, waitMs: 0, signal });
  return page.events.map(({ type, key, position }) => `${position.seq} ${type} ${text(key)}`);
}

test("a write that needs the room of thousands of keys gets it, by several records, and others go on meanwhile", async () => {
  const small = accountedBytesOf(8, 0);
  const store = await limited({ bytesMax: 3000 * small, policy: "lru" }, { pendingBytesMax: 1 << 24 });
  const name = (n: number): string => String(n).padStart(8, "0");
  await store.write(Array.from({ length: 3000 }, (_, n) => set(name(n), "")));
  const large = store.write([set("large", "x".repeat(2500 * small))]);
  const other = store.write([set("other", "")]);
  await Promise.all([large, other]);
  expect([has(store, "large"), has(store, "other")]).toEqual([true, true]);
  const { accountedBytes, keys } = store.status();
  expect(accountedBytes).toBeLessThanOrEqual(3000 * small);
  expect(keys).toBeGreaterThan(490);
  await store.close();
});

describe("without eviction", () => {
  test("what would pass the number of keys is refused, and nothing else", async () => {
    const store = await limited({ entriesMax: 2 });
    await store.write([set("a"), set("b")]);
    await expect(store.write([set("c")])).rejects.toMatchObject({
      code: "storage_full",
      passed: { limit: "storage.max_entries", maximum: 2, actual: 3 },
      message: expect.stringContaining("delete keys, or raise the limit") as string,
    });
    await store.write([set("a", "longer than before")]);
    await store.write([del("b"), set("c")]);
    expect([has(store, "a"), has(store, "b"), has(store, "c")]).toEqual([true, false, true]);
    await expect(store.write([set("d"), del("c"), set("e")])).rejects.toMatchObject({ code: "storage_full" });
    await store.close();
  });

  test("what would pass the bytes is refused; deletions and smaller values go through", async () => {
    const bytesMax = 2 * accountedBytesOf(1, 10);
    const store = await limited({ bytesMax });
    await store.write([set("a", "0123456789"), set("b", "0123456789")]);
    await expect(store.write([set("b", "0123456789x")])).rejects.toMatchObject({
      passed: { limit: "storage.max_bytes", maximum: bytesMax, actual: bytesMax + 1 },
    });
    await store.write([set("b", "short")]);
    await store.write([set("a", "01234567890123")]);
    await store.write([del("a")]);
    await store.write([set("c", "0123456789")]);
    await store.close();
  });

  test("writes in flight count, and what they leave counts once they are applied", async () => {
    const store = await limited({ entriesMax: 2 }, { commits: false });
    const first = store.write([set("a")]);
    const second = store.write([set("b")]);
    await expect(store.write([set("c")])).rejects.toMatchObject({ code: "storage_full" });
    const third = store.write([del("a")]);
    const fourth = store.write([set("c")]);
    await expect(store.write([set("d")])).rejects.toMatchObject({ code: "storage_full" });
    await applied(store, 1);
    while (store.keptSeq < 5) await new Promise((resolve) => setImmediate(resolve));
    store.commit(seq(5));
    await Promise.all([first, second, third, fourth]);
    expect([has(store, "a"), has(store, "b"), has(store, "c"), store.status().keys]).toEqual([false, true, true, 2]);
    await store.close();
  });

  test("the removal of a range makes room once it is applied, and not before", async () => {
    const store = await limited({ entriesMax: 2 }, { commits: false });
    const written = store.write([set("a"), set("b")]);
    const commitAll = async (): Promise<void> => {
      while (store.keptSeq < store.last.seq) await new Promise((resolve) => setImmediate(resolve));
      store.commit(store.last.seq);
    };
    await commitAll();
    await written;
    const removed = store.write([{ kind: "delete-range", range: { start: bytes("a") } }]);
    // Also for a key that is there now: it is another one then.
    for (const key of ["a", "c"]) {
      await expect(store.write([set(key)])).rejects.toMatchObject({ code: "overloaded" });
    }
    await commitAll();
    await removed;
    const after = store.write([set("c"), set("d")]);
    await commitAll();
    await after;
    await expect(store.write([set("e")])).rejects.toMatchObject({ code: "storage_full" });
    await store.close();
  });

  test("a touch needs no room, a counter needs that of its digits", async () => {
    const bytesMax = accountedBytesOf(1, 3) + accountedBytesOf(1, 1);
    const store = await limited({ bytesMax });
    await store.write([set("a", "xyz"), set("b", "9")]);
    await store.write([{ kind: "touch", key: bytes("a"), ttlMs: 1000 }]);
    const increment = (delta: bigint): WriteCommand => {
      const [min, max] = [-(2n ** 63n), 2n ** 63n - 1n];
      return { kind: "increment", key: bytes("b"), delta, initial: 0n, min, max, ttlMs: 0 };
    };
    await expect(store.write([increment(1n)])).rejects.toMatchObject({ code: "storage_full" });
    await store.write([increment(-1n)]);
    await store.close();
  });

  test("room that a failed write would have made is not there", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await limited({ entriesMax: 1 }, { fileSystem });
    await store.write([set("a")]);
    fileSystem.failNext("write", "ENOSPC", { after: 0 });
    const failed = [store.write([set("x"), del("x"), del("a")]), store.write([set("b")])];
    expect((await Promise.allSettled(failed)).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    await expect(store.write([set("b")])).rejects.toMatchObject({ code: "storage_full" });
    expect([has(store, "a"), store.status().keys]).toEqual([true, 1]);
    await store.close();
  });
});

describe("with eviction", () => {
  test("the key that was not used for longest makes room, in the record that needs it", async () => {
    const store = await limited({ entriesMax: 3, policy: "lru" });
    for (const key of ["a", "b", "c"]) await store.write([set(key)]);
    store.get(bytes("a"));
    await store.write([set("d")]);
    expect([has(store, "a"), has(store, "b"), has(store, "c"), has(store, "d")]).toEqual([true, false, true, true]);
    expect((await events(store)).slice(-2)).toEqual(["5 evict b", "5 put d"]);
    await store.close();
  });

  test("keys of the same record, and keys in flight, are spared", async () => {
    const store = await limited({ entriesMax: 2, policy: "lru" }, { commits: false });
    const writes = [store.write([set("a")]), store.write([set("b")])];
    // Everything there is, is in flight.
    await expect(store.write([set("c")])).rejects.toMatchObject({ code: "storage_full" });
    while (store.keptSeq < 3) await new Promise((resolve) => setImmediate(resolve));
    store.commit(seq(3));
    await Promise.all(writes);
    const batch = store.write([set("a", "again"), set("c")]);
    while (store.keptSeq < 4) await new Promise((resolve) => setImmediate(resolve));
    store.commit(seq(4));
    await batch;
    expect([has(store, "a"), has(store, "b"), has(store, "c")]).toEqual([true, false, true]);
    await store.close();
  });

  test("keys under a range that is being removed are not evicted, nor expired", async () => {
    const clock = new FakeClock();
    const store = await limited({ entriesMax: 3, policy: "lru" }, { commits: false, clock });
    const commitAll = async (): Promise<void> => {
      while (store.keptSeq < store.last.seq) await new Promise((resolve) => setImmediate(resolve));
      store.commit(store.last.seq);
      await new Promise((resolve) => setImmediate(resolve));
    };
    const written = store.write([set("a", "v", 10), set("b"), set("z")]);
    await commitAll();
    await written;
    const removed = store.write([{ kind: "delete-range", range: { start: bytes("a"), end: bytes("c") } }]);
    clock.advance(20);
    const added = store.write([set("x")]);
    await expect(store.write([set("y")])).rejects.toMatchObject({ code: "overloaded" });
    await commitAll();
    await Promise.all([removed, added]);
    const all = await events(store);
    expect(all.filter((event) => !event.includes("delete-range"))).toEqual([
      "2 put a",
      "2 put b",
      "2 put z",
      "4 evict z",
      "4 put x",
    ]);
    expect([has(store, "x"), store.status().keys]).toEqual([true, 1]);
    await store.close();
  });

  test("by ttl takes only keys with a deadline, the soonest first, and refuses when there is none", async () => {
    const store = await limited({ entriesMax: 3, policy: "ttl" });
    await store.write([set("for ever"), set("late", "v", 60_000), set("soon", "v", 30_000)]);
    await store.write([set("x")]);
    await store.write([set("y")]);
    await expect(store.write([set("z")])).rejects.toMatchObject({ code: "storage_full" });
    expect(["for ever", "late", "soon", "x", "y"].map((key) => has(store, key))).toEqual([
      true,
      false,
      false,
      true,
      true,
    ]);
    await store.close();
  });

  test("one write that is larger than everything allowed evicts nothing", async () => {
    const store = await limited({ bytesMax: 1000, policy: "random" });
    await store.write([set("a")]);
    await expect(store.write([set("b", "x".repeat(1000))])).rejects.toMatchObject({ code: "storage_full" });
    expect(has(store, "a")).toBe(true);
    await store.close();
  });

  test("limits that are lowered are kept soon after, and replicas and the next master have them too", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await limited({}, { fileSystem, pendingBytesMax: 1 << 24 });
    for (let i = 0; i < 6; i++) await store.write(Array.from({ length: 1000 }, (_, j) => set(`key-${i}-${j}`)));
    const limits = { entriesMax: 500, bytesMax: 0, policy: "lru" } as const;
    await store.proposeSettings({ ...store.settings, limits });
    while (store.status().keys > 500) await applied(store, store.appliedSeq + 1);
    const replica = await joinReplica(store);
    await push(store, replica);
    replica.commit(replica.last.seq);
    expect([replica.settings.limits, replica.stateCheck()]).toEqual([limits, store.stateCheck()]);
    await store.close();
    const again = await openStore({ fileSystem, engine: new MapEngine() });
    await beginMastership(again);
    await again.write([set("one more")]);
    expect([again.status().keys, again.settings.limits]).toEqual([500, limits]);
    await Promise.all([again.close(), replica.close()]);
  });

  test("what goes by itself while a write asks for room goes once", async () => {
    const store = await limited({ entriesMax: 3, policy: "lru" });
    for (const key of ["a", "b", "c"]) await store.write([set(key)]);
    const limits = { entriesMax: 2, bytesMax: 0, policy: "lru" } as const;
    const lowered = store.proposeSettings({ ...store.settings, limits });
    // From when the new limits hold, the one that is too many is in flight on its way out.
    for (; store.settings.limits?.entriesMax !== 2;) await applied(store, store.appliedSeq + 1);
    await store.write([set("d")]);
    await lowered;
    expect(await events(store)).toEqual(["2 put a", "3 put b", "4 put c", "6 evict a", "7 evict b", "7 put d"]);
    await store.close();
  });

  test("whatever is written, the limits hold at every record, on the master and in a state that is rebuilt", async () => {
    const key = fc.integer({ min: 0, max: 30 }).map((n) => `k${n}`);
    const command = fc.oneof(
      {
        weight: 4,
        arbitrary: fc
          .tuple(key, fc.nat(60), fc.option(fc.integer({ min: 1, max: 50 })))
          .map(([name, length, ttl]) => set(name, "x".repeat(length), ttl ?? undefined)),
      },
      key.map(del),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<StorageLimits["policy"]>("noeviction", "lru", "lfu", "random", "ttl"),
        fc.array(fc.array(command, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 40 }),
        async (policy, batches) => {
          const clock = new FakeClock();
          const fileSystem = new MemoryFileSystem();
          const store = await limited({ entriesMax: 10, bytesMax: 900, policy }, { fileSystem, clock });
          const engine = (): { entries: number; bytes: number } => {
            const { keys, dataBytes } = store.status();
            return { entries: keys, bytes: dataBytes + keys * accountedBytesOf(0, 0) };
          };
          for (const [i, batch] of batches.entries()) {
            const written = store.write(batch).catch((error: { code: string }) => error.code);
            if (i % 3 === 0) clock.advance(20);
            expect([undefined, "storage_full", "overloaded"]).toContain(
              await written.then((answer) => (typeof answer === "string" ? answer : undefined)),
            );
            expect(engine().entries).toBeLessThanOrEqual(10);
            expect(engine().bytes).toBeLessThanOrEqual(900);
          }
          const check = store.stateCheck();
          await store.close();
          const again = await openStore({ fileSystem, clock, engine: new MapEngine() });
          expect(again.stateCheck()).toEqual(check);
          await again.close();
        },
      ),
      { numRuns: 60 },
    );
  });
});
