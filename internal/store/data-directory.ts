/**
 * What a node has on its disk from the moment on at which it belongs to a cluster: log, snapshots and record log, each with what
 * follows from it, and the acts that concern them together. What is committed and what the state is, others know.
 */
import { assert, must } from "../base/assert.js";
import { agreementSeq, type EpochStart, type HistoryEnd } from "../base/epoch-history.js";
import type { ClusterId } from "../base/ids.js";
import { type EpochMs, ORIGIN, type Position, type Seq, seq as toSeq } from "../base/position.js";
import { RecordLog } from "../records/record-log.js";
import { createSynced } from "../wal/files.js";
import { asBuffer } from "../wal/bytes.js";
import { Log, type LogListener, type RecoveryReport } from "../wal/log.js";
import { decodeRecords, lastSeqOf } from "../wal/record.js";
import { isCorrupt, WalError } from "../wal/wal-error.js";
import type { Applier } from "./applier.js";
import { Backups } from "./backup.js";
import { decodeChanges, isClusterKind, type RecordsChange } from "./change.js";
import type { ClusterState } from "./cluster-state.js";
import { type DivergedRecords, divergedName } from "./diverged.js";
import { epochStartOf, Lineage } from "./lineage.js";
import { type LoggedChanges, LoggedCluster, NOTHING_LOGGED } from "./logged-cluster.js";
import { Pins } from "./pins.js";
import { Produced } from "./produced.js";
import { Progress } from "./progress.js";
import type { RetryTable } from "./retries.js";
import type { SnapshotContent } from "./snapshot-file.js";
import type { RecordsMark } from "./snapshot-format.js";
import { SnapshotError, Snapshots } from "./snapshots.js";
import { Snapshotter } from "./snapshotter.js";
import { StoreError } from "./store-error.js";
import type { StoreOptions } from "./store-types.js";
import { TransferSource } from "./transfer-source.js";

const DIRECTORY = "wal";
const DIVERGED_READ_BYTES = 1024 * 1024;
/** Bytes that an entry takes in a backup beside its key and value, about. */
const ENTRY_OVERHEAD_BYTES = 28;

export interface DataDirectoryOptions {
  readonly store: StoreOptions;
  readonly clusterId: ClusterId;
  /** A log was made here before: that there is none is damage. */
  readonly mustExist: boolean;
  readonly listener: LogListener;
  /** See `LogOptions`. */
  readonly readCount: () => number;
  readonly applier: Applier;
  readonly diverged: DivergedRecords;
  /** Called with what the log was found as, before anything is done with it. */
  readonly onRecovered: (recovery: RecoveryReport) => Promise<void>;
  readonly onFailed: (error: Error) => void;
  /** The lowest seq that some member lacks; undefined: none does. */
  readonly lackedAfter: () => Seq | undefined;
}

interface Parts {
  readonly log: Log;
  readonly lineage: Lineage;
  readonly cluster: LoggedCluster;
  readonly snapshots: Snapshots;
  readonly records: RecordLog;
  readonly produced: Produced;
  readonly pins: Pins;
}

export class DataDirectory {
  readonly #options: DataDirectoryOptions;
  readonly #records: RecordLog;
  readonly log: Log;
  readonly lineage: Lineage;
  /** As the whole log says. */
  readonly cluster: LoggedCluster;
  readonly snapshots: Snapshots;
  readonly produced: Produced;
  readonly pins: Pins;
  readonly snapshotter: Snapshotter;
  readonly backups: Backups;
  #transfers: TransferSource | undefined;

