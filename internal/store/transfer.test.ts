import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { epochId, type TransferId, transferId } from "../base/ids.js";
import { epoch } from "../base/position.js";
import type { File, FileSystem } from "../wal/file-system.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { PIN_IDLE_MS } from "./pins.js";
import type { Store, StoreOptions } from "./store.js";
import { beginSoleMastership, bytes, openStore, seededRandom, seq, text } from "./testing/stores.js";

const NEVER = new AbortController().signal;
const ANOTHER = transferId("ab".repeat(16));

/** Tells before each act that changes what a crash would leave. */
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
      write: watched((content: Uint8Array, position: number) => file.write(content, position)),
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

/** A master with keys, members, produced records, and a log that begins after most of its records. */
async function compactedMaster(options: Partial<StoreOptions> & { fileSystem?: FileSystem } = {}): Promise<Store> {
  const store = await openStore({ segmentBytesMax: 4096, ...options });
  await beginSoleMastership(store);
  for (let i = 0; i < 60; i++) await set(store, `key-${i}`, `value-${i} ${"x".repeat(100)}`);
  await store.proposeMember({
    nodeId: store.nodeId,
    address: "m:1",
    voter: true,
    source: "founder",
    removed: false,
  });
  for (let i = 0; i < 20; i++) await store.produce([bytes(`record-${i} ${"y".repeat(200)}`)]);
  await store.truncateRecords(5);
  await store.createSnapshot();
  for (let i = 0; i < 5; i++) await set(store, `late-${i}`, "1");
  expect(store.compactSeq).toBeGreaterThan(50);
  return store;
}

async function set(store: Store, key: string, value: string): Promise<void> {
  await store.write([{ kind: "set", key: bytes(key), value: bytes(value) }]);
}

/** An empty replica of a master's cluster. */
async function replicaOf(master: Store, fileSystem: FileSystem = new MemoryFileSystem()): Promise<Store> {
  const store = await openStore({ fileSystem, initialRole: "replica", random: seededRandom(7) });
  await store.joinCluster(master.clusterId!);
  await store.promise({ epoch: master.promised.epoch, candidate: master.nodeId });
  return store;
}

/** Sends a master's state; resolves to the file's id. */
async function send(
  master: Store,
  replica: Store,
  changed: (piece: Uint8Array) => Uint8Array = (piece) => piece,
): Promise<TransferId> {
  const file = await master.openTransfer(NEVER);
  let at = await replica.stageTransfer(file.id, file.size);
  while (at < file.size) {
    const piece = await file.read(at, 1000);
    await replica.writeTransfer(at, changed(piece));
    at += piece.length;
  }
  return file.id;
}

const reopen = (fileSystem: FileSystem): Promise<Store> => openStore({ fileSystem, random: seededRandom(8) });

async function content(store: Store): Promise<unknown> {
  const keys: string[] = [];
  for (let i = 0; i < 60; i++) keys.push(text(store.get(bytes(`key-${i}`))?.value ?? bytes("absent")));
  for (let i = 0; i < 5; i++) keys.push(text(store.get(bytes(`late-${i}`))?.value ?? bytes("absent")));
  const produced: unknown[] = [];
  const range = store.recordRange();
  for (let at = range.start; at < range.end;) {
    const page = await store.consume(at, 1 << 20, 100);
    produced.push(...page.records.map(({ offset, record, position }) => [offset, text(record), position]));
    at += page.records.length;
  }
  return {
    last: store.last,
    applied: store.appliedSeq,
    history: store.history.starts,
    members: store.members,
    keys,
    produced,
    range,
  };
}

async function filesIn(fileSystem: FileSystem, directory: string): Promise<string[]> {
  return fileSystem.list(directory);
}

test("a replica that takes over a master's state has it all, goes on with its log, and is itself", async () => {
  const master = await compactedMaster();
  const fileSystem = new MemoryFileSystem();
  const replica = await replicaOf(master, fileSystem);
  await send(master, replica);
  const { nodeId, promised } = replica;
  expect(await replica.installTransfer()).toEqual({});
  // Until it starts again, it is what it was.
  expect(replica.appliedSeq).toBe(0);
  expect(() => replica.readPoint()).toThrow("never caught up");
  await replica.close();

  const again = await reopen(fileSystem);
  expect(() => again.readPoint()).toThrow("never caught up");
  await again.markCaughtUp();
  expect(await content(again)).toEqual(await content(master));
  expect(again).toMatchObject({ nodeId, promised, role: "replica", clusterId: master.clusterId });
  expect(again.compactSeq).toBe(master.last.seq);
  expect(await filesIn(fileSystem, "incoming")).toEqual([]);

  const { seq } = again.last;
  await set(master, "key-0", "changed");
  await master.produce([bytes("one more")]);
  again.appendRecords(await master.readRecords(seq, 1 << 20));
  await new Promise<void>((resolve) => {
    again.listen({ kept: (kept) => void (kept === master.last.seq && resolve()) });
  });
  again.commit(master.last.seq);
  await again.close();
  const third = await reopen(fileSystem);
  third.commit(third.last.seq);
  expect(await content(third)).toEqual(await content(master));
  await third.close();
  await master.close();
});

