import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { clusterId, nodeId } from "../base/ids.js";
import { epoch, seq } from "../base/position.js";
import { decode, emptyDisk } from "./testing/array-store.js";
import { Cluster, TestNode } from "./testing/cluster.js";
import { showMessage } from "./testing/dialogue.js";

let cluster: Cluster;
beforeEach(() => {
  cluster = new Cluster();
});
afterEach(() => cluster.close());

/** A master and a replica that it lists, in step. */
async function pair(): Promise<{ master: TestNode; replica: TestNode }> {
  const replica = await cluster.start("replica", "r:1");
  const master = await cluster.start("master", "m:1", { listedReplicas: ["r:1"] });
  return { master, replica };
}

/** All messages from here on, as lines. */
function listen(): string[] {
  const heard: string[] = [];
  cluster.network.heard = (message) => {
    const fromMaster = ["hello", "align", "append", "heartbeat"].includes(message.kind);
    heard.push(`${fromMaster ? ">" : "<"} ${showMessage(message)}`);
  };
  return heard;
}

function memberAt(node: TestNode, address: string): ReturnType<TestNode["replicator"]["members"]>[number] | undefined {
  return node.replicator.members().find((member) => member.address === address);
}

describe("a master", () => {
  test("takes a new epoch at every start, and enters itself once", async () => {
    const master = await cluster.start("master", "m:1");
    expect(master.store.records.map(({ text }) => text)).toEqual(["epoch 1", "member m:1"]);
    expect(master.store.members).toEqual([
      { nodeId: master.store.nodeId, address: "m:1", voter: true, source: "founder", removed: false },
    ]);
    const again = await cluster.restart("m:1");
    expect(again.store.records.map(({ text }) => text)).toEqual(["epoch 1", "member m:1", "epoch 2"]);
    expect(again.store.disk.promised).toMatchObject({ epoch: 2, candidate: again.store.nodeId });
    expect(again.replicator.stalenessMs()).toBe(0);
    expect(again.replicator.matchSeq).toBe(3);
    expect(again.replicator.masterAddress).toBe("m:1");
  });

  test("has its log kept for the member that lacks the most of it, connected or not", async () => {
    const { master, replica } = await pair();
    master.store.write("a");
    await cluster.settleGathered();
    expect(master.store.lackedAfter()).toBe(master.store.last.seq);
    await cluster.crash("r:1");
    const had = master.store.last.seq;
    master.store.write("b");
    await cluster.settleGathered();
    expect(master.store.lackedAfter()).toBe(had);
    expect(replica.store.lackedAfter()).toBeUndefined();
    const alone = await cluster.start("master", "m:9");
    expect(alone.store.lackedAfter()).toBeUndefined();
  });

  test("takes an epoch above what it has promised to others", async () => {
    const disk = { ...emptyDisk("master", 7), clusterId: clusterId("c1".repeat(16)), promised: { epoch: epoch(41) } };
    const master = await cluster.start("master", "m:1", { disk });
    expect(master.store.promised.epoch).toBe(42);
  });

  test("enters its new address when that has changed", async () => {
    await cluster.start("master", "m:1");
    const disk = await cluster.crash("m:1");
    const master = await cluster.start("master", "m:2", { disk });
    expect(master.store.members).toEqual([expect.objectContaining({ address: "m:2", voter: true, source: "founder" })]);
  });

  test("does not begin on a disk without room for its first record", async () => {
    const full = new TestNode("m:1", emptyDisk("master", 7), cluster, {});
    full.store.pace = "told";
    const started = full.replicator.start();
    const failed = expect(started).rejects.toMatchObject({ code: "disk_full" });
    await cluster.settle();
    full.store.drop();
    await failed;
    await full.replicator.close();
  });

  test("is master only once its epoch is committed", async () => {
    const node = new TestNode("m:1", emptyDisk("master", 7), cluster, {});
    node.store.pace = "told";
    const started = node.replicator.start();
    await cluster.settle();
    await expect(node.replicator.addReplica("r:1")).rejects.toMatchObject({ code: "not_master" });
    node.store.tellWritten();
    node.store.tellKept();
    node.store.pace = "prompt";
    await cluster.settle();
    await started;
    expect(node.store.disk.caughtUp).toBe(true);
    await node.replicator.close();
  });

  test("that is closed while it starts says so", async () => {
    const node = new TestNode("m:1", emptyDisk("master", 7), cluster, {});
    node.store.pace = "told";
    const started = node.replicator.start();
    const failed = expect(started).rejects.toMatchObject({ code: "closing" });
    await cluster.settle();
    await node.replicator.close();
    await failed;
  });
});

