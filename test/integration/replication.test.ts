/** The way of a write and of a read through real processes: a master, and replicas that follow it. */
import path from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type ClusterOptions, TestCluster } from "../harness/cluster.js";
import { TestNode } from "../harness/node.js";
import { call, get, set, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";

async function startCluster(options: ClusterOptions): Promise<TestCluster> {
  const cluster = await TestCluster.start(options);
  onTestFinished(() => cluster.close());
  return cluster;
}

/** Every event that a node has after a seq, in the order of the log. */
async function eventsOf(address: string, after: number): Promise<unknown[]> {
  const { body } = await call(address, "KVStore/GetUpdates", { after, limit: 10_000 });
  return body.events as unknown[];
}

describe("a master and two replicas that register themselves", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await TestCluster.start({ replicas: 2 });
  });
  afterAll(() => cluster.close());

  test("what is written to the master is read from every node", async () => {
    await cluster.setEverywhere("greeting", "hello");
    for (const node of cluster.nodes) expect(await get(node.address, "greeting")).toBe("hello");
  });

  test("changes of every kind arrive on every node, in one order and at the same positions", async () => {
    const { address } = cluster.master;
    const before = await set(address, "kept", "0");
    await set(address, "kept", "1");
    await set(address, "changed", "1");
    await set(address, "changed", "2");
    await set(address, "gone", "1");
    await call(address, "KVStore/Delete", { key: "gone" });
    await call(address, "KVStore/Set", { key: "lasting", value: "AQ==", ttlMs: 3_600_000 });
    await call(address, "KVStore/Write", {
      operations: [{ set: { key: "batch-1", value: "AQ==" } }, { set: { key: "batch-2", value: "Ag==" } }],
    });
    await cluster.setEverywhere("last", "1");

    expect(await eventsOf(address, before)).toHaveLength(9);
    const expected = await eventsOf(address, 0);
    for (const replica of cluster.replicas) {
      expect(await eventsOf(replica.address, 0)).toEqual(expected);
      expect(await get(replica.address, "changed")).toBe("2");
      expect(await get(replica.address, "gone")).toBeUndefined();
    }
  });

  test("keys that mean something to a language or a file system are keys like any other", async () => {
    const keys = ["__proto__", "constructor", "toString", "../../x", "\u0000", "a/b", " ", "ключ", "🌳"];
    for (const key of keys) await set(cluster.master.address, key, `value of ${key}`);
    await cluster.setEverywhere("last", "1");
    for (const node of cluster.nodes) {
      for (const key of keys) expect(await get(node.address, key)).toBe(`value of ${key}`);
      expect(await get(node.address, "hasOwnProperty")).toBeUndefined();
    }
  });

  test("a write to a replica is refused with the address of the master", async () => {
    const answer = await call(cluster.replicas[0]!.address, "KVStore/Set", { key: "a", value: "AQ==" });
    expect(answer.body).toMatchObject({
      code: "failed_precondition",
      details: [{ type: "cambium.v1.NotMaster", debug: { masterAddress: cluster.master.address } }],
    });
  });

  test("replicas that register themselves are members, and stay members over a restart of the master", async () => {
    const addresses = cluster.nodes.map((node) => node.address).sort();
    const members = async (): Promise<string[]> => {
      const state = await status(cluster.master.address);
      return state.members.map((member) => member.address ?? "").sort();
    };
    await until("both are members", async () => (await members()).length === 3);
    expect(await members()).toEqual(addresses);

    expect(await cluster.master.stop()).toBe(0);
    await cluster.master.start();
    expect(await members()).toEqual(addresses);
  });
});

test("replicas that the master lists need to know nothing of it", async () => {
  const cluster = await startCluster({ replicas: 0 });
  const replica = new TestNode({ program: "replica", directory: path.join(cluster.directory, "listed") });
  cluster.replicas.push(replica);
  await replica.start();
  const master = new TestNode({
    program: "master",
    directory: path.join(cluster.directory, "lister"),
    config: { replication: { replicas: [replica.address] } },
  });
  cluster.replicas.push(master);
  await master.start();

  const seq = await set(master.address, "greeting", "hello");
  await replica.applied(seq);
  await replica.ready();
  expect(await get(replica.address, "greeting")).toBe("hello");
});

