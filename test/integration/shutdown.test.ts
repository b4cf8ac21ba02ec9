/** How a process leaves, asked to or not: nothing acknowledged is lost. */
import { expect, onTestFinished, test } from "vitest";
import { TestCluster } from "../harness/cluster.js";
import { call, getAll } from "../harness/rpc.js";
import { until } from "../harness/until.js";

/** Writers that go on until the node no longer answers; they keep what was acknowledged. */
class Load {
  readonly acknowledged: string[] = [];
  readonly #writers: Promise<void>[];

  constructor(address: string, writers: number) {
    this.#writers = Array.from({ length: writers }, (_, writer) => this.#write(address, writer));
  }

  /** Resolves once every writer has been turned away. */
  async ended(): Promise<void> {
    await Promise.all(this.#writers);
  }

  async #write(address: string, writer: number): Promise<void> {
    for (let turn = 0; ; turn++) {
      const key = `key-${writer}-${turn}`;
      try {
        const { status } = await call(address, "KVStore/Set", { key, value: Buffer.from(key).toString("base64") });
        if (status !== 200) return;
      } catch {
        // The connection broke or was refused: the node is going, and this write is not acknowledged.
        return;
      }
      this.acknowledged.push(key);
    }
  }
}

async function startUnderLoad(): Promise<{ cluster: TestCluster; load: Load }> {
  const cluster = await TestCluster.start({ replicas: 1 });
  onTestFinished(() => cluster.close());
  const load = new Load(cluster.master.address, 16);
  await until("the load is on", () => load.acknowledged.length > 500);
  return { cluster, load };
}

async function expectAll(cluster: TestCluster, load: Load): Promise<void> {
  await cluster.setEverywhere("after", "1");
  for (const node of cluster.nodes) {
    for (let at = 0; at < load.acknowledged.length; at += 500) {
      const keys = load.acknowledged.slice(at, at + 500);
      expect(await getAll(node.address, keys)).toEqual(keys);
    }
  }
}

test("SIGTERM under load ends with exit code 0, and every acknowledged write is there", async () => {
  const { cluster, load } = await startUnderLoad();
  expect(await cluster.master.stop()).toBe(0);
  await load.ended();
  expect(cluster.master.stderr).toBe("");
  await cluster.master.start();
  await expectAll(cluster, load);
});

test("SIGINT is as good as SIGTERM, for a replica too", async () => {
  const cluster = await TestCluster.start({ replicas: 1 });
  onTestFinished(() => cluster.close());
  for (const node of cluster.nodes) node.signal("SIGINT");
  expect(await Promise.all(cluster.nodes.map((node) => node.ended()))).toEqual([0, 0]);
});

test("a killed master has every acknowledged write when it is back", async () => {
  const { cluster, load } = await startUnderLoad();
  await cluster.master.kill();
  await load.ended();
  await cluster.master.start();
  await expectAll(cluster, load);
});

test("a replica that leaves under load does not disturb the writers", async () => {
  const { cluster, load } = await startUnderLoad();
  const [replica] = cluster.replicas;
  expect(await replica!.stop()).toBe(0);
  const atExit = load.acknowledged.length;
  await until("writes go on", () => load.acknowledged.length > atExit + 200);
  await replica!.start();
  expect(await cluster.master.stop()).toBe(0);
  await load.ended();
  await cluster.master.start();
  await expectAll(cluster, load);
});
