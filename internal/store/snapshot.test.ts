import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { File } from "../wal/file-system.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Store, WriteCommand } from "./store.js";
import { beginSoleMastership, bytes, openStore, seededRandom, text } from "./testing/stores.js";

const set = (key: string, value: string): WriteCommand => ({ kind: "set", key: bytes(key), value: bytes(value) });
const read = (store: Store, key: string): string | undefined => {
  const entry = store.get(bytes(key));
  return entry && text(entry.value);
};

async function soleMaster(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore({ segmentBytesMax: 4096, ...options });
  await beginSoleMastership(store);
  return store;
}

async function writeMany(store: Store, rounds: number, keys = 10, size = 20): Promise<void> {
  for (let i = 0; i < rounds; i++) await store.write([set(`key-${i % keys}`, `${i}:${"x".repeat(size)}`)]);
}

const snapshotNames = (fileSystem: MemoryFileSystem): Promise<string[]> => fileSystem.list("snapshots");

/** Everything that a client could see. */
function content(store: Store, keys = 10): (string | undefined)[] {
  return Array.from({ length: keys }, (_, i) => read(store, `key-${i}`));
}

describe("a snapshot", () => {
  test("lets the log before it go, and a restart gives the same state", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem });
    await writeMany(store, 500);
    const before = store.status();
    const summary = await store.createSnapshot();
    expect(summary.end).toMatchObject({ to: store.appliedSeq, entries: 10 });
    expect(store.compactSeq).toBe(store.appliedSeq);
    expect(store.status().walBytes).toBeLessThan(before.walBytes / 10);
    const expected = content(store);
    const { starts } = store.history;
    await store.write([set("after", "1")]);
    await store.close();
    const again = await soleMaster({ fileSystem });
    expect(content(again)).toEqual(expected);
    expect(read(again, "after")).toBe("1");
    expect(again.history.starts.slice(0, starts.length)).toEqual(starts);
    await again.close();
  });

  test("leaves as much of the log before it as is to stay, for those who follow it, also over a restart", async () => {
    const fileSystem = new MemoryFileSystem();
    const historyBytes = 20_000;
    const store = await soleMaster({ fileSystem, historyBytes });
    await writeMany(store, 1000);
    await store.createSnapshot();
    const { compactSeq, appliedSeq } = store;
    expect(compactSeq).toBeGreaterThan(100);
    expect(compactSeq).toBeLessThan(appliedSeq - 100);
    expect(store.status().walBytes).toBeLessThan(historyBytes + 4096);
    await store.close();
    const again = await soleMaster({ fileSystem, historyBytes });
    expect(again.compactSeq).toBe(compactSeq);
    const { signal } = new AbortController();
    const page = await again.updates({ after: compactSeq, limit: 1, maxBytes: 1, waitMs: 0, signal });
    expect(page.events.map(({ position }) => position.seq)).toEqual([compactSeq + 1]);
    expect(content(again)).toEqual(content(store));
    await again.close();
  });

  test("keeps members, deadlines and the seqs of keys", async () => {
    const fileSystem = new MemoryFileSystem();
    const clock = new FakeClock();
    const store = await soleMaster({ fileSystem, clock });
    await store.proposeMember({
      nodeId: store.nodeId,
      address: "a:1",
      voter: true,
      source: "founder",
      removed: false,
    });
    await store.write([{ ...set("short", "1"), kind: "set", key: bytes("short"), value: bytes("1"), ttlMs: 5000 }]);
    await store.write([set("short", "2")]);
    await store.write([{ kind: "set", key: bytes("short"), value: bytes("3"), ttlMs: 9000 }]);
    const entry = { ...store.get(bytes("short")) };
    await store.createSnapshot();
    const { members } = store;
    await store.close();
    clock.advance(8000);
    const again = await soleMaster({ fileSystem, clock });
    expect(again.members).toEqual(members);
    expect(again.get(bytes("short"))).toEqual(entry);
    clock.advance(1000);
    expect(again.get(bytes("short"))).toBeUndefined();
    await again.close();
  });

  test("is taken by itself when the log has grown, and by time when anything has changed", async () => {
    const fileSystem = new MemoryFileSystem();
    const clock = new FakeClock();
    const snapshots = { intervalMs: 60_000, logBytes: 4096, keep: 1 };
    const store = await soleMaster({ fileSystem, clock, snapshots });
    await writeMany(store, 200);
    await settled();
    const [first, ...others] = await snapshotNames(fileSystem);
    expect(others).toEqual([]);
    expect(store.compactSeq).toBeGreaterThan(50);
    await store.createSnapshot();
    clock.advance(60_000);
    await settled();
    // Nothing has changed since.
    const [second] = await snapshotNames(fileSystem);
    expect(second).not.toBe(first);
    await store.write([set("key-0", "new")]);
    clock.advance(60_000);
    await settled();
    expect(await snapshotNames(fileSystem)).not.toEqual([second]);
    await store.close();
  });

  test("walked while everything changes gives, with the log after it, the state at the end", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem });
    // Large enough for many chunks. The first of them waits for a write that was begun after it, so that writes come in between.
    await writeMany(store, 40, 40, 100_000);
    let chunk: ReturnType<MemoryFileSystem["holdNext"]> | undefined;
    fileSystem.onOperation = (operation, path) => {
      if (operation === "write" && path.startsWith("snapshots/")) chunk ??= fileSystem.holdNext("write");
    };
    let done = false;
    const snapshot = store.createSnapshot().finally(() => (done = true));
    let writes = 0;
    while (!done) {
      const waiting = chunk;
      await store.write([
        set(`key-${(writes * 7) % 40}`, `late-${writes}`),
        { kind: "delete", key: bytes(`key-${(writes * 11) % 40}`) },
      ]);
      waiting?.release();
      writes++;
    }
    const { header, end } = await snapshot;
    expect(end.to).toBeGreaterThan(header.from.seq);
    const expected = content(store, 40);
    await store.close();
    const again = await soleMaster({ fileSystem });
    expect(content(again, 40)).toEqual(expected);
    await again.close();
  });

  test("keeps the log for a member that lacks it, as far as it may", async () => {
    const store = await soleMaster({ retainedBytesMax: 1 << 20 });
    store.retainLog(() => 5 as never);
    await writeMany(store, 500);
    await store.createSnapshot();
    expect(store.compactSeq).toBeLessThanOrEqual(5);
    await store.close();
    const capped = await soleMaster({ retainedBytesMax: 10_000 });
    capped.retainLog(() => 5 as never);
    await writeMany(capped, 500);
    await capped.createSnapshot();
    expect(capped.compactSeq).toBeGreaterThan(5);
    expect(capped.status().walBytes).toBeLessThan(15_000);
    await capped.close();
  });

  test("that fails for lack of room leaves the one before, and the store goes on", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem, snapshots: { intervalMs: 0, logBytes: Infinity, keep: 1 } });
    await writeMany(store, 20);
    await store.createSnapshot();
    const before = await snapshotNames(fileSystem);
    await writeMany(store, 5, 5, 50_000);
    fileSystem.capacityBytes = fileSystem.paths().reduce((sum, path) => sum + fileSystem.bytes(path).length, 1000);
    await expect(store.createSnapshot()).rejects.toMatchObject({ code: "disk_full" });
    fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
    expect(await snapshotNames(fileSystem)).toEqual(before);
    await store.write([set("key-0", "still")]);
    const expected = content(store);
    await store.close();
    const again = await soleMaster({ fileSystem });
    expect(content(again)).toEqual(expected);
    await again.close();
  });
});

