import { expect, test } from "vitest";
import type { EngineExtras, EngineRow } from "./engine.js";
import { broken as engineBroken, renderEngine, renderEngineExtras } from "./engine-report.js";
import { type Case, medianOf, type Sample } from "./measurement.js";
import type { LoopReport } from "./loop-watch.js";
import { renderRecovery } from "./recovery-report.js";
import { answersTooEarly, type CallsReport, jsonReport, ratioTo, renderCalls, type Row } from "./report.js";
import { logLine } from "./server-process.js";
import type { SnapshotCost, SnapshotPhase } from "./snapshot.js";
import { broken, renderSnapshot } from "./snapshot-report.js";
import { median, percentile } from "./statistics.js";

const sample = (operationsPerSecond: number): Sample => ({
  operationsPerSecond,
  p50Us: 100,
  p99Us: 200,
  serverCpuUsPerOperation: 10,
  loaderCpuUsPerOperation: NaN,
});

const row = (
  contestant: Case["contestant"],
  protocol: Case["protocol"],
  rate: number,
  connections = 64,
  streams = 1,
): Row => ({
  contestant,
  protocol,
  operation: "get",
  connections,
  streams,
  sample: sample(rate),
});

const rows = [
  row("node:http", "connect", 1000),
  row("node:http2", "grpc", 400),
  row("node:http2", "grpc", 800, 1, 64),
  row("cambium", "connect", 500),
  row("cambium", "grpc", 200),
  row("cambium", "grpc", 400, 1, 64),
];

const report: CallsReport = {
  rounds: 3,
  measureMs: 400,
  rows,
  durability: { setP50Us: 300, sync: { p50Us: 100, p99Us: 150 } },
};

test("a ratio compares what has as many calls in flight, on as many connections where the protocol is the same", () => {
  expect(ratioTo("node:http", rows[3]!, rows)).toBe(0.5);
  expect(ratioTo("node:http", rows[5]!, rows)).toBe(0.4);
  expect(ratioTo("node:http2", rows[4]!, rows)).toBe(0.5);
  expect(ratioTo("node:http2", rows[5]!, rows)).toBe(0.5);
  expect(ratioTo("node:http", row("cambium", "grpc", 1, 16), rows)).toBeNaN();
});

test("the table has a line for each row, and shows what is unknown as such", () => {
  const text = renderCalls(report);
  expect(text).toContain("cambium, get (gRPC, HTTP/2)");
  expect(text).toContain("64 on 1");
  expect(text).toContain("–");
  expect(text).not.toContain("NaN");
  expect(text).not.toContain("WRONG");
});

test("a set that was answered before the disk can have synced is called wrong", () => {
  const early = { setP50Us: 99, sync: { p50Us: 100, p99Us: 150 } };
  expect(answersTooEarly(early)).toBe(true);
  expect(renderCalls({ ...report, durability: early })).toContain("WRONG");
  expect(answersTooEarly(report.durability)).toBe(false);
});

test("the JSON has the numbers of the table", () => {
  const parsed = JSON.parse(jsonReport({ machine: "m", calls: report })) as {
    rows: { ratioToNodeHttp: number; ratioToNodeHttp2?: number }[];
  };
  expect(parsed.rows.map((each) => [each.ratioToNodeHttp, each.ratioToNodeHttp2])).toEqual([
    [1, undefined],
    [0.4, 1],
    [0.8, 1],
    [0.5, undefined],
    [0.2, 0.5],
    [0.4, 0.5],
  ]);
});

test("recovery is shown in entries a second, and next to the bare read", () => {
  const text = renderRecovery([{ from: "log", entries: 1000, bytes: 2e6, openMs: 500, openCpuMs: 520, readMs: 10 }]);
  expect(text).toMatch(/the log +│ +1,000 │ +500 │ +2,000 │ +520\.00 │ +2\.0 │ +10 │ +50\.00/);
  expect(text).toContain("redis-server is not installed");
});

test("recovery is compared with redis, by time and by the processor's", () => {
  const redis = { version: "redis 7.0.15", loadMs: 250, cpuMs: 1040 };
  const text = renderRecovery([
    { from: "snapshot", entries: 1000, bytes: 2e6, openMs: 500, openCpuMs: 520, readMs: 10, redis },
  ]);
  expect(text).toMatch(/a snapshot +│.*│ +4,000 │ +1040\.00 │ +0\.50 │ +2\.00/);
  expect(text).toContain("redis 7.0.15 loads as many equal entries");
});

function phase(probe: Partial<LoopReport>): SnapshotPhase {
  const load = { operations: 10, elapsedMs: 1000, p50Us: 1, p99Us: 2, loaderCpuUs: 3 };
  const quiet = {
    longestDelayMs: 9,
    p99DelayMs: 1,
    longestCollectionMs: 1,
    residentBytes: 100e6,
    residentBytesMost: 109e6,
  };
  return { reads: load, writes: load, probe: { ...quiet, ...probe } };
}

