/** What a run of the bench says of replication. */
import Table from "cli-table3";
import type { ReplicationReport } from "./replication.js";
import { grouped, ratio } from "./report.js";

const style = { head: [], border: [], compact: true };

export function renderReplication({ catchUp, roundTrips, costs, lag, majority }: ReplicationReport): string {
  const alone = costs.find(({ replicas }) => replicas === 0)?.sample;
  const two = costs.find(({ replicas }) => replicas === 2)?.sample;
  const writes = new Table({
    head: ["sets, 64 clients", "replicas", "operations/s", "p50 µs", "p99 µs", "master µs/op", "× without"],
    colAligns: ["left", "right", "right", "right", "right", "right", "right"],
    style,
  });
  const rows = [
    ...costs.map(({ replicas, sample }) => ({ name: "the master commits", replicas, sample })),
    { name: "a majority commits", replicas: 2, sample: majority },
  ];
  for (const { name, replicas, sample } of rows) {
    writes.push([
      name,
      replicas,
      grouped(sample.operationsPerSecond),
      grouped(sample.p50Us),
      grouped(sample.p99Us),
      sample.serverCpuUsPerOperation.toFixed(1),
      ratio(sample.serverCpuUsPerOperation / (alone?.serverCpuUsPerOperation ?? NaN)),
    ]);
  }
  const trips = new Table({
    head: ["a write that one replica acknowledges, one client", "cambium p50 µs", "redis SET + WAIT p50 µs", "× redis"],
    colAligns: ["left", "right", "right", "right"],
    style,
  });
  for (const { durability, cambiumP50Us, redisP50Us } of roundTrips) {
    trips.push([
      durability === "os" ? "nobody syncs" : "both sync",
      grouped(cambiumP50Us),
      grouped(redisP50Us),
      ratio(cambiumP50Us / redisP50Us),
    ]);
  }
  return [
    "replication: 100-byte values, durable unless said otherwise; medians; × without: the master's CPU time to that without replicas",
    writes.toString(),
    `a majority: ${ratio(majority.operationsPerSecond / (two?.operationsPerSecond ?? NaN))} × the rate of the master's copy alone`,
    trips.toString(),
    ...(roundTrips.some(({ redisP50Us }) => Number.isNaN(redisP50Us)) ? ["Redis is not installed: not compared"] : []),
    `catching up with ${grouped(catchUp.records)} records (${(catchUp.bytes / 1e6).toFixed(0)} MB): kept ${grouped(catchUp.keptPerSecond)} a second, applied ${grouped(catchUp.appliedPerSecond)}; CPU a record: master ${catchUp.masterCpuUs.toFixed(2)} µs, replica ${catchUp.replicaCpuUs.toFixed(2)} µs, its start included`,
    `lag of a replica at ${grouped(lag.operationsPerSecond)} writes/s (${Math.round(lag.share * 100)} % of the most): p50 ${lag.p50Ms.toFixed(1)} ms, p99 ${lag.p99Ms.toFixed(1)} ms, a call's own time included (${lag.samples} samples)`,
    "",
  ].join("\n");
}
