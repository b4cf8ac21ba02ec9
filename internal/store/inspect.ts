/**
 * Looks at the data directory of a node as a whole, without its lock and without changing a byte: `node.json`, the log, the
 * snapshots, the record log, and whether they belong together.
 */
import type { EpochId, NodeId } from "../base/ids.js";
import type { Epoch, LogMark, Seq } from "../base/position.js";
import { entryRunChecksum } from "../engine/entry-checksum.js";
import { type FileSystem, FileSystemError } from "../wal/file-system.js";
import { reading } from "../wal/files.js";
import { type Finding, inspectLog, type LogInspection } from "../wal/inspect.js";
import { ReadOnlyFileSystem } from "../wal/read-only-file-system.js";
import type { LogRecord } from "../wal/record.js";
import { BackupError } from "./backup-reader.js";
import { FormatError, NewerFormatError } from "./byte-codec.js";
import { epochChangeOf } from "./change.js";
import { NodeFileError, type NodeState, readNodeFile } from "./node-file.js";
import { readChunks, readHeader, readSnapshot } from "./snapshot-file.js";
import { SNAPSHOT_HEADER_BYTES, type RecordsMark } from "./snapshot-format.js";
import { isSnapshotName, SNAPSHOT_DIRECTORY } from "./snapshots.js";
import { readTransfer, transferPath } from "./transfer-sink.js";

/** An epoch that the directory knows of. */
export interface EpochInspection {
  readonly epoch: Epoch;
  readonly epochId: EpochId;
  readonly firstSeq: Seq;
  readonly forced?: boolean;
  /** Absent where only a snapshot tells of the epoch. */
  readonly master?: NodeId;
}

export interface SnapshotInspection {
  readonly file: string;
  readonly bytes: number;
  /** Absent when it is damaged. */
  readonly content?: {
    readonly from: LogMark;
    readonly to: Seq;
    readonly entries: number;
    readonly members: number;
    readonly records: RecordsMark;
  };
}

export interface DirectoryInspection {
  /** Absent when there is none, or none that can be read. */
  readonly node?: NodeState;
  readonly log: LogInspection;
  readonly records: LogInspection;
  readonly snapshots: readonly SnapshotInspection[];
  /** Oldest first. */
  readonly epochs: readonly EpochInspection[];
  /** Of all parts. */
  readonly findings: readonly Finding[];
}

export interface DirectoryInspectionOptions {
  readonly fileSystem: FileSystem;
  /** Whether a living process holds the directory. */
  readonly isHeld: () => Promise<boolean>;
  /** Waits before what a running node writes to is read again. */
  readonly pause: () => Promise<void>;
}

const ATTEMPTS_MAX = 3;

/** The directory is not that of a node. */
export class NoDataError extends Error {
  override readonly name = "NoDataError";
}

/** Rejects with `NoDataError`; with `WalError` and `FileSystemError` when something cannot be read. */
export async function inspectDirectory(options: DirectoryInspectionOptions): Promise<DirectoryInspection> {
  for (let attempt = 1; ; attempt++) {
    const { isConsistent, ...inspection } = await inspectOnce(options);
    // A running node may have made a snapshot, and removed what it replaces, between the looks at these and at the log.
    if (isConsistent || attempt === ATTEMPTS_MAX || !(await options.isHeld())) return inspection;
    await options.pause();
  }
}

