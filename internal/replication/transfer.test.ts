import { afterEach, beforeEach, expect, test } from "vitest";
import type { MasterMessage } from "./core/message.js";
import { Cluster, type TestNode } from "./testing/cluster.js";

let cluster: Cluster;
beforeEach(() => (cluster = new Cluster()));
afterEach(() => cluster.close());

/** A master that has let go of all that it has, and what a replica sees of it. */
async function compactedMaster(records = 60): Promise<TestNode> {
  const master = await cluster.start("master", "m:1", {
    listedReplicas: ["r:1", "r:2"],
    batchBytes: 500,
    windowBytes: 1200,
  });
  for (let i = 0; i < records; i++) master.store.write(`record ${i} ${"x".repeat(50)}`);
  await cluster.settle();
  master.store.compact(0);
  return master;
}

/** The chunks that have arrived. */
function chunks(): { from: number; bytes: number; id: string }[] {
  const seen: { from: number; bytes: number; id: string }[] = [];
  const { heard } = cluster.network;
  cluster.network.heard = (message, wire) => {
    heard(message, wire);
    const { kind } = message as MasterMessage;
    if (kind === "snapshotChunk") {
      const { id, offset, bytes } = message as Extract<MasterMessage, { kind: "snapshotChunk" }>;
      seen.push({ id, from: offset, bytes: bytes.length });
    }
  };
  return seen;
}

const replica = (address = "r:1"): TestNode => cluster.node(address);

test("an empty replica of a cluster whose log has been compacted gets the whole state, and then the log", async () => {
  const master = await compactedMaster();
  const seen = chunks();
  await cluster.start("replica", "r:1");
  await cluster.pass(10_000);
  expect(replica().store.installed).toBe(true);
  expect(replica().store.records).toEqual(master.store.records);
  expect(seen.length).toBeGreaterThan(5);
  expect(Math.max(...seen.map(({ bytes }) => bytes))).toBeLessThanOrEqual(500);
  master.store.write("after");
  await cluster.settle();
  expect(replica().store.appliedSeq).toBe(master.store.last.seq);
  expect(replica().store.disk.caughtUp).toBe(true);
});

test("a replica that was absent for long goes on serving what it had, and gets the whole state in its place", async () => {
  const master = await cluster.start("master", "m:1", { listedReplicas: ["r:1"], batchBytes: 500, windowBytes: 1200 });
  await cluster.start("replica", "r:1");
  master.store.write("early");
  await cluster.pass(5000);
  const disk = await cluster.crash("r:1");
  for (let i = 0; i < 60; i++) master.store.write(`record ${i} ${"x".repeat(50)}`);
  await cluster.settle();
  master.store.compact(0);
  const before = disk.appliedSeq;
  await cluster.start("replica", "r:1", { disk });
  expect(before).toBeGreaterThan(0);
  await cluster.pass(10_000);
  expect(replica().store.installed).toBe(true);
  expect(replica().store.records).toEqual(master.store.records);
  expect(disk.diverged).toEqual([]);
});

test("what only a replica has is saved before the master's state takes its place", async () => {
  await cluster.start("replica", "r:1");
  const master = await cluster.start("master", "m:1", { listedReplicas: ["r:1"] });
  await cluster.pass(1000);
  master.store.pace = "told";
  master.store.write("lost");
  master.store.tellWritten();
  await cluster.settleGathered();
  expect(replica().store.records.at(-1)?.text).toBe("lost");
  const left = await cluster.crash("r:1");
  const again = await cluster.restart("m:1");
  for (let i = 0; i < 10; i++) again.store.write(`kept ${i}`);
  await cluster.settle();
  again.store.compact(0);
  await cluster.start("replica", "r:1", { disk: left });
  await cluster.pass(10_000);
  expect(left.diverged.flat().map(({ text }) => text)).toEqual(["lost"]);
  expect(replica().store.records).toEqual(again.store.records);
});

test("two replicas that lack the same are sent the same file", async () => {
  await compactedMaster();
  const seen = chunks();
  await cluster.start("replica", "r:1");
  await cluster.start("replica", "r:2");
  await cluster.pass(10_000);
  expect(new Set(seen.map(({ id }) => id)).size).toBe(1);
  expect(replica("r:1").store.records).toEqual(replica("r:2").store.records);
});

