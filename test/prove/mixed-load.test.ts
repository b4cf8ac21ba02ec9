/**
 * A master at four fifths of what it can bear, for ten minutes (CAMBIUM_MIXED_SECONDS: fewer), while snapshots are taken, the log
 * before them goes, keys expire, and one replica is away again and again and catches up. Calls are made at their times, whatever
 * became of those before them, so that what a pause holds up is counted with all that it holds up.
 */
import { fork } from "node:child_process";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import type { CallTimes, MixedJob, MixedResult } from "../../cmd/bench/mixed-job.js";
import { mixedKey, versionIn } from "../../cmd/bench/mixed-values.js";
import type { WorkerReport } from "../../cmd/bench/worker.js";
import { TestCluster } from "../harness/cluster.js";
import type { TestNode } from "../harness/node.js";
import { root } from "../harness/programs.js";
import { call, request, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";
import { processOf, residentBytes } from "./support/node-processes.js";

const SECONDS = Number(process.env["CAMBIUM_MIXED_SECONDS"] ?? 600);
/** Of what was measured to be all. */
const LOAD = 0.8;
const LOOK_MS = 500;
const PAGE_ENTRIES = 1000;
const MIB = 2 ** 20;
/** What a scrape tells of is at most the last half minute, so that none is missed. */
const SCRAPE_EVERY = 20_000 / LOOK_MS;

const MIX = {
  kind: "mixed",
  callers: 32,
  keyCount: 20_000,
  setShare: 0.3,
  expiringShare: 0.3,
  ttlMs: 2000,
} as const satisfies Partial<MixedJob>;

function load(job: MixedJob): Promise<MixedResult> {
  const child = fork(path.join(root, "dist", "cmd", "bench", "mixed-process.js"), [JSON.stringify(job)]);
  onTestFinished(() => void child.kill("SIGKILL"));
  return new Promise((resolve, reject) => {
    child.once("message", (report: WorkerReport) => {
      if (report.kind === "done") resolve(report.result as MixedResult);
      else reject(new Error(report.message));
    });
    child.once("exit", (code, signal) => reject(new Error(`the load ended (${code ?? signal})`)));
  });
}

/** A node's metrics without labels, by their names. */
async function metricsOf(node: TestNode): Promise<ReadonlyMap<string, number>> {
  const { text } = await request(node.address, "/metrics");
  const lines = text.matchAll(/^(\w+) (\S+)$/gm);
  return new Map([...lines].map(([, name, value]) => [name!, Number(value)]));
}

/** Every key of a node, with what makes it equal to that of another. */
async function contentOf(node: TestNode): Promise<Map<string, { value: string; modSeq: string }>> {
  const content = new Map<string, { value: string; modSeq: string }>();
  let pageToken = "";
  do {
    const answer = await call(node.address, "KVStore/Scan", { limit: PAGE_ENTRIES, pageToken });
    const page = answer.body as {
      entries?: { key: string; value: string; modSeq: string }[];
      nextPageToken?: string;
    };
    expect(answer.status).toBe(200);
    for (const { key, value, modSeq } of page.entries ?? []) content.set(key, { value, modSeq });
    pageToken = page.nextPageToken ?? "";
  } while (pageToken !== "");
  return content;
}

/** How memory goes, by the line that lies nearest to what was seen, in bytes a minute. */
function slopeOf(seen: readonly { readonly atMs: number; readonly bytes: number }[]): number {
  const mean = (of: (each: { atMs: number; bytes: number }) => number): number =>
    seen.reduce((sum, each) => sum + of(each), 0) / seen.length;
  const [meanMs, meanBytes] = [mean(({ atMs }) => atMs), mean(({ bytes }) => bytes)];
  const together = mean(({ atMs, bytes }) => (atMs - meanMs) * (bytes - meanBytes));
  return (60_000 * together) / mean(({ atMs }) => (atMs - meanMs) ** 2);
}

test(`a master serves a mixed load for ${SECONDS} s, without a failed call or a lost write, whatever goes on meanwhile`, async () => {
  const cluster = await TestCluster.start({
    replicas: 2,
    // Often enough that several are taken in a short run too.
    masterConfig: { snapshots: { interval: "5s", log_bytes: "1MiB" }, wal: { max_file_size: "1MiB" } },
  });
  onTestFinished(() => cluster.close());
  const { master, replicas } = cluster;
  const away = replicas[1]!;
  const masterProcess = await processOf(master);
  const job = { ...MIX, address: master.address };

  // The first time compiles the code.
  const capacityMs = Math.min(20_000, SECONDS * 100);
  const warm = await load({ ...job, measureMs: capacityMs, firstVersion: 1 });
  const full = await load({ ...job, measureMs: capacityMs, firstVersion: warm.nextVersion });

  const before = await metricsOf(master);
  const beganMs = performance.now();
  let isOver = false;
  const steady = load({
    ...job,
    measureMs: SECONDS * 1000,
    ratePerSecond: Math.floor(full.callsPerSecond * LOAD),
    firstVersion: full.nextVersion,
  }).finally(() => (isOver = true));
  // It is awaited below; until then its failure is nobody's.
  steady.catch(() => undefined);

  const memory: { atMs: number; bytes: number }[] = [];
  let longestPauseMs = 0;
  const look = async (): Promise<void> => {
    for (let n = 0; !isOver; n++) {
      memory.push({ atMs: performance.now() - beganMs, bytes: await residentBytes(masterProcess) });
      if (n % SCRAPE_EVERY === SCRAPE_EVERY - 1) {
        const metrics = await metricsOf(master);
        longestPauseMs = Math.max(longestPauseMs, 1000 * metrics.get("nodejs_eventloop_lag_max_seconds")!);
      }
      await pause(LOOK_MS);
    }
  };
  let caughtUp = 0;
  const goAndCome = async (): Promise<void> => {
    const awayMs = Math.min(20_000, (SECONDS * 1000) / 10);
    while (!isOver) {
      await away.kill();
      await pause(awayMs);
      const { appliedSeq } = await status(master.address);
      await away.start();
      await until(
        "the replica has caught up",
        async () => (await status(away.address)).appliedSeq >= appliedSeq,
        300_000,
      );
      caughtUp++;
      await pause(awayMs);
    }
  };
  const [result] = await Promise.all([steady, look(), goAndCome()]);
  const after = await metricsOf(master);
  longestPauseMs = Math.max(longestPauseMs, 1000 * after.get("nodejs_eventloop_lag_max_seconds")!);

  // All of it went on.
  const grown = (name: string): number => after.get(name)! - before.get(name)!;
  const snapshots = grown("cambium_snapshot_duration_seconds_count");
  const expired = grown("cambium_expired_keys_total");
  expect(snapshots).toBeGreaterThan(0);
  expect(grown("cambium_compact_seq")).toBeGreaterThan(0);
  expect(expired).toBeGreaterThan(0);
  expect(caughtUp).toBeGreaterThan(0);

  // Every call was answered, or the load would have ended with the first that was not; and what was answered is there.
  const versionOf = (n: number): number | undefined =>
    [result, full, warm].map(({ versions }) => versions[n]!).find((version) => version > 0);
  const answered = Array.from({ length: MIX.keyCount }, (_, n) => versionOf(n));
  const kept = answered.filter((version) => version !== undefined).length;
  await until("all that expires has gone", async () => (await status(master.address)).keys === kept);
  const { appliedSeq } = await status(master.address);
  const content = await contentOf(master);
  const lost: string[] = [];
  for (const [n, version] of answered.entries()) {
    const entry = content.get(mixedKey(n));
    const found = entry && versionIn(mixedKey(n), Buffer.from(entry.value, "base64"));
    if (found !== version) lost.push(`${mixedKey(n)}: ${found}, and ${version} was answered`);
  }
  expect(lost).toEqual([]);
  expect(kept).toBeGreaterThan(0);
  for (const replica of replicas) {
    await replica.applied(appliedSeq);
    expect(await contentOf(replica)).toEqual(content);
  }
  expect(master.stderr).toBe("");

  const times = ({ calls, p50Ms, p99Ms, p999Ms, longestMs }: CallTimes): string =>
    `${calls}; p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)}, p99.9 ${p999Ms.toFixed(2)}, the longest ${longestMs.toFixed(0)}`;
  const mib = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;
  // In the beginning it grows to what such a load needs.
  const settled = memory.slice(memory.length >> 1);
  console.log(
    [
      `capacity ${full.callsPerSecond.toFixed(0)} calls/s; ${SECONDS} s at ${result.callsPerSecond.toFixed(0)} calls/s, ${MIX.callers} connections, the load took ${(result.loaderCpuUs / 10 / result.elapsedMs).toFixed(0)} % of a processor`,
      `gets: ${times(result.gets)}`,
      `sets: ${times(result.sets)}`,
      `the master's longest event-loop delay ${longestPauseMs.toFixed(0)} ms`,
      `${snapshots} snapshots, ${expired} keys expired, a replica came back and caught up ${caughtUp} times`,
      `the master's memory: ${mib(memory[0]!.bytes)} at first, ${mib(Math.max(...memory.map(({ bytes }) => bytes)))} at most, ${mib(memory.at(-1)!.bytes)} at last; in the second half ${(slopeOf(settled) / MIB).toFixed(2)} MiB a minute`,
    ].join("\n"),
  );
});