describe("pushing", () => {
  test("from the first connection to the first write is this conversation", async () => {
    const heard = listen();
    const { master } = await pair();
    master.store.write("a");
    await cluster.settleGathered();
    expect(heard).toEqual([
      "> hello epoch 1, history 1@1, last 1/2",
      "< welcome promised 1, history none, last 0/0",
      "> align at 0/0",
      "< ack match 0, applied 0, probe 1",
      expect.stringMatching(/^> append after 0\/0, \d+ bytes, commit 3, echo 1$/),
      "< ack match 3, applied 0, probe 1",
      expect.stringMatching(/^> append after 1\/3, \d+ bytes, commit 4, echo 1$/),
      "< ack match 4, applied 3, probe 1",
    ]);
  });

  test("gives replicas the master's log, and they apply what is committed", async () => {
    const { master, replica } = await pair();
    for (let i = 0; i < 100; i++) master.store.write(`record ${i}`);
    await cluster.settleGathered();
    expect(replica.store.records).toEqual(master.store.records);
    expect(replica.store.appliedSeq).toBe(master.store.last.seq);
    expect(replica.replicator.matchSeq).toBe(master.store.last.seq);
    expect(replica.replicator.commitSeq).toBe(master.store.last.seq);
    expect(replica.replicator.masterAddress).toBe("m:1");
    expect(replica.store.disk.caughtUp).toBe(true);
    expect(replica.store.masterTimes[0]).toBe(1_000_000);
  });

  test("does not happen before the master's own write has returned", async () => {
    const { master, replica } = await pair();
    const before = replica.store.last.seq;
    master.store.pace = "told";
    master.store.write("a");
    await cluster.settleGathered();
    expect(replica.store.last.seq).toBe(before);
    master.store.tellWritten();
    await cluster.settleGathered();
    expect(replica.store.last.seq).toBe(before + 1);
    expect(replica.store.appliedSeq).toBe(before);
    master.store.tellKept();
    await cluster.settleGathered();
    expect(replica.store.appliedSeq).toBe(before + 1);
  });

  test("gathers what nobody waits for, for a moment", async () => {
    const { master, replica } = await pair();
    const before = replica.store.last.seq;
    master.store.write("a");
    await cluster.settle();
    expect(replica.store.last.seq).toBe(before);
    await cluster.settleGathered();
    expect(replica.store.appliedSeq).toBe(before + 1);
  });

  test("does not gather what somebody waits for", async () => {
    const { master, replica } = await pair();
    master.store.write("a");
    const replicated = master.replicator.whenReplicated(master.store.last.seq, new AbortController().signal);
    await cluster.settle();
    await replicated;
    expect(replica.store.last.seq).toBe(master.store.last.seq);
    master.store.pace = "told";
    master.store.write("b");
    master.replicator.hasten();
    master.store.tellWritten();
    await cluster.settle();
    expect(replica.store.last.seq).toBe(master.store.last.seq);
    expect(replica.store.appliedSeq).toBe(master.store.last.seq - 1);
  });

  test("a replica that restarts catches up from where it was", async () => {
    const { master } = await pair();
    for (let i = 0; i < 50; i++) master.store.write(`record ${i}`);
    await cluster.settleGathered();
    const disk = await cluster.crash("r:1");
    for (let i = 0; i < 50; i++) master.store.write(`more ${i}`);
    await cluster.pass(1000);
    expect(memberAt(master, "r:1")).toMatchObject({
      state: "disconnected",
      lagRecords: 50,
      detail: "connection refused",
    });
    const replica = await cluster.start("replica", "r:1", { disk });
    await cluster.pass(5000);
    expect(replica.store.records).toEqual(master.store.records);
    expect(memberAt(master, "r:1")).toMatchObject({ state: "streaming", lagRecords: 0, lagMs: 0, detail: "" });
  });

  test("one that is far behind is fed from the disk, one read at a time, within the window", async () => {
    const replica = await cluster.start("replica", "r:1");
    const master = await cluster.start("master", "m:1");
    for (let i = 0; i < 300; i++) master.store.write(`record ${i}`);
    await cluster.settle();
    master.store.forgottenSeq = master.store.last.seq;
    replica.store.pace = "told";
    let inFlight = 0;
    let most = 0;
    let largest = 0;
    cluster.network.heard = (message) => {
      if (message.kind !== "append") return;
      inFlight += message.records.length;
      most = Math.max(most, inFlight);
      for (const record of decode(message.records)) largest = Math.max(largest, JSON.stringify(record).length + 1);
    };
    const adding = master.replicator.addReplica("r:1");
    await cluster.settle();
    await adding;
    while (replica.store.last.seq < master.store.last.seq || replica.store.keptSeq < replica.store.last.seq) {
      const before = replica.store.keptSeq;
      replica.store.tellWritten();
      replica.store.tellKept();
      inFlight = 0;
      await cluster.settle();
      expect(replica.store.last.seq).toBeGreaterThan(before);
    }
    expect(replica.store.records).toEqual(master.store.records);
    expect(master.store.readingMost).toBe(1);
    expect(most).toBeGreaterThan(2000);
    expect(most).toBeLessThanOrEqual(4000 + largest);
  });

  test("a replica whose disk is full is let go with that reason, and gets the rest later", async () => {
    const { master, replica } = await pair();
    replica.store.pace = "told";
    master.store.write("a");
    await cluster.settleGathered();
    replica.store.drop();
    await cluster.settleGathered();
    expect(memberAt(master, "r:1")).toMatchObject({
      state: "disconnected",
      detail: expect.stringContaining("the replica's disk has no room"),
    });
    replica.store.pace = "prompt";
    await cluster.pass(1000);
    expect(replica.store.records).toEqual(master.store.records);
  });

  test("a connection without a word from the replica is given up, and tried again", async () => {
    const { master, replica } = await pair();
    cluster.network.silent.add("r:1");
    await cluster.pass(4000);
    expect(memberAt(master, "r:1")?.state).toBe("streaming");
    await cluster.pass(1500);
    expect(memberAt(master, "r:1")?.state).toBe("disconnected");
    expect(memberAt(master, "r:1")?.detail).toMatch(/silent for \d+ ms|nothing answers/);
    expect(replica.complaints).toEqual(["no master pushes to this node: the master has been silent for too long"]);
    master.store.write("a");
    cluster.network.silent.clear();
    await cluster.pass(12_000);
    expect(replica.store.records).toEqual(master.store.records);
  });

  test("lag is counted from when the replica last had everything", async () => {
    const { master } = await pair();
    await cluster.pass(60_000);
    cluster.network.silent.add("r:1");
    master.store.write("a");
    await cluster.settle();
    await cluster.pass(700);
    expect(memberAt(master, "r:1")).toMatchObject({ lagRecords: 1 });
    expect(memberAt(master, "r:1")?.lagMs).toBeGreaterThanOrEqual(700);
    expect(memberAt(master, "r:1")?.lagMs).toBeLessThanOrEqual(800);
  });
});

