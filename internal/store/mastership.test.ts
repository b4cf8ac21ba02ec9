/** Who is master, who votes, and how the cluster decides: what of it is durable, and what the log says. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { clusterId, epochId, nodeId } from "../base/ids.js";
import { silentLogger } from "../base/logger.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { restoreBackup } from "./restore.js";
import type { ClusterChange, Member } from "./store.js";
import { FaultyFileSystem } from "./testing/faulty-file-system.js";
import {
  beginMastership,
  beginSoleMastership,
  bytes,
  epoch,
  joinReplica,
  openStore,
  seededRandom,
  seq,
} from "./testing/stores.js";

const OTHER = nodeId("ab".repeat(16));
const ID = epochId("cd".repeat(8));
const member = (id: Member["nodeId"], voter: boolean): Member => ({
  nodeId: id,
  address: `${id.slice(0, 4)}:1`,
  voter,
  source: "listed",
  removed: false,
});
const LISTED: ClusterChange = { kind: "settings", settings: { commit: "majority", voters: "listed" } };

describe("a promise", () => {
  test("and the role that comes with it are one write", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await openStore({ fileSystem, initialRole: "replica" });
    const renames: string[] = [];
    fileSystem.onOperation = (operation, path) => operation === "rename" && renames.push(path);
    await store.promise({ epoch: epoch(3), candidate: store.nodeId, epochId: ID }, "master");
    expect([store.role, store.promised.epoch, renames.length]).toEqual(["master", 3, 1]);
    const again = await openStore({ fileSystem: fileSystem.crash() });
    expect([again.role, again.promised]).toEqual(["master", { epoch: 3, candidate: store.nodeId, epochId: ID }]);
  });

  test("of an epoch is given once, also when two are asked for at the same time", async () => {
    const store = await openStore({ initialRole: "replica" });
    const first = store.promise({ epoch: epoch(3), candidate: OTHER, epochId: ID });
    const second = store.promise({ epoch: epoch(3), candidate: store.nodeId, epochId: epochId("ef".repeat(8)) });
    await first;
    await expect(second).rejects.toThrow("was promised to");
    expect(store.promised.candidate).toBe(OTHER);
    // The very same again changes nothing.
    await store.promise({ epoch: epoch(3), candidate: OTHER, epochId: ID });
    await store.close();
  });

  test("never goes back, also behind one that is still being written", async () => {
    const store = await openStore({ initialRole: "replica" });
    const first = store.promise({ epoch: epoch(5), candidate: OTHER, epochId: ID });
    await expect(store.promise({ epoch: epoch(4) })).rejects.toThrow("below the promised 5");
    await first;
    expect(store.promised.epoch).toBe(5);
    await store.close();
  });
});

test("a role that was saved stays over a restart", async () => {
  const fileSystem = new MemoryFileSystem();
  const first = await openStore({ fileSystem, initialRole: "master" });
  expect(first.foundsWhenEmpty).toBe(true);
  await first.saveRole("replica");
  expect(first.role).toBe("replica");
  await first.close();
  const second = await openStore({ fileSystem, initialRole: "master" });
  expect([second.role, second.isEmpty]).toEqual(["replica", true]);
  await second.close();
});

test("a master ends its mastership before it becomes a replica", async () => {
  const store = await openStore();
  await beginMastership(store, { epoch: 1 });
  await expect(store.saveRole("replica")).rejects.toThrow("ends its mastership");
  store.endMastership();
  await store.saveRole("replica");
  await expect(store.write([{ kind: "delete", key: bytes("a") }])).rejects.toMatchObject({ code: "not_master" });
  await store.close();
});

describe("the settings of the cluster", () => {
  test("come with the first record of an epoch, and its members", async () => {
    const store = await openStore();
    expect(store.settings).toEqual({ commit: "master", voters: "master" });
    let told = 0;
    store.listen({ settingsChanged: () => told++ });
    await beginMastership(store, {
      epoch: 1,
      changes: [LISTED, { kind: "member", member: member(store.nodeId, true) }],
    });
    expect([store.settings, store.last.seq, told]).toEqual([{ commit: "majority", voters: "listed" }, 1, 1]);
    expect(store.members).toEqual([member(store.nodeId, true)]);
    await store.proposeSettings({ commit: "master", voters: "listed" });
    expect([store.settings, store.status().settings, told]).toEqual([store.settings, store.settings, 2]);
    expect(store.settings.commit).toBe("master");
    await store.close();
  });

  test("and forced epochs stay through a restart, with and without a snapshot", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await openStore({ fileSystem });
    await beginMastership(store, { epoch: 1, changes: [LISTED] });
    await beginMastership(store, { epoch: 1_000_002, forced: true });
    const { starts } = store.history;
    expect(starts.map(({ forced }) => forced)).toEqual([undefined, true]);
    for (const snapshots of [false, true]) {
      if (snapshots) await store.createSnapshot();
      const again = await openStore({ fileSystem: fileSystem.copy() });
      expect([again.settings.voters, again.history.starts]).toEqual(["listed", starts]);
      await again.close();
    }
    expect(store.compactSeq).toBe(store.last.seq);
    await store.close();
  });

  test("go to the replicas with a transfer, and forced epochs with them; a restored node decides anew", async () => {
    const store = await openStore();
    await beginMastership(store, { epoch: 1, changes: [LISTED, { kind: "member", member: member(OTHER, true) }] });
    await beginMastership(store, { epoch: 1_000_002, forced: true });
    const disk = new MemoryFileSystem();
    const replica = await joinReplica(store, { fileSystem: disk });
    const transfer = await store.openTransfer(new AbortController().signal);
    await replica.stageTransfer(transfer.id, transfer.size);
    await replica.writeTransfer(0, await transfer.read(0, transfer.size));
    expect(await replica.installTransfer()).toEqual({});
    await replica.close();
    const installed = await openStore({ fileSystem: disk });
    expect(installed.settings).toEqual(store.settings);
    expect(installed.members).toEqual(store.members);
    expect(installed.history.starts).toEqual(store.history.starts);
    await installed.close();

    const pieces: Uint8Array[] = [];
    for await (const piece of store.backup().bytes) pieces.push(piece);
    const restoredDisk = new MemoryFileSystem();
    await restoreBackup({
      fileSystem: restoredDisk,
      clock: new FakeClock(),
      random: seededRandom(3),
      logger: silentLogger,
      engine: new MapEngine(),
      read: async function* () {
        yield* pieces;
      },
      keepClusterId: false,
      recordSegmentBytesMax: 1 << 20,
    });
    const restored = await openStore({ fileSystem: restoredDisk });
    expect(restored.settings).toEqual({ commit: "master", voters: "master" });
    expect(restored.history.starts).toEqual(store.history.starts);
    await Promise.all([store.close(), restored.close()]);
  });
});

describe("the one vote that goes with mastership", () => {
  test("is taken from every other member by the record that begins the epoch", async () => {
    const store = await openStore();
    await beginSoleMastership(store);
    await store.proposeMember(member(OTHER, true));
    await store.proposeMember(member(store.nodeId, false));
    let told = 0;
    store.listen({ membersChanged: () => told++ });
    await beginMastership(store, { epoch: 2 });
    expect(store.members).toEqual([member(OTHER, false), member(store.nodeId, true)]);
    expect(told).toBe(1);
    await beginMastership(store, { epoch: 3 });
    expect(told).toBe(1);
    await store.close();
  });

  test("is no matter where voters are listed", async () => {
    const store = await openStore();
    await beginMastership(store, { epoch: 1, changes: [LISTED, { kind: "member", member: member(OTHER, true) }] });
    await beginMastership(store, { epoch: 2 });
    expect(store.members).toEqual([member(OTHER, true)]);
    await store.close();
  });

  test("goes back when the epoch that took it is cut", async () => {
    const store = await openStore();
    await beginSoleMastership(store);
    await store.proposeMember(member(OTHER, true));
    await store.proposeMember(member(store.nodeId, false));
    const before = { members: store.members, seq: store.last.seq };
    await beginMastership(store, { epoch: 2, changes: [LISTED] });
    store.endMastership();
    await store.cutAfter(seq(before.seq));
    expect(store.members).toEqual(before.members);
    expect(store.settings.voters).toBe("master");
    expect(store.history.starts.map(({ epoch: number }) => number)).toEqual([1]);
    await store.close();
  });
});

test("a store is empty until its first record, cluster or not", async () => {
  const store = await openStore();
  expect(store.isEmpty).toBe(true);
  await store.foundCluster();
  expect(store.isEmpty).toBe(true);
  await beginMastership(store, { epoch: 1 });
  expect(store.isEmpty).toBe(false);
  expect(store.mustCatchUp).toBe(false);
  await store.close();
});

test("joining a cluster goes on where a full or failing disk broke it off, whichever operation that was", async () => {
  const [id, other] = [clusterId("12".repeat(16)), clusterId("34".repeat(16))];
  const done = ["nothing", "all", "part"] as const;
  let failures = 0;
  for (let failing = 0, operations = Infinity; failing < operations; failing++) {
    const fileSystem = new FaultyFileSystem(new MemoryFileSystem());
    const store = await openStore({ fileSystem, initialRole: "replica" });
    const before = fileSystem.operations;
    fileSystem.inject([{ after: failing, code: "ENOSPC", done: done[failing % 3]! }]);
    await store.joinCluster(id).catch(async (error: unknown) => {
      failures++;
      expect(String(error)).toContain("ENOSPC");
      if (store.clusterId) await expect(store.joinCluster(other)).rejects.toThrow("has begun to join");
      await store.joinCluster(id);
    });
    operations = Math.min(operations, fileSystem.operations - before);
    expect([store.clusterId, store.last.seq, store.isEmpty]).toEqual([id, 0, true]);
    await store.close();
    const again = await openStore({ fileSystem: fileSystem.memory.crash() });
    expect([again.clusterId, again.isEmpty]).toEqual([id, true]);
    await again.close();
  }
  expect(failures).toBeGreaterThan(5);
});