  private constructor(options: DataDirectoryOptions, parts: Parts) {
    this.#options = options;
    this.#records = parts.records;
    this.log = parts.log;
    this.lineage = parts.lineage;
    this.cluster = parts.cluster;
    this.snapshots = parts.snapshots;
    this.produced = parts.produced;
    this.pins = parts.pins;
    const { fileSystem, clock, random, logger, snapshots: policy } = options.store;
    const { applier } = options;
    this.snapshotter = new Snapshotter({
      snapshots: this.snapshots,
      policy,
      clock,
      logger,
      appliedSeq: () => applier.applied.seq,
      appliedBytes: () => applier.appliedBytes,
      dataBytes: () => applier.engine.dataBytes,
      capture: () => this.#capture(),
      flushLogs: async () => {
        await this.log.flush();
        await this.#records.flush();
      },
      compact: () => this.#compact(),
      taken: (seconds) => options.store.observer?.snapshotTaken(seconds),
    });
    this.backups = new Backups({
      fileSystem,
      clock,
      random,
      logger,
      ...parts,
      applied: () => applier.applied,
      cluster: applier.cluster,
      keys: () => applier.engine.entryCount,
      isSettled: () => applier.engine.isSettled,
      whenSettled: () => applier.whenEngineSettled(),
      bytesEstimate: () => {
        const { dataBytes, entryCount } = applier.engine;
        return applier.retries.bytes + dataBytes + entryCount * ENTRY_OVERHEAD_BYTES + this.#records.sizeBytes;
      },
      createSnapshot: () => this.snapshotter.create(),
    });
  }

  /** Rejects with `WalError`, `FileSystemError`; what was opened by then is closed again, but for `onRecovered`'s failure. */
  static async open(options: DataDirectoryOptions): Promise<DataDirectory> {
    const { clusterId, onFailed } = options;
    const { fileSystem, clock, random, logger, segmentBytesMax, recordSegmentBytesMax, recover } = options.store;
    const { log, starts, logged } = await openLog(options);
    await options.onRecovered(log.recovery);
    try {
      const pins = new Pins(clock);
      const snapshots = await Snapshots.open({
        fileSystem,
        logger,
        keep: options.store.snapshots.keep,
        isPinned: (path) => pins.holdsSnapshot(path),
      });
      const records = await RecordLog.open({
        fileSystem,
        clock,
        random,
        logger,
        clusterId,
        segmentBytesMax: recordSegmentBytesMax ?? segmentBytesMax,
        onFailed,
        ...(recover && { recover }),
      });
      const neededEnd = (): number => Math.min(snapshots.recordsEnd, pins.recordOffset);
      const produced = new Produced({ log: records, neededEnd, onFailed });
      const lineage = new Lineage(clusterId, starts);
      const cluster = new LoggedCluster(logged);
      const directory = new DataDirectory(options, { log, lineage, cluster, snapshots, records, produced, pins });
      const backup = (): ReturnType<Backups["begin"]> => directory.backups.begin();
      directory.#transfers = await TransferSource.open({ fileSystem, clock, logger, pins, backup });
      return directory;
    } catch (error) {
      await log.close();
      throw error;
    }
  }

