import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Seq, seq } from "../base/position.js";
import { Cluster, type TestNode } from "./testing/cluster.js";

let cluster: Cluster;
let a: TestNode;
let b: TestNode;
let c: TestNode;
beforeEach(async () => {
  cluster = new Cluster();
  [a, b, c] = (await cluster.found(NODES)) as [TestNode, TestNode, TestNode];
});
afterEach(() => cluster.close());

const NODES = ["a:1", "b:1", "c:1"];

const never = (): AbortSignal => new AbortController().signal;

/** What has become of a promise so far. */
function watch<T>(promise: Promise<T>): { value?: T; error?: unknown } {
  const seen: { value?: T; error?: unknown } = {};
  promise.then(
    (value) => (seen.value = value),
    (error: unknown) => (seen.error = error),
  );
  return seen;
}

const isOpen = (seen: { value?: unknown; error?: unknown }): boolean => Object.keys(seen).length === 0;

describe("a write to three voters", () => {
  test("is committed once two of them keep it, the master being one", async () => {
    for (const { store } of [b, c]) store.pace = "told";
    const written = watch(a.store.propose("x"));
    await cluster.settle();
    expect(a.store.keptSeq).toBe(a.store.last.seq);
    expect(isOpen(written)).toBe(true);
    expect(a.store.appliedSeq).toBe(a.store.last.seq - 1);
    b.store.tellWritten();
    b.store.tellKept();
    await cluster.settle();
    expect(written.value).toEqual({ epoch: 1, seq: a.store.last.seq });
    expect(b.store.appliedSeq).toBe(a.store.last.seq);
    expect(c.store.appliedSeq).toBe(a.store.last.seq - 1);
  });

  test("is not committed by the others' copies while the master itself does not keep it", async () => {
    a.store.pace = "told";
    const written = watch(a.store.propose("x"));
    a.store.tellWritten();
    await cluster.settle();
    expect([b, c].map(({ store }) => store.keptSeq)).toEqual([a.store.last.seq, a.store.last.seq]);
    expect(isOpen(written)).toBe(true);
    a.store.tellKept();
    await cluster.settle();
    expect(written.value).toBeDefined();
  });

  test("goes on with one of them down", async () => {
    await cluster.crash("c:1");
    expect(await cluster.outcome(a.store.propose("x"))).toEqual({ epoch: 1, seq: a.store.last.seq });
    expect(b.store.appliedSeq).toBe(a.store.last.seq);
  });

  test("waits with two of them down, and is committed when one is back", async () => {
    const disk = await cluster.crash("b:1");
    await cluster.crash("c:1");
    const written = watch(a.store.propose("x"));
    await cluster.pass(60_000, 1000);
    expect(isOpen(written)).toBe(true);
    expect(a.store.appliedSeq).toBe(a.store.last.seq - 1);
    expect(a.isServing).toBe(true);
    await cluster.start("replica", "b:1", { nodes: NODES, disk });
    await cluster.pass(6000);
    expect(written.value).toEqual({ epoch: 1, seq: a.store.last.seq });
  });

  test("is not helped by any number of nodes that only follow", async () => {
    for (const address of ["x:1", "y:1"]) await cluster.start("replica", address, { masterAddress: "a:1" });
    await cluster.pass(1000);
    await cluster.crash("b:1");
    await cluster.crash("c:1");
    const written = watch(a.store.propose("x"));
    await cluster.pass(10_000);
    expect(cluster.node("x:1").store.last.seq).toBe(a.store.last.seq);
    expect(isOpen(written)).toBe(true);
  });

  test("is in the log of every later master, though the one that took it is gone", async () => {
    cluster.cut("c:1");
    await cluster.outcome(a.store.propose("x"));
    await cluster.crash("a:1");
    cluster.network.silent.clear();
    await expect(cluster.outcome(c.replicator.promote({ force: false }))).rejects.toMatchObject({ code: "behind" });
    await cluster.outcome(b.replicator.promote({ force: false }));
    await cluster.pass(3000);
    expect(c.texts).toContain("x");
    expect(c.store.records).toEqual(b.store.records);
  });

  test("that was not committed may be cut, and was never shown", async () => {
    cluster.cut("a:1");
    const written = watch(a.store.propose("x"));
    await cluster.settle();
    await cluster.outcome(b.replicator.promote({ force: false }));
    await cluster.outcome(b.store.propose("y"));
    cluster.network.silent.clear();
    await cluster.pass(12_000);
    expect(written.error).toBeDefined();
    expect(a.store.records).toEqual(b.store.records);
    expect(a.texts).not.toContain("x");
    expect(a.store.commits).toEqual(a.store.commits.toSorted((x, y) => x - y));
  });
});

