import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { clusterId, epochId } from "../base/ids.js";
import { epoch } from "../base/position.js";
import { emptyDisk } from "./testing/array-store.js";
import { Cluster, TestNode } from "./testing/cluster.js";

let cluster: Cluster;
beforeEach(() => (cluster = new Cluster()));
afterEach(() => cluster.close());

const NODES = ["a:1", "b:1", "c:1"];
const FOREIGN = clusterId("f0".repeat(16));

function voters({ store }: TestNode): string[] {
  return store.members.filter(({ voter }) => voter).map(({ address }) => address);
}

describe("a cluster with listed voters", () => {
  test("is founded once all of them answer, and its first record says who they are and how they decide", async () => {
    const a = cluster.launch("master", "a:1", { nodes: NODES });
    const b = cluster.launch("replica", "b:1", { nodes: NODES });
    await cluster.pass(10_000);
    expect(a.isServing).toBe(false);
    expect(a.store.clusterId).toBeUndefined();
    expect(a.replicator.notServing()).toMatch(/^this node is not master: .*nothing listens at c:1/);
    const c = cluster.launch("replica", "c:1", { nodes: NODES });
    await cluster.pass(8000);
    expect(a.isServing).toBe(true);
    const [first] = a.store.records;
    expect(first?.start).toMatchObject({ forced: false, master: a.store.nodeId });
    expect(first?.epoch).toBe(1);
    expect(first?.changes).toEqual([
      { kind: "settings", settings: { commit: "majority", voters: "listed" } },
      ...[a, b, c].map(({ store: { nodeId }, address }) => ({
        kind: "member",
        member: {
          nodeId,
          address,
          voter: true,
          source: nodeId === a.store.nodeId ? "founder" : "listed",
          removed: false,
        },
      })),
    ]);
    // Nothing more is to be said of anybody.
    expect(a.store.records).toHaveLength(1);
    for (const node of [b, c]) {
      expect(node.store.records).toEqual(a.store.records);
      expect(node.store.promised).toMatchObject({ epoch: 1, candidate: a.store.nodeId });
    }
  });

  test.each([
    [["a:1"], undefined, "master"],
    [["a:1", "b:1"], undefined, "master"],
    [NODES, undefined, "majority"],
    [NODES, "master", "master"],
    [["a:1", "b:1"], "majority", "majority"],
  ] as const)("of %j whose file says commit %s is founded with commit %s", async (nodes, commit, expected) => {
    const [a] = (await cluster.found(nodes, { commit })) as [TestNode];
    expect(a.isServing).toBe(true);
    expect(a.store.settings).toEqual({ commit: expected, voters: "listed" });
    expect(voters(a)).toEqual(nodes);
  });

  test("that several would found is founded by the first in the list, whoever started first", async () => {
    const options = { nodes: ["c:1", "a:1", "b:1"] };
    const b = cluster.launch("master", "b:1", options);
    const a = cluster.launch("replica", "a:1", options);
    await cluster.pass(3000);
    const c = cluster.launch("master", "c:1", options);
    await cluster.pass(12_000);
    expect([a, b, c].map(({ isServing }) => isServing)).toEqual([false, false, true]);
    expect(b.store.role).toBe("replica");
    for (const node of [a, b]) expect(node.store.records).toEqual(c.store.records);
  });

  test("is not founded where the first that would is no longer there, until it is", async () => {
    const b = cluster.launch("master", "b:1", { nodes: NODES });
    cluster.launch("replica", "c:1", { nodes: NODES });
    cluster.launch("master", "a:1", { nodes: NODES });
    cluster.cut("a:1");
    await cluster.pass(10_000);
    expect(b.replicator.notServing()).toContain("no answer from a:1");
    expect(b.store.clusterId).toBeUndefined();
  });

  test("is not founded around a node of another one: whoever would waits for that one as a replica", async () => {
    const disk = { ...emptyDisk("replica", 9), clusterId: FOREIGN };
    cluster.launch("replica", "b:1", { nodes: NODES, disk });
    cluster.launch("replica", "c:1", { nodes: NODES });
    const a = await cluster.start("master", "a:1", { nodes: NODES });
    expect(a.store.role).toBe("replica");
    expect(a.store.clusterId).toBeUndefined();
    expect(a.complaints.join()).toContain(`belongs to cluster ${FOREIGN} already`);
  });

  test("takes a wiped node back as a replica, even one that was set up to be master", async () => {
    const [a, b] = (await cluster.found(NODES)) as [TestNode, TestNode];
    await cluster.crash("a:1");
    await cluster.outcome(b.replicator.promote({ force: false }));
    const wiped = await cluster.start("master", "a:1", { nodes: NODES });
    await cluster.pass(8000);
    expect(wiped.store.nodeId).not.toBe(a.store.nodeId);
    expect(wiped.store.role).toBe("replica");
    expect(b.isServing).toBe(true);
    expect(wiped.isServing).toBe(false);
  });

  test("is founded although those that began gave each other the first epoch, and are replicas of nobody", async () => {
    const disks = NODES.map((_, i) => ({
      ...emptyDisk("master", i + 1),
      clusterId: FOREIGN,
      role: "replica" as const,
    }));
    for (const [i, disk] of disks.entries()) {
      disk.promised = {
        epoch: epoch(1),
        candidate: disks[(i + 1) % 3]!.nodeId,
        epochId: epochId(`0${i + 1}`.repeat(8)),
      };
      cluster.launch("replica", NODES[i]!, { nodes: NODES, disk });
    }
    await cluster.pass(60_000);
    const nodes = NODES.map((address) => cluster.node(address));
    const [master, ...more] = nodes.filter(({ isServing }) => isServing);
    expect(more).toEqual([]);
    for (const node of nodes) expect(node.store.records).toEqual(master?.store.records);
    expect(voters(nodes[0]!)).toEqual(NODES);
    // And no more is done about it.
    const { seq } = master!.store.last;
    await cluster.pass(60_000, 1000);
    expect(master!.store.last.seq).toBe(seq);
    expect(master!.isServing).toBe(true);
  });

  test("is not founded by a node that is not in its own list", async () => {
    const x = cluster.launch("master", "x:1", { nodes: NODES });
    for (const address of NODES) cluster.launch("replica", address, { nodes: NODES });
    await cluster.pass(5000);
    expect(x.replicator.notServing()).toContain("x:1 is not among those of cluster.nodes");
    expect(x.isServing).toBe(false);
  });

  test("is not founded by a node that answers at two of the addresses", async () => {
    const b = cluster.launch("replica", "b:1", { nodes: NODES });
    cluster.network.add("c:1", b.replicator);
    const a = await cluster.start("master", "a:1", { nodes: NODES });
    expect(a.replicator.notServing()).toContain("was its directory copied?");
  });

  test.each([0, Infinity])(
    "is gone on with by its founder, which died with %d of its first records on the disk",
    async (surviving) => {
      for (const address of NODES.slice(1)) cluster.launch("replica", address, { nodes: NODES });
      const founder = cluster.launch("master", "a:1", { nodes: NODES });
      founder.store.pace = "told";
      await cluster.pass(1000);
      expect(founder.store.records).toHaveLength(1);
      founder.store.tellWritten();
      const { clusterId: id } = founder.store;
      const disk = await cluster.crash("a:1", surviving);
      // Alone it is nobody, although nothing was ever committed.
      const { heal } = cluster.cut("b:1", "c:1");
      const alone = cluster.launch("master", "a:1", { nodes: NODES, disk });
      await cluster.pass(8000);
      expect(alone.isServing).toBe(false);
      heal();
      await cluster.pass(12_000);
      expect(alone.isServing).toBe(true);
      expect(alone.store.clusterId).toBe(id);
      expect(voters(alone)).toEqual(NODES);
      for (const address of NODES.slice(1)) expect(cluster.node(address).store.records).toEqual(alone.store.records);
    },
  );

  test("with an address that is none stops the start", async () => {
    await expect(cluster.start("master", "a:1", { nodes: ["a:1", "nonsense"] })).rejects.toMatchObject({
      code: "invalid_address",
    });
  });
});

