/** What a run of the bench says of recovery. */
import type { Block } from "./blocks.js";
import { fixed, grouped, ratio } from "./format.js";
import type { RecoveryRow } from "./recovery.js";

export function recoveryBlocks(rows: readonly RecoveryRow[]): Block[] {
  const perEntry = (ms: number, entries: number): string => ratio((ms * 1000) / entries);
  const version = rows[0]?.redis?.version;
  return [
    "recovery: 16-byte keys, 100-byte values, from the page cache; a bare read sums a CRC of every byte; medians of three interleaved rounds",
    {
      head: [
        "recovery from",
        "entries",
        "ms",
        "entries/s",
        "CPU µs an entry",
        "MB",
        "bare read, ms",
        "× bare read",
        ...(version ? ["redis entries/s", "CPU µs an entry", "× redis", "× redis by CPU"] : []),
      ],
      rows: rows.map(({ from, entries, bytes, openMs, openCpuMs, readMs, redis }) => [
        from === "log" ? "the log" : "a snapshot",
        grouped(entries),
        grouped(openMs),
        grouped((entries * 1000) / openMs),
        perEntry(openCpuMs, entries),
        fixed(bytes / 1e6, 1),
        grouped(readMs),
        ratio(openMs / readMs),
        ...(redis
          ? [
              grouped((entries * 1000) / redis.loadMs),
              perEntry(redis.cpuMs, entries),
              ratio(redis.loadMs / openMs),
              ratio(redis.cpuMs / openCpuMs),
            ]
          : []),
      ]),
    },
    version
      ? `${version} loads as many equal entries from its AOF, and from its RDB file.`
      : "redis is not installed, so nothing is compared with it.",
  ];
}
