import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { epoch } from "../base/position.js";
import type { ReplicatorOptions } from "./replicator.js";
import { emptyDisk } from "./testing/array-store.js";
import { Cluster, type TestNode } from "./testing/cluster.js";

let cluster: Cluster;
beforeEach(() => (cluster = new Cluster()));
afterEach(() => cluster.close());

const NODES = ["a:1", "b:1", "c:1"];
const MILLION = 1_000_000;

type Promoted = Awaited<ReturnType<TestNode["replicator"]["promote"]>>;

function promote(node: TestNode, force = false): Promise<Promoted> {
  return cluster.outcome(node.replicator.promote({ force }));
}

/** A master with the one vote, and two replicas in step with it. */
async function withOneVote(options: Partial<ReplicatorOptions> = {}): Promise<TestNode[]> {
  const master = await cluster.start("master", "a:1", { listedReplicas: ["b:1", "c:1"], ...options });
  const others = [await cluster.start("replica", "b:1", options), await cluster.start("replica", "c:1", options)];
  await cluster.pass(5000);
  return [master, ...others];
}

function write(node: TestNode, ...texts: string[]): void {
  for (const text of texts) node.store.write(text);
}

describe.each([
  ["one vote", withOneVote],
  ["listed voters", () => cluster.found(NODES)],
])("with %s, a replica that is promoted", (_, begin) => {
  test("is master with the next epoch, and the old one follows it, as everybody does", async () => {
    const [a, b, c] = (await begin()) as [TestNode, TestNode, TestNode];
    write(a, "one", "two");
    await cluster.settle();
    const before = a.store.last.seq;
    expect(await promote(b)).toEqual({ epoch: 2, firstSeq: before + 1, unreached: [], knownLostRecords: 0 });
    expect([a, b, c].map(({ isServing }) => isServing)).toEqual([false, true, false]);
    expect([a, b, c].map(({ store }) => store.role)).toEqual(["replica", "master", "replica"]);
    expect(a.store.isMaster).toBe(false);
    await cluster.pass(2000);
    write(b, "three");
    await cluster.pass(1000);
    for (const node of [a, c]) {
      expect(node.store.records).toEqual(b.store.records);
      expect(node.store.appliedSeq).toBe(b.store.last.seq);
      expect(node.replicator.masterAddress).toBe("b:1");
    }
    expect(a.store.disk.diverged).toEqual([]);
    expect(a.complaints).toContainEqual(expect.stringContaining("this node's mastership has ended: node"));
  });

  test("comes back as the master that it was, and so does the one before it: as a replica", async () => {
    const [, b] = (await begin()) as [TestNode, TestNode];
    await promote(b);
    await cluster.pass(1000);
    const a = await cluster.restart("a:1");
    expect(a.store.role).toBe("replica");
    const again = await cluster.restart("b:1");
    await cluster.pass(3000);
    expect(again.isServing).toBe(true);
    expect(a.store.records).toEqual(again.store.records);
  });

  test("is not disturbed by being asked once more, nor by being asked twice at once", async () => {
    const [, b] = (await begin()) as [TestNode, TestNode];
    const both = await cluster.outcome(
      Promise.all([b.replicator.promote({ force: false }), b.replicator.promote({ force: false })]),
    );
    expect(both[0]).toEqual(both[1]);
    const { seq } = b.store.last;
    expect(await promote(b)).toEqual(both[0]);
    expect(await promote(b, true)).toEqual(both[0]);
    expect(b.store.last.seq).toBe(seq);
  });

  test("is refused while another node has more, and nobody is disturbed by that", async () => {
    const [a, b] = (await begin()) as [TestNode, TestNode];
    const { heal } = cluster.cut("b:1");
    write(a, "more");
    await cluster.pass(1000);
    heal();
    // It does not hear of its master before it is asked.
    b.store.pace = "told";
    await expect(promote(b)).rejects.toMatchObject({
      code: "behind",
      message: expect.stringContaining("up to epoch 1"),
    });
    expect(a.isServing).toBe(true);
    expect(a.store.promised.epoch).toBe(1);
    b.store.pace = "prompt";
    b.store.tellWritten();
    b.store.tellKept();
    await cluster.pass(3000);
    expect(b.store.records).toEqual(a.store.records);
    expect(b.replicator.isCandidate).toBe(false);
  });

  test("is refused where nobody answers, stays the replica that it was, and goes on following", async () => {
    const [a, b] = (await begin()) as [TestNode, TestNode];
    const { heal } = cluster.cut("b:1");
    await expect(promote(b)).rejects.toMatchObject({ code: "no_majority" });
    expect(b.store.role).toBe("replica");
    expect(b.store.promised.epoch).toBe(1);
    heal();
    write(a, "more");
    await cluster.pass(10_000);
    expect(b.store.records).toEqual(a.store.records);
    expect(a.isServing).toBe(true);
  });

  test("by force is master although nobody answers, and says who did not", async () => {
    const [a, b, c] = (await begin()) as [TestNode, TestNode, TestNode];
    const { heal } = cluster.cut("b:1");
    write(a, "lost");
    await cluster.settle();
    const result = await promote(b, true);
    expect(result).toMatchObject({ epoch: 1 + MILLION, knownLostRecords: 0 });
    expect([...result.unreached].sort()).toEqual(["a:1", "c:1"]);
    expect(b.store.history.last).toMatchObject({ epoch: 1 + MILLION, forced: true });
    expect(b.complaints.join()).toContain("forced");
    write(b, "won");
    await cluster.settle();
    expect(b.store.appliedSeq).toBe(b.store.last.seq);
    // Both are masters until they meet.
    expect(a.isServing).toBe(true);
    heal();
    await cluster.pass(12_000);
    expect(a.isServing).toBe(false);
    for (const node of [a, c]) expect(node.store.records).toEqual(b.store.records);
    expect(a.store.disk.diverged.flat().map(({ text }) => text)).toEqual(["lost"]);
  });

  test("by force says how much is known to be lost", async () => {
    const [a, b, c] = (await begin()) as [TestNode, TestNode, TestNode];
    const { heal } = cluster.cut("b:1");
    write(a, "one", "two", "three");
    await cluster.pass(1000);
    await cluster.crash("a:1");
    heal();
    const result = await promote(b, true);
    expect(result).toMatchObject({ unreached: ["a:1"], knownLostRecords: 3 });
    await cluster.pass(3000);
    expect(c.store.records).toEqual(b.store.records);
    expect(c.store.disk.diverged.flat().map(({ text }) => text)).toEqual(["one", "two", "three"]);
  });
});

