/** What a run of the bench says of clients. */
import Table from "cli-table3";
import { type ClientRow, ratioToStock } from "./client.js";
import type { ClientKind } from "./client-job.js";
import { grouped, ratio } from "./report.js";

const names: Readonly<Record<ClientKind, string>> = {
  "stock-http1": "stock Connect client, HTTP/1.1",
  "stock-http2": "stock Connect client, HTTP/2",
  single: "cambium/client, batch: false",
  cambium: "cambium/client",
  "cambium-http2": "cambium/client, HTTP/2",
};

export function renderClients(rows: readonly ClientRow[]): string {
  const table = new Table({
    head: [
      "client",
      "",
      "callers",
      "calls/s",
      "p50 µs",
      "p99 µs",
      "client µs/call",
      "server µs/call",
      "× stock HTTP/1.1",
      "× stock HTTP/2",
    ],
    colAligns: ["left", "left", "right", "right", "right", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) {
    table.push([
      names[row.client],
      row.operation,
      String(row.callers),
      grouped(row.callsPerSecond),
      grouped(row.p50Us),
      grouped(row.p99Us),
      row.clientCpuUsPerCall.toFixed(1),
      row.serverCpuUsPerCall.toFixed(1),
      ratio(ratioToStock("stock-http1", row, rows)),
      ratio(ratioToStock("stock-http2", row, rows)),
    ]);
  }
  return [
    "clients: programs that call a node through a client library, each caller one call after the other; medians of three rounds",
    table.toString(),
    "",
  ].join("\n");
}