test("a transfer goes on where it was, whichever message the connection breaks after, and if the replica restarts", async () => {
  const whole = await (async () => {
    await compactedMaster();
    const seen = chunks();
    await cluster.start("replica", "r:1");
    await cluster.pass(10_000);
    await cluster.close();
    return seen.reduce((sum, { bytes }) => sum + bytes, 0);
  })();
  for (const how of ["sever", "restart"] as const) {
    for (let messages = 1; messages < 40; messages += how === "sever" ? 1 : 3) {
      cluster = new Cluster();
      const master = await compactedMaster();
      const seen = chunks();
      const { heard } = cluster.network;
      let left = messages;
      let broken = false;
      cluster.network.heard = (message, wire) => {
        heard(message, wire);
        if (--left === 0) broken = true;
      };
      await cluster.start("replica", "r:1", { masterAddress: "m:1" });
      for (let i = 0; i < 200 && !broken; i++) {
        cluster.network.deliver();
        await new Promise((resolve) => setImmediate(resolve));
        if (i % 20 === 0) cluster.clock.advance(100);
      }
      if (how === "sever") cluster.network.sever("r:1");
      else await cluster.restart("r:1", Infinity);
      await cluster.pass(10_000, 500);
      const what = `${how} after ${messages} messages`;
      expect(replica().store.records, what).toEqual(master.store.records);
      // What arrived once was not sent again, but for what was under way.
      const sent = seen.reduce((sum, { bytes }) => sum + bytes, 0);
      expect(sent, what).toBeLessThanOrEqual(whole + 1200 + 500);
      await cluster.close();
    }
  }
});

test("a damaged file is thrown away on both sides, and another one comes", async () => {
  const master = await compactedMaster();
  await cluster.start("replica", "r:1");
  for (let i = 0; i < 1000 && (replica().store.disk.incoming?.bytes.length ?? 0) < 800; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!cluster.network.deliver()) cluster.clock.advance(100);
  }
  const { disk } = replica().store;
  disk.incoming!.bytes = Buffer.from(disk.incoming!.bytes).fill(0, 0, 1);
  await cluster.pass(10_000);
  expect(master.store.spoiled).toBe(1);
  expect(master.complaints.join()).toMatch(/damaged_snapshot/);
  expect(replica().store.records).toEqual(master.store.records);
});

test("a replica whose disk has no room keeps what it had, and takes the rest once there is some", async () => {
  const master = await compactedMaster();
  await cluster.start("replica", "r:1");
  replica().store.failing = new Error("no room");
  await cluster.pass(8000, 400);
  expect(replica().store.installed).toBe(false);
  expect(master.replicator.members().find(({ address }) => address === "r:1")?.state).not.toBe("streaming");
  replica().store.failing = undefined;
  await cluster.pass(10_000, 400);
  expect(replica().store.records).toEqual(master.store.records);
});

test("while the state is being got ready and checked, however long that takes, both stay in touch and say so", async () => {
  const master = await compactedMaster();
  master.store.held = [];
  await cluster.start("replica", "r:1", { masterAddress: "m:1" });
  await cluster.pass(20_000, 500);
  const seen = (): string | undefined => master.replicator.members().find(({ address }) => address === "r:1")?.state;
  expect(seen()).toBe("transferring");
  const connections = cluster.network.wires.length;
  master.store.release();
  const hasAll = (): boolean => {
    const { incoming } = replica().store.disk;
    return incoming !== undefined && incoming.bytes.length === incoming.size;
  };
  for (let i = 0; i < 1000 && !hasAll(); i++) {
    await new Promise((resolve) => setImmediate(resolve));
    cluster.network.deliver();
  }
  replica().store.held = [];
  await cluster.pass(20_000, 500);
  expect(seen()).toBe("transferring");
  expect(cluster.network.wires.length).toBe(connections);
  replica().store.release();
  await cluster.pass(5000, 500);
  expect(seen()).toBe("streaming");
});
