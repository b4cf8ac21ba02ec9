/** `wal stat`: what a data directory holds. */
import type { Command } from "commander";
import type { SnapshotInspection } from "../../internal/store/inspect.js";
import type { LogInspection, SegmentInspection } from "../../internal/wal/inspect.js";
import { CliError } from "./cli-error.js";
import { type Column, plainTable } from "./plain-table.js";
import { type Colors, colorsFor, type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatCount } from "./units.js";
import { findingLine, inspectDataDirectory, type InspectedDirectory, verdictOf } from "./wal-directory.js";

export function addWalStat(wal: Command, terminal: Terminal): void {
  wal
    .command("stat")
    .summary("describe a data directory")
    .description(
      "Describes the node, its epochs, and every segment and snapshot. Exit code 1 when something is corrupt, so that not " +
        "everything can be told.",
    )
    .argument("<dir>", "the data directory of a node")
    .option("--json", "print everything as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium wal stat /var/lib/cambium")
    .action((directory: string, _options, command: Command) => stat(directory, command.optsWithGlobals(), terminal));
}

async function stat(directory: string, options: { readonly json?: true }, terminal: Terminal): Promise<void> {
  const { stdout } = terminal;
  const inspection = await inspectDataDirectory(directory);
  if (options.json) await writeJson(stdout, toJson(inspection));
  else await write(stdout, render(inspection, colorsFor(stdout, terminal)));
  if (verdictOf(inspection.findings) === "corrupt") throw new CliError("failed", "");
}

/** The names and their order are for scripts: what is there stays. */
function toJson({ node, holder, epochs, log, snapshots, records, findings }: InspectedDirectory): unknown {
  return {
    node: node ?? null,
    holder: holder ?? null,
    verdict: verdictOf(findings),
    epochs,
    wal: logJson(log),
    snapshots: snapshots.map(({ file, bytes, content }) => ({ file, bytes, sound: content !== undefined, ...content })),
    records: logJson(records),
    findings,
  };
}

function logJson({ clusterId, before, end, segments, setAside }: LogInspection): unknown {
  return { clusterId: clusterId ?? null, before: before ?? null, end: end ?? null, segments, setAside };
}

const SEGMENT_COLUMNS: readonly Column[] = [
  { head: "SEGMENT" },
  ...["FIRST", "LAST", "RECORDS", "FRAMES", "DATA", "FILE", "SYNCED", "APPLIED"].map((head): Column => ({
    head,
    align: "right",
  })),
  { head: "CLEAN" },
];
const SNAPSHOT_COLUMNS: readonly Column[] = [
  { head: "SNAPSHOT" },
  ...["FROM", "TO", "ENTRIES", "MEMBERS", "OFFSETS", "FILE"].map((head): Column => ({ head, align: "right" })),
];
const EPOCH_COLUMNS: readonly Column[] = [
  { head: "EPOCH", align: "right" },
  { head: "ID" },
  { head: "FIRST SEQ", align: "right" },
  { head: "MASTER" },
];

function render(inspection: InspectedDirectory, colors: Colors): string {
  const { node, log, snapshots, records, epochs, findings } = inspection;
  const lines = [
    node ? `node ${node.nodeId}, ${node.role}` : colors.yellow("no readable node.json"),
    `cluster ${node?.clusterId ?? log.clusterId ?? "none yet"}`,
    ...(node ? [`promised epoch ${node.promised.epoch}, ${node.caughtUp ? "has" : "has not"} caught up once`] : []),
    holderLine(inspection),
  ];
  if (epochs.length > 0) {
    const rows = epochs.map(({ epoch, epochId, firstSeq, master }) => [
      String(epoch),
      epochId,
      formatCount(firstSeq),
      master ?? "-",
    ]);
    lines.push("", ...plainTable(EPOCH_COLUMNS, rows));
  }
  lines.push("", logLine("log", log, 0));
  if (log.segments.length > 0) lines.push(...plainTable(SEGMENT_COLUMNS, log.segments.map(segmentCells)));
  if (snapshots.length > 0) {
    const rows = snapshots.map(snapshotCells);
    lines.push("", ...plainTable(SNAPSHOT_COLUMNS, rows));
  }
  lines.push("", logLine("record log", records, 1));
  if (records.segments.length > 0) lines.push(...plainTable(SEGMENT_COLUMNS, records.segments.map(segmentCells)));
  for (const { file, bytes } of [...log.setAside, ...records.setAside]) {
    lines.push("", `cut by an earlier start and saved: ${file} (${formatBytes(bytes)})`);
  }
  if (findings.length > 0) lines.push("", ...findings.map((finding) => colors.yellow(findingLine(finding))));
  return `${lines.join("\n")}\n`;
}

function holderLine({ holder }: InspectedDirectory): string {
  if (!holder) return "not held by any process";
  const who = `process ${holder.pid} on ${holder.host}`;
  return holder.isAlive ? `held by ${who}` : `not held; ${who} left its lock behind`;
}

/** `shift` is 1 for the record log, whose offsets begin with 0. */
function logLine(name: string, { before, end, segments }: LogInspection, shift: number): string {
  if (!before || !end) return segments.length === 0 ? `${name}: none` : `${name}: unreadable`;
  const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0);
  const size = `${counted(end.seq - before.seq, "record")}, ${formatBytes(bytes)}`;
  if (end.seq === before.seq) return `${name}: ${size}`;
  const unit = shift === 0 ? "seqs" : "offsets";
  const range = `${unit} ${formatCount(before.seq + 1 - shift)} to ${formatCount(end.seq - shift)}`;
  return `${name}: ${size}, ${range}, epoch ${end.epoch}, ${new Date(end.timestampMs).toISOString()}`;
}

function snapshotCells({ file, bytes, content }: SnapshotInspection): string[] {
  if (!content) return [file, "damaged", "-", "-", "-", "-", formatBytes(bytes)];
  const { from, to, entries, members, records } = content;
  const numbers = [from.seq, to, entries, members].map(formatCount);
  return [file, ...numbers, `${records.start}-${records.end}`, formatBytes(bytes)];
}

function segmentCells(segment: SegmentInspection): string[] {
  return [
    segment.file,
    formatCount(segment.firstSeq),
    formatCount(segment.lastSeq),
    formatCount(segment.records),
    formatCount(segment.frames),
    formatBytes(segment.dataBytes),
    formatBytes(segment.bytes),
    formatCount(segment.syncedSeq),
    formatCount(segment.appliedSeq),
    segment.clean ? "yes" : "no",
  ];
}
