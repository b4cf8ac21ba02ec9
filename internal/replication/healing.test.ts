import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WalError } from "../store/store.js";
import { Cluster, type TestNode } from "./testing/cluster.js";

let cluster: Cluster;
let master: TestNode;
beforeEach(async () => {
  cluster = new Cluster();
  master = await cluster.start("master", "m:1", { listedReplicas: ["r:1"] });
  await cluster.start("replica", "r:1");
  for (let i = 0; i < 10; i++) master.store.write(`record ${i}`);
  await cluster.pass(5000);
});
afterEach(() => cluster.close());

const replica = (): TestNode => cluster.node("r:1");

describe("a replica whose state is not its master's", () => {
  test("sets it aside, starts anew without it, and gets all of it again", async () => {
    const before = replica();
    before.store.disk.rotten = true;
    // In quiet times a check comes every few heartbeats.
    await cluster.pass(5000);
    expect(replica()).not.toBe(before);
    expect(cluster.renewals).toBe(1);
    const { disk } = replica().store;
    expect(disk.setAside.map((records) => records.length)).toEqual([before.store.records.length]);
    expect(replica().store.nodeId).toBe(before.store.nodeId);
    expect(replica().store.records).toEqual(master.store.records);
    expect(replica().store.stateCheck()).toEqual(master.store.stateCheck());
    expect(replica().store.mustCatchUp).toBe(false);
    expect(before.store.disk.settingAside).toMatch(/at seq \d+/);
  });

  test.each(["cut", "compared"] as const)(
    "or whose log is damaged where it has to be %s to follow its master, starts anew as well",
    async (act) => {
      const before = replica();
      const damaged = (): Promise<never> => Promise.reject(new WalError("corrupt", "the log is damaged"));
      if (act === "cut") before.store.cutAfter = damaged;
      else before.store.mark = damaged;
      // The master has lost what the replica has.
      await cluster.restart("m:1", -5);
      cluster.node("m:1").store.write("instead");
      await cluster.pass(8000);
      expect(replica()).not.toBe(before);
      expect(before.store.disk.settingAside).toContain("the log is damaged");
      expect(replica().store.records).toEqual(cluster.node("m:1").store.records);
    },
  );

  test("follows nobody and votes for nobody from the moment that it is found out", async () => {
    const before = replica();
    before.store.disk.rotten = true;
    before.store.held = [];
    await cluster.pass(5000);
    expect(replica()).toBe(before);
    const { nodeId, clusterId } = master.store;
    expect(before.replicator.members()).not.toEqual([]);
    expect(cluster.network.wires).toEqual([]);
    const request = {
      clusterId: clusterId!,
      candidate: nodeId,
      address: "m:1",
      epoch: before.store.promised.epoch,
      epochId: before.store.promised.epochId!,
      last: { epoch: master.store.last.epoch, seq: master.store.last.seq },
      forced: false,
      promisedEpoch: before.store.promised.epoch,
    };
    const reply = await before.replicator.requestPromise({
      ...request,
      epoch: (request.epoch + 5) as typeof request.epoch,
    });
    expect(reply).toMatchObject({ refusal: "busy", detail: expect.stringContaining("set aside") });
    for (const force of [false, true]) {
      await expect(before.replicator.promote({ force })).rejects.toMatchObject({
        code: "refused",
        message: expect.stringContaining("set aside"),
      });
    }
    before.store.release();
    await cluster.pass(8000);
    expect(replica().store.records).toEqual(master.store.records);
  });

  test("does so although its disk is full at first, and the process lives on meanwhile", async () => {
    const before = replica();
    before.store.disk.rotten = true;
    before.store.refusals = 3;
    await cluster.pass(5000);
    expect(before.complaints.filter((complaint) => complaint.includes("took no note"))).toEqual([
      "the disk of this node took no note; trying on: ENOSPC: no space left on the disk",
    ]);
    await cluster.pass(10_000);
    expect(replica()).not.toBe(before);
    expect(replica().store.records).toEqual(master.store.records);
  });

  test("is found out under load, too, as soon as there is a quiet moment", async () => {
    replica().store.disk.rotten = true;
    for (let i = 0; i < 20; i++) {
      master.store.write(`load ${i}`);
      await cluster.pass(100);
    }
    await cluster.pass(5000);
    expect(cluster.renewals).toBe(1);
    expect(replica().store.records).toEqual(master.store.records);
  });
});

test("a master whose own state is wrong makes its replica start anew once in an hour, and not on and on", async () => {
  master.store.disk.rotten = true;
  await cluster.pass(60_000, 500);
  expect(cluster.renewals).toBe(1);
  expect(replica().store.disk.setAside).toHaveLength(1);
  expect(
    replica().complaints.filter((complaint) => complaint.includes("the master's own may be the wrong one")),
  ).toHaveLength(1);
  master.store.write("more");
  await cluster.pass(1000);
  expect(replica().store.records).toEqual(master.store.records);
  await cluster.pass(3_600_000, 60_000);
  await cluster.pass(20_000, 500);
  expect(cluster.renewals).toBe(2);
});

