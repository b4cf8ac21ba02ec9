/**
 * The store of one node: a log, an engine, and the one way from the one to the other.
 *
 *   write (master)   propose → log → [replication says committed] → apply → answer
 *   push (replica)   append → log → [replication says committed and matched] → apply
 *
 * Promises: what is applied is committed, in the order of the log, on every node. A write is answered after it is
 * applied. Reads see committed state only. What the store does not do: decide what is committed (replication does), or
 * talk to anybody.
 */
import { assert, must } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { agreementSeq, EpochHistory, type EpochStart, type HistoryEnd } from "../base/epoch-history.js";
import {
  type ClusterId,
  type EpochId,
  newClusterId,
  type NodeId,
  type RandomSource,
  type TransferId,
} from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import {
  type Epoch,
  type EpochMs,
  epochMs,
  type LogMark,
  ORIGIN,
  type Position,
  type Seq,
  seq as toSeq,
} from "../base/position.js";
import type { Engine, Entry } from "../engine/engine.js";
import type { DirectoryLock, FileSystem } from "../wal/file-system.js";
import { type Durability, Log, type LogListener } from "../wal/log.js";
import { type Extent, type OffsetRange, RecordLog } from "../records/record-log.js";
import { asBuffer } from "../wal/bytes.js";
import { decodeRecords, logEndAt, recordEnd } from "../wal/record.js";
import { Applier } from "./applier.js";
import { Backups, type BackupStream } from "./backup.js";
import { type Change, type ClusterChange, type ClusterSettings, encodeChanges, type Member } from "./change.js";
import { evaluate, type WriteCommand, type WriteResult } from "./evaluate.js";
import { epochStartOf, Lineage } from "./lineage.js";
import { MasterTime } from "./master-time.js";
import { type EpochPromise, NodeFile, type NodeRole } from "./node-file.js";
import type { ClusterState } from "./cluster-state.js";
import { type ConsumedPage, Produced } from "./produced.js";
import { Pins } from "./pins.js";
import { Progress } from "./progress.js";
import { Proposals } from "./proposals.js";
import type { SnapshotContent, SnapshotSummary } from "./snapshot-file.js";
import type { RecordsMark } from "./snapshot-format.js";
import { SnapshotError, Snapshots } from "./snapshots.js";
import { type SnapshotPolicy, Snapshotter } from "./snapshotter.js";
import { readScanPage, type ScanPage, type ScanRequest } from "./scan.js";
import { Reserve } from "./reserve.js";
import { closingError, StoreError } from "./store-error.js";
import { installTransfer } from "./install.js";
import { TransferSink } from "./transfer-sink.js";
import { type TransferFile, TransferSource } from "./transfer-source.js";
import { createSynced } from "../wal/files.js";
import { readUpdates, type UpdatesPage, type UpdatesRequest } from "./updates.js";

export type { TransferFile } from "./transfer-source.js";
export type { BackupStream } from "./backup.js";
export { BACKUP_FORMAT } from "./backup-format.js";
export {
  type ClusterChange,
  type ClusterSettings,
  type CommitMode,
  INITIAL_SETTINGS,
  type Member,
  type MemberSource,
} from "./change.js";
export type { WriteCommand, WriteResult } from "./evaluate.js";
export type { EpochPromise, NodeRole } from "./node-file.js";
export type { Extent, OffsetRange, ProducedRecord } from "../records/record-log.js";
export type { ConsumedPage } from "./produced.js";
export type { SnapshotSummary } from "./snapshot-file.js";
export { SnapshotError } from "./snapshots.js";
export type { SnapshotPolicy } from "./snapshotter.js";
export type { ScanPage, ScanRequest } from "./scan.js";
export { StoreError, type StoreErrorCode } from "./store-error.js";
export type { UpdateEvent, UpdatesPage, UpdatesRequest } from "./updates.js";
// Reads of the log may fail with it, and those who answer callers do not know the log itself.
export { WalError, type WalErrorCode } from "../wal/wal-error.js";

/** The committed state that reads of one tick see. */
export interface ReadPoint {
  readonly position: Position;
  /** The master's time. */
  readonly nowMs: EpochMs;
  readonly token: Uint8Array;
}

export interface WriteReceipt {
  /** The record of the write; for a write that changed nothing, the committed position that showed so. */
  readonly position: Position;
  readonly token: Uint8Array;
  /** One for each command. */
  readonly results: readonly WriteResult[];
}

export interface ProduceReceipt {
  /** Of the first record; the others follow. */
  readonly firstOffset: number;
  readonly position: Position;
  readonly token: Uint8Array;
}

export interface StoreStatus {
  readonly clusterId: ClusterId | undefined;
  readonly nodeId: NodeId;
  readonly role: NodeRole;
  readonly ready: boolean;
  /** Why the node is not ready, for people; empty when it is. */
  readonly notReadyReason: string;
  readonly applied: Position;
  readonly last: Position;
  readonly keptSeq: Seq;
  readonly commitSeq: Seq;
  readonly compactSeq: Seq;
  readonly keys: number;
  readonly dataBytes: number;
  readonly walBytes: number;
  readonly durability: Durability;
  readonly settings: ClusterSettings;
}