describe("logs that have parted", () => {
  test("are cut where the master's history has another epoch, and the cut is kept", async () => {
    const { master, replica } = await pair();
    master.store.pace = "told";
    const common = master.store.last.seq;
    for (const text of ["lost 1", "lost 2", "lost 3"]) master.store.write(text);
    // Written and pushed, and then the power goes before the sync.
    master.store.tellWritten();
    await cluster.settleGathered();
    expect(replica.store.last.seq).toBe(common + 3);
    const again = await cluster.restart("m:1");
    await cluster.pass(1000);
    expect(replica.store.records).toEqual(again.store.records);
    expect(replica.store.records.map(({ text }) => text)).not.toContain("lost 1");
    expect(replica.store.disk.diverged.map((cut) => cut.map(({ text }) => text))).toEqual([
      ["lost 1", "lost 2", "lost 3"],
    ]);
    expect(replica.store.commits).toEqual([...replica.store.commits].sort((a, b) => a - b));
  });

  test("are cut below the commit when the only copy that counted was lost, and the state is built anew", async () => {
    const { master, replica } = await pair();
    const common = master.store.last.seq;
    for (const text of ["lost 1", "lost 2", "lost 3"]) master.store.write(text);
    await cluster.settleGathered();
    expect(replica.store.appliedSeq).toBe(common + 3);
    const disk = await cluster.crash("m:1");
    disk.records.length = common;
    const again = await cluster.start("master", "m:1", { disk, listedReplicas: ["r:1"] });
    await cluster.pass(1000);
    expect(replica.store.records).toEqual(again.store.records);
    expect(replica.store.appliedSeq).toBe(common + 1);
    expect(replica.store.disk.diverged).toHaveLength(1);
  });

  test("that disagree inside one epoch are damage: refused, with both chain values, and nothing is cut", async () => {
    const { master } = await pair();
    for (const text of ["a", "b", "c"]) master.store.write(text);
    await cluster.settle();
    const disk = await cluster.crash("r:1");
    disk.records = disk.records.map((record) => ({ ...record, chain: (record.chain ^ 1) >>> 0 }));
    const replica = await cluster.start("replica", "r:1", { disk });
    const before = [...replica.store.records];
    await cluster.pass(3000);
    expect(memberAt(master, "r:1")).toMatchObject({
      state: "refused",
      detail: expect.stringMatching(/the master has .* chain [0-9a-f]{8}, this node .* chain [0-9a-f]{8}/),
    });
    expect(replica.store.records).toEqual(before);
    expect(master.complaints.filter((complaint) => complaint.includes("misaligned"))).toHaveLength(1);
  });
});

