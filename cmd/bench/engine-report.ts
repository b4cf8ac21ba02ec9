/** What a run of the bench says of the engine. */
import Table from "cli-table3";
import type { EngineExtras, EngineRow } from "./engine.js";
import type { EngineKind, FloodCost } from "./engine-job.js";
import { grouped, ratio } from "./report.js";

/** What keys that fall due may cost: in one turn of the event loop, and after their deadlines. */
const PAUSE_MS_MAX = 10;
const LATE_MS_MAX = 2000;

const names: Readonly<Record<EngineKind, string>> = {
  map: "Map",
  slab: "slab",
  "slab without order": "slab, no order",
};

export function renderEngine(rows: readonly EngineRow[]): string {
  const table = new Table({
    head: [
      "entries",
      "engine",
      "fill",
      "get",
      "set",
      "delete",
      "scan",
      "walk",
      "arm",
      "expire",
      "get × Map",
      "set × Map",
      "bytes",
      "after 90 %",
      "after all",
      "pause, ms",
      "in",
      "collection, ms",
    ],
    colAligns: ["right", "left"],
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) {
    const map = rows.find(({ engine, entries }) => engine === "map" && entries === row.entries);
    table.push([
      grouped(row.entries),
      names[row.engine],
      ...[row.fillNs, row.getNs, row.setNs, row.deleteNs, row.scanNs ?? NaN, row.walkNs, row.armNs, row.expireNs].map(
        grouped,
      ),
      ratio(row.getNs / (map?.getNs ?? NaN)),
      ratio(row.setNs / (map?.setNs ?? NaN)),
      grouped(row.residentBytes),
      grouped(row.residentBytesOfTenth),
      grouped(row.residentBytesAfter),
      row.longestTurnMs.toFixed(1),
      row.longestTurnIn,
      row.longestCollectionMs.toFixed(1),
    ]);
  }
  return [
    "engine: 16-byte keys, 100-byte values; ns an operation, of scan and walk an entry, of the thread's own time; resident bytes",
    "an entry, when nine tenths are deleted (of each that is left), and when all are (of each that was)",
    table.toString(),
    "",
  ].join("\n");
}

export function renderEngineExtras({ churn, flood, eviction, expiry, limit }: EngineExtras): string {
  return [
    `overwrites with values of other sizes, ${grouped(churn.overwrites)} of ${grouped(churn.entries)} entries: ${grouped(churn.overwriteNs)} ns each;`,
    `held, for each byte accounted: at most ${ratio(churn.heldMost)}, in the end ${ratio(churn.heldAtEnd)}; resident ${ratio(churn.residentAtEnd)}`,
    "",
    `${grouped(flood.keys)} keys of which ${flood.bits} bits of the hash are alike under a known seed:`,
    ...renderFlood(flood),
    "",
    ...renderEvictions(eviction),
    "",
    `${grouped(expiry.entries)} keys due in one second, through the log: gone ${grouped(expiry.lateMs)} ms after the last deadline, the longest pause ${expiry.longestTurnMs.toFixed(1)} ms;`,
    `by the engine alone: ${grouped(expiry.aloneMs)} ms for all, the longest pause ${expiry.aloneLongestTurnMs.toFixed(1)} ms`,
    "",
    `storage.max_bytes ${megabytes(limit.bytesMax)}, lru, ${megabytes(limit.writtenBytes)} written: accounted at most ${megabytes(limit.accountedBytesMost)};`,
    `resident ${megabytes(limit.residentBytesBefore)} before, ${megabytes(limit.residentBytesMost)} at most, ${megabytes(limit.residentBytesAtEnd)} in the end: ${ratio(limit.residentBytesMost / limit.bytesMax)} and ${ratio(limit.residentBytesAtEnd / limit.bytesMax)} × the limit`,
    ...broken({ expiry, limit }).map((sentence) => `MORE THAN PROMISED: ${sentence}`),
    "",
  ].join("\n");
}

/** Which of the promises this run does not bear out. */
export function broken({ expiry, limit }: Pick<EngineExtras, "expiry" | "limit">): string[] {
  const sentences: string[] = [];
  const pauseMs = Math.max(expiry.longestTurnMs, expiry.aloneLongestTurnMs);
  if (pauseMs > PAUSE_MS_MAX) {
    sentences.push(`a pause of ${pauseMs.toFixed(1)} ms while keys expire, ${PAUSE_MS_MAX} ms at most are promised`);
  }
  if (expiry.lateMs > LATE_MS_MAX) {
    sentences.push(
      `keys were gone ${grouped(expiry.lateMs)} ms after their deadlines, ${grouped(LATE_MS_MAX)} ms at most are promised`,
    );
  }
  if (limit.accountedBytesMost > limit.bytesMax) {
    sentences.push(`${grouped(limit.accountedBytesMost)} bytes under a limit of ${grouped(limit.bytesMax)}`);
  }
  return sentences;
}

function renderFlood({ others, colliding, collidingUnderTheirSeed }: EngineExtras["flood"]): string[] {
  const line = (name: string, { putNs, getNs }: FloodCost): string =>
    `  ${name}: put ${grouped(putNs)} ns (${ratio(putNs / others.putNs)} ×), get ${grouped(getNs)} ns (${ratio(getNs / others.getNs)} ×)`;
  return [
    line("other keys", others),
    line("these, under a seed by chance", colliding),
    line("these, were the seed known", collidingUnderTheirSeed),
  ];
}

function renderEvictions({ entriesMax, keys, requests, rows }: EngineExtras["eviction"]): string[] {
  const table = new Table({
    head: ["evicted by", "hits, %", "beyond lru-cache, %", "ns a request"],
    colAligns: ["left", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  const theirs = rows.find(({ evictor }) => evictor === "lru-cache")?.hitRatio ?? NaN;
  for (const { evictor, hitRatio, requestNs } of rows) {
    const difference = (hitRatio - theirs) * 100;
    const beside = evictor === "lru-cache" ? "" : `${difference < 0 ? "" : "+"}${difference.toFixed(2)}`;
    table.push([evictor, (hitRatio * 100).toFixed(2), beside, grouped(requestNs)]);
  }
  return [
    `evictions: ${grouped(entriesMax)} of ${grouped(keys)} keys fit, ${grouped(requests)} requests by Zipf's law`,
    table.toString(),
  ];
}

function megabytes(bytes: number): string {
  return `${grouped(bytes / 1e6)} MB`;
}