test("two voters whose states both differ set them aside one after the other, and never while the other lacks something", async () => {
  const other = new Cluster();
  const [voter] = (await other.found(["a:1", "b:1", "c:1"])) as [TestNode];
  for (let i = 0; i < 10; i++) voter.store.write(`record ${i}`);
  await other.pass(5000);
  // By the same mistake, or since it is the master that is wrong.
  for (const address of ["b:1", "c:1"]) other.node(address).store.disk.rotten = true;
  for (let i = 0; i < 200; i++) {
    await other.pass(100);
    const without = ["b:1", "c:1"].filter((address) => other.node(address).store.last.seq < voter.store.last.seq);
    expect(without.length).toBeLessThan(2);
  }
  expect(other.renewals).toBe(2);
  for (const address of ["b:1", "c:1"]) {
    expect(other.node(address).store.stateCheck()).toEqual(voter.store.stateCheck());
    expect(other.node(address).store.disk.setAside).toHaveLength(1);
  }
  // Nor while a voter is away.
  await other.crash("c:1");
  other.node("b:1").store.disk.rotten = true;
  other.node("b:1").store.disk.setAsideMs = undefined;
  await other.pass(20_000, 500);
  expect(other.renewals).toBe(2);
  await other.close();
});

test("replicas take turns in being checked, however many there are and however rarely they are asked", async () => {
  const other = new Cluster();
  const addresses = ["x:1", "y:1", "z:1"];
  const options = { heartbeatIntervalMs: 30_000 };
  for (const address of addresses) await other.start("replica", address, options);
  await other.start("master", "m:1", { listedReplicas: addresses });
  await other.pass(1000);
  const checked = new Set<string>();
  other.network.heard = (message, wire) => void (message.kind === "heartbeat" && message.check && checked.add(wire.to));
  await other.pass(200_000, 1000);
  expect([...checked].toSorted()).toEqual(addresses);
  await other.close();
});

describe("a disk without room", () => {
  test("for the note that a replica has caught up ends nothing, and the note is taken later", async () => {
    const late = await cluster.start("replica", "x:1", { masterAddress: "m:1" });
    await cluster.pass(2000);
    expect(late.store.caughtUp).toBe(true);
    // It belongs to the cluster and has promised; from here on nothing can be written beside the log.
    late.store.disk.caughtUp = false;
    late.store.refusals = 4;
    cluster.network.sever("x:1");
    await cluster.pass(1500);
    expect(late.store.caughtUp).toBe(false);
    expect(late.store.records).toEqual(master.store.records);
    await cluster.pass(6000);
    expect(late.store.caughtUp).toBe(true);
    expect(late.complaints.filter((complaint) => complaint.includes("took no note"))).toHaveLength(1);
  });

  test("for a promise leads to another try", async () => {
    replica().store.refusals = 2;
    const again = await cluster.restart("m:1");
    await cluster.pass(8000);
    expect(again.isServing).toBe(true);
    expect(replica().store.records).toEqual(again.store.records);
  });

  test("for the promise that a master is asked for ends its mastership, and nobody need help it back", async () => {
    master.store.refusals = 1000;
    const failed = cluster.outcome(replica().replicator.promote({ force: false }));
    await expect(failed).rejects.toMatchObject({ code: "no_majority", message: expect.stringContaining("ENOSPC") });
    expect(master.isServing).toBe(false);
    expect(master.store.promised.epoch).toBe(1);
    master.store.refusals = 0;
    await cluster.pass(15_000);
    expect(master.isServing).toBe(true);
    expect(await cluster.outcome(master.store.propose("more"))).toMatchObject({ epoch: 2 });
    await cluster.pass(3000);
    expect(replica().store.records).toEqual(master.store.records);
  });

  test("for the note that a node is master is said, and a replica stays a replica", async () => {
    replica().store.refusals = 1;
    const promoted = cluster.outcome(replica().replicator.promote({ force: false }));
    await expect(promoted).rejects.toMatchObject({ code: "refused", message: expect.stringContaining("ENOSPC") });
    expect(replica().store.role).toBe("replica");
    // The vote is on its way to it, and it can be asked again.
    await cluster.outcome(replica().replicator.promote({ force: false }));
    expect(replica().isServing).toBe(true);
    await cluster.pass(2000);
    expect(master.store.records).toEqual(replica().store.records);
  });

  test("for the note that a node is no master any more makes the next start a campaign, which it does not win", async () => {
    const { heal } = cluster.cut("r:1");
    await cluster.outcome(replica().replicator.promote({ force: true }));
    master.store.refusals = 1;
    heal();
    await cluster.pass(12_000);
    expect(master.isServing).toBe(false);
    expect(master.store.records).toEqual(replica().store.records);
    const again = await cluster.restart("m:1");
    await cluster.pass(3000);
    expect(again.isServing).toBe(false);
    expect(again.store.role).toBe("replica");
  });

  test("for the note that the new master has caught up does not keep it from being master", async () => {
    const disk = await cluster.crash("m:1");
    disk.caughtUp = false;
    const again = cluster.launch("master", "m:1", { disk, listedReplicas: ["r:1"] });
    again.store.pace = "told";
    await cluster.settle();
    expect(again.store.isMaster).toBe(true);
    again.store.refusals = 1;
    again.store.pace = "prompt";
    again.store.tellWritten();
    again.store.tellKept();
    await cluster.settle();
    expect(again.store.caughtUp).toBe(false);
    expect(again.isServing).toBe(true);
    expect(again.started).toEqual({});
    await cluster.pass(2000);
    expect(again.store.caughtUp).toBe(true);
  });
});
