import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nodeId } from "../base/ids.js";
import { Cluster, type TestNode } from "./testing/cluster.js";

let cluster: Cluster;
let a: TestNode;
let b: TestNode;
let c: TestNode;
afterEach(() => cluster.close());

const NODES = ["a:1", "b:1", "c:1"];

type Transferred = Awaited<ReturnType<TestNode["replicator"]["transfer"]>>;

const never = (): AbortSignal => new AbortController().signal;

function transfer(which: { address?: string } = {}, signal = never()): Promise<Transferred> {
  return a.replicator.transfer(which, signal);
}

async function withOneVote(): Promise<void> {
  a = await cluster.start("master", "a:1", { listedReplicas: ["b:1", "c:1"] });
  b = await cluster.start("replica", "b:1");
  c = await cluster.start("replica", "c:1");
  await cluster.pass(5000);
}

async function withListedVoters(): Promise<void> {
  [a, b, c] = (await cluster.found(NODES)) as [TestNode, TestNode, TestNode];
}

describe.each([
  ["one vote", withOneVote],
  ["listed voters", withListedVoters],
])("with %s, a mastership that is handed over", (_, begin) => {
  beforeEach(async () => {
    cluster = new Cluster();
    await begin();
  });

  test("goes to the node that was named, which has every write, and takes the next at once", async () => {
    const written = [];
    for (let i = 0; i < 20; i++) written.push(a.store.propose(`before ${i}`));
    const before = cluster.clock.monotonicMs();
    const transferred = transfer({ address: "B:1" });
    const result = await cluster.outcome(transferred);
    expect(result).toMatchObject({ nodeId: b.store.nodeId, address: "b:1", epoch: 2 });
    expect(result.pauseMs).toBe(Math.ceil(cluster.clock.monotonicMs() - before));
    // Nothing had to wait for time to pass.
    expect(result.pauseMs).toBeLessThanOrEqual(100);
    expect(await Promise.all(written)).toHaveLength(20);
    expect([a, b, c].map(({ isServing }) => isServing)).toEqual([false, true, false]);
    await cluster.outcome(b.store.propose("after"));
    await cluster.pass(1000);
    for (const node of [a, c]) expect(node.store.records).toEqual(b.store.records);
    expect(b.texts.slice(-3)).toContain("after");
    for (const node of [a, b, c]) expect(node.store.disk.diverged).toEqual([]);
  });

  test("goes to the one that has the most when nobody is named, and not to one that is away", async () => {
    await cluster.crash("b:1");
    await cluster.pass(500);
    expect(await cluster.outcome(transfer())).toMatchObject({ address: "c:1" });
  });

  test("holds writes back while it goes on, and those end as of no master", async () => {
    b.store.pace = "told";
    const inFlight = a.store.propose("in flight");
    const transferred = transfer({ address: "b:1" });
    let late: unknown;
    a.store.propose("late").catch((error: unknown) => (late = error));
    await cluster.pass(500);
    expect(a.texts.at(-1)).toBe("in flight");
    expect(a.isServing).toBe(true);
    b.store.pace = "prompt";
    b.store.tellWritten();
    b.store.tellKept();
    await cluster.outcome(transferred);
    expect((await inFlight).seq).toBeGreaterThan(0);
    expect(late).toMatchObject({ code: "not_master" });
    await cluster.pass(1000);
    expect(b.texts).not.toContain("late");
  });

  test("stays where it is when the other one does not get everything in time, and writes go on", async () => {
    const { heal } = cluster.cut("b:1");
    const transferred = transfer({ address: "b:1" });
    const failed = expect(transferred).rejects.toMatchObject({
      code: "handover_failed",
      message: expect.stringContaining("did not take over within 3000 ms"),
    });
    const late = a.store.propose("late");
    await cluster.pass(3000);
    await failed;
    expect(await cluster.outcome(late)).toMatchObject({ epoch: 1 });
    expect(a.isServing).toBe(true);
    heal();
    await cluster.pass(10_000);
    // What it was told to do then it does no more.
    expect(a.isServing).toBe(true);
    expect(b.store.records).toEqual(a.store.records);
  });

  test("stays where it is when the other one dies", async () => {
    b.store.pace = "told";
    a.store.write("x");
    const transferred = transfer({ address: "b:1" });
    const failed = expect(transferred).rejects.toMatchObject({ code: "handover_failed" });
    await cluster.settle();
    await cluster.crash("b:1");
    await cluster.pass(3100);
    await failed;
    expect(await cluster.outcome(a.store.propose("late"))).toMatchObject({ epoch: 1 });
  });

  test("stays where it is when the caller has had enough", async () => {
    cluster.cut("b:1");
    const patience = new AbortController();
    const transferred = transfer({ address: "b:1" }, patience.signal);
    const failed = expect(transferred).rejects.toThrow("enough");
    await cluster.pass(500);
    patience.abort(new Error("enough"));
    await failed;
    expect(await cluster.outcome(a.store.propose("late"))).toMatchObject({ epoch: 1 });
    await expect(transfer({}, patience.signal)).rejects.toThrow("enough");
  });

  test("is handed over once at a time", async () => {
    cluster.cut("b:1");
    const first = transfer({ address: "b:1" });
    const failed = expect(first).rejects.toMatchObject({ code: "handover_failed" });
    await expect(transfer({ address: "c:1" })).rejects.toMatchObject({
      code: "handover_failed",
      message: "a handover is under way already",
    });
    await cluster.pass(3100);
    await failed;
    expect(await cluster.outcome(transfer({ address: "c:1" }))).toMatchObject({ address: "c:1" });
  });

  test("goes on while another node is promoted, and whoever asked hears who has it", async () => {
    cluster.cut("b:1");
    const transferred = transfer({ address: "b:1" });
    const promoted = c.replicator.promote({ force: false });
    expect(await cluster.outcome(transferred)).toMatchObject({ address: "c:1", epoch: 2 });
    expect((await promoted).epoch).toBe(2);
  });

  test("that was given away and not begun is told so", async () => {
    if (b.store.settings.voters === "listed") return;
    // It may promise, and cannot write down that it is master.
    const transferred = transfer({ address: "b:1" });
    for (let i = 0; i < 200 && a.store.promised.epoch === 1; i++) {
      cluster.network.deliver();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await cluster.crash("b:1");
    const failed = expect(transferred).rejects.toMatchObject({
      code: "handover_failed",
      message: expect.stringMatching(
        /gave its promise of epoch 2 to node 0+2|gave its promise of epoch 2 to node (02){16}/,
      ),
    });
    await cluster.pass(11_000);
    await failed;
  });

  test("can go round, many times over", async () => {
    let master = a;
    for (let i = 0; i < 6; i++) {
      await cluster.outcome(master.store.propose(`round ${i}`));
      const { address } = await cluster.outcome(master.replicator.transfer({}, never()));
      master = cluster.node(address);
      await cluster.pass(1000);
    }
    expect(master.store.promised.epoch).toBe(7);
    for (const node of [a, b, c]) {
      expect(node.store.records).toEqual(master.store.records);
      expect(node.store.disk.diverged).toEqual([]);
    }
  });
});

describe("nobody can take over", () => {
  beforeEach(() => (cluster = new Cluster()));

  test("where there is nobody else", async () => {
    a = await cluster.start("master", "a:1");
    await expect(transfer()).rejects.toMatchObject({
      code: "no_target",
      message: "nobody can take over: there is no other member",
    });
    await expect(transfer({ address: "b:1" })).rejects.toMatchObject({ code: "not_found" });
  });

  test("that is away, or only follows where the voters are listed; each is named with its reason", async () => {
    await withListedVoters();
    await cluster.start("replica", "x:1", { masterAddress: "a:1" });
    await cluster.crash("b:1");
    await cluster.crash("c:1");
    await cluster.pass(3000);
    await expect(transfer()).rejects.toMatchObject({
      code: "no_target",
      message: expect.stringMatching(/at b:1 is disconnected; .* at c:1 is disconnected; .* at x:1 is no voter/),
    });
    await expect(transfer({ address: "x:1" })).rejects.toMatchObject({ code: "no_target" });
    await expect(transfer({ address: "a:1" })).rejects.toMatchObject({ code: "not_found" });
  });

  test("by the word of a node that is no master", async () => {
    await withOneVote();
    await expect(b.replicator.transfer({}, never())).rejects.toMatchObject({
      code: "not_master",
      masterAddress: "a:1",
    });
    const wrong = { nodeId: nodeId("77".repeat(16)) };
    await expect(a.replicator.transfer(wrong, never())).rejects.toMatchObject({ code: "not_found" });
  });
});