test("what has come stays over restarts, and another file takes its place", async () => {
  const master = await compactedMaster();
  const fileSystem = new MemoryFileSystem();
  let replica = await replicaOf(master, fileSystem);
  const file = await master.openTransfer(NEVER);
  expect(await replica.stageTransfer(file.id, file.size)).toBe(0);
  await replica.writeTransfer(0, await file.read(0, 1000));
  await replica.close();
  replica = await reopen(fileSystem);
  expect(await replica.stageTransfer(file.id, file.size)).toBe(1000);
  await expect(replica.writeTransfer(2000, bytes("later"))).rejects.toThrow("the file ends at 1000");
  expect(await replica.stageTransfer(ANOTHER, 10)).toBe(0);
  expect(await filesIn(fileSystem, "incoming")).toEqual([ANOTHER]);
  await replica.markCaughtUp();
  expect(await filesIn(fileSystem, "incoming")).toEqual([]);
  await replica.close();
  await master.close();
});

test("a master gives its state away before a quorum has kept its first record, which may wait for just that", async () => {
  const master = await compactedMaster();
  const fileSystem = new MemoryFileSystem();
  const replica = await replicaOf(master, fileSystem);
  await send(master, replica);
  await replica.installTransfer();
  await replica.close();
  const next = await reopen(fileSystem);
  expect(next.caughtUp).toBe(false);
  await expect(next.openTransfer(NEVER)).rejects.toMatchObject({ code: "not_ready" });
  const id = epochId("0000000000000009");
  await next.promise({ epoch: epoch(9), candidate: next.nodeId, epochId: id }, "master");
  next.beginEpoch(epoch(9), id);
  expect(() => next.readPoint()).toThrow("never caught up");
  const third = await replicaOf(next);
  await send(next, third);
  expect((await third.installTransfer()).damage).toBeUndefined();
  await third.close();
  await next.close();
  await master.close();
});

test("a damaged file is found, whichever byte of it is wrong, and is gone; nothing else has changed", async () => {
  const master = await compactedMaster();
  const { size } = await master.openTransfer(NEVER);
  for (let wrong = 0; wrong < size; wrong += 301) {
    const fileSystem = new MemoryFileSystem();
    const replica = await replicaOf(master, fileSystem);
    let at = 0;
    await send(master, replica, (piece) => {
      const copy = Uint8Array.from(piece);
      if (wrong >= at && wrong < at + copy.length) copy[wrong - at]! ^= 4;
      at += piece.length;
      return copy;
    });
    expect((await replica.installTransfer()).damage, `byte ${wrong}`).toBeTruthy();
    expect(await filesIn(fileSystem, "incoming")).toEqual([]);
    await replica.close();
    const again = await reopen(fileSystem);
    expect(again.last.seq).toBe(0);
    await again.close();
  }
  await master.close();
});

test("the state of another cluster is refused as if it were damaged", async () => {
  const master = await compactedMaster();
  const other = await openStore({ initialRole: "replica" });
  await other.foundCluster();
  const replica = await openStore({ initialRole: "replica", random: seededRandom(99) });
  await replica.foundCluster();
  await send(master, replica);
  expect((await replica.installTransfer()).damage).toMatch(/it is of cluster/);
  for (const store of [master, other, replica]) await store.close();
});

test("records that only the replica has are saved", async () => {
  const master = await compactedMaster();
  const fileSystem = new MemoryFileSystem();
  const replica = await replicaOf(master, fileSystem);
  const lost = await openStore({ random: seededRandom(12) });
  await lost.joinCluster(master.clusterId!);
  await lost.promise({ epoch: master.promised.epoch, candidate: lost.nodeId });
  await beginSoleMastership(lost);
  await set(lost, "lost", "1");
  replica.appendRecords(await lost.readRecords(seq(0), 1 << 20));
  await send(master, replica);
  expect(await replica.installTransfer()).toEqual({});
  await replica.close();
  const diverged = (await filesIn(fileSystem, "")).find((name) => name.startsWith("diverged-"));
  expect(diverged).toMatch(/^diverged-2-1-2-/);
  expect(Buffer.from(fileSystem.bytes(diverged!)).includes("lost")).toBe(true);
  const again = await reopen(fileSystem);
  expect(again.last).toEqual(master.last);
  for (const store of [master, lost, again]) await store.close();
});