/** Calls `changing` before each act that changes the disk. */
class WatchedFileSystem extends MemoryFileSystem {
  changing = (): void => {};

  override async open(path: string, mode: "read" | "write" | "create"): Promise<File> {
    if (mode === "create") this.changing();
    const file = await super.open(path, mode);
    const watched =
      <Args extends unknown[], Result>(act: (...args: Args) => Result) =>
      (...args: Args): Result => {
        this.changing();
        return act(...args);
      };
    return {
      read: (into, position) => file.read(into, position),
      write: watched((bytes: Uint8Array, position: number) => file.write(bytes, position)),
      datasync: watched(() => file.datasync()),
      truncate: watched((size: number) => file.truncate(size)),
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  override rename(from: string, to: string): Promise<void> {
    this.changing();
    return super.rename(from, to);
  }

  override remove(path: string): Promise<void> {
    this.changing();
    return super.remove(path);
  }

  override syncDirectory(path: string): Promise<void> {
    this.changing();
    return super.syncDirectory(path);
  }
}

describe("a crash at any act of a snapshot and its compaction", () => {
  test.each([
    ["that loses all that was not synced", (fileSystem: MemoryFileSystem) => fileSystem.crash()],
    ["of the process alone", (fileSystem: MemoryFileSystem) => fileSystem.copy()],
    [
      "that keeps names and loses content",
      (fileSystem: MemoryFileSystem) => fileSystem.crash({ names: (changes) => changes }),
    ],
  ])("%s leaves every acknowledged write", async (_name, crash) => {
    const fileSystem = new WatchedFileSystem();
    const store = await soleMaster({ fileSystem });
    await writeMany(store, 60);
    await store.createSnapshot();
    await writeMany(store, 30);
    const expected = content(store);
    const left: MemoryFileSystem[] = [];
    fileSystem.changing = () => left.push(crash(fileSystem));
    await store.createSnapshot();
    await store.close();
    expect(left.length).toBeGreaterThan(15);
    for (const [at, remains] of left.entries()) {
      const again = await soleMaster({ fileSystem: remains });
      expect(content(again), `crash before act ${at}`).toEqual(expected);
      await again.close();
    }
  });
});

describe("a damaged snapshot", () => {
  async function damaged(keep: number, flip: number): Promise<{ fileSystem: MemoryFileSystem; expected: unknown }> {
    const fileSystem = new MemoryFileSystem();
    const snapshots = { intervalMs: 0, logBytes: Infinity, keep };
    const store = await soleMaster({ fileSystem, snapshots });
    await writeMany(store, 60);
    await store.createSnapshot();
    await writeMany(store, 60);
    await store.createSnapshot();
    await writeMany(store, 5);
    const expected = content(store);
    await store.close();
    const newest = (await snapshotNames(fileSystem)).at(-1)!;
    const image = fileSystem.bytes(`snapshots/${newest}`);
    image[flip >> 3]! ^= 1 << (flip & 7);
    fileSystem.setBytes(`snapshots/${newest}`, image);
    return { fileSystem, expected };
  }

  test("stops the start when it is the only one, naming the file, whichever bit of it is wrong", async () => {
    const size = await (async () => {
      const { fileSystem } = await damaged(1, 0);
      const file = await fileSystem.open(`snapshots/${(await snapshotNames(fileSystem)).at(-1)!}`, "read");
      const bytesOfFile = await file.size();
      await file.close();
      return bytesOfFile;
    })();
    for (let bit = 0; bit < size * 8; bit += 211) {
      const { fileSystem } = await damaged(1, bit);
      await expect(openStore({ fileSystem, segmentBytesMax: 4096 }), `bit ${bit}`).rejects.toThrow(
        /snapshots\/\d+-\d+\.snapshot/,
      );
    }
  });

  test("is passed over for the one before it, with the log from there on", async () => {
    const { fileSystem, expected } = await damaged(2, 999);
    const warnings: unknown[] = [];
    const logger: Logger = {
      debug() {},
      info() {},
      warn: (message, fields) => warnings.push([message, fields]),
      error() {},
    };
    const store = await openStore({ fileSystem, segmentBytesMax: 4096, logger });
    expect(content(store)).toEqual(expected);
    expect(warnings).toHaveLength(1);
    await store.close();
  });

  test("that is gone altogether stops the start when the log before it is gone too", async () => {
    const { fileSystem } = await damaged(1, 0);
    for (const name of await snapshotNames(fileSystem)) await fileSystem.remove(`snapshots/${name}`);
    await expect(openStore({ fileSystem, segmentBytesMax: 4096 })).rejects.toThrow(
      "the snapshot that it goes on from is gone",
    );
  });
});

test("a replica that cuts below its snapshot builds its state from the one before", async () => {
  const master = await soleMaster();
  const fileSystem = new MemoryFileSystem();
  const snapshots = { intervalMs: 0, logBytes: Infinity, keep: 3 };
  const replica = await openStore({
    initialRole: "replica",
    random: seededRandom(2),
    fileSystem,
    snapshots,
    segmentBytesMax: 4096,
  });
  await replica.joinCluster(master.clusterId!);
  await replica.markCaughtUp();
  const push = async (): Promise<void> => {
    while (replica.last.seq < master.last.seq) {
      const last = replica.appendRecords(await master.readRecords(replica.last.seq, 1 << 20));
      await new Promise<void>((resolve) => {
        const check = (): void => (replica.keptSeq >= last ? resolve() : undefined);
        replica.listen({ kept: check });
        check();
      });
    }
    replica.commit(replica.last.seq);
  };
  await writeMany(master, 50);
  await push();
  await replica.createSnapshot();
  const kept = master.last.seq;
  const expected = content(master);
  await writeMany(master, 50);
  await push();
  await replica.createSnapshot();
  await replica.cutAfter(kept);
  expect(content(replica)).toEqual(expected);
  expect(await snapshotNames(fileSystem)).toHaveLength(1);
  await push();
  expect(content(replica)).toEqual(content(master));
  await Promise.all([master.close(), replica.close()]);
});

/** Lets what goes on in the background come to its end: in memory it needs turns of the event loop, but no time. */
async function settled(): Promise<void> {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
}