describe("what a file says of the cluster", () => {
  function said(node: TestNode): string[] {
    return node.lines
      .filter(({ message }) => /cluster\.nodes|replication\.commit/.test(message))
      .map(({ message }) => message);
  }

  test("is reported once where the replicated state says otherwise, on every node", async () => {
    await cluster.found(NODES);
    const disk = await cluster.crash("b:1");
    const b = await cluster.start("replica", "b:1", { nodes: ["a:1", "b:1", "d:1"], commit: "master", disk });
    const a = await cluster.restart("a:1");
    await cluster.pass(10_000);
    expect(said(b)).toEqual([
      "the file says replication.commit: master, the cluster was founded with majority; the cluster's holds",
      "cluster.nodes has d:1, which the cluster does not know",
      "the cluster's voters at c:1 are not in cluster.nodes; the cluster's hold",
    ]);
    expect(said(a)).toEqual([]);
    expect(b.store.settings.commit).toBe("majority");
  });

  test("is not reported of a state that a node passes through while it catches up", async () => {
    const [a] = (await cluster.found(NODES)) as [TestNode];
    await cluster.crash("c:1");
    const wiped = await cluster.start("replica", "c:1", { nodes: NODES, commit: "majority" });
    await cluster.outcome(a.replicator.addReplica("c:1"));
    await cluster.pass(3000);
    expect(wiped.store.records).toEqual(a.store.records);
    expect(said(wiped)).toEqual([]);
  });

  test("of voters is reported where the cluster has one vote", async () => {
    const disk = (await cluster.start("master", "a:1")).store.disk;
    await cluster.crash("a:1");
    const a = await cluster.start("master", "a:1", { nodes: ["a:1"], disk });
    expect(said(a)).toEqual([
      "the file has cluster.nodes, but the cluster was founded without; its one vote goes with the mastership",
    ]);
    expect(a.isServing).toBe(true);
  });

  test("is not reported before there is anything to contradict it", async () => {
    const b = cluster.launch("replica", "b:1", { nodes: NODES, commit: "majority" });
    await cluster.pass(1000);
    expect(said(b)).toEqual([]);
  });
});