describe("no promotion", () => {
  test("of a node without records, or one that has never caught up", async () => {
    const empty = await cluster.start("replica", "x:1");
    for (const force of [false, true]) {
      await expect(promote(empty, force)).rejects.toMatchObject({ code: "not_caught_up" });
    }
    const [, b] = (await withOneVote()) as [TestNode, TestNode];
    b.store.disk.caughtUp = false;
    await expect(promote(b)).rejects.toMatchObject({ code: "not_caught_up" });
    expect(await promote(b, true)).toMatchObject({ epoch: 1 + MILLION });
  });

  test("needs force where the voters are listed and a majority has everything, though nobody was shown so", async () => {
    const [a, b, c] = (await cluster.found(NODES)) as [TestNode, TestNode, TestNode];
    await cluster.crash("a:1");
    for (const { store } of [b, c]) store.disk.caughtUp = false;
    await promote(b);
    await cluster.pass(2000);
    expect([b, c].map(({ store }) => store.caughtUp)).toEqual([true, true]);
    expect(c.store.records).toEqual(b.store.records);
    expect(a.store.records).toEqual(b.store.records.slice(0, a.store.records.length));
  });

  test("of a node that was removed", async () => {
    const [a, b] = (await withOneVote()) as [TestNode, TestNode];
    await cluster.outcome(a.replicator.removeReplica({ address: "b:1" }));
    // It may have heard of that, or not.
    b.store.appendRecords(Buffer.from(a.store.readTail(b.store.last.seq, 10_000) ?? []));
    await cluster.settle();
    await expect(promote(b)).rejects.toMatchObject({ code: "refused", message: expect.stringContaining("removed") });
  });

  test("of a node that only follows where the voters are listed", async () => {
    const [a] = (await cluster.found(NODES)) as [TestNode];
    const follower = await cluster.start("replica", "x:1", { masterAddress: "a:1" });
    await cluster.pass(3000);
    await expect(promote(follower)).rejects.toMatchObject({
      code: "refused",
      message: expect.stringContaining("no voter"),
    });
    expect(a.isServing).toBe(true);
  });

  test("while the node shuts down", async () => {
    const [, b] = (await withOneVote()) as [TestNode, TestNode];
    cluster.cut("a:1");
    const promoted = b.replicator.promote({ force: false });
    const failed = expect(promoted).rejects.toMatchObject({ code: "closing" });
    await b.replicator.close();
    await failed;
    await expect(b.replicator.promote({ force: true })).rejects.toMatchObject({ code: "closing" });
  });

  test("is over before the first record of the epoch is committed, and that has its time", async () => {
    const [, b] = (await cluster.found(NODES)) as [TestNode, TestNode];
    b.store.pace = "told";
    const promoted = b.replicator.promote({ force: false });
    const failed = expect(promoted).rejects.toMatchObject({
      code: "timeout",
      message: expect.stringContaining("epoch 2 has begun"),
    });
    await cluster.pass(12_000);
    await failed;
    expect(b.isServing).toBe(false);
    expect(b.replicator.notServing()).toContain("epoch 2, whose first record is not committed yet");
    b.store.pace = "prompt";
    b.store.tellWritten();
    b.store.tellKept();
    await cluster.pass(1000);
    expect(b.isServing).toBe(true);
  });
});

