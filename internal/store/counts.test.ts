/** What those who measure a store are told of it. */
import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { StorageLimits, Store, StoreObserver, WriteCommand } from "./store.js";
import { applied, beginMastership, bytes, joinReplica, openStore, push, seq } from "./testing/stores.js";

const set = (key: string, ttlMs?: number): WriteCommand => ({
  kind: "set",
  key: bytes(key),
  value: bytes("v"),
  ...(ttlMs !== undefined && { ttlMs }),
});

async function until(store: Store, condition: () => boolean): Promise<void> {
  while (!condition()) await applied(store, store.appliedSeq + 1);
}

/** Writes down what it is told. */
class NotingObserver implements StoreObserver {
  readonly writes: { records: number; bytes: number }[] = [];
  readonly syncs: number[] = [];
  readonly snapshots: number[] = [];
  failedSyncs = 0;
  refusals = 0;

  wrote(records: number, byteCount: number): void {
    this.writes.push({ records, bytes: byteCount });
  }
  synced(seconds: number): void {
    this.syncs.push(seconds);
  }
  syncFailed(): void {
    this.failedSyncs++;
  }
  refused(): void {
    this.refusals++;
  }
  snapshotTaken(seconds: number): void {
    this.snapshots.push(seconds);
  }
}

const limits: StorageLimits = { entriesMax: 2, bytesMax: 0, policy: "lru" };

test("keys that expire and that are evicted are counted apart, on every node, and not again by a start that repeats them", async () => {
  const fileSystem = new MemoryFileSystem();
  const clock = new FakeClock();
  const store = await openStore({ fileSystem, clock });
  const settings = { commit: "master", voters: "master", limits } as const;
  await beginMastership(store, { changes: [{ kind: "settings", settings }] });
  for (const key of ["a", "b", "c"]) await store.write([set(key)]);
  expect(store.counts()).toMatchObject({ evictedKeys: 1, expiredKeys: 0 });
  await store.write([{ kind: "delete", key: bytes("b") }]);
  await store.write([set("short", 1000)]);
  clock.advance(1000);
  await until(store, () => store.status().keys === 1);
  expect(store.counts()).toMatchObject({ evictedKeys: 1, expiredKeys: 1 });

  const replica = await joinReplica(store, { clock });
  await push(store, replica);
  replica.commit(replica.last.seq);
  expect(replica.counts()).toMatchObject({ evictedKeys: 1, expiredKeys: 1 });
  await Promise.all([store.close(), replica.close()]);

  const again = await openStore({ fileSystem, clock });
  expect(again.status().keys).toBe(1);
  expect(again.counts()).toMatchObject({ evictedKeys: 0, expiredKeys: 0 });
  await again.close();
});

test("what is remembered for safe retries, the newest snapshot and the log that members lack have sizes", async () => {
  const store = await openStore();
  expect(store.counts()).toEqual({
    expiredKeys: 0,
    evictedKeys: 0,
    pendingWrites: 0,
    pendingBytes: 0,
    retryBytes: 0,
    retryClients: 0,
    snapshotBytes: 0,
    lackedBytes: 0,
    recordLogBytes: 0,
  });
  await beginMastership(store);
  await store.write([set("a")], { retry: { clientId: "client", clientSeq: 1 } });
  const summary = await store.createSnapshot();
  store.retainLog(() => seq(0));
  expect(store.counts()).toMatchObject({ retryClients: 1, snapshotBytes: summary.bytes });
  expect(store.counts().retryBytes).toBeGreaterThan(0);
  await store.write([set("b")]);
  expect(store.counts().lackedBytes).toBe(store.status().walBytes);
  store.retainLog(() => store.last.seq);
  expect(store.counts().lackedBytes).toBe(0);
  await store.close();
});

test("each group, sync and snapshot is told, with what it took", async () => {
  const fileSystem = new MemoryFileSystem();
  const clock = new FakeClock();
  const observer = new NotingObserver();
  const store = await openStore({ fileSystem, clock, observer });
  await beginMastership(store);
  observer.writes.length = observer.syncs.length = 0;
  const sync = fileSystem.holdNext("datasync");
  const first = store.write([set("a")]);
  await sync.reached;
  const others = Promise.all([store.write([set("b")]), store.write([set("c")])]);
  clock.advance(250);
  sync.release();
  await Promise.all([first, others]);
  expect(observer.writes.map(({ records }) => records)).toEqual([1, 2]);
  expect(observer.writes[1]!.bytes).toBeGreaterThan(observer.writes[0]!.bytes);
  expect(observer.syncs).toEqual([0.25, 0]);
  await store.createSnapshot();
  expect(observer.snapshots).toEqual([0]);
  expect(observer).toMatchObject({ failedSyncs: 0, refusals: 0 });
  await store.close();
});

test("a disk without room, and one that fails, are told", async () => {
  const fileSystem = new MemoryFileSystem();
  const observer = new NotingObserver();
  const store = await openStore({ fileSystem, observer });
  await beginMastership(store);
  fileSystem.failNext("write", "ENOSPC", { path: /^wal\// });
  await expect(store.write([set("a")])).rejects.toMatchObject({ code: "disk_full" });
  expect(observer).toMatchObject({ failedSyncs: 0, refusals: 1 });
  fileSystem.failNext("datasync", "EIO", { path: /^wal\// });
  await expect(store.write([set("a")])).rejects.toMatchObject({ code: "outcome_unknown" });
  expect(observer).toMatchObject({ failedSyncs: 1, refusals: 1 });
  await store.close();
});
