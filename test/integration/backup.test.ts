/** Backups of running clusters under load, and what is restored from them. */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { type ClusterOptions, TestCluster } from "../harness/cluster.js";
import { filesUnder } from "../harness/import-proof.js";
import { TestNode } from "../harness/node.js";
import { type ProgramResult, runProgram } from "../harness/programs.js";
import { call, get, set, status } from "../harness/rpc.js";

const clusters: TestCluster[] = [];

afterEach(async () => {
  await Promise.all(clusters.splice(0).map((cluster) => cluster.close()));
});

async function startCluster(options: ClusterOptions): Promise<TestCluster> {
  const cluster = await TestCluster.start(options);
  clusters.push(cluster);
  return cluster;
}

async function cambium(...args: string[]): Promise<ProgramResult> {
  const result = await runProgram("cambium", args);
  expect(result, result.stderr).toMatchObject({ code: 0 });
  return result;
}

/** That the load writes in turn. */
const KEYS = 50;
const valueOf = (round: number): string => `value ${round}`.repeat(50);

/** Writes a counter, a key and a record over and over until it is stopped; resolves to what was acknowledged. */
function writeOn(address: string): { stop: () => Promise<number> } {
  let stopped = false;
  let acknowledged = 0;
  const running = (async () => {
    while (!stopped) {
      const next = acknowledged + 1;
      await set(address, `load/${next % KEYS}`, valueOf(next));
      await set(address, "count", String(next));
      await call(address, "Log/Produce", { record: Buffer.from(`record ${next}`).toString("base64") });
      acknowledged = next;
    }
  })();
  return {
    stop: async () => {
      stopped = true;
      await running;
      return acknowledged;
    },
  };
}

/** Starts a node in a restored directory. */
async function startRestored(cluster: TestCluster, name: string, file: string, ...args: string[]): Promise<TestNode> {
  const node = new TestNode({ program: "master", directory: path.join(cluster.directory, name) });
  await cambium("restore", file, "--data", node.dataDirectory, ...args);
  cluster.replicas.push(node);
  await node.start();
  return node.ready();
}

/** All keys with their values, by an export. */
async function exported(address: string, folder: string): Promise<Map<string, string>> {
  await cambium("export", "--dir", folder, "--endpoints", address);
  const files = await filesUnder(folder);
  return new Map(
    await Promise.all(files.map(async (file) => [file, await readFile(path.join(folder, file), "utf8")] as const)),
  );
}

async function consumed(address: string): Promise<string> {
  return (await cambium("log", "consume", "--json", "--endpoints", address)).stdout;
}

test("a backup of a master and of a replica under load is one moment, and starts as a new cluster", async () => {
  const cluster = await startCluster({ replicas: 1 });
  await cluster.setEverywhere("before", "1");
  const load = writeOn(cluster.master.address);
  const files: string[] = [];
  for (const [index, node] of cluster.nodes.entries()) {
    const file = path.join(cluster.directory, `${index}.backup`);
    const floor = Number((await get(node.address, "count")) ?? 0);
    await cambium("backup", file, "--endpoints", node.address);
    files.push(file);
    const restored = await startRestored(cluster, `restored-${index}`, file);
    expect(await get(restored.address, "before")).toBe("1");
    const count = Number((await get(restored.address, "count")) ?? 0);
    expect(count).toBeGreaterThanOrEqual(floor);
    const keys = Array.from({ length: Math.min(count, KEYS) }, (_, back) => `load/${(count - back) % KEYS}`);
    const { body } = await call(restored.address, "KVStore/BatchGet", { keys });
    const { entries = [] } = body as { entries?: { value: string }[] };
    expect(entries).toHaveLength(keys.length);
    for (const [back, { value }] of entries.entries()) {
      // The key of a round is written before the count of it.
      const expected = [valueOf(count - back), valueOf(count - back + KEYS)];
      expect(expected, `round ${count - back} of ${count}`).toContain(Buffer.from(value, "base64").toString());
    }
    const { body: range } = await call(restored.address, "Log/GetRange");
    expect([count, count - 1]).toContain(Number((range as { end?: string }).end ?? 0));
    const { members } = await status(restored.address);
    expect(members).toMatchObject([{ address: restored.address, source: "MEMBER_SOURCE_FOUNDER" }]);
    await restored.stop();
  }
  expect(await load.stop()).toBeGreaterThan(0);
  for (const file of files) await cambium("restore", file, "--check");
});

test("what is restored is what was there, in a new cluster or in the same", async () => {
  const cluster = await startCluster({ replicas: 0 });
  const { address } = cluster.master;
  for (let i = 0; i < 30; i++) await set(address, `folder/${i}`, `value ${i}`);
  await call(address, "KVStore/Delete", { key: "folder/7" });
  await call(address, "KVStore/Set", { key: "expiring", value: "AQ==", ttlMs: "3600000" });
  for (let i = 0; i < 30; i++) await call(address, "Log/Produce", { record: Buffer.from(`${i}`).toString("base64") });
  await call(address, "Log/Truncate", { belowOffset: "11" });
  await cambium("snapshot", "--endpoints", address);
  await set(address, "folder/late", "1");
  const file = path.join(cluster.directory, "all.backup");
  await cambium("backup", file, "--endpoints", address);
  expect((await readdir(cluster.directory)).filter((name) => name.includes("partial"))).toEqual([]);

  const restored = await startRestored(cluster, "restored", file);
  const before = await exported(address, path.join(cluster.directory, "before"));
  expect(await exported(restored.address, path.join(cluster.directory, "after"))).toEqual(before);
  expect(await consumed(restored.address)).toBe(await consumed(address));
  for (const key of ["folder/3", "folder/late", "expiring"]) {
    const [old, now] = await Promise.all([address, restored.address].map((node) => call(node, "KVStore/Get", { key })));
    for (const field of ["exists", "value", "createSeq", "modSeq"]) expect(now!.body[field]).toEqual(old!.body[field]);
  }

  const kept = await startRestored(cluster, "kept", file, "--keep-cluster-id");
  expect((await status(kept.address)).epoch).toBeGreaterThan((await status(address)).epoch + 1000);
  const clusterIds = await Promise.all(
    [address, restored.address, kept.address].map(
      async (node) => (await call(node, "Cluster/Status")).body["clusterId"],
    ),
  );
  expect(clusterIds[2]).toBe(clusterIds[0]);
  expect(clusterIds[1]).not.toBe(clusterIds[0]);
});
