/**
 * Makes the data directory of a new node out of a backup. The file is read and checked to its end before anything is
 * written. `node.json` is written last: a crash before that leaves a directory that no node starts in.
 *
 * The log of the new node begins where the backup ends, with a snapshot of the state there; what was written before can no
 * longer be read as updates. Keys keep the seqs that they have, and produced records their offsets, positions and times.
 */
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { EpochStart } from "../base/epoch-history.js";
import { type ClusterId, newClusterId, newNodeId, type NodeId, type RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { epoch } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import { RecordLog } from "../records/record-log.js";
import type { FileSystem } from "../wal/file-system.js";
import { Log, type LogEnd, type LogListener } from "../wal/log.js";
import { chainSeed } from "../wal/record.js";
import type { WalError } from "../wal/wal-error.js";
import { BackupError, BackupReader, type BackupSummary, type BackupVisitor } from "./backup-reader.js";
import { type ClusterSettings, decodeChanges, INITIAL_SETTINGS, isOperation, type Member } from "./change.js";
import { NodeFile } from "./node-file.js";
import { RetryTable } from "./retries.js";
import type { RecordsMark } from "./snapshot-format.js";
import { Snapshots } from "./snapshots.js";

export { BackupError, BackupReader, type BackupSummary } from "./backup-reader.js";

export interface RestoreOptions {
  /** Of the directory to be made. */
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Empty; the state goes through it. */
  readonly engine: Engine;
  /** Reads the backup from its beginning; it is read twice. */
  readonly read: () => AsyncIterable<Uint8Array>;
  /** The node belongs to the cluster of the backup, instead of to a new one. */
  readonly keepClusterId: boolean;
  readonly recordSegmentBytesMax: number;
  /** Told of the bytes that were read and of those that were written, as it goes on. */
  readonly onProgress?: (bytes: number) => void;
}

export interface RestoreSummary {
  readonly backup: BackupSummary;
  readonly clusterId: ClusterId;
  readonly nodeId: NodeId;
  readonly keys: number;
}

export type RestoreErrorCode =
  /** There is something in the directory; nothing was changed. */
  | "not_empty"
  /** The directory is half made; it must be emptied before the next try. */
  | "unfinished";

export class RestoreError extends Error {
  override readonly name = "RestoreError";
  readonly code: RestoreErrorCode;

  constructor(code: RestoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Within one cluster, others may have gone on from the backup's epoch with a few of their own; the new node begins far
 * beyond them, so that no two masterships have one number.
 */
const EPOCHS_SKIPPED = 1_000_000;
/** Of the entries that deletions of ranges have left. Nobody else waits for a turn. */
const HIDDEN_AT_ONCE = 10_000;
/** Of produced records in memory. */
const UNWRITTEN_BYTES_MAX = 8 * 1024 * 1024;

/**
 * The whole directory is durable when it resolves. Rejects with `BackupError` when the file is not good and with
 * `RestoreError` "not_empty", having written nothing; and with `RestoreError` "unfinished".
 */
export async function restoreBackup(options: RestoreOptions): Promise<RestoreSummary> {
  const { fileSystem } = options;
  await assertEmpty(fileSystem);
  const content = await loadBackup(options);
  const lock = await fileSystem.lock();
  try {
    // Another process may have been at it meanwhile.
    await assertEmpty(fileSystem);
    return await build(options, content);
  } catch (error) {
    if (error instanceof RestoreError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new RestoreError("unfinished", `${reason}; the directory is half made, empty it before you try again`, {
      cause: error,
    });
  } finally {
    await lock.release();
  }
}

/** Reads a backup to its end. Rejects with `BackupError`. */
export async function checkBackup(
  bytes: AsyncIterable<Uint8Array>,
  options: { visitor?: BackupVisitor; taken?: (piece: Uint8Array) => void | Promise<void> } = {},
): Promise<BackupSummary> {
  const reader = new BackupReader(options.visitor);
  for await (const piece of bytes) {
    reader.push(piece);
    await options.taken?.(piece);
  }
  return reader.finish();
}

/** What a backup holds beside the entries and the records; what is remembered is as of its end. */
export interface BackupContent {
  readonly summary: BackupSummary;
  readonly epochs: readonly EpochStart[];
  readonly settings: ClusterSettings;
  readonly members: readonly Member[];
  readonly retries: RetryTable;
}

async function assertEmpty(fileSystem: FileSystem): Promise<void> {
  for (const directory of ["", "wal", "records", "snapshots"]) {
    const name = (await fileSystem.list(directory)).find((found) => !isLock(found));
    if (name === undefined) continue;
    const path = directory === "" ? name : `${directory}/${name}`;
    throw new RestoreError("not_empty", `the directory is not empty, it has ${path}; choose another one`);
  }
}

/** The file by which this process holds the directory. */
const isLock = (name: string): boolean => name === "LOCK";

/**
 * Puts the state that the backup gives into the engine, checking the whole file; the engine's load does not end, since nobody
 * wants the keys in their order. Rejects with `BackupError`.
 */
export async function loadBackup({ engine, read, onProgress }: RestoreOptions): Promise<BackupContent> {
  let epochs: readonly EpochStart[] = [];
  let settings = INITIAL_SETTINGS;
  let members: readonly Member[] = [];
  const retries = new RetryTable();
  engine.beginLoad();
  const summary = await checkBackup(read(), {
    visitor: {
      epochs: (starts) => (epochs = starts),
      settings: (all) => (settings = all),
      members: (all) => (members = all),
      entry: (entry) => engine.restoreFrom(entry),
      client: (client) => retries.restore(client),
      logRecord: ({ seq, timestampMs, payload }) => {
        for (const change of decodeChanges(payload)) {
          // Epochs, settings, members and the record log stand in the backup as they were at its end.
          if (isOperation(change)) engine.apply(seq, timestampMs, change);
          else if (change.kind === "remember" || change.kind === "forget") retries.apply(change, seq, timestampMs);
        }
      },
    },
    taken: (piece) => onProgress?.(piece.length),
  });
  while (engine.removeHidden(HIDDEN_AT_ONCE));
  const { keys } = summary.state;
  if (engine.entryCount !== keys) {
    const message = `the backup gives ${engine.entryCount} keys, ${keys} were there; take another one, and report this`;
    throw new BackupError(0, message);
  }
  return { summary, epochs, settings, members, retries };
}

async function build(options: RestoreOptions, content: BackupContent): Promise<RestoreSummary> {
  const { fileSystem, random, engine, keepClusterId } = options;
  const { header, state } = content.summary;
  const clusterId = keepClusterId ? header.clusterId : newClusterId(random);
  const nodeId = newNodeId(random);
  // The node enters itself when its mastership begins; who else belonged to the old cluster is no matter of the new one,
  // nor is how those decided.
  const { limits } = content.settings;
  const settings = { ...INITIAL_SETTINGS, ...(limits && { limits }) };
  await buildState(options, { ...content, settings, members: [] }, clusterId);
  await NodeFile.create(fileSystem, {
    nodeId,
    role: "master",
    clusterId,
    hasLog: true,
    caughtUp: true,
    mustCatchUp: false,
    // To itself: it has the one vote of its cluster, and what it skips is no mastership of another node.
    promised: { epoch: epoch(state.to.epoch + (keepClusterId ? EPOCHS_SKIPPED : 0)), candidate: nodeId },
  });
  return { backup: content.summary, clusterId, nodeId, keys: engine.entryCount };
}

/** Writes log, record log and snapshot into a directory that has none. All is durable when it resolves. */
export async function buildState(
  options: RestoreOptions,
  { summary, epochs, settings, members, retries }: BackupContent,
  clusterId: ClusterId,
): Promise<void> {
  const { fileSystem, random, logger, engine, keepClusterId } = options;
  const { state } = summary;
  const { timestampMs, ...to } = { ...state.to, chain: keepClusterId ? state.to.chain : chainSeed(clusterId) };
  await makeLog(options, clusterId, { ...to, timestampMs });
  const records = await makeRecordLog(options, clusterId, summary);
  const snapshots = await Snapshots.open({ fileSystem, logger, keep: 1 });
  await snapshots.create(
    {
      header: { clusterId, from: to, fromTimestampMs: timestampMs, salt: random.bytes(16) },
      epochs,
      settings,
      members,
      records,
      engine,
      retries,
      appliedSeq: () => to.seq,
    },
    { beforeNaming: () => Promise.resolve(), signal: new AbortController().signal },
  );
  // The names of the directories made above, before the file that counts on them.
  await fileSystem.syncDirectory("");
}

/** Makes an empty log that goes on from `start`. */
async function makeLog(options: RestoreOptions, clusterId: ClusterId, start: LogEnd): Promise<void> {
  const { fileSystem, clock, random, logger } = options;
  const log = await Log.open({
    fileSystem,
    clock,
    random,
    logger,
    directory: "wal",
    clusterId,
    durability: "os",
    syncIntervalMs: 1000,
    segmentBytesMax: 1024 * 1024,
    listener: SILENT,
    start,
  });
  await log.close();
}

/** Writes the record log anew, in the cluster's own chain. */
async function makeRecordLog(
  options: RestoreOptions,
  clusterId: ClusterId,
  { header, state, end }: BackupSummary,
): Promise<RecordsMark> {
  const { fileSystem, clock, random, logger, keepClusterId } = options;
  const { producedStart } = state;
  const chain = keepClusterId ? producedStart.chain : chainSeed(clusterId);
  let failure: WalError | undefined;
  const log = await RecordLog.open({
    fileSystem,
    clock,
    random,
    logger,
    clusterId,
    segmentBytesMax: options.recordSegmentBytesMax,
    ...(producedStart.offset > 0 && { start: { ...producedStart, chain } }),
    onFailed: (error) => (failure ??= error),
  });
  try {
    const again = await checkBackup(options.read(), {
      visitor: {
        produced: ({ position, ...record }) => log.append({ ...record, ...position }),
      },
      taken: async (piece) => {
        // Not `written`, which waits for room on a full disk, however long that takes.
        if (log.unwrittenBytes > UNWRITTEN_BYTES_MAX) await log.flush();
        options.onProgress?.(piece.length);
      },
    });
    if (again.end.checksum !== end.checksum || !Buffer.from(again.header.salt).equals(header.salt)) {
      throw new BackupError(0, "the backup has become another one while it was read");
    }
    await log.flush();
    if (failure) throw failure;
    assert(!keepClusterId || log.chain === state.producedChain, "the same records in the same cluster have one chain");
    return { start: state.toldStart, end: log.end, chain: log.chain };
  } finally {
    await log.close();
  }
}

const SILENT: LogListener = {
  written: () => undefined,
  kept: () => undefined,
  dropped: () => undefined,
  failed: () => undefined,
};
