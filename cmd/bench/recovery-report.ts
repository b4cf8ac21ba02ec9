/** What a run of the bench says of recovery. */
import type { Block } from "./blocks.js";
import { fixed, grouped, ratio } from "./format.js";
import type { RecoveryRow } from "./recovery.js";

export function recoveryBlocks(rows: readonly RecoveryRow[]): Block[] {
  return [
    "recovery: 16-byte keys, 100-byte values, from the page cache; a bare read sums a CRC of every byte; medians",
    {
      head: ["recovery from", "entries", "ms", "entries/s", "MB", "bare read, ms", "× bare read"],
      rows: rows.map(({ from, entries, bytes, openMs, readMs }) => [
        from === "log" ? "the log" : "a snapshot",
        grouped(entries),
        grouped(openMs),
        grouped((entries * 1000) / openMs),
        fixed(bytes / 1e6, 1),
        grouped(readMs),
        ratio(openMs / readMs),
      ]),
    },
  ];
}
