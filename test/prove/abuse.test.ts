/** Thousands of hostile callers against a real process: they lose their connections, others hardly notice, and memory comes back. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import http from "node:http";
import { connect as connectTls } from "node:tls";
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
import { processOf, residentBytes } from "./support/node-processes.js";

/** As an operator sets them who expects the worst; the rest is as by default. */
const limits = { request_timeout: "10s", unread_timeout: "10s" };
const CLOSED_WITHIN_MS = 15_000;
const P99_MS_MAX = 1000;
/** From the first time that an attack is over to the second: what a process has once needed the system does not get back at once. */
const GROWTH_BYTES_MAX = 256 * 1024 * 1024;

async function startNode(config: ConfigSections = {}): Promise<{ node: TestNode; target: Target }> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-abuse-"));
  const node = new TestNode({ program: "master", directory, config: { limits, ...config } });
  onTestFinished(async () => {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  });
  await node.start();
  return { node, target: { host: "127.0.0.1", port: node.port } };
}

/** One call after the other until it is told to stop: how long each took. */
function watch(call: () => Promise<number>): { stop(): Promise<number[]> } {
  let isOver = false;
  const times: number[] = [];
  const done = (async () => {
    while (!isOver) times.push(await call());
  })();
  // Told where it is awaited.
  done.catch(() => undefined);
  return {
    stop: async () => {
      isOver = true;
      await done;
      return times;
    },
  };
}

function p99(times: readonly number[]): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? Number.NaN;
}

/** Runs an attack: how long until all its connections were closed, and how long the calls of others took meanwhile. */
async function endure(
  begin: () => Attack,
  target: Target,
): Promise<{ closedMs: number; p99Ms: number; calls: number }> {
  const others = watch(() => normalCall(target));
  const sinceMs = performance.now();
  const running = begin();
  onTestFinished(() => running.end());
  await running.ended;
  const closedMs = performance.now() - sinceMs;
  const times = await others.stop();
  return { closedMs, p99Ms: p99(times), calls: times.length };
}

/** Waits until the memory has come back, as far as it does; calls let the collector do its work. */
async function memorySettles(node: TestNode, before: number, call: () => Promise<unknown>): Promise<number> {
  const pid = await processOf(node);
  return until("memory comes back", async () => {
    for (let n = 0; n < 20; n++) await call();
    const growth = (await residentBytes(pid)) - before;
    return growth < GROWTH_BYTES_MAX ? growth || 1 : undefined;
  });
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
  await endure(() => begin(counts[name] ?? 100, target), target);
  const before = await residentBytes(await processOf(node));
  const { closedMs, p99Ms, calls } = await endure(() => begin(counts[name] ?? 100, target), target);
  const growth = await memorySettles(node, before, () => normalCall(target));
  console.log(
    `${name}: ${counts[name]} closed in ${Math.round(closedMs)} ms; p99 of ${calls} calls ${Math.round(p99Ms)} ms; memory +${Math.round(growth / 2 ** 20)} MiB`,
  );
  expect(closedMs).toBeLessThan(CLOSED_WITHIN_MS);
  expect(p99Ms).toBeLessThan(P99_MS_MAX);
});

test("readers that never read", async () => {
  const { node, target } = await startNode();
  await fetch(`http://${node.address}/cambium.v1.KVStore/Set`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ key: "large", value: Buffer.alloc(1024 * 1024).toString("base64") }),
  });
  await endure(() => neverReading(50, target, "large"), target);
  const before = await residentBytes(await processOf(node));
  const { closedMs, p99Ms, calls } = await endure(() => neverReading(50, target, "large"), target);
  const growth = await memorySettles(node, before, () => normalCall(target));
  console.log(
    `never reading: 50 closed in ${Math.round(closedMs)} ms; p99 of ${calls} calls ${Math.round(p99Ms)} ms; memory +${Math.round(growth / 2 ** 20)} MiB`,
  );
  expect(closedMs).toBeLessThan(CLOSED_WITHIN_MS);
  expect(p99Ms).toBeLessThan(P99_MS_MAX);
});

test("2,000 handshakes of TLS that stop half-way", async () => {
  const fixture = (file: string): string => path.join(root, "internal/rpc/testing/tls", `test-only-${file}`);
  const { node, target } = await startNode({ tls: { cert_file: fixture("node.crt"), key_file: fixture("node.key") } });
  const ca = readFileSync(fixture("ca.crt"), "utf8");
  const shake = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const sinceMs = performance.now();
      const socket = connectTls({ ...target, ca }, () => {
        socket.destroy();
        resolve(performance.now() - sinceMs);
      });
      socket.on("error", reject);
    });
  await halfHandshakes(2000, target).ended;
  const before = await residentBytes(await processOf(node));
  const others = watch(shake);
  const sinceMs = performance.now();
  const running = halfHandshakes(2000, target);
  onTestFinished(() => running.end());
  await running.ended;
  const closedMs = performance.now() - sinceMs;
  const p99Ms = p99(await others.stop());
  const growth = await memorySettles(node, before, shake);
  console.log(
    `half handshakes: 2000 closed in ${Math.round(closedMs)} ms; p99 ${Math.round(p99Ms)} ms; memory +${Math.round(growth / 2 ** 20)} MiB`,
  );
  expect(closedMs).toBeLessThan(CLOSED_WITHIN_MS);
  expect(p99Ms).toBeLessThan(P99_MS_MAX);
});

test("5,000 idle connections of HTTP, each of which has asked once", async () => {
  const { node, target } = await startNode({
    limits: { ...limits, max_connections_per_address: 6000, idle_timeout: "12s" },
  });
  const idle = (): Attack =>
    attack(5000, target, (socket) => void socket.resume().write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"));
  await endure(idle, target);
  const before = await residentBytes(await processOf(node));
  const { closedMs, p99Ms, calls } = await endure(idle, target);
  const growth = await memorySettles(node, before, () => normalCall(target));
  console.log(
    `idle: 5000 closed in ${Math.round(closedMs)} ms; p99 of ${calls} calls ${Math.round(p99Ms)} ms; memory +${Math.round(growth / 2 ** 20)} MiB`,
  );
  expect(p99Ms).toBeLessThan(P99_MS_MAX);
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
  const pid = await processOf(node);
  const measure = async (callers: number): Promise<{ perSecond: number; p99Ms: number }> => {
    const sinceMs = performance.now();
    const all = Array.from({ length: callers }, () => watch(set));
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    const times = (await Promise.all(all.map((one) => one.stop()))).flat();
    return { perSecond: (times.length * 1000) / (performance.now() - sinceMs), p99Ms: p99(times) };
  };
  const busy = await measure(64);
  const before = await residentBytes(pid);
  const others = watch(() => normalCall(target));
  const flooded = await measure(5 * 64);
  const times = await others.stop();
  const growth = await memorySettles(node, before, () => normalCall(target));
  console.log(
    `load: ${Math.round(busy.perSecond)}/s with 64, ${Math.round(flooded.perSecond)}/s with 320 (p99 ${Math.round(flooded.p99Ms)} ms); p99 of ${times.length} others ${Math.round(p99(times))} ms; memory +${Math.round(growth / 2 ** 20)} MiB`,
  );
  expect(p99(times)).toBeLessThan(P99_MS_MAX);
});