describe("what is acknowledged by all", () => {
  test("is what every connected voter keeps", async () => {
    await cluster.start("replica", "x:1", { masterAddress: "a:1" });
    await cluster.pass(1000);
    c.store.pace = "told";
    cluster.node("x:1").store.pace = "told";
    const { seq: at } = await cluster.outcome(a.store.propose("x"));
    const all = watch(a.replicator.whenReplicated(at, never()));
    await cluster.pass(500);
    expect(isOpen(all)).toBe(true);
    c.store.tellWritten();
    c.store.tellKept();
    await cluster.settle();
    expect(all).toEqual({ value: undefined });
    await a.replicator.whenReplicated(at, never());
  });

  test("does not wait for a voter that is not connected", async () => {
    await cluster.crash("c:1");
    const { seq: at } = await cluster.outcome(a.store.propose("x"));
    const all = watch(a.replicator.whenReplicated(at, never()));
    await cluster.settle();
    expect(all).toEqual({ value: undefined });
  });

  test("ends with the caller's patience, with the mastership and at the end", async () => {
    c.store.pace = "told";
    const { seq: at } = await cluster.outcome(a.store.propose("x"));
    const patience = new AbortController();
    const impatient = watch(a.replicator.whenReplicated(at, patience.signal));
    patience.abort(new Error("enough"));
    await cluster.settle();
    expect(impatient.error).toEqual(new Error("enough"));
    const deposed = watch(a.replicator.whenReplicated(at, never()));
    await cluster.outcome(b.replicator.promote({ force: false }));
    expect(deposed.error).toMatchObject({ code: "not_master", masterAddress: "b:1" });
    await expect(a.replicator.whenReplicated(at, never())).rejects.toMatchObject({ code: "not_master" });
  });

  test("where there is one vote is what every connected member keeps", async () => {
    const other = new Cluster();
    const replica = await other.start("replica", "r:1");
    const master = await other.start("master", "m:1", { listedReplicas: ["r:1"] });
    await other.pass(1000);
    replica.store.pace = "told";
    const { seq: at } = await other.outcome(master.store.propose("x"));
    const all = watch(master.replicator.whenReplicated(at, never()));
    await other.pass(500);
    expect(isOpen(all)).toBe(true);
    replica.store.tellWritten();
    replica.store.tellKept();
    await other.settle();
    expect(all).toEqual({ value: undefined });
    await other.close();
  });
});

