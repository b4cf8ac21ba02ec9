/** `snapshot`: a node writes its state to its disk. */
import type { Command } from "commander";
import { type GlobalOptions, withClient } from "./command-context.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatDuration } from "./units.js";

/** A large state takes longer than a call is given otherwise. */
const TIMEOUT_MS = 10 * 60 * 1000;

export function addSnapshotCommand(program: Command, terminal: Terminal): void {
  program
    .command("snapshot")
    .summary("let a node write a snapshot to its disk")
    .description(
      "Lets the first endpoint that answers write a snapshot of everything that is replicated to its disk, while everything " +
        "goes on, and remove the log that is no longer needed then. Nodes do so by themselves too. The snapshot stays on the " +
        "node; for a file elsewhere there is `cambium backup`.",
    )
    .option("--json", "print what was written as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium snapshot --endpoints 127.0.0.1:8081")
    .action((_options, command: Command) => snapshot(command.optsWithGlobals(), terminal));
}

async function snapshot(
  options: GlobalOptions & { readonly json?: true },
  { stdout, signal }: Terminal,
): Promise<void> {
  const timeoutMs = Math.max(options.timeout, TIMEOUT_MS);
  const receipt = await withClient(options, (client) => client.createSnapshot({ signal, timeoutMs }));
  if (options.json) {
    await writeJson(stdout, receipt);
    return;
  }
  const { endpoint, entries, bytes, toSeq, durationMs } = receipt;
  await write(
    stdout,
    `${endpoint} wrote a snapshot of ${counted(entries, "key")} (${formatBytes(bytes)}) at seq ${toSeq} in ${formatDuration(durationMs)}\n`,
  );
}
