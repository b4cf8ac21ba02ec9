/** What a run of the bench says of the engine. */
import type { Block, Table } from "./blocks.js";
import type { EngineExtras, EngineOutcome, EngineRow } from "./engine.js";
import type { EngineKind, FloodCost } from "./engine-job.js";
import { fixed, grouped, megabytes, ratio } from "./format.js";

/** What keys that fall due may cost: in one turn of the event loop, and after their deadlines. */
export const PAUSE_MS_MAX = 10;
export const LATE_MS_MAX = 2000;

const names: Readonly<Record<EngineKind, string>> = {
  map: "Map",
  slab: "slab",
  "slab without order": "slab, no order",
};

export function engineBlocks({ operations, extras }: EngineOutcome): Block[] {
  return [
    "engine: 16-byte keys, 100-byte values; ns an operation, of scan and walk an entry, of the thread's own time; gets and sets are medians of three rounds",
    timeTable(operations),
    "resident bytes an entry, when nine tenths are deleted (of each that is left), and when all are (of each that was); the longest pause, and of it the collector's",
    memoryTable(operations),
    ...(extras ? extraBlocks(extras) : ["A quick run leaves out churn, floods, evictions, expiry and limits."]),
  ];
}

function timeTable(rows: readonly EngineRow[]): Table {
  return {
    head: [
      "engine",
      "entries",
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
    ],
    rows: rows.map((row) => {
      const map = rows.find(({ engine, entries }) => engine === "map" && entries === row.entries);
      const times = [row.fillNs, row.getNs, row.setNs, row.deleteNs, row.scanNs ?? NaN, row.walkNs, row.armNs];
      return [
        names[row.engine],
        grouped(row.entries),
        ...[...times, row.expireNs].map(grouped),
        ratio(row.getNs / (map?.getNs ?? NaN)),
        ratio(row.setNs / (map?.setNs ?? NaN)),
      ];
    }),
  };
}

function memoryTable(rows: readonly EngineRow[]): Table {
  return {
    head: ["engine", "pause in", "entries", "bytes", "after 90 %", "after all", "pause, ms", "collection, ms"],
    wordColumns: 2,
    rows: rows.map((row) => [
      names[row.engine],
      row.longestTurnIn,
      grouped(row.entries),
      grouped(row.residentBytes),
      grouped(row.residentBytesOfTenth),
      grouped(row.residentBytesAfter),
      fixed(row.longestTurnMs, 1),
      fixed(row.longestCollectionMs, 1),
    ]),
  };
}

function extraBlocks({ churn, flood, eviction, expiry, limit }: EngineExtras): Block[] {
  const times = (bytes: number): string => ratio(bytes / limit.bytesMax);
  return [
    `Overwrites with values of other sizes, ${grouped(churn.overwrites)} of ${grouped(churn.entries)} entries: ${grouped(churn.overwriteNs)} ns each; held, for each byte accounted: at most ${ratio(churn.heldMost)}, in the end ${ratio(churn.heldAtEnd)}; resident ${ratio(churn.residentAtEnd)}.`,
    `${grouped(flood.keys)} keys of which ${flood.bits} bits of the hash are alike under a known seed, ns:`,
    floodTable(flood),
    `evictions: ${grouped(eviction.entriesMax)} of ${grouped(eviction.keys)} keys fit, ${grouped(eviction.requests)} requests by Zipf's law`,
    evictionTable(eviction),
    `${grouped(expiry.entries)} keys due in one second, through the log: gone ${grouped(expiry.lateMs)} ms after the last deadline, the longest pause ${fixed(expiry.longestTurnMs, 1)} ms; by the engine alone: ${grouped(expiry.aloneMs)} ms for all, the longest pause ${fixed(expiry.aloneLongestTurnMs, 1)} ms.`,
    `storage.max_bytes ${megabytes(limit.bytesMax)}, lru, ${megabytes(limit.writtenBytes)} written: accounted at most ${megabytes(limit.accountedBytesMost)}; resident ${megabytes(limit.residentBytesBefore)} before, ${megabytes(limit.residentBytesMost)} at most, ${megabytes(limit.residentBytesAtEnd)} in the end: ${times(limit.residentBytesMost)} and ${times(limit.residentBytesAtEnd)} × the limit.`,
  ];
}

function floodTable({ others, colliding, collidingUnderTheirSeed }: EngineExtras["flood"]): Table {
  const line = (name: string, { putNs, getNs }: FloodCost): string[] => [
    name,
    grouped(putNs),
    ratio(putNs / others.putNs),
    grouped(getNs),
    ratio(getNs / others.getNs),
  ];
  return {
    head: ["", "put", "×", "get", "×"],
    rows: [
      line("other keys", others),
      line("these, under a seed by chance", colliding),
      line("these, were the seed known", collidingUnderTheirSeed),
    ],
  };
}

function evictionTable({ rows }: EngineExtras["eviction"]): Table {
  const theirs = rows.find(({ evictor }) => evictor === "lru-cache")?.hitRatio ?? NaN;
  return {
    head: ["evicted by", "hits, %", "beyond lru-cache, %", "ns a request"],
    rows: rows.map(({ evictor, hitRatio, requestNs }) => {
      const difference = (hitRatio - theirs) * 100;
      const beside = evictor === "lru-cache" ? "" : `${difference < 0 ? "" : "+"}${fixed(difference, 2)}`;
      return [evictor, fixed(hitRatio * 100, 2), beside, grouped(requestNs)];
    }),
  };
}