describe("a stale master", () => {
  test("is fenced by the replicas that have promised a newer epoch, and takes no more writes", async () => {
    const { master, replica } = await pair();
    await cluster.crash("r:1");
    const disk = { ...replica.store.disk, promised: { epoch: epoch(5), candidate: nodeId("99".repeat(16)) } };
    const fenced = await cluster.start("replica", "r:1", { disk });
    await cluster.pass(3000);
    expect(master.store.isMaster).toBe(false);
    expect(master.complaints.at(-1)).toContain("epoch 5 has begun");
    expect(fenced.store.records).toEqual(replica.store.records);
    expect(master.replicator.stalenessMs()).toBeUndefined();
    await expect(master.replicator.addReplica("x:1")).rejects.toMatchObject({ code: "not_master" });
    await expect(master.replicator.register({ nodeId: nodeId("55".repeat(16)), address: "x:1" })).rejects.toMatchObject(
      {
        code: "not_master",
      },
    );
  });

  test("and its copy of the same epoch both learn of the conflict", async () => {
    const { master, replica } = await pair();
    const copy = { ...master.store.disk, nodeId: nodeId("77".repeat(16)) };
    copy.promised = { epoch: epoch(0) };
    copy.records = [];
    const twin = await cluster.start("master", "t:1", { disk: copy, listedReplicas: ["r:1"] });
    await cluster.pass(1000);
    expect(twin.store.promised.epoch).toBe(master.store.promised.epoch);
    expect(twin.store.isMaster).toBe(false);
    expect(twin.complaints.at(-1)).toContain("another mastership has the same epoch 1");
    expect(master.store.isMaster).toBe(true);
    expect(replica.store.records).toEqual(master.store.records);
  });
});

describe("staleness of a replica", () => {
  test("stays within a heartbeat while the master answers, and grows when it does not", async () => {
    const { replica } = await pair();
    await cluster.pass(5000);
    expect(replica.replicator.stalenessMs()).toBeLessThanOrEqual(1000);
    cluster.network.silent.add("m:1");
    await cluster.pass(3000);
    expect(replica.replicator.stalenessMs()).toBeGreaterThanOrEqual(3000);
  });

  test("stays small under load, when nothing is ever quiet", async () => {
    const { master, replica } = await pair();
    for (let i = 0; i < 100; i++) {
      master.store.write(`record ${i}`);
      await cluster.pass(50, 50);
      expect(replica.replicator.stalenessMs()).toBeLessThanOrEqual(600);
    }
  });

  test("is unknown before a master was heard", async () => {
    const replica = await cluster.start("replica", "r:1");
    expect(replica.replicator.stalenessMs()).toBeUndefined();
  });
});