test("a node that joins another cluster is a replica on its disk first, or its next start would begin that cluster anew", async () => {
  const m = await cluster.start("master", "m:1", { listedReplicas: ["a:1"] });
  await cluster.pass(1000);
  const a = cluster.launch("master", "a:1");
  const full = (): Promise<never> => Promise.reject(new Error("ENOSPC: no space left on the disk"));
  a.store.refusals = 1;
  vi.spyOn(a.store, "foundCluster").mockImplementation(full);
  vi.spyOn(a.store, "saveRole").mockImplementationOnce(full);
  vi.spyOn(a.store, "promise").mockImplementation(full);
  await cluster.pass(10_000);
  expect(a.store.clusterId).toBe(m.store.clusterId);
  expect(a.store.records).toEqual([]);
  expect(a.store.role).toBe("replica");
  const again = await cluster.restart("a:1");
  await cluster.pass(10_000);
  expect(again.isServing).toBe(false);
  expect(again.store.records).toEqual(m.store.records);
});

test("a node says from its very start how far its log goes: who takes it for empty may found the cluster a second time", async () => {
  await cluster.found(NODES, {});
  const disk = await cluster.crash("c:1");
  const again = new TestNode("c:1", disk, cluster, { nodes: NODES });
  expect(again.replicator.survey({ nodeId: again.store.nodeId })).toMatchObject({ last: { epoch: 1, seq: 1 } });
  await again.replicator.close();
});
