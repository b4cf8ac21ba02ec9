import { expect, test } from "vitest";
import type { Sample } from "./measurement.js";
import type { CostRow, ReplicationReport, RoundTripRow } from "./replication.js";
import { textOf } from "./blocks.js";
import { replicationBlocks } from "./replication-report.js";

const sample = (operationsPerSecond: number, serverCpuUsPerOperation: number): Sample => ({
  operationsPerSecond,
  p50Us: 1000,
  p99Us: 2000,
  serverCpuUsPerOperation,
  loaderCpuUsPerOperation: 5,
  serverBusy: 0.5,
  loaderBusy: 0.2,
});

const trip: RoundTripRow = {
  durability: "os",
  cambiumP50Us: 300,
  redisP50Us: 100,
  cambiumSamplesUs: [],
  redisSamplesUs: [],
};

const row = (replicas: number, rate: number, cpuUs: number): CostRow => ({
  replicas,
  sample: sample(rate, cpuUs),
  samples: [],
});

const report: ReplicationReport = {
  catchUp: {
    records: 1_000_000,
    bytes: 160_000_000,
    keptPerSecond: 900_000,
    appliedPerSecond: 600_000,
    masterCpuUs: 0.5,
    replicaCpuUs: 1.5,
    samples: [],
  },
  roundTrips: [trip],
  costs: [row(0, 10_000, 20), row(2, 8000, 25)],
  lag: { operationsPerSecond: 6400, share: 0.8, p50Ms: 2, p99Ms: 9, samples: 500 },
  majority: row(2, 6000, 30),
};

test("a row says what its replicas cost the master next to none, and a majority what it does to the rate", () => {
  const text = textOf(replicationBlocks(report));
  expect(text).toMatch(/the master commits\s*│\s*2\s*│\s*8,000 .* 25\.0\s*│\s*1\.25/);
  expect(text).toContain("A majority commits 0.75 × as many");
  expect(text).toMatch(/nobody syncs\s*│\s*300\s*│\s*100\s*│\s*3\.00/);
  expect(text).toContain("80 % of the most");
  expect(text).not.toContain("not installed");
});

test("that Redis is not there to compare with is said", () => {
  const text = textOf(replicationBlocks({ ...report, roundTrips: [{ ...trip, redisP50Us: NaN }] }));
  expect(text).toMatch(/nobody syncs\s*│\s*300\s*│\s*–\s*│\s*–/);
  expect(text).toContain("redis is not installed");
});
