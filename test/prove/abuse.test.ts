/**
 * Thousands of hostile callers against a real process: they lose their connections, others hardly notice, and memory comes back. Who attacks
 * and who calls as others do are processes of their own, so that none of them waits for the other within one event loop.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { attacks } from "../../internal/rpc/testing/abuse.js";
import { type ConfigSections, TestNode } from "../harness/node.js";
import { root } from "../harness/programs.js";
import { call } from "../harness/rpc.js";
import { until } from "../harness/until.js";
import { LineProcess } from "./support/line-process.js";
import { processOf, residentBytes } from "./support/node-processes.js";

/** As an operator sets them who expects the worst; the rest is as by default. */
const limits = { header_timeout: "8s", request_timeout: "8s", unread_timeout: "8s" };
const CLOSED_WITHIN_MS = 15_000;
const P99_MS_MAX = 1000;
/** Fewer say nothing about the slowest of a hundred. */
const CALLS_MIN = 100;
/** An attack that is over at once is begun anew until others have made their calls, but not without an end. */
const ATTACK_MS_MAX = 60_000;
/** Of what lives after the garbage is gone, from the end of one attack to the end of the next: there is no leak. */
const LIVE_GROWTH_BYTES_MAX = 8 * 1024 * 1024;
/** The same as the system sees it, which does not get back at once what the process once needed. */
const RESIDENT_GROWTH_BYTES_MAX = 128 * 1024 * 1024;
const SAMPLE_INTERVAL_MS = 100;

const fixture = (file: string): string => path.join(root, "internal/rpc/testing/tls", `test-only-${file}`);

async function startNode(config: ConfigSections = {}): Promise<TestNode> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-abuse-"));
  const node = new TestNode({ program: "master", directory, config: { limits, ...config } });
  onTestFinished(async () => {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  });
  const tellMemory = pathToFileURL(path.join(root, "test/prove/support/tell-memory.mjs")).href;
  return node.start({ under: ["env", `NODE_OPTIONS=--import=${tellMemory}`] });
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

/** The most that a process has while something is done. */
async function peakDuring<T>(node: TestNode, work: () => Promise<T>): Promise<{ result: T; peakBytes: number }> {
  const processId = await processOf(node);
  let peakBytes = 0;
  let isOver = false;
  const sampled = (async () => {
    while (!isOver) {
      peakBytes = Math.max(peakBytes, await residentBytes(processId));
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_INTERVAL_MS));
    }
  })();
  try {
    return { result: await work(), peakBytes };
  } finally {
    isOver = true;
    await sampled;
  }
}

function start(script: string, ...args: readonly (string | number)[]): LineProcess {
  const started = new LineProcess(script, ...args);
  onTestFinished(() => started.end());
  return started;
}

interface Calls {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly longestMs: number;
  readonly failures: readonly string[];
}

interface Round {
  readonly open: number;
  readonly longestMs: number;
}

interface Endured {
  readonly rounds: number;
  /** How long the connection of an attacker stood that stood longest. */
  readonly closedMs: number;
  /** Of others meanwhile. */
  readonly calls: Calls;
}

/** Runs an attack, several times where one does not last long enough for others to make enough calls. */
async function endure(attacker: LineProcess, bystander: LineProcess): Promise<Endured> {
  await bystander.ask("tell");
  const endMs = performance.now() + ATTACK_MS_MAX;
  let closedMs = 0;
  let rounds = 0;
  do {
    const round = (await attacker.ask("attack")) as Round;
    // It gives up after a minute.
    expect(round.open).toBe(0);
    closedMs = Math.max(closedMs, round.longestMs);
    rounds++;
  } while (((await bystander.ask("count")) as number) < CALLS_MIN && performance.now() < endMs);
  return { rounds, closedMs, calls: (await bystander.ask("tell")) as Calls };
}

/** An attack twice: others hardly notice the second one, which leaves the memory as the first one did. */
async function prove(name: string, count: number, node: TestNode, ...ca: readonly string[]): Promise<void> {
  const attacker = start("attacker.ts", name, count, node.port);
  const bystander = start("bystander.ts", node.port, ...ca);
  await until("others call", async () => ((await bystander.ask("count")) as number) > 0);
  const first = await endure(attacker, bystander);
  const before = await memoryOf(node);
  const { result: second, peakBytes } = await peakDuring(node, () => endure(attacker, bystander));
  const after = await memoryOf(node);
  console.log(`${name}, ${count} connections`);
  for (const { rounds, closedMs, calls } of [first, second]) {
    console.log(`  ${rounds} rounds; closed within ${Math.round(closedMs)} ms; others: ${callsText(calls)}`);
  }
  console.log(`  ${memoryText(before, peakBytes, after)}`);
  expect(second.closedMs).toBeLessThan(CLOSED_WITHIN_MS);
  expectGood(second.calls);
  expectFlat(before, after);
}