describe("where a forced mastership took votes", () => {
  test("the rest decides from its first record on, and whoever is back only follows", async () => {
    const [a, b, c] = (await cluster.found(NODES)) as [TestNode, TestNode, TestNode];
    await cluster.crash("a:1");
    const gone = await cluster.crash("c:1");
    await expect(promote(b)).rejects.toMatchObject({ code: "no_majority" });
    expect((await promote(b, true)).unreached.toSorted()).toEqual(["a:1", "c:1"]);
    expect(b.store.members.filter(({ voter }) => voter).map(({ address }) => address)).toEqual(["b:1"]);
    expect(b.store.members).toHaveLength(3);
    const back = await cluster.start("replica", "c:1", { nodes: NODES, disk: gone });
    await cluster.pass(6000);
    expect(back.store.records).toEqual(b.store.records);
    await expect(promote(back)).rejects.toMatchObject({ code: "refused" });
    expect(b.replicator.members().find(({ address }) => address === "c:1")?.detail).toBe(
      "is listed in cluster.nodes and has no vote; give it one: cambium members add c:1",
    );
    // Asked for again, it gets its vote back once it has everything.
    await cluster.outcome(b.replicator.addReplica("c:1"));
    await cluster.pass(1000);
    expect(b.store.members.filter(({ voter }) => voter).map(({ address }) => address)).toEqual(["b:1", "c:1"]);
    expect(b.replicator.members().map(({ detail }) => detail)).toEqual([expect.any(String), "", ""]);
    expect(a.store.nodeId).not.toBe(c.store.nodeId);
  });

  test("a node without a vote may have one by force", async () => {
    const [, b] = (await cluster.found(NODES)) as [TestNode, TestNode];
    const follower = await cluster.start("replica", "x:1", { masterAddress: "a:1" });
    await cluster.pass(3000);
    await cluster.crash("a:1");
    await cluster.crash("c:1");
    await promote(follower, true);
    expect(follower.isServing).toBe(true);
    const voters = follower.store.members.filter(({ voter }) => voter).map(({ address }) => address);
    expect(voters.toSorted()).toEqual(["b:1", "x:1"]);
    await cluster.pass(3000);
    expect(b.store.records).toEqual(follower.store.records);
  });
});

test("a master that has lost its majority takes their votes by force, and goes on alone", async () => {
  const [a] = (await cluster.found(NODES)) as [TestNode];
  await cluster.crash("b:1");
  const disk = await cluster.crash("c:1");
  await cluster.pass(6000);
  const waiting = a.store.propose("one");
  const lost = expect(waiting).rejects.toThrow("no longer master");
  expect(await promote(a)).toMatchObject({ epoch: 1, unreached: [] });
  const forced = await promote(a, true);
  expect(forced).toMatchObject({ epoch: 1 + MILLION, knownLostRecords: 0 });
  expect(forced.unreached.toSorted()).toEqual(["b:1", "c:1"]);
  await lost;
  // What was in flight is in its log all the same.
  expect(a.texts).toContain("one");
  expect(await cluster.outcome(a.store.propose("two"))).toMatchObject({ epoch: 1 + MILLION });
  const back = await cluster.start("replica", "c:1", { nodes: NODES, disk });
  await cluster.pass(6000);
  expect(back.store.records).toEqual(a.store.records);
});

