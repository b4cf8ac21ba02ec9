/** What a run of the bench says of recovery. */
import Table from "cli-table3";
import type { RecoveryRow } from "./recovery.js";
import { grouped, ratio } from "./report.js";

export function renderRecovery(rows: readonly RecoveryRow[]): string {
  const table = new Table({
    head: [
      "recovery from",
      "entries",
      "ms",
      "entries/s",
      "µs CPU/entry",
      "MB",
      "bare read, ms",
      "× bare read",
      "redis entries/s",
      "µs CPU/entry",
      "× redis",
      "× redis by CPU",
    ],
    colAligns: ["left", ...Array.from({ length: 11 }, () => "right" as const)],
    style: { head: [], border: [], compact: true },
  });
  for (const { from, entries, bytes, openMs, openCpuMs, readMs, redis } of rows) {
    table.push([
      from === "log" ? "the log" : "a snapshot",
      grouped(entries),
      grouped(openMs),
      grouped((entries * 1000) / openMs),
      perEntry(openCpuMs, entries),
      (bytes / 1e6).toFixed(1),
      grouped(readMs),
      ratio(openMs / readMs),
      redis ? grouped((entries * 1000) / redis.loadMs) : "",
      redis ? perEntry(redis.cpuMs, entries) : "",
      redis ? ratio(redis.loadMs / openMs) : "",
      redis ? ratio(redis.cpuMs / openCpuMs) : "",
    ]);
  }
  const version = rows[0]?.redis?.version;
  return [
    "recovery: 16-byte keys, 100-byte values, from the page cache; a bare read sums a CRC of every byte; medians",
    version
      ? `${version} loads as many equal entries from its AOF, and from its RDB file`
      : "redis-server is not installed: nothing to compare the loads with",
    table.toString(),
    "",
  ].join("\n");
}

function perEntry(ms: number, entries: number): string {
  return ((ms * 1000) / entries).toFixed(2);
}
