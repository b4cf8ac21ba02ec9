/** Thousands of hostile callers against a real process: they lose their connections, others hardly notice, and memory comes back. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import http from "node:http";
import https from "node:https";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import {
  type Attack,
  attack,
  attacks,
  halfHandshakes,
  neverReading,
  normalCall,
  type Target,
} from "../../internal/rpc/testing/abuse.js";
import { type ConfigSections, TestNode } from "../harness/node.js";
import { root } from "../harness/programs.js";
import { until } from "../harness/until.js";

/** As an operator sets them who expects the worst; the rest is as by default. */
const limits = { request_timeout: "10s", unread_timeout: "10s" };
const CLOSED_WITHIN_MS = 15_000;
const P99_MS_MAX = 1000;
/** Fewer say nothing about the slowest of a hundred. */
const CALLS_MIN = 100;
/** Of what lives after the garbage is gone, from the end of one round of an attack to the end of the next: there is no leak. */
const LIVE_GROWTH_BYTES_MAX = 8 * 1024 * 1024;
/** The same as the system sees it, which does not get back at once what the process once needed. */
const RESIDENT_GROWTH_BYTES_MAX = 128 * 1024 * 1024;

async function startNode(config: ConfigSections = {}): Promise<{ node: TestNode; target: Target }> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-abuse-"));
  const node = new TestNode({ program: "master", directory, config: { limits, ...config } });
  onTestFinished(async () => {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  });
  const tellMemory = pathToFileURL(path.join(root, "test/prove/support/tell-memory.mjs")).href;
  await node.start({ under: ["env", `NODE_OPTIONS=--import=${tellMemory}`] });
  return { node, target: { host: "127.0.0.1", port: node.port } };
}

interface Memory {
  readonly liveBytes: number;
  readonly residentBytes: number;
}

/** What the node's process has after it has collected its garbage. */
async function memoryOf(node: TestNode): Promise<Memory> {
  const told = (): (typeof node.log)[number][] => node.log.filter(({ msg }) => msg === "memory");
  const earlier = told().length;
  node.signal("SIGUSR2");
  const { heapUsed, external, rss } = await until("the node tells its memory", () => told()[earlier]);
  return { liveBytes: Number(heapUsed) + Number(external), residentBytes: Number(rss) };
}

/** One call after the other until it is told to stop. */
class Others {
  /** How long each took. */
  readonly times: number[] = [];
  /** Rejects with the first call. */
  readonly failed: Promise<never>;
  readonly #done: Promise<void>;
  #isOver = false;

  constructor(call: () => Promise<number>) {
    this.#done = this.#run(call);
    this.failed = new Promise((_resolve, reject) => void this.#done.catch(reject));
    // Told where it is awaited.
    this.failed.catch(() => undefined);
  }

  async stop(): Promise<readonly number[]> {
    this.#isOver = true;
    await this.#done;
    return this.times;
  }

  async #run(call: () => Promise<number>): Promise<void> {
    while (!this.#isOver) this.times.push(await call());
  }
}

function p99(times: readonly number[]): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? Number.NaN;
}

interface Endured {
  /** How long the connection of an attacker stood that stood longest. */
  readonly closedMs: number;
  /** Of the calls of others meanwhile. */
  readonly times: readonly number[];
}

/** Runs an attack, several times where one does not last long enough for others to make enough calls. */
async function endure(begin: () => Attack, call: () => Promise<number>): Promise<Endured> {
  const others = new Others(call);
  let closedMs = 0;
  do {
    const running = begin();
    onTestFinished(() => running.end());
    await Promise.race([running.ended, others.failed]);
    closedMs = Math.max(closedMs, running.longestMs);
  } while (others.times.length < CALLS_MIN);
  return { closedMs, times: await others.stop() };
}

/** An attack twice: others hardly notice the second one, which leaves the memory as the first one did. */
async function prove(name: string, node: TestNode, begin: () => Attack, call: () => Promise<number>): Promise<void> {
  await endure(begin, call);
  const before = await memoryOf(node);
  const { closedMs, times } = await endure(begin, call);
  const after = await memoryOf(node);
  console.log(
    `${name}: closed in ${Math.round(closedMs)} ms; p99 of ${times.length} calls ${Math.round(p99(times))} ms; ${growthText(before, after)}`,
  );
  expect(closedMs).toBeLessThan(CLOSED_WITHIN_MS);
  expect(p99(times)).toBeLessThan(P99_MS_MAX);
  expectFlat(before, after);
}

