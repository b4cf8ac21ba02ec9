/** What a run of the bench says of the engine. */
import Table from "cli-table3";
import type { EngineRow } from "./engine.js";
import type { EngineKind } from "./engine-job.js";
import { grouped, ratio } from "./report.js";

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