/** Told of the store's progress; every call is made after the fact, on the tick that brought it about. */
export interface StoreListener {
  written?(seq: Seq): void;
  kept?(seq: Seq): void;
  applied?(seq: Seq): void;
  /** The records from `firstSeq` on are not in the log after all: the disk had no room. */
  dropped?(firstSeq: Seq): void;
  membersChanged?(): void;
  settingsChanged?(): void;
  /** The disk can no longer be believed. Nothing is acknowledged any more; the process must end. */
  failed?(error: Error): void;
}

export interface StoreOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  readonly engine: Engine;
  /** What an empty directory becomes. */
  readonly initialRole: NodeRole;
  readonly durability: Durability;
  readonly syncIntervalMs: number;
  readonly segmentBytesMax: number;
  /** Of the record log; absent: the same. */
  readonly recordSegmentBytesMax?: number;
  readonly snapshots: SnapshotPolicy;
  /** Bytes of log that are kept, at most, for members that lack them; see `retainLog`. */
  readonly retainedBytesMax: number;
  /** Payload bytes of writes that are proposed and not applied yet, at most. */
  readonly pendingBytesMax: number;
  /** Bytes of the disk that are kept back for deletions on a full disk, and for the next start; absent: none. */
  readonly reserveBytes?: number;
  readonly recover?: "truncate-tail";
}

const LOG_DIRECTORY = "wal";
const DISK_FULL = "the disk has no room; nothing was changed; free some and try again";
const DIVERGED_READ_BYTES = 1024 * 1024;
/** Bytes that an entry takes in a backup beside its key and value, about. */
const ENTRY_OVERHEAD_BYTES = 28;

/** What a node has from the moment it belongs to a cluster. */
interface Joined {
  readonly log: Log;
  readonly lineage: Lineage;
  readonly snapshots: Snapshots;
  readonly snapshotter: Snapshotter;
  readonly records: RecordLog;
  readonly produced: Produced;
  readonly pins: Pins;
  readonly backups: Backups;
  readonly transfers: TransferSource;
}

export class Store {
  readonly #options: StoreOptions;
  readonly #lock: DirectoryLock;
  readonly #node: NodeFile;
  readonly #reserve: Reserve;
  readonly #time: MasterTime;
  readonly #incoming: TransferSink;
  readonly #proposals = new Proposals();
  readonly #applier: Applier;
  readonly #listeners: StoreListener[] = [];
  #joined: Joined | undefined;
  /** Set from `beginEpoch` to `endMastership`. */
  #mastership: { readonly epoch: Epoch; readonly firstSeq: Seq } | undefined;
  /** The token of the applied position, made when somebody asks for it. */
  #appliedToken: { readonly position: Position; readonly token: Uint8Array } | undefined;
  /** The lowest seq that some member lacks; see `retainLog`. */
  #lackedAfter: () => Seq | undefined = () => undefined;
  #failure: Error | undefined;
  #closing = false;

