/** `slowlog`: the calls that took long. */
import type { Command } from "commander";
import type { SlowLog } from "../../api/client/node.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { type Column, plainTable } from "./plain-table.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatCount, formatDuration } from "./units.js";

export function addSlowlogCommand(program: Command, terminal: Terminal): void {
  program
    .command("slowlog")
    .summary("show the calls of a node that took long")
    .description(
      "Shows the newest calls that took longer than log.slow_threshold on the first endpoint that answers: 128 at most, the newest first. " +
        "Streams are not among them. It shows how the first key of a call begins, and never a value.",
    )
    .option("--json", "print them as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium slowlog --endpoints 127.0.0.1:8081")
    .action((_options, command: Command) => slowlog(command.optsWithGlobals(), terminal));
}

async function slowlog(options: GlobalOptions & { readonly json?: true }, { stdout, signal }: Terminal): Promise<void> {
  const { timeout: timeoutMs } = options;
  const found = await withClient(options, (client) => client.slowLog({ signal, timeoutMs }));
  if (options.json) await writeJson(stdout, found);
  else await write(stdout, render(found));
}

const COLUMNS: readonly Column[] = [
  { head: "STARTED" },
  { head: "TOOK", align: "right" },
  { head: "METHOD" },
  { head: "CODE" },
  { head: "KEYS", align: "right" },
  { head: "BYTES", align: "right" },
  { head: "IDENTITY" },
  { head: "CALLER" },
  { head: "REQUEST" },
  { head: "FIRST KEY" },
];

function render({ endpoint, calls, thresholdMs, total }: SlowLog): string {
  if (thresholdMs === 0) return `${endpoint} keeps no slow calls: log.slow_threshold is 0s\n`;
  const than = `longer than ${formatDuration(thresholdMs)} at ${endpoint}`;
  if (calls.length === 0) return `no call took ${than}\n`;
  const rows = calls.map((call) => [
    new Date(call.startedMs).toISOString(),
    formatDuration(call.durationMs),
    call.method.replace("cambium.v1.", ""),
    call.code,
    formatCount(call.keys),
    formatBytes(call.keyBytes + call.valueBytes),
    call.identity || "-",
    call.callerAddress || "-",
    call.requestId,
    // Keys are what callers like: nothing of them reaches the terminal as it is.
    call.firstKey === "" ? "-" : JSON.stringify(call.firstKey).replace(/[\u007f-\u009f\u2028\u2029]/g, "?"),
  ]);
  return `${counted(total, "call")} took ${than}\n\n${plainTable(COLUMNS, rows).join("\n")}\n`;
}
