/** What a run of the bench says of recovery. */
import Table from "cli-table3";
import type { RecoveryRow } from "./recovery.js";
import { grouped, ratio } from "./report.js";

export function renderRecovery(rows: readonly RecoveryRow[]): string {
  const table = new Table({
    head: ["recovery from", "entries", "ms", "entries/s", "MB", "bare read, ms", "× bare read"],
    colAligns: ["left", "right", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const { from, entries, bytes, openMs, readMs } of rows) {
    table.push([
      from === "log" ? "the log" : "a snapshot",
      grouped(entries),
      grouped(openMs),
      grouped((entries * 1000) / openMs),
      (bytes / 1e6).toFixed(1),
      grouped(readMs),
      ratio(openMs / readMs),
    ]);
  }
  return [
    "recovery: 16-byte keys, 100-byte values, from the page cache; a bare read sums a CRC of every byte; medians",
    table.toString(),
    "",
  ].join("\n");
}