function expectGood(calls: Calls): void {
  expect(calls.failures).toEqual([]);
  expect(calls.count).toBeGreaterThanOrEqual(CALLS_MIN);
  expect(calls.p99Ms).toBeLessThan(P99_MS_MAX);
}

function expectFlat(before: Memory, after: Memory): void {
  expect(after.liveBytes - before.liveBytes).toBeLessThan(LIVE_GROWTH_BYTES_MAX);
  expect(after.residentBytes - before.residentBytes).toBeLessThan(RESIDENT_GROWTH_BYTES_MAX);
}

function callsText({ count, p50Ms, p99Ms, longestMs, failures }: Calls): string {
  const [p50, p99, longest] = [p50Ms, p99Ms, longestMs].map((ms) => Math.round(ms));
  return `${count} calls, p50 ${p50} ms, p99 ${p99} ms, longest ${longest} ms, ${failures.length} failed`;
}

function memoryText(before: Memory, peakBytes: number, after: Memory): string {
  const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
  const [resident, live] = (["residentBytes", "liveBytes"] as const).map((kind) =>
    [before[kind], after[kind]].map((bytes) => mebibytes(bytes)),
  );
  return `memory before and after: resident ${resident!.join(" and ")} MiB (at most ${mebibytes(peakBytes)}), live ${live!.join(" and ")} MiB`;
}

const counts: Readonly<Record<string, number>> = {
  "connections that say nothing": 4000,
  "slow headers": 1000,
  "slow bodies": 1000,
  "empty lines without an end, after a request": 1000,
  "slow bodies over HTTP/2": 1000,
  "half a preface of HTTP/2": 2000,
  "a preface and nothing else": 2000,
  "frames of CONTINUATION without an end": 100,
  "rapid resets": 50,
  "frames that make no sense": 1000,
  "PINGs without an end, of which no answer is read": 50,
};

test("every attack of the short version is made here too", () => {
  expect(Object.keys(counts)).toEqual(Object.keys(attacks));
});

test.each(Object.entries(counts))("%s (%i)", async (name, count) => {
  await prove(name, count, await startNode({ limits: { ...limits, idle_timeout: "10s" } }));
});

test("50 readers that never read", async () => {
  const node = await startNode();
  const value = Buffer.alloc(1024 * 1024).toString("base64");
  expect((await call(node.address, "KVStore/Set", { key: "large", value })).status).toBe(200);
  await prove("readers that never read", 50, node);
});

test("2,000 handshakes of TLS that stop half-way", async () => {
  const node = await startNode({ tls: { cert_file: fixture("node.crt"), key_file: fixture("node.key") } });
  await prove("handshakes of TLS that stop half-way", 2000, node, fixture("ca.crt"));
});

test("5,000 idle connections of HTTP, each of which has asked once", async () => {
  const node = await startNode({ limits: { ...limits, max_connections_per_address: 6000, idle_timeout: "12s" } });
  await prove("idle connections of HTTP", 5000, node);
});

interface Flooded {
  readonly begunPerSecond: number;
  readonly answeredPerSecond: number;
  readonly statuses: Readonly<Record<string, number>>;
  readonly lost: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

test("five times the load that the node sustains, whether it keeps up or not", async () => {
  const node = await startNode();
  const flood = start("flood.ts", node.port);
  const bystander = start("bystander.ts", node.port);
  const ask = async (wish: object): Promise<Flooded> => (await flood.ask(JSON.stringify(wish))) as Flooded;
  const sustained = await ask({ connections: 64, seconds: 10 });
  const before = await memoryOf(node);
  await bystander.ask("tell");
  const perSecond = 5 * sustained.answeredPerSecond;
  const { result: flooded, peakBytes } = await peakDuring(node, () =>
    ask({ connections: 2000, perSecond, seconds: 20 }),
  );
  const calls = (await bystander.ask("tell")) as Calls;
  const after = await memoryOf(node);
  for (const [what, told] of Object.entries({ sustained, flooded })) {
    const { begunPerSecond, answeredPerSecond, statuses, p50Ms, p99Ms } = told;
    console.log(
      `${what}: ${Math.round(begunPerSecond)} writes begun and ${Math.round(answeredPerSecond)} answered a second, ${JSON.stringify(statuses)}, p50 ${Math.round(p50Ms)} ms, p99 ${Math.round(p99Ms)} ms`,
    );
  }
  console.log(`  wished for ${Math.round(perSecond)} a second; others: ${callsText(calls)}`);
  console.log(`  ${memoryText(before, peakBytes, after)}`);
  // Those that it has no room for are told so; none is dropped without a word.
  expect(Object.keys(flooded.statuses).filter((status) => status !== "200" && status !== "429")).toEqual([]);
  expect(flooded.lost).toBe(0);
  expect(flooded.answeredPerSecond).toBeGreaterThan(sustained.answeredPerSecond / 3);
  expectGood(calls);
  expectFlat(before, after);
});