describe("registering", () => {
  test("makes an unknown replica a member, and it is pushed to at once", async () => {
    const master = await cluster.start("master", "m:1");
    const replica = await cluster.start("replica", "r:1", { masterAddress: "m:1" });
    await cluster.pass(100);
    expect(memberAt(master, "r:1")).toMatchObject({ source: "registered", voter: false, state: "streaming" });
    expect(replica.store.records).toEqual(master.store.records);
    const { registrations } = cluster.network;
    await cluster.pass(30_000);
    expect(cluster.network.registrations).toBe(registrations);
  });

  test("goes on until the master is there", async () => {
    const replica = await cluster.start("replica", "r:1", { masterAddress: "m:1" });
    await cluster.pass(20_000);
    expect(replica.complaints).toEqual(["the master does not take this replica; trying on: nothing listens at m:1"]);
    const master = await cluster.start("master", "m:1");
    await cluster.pass(6000);
    expect(replica.store.records).toEqual(master.store.records);
  });

  test("at a new address moves the member, and keeps how it came to be known", async () => {
    await cluster.start("replica", "r:1");
    const master = await cluster.start("master", "m:1");
    await Promise.all([master.replicator.addReplica("r:1"), cluster.settle()]);
    const disk = await cluster.crash("r:1");
    const moved = await cluster.start("replica", "r:2", { masterAddress: "m:1", disk });
    await cluster.pass(100);
    const others = master.replicator.members().filter(({ state }) => state !== "self");
    expect(others).toMatchObject([{ nodeId: moved.store.nodeId, address: "r:2", source: "added", state: "streaming" }]);
    expect(moved.store.records).toEqual(master.store.records);
  });

  test("again with nothing new writes nothing", async () => {
    const master = await cluster.start("master", "m:1");
    const request = { nodeId: nodeId("55".repeat(16)), address: "r:9" };
    await Promise.all([master.replicator.register(request), cluster.settle()]);
    const { seq: before } = master.store.last;
    await Promise.all([master.replicator.register(request), cluster.settle()]);
    expect(master.store.last.seq).toBe(before);
  });

  test.each([
    ["of another cluster", { clusterId: clusterId("f0".repeat(16)) }, "foreign_cluster"],
    ["without a port", { address: "r" }, "invalid_address"],
    ["under the master's address", { address: "m:1" }, "refused"],
  ])("%s is refused", async (_, wrong, code) => {
    const master = await cluster.start("master", "m:1");
    const request = { nodeId: nodeId("55".repeat(16)), address: "r:1", ...wrong };
    await expect(master.replicator.register(request)).rejects.toMatchObject({ code });
  });

  test("at a replica is refused, and the replica knows the master", async () => {
    const { replica } = await pair();
    const request = { nodeId: nodeId("55".repeat(16)), address: "x:1" };
    await expect(replica.replicator.register(request)).rejects.toMatchObject({
      code: "not_master",
      message: "this node is a replica",
    });
    expect(replica.replicator.masterAddress).toBe("m:1");
  });

  test("a replica that was wiped takes the place of the one before", async () => {
    const master = await cluster.start("master", "m:1");
    const first = await cluster.start("replica", "r:1", { masterAddress: "m:1" });
    await cluster.pass(100);
    await cluster.crash("r:1");
    const second = await cluster.start("replica", "r:1", { masterAddress: "m:1" });
    await cluster.pass(1000);
    expect(second.store.records).toEqual(master.store.records);
    expect(memberAt(master, "r:1")).toMatchObject({ nodeId: second.store.nodeId, state: "streaming" });
    expect(master.replicator.members()).toHaveLength(2);
    // Were it to come back elsewhere, it would be as welcome as any.
    const request = { nodeId: first.store.nodeId, address: "r:2" };
    await Promise.all([master.replicator.register(request), cluster.settle()]);
    expect(master.replicator.members()).toHaveLength(3);
  });
});

