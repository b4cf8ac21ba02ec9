/** What is told of a directory whose next start has something to do before it may read the data. */
import { expect, test } from "vitest";
import type { TransferId } from "../base/ids.js";
import { MapEngine } from "../engine/map-engine.js";
import type { Finding } from "../wal/inspect.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { inspectDirectory } from "./inspect.js";
import type { Store } from "./store.js";
import { FaultyFileSystem } from "./testing/faulty-file-system.js";
import { applied, beginSoleMastership, bytes, joinReplica, openStore, push } from "./testing/stores.js";

const SMALL = { segmentBytesMax: 4096 };

async function filledMaster(): Promise<Store> {
  const store = await openStore(SMALL);
  await beginSoleMastership(store);
  for (let i = 0; i < 60; i++) {
    await store.write([{ kind: "set", key: bytes(`key-${i % 7}`), value: bytes(`${i}:${"x".repeat(50)}`) }]);
    await store.produce([bytes("x".repeat(50))]);
  }
  return store;
}

async function replicaOf(master: Store, disk: MemoryFileSystem): Promise<Store> {
  const replica = await joinReplica(master, { ...SMALL, fileSystem: disk });
  await push(master, replica);
  replica.commit(replica.last.seq);
  await applied(replica, replica.last.seq);
  await replica.markCaughtUp();
  await replica.createSnapshot();
  return replica;
}

async function findingsIn(disk: MemoryFileSystem, isHeld = false): Promise<readonly Finding[]> {
  const options = { fileSystem: disk, isHeld: () => Promise.resolve(isHeld), pause: () => Promise.resolve() };
  return (await inspectDirectory(options)).findings;
}

const kindsOf = (findings: readonly Finding[]): string[] => [...new Set(findings.map(({ kind }) => kind))].sort();

/** What a kill leaves at each act of the next start, from none to all of them. */
async function* killsOfTheNextStart(disk: MemoryFileSystem): AsyncGenerator<MemoryFileSystem> {
  for (let after = 0, ended = true; ended; after++) {
    ended = false;
    let left = disk.copy();
    const faulty = new FaultyFileSystem(left);
    faulty.stopAt(after, () => {
      ended = true;
      left = faulty.memory.copy();
    });
    const started = await openStore({ ...SMALL, fileSystem: faulty, engine: new MapEngine() }).catch(() => undefined);
    await started?.close().catch(() => "its end came before");
    yield left;
  }
}

test("data that is to be set aside is told so, whatever is wrong with it, until it is", async () => {
  const master = await filledMaster();
  const disk = new MemoryFileSystem();
  const replica = await replicaOf(master, disk);
  expect(await findingsIn(disk, true)).toEqual([]);
  await replica.setAside("its state differs");
  expect(kindsOf(await findingsIn(disk, true))).toEqual(["in_flight"]);
  await replica.close();

  const planned = await findingsIn(disk);
  expect(planned).toMatchObject([{ kind: "torn", file: "node.json" }]);
  expect(planned[0]!.reason).toMatch(/set-aside-\d+, .*: its state differs$/);
  const segment = disk.paths().find((path) => path.startsWith("wal/") && path.endsWith(".wal"))!;
  const damaged = disk.copy();
  damaged.setBytes(segment, damaged.bytes(segment).fill(7, 20, 30));
  expect(kindsOf(await findingsIn(damaged))).toEqual(["given_up", "torn"]);

  const seen = new Set<string>();
  for await (const left of killsOfTheNextStart(disk)) {
    const kinds = kindsOf(await findingsIn(left));
    for (const kind of kinds) seen.add(kind);
    expect(kinds.filter((kind) => kind !== "given_up" && kind !== "torn")).toEqual([]);
  }
  // In the midst of it a part of the log is here and a part is there.
  expect([...seen].sort()).toEqual(["given_up", "torn"]);
  await master.close();
});

test("a state that is to be put in place is checked itself, and the data that it replaces does not matter", async () => {
  const master = await filledMaster();
  await master.createSnapshot();
  const disk = new MemoryFileSystem();
  const replica = await replicaOf(master, disk);
  const file = await master.openTransfer(new AbortController().signal);
  await replica.stageTransfer(file.id, file.size);
  for (let at = 0; at < file.size;) {
    const piece = await file.read(at, 1000);
    await replica.writeTransfer(at, piece);
    at += piece.length;
  }
  expect(await findingsIn(disk, true)).toEqual([]);
  expect(await replica.installTransfer()).toEqual({});
  await replica.close();

  const staged = (id: TransferId): string => `incoming/${id}`;
  expect(await findingsIn(disk)).toMatchObject([{ kind: "torn", file: staged(file.id) }]);
  const damaged = disk.copy();
  damaged.setBytes(staged(file.id), damaged.bytes(staged(file.id)).fill(7, 500, 510));
  expect(await findingsIn(damaged)).toMatchObject([
    { kind: "corrupt", file: staged(file.id), offset: expect.any(Number) as number },
  ]);
  await damaged.remove(staged(file.id));
  expect(await findingsIn(damaged)).toMatchObject([{ kind: "corrupt", file: staged(file.id) }]);

  let kills = 0;
  for await (const left of killsOfTheNextStart(disk)) {
    const kinds = kindsOf(await findingsIn(left));
    expect(kinds.filter((kind) => kind !== "given_up" && kind !== "torn")).toEqual([]);
    kills++;
  }
  expect(kills).toBeGreaterThan(20);
  await master.close();
});
