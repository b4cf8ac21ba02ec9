/**
 * A million keys on a master and a replica: read in order, counted, and removed at once, while another process measures how long its
 * reads take. Nothing is asserted about times; they are told.
 */
import { spawn } from "node:child_process";
import path from "node:path";
import { createInterface, type Interface } from "node:readline";
import { expect, onTestFinished, test } from "vitest";
import { createClient } from "../../api/client/node.js";
import { TestCluster } from "../harness/cluster.js";
import type { TestNode } from "../harness/node.js";
import { until } from "../harness/until.js";

const KEYS = 1_000_000;
const BATCH = 1000;
const IN_FLIGHT = 8;
const VALUE = new Uint8Array(100).fill(7);
/** Of the keys that are read meanwhile, which no removal concerns. */
const READ_PREFIX = "read/";

interface Latency {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly longestMs: number;
}

/** Another process that reads from a node all the time. */
class Reader {
  readonly #child;
  readonly #lines: Interface;

  constructor(node: TestNode) {
    const script = path.join(import.meta.dirname, "support", "get-latency.mjs");
    this.#child = spawn(process.execPath, [script, node.address, READ_PREFIX], { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout });
  }

  /** Of the gets since it was asked last. */
  async latency(): Promise<Latency> {
    const line = new Promise<string>((resolve) => this.#lines.once("line", resolve));
    this.#child.stdin.write("\n");
    return JSON.parse(await line) as Latency;
  }

  close(): void {
    this.#child.kill();
  }
}

test(`${KEYS} keys are read in order, counted and removed while others read`, async () => {
  const cluster = await TestCluster.start({ replicas: 1 });
  onTestFinished(() => cluster.close());
  const [replica] = cluster.replicas as [TestNode];
  const kv = createClient({ endpoints: [cluster.master.address], timeoutMs: 120_000 });
  const replicaKv = createClient({ endpoints: [replica.address], timeoutMs: 120_000 });
  const readers = { master: new Reader(cluster.master), replica: new Reader(replica) };
  onTestFinished(() => {
    for (const client of [kv, replicaKv]) client.close();
    for (const reader of Object.values(readers)) reader.close();
  });
  const told: string[] = [];
  const measured = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    for (const reader of Object.values(readers)) await reader.latency();
    const startMs = performance.now();
    await work();
    const tookMs = performance.now() - startMs;
    for (const [name, reader] of Object.entries(readers)) {
      const { count, p50Ms, p99Ms, longestMs } = await reader.latency();
      const ms = (value: number): string => `${value.toFixed(1)} ms`;
      const times = `p50 ${ms(p50Ms)}, p99 ${ms(p99Ms)}, longest ${ms(longestMs)}`;
      told.push(`${what} (${(tookMs / 1000).toFixed(1)} s): ${count} gets at the ${name}, ${times}`);
    }
  };

  await kv.write(Array.from({ length: 1000 }, (_, i) => ({ kind: "set", key: `${READ_PREFIX}${i}`, value: VALUE })));
  const inFlight = new Set<Promise<unknown>>();
  for (let at = 0; at < KEYS; at += BATCH) {
    const operations = Array.from({ length: BATCH }, (_, i) => {
      return { kind: "set" as const, key: `key/${String(at + i).padStart(7, "0")}`, value: VALUE };
    });
    const write = kv.write(operations).finally(() => inFlight.delete(write));
    inFlight.add(write);
    if (inFlight.size >= IN_FLIGHT) await Promise.race(inFlight);
  }
  await Promise.all(inFlight);

  await measured("nothing else", () => new Promise((resolve) => setTimeout(resolve, 3000)));
  await measured("a scan of all", async () => {
    let next = 0;
    for await (const { key } of kv.scan({ prefix: "key/", pageSize: 1000 })) {
      if (key !== `key/${String(next).padStart(7, "0")}`) throw new Error(`${key} comes as number ${next}`);
      next++;
    }
    expect(next).toBe(KEYS);
  });
  await measured("a scan of all, keys only, downwards, in pages of 10,000", async () => {
    let left = KEYS;
    for await (const { key } of kv.scan({ prefix: "key/", pageSize: 10_000, keysOnly: true, reverse: true })) {
      left--;
      if (key !== `key/${String(left).padStart(7, "0")}`) throw new Error(`${key} comes as number ${left}`);
    }
    expect(left).toBe(0);
  });
  await measured("a count", async () => expect(await kv.count({ prefix: "key/" })).toBe(KEYS));
  await measured("the removal of all at once, and until both have none", async () => {
    const { token, deleted } = await kv.deleteRange({ prefix: "key/" });
    expect(deleted).toBeUndefined();
    for (const client of [kv, replicaKv]) expect(await client.count({ prefix: "key/", atLeast: token })).toBe(0);
  });
  await measured("10 s after it", () => new Promise((resolve) => setTimeout(resolve, 10_000)));
  for (const client of [kv, replicaKv]) expect(await client.count({})).toBe(1000);
  await until("the nodes say so", async () => (await kv.status()).node.keys === 1000);
  expect([cluster.master.stderr, replica.stderr]).toEqual(["", ""]);
  console.log(told.join("\n"));
});
