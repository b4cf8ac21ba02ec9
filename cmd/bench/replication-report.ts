/** What a run of the bench says of replication. */
import type { Block, Table } from "./blocks.js";
import { fixed, grouped, megabytes, ratio } from "./format.js";
import type { CostRow, ReplicationReport } from "./replication.js";

type Costs = Pick<ReplicationReport, "costs" | "majority">;

export function replicationBlocks(report: ReplicationReport): Block[] {
  const { catchUp, roundTrips, costs, lag, majority } = report;
  const costRow = (name: string, { replicas, sample }: CostRow): string[] => [
    name,
    String(replicas),
    grouped(sample.operationsPerSecond),
    grouped(sample.p50Us),
    grouped(sample.p99Us),
    fixed(sample.serverCpuUsPerOperation, 1),
    ratio(sample.serverCpuUsPerOperation / (withReplicas(costs, 0)?.serverCpuUsPerOperation ?? NaN)),
  ];
  return [
    "replication: sets of 100-byte values, durable unless said otherwise; medians of three interleaved rounds; × without: the master's CPU time next to that without replicas",
    {
      head: ["sets, 64 clients", "replicas", "per s", "p50 µs", "p99 µs", "master CPU µs", "× without"],
      rows: [
        ...costs.map((row) => costRow("the master commits", row)),
        ...(majority ? [costRow("a majority commits", majority)] : []),
      ],
    },
    majority
      ? `A majority commits ${ratio(majorityBesideMaster(report))} × as many writes a second as the master alone.`
      : "A quick run leaves out writes that a majority must keep, and the round trip of an acknowledgement.",
    ...(roundTrips.length === 0 ? [] : [roundTripTable(roundTrips)]),
    ...(roundTrips.some(({ redisP50Us }) => Number.isNaN(redisP50Us))
      ? ["redis is not installed, so nothing is compared with it."]
      : []),
    `Catching up with ${grouped(catchUp.records)} records (${megabytes(catchUp.bytes)}): kept ${grouped(catchUp.keptPerSecond)} a second, applied ${grouped(catchUp.appliedPerSecond)}; CPU a record: master ${ratio(catchUp.masterCpuUs)} µs, replica ${ratio(catchUp.replicaCpuUs)} µs, its start included.`,
    `Lag of a replica at ${grouped(lag.operationsPerSecond)} writes/s (${Math.round(lag.share * 100)} % of the most): p50 ${fixed(lag.p50Ms, 1)} ms, p99 ${fixed(lag.p99Ms, 1)} ms, a call's own time included (${lag.samples} samples).`,
  ];
}

function roundTripTable(roundTrips: ReplicationReport["roundTrips"]): Table {
  return {
    head: ["a write that one replica acknowledges, one client", "cambium p50 µs", "redis SET + WAIT p50 µs", "× redis"],
    rows: roundTrips.map(({ durability, cambiumP50Us, redisP50Us }) => [
      durability === "os" ? "nobody syncs" : "both sync",
      grouped(cambiumP50Us),
      grouped(redisP50Us),
      ratio(cambiumP50Us / redisP50Us),
    ]),
  };
}

/** The master's CPU time a write with two replicas, next to that with none. */
export function costBesideNone({ costs }: Costs): number {
  const costOf = (replicas: number): number => withReplicas(costs, replicas)?.serverCpuUsPerOperation ?? NaN;
  return costOf(2) / costOf(0);
}

/** The rate of writes that a majority of three must keep, next to that of a master with two replicas that only follow. */
export function majorityBesideMaster({ costs, majority }: Costs): number {
  return (majority?.sample.operationsPerSecond ?? NaN) / (withReplicas(costs, 2)?.operationsPerSecond ?? NaN);
}

function withReplicas(costs: readonly CostRow[], replicas: number): CostRow["sample"] | undefined {
  return costs.find((row) => row.replicas === replicas)?.sample;
}
