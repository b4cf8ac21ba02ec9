/** Nodes that have applied the same say the same of their state; any that differs in anything says something else. */
import { describe, expect, test } from "vitest";
import { must } from "../base/assert.js";
import { nodeId } from "../base/ids.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Member, StateCheck, Store, WriteCommand } from "./store.js";
import { applied, beginMastership, bytes, joinReplica, openStore, push, seededRandom, seq } from "./testing/stores.js";

const set = (key: string, value = "v"): WriteCommand => ({ kind: "set", key: bytes(key), value: bytes(value) });
const member = (digit: string, voter: boolean): Member => ({
  nodeId: nodeId(digit.repeat(32)),
  address: `${digit}:1`,
  voter,
  source: "listed",
  removed: false,
});

function checkOf(store: Store): StateCheck {
  return must(store.stateCheck(), "nothing is hidden");
}

async function master(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore({ segmentBytesMax: 4096, ...options });
  await beginMastership(store);
  return store;
}

async function follow(from: Store, to: Store): Promise<void> {
  await push(from, to);
  to.commit(to.last.seq);
  await applied(to, to.last.seq);
}

/** A little of everything that is replicated. */
async function fill(store: Store): Promise<void> {
  for (let i = 0; i < 40; i++) {
    await store.write([set(`key-${i % 7}`, `value-${i}`), { ...set(`brief-${i}`), ttlMs: 1000 + i } as WriteCommand]);
    await store.produce([bytes(`record-${i}`), bytes("x".repeat(100))]);
    if (i % 5 === 0) await store.write([{ kind: "delete", key: bytes(`key-${i % 7}`) }]);
  }
  await store.proposeMember(member("a", true));
  await store.proposeMember(member("b", false));
  await store.truncateRecords(30);
}

/** What a replica says when it is told what the master's state is, once it has all of it. */
async function differences(from: Store, to: Store): Promise<string[]> {
  const told: string[] = [];
  to.listen({ stateDiffers: (detail) => told.push(detail) });
  to.expectState(checkOf(from));
  await follow(from, to);
  return told;
}

describe("the checksum of the state", () => {
  test("is the same on a replica that followed, on one that got it whole, and after restarts with and without snapshots", async () => {
    const disk = new MemoryFileSystem();
    const store = await master({ fileSystem: disk });
    await fill(store);
    const follower = await joinReplica(store, { segmentBytesMax: 4096 });
    await follow(store, follower);
    await store.createSnapshot();
    await fill(store);
    await follow(store, follower);
    const late = new MemoryFileSystem();
    const receiver = await joinReplica(store, { fileSystem: late, random: seededRandom(3) });
    const transfer = await store.openTransfer(new AbortController().signal);
    await receiver.stageTransfer(transfer.id, transfer.size);
    await receiver.writeTransfer(0, await transfer.read(0, transfer.size));
    await receiver.installTransfer();
    await receiver.close();
    const installed = await openStore({ fileSystem: late });
    await follow(store, installed);
    const check = checkOf(store);
    expect(check.seq).toBe(store.appliedSeq);
    expect(checkOf(follower)).toEqual(check);
    expect(checkOf(installed)).toEqual(check);
    // Killed, it comes back a few records behind, and with the segments gone that a later record has truncated.
    const killed = await openStore({ fileSystem: disk.copy(), engine: new MapEngine(), segmentBytesMax: 4096 });
    await follow(store, killed);
    expect(checkOf(killed)).toEqual(check);
    await Promise.all([store.close(), follower.close(), installed.close(), killed.close()]);
  });

  test("is another one after any change of anything", async () => {
    const store = await master();
    await fill(store);
    const seen = new Set([checkOf(store).checksum]);
    const changes: (() => Promise<unknown>)[] = [
      () => store.write([set("new")]),
      () => store.write([set("new", "changed")]),
      () => store.write([{ kind: "delete", key: bytes("key-1") }]),
      () => store.produce([bytes("one more")]),
      () => store.truncateRecords(31),
      () => store.proposeMember(member("a", false)),
      () => store.proposeMember(member("c", false)),
      () => store.proposeSettings({ commit: "majority", voters: "master" }),
      () => store.proposeSettings({ commit: "majority", voters: "listed" }),
    ];
    for (const change of changes) {
      await change();
      seen.add(checkOf(store).checksum);
    }
    expect(seen.size).toBe(changes.length + 1);
    await store.close();
  });

  test("does not depend on where the disk lets the record log begin, but on where the log says", async () => {
    const disk = new MemoryFileSystem();
    const store = await master({ fileSystem: disk });
    for (let i = 0; i < 200; i++) await store.produce([bytes(`record-${i}-${"x".repeat(50)}`)]);
    await store.createSnapshot();
    const before = checkOf(store);
    await store.truncateRecords(200);
    await new Promise((resolve) => setImmediate(resolve));
    const truncated = checkOf(store);
    // The next process does not know yet that the truncation was committed, but what it took from the disk is gone.
    const killed = await openStore({ fileSystem: disk.copy(), engine: new MapEngine(), segmentBytesMax: 4096 });
    expect(killed.appliedSeq).toBe(before.seq);
    expect(killed.recordRange().start).toBeGreaterThan(100);
    expect(checkOf(killed)).toEqual(before);
    // Nor does it matter to who gets the state from there.
    const late = new MemoryFileSystem();
    const receiver = await joinReplica(store, { fileSystem: late, random: seededRandom(3) });
    const transfer = await killed.openTransfer(new AbortController().signal);
    await receiver.stageTransfer(transfer.id, transfer.size);
    await receiver.writeTransfer(0, await transfer.read(0, transfer.size));
    await receiver.installTransfer();
    await receiver.close();
    const installed = await openStore({ fileSystem: late });
    expect(checkOf(installed)).toEqual(before);
    for (const node of [killed, installed]) {
      await follow(store, node);
      expect(checkOf(node)).toEqual(truncated);
    }
    await Promise.all([store.close(), killed.close(), installed.close()]);
  });
});