describe("a listed replica", () => {
  test("is shown before it was met, and becomes a member when it is", async () => {
    const master = await cluster.start("master", "m:1", { listedReplicas: ["R:1"] });
    expect(master.replicator.members()[1]).toMatchObject({
      address: "r:1",
      source: "listed",
      state: "disconnected",
      detail: "connection refused",
    });
    expect(master.replicator.members()[1]?.nodeId).toBeUndefined();
    const replica = await cluster.start("replica", "r:1");
    await cluster.pass(5000);
    expect(memberAt(master, "r:1")).toMatchObject({
      nodeId: replica.store.nodeId,
      source: "listed",
      state: "streaming",
    });
    const { seq: before } = master.store.last;
    await cluster.restart("r:1");
    await cluster.pass(5000);
    expect(master.store.last.seq).toBe(before);
  });

  test("that was wiped replaces the old member", async () => {
    const { master, replica } = await pair();
    await cluster.crash("r:1");
    const wiped = await cluster.start("replica", "r:1");
    await cluster.pass(3000);
    expect(wiped.store.nodeId).not.toBe(replica.store.nodeId);
    expect(wiped.store.records).toEqual(master.store.records);
    expect(master.replicator.members().map(({ nodeId }) => nodeId)).toEqual([master.store.nodeId, wiped.store.nodeId]);
    expect(master.complaints).toContainEqual(
      expect.stringContaining("a member is replaced by another node at its address"),
    );
  });

  test("of another cluster is refused, and says so once", async () => {
    const disk = { ...emptyDisk("replica", 9), clusterId: clusterId("f0".repeat(16)) };
    const foreign = await cluster.start("replica", "r:1", { disk });
    const master = await cluster.start("master", "m:1", { listedReplicas: ["r:1"] });
    await cluster.pass(10_000);
    expect(memberAt(master, "r:1")?.state).toBe("refused");
    expect(foreign.store.records).toEqual([]);
    expect(foreign.store.promised.epoch).toBe(0);
    expect(master.complaints).toHaveLength(1);
    expect(foreign.complaints).toHaveLength(1);
  });

  test("that is a copy of a node which still follows is refused, whoever asks for it", async () => {
    const { master, replica } = await pair();
    await cluster.pass(1000);
    const { disk } = replica.store;
    const copied = { ...disk, records: [...disk.records] };
    const copy = await cluster.start("replica", "r:2", { disk: copied, masterAddress: "m:1" });
    await cluster.pass(3000);
    const adding = cluster.outcome(master.replicator.addReplica("r:2"));
    await expect(adding).rejects.toMatchObject({
      code: "refused",
      message: expect.stringContaining("directory copied"),
    });
    expect(copy.complaints.join()).toContain("directory copied");
    expect(master.replicator.members().map(({ address }) => address)).toEqual(["m:1", "r:1"]);
    // Once the other one is gone, it is a node that has moved.
    await cluster.crash("r:1");
    await cluster.pass(12_000);
    const members = master.replicator.members().filter(({ nodeId }) => nodeId !== undefined);
    expect(members.map(({ address }) => address)).toEqual(["m:1", "r:2"]);
    expect(copy.store.records).toEqual(master.store.records);
  });

  test("that cannot be entered at first is entered later", async () => {
    const replica = await cluster.start("replica", "r:1");
    const master = await cluster.start("master", "m:1");
    master.store.failing = new Error("overloaded");
    const adding = expect(master.replicator.addReplica("r:1")).rejects.toThrow("overloaded");
    await cluster.settle();
    await adding;
    expect(master.replicator.members()).toHaveLength(1);
    const listing = await cluster.crash("m:1");
    const again = await cluster.start("master", "m:1", { disk: listing, listedReplicas: ["r:1"] });
    again.store.failing = undefined;
    await cluster.pass(3000);
    expect(memberAt(again, "r:1")?.nodeId).toBe(replica.store.nodeId);
  });

  test("with an address that is none stops the start", async () => {
    await expect(cluster.start("master", "m:1", { listedReplicas: ["nonsense"] })).rejects.toMatchObject({
      code: "invalid_address",
    });
  });
});