test("records that only the replica has, and that have rotted, keep it from nothing; what can be read of them is saved", async () => {
  const master = await compactedMaster();
  const fileSystem = new MemoryFileSystem();
  const replica = await replicaOf(master, fileSystem);
  const lost = await openStore({ random: seededRandom(12) });
  await lost.joinCluster(master.clusterId!);
  await lost.promise({ epoch: master.promised.epoch, candidate: lost.nodeId });
  await beginSoleMastership(lost);
  for (let i = 0; i < 20; i++) await set(lost, `lost-${i}`, "x".repeat(20));
  replica.appendRecords(await lost.readRecords(seq(0), 1 << 20));
  await send(master, replica);
  await replica.close();
  // Read from the disk from here on.
  const again = await reopen(fileSystem);
  await send(master, again);
  const [segment] = await fileSystem.list("wal");
  const bytes = fileSystem.bytes(`wal/${segment}`);
  bytes[Math.floor(bytes.length * 0.9)]! ^= 1;
  expect(await again.installTransfer()).toEqual({});
  await again.close();
  const installed = await reopen(fileSystem);
  expect(installed.last).toEqual(master.last);
  for (const store of [master, lost, installed]) await store.close();
});

describe("the file that a master sends", () => {
  test("is shared while it is fresh, holds the log that follows on it, and goes after ten idle minutes", async () => {
    const clock = new FakeClock();
    const fileSystem = new MemoryFileSystem();
    const master = await compactedMaster({ clock, fileSystem });
    const [one, two] = await Promise.all([master.openTransfer(NEVER), master.openTransfer(NEVER)]);
    expect(two.id).toBe(one.id);
    expect(await filesIn(fileSystem, "transfers")).toEqual([one.id]);
    const end = master.last.seq;
    for (let i = 0; i < 60; i++) await set(master, `key-${i}`, `later ${"z".repeat(100)}`);
    await master.createSnapshot();
    expect(master.compactSeq).toBeLessThanOrEqual(end);
    clock.advance(PIN_IDLE_MS - 1);
    expect(await one.read(0, 10)).toHaveLength(10);
    clock.advance(PIN_IDLE_MS - 1);
    expect((await master.openTransfer(NEVER)).id).toBe(one.id);
    clock.advance(PIN_IDLE_MS);
    await expect(one.read(0, 10)).rejects.toThrow("nothing was read for 10 minutes");
    expect((await master.openTransfer(NEVER)).id).not.toBe(one.id);
    await set(master, "one", "more");
    await master.close();
    expect(await filesIn(fileSystem, "transfers")).toEqual([]);
  });

  test("is replaced once somebody has found it damaged", async () => {
    const fileSystem = new MemoryFileSystem();
    const master = await compactedMaster({ fileSystem });
    const file = await master.openTransfer(NEVER);
    file.spoil();
    file.spoil();
    const other = await master.openTransfer(NEVER);
    expect(other.id).not.toBe(file.id);
    await master.close();
  });

  test("of the process before goes at the start", async () => {
    const fileSystem = new MemoryFileSystem();
    const master = await compactedMaster({ fileSystem });
    await master.openTransfer(NEVER);
    const left = fileSystem.copy();
    await master.close();
    expect(await filesIn(left, "transfers")).toHaveLength(1);
    const again = await reopen(left);
    expect(await filesIn(left, "transfers")).toEqual([]);
    await again.close();
  });

  test("leaves nothing behind when nobody waits for it any more", async () => {
    const fileSystem = new MemoryFileSystem();
    const master = await compactedMaster({ fileSystem });
    const abort = new AbortController();
    const waiting = master.openTransfer(abort.signal);
    abort.abort(new Error("nobody waits"));
    await expect(waiting).rejects.toThrow("nobody waits");
    await master.close();
    expect(await filesIn(fileSystem, "transfers")).toEqual([]);
  });
});

describe("a crash at any act of an installation", () => {
  test.each([
    ["that loses all that was not synced", (fileSystem: MemoryFileSystem) => fileSystem.crash()],
    ["of the process alone", (fileSystem: MemoryFileSystem) => fileSystem.copy()],
    [
      "that keeps names and loses content",
      (fileSystem: MemoryFileSystem) => fileSystem.crash({ names: (changes) => changes }),
    ],
  ])("%s leaves the old state or the new one, whole", async (_name, crash) => {
    const master = await compactedMaster();
    const expected = await content(master);
    const fileSystem = new WatchedFileSystem();
    const replica = await replicaOf(master, fileSystem);
    const { nodeId, promised } = replica;
    await send(master, replica);
    const left: MemoryFileSystem[] = [];
    fileSystem.changing = () => left.push(crash(fileSystem));
    await replica.installTransfer();
    const chosen = left.length;
    await replica.close();
    await (await reopen(fileSystem)).close();
    fileSystem.changing = () => {};
    expect(left.length).toBeGreaterThan(40);
    let installed = 0;
    for (const [at, remains] of left.entries()) {
      const again = await reopen(remains);
      expect(again, `crash before act ${at}`).toMatchObject({ nodeId, promised, role: "replica" });
      if (at > chosen || again.last.seq > 0) {
        installed++;
        await again.markCaughtUp();
        expect(await content(again), `crash before act ${at}`).toEqual(expected);
      }
      if (again.last.seq > 0) expect(await filesIn(remains, "incoming"), `crash before act ${at}`).toEqual([]);
      await again.close();
    }
    expect(installed).toBeGreaterThan(30);
    await master.close();
  });
});