  get transfers(): TransferSource {
    return must(this.#transfers, "they are made when the directory is opened");
  }

  /** Age and size along the record log. */
  get records(): RecordLog {
    return this.#records;
  }

  /** The lowest seq after which the log can be cut, and the state still be told. */
  get floorSeq(): Seq {
    const oldest = this.snapshots.files[0];
    return oldest && this.log.compactSeq > 0 ? oldest.to : this.log.compactSeq;
  }

  applyRecords(change: RecordsChange, position: Position, timestampMs: EpochMs): void {
    const { epochId } = must(this.lineage.history.at(position.seq), "a record is of an epoch");
    this.produced.apply(change, { position, epochId, timestampMs });
  }

  /** Appends records that the master pushed. Throws `WalError` "mismatch". */
  appendRecords(records: Uint8Array): Seq {
    const { log, lineage } = this;
    const last = log.appendRecords(records);
    this.cluster.noteRecords(records);
    if (log.last.epoch > (lineage.history.last?.epoch ?? 0)) {
      for (const record of decodeRecords(records, false)) {
        const start = epochStartOf(record);
        if (start) lineage.history.push(start);
      }
    }
    return last;
  }

  /**
   * Makes the engine, the cluster state and what is remembered what the newest snapshot says; gives the place from where the log
   * goes on. The engine's load is begun, for that log too.
   */
  async restore(cluster: ClusterState, retries: RetryTable): Promise<Position> {
    const { log, lineage, snapshots, produced } = this;
    const { engine } = this.#options.applier;
    const { clock, logger } = this.#options.store;
    const progress = new Progress(clock, logger, "loading a snapshot");
    const logStarts = lineage.history.starts;
    let epochs: readonly EpochStart[] = [];
    let recordsMark: RecordsMark | undefined;
    const summary = await snapshots.load({
      markAt: async ({ from, to }) => {
        if (from < log.compactSeq) return `the log begins after seq ${log.compactSeq}, and is needed after ${from}`;
        if (to > log.lastSeq) return `the log ends at seq ${log.lastSeq}, and is needed up to ${to}`;
        return log.mark(from);
      },
      reset: () => {
        engine.clear();
        engine.beginLoad();
        cluster.clear();
        retries.clear();
      },
      visitor: {
        epochs: (starts) => (epochs = starts),
        settings: (settings) => cluster.applySettings(settings),
        members: (all) => all.forEach((member) => cluster.applyMember(member)),
        records: (mark) => (recordsMark = mark),
        entries: (run) => {
          const checksum = engine.restoreAll(run);
          progress.look(engine.entryCount);
          return checksum;
        },
        client: (client) => retries.restore(client),
      },
    });
    if (!summary) {
      if (log.compactSeq > 0) {
        throw new SnapshotError(
          `the log begins after seq ${log.compactSeq}, and the snapshot that it goes on from is gone; restore it, or start over with an empty directory`,
        );
      }
      engine.clear();
      engine.beginLoad();
      cluster.clear();
      retries.clear();
      this.cluster.restore(NOTHING_LOGGED, ORIGIN.seq);
      await produced.restore();
      return ORIGIN;
    }
    retries.putInOrder();
    await produced.restore(recordsMark);
    const { from } = summary.header;
    lineage.replace([...epochs, ...logStarts.filter(({ firstSeq }) => firstSeq > from.seq)]);
    this.cluster.restore({ settings: cluster.settings, members: cluster.members }, from.seq);
    return { epoch: from.epoch, seq: from.seq };
  }

  /**
   * Cuts the log after `seq`, with the snapshots and everything that is being read, and then the state; what is cut is saved. Rejects with
   * `StoreError`, `FileSystemError` and `WalError`; nothing of the log is cut then, unless that is "failed".
   */
  async cutAfter(seq: Seq, cutState: () => Promise<void>): Promise<void> {
    const { log, pins, snapshotter, snapshots, floorSeq } = this;
    const { applier, diverged, store } = this.#options;
    if (seq < floorSeq) {
      throw new WalError(
        "out_of_range",
        `the state after seq ${seq} is gone; the log can be cut after ${floorSeq} or later`,
      );
    }
    const found = { epoch: log.last.epoch, firstSeq: toSeq(seq + 1), lastSeq: log.lastSeq };
    const saveAs = divergedName(found, store.clock.wallMs());
    store.logger.warn("cutting records that the master's history does not have", {
      first_seq: found.firstSeq,
      last_seq: found.lastSeq,
      applied_seq: applier.applied.seq,
      saved_as: saveAs,
    });
    // A snapshot that walks records which are about to go must not come to be.
    const lost = "history was lost in a failover, and the log of this node is being cut; start again";
    await snapshotter.abortFor(new StoreError("lineage_lost", lost), async () => {
      pins.endAll(new StoreError("lineage_lost", lost));
      await snapshots.removeAfter(seq);
      await log.cutAfter(seq, saveAs);
      this.forgetAfter(seq);
      diverged.add(found);
      await cutState();
    });
  }

  /** The log ends at `seq` from now on. */
  forgetAfter(seq: Seq): void {
    this.lineage.history.cutAfter(seq);
    this.cluster.cutAfter(seq);
  }

  /** Saves the records of this node that the history of others does not have, as far as they are there. */
  async saveDiverged(end: HistoryEnd): Promise<void> {
    const { log, lineage } = this;
    const { diverged, store, applier } = this.#options;
    const agreed = agreementSeq({ history: lineage.history, lastSeq: log.lastSeq }, end);
    const after = toSeq(Math.max(agreed, log.compactSeq));
    if (after >= log.lastSeq) return;
    await log.flush();
    const found = { epoch: log.last.epoch, firstSeq: toSeq(after + 1), lastSeq: log.lastSeq };
    const saveAs = divergedName(found, store.clock.wallMs());
    store.logger.warn("the master's history does not have records that this node had", {
      first_seq: found.firstSeq,
      last_seq: found.lastSeq,
      applied_seq: applier.applied.seq,
      saved_as: saveAs,
    });
    await createSynced(store.fileSystem, saveAs, async (file) => {
      let written = 0;
      for (let at = after; at < found.lastSeq;) {
        let records: Uint8Array;
        try {
          records = await log.read(at, DIVERGED_READ_BYTES);
        } catch (error) {
          if (!isCorrupt(error)) throw error;
          // What is damaged cannot be saved, and must not keep this node from what is not.
          store.logger.error("not all records could be saved that only this node had: the log is damaged", {
            first_seq: at + 1,
            reason: error.message,
          });
          return;
        }
        assert(records.length > 0, `record ${at + 1} is in the log`);
        await file.write(records, written);
        written += records.length;
        at = toSeq(lastSeqOf(asBuffer(records)));
      }
    });
    diverged.add(found);
  }

  /** Ends what is being read and written, and closes the files, the log with a clean mark. */
  async close(reason: StoreError): Promise<void> {
    this.pins.endAll(reason);
    await this.snapshotter.close(reason);
    await this.transfers.close();
    await this.#options.applier.settled();
    await this.#records.close();
    await this.log.close();
  }

  /** The state as it is to be written into a snapshot, beginning in a segment of its own so that those before can go. */
  async #capture(): Promise<SnapshotContent> {
    const { log, lineage, produced } = this;
    await log.rotate();
    const { applied, engine, cluster, retries } = this.#options.applier;
    const records = produced.mark();
    const { settings, members } = cluster;
    const { timestampMs, ...from } = await log.endAt(applied.seq);
    return {
      header: {
        clusterId: lineage.clusterId,
        from,
        fromTimestampMs: timestampMs,
        salt: this.#options.store.random.bytes(16),
      },
      epochs: lineage.history.starts.filter(({ firstSeq }) => firstSeq <= from.seq),
      settings,
      members,
      records,
      engine,
      retries,
      appliedSeq: () => this.#options.applier.applied.seq,
    };
  }