describe("adding a replica", () => {
  test("makes it a member, whose catching up goes on afterwards", async () => {
    const replica = await cluster.start("replica", "r:1");
    const master = await cluster.start("master", "m:1");
    const [view] = await Promise.all([master.replicator.addReplica("R:1"), cluster.settle()]);
    expect(view).toMatchObject({ nodeId: replica.store.nodeId, address: "r:1", source: "added", voter: false });
    await cluster.settle();
    expect(replica.store.records).toEqual(master.store.records);
    const { seq: before } = master.store.last;
    await Promise.all([master.replicator.addReplica("r:1"), cluster.settle()]);
    expect(master.store.last.seq).toBe(before);
  });

  test("twice at once adds it once", async () => {
    await cluster.start("replica", "r:1");
    const master = await cluster.start("master", "m:1");
    const [one, two] = await Promise.all([
      master.replicator.addReplica("r:1"),
      master.replicator.addReplica("r:1"),
      cluster.settle(),
    ]);
    expect(one.nodeId).toBe(two.nodeId);
    expect(master.store.records.filter(({ text }) => text === "member r:1")).toHaveLength(1);
  });

  test.each([
    ["nonsense", "invalid_address"],
    ["m:1", "refused"],
    ["nobody:1", "unreachable"],
    ["foreign:1", "foreign_cluster"],
    ["other:1", "foreign_cluster"],
  ])("at %s fails: %s", async (address, code) => {
    const foreign = { ...emptyDisk("replica", 9), clusterId: clusterId("f0".repeat(16)) };
    await cluster.start("replica", "foreign:1", { disk: foreign });
    await cluster.start("master", "other:1");
    const master = await cluster.start("master", "m:1");
    const failed = expect(master.replicator.addReplica(address)).rejects.toMatchObject({ code });
    await cluster.settle();
    await failed;
    const heard = listen();
    await cluster.pass(6000);
    expect(heard).toEqual([]);
    expect(master.replicator.members()).toHaveLength(1);
    expect(cluster.network.wires).toEqual([]);
  });

  test("where nobody answers fails within five seconds", async () => {
    const master = await cluster.start("master", "m:1");
    cluster.network.silent.add("r:1");
    const failed = expect(master.replicator.addReplica("r:1")).rejects.toMatchObject({ code: "unreachable" });
    await cluster.pass(5000);
    await failed;
  });

  test("at a replica is refused", async () => {
    const { replica } = await pair();
    await expect(replica.replicator.addReplica("x:1")).rejects.toMatchObject({ code: "not_master" });
  });

  test("is refused while the node shuts down", async () => {
    const master = await cluster.start("master", "m:1");
    cluster.network.silent.add("r:1");
    const failed = expect(master.replicator.addReplica("r:1")).rejects.toMatchObject({ code: "closing" });
    await cluster.settle();
    await master.replicator.close();
    await failed;
    await expect(master.replicator.addReplica("r:1")).rejects.toMatchObject({ code: "closing" });
  });
});