describe("a state that is expected", () => {
  test("is compared when exactly its seq is applied, also in the midst of others", async () => {
    const store = await master();
    await fill(store);
    const replica = await joinReplica(store);
    const told: string[] = [];
    replica.listen({ stateDiffers: (detail) => told.push(detail) });
    await follow(store, replica);
    replica.expectState(checkOf(store));
    expect(told).toEqual([]);
    const first = await store.write([set("a")]);
    const check = checkOf(store);
    await store.write([set("b")]);
    await push(store, replica);
    replica.expectState({ ...check, checksum: (check.checksum ^ 1) >>> 0 });
    // A later one does not replace it.
    replica.expectState(checkOf(store));
    replica.commit(replica.last.seq);
    expect(told).toEqual([expect.stringContaining(`at seq ${first.position.seq} `)]);
    // What has passed is no matter any more.
    replica.expectState({ ...check, checksum: 7 });
    expect(told).toHaveLength(1);
    replica.expectState({ seq: replica.appliedSeq, checksum: 7 });
    expect(told).toHaveLength(2);
    await Promise.all([store.close(), replica.close()]);
  });

  test("is told by a replica whose record log, engine or members differ", async () => {
    const store = await master();
    await fill(store);
    const engine = new MapEngine();
    const replica = await joinReplica(store, { engine });
    expect(await differences(store, replica)).toEqual([]);
    engine.restore({ key: bytes("key-1"), value: bytes("rotten"), createSeq: seq(1), modSeq: seq(2) });
    await store.write([set("a")]);
    expect(await differences(store, replica)).toHaveLength(1);
    await Promise.all([store.close(), replica.close()]);
  });

  test("is forgotten where another mastership begins before it, for that one may have another history", async () => {
    const store = await master();
    const replica = await joinReplica(store);
    const told: string[] = [];
    replica.listen({ stateDiffers: (detail) => told.push(detail) });
    await follow(store, replica);
    await store.write([set("lost")]);
    // Said by a master whose record nobody else got.
    replica.expectState(checkOf(store));
    await beginMastership(replica);
    await replica.write([set("won")]);
    expect(replica.appliedSeq).toBeGreaterThan(store.appliedSeq);
    expect(told).toEqual([]);
    await Promise.all([store.close(), replica.close()]);
  });

  test("is forgotten at a cut", async () => {
    const store = await master();
    const replica = await joinReplica(store);
    const told: string[] = [];
    replica.listen({ stateDiffers: (detail) => told.push(detail) });
    await store.write([set("a")]);
    await follow(store, replica);
    replica.expectState({ seq: seq(3), checksum: 7 });
    await replica.cutAfter(seq(1));
    await follow(store, replica);
    await store.write([set("b")]);
    await follow(store, replica);
    expect(replica.appliedSeq).toBe(3);
    expect(told).toEqual([]);
    await Promise.all([store.close(), replica.close()]);
  });
});