  /** Removes the segments that no snapshot and no member needs, nor the history that is to stay. */
  async #compact(): Promise<void> {
    const { log, snapshots, produced, pins } = this;
    const { store, lackedAfter } = this.#options;
    const { oldestFrom } = snapshots;
    if (oldestFrom === undefined) return;
    const lacked = Math.max(lackedAfter() ?? oldestFrom, log.seqBeforeLast(store.retainedBytesMax));
    // Who follows the log and was away for a while, or is slow, goes on there.
    const { historyBytes } = store;
    const history = historyBytes === undefined ? oldestFrom : log.seqBeforeLast(historyBytes);
    const neededAfter = Math.min(oldestFrom, lacked, pins.logSeq, history);
    const before = log.compactSeq;
    await log.truncateBelow(toSeq(neededAfter));
    this.cluster.forgetBefore(oldestFrom);
    await produced.compact();
    if (log.compactSeq > before) {
      store.logger.info("log compacted", { compact_seq: log.compactSeq, wal_bytes: log.sizeBytes });
    }
  }
}

/** The log, the masterships that its records begin, and what they say of the cluster. */
async function openLog(
  options: DataDirectoryOptions,
): Promise<{ log: Log; starts: readonly EpochStart[]; logged: readonly LoggedChanges[] }> {
  const { fileSystem, clock, random, logger, durability, syncIntervalMs, segmentBytesMax, recover } = options.store;
  const progress = new Progress(clock, logger, "checking the log");
  const starts: EpochStart[] = [];
  const logged: LoggedChanges[] = [];
  const log = await Log.open({
    fileSystem,
    clock,
    random,
    logger,
    directory: DIRECTORY,
    clusterId: options.clusterId,
    durability,
    syncIntervalMs,
    segmentBytesMax,
    listener: options.listener,
    readCount: options.readCount,
    ...(options.store.observer && { observer: options.store.observer }),
    mustExist: options.mustExist,
    replay: (record) => {
      progress.tick(record.seq);
      if (!isClusterKind(record.firstByte)) return;
      const start = epochStartOf(record);
      if (start) starts.push(start);
      logged.push({ seq: record.seq, changes: decodeChanges(record.payload) });
    },
    ...(recover && { recover }),
  });
  return { log, starts, logged };
}