test("a replica is added and removed while everything runs", async () => {
  const cluster = await startCluster({ replicas: 0 });
  const { address } = cluster.master;
  await set(address, "before", "1");
  const replica = new TestNode({ program: "replica", directory: path.join(cluster.directory, "added") });
  cluster.replicas.push(replica);
  await replica.start();

  const added = await call(address, "Cluster/AddReplica", { address: replica.address });
  expect(added.body).toMatchObject({ member: { address: replica.address } });
  await replica.ready();
  await cluster.setEverywhere("with it", "1");
  expect(await get(replica.address, "before")).toBe("1");
  expect(await get(replica.address, "with it")).toBe("1");

  const removed = await call(address, "Cluster/RemoveReplica", { address: replica.address });
  expect(removed).toEqual({ status: 200, body: {} });
  expect((await status(address)).members.map((member) => member.address)).toEqual([address]);
  await set(address, "without it", "1");
  expect(await get(address, "without it")).toBe("1");
});

test("a replica that was stopped catches up when it is back", async () => {
  const cluster = await startCluster({ replicas: 2 });
  const [away, present] = cluster.replicas as [TestNode, TestNode];
  await cluster.setEverywhere("before", "1");
  expect(await away.stop()).toBe(0);
  const seq = await set(cluster.master.address, "meanwhile", "1");
  await present.applied(seq);
  await away.start();
  await away.applied(seq);
  expect(await get(away.address, "before")).toBe("1");
  expect(await get(away.address, "meanwhile")).toBe("1");
});

test("a replica that crashed serves what it had, before any master speaks to it", async () => {
  const cluster = await startCluster({ replicas: 1 });
  const [replica] = cluster.replicas as [TestNode];
  await cluster.setEverywhere("a", "1");
  // What it has applied is written into the frames that follow.
  await cluster.setEverywhere("b", "2");
  await replica.kill();
  await cluster.master.stop();
  await replica.start();
  await replica.ready();
  expect(await get(replica.address, "a")).toBe("1");
});

/** More than the log keeps in memory, over several segments of 4 MB. */
const manyValues = Array.from({ length: 20 }, (_, index) => Buffer.alloc(1_000_000, index));
const wal = { max_file_size: "4MB" };

/** Writes `manyValues` while the replica is away, and starts the master again, so that it has none of them in memory. */
async function leaveBehind(cluster: TestCluster): Promise<number> {
  await cluster.replicas[0]!.kill();
  let seq = 0;
  for (const [index, value] of manyValues.entries()) seq = await set(cluster.master.address, `big-${index}`, value);
  expect(await cluster.master.stop()).toBe(0);
  await cluster.master.start();
  return seq;
}

async function expectManyValues(node: TestNode): Promise<void> {
  for (const [index, value] of manyValues.entries()) {
    expect(await get(node.address, `big-${index}`)).toBe(value.toString());
  }
}

test("a replica far behind is fed from the master's log on the disk", async () => {
  const config = { wal, snapshots: { interval: "0s", log_bytes: "1GiB" } };
  const cluster = await startCluster({ replicas: 1, masterConfig: config, replicaConfig: config });
  const [replica] = cluster.replicas as [TestNode];
  const seq = await leaveBehind(cluster);
  await replica.start();
  await replica.applied(seq);
  await expectManyValues(replica);
});

test("a replica that lacks what snapshots have let go of catches up all the same", async () => {
  const config = { wal, snapshots: { log_bytes: "4MiB" } };
  const cluster = await startCluster({ replicas: 1, masterConfig: config, replicaConfig: config });
  const [replica] = cluster.replicas as [TestNode];
  const seq = await leaveBehind(cluster);
  await replica.start();
  await replica.applied(seq);
  await expectManyValues(replica);
});

test("a master that crashed is back with everything acknowledged, in a new epoch, and its replicas follow", async () => {
  const cluster = await startCluster({ replicas: 2 });
  await cluster.setEverywhere("before", "1");
  const { epoch } = await status(cluster.master.address);
  await cluster.master.kill();
  for (const replica of cluster.replicas) expect(await get(replica.address, "before")).toBe("1");

  await cluster.master.start();
  await cluster.setEverywhere("after", "2");
  expect((await status(cluster.master.address)).epoch).toBeGreaterThan(epoch);
  for (const node of cluster.nodes) {
    expect(await get(node.address, "before")).toBe("1");
    expect(await get(node.address, "after")).toBe("2");
  }
});

test("all nodes crash at once, and all have everything when they are back", async () => {
  const cluster = await startCluster({ replicas: 2 });
  for (let index = 0; index < 50; index++) await set(cluster.master.address, `key-${index}`, `value-${index}`);
  await Promise.all(cluster.nodes.map((node) => node.kill()));
  await Promise.all(cluster.nodes.map((node) => node.start()));
  await cluster.setEverywhere("after", "1");
  for (const node of cluster.nodes) {
    for (let index = 0; index < 50; index++) expect(await get(node.address, `key-${index}`)).toBe(`value-${index}`);
  }
});
