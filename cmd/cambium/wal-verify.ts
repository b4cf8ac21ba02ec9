/** `wal verify`: every checksum of a data directory. */
import type { Command } from "commander";
import { CliError } from "./cli-error.js";
import { colorsFor, type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes } from "./units.js";
import { findingLine, inspectDataDirectory, type InspectedDirectory, verdictOf } from "./wal-directory.js";

export function addWalVerify(wal: Command, terminal: Terminal): void {
  wal
    .command("verify")
    .summary("check every checksum of a data directory")
    .description(
      "Reads node.json, every frame and record of the log and of the record log with their checksums and chain, the indexes " +
        "and the snapshots, and whether they belong together. What a running node is writing at the moment is no error.",
    )
    .argument("<dir>", "the data directory of a node")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      "\nExit codes: 0 sound, 1 corrupt or unreadable, 2 not the data directory of a node, 4 sound but for what a crash left, " +
        "which the next start repairs by itself.\n\nExample:\n  $ cambium wal verify /var/lib/cambium",
    )
    .action((directory: string, _options, command: Command) => verify(directory, command.optsWithGlobals(), terminal));
}

async function verify(directory: string, options: { readonly json?: true }, terminal: Terminal): Promise<void> {
  const { stdout } = terminal;
  const inspection = await inspectDataDirectory(directory);
  const { findings } = inspection;
  const verdict = verdictOf(findings);
  const checked = checkedOf(inspection);
  if (options.json) {
    await writeJson(stdout, { verdict, checked, findings });
  } else {
    const colors = colorsFor(stdout, terminal);
    const paint = { sound: colors.green, torn: colors.yellow, corrupt: colors.red }[verdict];
    const parts = [
      counted(checked.segments, "segment"),
      counted(checked.frames, "frame"),
      counted(checked.records, "record"),
      counted(checked.snapshots, "snapshot"),
    ];
    const lines = [
      ...findings.map(findingLine),
      `${paint(verdict)}: ${parts.join(", ")} read (${formatBytes(checked.bytes)})`,
    ];
    await write(stdout, `${lines.join("\n")}\n`);
  }
  if (verdict !== "sound") throw new CliError(verdict === "torn" ? "torn" : "failed", "");
}

function checkedOf({ log, records, snapshots }: InspectedDirectory): {
  segments: number;
  frames: number;
  records: number;
  snapshots: number;
  bytes: number;
} {
  const segments = [...log.segments, ...records.segments];
  const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
  return {
    segments: segments.length,
    frames: sum(segments.map(({ frames }) => frames)),
    records: sum(segments.map(({ records }) => records)),
    snapshots: snapshots.length,
    bytes: sum([...segments, ...snapshots].map(({ bytes }) => bytes)),
  };
}
