/** What a run of the bench says of calls: a table for people; and all its numbers for programs. */
import os from "node:os";
import Table from "cli-table3";
import type { ClientRow } from "./client.js";
import type { EngineExtras, EngineRow } from "./engine.js";
import type { SyncResult } from "./job.js";
import type { Case, Contestant, Sample } from "./measurement.js";
import type { RecoveryRow } from "./recovery.js";
import type { SnapshotCost } from "./snapshot.js";

export interface Row extends Case {
  /** The median of all rounds. */
  readonly sample: Sample;
}

export interface Durability {
  /** One client, one set at a time. */
  readonly setP50Us: number;
  /** A small write's fdatasync, with nothing around it, in the same run and on the same disk. */
  readonly sync: SyncResult;
}

export interface CallsReport {
  readonly rounds: number;
  readonly measureMs: number;
  readonly rows: readonly Row[];
  readonly durability: Durability;
}

export interface BenchReport {
  readonly machine: string;
  /** Absent: not measured, as the other sections. */
  readonly calls?: CallsReport | undefined;
  readonly clients?: readonly ClientRow[] | undefined;
  readonly recovery?: readonly RecoveryRow[] | undefined;
  readonly snapshots?: readonly SnapshotCost[] | undefined;
  readonly engine?: ({ readonly operations: readonly EngineRow[] } & EngineExtras) | undefined;
}

export function machineName(): string {
  const cpus = os.cpus();
  return `${cpus.length} × ${cpus[0]?.model.trim() ?? "unknown processor"}, ${os.platform()}, Node ${process.versions.node}`;
}

/**
 * How many times the rate of `contestant` that of `row` is, with as many calls in flight; NaN where that was not measured.
 * HTTP/1.1 has a connection for each call, whatever the row has.
 */
export function ratioTo(contestant: Contestant, row: Row, rows: readonly Row[]): number {
  const other = rows.find(
    (other) =>
      other.contestant === contestant &&
      other.connections * other.streams === row.connections * row.streams &&
      (other.protocol !== row.protocol || other.streams === row.streams),
  );
  return row.sample.operationsPerSecond / (other?.sample.operationsPerSecond ?? NaN);
}

/** An answer that comes sooner than the disk can sync was given before the write was durable. */
export function answersTooEarly({ setP50Us, sync }: Durability): boolean {
  return setP50Us < sync.p50Us;
}

export function renderCalls(report: CallsReport): string {
  const { rows, durability } = report;
  const table = new Table({
    head: [
      "",
      "clients",
      "operations/s",
      "p50 µs",
      "p99 µs",
      "server µs/op",
      "load µs/op",
      "× node:http",
      "× node:http2",
    ],
    colAligns: ["left", "right", "right", "right", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) {
    const { sample } = row;
    table.push([
      nameOf(row),
      row.streams === 1 ? String(row.connections) : `${row.streams} on ${row.connections}`,
      grouped(sample.operationsPerSecond),
      grouped(sample.p50Us),
      grouped(sample.p99Us),
      grouped(sample.serverCpuUsPerOperation),
      grouped(sample.loaderCpuUsPerOperation),
      ratio(ratioTo("node:http", row, rows)),
      row.protocol === "grpc" ? ratio(ratioTo("node:http2", row, rows)) : "",
    ]);
  }
  const { setP50Us, sync } = durability;
  return [
    `calls: medians of ${report.rounds} rounds of ${report.measureMs / 1000} s; 100-byte values; sets are durable`,
    table.toString(),
    `durable set, one client: p50 ${grouped(setP50Us)} µs; a bare fdatasync: p50 ${grouped(sync.p50Us)} µs, p99 ${grouped(sync.p99Us)} µs`,
    ...(answersTooEarly(durability)
      ? ["WRONG: a set was answered sooner than the disk can sync, so it was answered before it was durable"]
      : []),
    "",
  ].join("\n");
}

/** All numbers as JSON. */
export function jsonReport({ machine, calls, clients, recovery, snapshots, engine }: BenchReport): string {
  const rows = calls?.rows.map((row) => ({
    ...row,
    ratioToNodeHttp: ratioTo("node:http", row, calls.rows),
    ...(row.protocol === "grpc" && { ratioToNodeHttp2: ratioTo("node:http2", row, calls.rows) }),
  }));
  return `${JSON.stringify({ machine, ...calls, rows, clients, recovery, snapshots, engine }, null, 2)}\n`;
}

function nameOf({ contestant, protocol, operation }: Case): string {
  const over = protocol === "connect" ? "Connect, HTTP/1.1" : "gRPC, HTTP/2";
  switch (contestant) {
    case "node:http":
      return "node:http, fixed bytes";
    case "node:http2":
      return "node:http2, fixed bytes and trailers";
    case "connect-node":
      return `stock connect-node, ${operation} (${over})`;
    case "cambium":
      return `cambium, ${operation} (${over})`;
  }
}

export function grouped(value: number): string {
  return Number.isNaN(value) ? "–" : Math.round(value).toLocaleString("en-US");
}

export function ratio(value: number): string {
  return Number.isNaN(value) ? "–" : value.toFixed(2);
}