function growthText(before: Memory, after: Memory): string {
  const [live, resident] = (["liveBytes", "residentBytes"] as const).map((kind) =>
    ((after[kind] - before[kind]) / 2 ** 20).toFixed(1),
  );
  return `live memory ${live} MiB more than after the first round, resident ${resident} MiB`;
}

function expectFlat(before: Memory, after: Memory): void {
  expect(after.liveBytes - before.liveBytes).toBeLessThan(LIVE_GROWTH_BYTES_MAX);
  expect(after.residentBytes - before.residentBytes).toBeLessThan(RESIDENT_GROWTH_BYTES_MAX);
}

const counts: Readonly<Record<string, number>> = {
  "connections that say nothing": 4000,
  "slow headers": 1000,
  "slow bodies": 1000,
  "slow bodies over HTTP/2": 1000,
  "half a preface of HTTP/2": 2000,
  "a preface and nothing else": 2000,
  "frames of CONTINUATION without an end": 100,
  "rapid resets": 50,
  "frames that make no sense": 1000,
  "PINGs without an end, of which no answer is read": 50,
};

test.each(Object.entries(attacks))("%s", async (name, begin) => {
  const { node, target } = await startNode();
  const count = counts[name] ?? 100;
  await prove(
    `${name} (${count})`,
    node,
    () => begin(count, target),
    () => normalCall(target),
  );
});

test("50 readers that never read", async () => {
  const { node, target } = await startNode();
  await fetch(`http://${node.address}/cambium.v1.KVStore/Set`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ key: "large", value: Buffer.alloc(1024 * 1024).toString("base64") }),
  });
  await prove(
    "never reading (50)",
    node,
    () => neverReading(50, target, "large"),
    () => normalCall(target),
  );
});

test("2,000 handshakes of TLS that stop half-way", async () => {
  const fixture = (file: string): string => path.join(root, "internal/rpc/testing/tls", `test-only-${file}`);
  const { node, target } = await startNode({ tls: { cert_file: fixture("node.crt"), key_file: fixture("node.key") } });
  const ca = readFileSync(fixture("ca.crt"), "utf8");
  const call = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const sinceMs = performance.now();
      const request = https.get({ ...target, ca, path: "/readyz", agent: false }, (answer) => {
        answer.resume().on("end", () => resolve(performance.now() - sinceMs));
      });
      request.on("error", reject);
    });
  await prove("half handshakes (2000)", node, () => halfHandshakes(2000, target), call);
});

test("5,000 idle connections of HTTP, each of which has asked once", async () => {
  const { node, target } = await startNode({
    limits: { ...limits, max_connections_per_address: 6000, idle_timeout: "12s" },
  });
  const idle = (): Attack =>
    attack(5000, target, (socket) => void socket.resume().write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"));
  await prove("idle (5000)", node, idle, () => normalCall(target));
});

test("five times as many callers as it takes to keep the node busy", async () => {
  const { node, target } = await startNode();
  const agent = new http.Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  const body = JSON.stringify({ key: "k", value: "dg==" });
  const set = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const sinceMs = performance.now();
      const headers = { "content-type": "application/json", "content-length": body.length };
      const request = http.request(
        { ...target, agent, path: "/cambium.v1.KVStore/Set", method: "POST", headers },
        (answer) => {
          answer.resume().on("end", () => resolve(performance.now() - sinceMs));
          if (answer.statusCode !== 200 && answer.statusCode !== 429)
            reject(new Error(`answered ${answer.statusCode}`));
        },
      );
      request.on("error", reject);
      request.end(body);
    });
  const measure = async (callers: number): Promise<{ perSecond: number; p99Ms: number }> => {
    const sinceMs = performance.now();
    const all = Array.from({ length: callers }, () => new Others(set));
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    const times = (await Promise.all(all.map((one) => one.stop()))).flat();
    return { perSecond: (times.length * 1000) / (performance.now() - sinceMs), p99Ms: p99(times) };
  };
  const busy = await measure(64);
  const before = await memoryOf(node);
  const others = new Others(() => normalCall(target));
  const flooded = await measure(5 * 64);
  const times = await others.stop();
  const after = await memoryOf(node);
  console.log(
    `load: ${Math.round(busy.perSecond)}/s with 64, ${Math.round(flooded.perSecond)}/s with 320 (p99 ${Math.round(flooded.p99Ms)} ms); p99 of ${times.length} others ${Math.round(p99(times))} ms; ${growthText(before, after)}`,
  );
  expect(times.length).toBeGreaterThanOrEqual(CALLS_MIN);
  expectFlat(before, after);
  expect(p99(times)).toBeLessThan(P99_MS_MAX);
});