  private constructor(options: StoreOptions, lock: DirectoryLock, node: NodeFile, reserve: Reserve) {
    this.#options = options;
    this.#lock = lock;
    this.#node = node;
    this.#reserve = reserve;
    this.#incoming = new TransferSink(options.fileSystem, options.logger);
    this.#time = new MasterTime(options.clock, epochMs(0));
    this.#applier = new Applier({
      engine: options.engine,
      proposals: this.#proposals,
      clock: options.clock,
      restore: (cluster) => this.#restore(cluster),
      onApplied: (seq) => {
        this.#joined?.log.setAppliedSeq(seq);
        this.#joined?.snapshotter.noteApplied();
        this.#tell((listener) => listener.applied?.(seq));
      },
      applyRecords: (change, position, timestampMs) => {
        const { lineage, produced } = this.#mustBeJoined();
        const { epochId } = must(lineage.history.at(position.seq), "a record is of an epoch");
        produced.apply(change, { position, epochId, timestampMs });
      },
      onMembersChanged: () => this.#tell((listener) => listener.membersChanged?.()),
      onSettingsChanged: () => this.#tell((listener) => listener.settingsChanged?.()),
      onFailed: (error) => this.#fail(error),
    });
  }

  /**
   * Takes the data directory, recovers its log, and applies what is known to have been applied. Throws `NodeFileError`,
   * `WalError` or `FileSystemError` when the directory cannot be trusted or used, having changed nothing.
   */
  static async open(options: StoreOptions): Promise<Store> {
    const { fileSystem, initialRole, random, clock, logger } = options;
    const lock = await fileSystem.lock();
    const reserve = new Reserve({ fileSystem, clock, logger, bytes: options.reserveBytes ?? 0 });
    try {
      // A start needs room too, if only to say who is master.
      await reserve.release();
      const hasData = (await fileSystem.list(LOG_DIRECTORY)).length > 0;
      const node = await NodeFile.open({ fileSystem, initialRole, random, hasData });
      const { installing } = node.state;
      const recordSegmentBytesMax = options.recordSegmentBytesMax ?? options.segmentBytesMax;
      if (installing) await installTransfer(node, installing, { ...options, recordSegmentBytesMax });
      const store = new Store(options, lock, node, reserve);
      // Another process writes to the directory: whatever this one would still acknowledge could be overwritten.
      void lock.lost.then((error) => store.#fail(error));
      if (node.state.clusterId) await store.#openLog(node.state.clusterId);
      return store;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  get nodeId(): NodeId {
    return this.#node.state.nodeId;
  }

  get clusterId(): ClusterId | undefined {
    return this.#node.state.clusterId;
  }

  get role(): NodeRole {
    return this.#node.state.role;
  }

  get promised(): EpochPromise {
    return this.#node.state.promised;
  }

  /** Whether this node once held everything that its master had. */
  get caughtUp(): boolean {
    return this.#node.state.caughtUp;
  }

  /** The end of the log, records that are still being written included. */
  get last(): LogMark {
    return this.#joined?.log.last ?? { ...ORIGIN, chain: 0 };
  }

  get writtenSeq(): Seq {
    return this.#joined?.log.writtenSeq ?? toSeq(0);
  }

  get keptSeq(): Seq {
    return this.#joined?.log.keptSeq ?? toSeq(0);
  }

  get compactSeq(): Seq {
    return this.#joined?.log.compactSeq ?? toSeq(0);
  }

  /** The lowest seq after which the log can be cut, and the state still be told. */
  get floorSeq(): Seq {
    const oldest = this.#joined?.snapshots.files[0];
    return oldest && this.compactSeq > 0 ? oldest.to : this.compactSeq;
  }

  get appliedSeq(): Seq {
    return this.#applier.applied.seq;
  }

  get commitSeq(): Seq {
    return this.#applier.commitSeq;
  }

  /** Of all records in the log, applied or not. */
  get history(): EpochHistory {
    return this.#joined?.lineage.history ?? new EpochHistory();
  }

  get members(): readonly Member[] {
    return this.#applier.cluster.members;
  }

  /** How the cluster decides, as far as the log is applied. */
  get settings(): ClusterSettings {
    return this.#applier.cluster.settings;
  }

  /** There is no record, whether the node belongs to a cluster or not. */
  get isEmpty(): boolean {
    return this.last.seq === 0;
  }

  /** What an empty directory becomes here is a master. */
  get foundsWhenEmpty(): boolean {
    return this.#options.initialRole === "master";
  }

  /**
   * This node may have lost what it once acknowledged, since its data was set aside or its machine died while the log was not
   * synced: until it has caught up with a master, its vote counts for little.
   */
  get mustCatchUp(): boolean {
    return this.#node.state.mustCatchUp;
  }

  listen(listener: StoreListener): void {
    this.#listeners.push(listener);
  }

  // ---- reads ---------------------------------------------------------------------------------------------------------

  /** Where reads of this tick stand. Throws `StoreError` `not_ready`. */
  readPoint(): ReadPoint {
    this.#assertReadable();
    const position = this.#applier.applied;
    if (this.#appliedToken?.position !== position) {
      this.#appliedToken = { position, token: this.#mustBeJoined().lineage.tokenAt(position) };
    }
    return { position, nowMs: this.#time.now(), token: this.#appliedToken.token };
  }

  /** A key's committed entry at the read point of this tick. What it hands out is valid until the tick ends. */
  get(key: Uint8Array): Entry | undefined {
    return this.#applier.engine.get(key, this.#time.now());
  }

  /** A page of keys in their order, all at the read point of this tick. Valid as what `get` hands out. Throws `not_ready`. */
  scan(request: ScanRequest): ScanPage & { readonly point: ReadPoint } {
    const point = this.readPoint();
    return { ...readScanPage(this.#applier.engine, request, point.nowMs), point };
  }

  /**
   * The committed events after a place in the log. Throws `StoreError`: `not_ready`, `out_of_range`, `invalid_token`,
   * `lineage_lost`, `closing`. Rejects with the signal's reason when it aborts.
   */
  async updates(request: UpdatesRequest): Promise<UpdatesPage> {
    this.#assertReadable();
    const { lineage } = this.#mustBeJoined();
    const after = request.afterToken ? lineage.placeOf(request.afterToken).seq : request.after;
    return readUpdates({
      request: { ...request, after },
      source: {
        compactSeq: () => this.compactSeq,
        appliedSeq: () => this.appliedSeq,
        positionAt: (seq) => lineage.positionAt(seq),
        tokenAt: (position) => lineage.tokenAt(position),
        read: (afterSeq, maxBytes) => this.readTail(afterSeq, maxBytes) ?? this.readRecords(afterSeq, maxBytes),
        nextApplied: (waitMs, signal) => this.#applier.nextApplied(waitMs, signal),
        monotonicMs: () => this.#options.clock.monotonicMs(),
      },
    });
  }

  // ---- writes --------------------------------------------------------------------------------------------------------

  /**
   * Carries out the commands as one record. When it resolves, the record is committed and applied here. Commands that
   * change nothing write no record; their answer still waits until what it saw is committed.
   *
   * Rejects with `StoreError`: `not_master`, `not_ready`, `overloaded`, `disk_full` (nothing was changed), `failed`,
   * `closing`, `outcome_unknown` (with the position).
   */
  async write(commands: readonly WriteCommand[]): Promise<WriteReceipt> {
    if (commands.every(({ kind }) => kind === "delete")) return this.#withReserve(() => this.#write(commands));
    this.#assertRoom();
    return this.#write(commands);
  }

  async #write(commands: readonly WriteCommand[]): Promise<WriteReceipt> {
    this.#assertWritable();
    const { changes, results, seenSeq } = evaluate(commands, {
      engine: this.#applier.engine,
      proposals: this.#proposals,
      nowMs: this.#time.now(),
    });
    if (changes.length > 0) {
      const position = await this.#propose(changes);
      return { position, token: this.#mustBeJoined().lineage.tokenAt(position), results };
    }
    await this.#applier.whenApplied(seenSeq, () => this.last.seq);
    const { position, token } = this.readPoint();
    return { position, token, results };
  }

  /** Writes a member into the replicated state; resolves when that is committed. Rejects as `write`. */
  async proposeMember(member: Member): Promise<Position> {
    this.#assertWritable();
    return this.#propose([{ kind: "member", member }]);
  }

  /** Writes how the cluster decides into the replicated state; resolves when that is committed. Rejects as `write`. */
  async proposeSettings(settings: ClusterSettings): Promise<Position> {
    this.#assertWritable();
    return this.#propose([{ kind: "settings", settings }]);
  }

  /**
   * Appends to the record log, as one record of the store: all of them get offsets, one after the other, or none. When
   * it resolves, they are committed, and can be consumed here. Rejects as `write`.
   */
  async produce(records: readonly Uint8Array[]): Promise<ProduceReceipt> {
    this.#assertWritable();
    this.#assertRoom();
    const { lineage, produced } = this.#mustBeJoined();
    if (produced.unwrittenBytes > this.#options.pendingBytesMax) {
      throw new StoreError(
        "disk_full",
        "the disk has no room for the record log; nothing was changed; free some and try again",
      );
    }
    const firstOffset = this.#nextOffset(produced);
    const changes = records.map((record, i) => ({ kind: "produce" as const, offset: firstOffset + i, record }));
    const position = await this.#propose(changes);
    return { firstOffset, position, token: lineage.tokenAt(position) };
  }

  /**
   * Lets the record log begin at `below`; what lies before is gone when it resolves. An offset below the start changes
   * nothing. Rejects as `write`, and with `offset_out_of_range` beyond the end.
   */
  async truncateRecords(below: number): Promise<{ readonly position: Position }> {
    this.#assertWritable();
    const { produced } = this.#mustBeJoined();
    const { start } = produced.range;
    const end = this.#nextOffset(produced);
    if (below > end) {
      throw new StoreError(
        "offset_out_of_range",
        `the record log ends at offset ${end}, and cannot begin at ${below}`,
        {
          offsets: { start, end },
        },
      );
    }
    if (below <= start) return { position: this.#applier.applied };
    const change: Change = { kind: "truncate-records", below };
    return { position: await this.#withReserve(async () => this.#propose([change])) };
  }

  /** What of the record log is committed. Throws `StoreError` `not_ready`. */
  recordRange(): OffsetRange {
    this.#assertReadable();
    return this.#mustBeJoined().produced.range;
  }

  /** Records from `offset` on; none at the end. Rejects with `StoreError`: `not_ready`, `offset_out_of_range`. */
  async consume(offset: number, maxBytes: number, maxRecords: number): Promise<ConsumedPage> {
    this.#assertReadable();
    return this.#mustBeJoined().produced.consume(offset, maxBytes, maxRecords);
  }

  /** Resolves when the record log has grown beyond `end`, or after `waitMs`. Rejects with the signal's reason, or `closing`. */
  async nextProduced(end: number, waitMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const deadlineMs = clock.monotonicMs() + waitMs;
    while (this.recordRange().end <= end) {
      const leftMs = deadlineMs - clock.monotonicMs();
      if (leftMs <= 0) return;
      await this.#applier.nextApplied(leftMs, signal);
    }
  }

  /** Age and size along the record log, for retention. */
  recordExtents(): readonly Extent[] {
    return this.#joined?.records.extents() ?? [];
  }

  /** Whether this node takes writes now. */
  get isServingMaster(): boolean {
    return this.#mastership !== undefined && this.appliedSeq >= this.#mastership.firstSeq && !this.#closing;
  }

  // ---- mastership ----------------------------------------------------------------------------------------------------

  /** Makes this empty node the first of a new cluster. Durable when it resolves. */
  async foundCluster(): Promise<ClusterId> {
    const id = newClusterId(this.#options.random);
    await this.joinCluster(id);
    return id;
  }

  /** Makes this empty node a part of a cluster. Durable when it resolves. */
  async joinCluster(id: ClusterId): Promise<void> {
    assert(!this.clusterId, "a node joins a cluster only while it belongs to none");
    await this.#node.save({ clusterId: id });
    await this.#openLog(id);
  }

  /**
   * Remembers the highest mastership that this node follows, and the role when one is given, in one write; durable when it
   * resolves. Never goes back, and an epoch is promised to one mastership only.
   */
  async promise(promise: EpochPromise, role?: NodeRole): Promise<void> {
    if (role) this.#assertMayBecome(role);
    await this.#node.save(({ promised: before }) => {
      assert(promise.epoch >= before.epoch, `epoch ${promise.epoch} is below the promised ${before.epoch}`);
      assert(
        promise.epoch > before.epoch || !before.epochId || before.epochId === promise.epochId,
        `epoch ${promise.epoch} was promised to ${before.epochId}, and cannot be to ${promise.epochId}`,
      );
      return { promised: promise, ...(role && { role }) };
    });
  }

  /** Changes what this node is, from now on and after a restart; durable when it resolves. */
  async saveRole(role: NodeRole): Promise<void> {
    this.#assertMayBecome(role);
    await this.#node.save({ role });
  }

  #assertMayBecome(role: NodeRole): void {
    assert(role === "master" || !this.#mastership, "a master ends its mastership before it becomes a replica");
  }

  /**
   * Begins a mastership: appends its first record, the epoch itself with `changes` after it. Writes are taken once that record
   * is committed and applied. The epoch must have been promised.
   */
  beginEpoch(
    epoch: Epoch,
    epochId: EpochId,
    options: { readonly forced?: boolean; readonly changes?: readonly ClusterChange[] } = {},
  ): Seq {
    const { forced = false, changes = [] } = options;
    const { log, lineage } = this.#mustBeJoined();
    assert(this.role === "master", "only a master begins an epoch");
    assert(this.promised.epoch === epoch, `epoch ${epoch} was not promised`);
    assert(epoch > log.last.epoch, `epoch ${epoch} does not follow epoch ${log.last.epoch} of the log`);
    const payload = encodeChanges([{ kind: "epoch", epochId, forced, master: this.nodeId }, ...changes]);
    const seq = log.append({ epoch, timestampMs: this.#recordTime(log), payload });
    lineage.history.push({ epoch, epochId, firstSeq: seq, ...(forced && { forced }) });
    this.#mastership = { epoch, firstSeq: seq };
    return seq;
  }

  /** Ends this node's mastership: writes in flight end with `outcome_unknown`, their records stay in the log. */
  endMastership(): void {
    this.#mastership = undefined;
    this.#failProposals("the node is no longer master");
  }

  // ---- what replication drives ---------------------------------------------------------------------------------------

  /**
   * Appends records that the master pushed, exactly as they came. Throws `WalError` `mismatch` when they do not follow
   * on this log's end, having changed nothing. They are kept when the listener's `kept` says so.
   */
  appendRecords(records: Uint8Array): Seq {
    const { log, lineage } = this.#mustBeJoined();
    assert(!this.#mastership, "a master's log grows by its own writes only");
    const last = log.appendRecords(records);
    if (log.last.epoch > (lineage.history.last?.epoch ?? 0)) {
      for (const record of decodeRecords(records, false)) {
        const start = epochStartOf(record);
        if (start) lineage.history.push(start);
      }
    }
    return last;
  }

  /**
   * Cuts the log after `seq`, saving what is cut in a file of its own. When records past `seq` were applied already, the
   * state is built anew from what remains.
   */
  async cutAfter(seq: Seq): Promise<void> {
    const { log, lineage, snapshots, snapshotter, pins } = this.#mustBeJoined();
    assert(!this.#mastership, "a master never cuts its log");
    assert(seq <= log.lastSeq, "a cut lies inside the log");
    if (seq === log.lastSeq) return;
    await this.#applier.settled();
    const saveAs = `diverged-${log.last.epoch}-${seq + 1}-${log.lastSeq}-${this.#options.clock.wallMs()}.log`;
    this.#options.logger.warn("cutting records that the master's history does not have", {
      first_seq: seq + 1,
      last_seq: log.lastSeq,
      applied_seq: this.appliedSeq,
      saved_as: saveAs,
    });
    // A snapshot that walks records which are about to go must not come to be.
    const lost = "history was lost in a failover, and the log of this node is being cut; start again";
    await snapshotter.abort(new StoreError("lineage_lost", lost));
    pins.endAll(new StoreError("lineage_lost", lost));
    await snapshots.removeAfter(seq);
    await log.cutAfter(seq, saveAs);
    try {
      lineage.history.cutAfter(seq);
      await this.#applier.cutAfter(seq);
    } catch (error) {
      // What is applied is no longer what the log says; only the next start can make it so again.
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  /** Epoch and chain value at a place of the log. Rejects with `WalError` `out_of_range`. */
  mark(seq: Seq): Promise<LogMark> {
    return this.#mustBeJoined().log.mark(seq);
  }

  /** The mark after the last of some whole encoded records. */
  markAfter(records: Uint8Array): LogMark {
    const buffer = asBuffer(records);
    let at = 0;
    for (let end = recordEnd(buffer, at); end < buffer.length; end = recordEnd(buffer, at)) at = end;
    const { epoch, seq, chain } = logEndAt(buffer, at);
    return { epoch, seq, chain };
  }

  /** Encoded records after a place, from memory; see `Log.readTail`. */
  readTail(afterSeq: Seq, maxBytes: number): Uint8Array | undefined {
    return this.#mustBeJoined().log.readTail(afterSeq, maxBytes);
  }

  /** Encoded records after a place, from memory or disk; see `Log.read`. */
  readRecords(afterSeq: Seq, maxBytes: number): Promise<Uint8Array> {
    return this.#mustBeJoined().log.read(afterSeq, maxBytes);
  }

  /** Records up to `seq` are committed, and on a replica equal the master's: applies them. Never goes back. */
  commit(seq: Seq): void {
    assert(seq <= this.last.seq, `commit ${seq} lies beyond the log's end ${this.last.seq}`);
    this.#applier.commit(seq);
  }

  /**
   * Tells compaction what members lack: the log after the seq that `lackedAfter` gives is kept for them, as far as
   * `retainedBytesMax` allows. undefined: nobody lacks anything.
   */
  retainLog(lackedAfter: () => Seq | undefined): void {
    this.#lackedAfter = lackedAfter;
  }

  /**
   * Takes a snapshot and compacts the log, while everything goes on; durable when it resolves. Rejects with `StoreError`:
   * "not_ready", "disk_full", "lineage_lost", "closing", "failed"; and with `WalError`.
   */
  async createSnapshot(): Promise<SnapshotSummary> {
    this.#assertReadable();
    return this.#mustBeJoined().snapshotter.create();
  }

  /** Begins a backup of everything that is replicated, while everything goes on. Throws `StoreError` "not_ready", "closing". */
  backup(): BackupStream {
    this.#assertReadable();
    return this.#mustBeJoined().backups.begin();
  }

  /**
   * The whole state as a file that does not change, and from whose end on the log stays, for a replica that lacks what the
   * log no longer holds. Rejects as a backup does, and with the signal's reason.
   */
  openTransfer(signal: AbortSignal): Promise<TransferFile> {
    return this.#mustBeJoined().transfers.file(signal);
  }

  /** Goes on with a file that a master sends, or begins it; resolves to the bytes of it that are there. */
  stageTransfer(id: TransferId, size: number): Promise<number> {
    return this.#incoming.begin(id, size);
  }

  /** Adds to the file; calls are carried out in their order. */
  writeTransfer(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#incoming.write(offset, bytes);
  }

  /**
   * Checks the whole file and chooses it: the next `open` puts it in the place of this node's state, and nothing that is
   * kept from here on is kept. Records that only this node has are saved first. Says what is damaged about a file that is;
   * that file is gone then, and nothing was changed.
   */
  async installTransfer(): Promise<{ readonly damage?: string }> {
    assert(!this.#mastership, "a master never takes over another's state");
    const { lineage } = this.#mustBeJoined();
    const found = await this.#incoming.check(lineage.clusterId);
    if (typeof found === "string") return { damage: found };
    await this.#saveDiverged(found.end);
    await this.#node.save({ installing: found.id });
    return {};
  }

  /** Saves the records of this node that the history of others does not have, as far as they are there. */
  async #saveDiverged(end: HistoryEnd): Promise<void> {
    const { log, lineage } = this.#mustBeJoined();
    const agreed = agreementSeq({ history: lineage.history, lastSeq: log.lastSeq }, end);
    const after = toSeq(Math.max(agreed, log.compactSeq));
    if (after >= log.lastSeq) return;
    await log.flush();
    const { fileSystem, clock, logger } = this.#options;
    const saveAs = `diverged-${log.last.epoch}-${after + 1}-${log.lastSeq}-${clock.wallMs()}.log`;
    logger.warn("the master's history does not have records that this node had", {
      first_seq: after + 1,
      last_seq: log.lastSeq,
      applied_seq: this.appliedSeq,
      saved_as: saveAs,
    });
    await createSynced(fileSystem, saveAs, async (file) => {
      let written = 0;
      for (let at = after; at < log.lastSeq;) {
        const records = await log.read(at, DIVERGED_READ_BYTES);
        await file.write(records, written);
        written += records.length;
        at = this.markAfter(records).seq;
      }
    });
  }

  /** The master's time, as this node knows it. */
  masterTimeMs(): EpochMs {
    return this.#time.now();
  }

  /** The master's time as the master tells it; a replica's deadlines follow it. */
  observeMasterTime(masterMs: EpochMs): void {
    if (!this.#mastership) this.#time.observe(masterMs);
  }

  /** Says that this node holds all that its master had committed: from now on, restarts included, it serves reads. */
  async markCaughtUp(): Promise<void> {
    await this.#incoming.forget();
    if (!this.caughtUp || this.mustCatchUp) await this.#node.save({ caughtUp: true, mustCatchUp: false });
    void this.#reserve.hold();
  }

  status(): StoreStatus {
    const { last } = this;
    const reason = this.#notReadyReason();
    return {
      clusterId: this.clusterId,
      nodeId: this.nodeId,
      role: this.role,
      ready: reason === "",
      notReadyReason: reason,
      applied: this.#applier.applied,
      last: { epoch: last.epoch, seq: last.seq },
      keptSeq: this.keptSeq,
      commitSeq: this.commitSeq,
      compactSeq: this.compactSeq,
      keys: this.#applier.engine.entryCount,
      dataBytes: this.#applier.engine.dataBytes,
      walBytes: this.#joined?.log.sizeBytes ?? 0,
      durability: this.#options.durability,
      settings: this.settings,
    };
  }

  /** Ends writes in flight, closes the log with a clean mark, and gives the directory back. Idempotent. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#failProposals("the node shut down");
    this.#applier.stop(closingError());
    try {
      this.#joined?.pins.endAll(closingError());
      await this.#joined?.snapshotter.close(closingError());
      await this.#joined?.transfers.close();
      await this.#applier.settled();
      await this.#joined?.records.close();
      await this.#joined?.log.close();
      await this.#node.settled();
      await this.#reserve.close();
    } finally {
      await this.#lock.release();
    }
  }

  // ---- inside --------------------------------------------------------------------------------------------------------

  async #openLog(clusterId: ClusterId): Promise<void> {
    const { fileSystem, clock, random, logger, durability, syncIntervalMs, segmentBytesMax, recover } = this.#options;
    const progress = new Progress(clock, logger, "checking the log");
    const starts: EpochStart[] = [];
    const log = await Log.open({
      fileSystem,
      clock,
      random,
      logger,
      directory: LOG_DIRECTORY,
      clusterId,
      durability,
      syncIntervalMs,
      segmentBytesMax,
      listener: this.#logListener(),
      mustExist: this.#node.state.hasLog,
      replay: (record) => {
        progress.tick(record.seq);
        const start = epochStartOf(record);
        if (start) starts.push(start);
      },
      ...(recover && { recover }),
    });
    if (!this.#node.state.hasLog) await this.#node.save({ hasLog: true });
    const pins = new Pins(clock);
    const snapshots = await Snapshots.open({
      fileSystem,
      logger,
      keep: this.#options.snapshots.keep,
      isPinned: (path) => pins.holdsSnapshot(path),
    });
    const lineage = new Lineage(clusterId, starts);
    const onFailed = (error: Error): void => this.#fail(error);
    const records = await RecordLog.open({
      fileSystem,
      clock,
      random,
      logger,
      clusterId,
      segmentBytesMax: this.#options.recordSegmentBytesMax ?? segmentBytesMax,
      onFailed,
      ...(recover && { recover }),
    });
    const neededEnd = (): number => Math.min(snapshots.recordsEnd, pins.recordOffset);
    const produced = new Produced({ log: records, neededEnd, onFailed });
    const snapshotter = new Snapshotter({
      snapshots,
      policy: this.#options.snapshots,
      clock,
      logger,
      appliedSeq: () => this.appliedSeq,
      appliedBytes: () => this.#applier.appliedBytes,
      capture: () => this.#capture(),
      flushLogs: async () => {
        await log.flush();
        await records.flush();
      },
      compact: () => this.#compact(),
    });
    const { engine } = this.#applier;
    const backups = new Backups({
      fileSystem,
      clock,
      random,
      logger,
      log,
      lineage,
      snapshots,
      records,
      produced,
      pins,
      applied: () => this.#applier.applied,
      settings: () => this.settings,
      members: () => this.members,
      keys: () => engine.entryCount,
      bytesEstimate: () => engine.dataBytes + engine.entryCount * ENTRY_OVERHEAD_BYTES + records.sizeBytes,
      createSnapshot: () => snapshotter.create(),
    });
    const transfers = await TransferSource.open({ fileSystem, clock, logger, pins, backup: () => this.backup() });
    this.#joined = { log, lineage, snapshots, snapshotter, records, produced, pins, backups, transfers };
    this.#time.observe(new MasterTime(clock, log.lastTimestampMs).now());
    await this.#applier.attach(log);
    // Applied once, applied for ever: what a frame says was applied had been committed, and so had what was walked.
    const known = Math.max(log.recovery.appliedSeq, snapshots.newest?.to ?? 0);
    this.#applier.commit(toSeq(Math.min(known, log.lastSeq)));
    await this.#applier.settled();
    if (this.#failure) throw this.#failure;
  }

  /** Makes the engine and the cluster state what the newest snapshot says; gives the place from where the log goes on. */
  async #restore(cluster: ClusterState): Promise<Position> {
    const { log, lineage, snapshots, produced } = this.#mustBeJoined();
    const { engine } = this.#applier;
    const progress = new Progress(this.#options.clock, this.#options.logger, "loading a snapshot");
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
        cluster.clear();
      },
      visitor: {
        epochs: (starts) => (epochs = starts),
        settings: (settings) => cluster.applySettings(settings),
        members: (all) => all.forEach((member) => cluster.applyMember(member)),
        records: (mark) => (recordsMark = mark),
        entry: (entry) => {
          engine.restore(entry);
          progress.tick(engine.entryCount);
        },
      },
    });
    if (!summary) {
      if (log.compactSeq > 0) {
        throw new SnapshotError(
          `the log begins after seq ${log.compactSeq}, and the snapshot that it goes on from is gone; restore it, or start over with an empty directory`,
        );
      }
      engine.clear();
      cluster.clear();
      await produced.restore();
      return ORIGIN;
    }
    await produced.restore(recordsMark);
    const { from } = summary.header;
    lineage.replace([...epochs, ...logStarts.filter(({ firstSeq }) => firstSeq > from.seq)]);
    return { epoch: from.epoch, seq: from.seq };
  }

  /** The state as it is to be written into a snapshot, beginning in a segment of its own so that those before can go. */
  async #capture(): Promise<SnapshotContent> {
    const { log, lineage, produced } = this.#mustBeJoined();
    await log.rotate();
    const { applied, engine, cluster } = this.#applier;
    const recordsMark = produced.mark();
    const { timestampMs, ...from } = await log.endAt(applied.seq);
    return {
      header: {
        clusterId: lineage.clusterId,
        from,
        fromTimestampMs: timestampMs,
        salt: this.#options.random.bytes(16),
      },
      epochs: lineage.history.starts.filter(({ firstSeq }) => firstSeq <= from.seq),
      settings: cluster.settings,
      members: cluster.members,
      records: recordsMark,
      engine,
      appliedSeq: () => this.appliedSeq,
    };
  }

  /** Removes the segments that no snapshot and no member needs. */
  async #compact(): Promise<void> {
    const { log, snapshots, produced, pins } = this.#mustBeJoined();
    const { oldestFrom } = snapshots;
    if (oldestFrom === undefined) return;
    const lackedAfter = Math.max(this.#lackedAfter() ?? oldestFrom, log.seqBeforeLast(this.#options.retainedBytesMax));
    const neededAfter = Math.min(oldestFrom, lackedAfter, pins.logSeq);
    const before = log.compactSeq;
    await log.truncateBelow(toSeq(neededAfter));
    await produced.compact();
    if (log.compactSeq > before) {
      this.#options.logger.info("log compacted", { compact_seq: log.compactSeq, wal_bytes: log.sizeBytes });
    }
  }

  #logListener(): LogListener {
    return {
      written: (seq) => this.#tell((listener) => listener.written?.(seq)),
      kept: (seq) => this.#tell((listener) => listener.kept?.(seq)),
      dropped: (firstSeq, cause) => {
        this.#joined?.lineage.history.cutAfter(toSeq(firstSeq - 1));
        if (this.#mastership && this.#mastership.firstSeq >= firstSeq) this.#mastership = undefined;
        this.#proposals.failFrom(firstSeq, () => new StoreError("disk_full", DISK_FULL, { cause }));
        this.#applier.wake();
        this.#tell((listener) => listener.dropped?.(firstSeq));
      },
      failed: (error) => this.#fail(error),
    };
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#failProposals("the disk failed");
    this.#applier.stop(new StoreError("failed", `the disk of this node failed: ${error.message}`, { cause: error }));
    this.#tell((listener) => listener.failed?.(error));
  }

  #failProposals(why: string): void {
    this.#proposals.failFrom(
      toSeq(0),
      ({ position }) =>
        new StoreError(
          "outcome_unknown",
          `${why} before the write at epoch ${position.epoch}, seq ${position.seq} was known to be committed; read the key before you write again`,
          { position },
        ),
    );
  }

  /** What makes things smaller is tried again, on a full disk, with what is kept back for it. */
  async #withReserve<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write();
    } catch (error) {
      if (!(error instanceof StoreError && error.code === "disk_full") || !this.#options.reserveBytes) throw error;
      return this.#reserve.lend(write);
    }
  }

  /** What grows leaves alone what is given up for what does not. */
  #assertRoom(): void {
    if (this.#reserve.isLent) throw new StoreError("disk_full", DISK_FULL);
  }

  #nextOffset(produced: Produced): number {
    return this.#proposals.nextOffset ?? produced.range.end;
  }

  #propose(changes: readonly Change[]): Promise<Position> {
    // Whoever waited for room on the disk may find another world.
    this.#assertWritable();
    const { log } = this.#mustBeJoined();
    const { epoch } = must(this.#mastership, "only a master proposes");
    const payload = encodeChanges(changes);
    const { pendingBytesMax } = this.#options;
    if (this.#proposals.size > 0 && this.#proposals.byteLength + payload.length > pendingBytesMax) {
      throw new StoreError(
        "overloaded",
        `${this.#proposals.byteLength} bytes of writes are in flight, the limit (limits.max_pending_bytes) is ${pendingBytesMax}; nothing was changed, try again shortly`,
      );
    }
    const timestampMs = this.#recordTime(log);
    const position = { epoch, seq: log.append({ epoch, timestampMs, payload }) };
    return new Promise((resolve, reject) => {
      this.#proposals.add({
        position,
        timestampMs,
        changes,
        byteLength: payload.length,
        done: () => resolve(position),
        failed: reject,
      });
    });
  }

  /** Timestamps never go back along the log, whatever the clocks do. */
  #recordTime(log: Log): EpochMs {
    return epochMs(Math.max(this.#time.now(), log.lastTimestampMs));
  }

  #assertReadable(): void {
    if (this.#closing) throw closingError();
    const reason = this.#notReadyReason();
    if (reason) throw new StoreError("not_ready", reason);
  }

  #notReadyReason(): string {
    if (this.#closing) return "this node is shutting down";
    if (!this.clusterId) return "this node belongs to no cluster yet; it waits for a master";
    if (!this.caughtUp) return "this node has never caught up with a master; ask another one, or wait";
    return "";
  }

  #assertWritable(): void {
    if (this.#closing) throw closingError();
    if (this.#failure) {
      const message = "the disk of this node failed; it takes no writes until it is started again";
      throw new StoreError("failed", message, { cause: this.#failure });
    }
    if (this.role !== "master") {
      throw new StoreError("not_master", "this node is a replica and takes no writes");
    }
    if (!this.isServingMaster) {
      throw new StoreError("not_ready", "the mastership of this node has not begun yet; try again shortly");
    }
  }

  #mustBeJoined(): Joined {
    return must(this.#joined, "a node of a cluster has a log");
  }

  #tell(call: (listener: StoreListener) => void): void {
    for (const listener of this.#listeners) call(listener);
  }
}