async function inspectOnce(
  options: DirectoryInspectionOptions,
): Promise<DirectoryInspection & { readonly isConsistent: boolean }> {
  const fileSystem = new ReadOnlyFileSystem(options.fileSystem);
  const findings: Finding[] = [];
  const node = await inspectNodeFile(fileSystem, findings);
  const known = new Map<Epoch, EpochInspection>();
  // Snapshots first: the log is asked for the places that they begin at.
  const snapshots = await inspectSnapshots(fileSystem, findings, known);
  const chains = new Map(snapshots.flatMap(({ content }) => (content ? [[content.from.seq, NaN]] : [])));
  const fromRecords: EpochInspection[] = [];
  const log = await inspectLog({
    ...options,
    directory: "wal",
    ...(node?.clusterId !== undefined && { clusterId: node.clusterId }),
    mustExist: node?.hasLog === true,
    visitor: () => {
      fromRecords.length = 0;
      return (record) => {
        if (chains.has(record.seq)) chains.set(record.seq, record.chain);
        const start = epochOf(record);
        if (start) fromRecords.push(start);
      };
    },
  });
  for (const start of fromRecords) known.set(start.epoch, start);
  const isEmpty = log.segments.length === 0 && snapshots.length === 0 && findings.length === 0 && !node;
  if (isEmpty) throw new NoDataError("there is no node.json and no log: this is not the data directory of a node");
  if (log.before) chains.set(log.before.seq, log.before.chain);
  const records = await inspectLog({
    ...options,
    directory: "records",
    ...(node?.clusterId !== undefined && { clusterId: node.clusterId }),
  });
  // What a newer version has written may well make up for what this one misses.
  const isNewer = findings.some(({ kind }) => kind === "newer_format");
  const contradictions = isNewer ? [] : belongTogether(snapshots, log, chains);
  findings.push(...log.findings, ...records.findings, ...contradictions);
  const unfinished = node && (await inspectUnfinished(fileSystem, node));
  if (unfinished) {
    // Of what goes nothing is read any more, but for `node.json`, which says that it goes.
    const given = findings.map((finding): Finding => ({ ...finding, kind: "given_up" }));
    const kind = unfinished.kind === "torn" && (await options.isHeld()) ? "in_flight" : unfinished.kind;
    findings.splice(0, Infinity, { ...unfinished, kind }, ...given);
  }
  return {
    ...(node && { node }),
    log,
    records,
    snapshots,
    epochs: [...known.values()].sort((a, b) => a.epoch - b.epoch),
    findings,
    isConsistent: contradictions.length === 0,
  };
}

async function inspectNodeFile(fileSystem: FileSystem, findings: Finding[]): Promise<NodeState | undefined> {
  try {
    return await readNodeFile(fileSystem);
  } catch (error) {
    if (!(error instanceof NodeFileError)) throw error;
    findings.push({ kind: "corrupt", file: "node.json", reason: error.message });
    return undefined;
  }
}

/** What `node.json` says that the next start has to do before anything else, when it does. */
async function inspectUnfinished(fileSystem: FileSystem, node: NodeState): Promise<Finding | undefined> {
  const { settingAside, installing, clusterId } = node;
  if (settingAside) {
    const { folder, reason } = settingAside;
    const what = `the next start moves the data into ${folder}, and the node fetches it anew from its master: ${reason}`;
    return { kind: "torn", file: "node.json", reason: what };
  }
  if (!installing || !clusterId) return undefined;
  const file = transferPath(installing);
  try {
    await readTransfer(fileSystem, installing, clusterId);
  } catch (error) {
    const place = { file, ...(error instanceof BackupError && { offset: error.offset }) };
    const isGone = error instanceof FileSystemError && error.code === "ENOENT";
    if (!isGone && !(error instanceof BackupError)) throw error;
    const what = isGone ? "it is gone" : `it is damaged: ${error.message}`;
    return { kind: "corrupt", ...place, reason: `the state that the master sent is to be put in place, and ${what}` };
  }
  return { kind: "torn", file, reason: "the next start puts the state that the master sent in the place of the data" };
}

async function inspectSnapshots(
  fileSystem: FileSystem,
  findings: Finding[],
  epochs: Map<Epoch, EpochInspection>,
): Promise<SnapshotInspection[]> {
  const snapshots: SnapshotInspection[] = [];
  for (const name of await fileSystem.list(SNAPSHOT_DIRECTORY)) {
    if (!isSnapshotName(name)) continue;
    const file = `${SNAPSHOT_DIRECTORY}/${name}`;
    try {
      snapshots.push(await inspectSnapshot(fileSystem, file, findings, epochs));
    } catch (error) {
      // A running node removes those that it has a newer one for.
      if (!(error instanceof FileSystemError && error.code === "ENOENT")) throw error;
    }
  }
  return snapshots;
}