describe("a master that starts again", () => {
  test("goes on alone with the one vote when nobody answers", async () => {
    await withOneVote();
    await cluster.crash("b:1");
    await cluster.crash("c:1");
    const again = await cluster.restart("a:1");
    expect(again.isServing).toBe(true);
    expect(again.store.promised.epoch).toBe(2);
  });

  test("waits two seconds at most for those who say nothing", async () => {
    await withOneVote();
    cluster.cut("b:1", "c:1");
    const disk = await cluster.crash("a:1");
    const again = cluster.launch("master", "a:1", { disk, listedReplicas: ["b:1", "c:1"] });
    await cluster.pass(1900);
    expect(again.isServing).toBe(false);
    expect(again.replicator.isCandidate).toBe(true);
    expect(again.replicator.notServing()).toBe("this node asks the others for a mastership");
    await cluster.pass(300);
    expect(again.isServing).toBe(true);
    expect(again.replicator.notServing()).toBe("");
  });

  test("follows whoever became master while it was away, for good", async () => {
    const [a, b] = (await withOneVote()) as [TestNode, TestNode];
    const { heal } = cluster.cut("b:1", "c:1");
    write(a, "lost");
    await cluster.settle();
    const disk = await cluster.crash("a:1");
    heal();
    await promote(b, true);
    const back = await cluster.start("master", "a:1", { disk });
    expect(back.store.role).toBe("replica");
    await cluster.pass(6000);
    expect(back.store.records).toEqual(b.store.records);
    expect(disk.diverged.flat().map(({ text }) => text)).toEqual(["lost"]);
    expect(back.replicator.masterAddress).toBe("b:1");
  });

  test("with listed voters tries until a majority is there, says why, and takes nothing meanwhile", async () => {
    await cluster.found(NODES);
    const disks = [await cluster.crash("b:1"), await cluster.crash("c:1")];
    const alone = await cluster.restart("a:1");
    expect(alone.started).toEqual({});
    expect(alone.isServing).toBe(false);
    expect(alone.replicator.isCandidate).toBe(true);
    expect(alone.replicator.notServing()).toMatch(/this node is not master: .*(b:1|c:1)/);
    await expect(alone.replicator.addReplica("x:1")).rejects.toMatchObject({ code: "not_master" });
    await cluster.pass(30_000);
    expect(alone.complaints.filter((complaint) => complaint.includes("cannot become master yet"))).toHaveLength(1);
    expect(alone.store.promised.epoch).toBe(1);
    await cluster.start("replica", "c:1", { nodes: NODES, disk: disks[1]! });
    await cluster.pass(8000);
    expect(alone.isServing).toBe(true);
    expect(alone.replicator.notServing()).toBe("");
  });

  test("with listed voters follows the one that a majority has elected", async () => {
    const [a, b] = (await cluster.found(NODES)) as [TestNode, TestNode];
    const disk = await cluster.crash("a:1");
    await promote(b);
    write(b, "more");
    const back = await cluster.start("master", "a:1", { nodes: NODES, disk });
    expect(back.store.role).toBe("replica");
    await cluster.pass(3000);
    expect(back.store.records).toEqual(b.store.records);
    expect(a.store.nodeId).toBe(back.store.nodeId);
  });

  test("cannot take back a vote that it gave, though it never heard what came of it", async () => {
    const [a, b] = (await withOneVote()) as [TestNode, TestNode];
    // The vote arrives, and the node that has it dies before it makes use of it.
    b.store.held = [];
    const promoted = b.replicator.promote({ force: false }).catch(() => undefined);
    await cluster.pass(500);
    expect(a.store.promised).toMatchObject({ epoch: 2, candidate: b.store.nodeId });
    expect(a.store.role).toBe("replica");
    const disk = await cluster.crash("b:1");
    await promoted;
    await expect(promote(a)).rejects.toMatchObject({
      code: "no_majority",
      message: expect.stringContaining(b.store.nodeId),
    });
    const back = await cluster.start("replica", "b:1", { disk });
    await cluster.pass(500);
    await promote(back);
    expect(back.isServing).toBe(true);
    expect(back.store.promised.epoch).toBeGreaterThan(2);
  });
});

test("a node that has promised a higher epoch is asked for one above it", async () => {
  const [, b, c] = (await cluster.found(NODES)) as [TestNode, TestNode, TestNode];
  c.store.disk.promised = { epoch: epoch(40) };
  await cluster.restart("c:1");
  expect((await promote(b)).epoch).toBe(41);
});

test("an empty node on the way to be a replica counts for nothing where there is one vote", async () => {
  const [a] = (await withOneVote()) as [TestNode];
  const disk = emptyDisk("replica", 9);
  await cluster.crash("b:1");
  await cluster.crash("c:1");
  const left = await cluster.crash("a:1");
  await cluster.start("replica", "b:1", { disk });
  const again = await cluster.start("master", "a:1", { disk: left });
  expect(again.isServing).toBe(true);
  expect(a.store.nodeId).toBe(again.store.nodeId);
});