describe("a linearizable read", () => {
  test("at the master sees what was committed, once a majority has confirmed it since", async () => {
    cluster.cut("b:1", "c:1");
    const read = watch(a.replicator.linearizableSeq(never()));
    await cluster.pass(1000);
    expect(isOpen(read)).toBe(true);
    cluster.network.silent.delete("c:1");
    await cluster.pass(1000);
    expect(read.value).toBe(a.store.appliedSeq);
  });

  test("needs no waiting for time when all is well, and many share one round", async () => {
    const before = cluster.clock.monotonicMs();
    let beats = 0;
    cluster.network.heard = (message) => void (message.kind === "heartbeat" && beats++);
    const reads = Array.from({ length: 100 }, () => a.replicator.linearizableSeq(never()));
    await cluster.settle();
    expect(new Set(await Promise.all(reads))).toEqual(new Set([a.store.appliedSeq]));
    expect(cluster.clock.monotonicMs()).toBe(before);
    expect(beats).toBeLessThanOrEqual(4);
  });

  test("at a replica asks the master, and sees what that one had committed", async () => {
    c.store.pace = "told";
    const { seq: at } = await cluster.outcome(a.store.propose("x"));
    expect(c.store.appliedSeq).toBeLessThan(at);
    expect(await cluster.outcome(c.replicator.linearizableSeq(never()))).toBe(at);
  });

  test("at a master that was deposed without knowing it is never answered with old news", async () => {
    const { heal } = cluster.cut("a:1");
    const old = watch(a.replicator.linearizableSeq(never()));
    await cluster.outcome(b.replicator.promote({ force: false }));
    const { seq: at } = await cluster.outcome(b.store.propose("x"));
    expect(isOpen(old)).toBe(true);
    expect(a.isServing).toBe(true);
    heal();
    await cluster.pass(10_000);
    expect(old.error).toMatchObject({ code: "not_master" });
    expect(await cluster.outcome(a.replicator.linearizableSeq(never()))).toBeGreaterThanOrEqual(at);
  });

  test("at a replica that became master while it asked is answered by itself", async () => {
    // The old master's answer is on the way for so long that this node has taken its place.
    let arrive: (() => void) | undefined;
    const arrived = new Promise<void>((resolve) => (arrive = resolve));
    const readIndex = a.replicator.readIndex.bind(a.replicator);
    a.replicator.readIndex = async (asker, signal) => {
      const index = await readIndex(asker, signal);
      await arrived;
      return index;
    };
    const read = watch(b.replicator.linearizableSeq(never()));
    await cluster.pass(1000);
    await cluster.outcome(b.replicator.promote({ force: false }));
    expect(isOpen(read)).toBe(true);
    arrive?.();
    await cluster.settle();
    expect(read.value).toBe(b.store.appliedSeq - 1);
  });

  test("follows the master to where it has gone", async () => {
    await cluster.outcome(b.replicator.promote({ force: false }));
    // It still believes in the old one.
    const { seq: at } = await cluster.outcome(b.store.propose("x"));
    expect(await cluster.outcome(c.replicator.linearizableSeq(never()))).toBeGreaterThanOrEqual(at);
  });

  test("is refused where no master is known, and by a replica that is asked as if it were one", async () => {
    const stray = await cluster.start("replica", "x:1");
    await expect(stray.replicator.linearizableSeq(never())).rejects.toMatchObject({ code: "not_master" });
    const asker = { clusterId: a.store.clusterId!, nodeId: c.store.nodeId };
    await expect(b.replicator.readIndex(asker, never())).rejects.toMatchObject({
      code: "not_master",
      masterAddress: "a:1",
    });
    await expect(a.replicator.readIndex({ nodeId: c.store.nodeId }, never())).rejects.toMatchObject({
      code: "foreign_cluster",
    });
  });

  test("ends with the caller's patience, and when the node shuts down", async () => {
    cluster.cut("b:1", "c:1");
    for (const node of [a, c]) {
      const patience = new AbortController();
      const read = watch(node.replicator.linearizableSeq(patience.signal));
      await cluster.pass(500);
      patience.abort(new Error("enough"));
      await cluster.settle();
      expect(read.error).toEqual(new Error("enough"));
    }
    const read = watch(a.replicator.linearizableSeq(never()));
    await a.replicator.close();
    await cluster.settle();
    expect(read.error).toMatchObject({ code: "closing" });
    await expect(a.replicator.linearizableSeq(never())).rejects.toMatchObject({ code: "closing" });
  });

  test("on the sole voter is answered at once", async () => {
    const other = new Cluster();
    const [alone] = (await other.found(["a:1"])) as [TestNode];
    expect(await alone.replicator.linearizableSeq(never())).toBe(alone.store.appliedSeq);
    await other.close();
  });

  test("is confirmed by a majority where one copy commits, too", async () => {
    const other = new Cluster();
    const [master] = (await other.found(NODES, { commit: "master" })) as [TestNode];
    other.cut("b:1", "c:1");
    // It commits alone,
    expect(await other.outcome(master.store.propose("x"))).toBeDefined();
    // but does not know whether it is still the master.
    const read = watch(master.replicator.linearizableSeq(never()));
    await other.pass(2000);
    expect(isOpen(read)).toBe(true);
    other.network.silent.clear();
    await other.pass(2000);
    expect(read.value).toBe(master.store.appliedSeq);
    await other.close();
  });
});