test("a snapshot that pauses the master, or takes memory, beyond what is promised is called that", () => {
  const cost: SnapshotCost = { entries: 10, without: phase({}), with: phase({}), snapshots: 2, entriesPerSecond: 20 };
  expect(broken(cost)).toEqual([]);
  expect(renderSnapshot(cost)).not.toContain("MORE");
  const load = phase({ longestDelayMs: 5 });
  expect(broken({ ...cost, without: load, with: phase({ longestDelayMs: 15 }) })).toEqual([]);
  expect(broken({ ...cost, without: load, with: phase({ longestDelayMs: 15.1 }) })).toEqual([
    "a pause of 15.1 ms, and of 5.0 ms without snapshots; 10 ms more at most are promised",
  ]);
  expect(renderSnapshot({ ...cost, with: phase({ residentBytesMost: 109e6 * 1.11 }) })).toContain(
    "MORE THAN PROMISED: 11.0 % more memory than without snapshots",
  );
  expect(broken({ ...cost, with: phase({ longestDelayMs: 99, longestRunMs: 9 }) })).toEqual([]);
  expect(broken({ ...cost, with: phase({ longestDelayMs: 99, longestRunMs: 22 }) })).toHaveLength(1);
  // What the load alone does is no fault of the snapshot's.
  expect(broken({ ...cost, without: phase({ longestDelayMs: 50 }) })).toEqual([]);
});

test("an engine is shown next to the map of as many entries", () => {
  const map: EngineRow = {
    engine: "map",
    entries: 1000,
    fillNs: 10,
    getNs: 20,
    setNs: 30,
    scanNs: 40,
    walkNs: 50,
    armNs: 60,
    expireNs: 70,
    deleteNs: 80,
    residentBytes: 400,
    residentBytesOfTenth: 900,
    residentBytesAfter: 100,
    longestTurnMs: 12.34,
    longestTurnIn: "fill",
    longestCollectionMs: 9,
  };
  const { scanNs: _, ...slab } = { ...map, engine: "slab without order" as const, getNs: 5, setNs: 15 };
  const text = renderEngine([map, { ...map, entries: 5, getNs: 1 }, slab]);
  expect(text).toMatch(/slab, no order .* 5 +│ 15 +│ 80 +│ – .* 0\.25 +│ 0\.50 .* 12\.3/);
});

const extras: EngineExtras = {
  churn: { entries: 10, overwrites: 100, overwriteNs: 1234, heldMost: 2, heldAtEnd: 1.25, residentAtEnd: 1.5 },
  flood: {
    keys: 1000,
    bits: 8,
    others: { putNs: 100, getNs: 50 },
    colliding: { putNs: 101, getNs: 49 },
    collidingUnderTheirSeed: { putNs: 900, getNs: 500 },
  },
  eviction: {
    entriesMax: 10,
    keys: 100,
    requests: 1000,
    rows: [
      { evictor: "lru", hitRatio: 0.765, requestNs: 900 },
      { evictor: "lfu", hitRatio: 0.79, requestNs: 901 },
      { evictor: "lru-cache", hitRatio: 0.77, requestNs: 500 },
    ],
  },
  expiry: { entries: 1000, lateMs: 900, longestTurnMs: 9, aloneMs: 700, aloneLongestTurnMs: 5 },
  limit: {
    bytesMax: 100e6,
    times: 10,
    writes: 1000,
    writtenBytes: 1e9,
    accountedBytesMost: 100e6,
    residentBytesBefore: 60e6,
    residentBytesMost: 300e6,
    residentBytesAtEnd: 250e6,
  },
};

test("what else concerns the engine is shown next to what it is compared with", () => {
  const text = renderEngineExtras(extras);
  expect(text).toContain("put 900 ns (9.00 ×), get 500 ns (10.00 ×)");
  expect(text).toMatch(/lru +│ +76\.50 │ +-0\.50 /);
  expect(text).toMatch(/lfu +│ +79\.00 │ +\+2\.00 /);
  expect(text).toContain("3.00 and 2.50 × the limit");
  expect(text).not.toContain("MORE");
  const { expiry, limit } = extras;
  expect(engineBroken({ limit, expiry: { ...expiry, aloneLongestTurnMs: 10.1, lateMs: 2001 } })).toEqual([
    "a pause of 10.1 ms while keys expire, 10 ms at most are promised",
    "keys were gone 2,001 ms after their deadlines, 2,000 ms at most are promised",
  ]);
  const passed = { ...limit, accountedBytesMost: 100e6 + 1 };
  expect(renderEngineExtras({ ...extras, limit: passed })).toContain("100,000,001 bytes under a limit of 100,000,000");
});

test("medians and percentiles are values that were measured", () => {
  expect([median([3, 1, 2]), median([4, 1]), median([NaN, 5]), median([])]).toEqual([2, 2.5, 5, NaN]);
  expect(medianOf([sample(3), sample(1), sample(2)]).operationsPerSecond).toBe(2);
  const sorted = Float64Array.from({ length: 100 }, (_, index) => index);
  expect([percentile(sorted, 0.5), percentile(sorted, 0.99), percentile(sorted, 1)]).toEqual([50, 99, 99]);
  expect(percentile([], 0.5)).toBeNaN();
});

test("a server's log lines are read, and other output is not taken for one", () => {
  expect(logLine('{"level":30,"address":"127.0.0.1:1","msg":"listening"}')).toMatchObject({ address: "127.0.0.1:1" });
  expect(logLine("(node:1) Warning: listening")).toBeUndefined();
});