describe("removing a replica", () => {
  test.each([["by address"], ["by node id"]])("%s ends the pushing, until it is added again", async (how) => {
    const { master, replica } = await pair();
    const which = how === "by address" ? { address: "r:1" } : { nodeId: replica.store.nodeId };
    await Promise.all([master.replicator.removeReplica(which), cluster.settle()]);
    expect(master.replicator.members()).toHaveLength(1);
    expect(cluster.network.wires).toEqual([]);
    const before = replica.store.last.seq;
    master.store.write("a");
    await cluster.pass(10_000);
    expect(replica.store.last.seq).toBeLessThanOrEqual(before + 1);
    await Promise.all([master.replicator.addReplica("r:1"), cluster.settle()]);
    await cluster.settle();
    expect(replica.store.records).toEqual(master.store.records);
    expect(memberAt(master, "r:1")?.state).toBe("streaming");
  });

  test("is remembered: it cannot register, and is not pushed to after the master's restart", async () => {
    const master = await cluster.start("master", "m:1");
    const replica = await cluster.start("replica", "r:1", { masterAddress: "m:1" });
    await cluster.pass(100);
    await Promise.all([master.replicator.removeReplica({ address: "r:1" }), cluster.settle()]);
    await cluster.pass(10_000);
    expect(replica.complaints.at(-1)).toContain("was removed from the cluster; add it again");
    const again = await cluster.restart("m:1");
    await cluster.pass(10_000);
    expect(again.replicator.members()).toHaveLength(1);
    expect(replica.store.last.seq).toBeLessThan(again.store.last.seq);
  });

  test("follows the node to another address", async () => {
    const { master } = await pair();
    await Promise.all([master.replicator.removeReplica({ address: "r:1" }), cluster.settle()]);
    const disk = await cluster.crash("r:1");
    const moved = await cluster.start("replica", "r:2", { disk });
    const own = await cluster.crash("m:1");
    const again = await cluster.start("master", "m:1", { disk: own, listedReplicas: ["r:1", "r:2"] });
    await cluster.pass(3000);
    expect(again.replicator.members()).toMatchObject([{ state: "self" }, { address: "r:2", state: "refused" }]);
    expect(memberAt(again, "r:2")?.detail).toContain("was removed from the cluster");
    expect(moved.store.last.seq).toBeLessThan(again.store.last.seq);
  });

  test("of nobody is not found", async () => {
    const { master, replica } = await pair();
    for (const which of [{}, { address: "x:1" }, { address: "r:2", nodeId: replica.store.nodeId }]) {
      await expect(master.replicator.removeReplica(which)).rejects.toMatchObject({ code: "not_found" });
    }
  });

  test("of the master is refused, for it is a voter", async () => {
    const { master } = await pair();
    await expect(master.replicator.removeReplica({ address: "m:1" })).rejects.toMatchObject({ code: "is_voter" });
  });
});

describe("the members", () => {
  test("as a replica knows them say nothing about the state of the others", async () => {
    const { replica } = await pair();
    const views = replica.replicator.members();
    expect(views.map(({ address, state }) => [address, state])).toEqual([
      ["m:1", undefined],
      ["r:1", "self"],
    ]);
    expect(views[1]).toMatchObject({ matchSeq: replica.replicator.matchSeq, appliedSeq: replica.store.appliedSeq });
  });
});

describe("closing", () => {
  test("leaves no connection, session or timer", async () => {
    const { master, replica } = await pair();
    await master.replicator.close();
    await replica.replicator.close();
    await cluster.settle();
    expect(cluster.network.wires).toEqual([]);
    expect(cluster.clock.pendingTimers).toBe(0);
  });

  test("waits for the store's work that is under way", async () => {
    const replica = await cluster.start("replica", "r:1");
    replica.store.held = [];
    await cluster.start("master", "m:1", { listedReplicas: ["r:1"] });
    let closed = false;
    const closing = replica.replicator.close().then(() => (closed = true));
    await cluster.settle();
    expect(closed).toBe(false);
    replica.store.release();
    await closing;
  });

  test("after a failed disk everybody is let go", async () => {
    const { replica } = await pair();
    replica.store.fail(new Error("EIO"));
    await cluster.settle();
    expect(cluster.network.wires).toEqual([]);
    await cluster.pass(2000);
    expect(cluster.node("m:1").complaints.at(-1)).toContain("the disk of this node failed: EIO");
  });
});

test("what is acknowledged is never more than what is kept", async () => {
  const { master, replica } = await pair();
  replica.store.pace = "told";
  const before = replica.store.keptSeq;
  for (let i = 0; i < 5; i++) master.store.write(`record ${i}`);
  await cluster.settleGathered();
  expect(replica.replicator.matchSeq).toBe(before);
  expect(memberAt(master, "r:1")?.matchSeq).toBe(before);
  expect(replica.store.appliedSeq).toBe(before);
  replica.store.tellWritten();
  replica.store.tellKept();
  await cluster.settle();
  expect(memberAt(master, "r:1")?.matchSeq).toBe(seq(before + 5));
});