async function inspectSnapshot(
  fileSystem: FileSystem,
  file: string,
  findings: Finding[],
  epochs: Map<Epoch, EpochInspection>,
): Promise<SnapshotInspection> {
  const size = await reading(fileSystem, file, (opened) => opened.size());
  let records: RecordsMark = { start: 0, end: 0, chain: 0 };
  try {
    const { header, end, bytes } = await readSnapshot(fileSystem, file, {
      epochs: (starts) => {
        for (const start of starts) epochs.set(start.epoch, start);
      },
      settings: () => undefined,
      members: () => undefined,
      records: (mark) => (records = mark),
      entries: entryRunChecksum,
      client: () => undefined,
    });
    const content = { from: header.from, to: end.to, entries: end.entries, members: end.members, records };
    return { file, bytes, content };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    if (error instanceof NewerFormatError) {
      findings.push({ kind: "newer_format", file, reason: error.message });
      return { file, bytes: size };
    }
    const offset = await soundUpTo(fileSystem, file);
    findings.push({ kind: "corrupt", file, offset, reason: `the snapshot is damaged: ${error.message}` });
    return { file, bytes: size };
  }
}

/** Where the first chunk begins that is not whole; the whole size when each is, but not all together. */
async function soundUpTo(fileSystem: FileSystem, path: string): Promise<number> {
  return reading(fileSystem, path, async (file) => {
    let at = 0;
    try {
      const header = await readHeader(file);
      at = SNAPSHOT_HEADER_BYTES;
      for await (const { bytes } of readChunks(file, header)) at = bytes;
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
    return at;
  });
}

/** Whether the snapshots are those of this log, and the log goes on from one of them where its own beginning is gone. */
function belongTogether(
  snapshots: readonly SnapshotInspection[],
  { before, end }: LogInspection,
  chains: ReadonlyMap<Seq, number>,
): Finding[] {
  const findings: Finding[] = [];
  let isCovered = before === undefined || before.seq === 0;
  for (const { file, content } of snapshots) {
    if (!content) continue;
    const { from, to } = content;
    const chain = chains.get(from.seq);
    if (chain !== undefined && !Number.isNaN(chain) && chain !== from.chain) {
      const place = {
        file,
        offset: CHAIN_OFFSET,
        expected: `chain ${chain} at seq ${from.seq}`,
        found: `${from.chain}`,
      };
      findings.push({ kind: "corrupt", ...place, reason: "the snapshot is not one of this log" });
    } else if (end && to > end.seq) {
      const place = { file, expected: `a log up to seq ${to}`, found: `one up to ${end.seq}` };
      findings.push({ kind: "corrupt", ...place, reason: "the snapshot needs more of the log than there is" });
    } else if (before && from.seq >= before.seq) {
      isCovered = true;
    }
  }
  if (!isCovered && before) {
    findings.push({
      kind: "corrupt",
      file: SNAPSHOT_DIRECTORY,
      expected: `a sound snapshot from seq ${before.seq} or later`,
      found: "none",
      reason: "the beginning of the log is gone, and with it what it held",
    });
  }
  return findings;
}

/** Of the chain value in a snapshot's header. */
const CHAIN_OFFSET = 48;

function epochOf(record: LogRecord): EpochInspection | undefined {
  try {
    const change = epochChangeOf(record.payload);
    if (!change) return undefined;
    const { epochId, forced, master } = change;
    return { epoch: record.epoch, epochId, firstSeq: record.seq, ...(forced && { forced }), master };
  } catch (error) {
    // Of a newer version: its changes are not for this one to read.
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}