describe("staleness", () => {
  test("of a master is the age of what a majority confirmed last", async () => {
    await cluster.pass(5000);
    expect(a.replicator.stalenessMs()).toBeLessThanOrEqual(600);
    cluster.cut("b:1", "c:1");
    await cluster.pass(3000);
    expect(a.replicator.stalenessMs()).toBeGreaterThanOrEqual(3000);
    expect(a.replicator.stalenessMs()).toBeLessThanOrEqual(3700);
    cluster.network.silent.delete("b:1");
    await cluster.pass(1000);
    expect(a.replicator.stalenessMs()).toBeLessThanOrEqual(600);
  });

  test("of a replica grows too while its master has no majority, however often the two talk", async () => {
    await cluster.pass(5000);
    // The master and one follower here; both other voters are gone.
    const follower = await cluster.start("replica", "x:1", { masterAddress: "a:1" });
    await cluster.pass(3000);
    expect(follower.replicator.stalenessMs()).toBeLessThanOrEqual(1600);
    cluster.cut("b:1", "c:1");
    await cluster.pass(4000);
    expect(follower.replicator.stalenessMs()).toBeGreaterThanOrEqual(3900);
    expect(follower.store.appliedSeq).toBe(a.store.appliedSeq);
  });

  test("is unknown on a master that does not serve yet, and on a candidate", async () => {
    const disk = await cluster.crash("a:1");
    cluster.cut("b:1", "c:1");
    const again = cluster.launch("master", "a:1", { nodes: NODES, disk });
    await cluster.pass(1000);
    expect(again.replicator.stalenessMs()).toBeUndefined();
  });

  test("and records that a replica lacks are told, as far as it knows", async () => {
    await cluster.pass(1000);
    expect(b.replicator.lagRecords).toBe(0);
    expect(a.replicator.lagRecords).toBeUndefined();
    b.store.pace = "told";
    for (let i = 0; i < 5; i++) a.store.write(`record ${i}`);
    await cluster.settle();
    expect(b.replicator.lagRecords).toBe(5);
    const other = await cluster.start("replica", "x:1");
    expect(other.replicator.lagRecords).toBeUndefined();
  });
});

describe("the log of a master", () => {
  test("is kept for voters that are away, from the first record of a founded cluster on", async () => {
    expect(a.store.lackedAfter()).toBe(a.store.last.seq);
    await cluster.crash("c:1");
    const had: Seq = a.store.last.seq;
    await cluster.outcome(a.store.propose("x"));
    expect(a.store.lackedAfter()).toBe(had);
    expect(b.store.lackedAfter()).toBeUndefined();
  });
});

describe("a listed voter", () => {
  test("that will not come back can be removed, and then two decide; added again, it has its vote back", async () => {
    const disk = await cluster.crash("c:1");
    await cluster.pass(1000);
    await cluster.outcome(a.replicator.removeReplica({ address: "c:1" }));
    const voters = (): string[] => a.store.members.filter(({ voter }) => voter).map(({ address }) => address);
    expect(voters()).toEqual(["a:1", "b:1"]);
    await cluster.pass(1000);
    expect(b.store.electorate.members.filter(({ voter }) => voter)).toHaveLength(2);
    const back = await cluster.start("replica", "c:1", { nodes: NODES, disk });
    await cluster.pass(3000);
    expect(back.store.records.length).toBeLessThan(a.store.records.length);
    await expect(cluster.outcome(back.replicator.promote({ force: false }))).rejects.toMatchObject({ code: "behind" });
    expect(a.isServing).toBe(true);
    const { heal } = cluster.cut("b:1");
    const written = watch(a.store.propose("x"));
    await cluster.pass(3000);
    expect(isOpen(written)).toBe(true);
    heal();
    await cluster.pass(8000);
    expect(written.value).toBeDefined();
    await cluster.outcome(a.replicator.addReplica("c:1"));
    await cluster.pass(3000);
    expect(voters()).toEqual(["a:1", "b:1", "c:1"]);
  });

  test("stays when it is the master, or when the others could not go on without it", async () => {
    await expect(a.replicator.removeReplica({ address: "a:1" })).rejects.toMatchObject({
      code: "is_voter",
      message: expect.stringContaining("hand the mastership over first"),
    });
    await cluster.crash("c:1");
    await cluster.pass(1000);
    await expect(a.replicator.removeReplica({ address: "b:1" })).rejects.toMatchObject({
      code: "is_voter",
      message: expect.stringContaining("of the 2 voters that would be left, these are away: c:1"),
    });
  });

  test("that was wiped is not pushed to, until it is added again; then it has its vote back once it has everything", async () => {
    await cluster.crash("c:1");
    const wiped = await cluster.start("replica", "c:1", { nodes: NODES });
    await cluster.pass(3000);
    expect(wiped.store.records).toEqual([]);
    expect(a.replicator.members().find(({ address }) => address === "c:1")).toMatchObject({
      state: "refused",
      nodeId: c.store.nodeId,
      voter: true,
      detail: expect.stringContaining("cambium members add c:1"),
    });
    wiped.store.pace = "told";
    const adding = cluster.outcome(a.replicator.addReplica("c:1"));
    const added = await adding;
    expect(added).toMatchObject({
      nodeId: wiped.store.nodeId,
      voter: false,
      detail: "has no vote yet; it gets one once it has caught up",
    });
    const voters = (): string[] => a.store.members.filter(({ voter }) => voter).map(({ nodeId }) => nodeId);
    await cluster.pass(1000);
    expect(voters()).toEqual([a.store.nodeId, b.store.nodeId]);
    wiped.store.pace = "prompt";
    wiped.store.tellWritten();
    wiped.store.tellKept();
    await cluster.pass(3000);
    expect(voters()).toEqual([a.store.nodeId, b.store.nodeId, wiped.store.nodeId]);
    await cluster.crash("b:1");
    expect(await cluster.outcome(a.store.propose("x"))).toMatchObject({ seq: seq(a.store.last.seq) });
  });

  test("that was wiped gets no vote before a majority knows that the one before it has none, whatever it takes to commit", async () => {
    const other = new Cluster();
    const [master, second] = (await other.found(NODES, { commit: "master" })) as [TestNode, TestNode];
    await other.crash("c:1");
    const wiped = await other.start("replica", "c:1", { nodes: NODES });
    // What the master decides alone from here on, the second node does not hear of.
    const { heal } = other.cut("b:1");
    await other.outcome(master.replicator.addReplica("c:1"));
    await other.pass(3000);
    expect(wiped.store.records).toEqual(master.store.records);
    const voters = (): string[] => master.store.members.filter(({ voter }) => voter).map(({ address }) => address);
    expect(voters()).toEqual(["a:1", "b:1"]);
    expect(second.store.members.filter(({ voter }) => voter)).toHaveLength(3);
    heal();
    await other.pass(10_000);
    expect(voters()).toEqual(["a:1", "b:1", "c:1"]);
    await other.close();
  });

  test("that may have lost something decides nothing until it has caught up", async () => {
    await cluster.outcome(a.store.propose("x"));
    cluster.cut("a:1");
    // Power is lost at one node, and takes what it had kept.
    const again = await cluster.relaunch("b:1", { surviving: -1, pace: "prompt" });
    expect(again.store.mustCatchUp).toBe(true);
    expect(again.replicator.survey({ nodeId: c.store.nodeId }).unclean).toBe(true);
    // With the whole third node a majority is there, but not a clean one.
    await expect(cluster.outcome(again.replicator.promote({ force: false }))).rejects.toMatchObject({ code: "behind" });
    await expect(cluster.outcome(c.replicator.promote({ force: false }))).rejects.toMatchObject({
      code: "no_majority",
    });
    cluster.network.silent.clear();
    await cluster.pass(12_000);
    // Neither has disturbed the master.
    expect(a.isServing).toBe(true);
    expect(a.store.promised.epoch).toBe(1);
    expect(again.store.mustCatchUp).toBe(false);
    for (const node of [again, c]) expect(node.store.records).toEqual(a.store.records);
  });

  test("that may have lost something counts where all of them are there, and the epoch says that it did", async () => {
    await cluster.outcome(a.store.propose("x"));
    const starts = [await cluster.stop("a:1"), await cluster.stop("b:1", -1), await cluster.stop("c:1", -1)];
    const [again, ...others] = starts.map((start) => start("prompt")) as [TestNode, ...TestNode[]];
    expect(others.map(({ store }) => store.mustCatchUp)).toEqual([true, true]);
    await cluster.pass(5000);
    expect(again.isServing).toBe(true);
    expect(again.store.history.last).toMatchObject({ epoch: 2, forced: true });
    expect(again.texts).toContain("x");
    for (const { store } of others) {
      expect(store.records).toEqual(again.store.records);
      expect(store.mustCatchUp).toBe(false);
    }
  });
});
