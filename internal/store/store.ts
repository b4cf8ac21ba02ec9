/**
 * The store of one node: a log, an engine, and the one way from the one to the other.
 *
 *   write (master)   propose → log → [replication says committed] → apply → answer
 *   push (replica)   append → log → [replication says committed and matched] → apply
 *
 * Promises: what is applied is committed, in the order of the log, on every node. A write is answered after it is
 * applied, unless its caller asks for less. Reads see committed state only. What the store does not do: decide what is
 * committed (replication does), or talk to anybody.
 */
import { assert, must } from "../base/assert.js";
import { EpochHistory } from "../base/epoch-history.js";
import { type ClusterId, type EpochId, newClusterId, type NodeId, type TransferId } from "../base/ids.js";
import { type Epoch, type EpochMs, type LogMark, ORIGIN, type Position, type Seq } from "../base/position.js";
import { seq as toSeq } from "../base/position.js";
import type { Entry, KeyRange } from "../engine/engine.js";
import type { Extent, OffsetRange } from "../records/record-log.js";
import { asBuffer } from "../wal/bytes.js";
import type { DirectoryLock } from "../wal/file-system.js";
import type { LogListener } from "../wal/log.js";
import { logEndAt, recordEnd } from "../wal/record.js";
import { Applier } from "./applier.js";
import type { BackupStream } from "./backup.js";
import {
  type Change,
  type ClusterChange,
  type ClusterSettings,
  encodeChanges,
  type Member,
  type Removal,
} from "./change.js";
import { DataDirectory } from "./data-directory.js";
import { DivergedRecords } from "./diverged.js";
import type { DueRemovals } from "./due-removals.js";
import { expirerOf } from "./expirer.js";
import { forgetterOf } from "./forgetter.js";
import { installTransfer } from "./install.js";
import { LogFeed } from "./log-feed.js";
import { type LoggedState, NOTHING_LOGGED } from "./logged-cluster.js";
import { refuseNewerFormats } from "./newer-format.js";
import { type EpochPromise, NodeFile, type NodeRole } from "./node-file.js";
import { noteRun } from "./node-run.js";
import { NodeTime } from "./node-time.js";
import type { ConsumedPage } from "./produced.js";
import { Progress } from "./progress.js";
import { Proposals } from "./proposals.js";
import { Reserve } from "./reserve.js";
import type { ClientVersion } from "./retries.js";
import { RETRY_LIMITS } from "./retry-guard.js";
import { NO_LIMITS, type StorageLimits } from "./room.js";
import { nextTurn, readScanPage, restOf, type ScanPage, type ScanRequest } from "./scan.js";
import { carryOutSetAside, damageOf, mayBeginAnew, planSetAside, setAsideFolder, setAsideMsOf } from "./set-aside.js";
import type { SnapshotSummary } from "./snapshot-file.js";
import { stateChecksum } from "./state-check.js";
import { closingError, notMasterError, notOrderedError, StoreError } from "./store-error.js";
import type {
  ProduceReceipt,
  ReadPoint,
  StateCheck,
  StoreCounts,
  StoreListener,
  StoreOptions,
  StoreStatus,
  TxnReceipt,
  WriteOptions,
  WriteReceipt,
} from "./store-types.js";
import { Tidier } from "./tidier.js";
import { TransferSink } from "./transfer-sink.js";
import type { TransferFile } from "./transfer-source.js";
import { Trimmer } from "./trimmer.js";
import type { UpdatesPage, UpdatesRequest } from "./updates.js";
import type { Txn, WriteCommand } from "./write-command.js";
import { type Mastership, recordTime, WritePath } from "./write-path.js";

export type * from "./store-types.js";
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
export type { StorageLimits } from "./room.js";
export { RETRY_LIMITS, type RetryLimits } from "./retry-guard.js";
export type * from "./write-command.js";
export type { LoggedState } from "./logged-cluster.js";
export type { EpochPromise, NodeRole } from "./node-file.js";
export type { Extent, OffsetRange, ProducedRecord } from "../records/record-log.js";
export type { ConsumedPage } from "./produced.js";
export type { KeyRange } from "../engine/engine.js";
export { restOf, type ScanPage, type ScanRequest } from "./scan.js";
export type { SnapshotSummary } from "./snapshot-file.js";
export { SnapshotError } from "./snapshots.js";
export type { SnapshotPolicy } from "./snapshotter.js";
export {
  type FailedCondition,
  type LogRange,
  type RefusedCounter,
  StoreError,
  type StoreErrorCode,
} from "./store-error.js";
export type { TransferFile } from "./transfer-source.js";
export type { EventRun, LogFeed } from "./log-feed.js";
export type { Previous, PreviousValues } from "./previous-values.js";
export {
  bytesOf as bytesOfEvent,
  clipped,
  type KeyFilter,
  type LoggedEvent,
  type UpdateEvent,
} from "./update-events.js";
export type { UpdatesPage, UpdatesRequest } from "./updates.js";
// Reads of the log may fail with it, and those who answer callers do not know the log itself.
export { isCorrupt, WalError, type WalErrorCode } from "../wal/wal-error.js";

/** Entries of a page where more come in any case: small pages hold up others for less, and cost no more. */
const STREAMED_A_TURN = 2000;
/** Keys that are counted in one turn: two milliseconds at most. */
const COUNTED_A_TURN = 5000;

/** What a store has whether its node belongs to a cluster or not. */
interface Ground {
  readonly lock: DirectoryLock;
  readonly node: NodeFile;
  readonly reserve: Reserve;
  readonly diverged: DivergedRecords;
  /** The newest folder into which data was set aside, or "". */
  readonly setAside: string;
}

export class Store {
  readonly #options: StoreOptions;
  readonly #ground: Ground;
  readonly #node: NodeFile;
  readonly #time: NodeTime;
  readonly #incoming: TransferSink;
  readonly #proposals = new Proposals();
  readonly #applier: Applier;
  /** For those who follow the committed events. */
  readonly feed: LogFeed;
  readonly #writes: WritePath;
  readonly #expirer: DueRemovals<Removal>;
  readonly #forgetter: DueRemovals<ClientVersion>;
  readonly #trimmer: Trimmer;
  readonly #tidier: Tidier;
  readonly #listeners: StoreListener[] = [];
  /** From the moment on at which the node belongs to a cluster. */
  #directory: DataDirectory | undefined;
  /** Set from `beginEpoch` to `endMastership`. */
  #mastership: Mastership | undefined;
  /** Whether this mastership's first record has been seen committed. */
  #hasBegunServing = false;
  /** While a start applies what the log has. */
  #applying: Progress | undefined;
  /** The token of the applied position, made when somebody asks for it. */
  #appliedToken: { readonly position: Position; readonly token: Uint8Array } | undefined;
  /** Of the state by clients, and of the log by whoever pushes it. */
  #readCount = 0;
  /** The lowest seq that some member lacks; see `retainLog`. */
  #lackedAfter: () => Seq | undefined = () => undefined;
  #failure: Error | undefined;
  #closing = false;

  private constructor(options: StoreOptions, ground: Ground) {
    const { clock, fileSystem, logger, engine, pendingBytesMax, retries = RETRY_LIMITS } = options;
    this.#options = options;
    this.#ground = ground;
    this.#node = ground.node;
    this.#incoming = new TransferSink(fileSystem, logger);
    this.#time = new NodeTime(ground.node, options);
    this.#applier = new Applier({
      engine,
      proposals: this.#proposals,
      clock,
      restore: (cluster, retries) => this.#mustBeJoined().restore(cluster, retries),
      onApplied: (seq) => this.#noteApplied(seq),
      applyRecords: (change, position, timestampMs) => this.#mustBeJoined().applyRecords(change, position, timestampMs),
      onExpected: (check) => this.#compareState(check),
      onSettled: () => this.#noteSettled(),
      onMembersChanged: () => this.#tell((listener) => listener.membersChanged?.()),
      onSettingsChanged: () => this.#noteSettings(),
      onFailed: (error) => this.#fail(error),
    });
    this.feed = new LogFeed({
      applier: this.#applier,
      clock,
      compactSeq: () => this.compactSeq,
      readable: () => this.#readable(),
    });
    this.#writes = new WritePath({
      clock,
      pendingBytesMax,
      retryBytesMax: retries.bytesMax,
      proposals: this.#proposals,
      applier: this.#applier,
      reserve: ground.reserve,
      nowMs: () => this.#time.now(),
      mastership: () => this.#writableMastership(),
    });
    this.#expirer = expirerOf({
      engine,
      clock,
      logger,
      nowMs: () => this.#time.now(),
      isInFlight: (key) => this.#proposals.overlay.touches(key),
      propose: (changes) => this.#writes.proposeRemovals(changes),
    });
    this.#forgetter = forgetterOf({
      table: this.#applier.retries,
      limits: retries,
      clock,
      logger,
      nowMs: () => this.#time.now(),
      isBusy: (clientId) => this.#proposals.retries.isBusy(clientId),
      propose: (clients) => this.#writes.proposeForget(clients),
    });
    this.#trimmer = new Trimmer({
      logger,
      excess: () => this.#writes.excess(),
      propose: (changes) => this.#writes.proposeRemovals(changes),
    });
    this.#tidier = new Tidier({ engine, clock });
  }

  /**
   * Takes the data directory, recovers its log, and applies what is known to have been applied. What is damaged is set aside, and
   * the node begins anew, where others have what it acknowledged. Elsewhere throws `NodeFileError`, `WalError`, `SnapshotError` or
   * `FileSystemError` when the directory cannot be trusted or used, having changed nothing of what cannot.
   */
  static async open(options: StoreOptions): Promise<Store> {
    const { fileSystem, initialRole, random, clock, logger, recover } = options;
    const lock = await fileSystem.lock();
    const reserve = new Reserve({ fileSystem, clock, logger, bytes: options.reserveBytes ?? 0 });
    try {
      // A start needs room too, if only to say who is master.
      await reserve.release();
      const hasData = (await fileSystem.list("wal")).length > 0;
      const node = await NodeFile.open({ fileSystem, initialRole, random, hasData });
      await refuseNewerFormats(fileSystem);
      const diverged = await DivergedRecords.find(fileSystem);
      const openOnce = async (): Promise<Store> => {
        await carryOutSetAside(node, fileSystem, logger);
        const setAside = await setAsideFolder(node, fileSystem);
        const store = new Store(options, { lock, node, reserve, diverged, setAside });
        // Another process writes to the directory: whatever this one would still acknowledge could be overwritten.
        void lock.lost.then((error) => store.#fail(error));
        await store.#openData();
        return store;
      };
      try {
        return await openOnce();
      } catch (error) {
        const damage = damageOf(error);
        if (damage === undefined || recover || !mayBeginAnew(node.state)) throw error;
        logger.error("the data of this node is damaged", { reason: damage });
        await planSetAside(node, { fileSystem, clock, reason: damage });
        options.engine.clear();
        return await openOnce();
      }
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

  /**
   * This node may have lost what it once acknowledged, since its data was set aside or its machine died while the log was not
   * synced: until it has caught up with a master, its vote counts for little.
   */
  get mustCatchUp(): boolean {
    return this.#node.state.mustCatchUp;
  }

  /** When data of this node was set aside last, by the wall clock; undefined: never, or an operator has removed it. */
  get setAsideMs(): number | undefined {
    return setAsideMsOf(this.#ground.setAside);
  }

  /** There is no record, whether the node belongs to a cluster or not. */
  get isEmpty(): boolean {
    return this.last.seq === 0;
  }

  /** What an empty directory becomes here is a master. */
  get foundsWhenEmpty(): boolean {
    return this.#options.initialRole === "master";
  }

  /** The end of the log, records that are still being written included. */
  get last(): LogMark {
    return this.#directory?.log.last ?? { ...ORIGIN, chain: 0 };
  }

  get writtenSeq(): Seq {
    return this.#directory?.log.writtenSeq ?? toSeq(0);
  }

  get keptSeq(): Seq {
    return this.#directory?.log.keptSeq ?? toSeq(0);
  }

  get compactSeq(): Seq {
    return this.#directory?.log.compactSeq ?? toSeq(0);
  }

  /** The lowest seq after which the log can be cut, and the state still be told. */
  get floorSeq(): Seq {
    return this.#directory?.floorSeq ?? toSeq(0);
  }

  get appliedSeq(): Seq {
    return this.#applier.applied.seq;
  }

  get commitSeq(): Seq {
    return this.#applier.commitSeq;
  }

  /** Of all records in the log, applied or not. */
  get history(): EpochHistory {
    return this.#directory?.lineage.history ?? new EpochHistory();
  }

  /** As far as the log is applied. */
  get members(): readonly Member[] {
    return this.#applier.cluster.members;
  }

  /** How the cluster decides, as far as the log is applied. */
  get settings(): ClusterSettings {
    return this.#applier.cluster.settings;
  }

  /** Settings and members as the whole log says, records that are still being written included; a new object whenever that changes. */
  get electorate(): LoggedState {
    return this.#directory?.cluster.state ?? NOTHING_LOGGED;
  }

  listen(listener: StoreListener): void {
    this.#listeners.push(listener);
  }

  // ---- reads ---------------------------------------------------------------------------------------------------------

  /** Where reads of this tick stand. Throws `StoreError` `not_ready`. */
  readPoint(): ReadPoint {
    const { lineage } = this.#readable();
    this.#readCount++;
    const position = this.#applier.applied;
    if (this.#appliedToken?.position !== position) {
      this.#appliedToken = { position, token: lineage.tokenAt(position) };
    }
    return { position, nowMs: this.#time.now(), token: this.#appliedToken.token };
  }

  /** A key's committed entry at the read point of this tick. What it hands out is valid until the tick ends. */
  get(key: Uint8Array): Entry | undefined {
    return this.#applier.engine.get(key, this.#time.now());
  }

  /**
   * A page of keys in their order, all at the read point of this tick. What it hands out is valid until the tick ends, but for
   * `next`. Throws `not_ready`, `not_ordered`.
   */
  scan(request: ScanRequest): ScanPage & { readonly point: ReadPoint } {
    const point = this.#scanPoint();
    return { ...readScanPage(this.#applier.engine, request, point.nowMs), point };
  }

  /**
   * The pages of a scan, one a turn of the event loop at most, and of two thousand entries at most, each at a read point of its
   * own. `read` makes of each what is wanted, on the tick on which it is valid; that is what comes. Throws as `scan`, `closing`, and the signal's reason.
   */
  async *scanPages<T>(
    request: ScanRequest,
    read: (page: ScanPage & { readonly point: ReadPoint }) => T,
    signal: AbortSignal,
  ): AsyncGenerator<T, void, undefined> {
    const limit = Math.min(request.limit, STREAMED_A_TURN);
    for (let rest: ScanRequest | undefined = { ...request, limit }; rest;) {
      const page = this.scan(rest);
      const found = read(page);
      rest = restOf(rest, page);
      yield found;
      if (rest) await nextTurn(this.#options.clock, signal);
    }
  }

  /**
   * How many keys a range has, those before `from` left out. Counted in many turns of the event loop, while writes go on: a key
   * that is there all the time counts once, one that comes or goes meanwhile may count. The point is that of the end. Rejects as
   * `scan` throws, with `closing`, and with the signal's reason.
   */
  async count(
    range: KeyRange,
    from: Uint8Array | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly count: number; readonly point: ReadPoint }> {
    let count = 0;
    for (let next = from; ;) {
      const point = this.#scanPoint();
      const part = this.#applier.engine.count(range, point.nowMs, next, COUNTED_A_TURN);
      count += part.count;
      if (!part.next) return { count, point };
      next = part.next;
      await nextTurn(this.#options.clock, signal);
    }
  }

  /** Resolves when reads see what `seq` wrote. Rejects with the signal's reason, or with `StoreError` "closing", "failed". */
  async whenApplied(seq: Seq, signal: AbortSignal): Promise<void> {
    await this.#applier.until(() => this.appliedSeq >= seq, { signal });
  }

  /**
   * Waits until reads see what a token stands for; undefined when they do already. Throws, or rejects with, `StoreError`:
   * `not_ready`, `invalid_token`, `lineage_lost` (with the fork, where it is known), `closing`, `failed`; and the signal's reason.
   */
  reachToken(token: Uint8Array, signal: AbortSignal): Promise<void> | undefined {
    const { lineage } = this.#readable();
    const place = lineage.read(token);
    const hasReached = (): boolean => lineage.hasReached(place, this.appliedSeq);
    if (hasReached()) return undefined;
    return this.#applier.until(hasReached, { signal }).then(() => undefined);
  }

  /**
   * The committed events after a place in the log. Throws `StoreError`: `not_ready`, `out_of_range`, `invalid_token`,
   * `lineage_lost` (with the fork, where it is known), `closing`, `failed`. Rejects with the signal's reason when it aborts.
   */
  async updates(request: UpdatesRequest): Promise<UpdatesPage> {
    return this.feed.updates(request);
  }

  /** What of the record log is committed. Throws `StoreError` `not_ready`. */
  recordRange(): OffsetRange {
    return this.#readable().produced.range;
  }

  /** Records from `offset` on; none at the end. Rejects with `StoreError`: `not_ready`, `offset_out_of_range`. */
  async consume(offset: number, maxBytes: number, maxRecords: number): Promise<ConsumedPage> {
    return this.#readable().produced.consume(offset, maxBytes, maxRecords);
  }

  /** Resolves when the record log has grown beyond `end`, or after `waitMs`. Rejects with the signal's reason, or `closing`. */
  async nextProduced(end: number, waitMs: number, signal: AbortSignal): Promise<void> {
    if (this.recordRange().end > end) return;
    await this.#applier.until(() => this.recordRange().end > end, { waitMs, signal });
  }

  /** Age and size along the record log, for retention. */
  recordExtents(): readonly Extent[] {
    return this.#directory?.records.extents() ?? [];
  }

  // ---- writes --------------------------------------------------------------------------------------------------------

  /**
   * Carries out the commands as one record. When it resolves, the record is committed and applied here, unless `options` ask for
   * less. Commands that change nothing write no record; their answer, and one that says why they are refused, still waits until
   * what it saw is committed.
   *
   * Rejects with `StoreError`: `not_master`, `not_ready`, `overloaded`, `disk_full`, `storage_full`, `too_large`, `not_ordered`,
   * `condition_failed`, `not_an_integer`, `out_of_bounds`, `lineage_lost` and `invalid_token` (of a condition's token): nothing was
   * changed; `failed`, `closing`, `outcome_unknown` (with the position, where there is a record).
   */
  write(commands: readonly WriteCommand[], options?: WriteOptions): Promise<WriteReceipt> {
    return this.#writes.write(commands, options);
  }

  /** No other write comes in this turn of the event loop: those that wait for its end to be written together need not. Whether some did. */
  endTurn(): boolean {
    return this.#directory?.log.endTurn() ?? false;
  }

  /**
   * Compares keys, and carries out one list of operations when all comparisons hold, and the other when not: as one record, if
   * anything is written, at whose place in the log both happen. Rejects as `write`; that comparisons fail is an answer.
   */
  transact(txn: Txn, options?: WriteOptions): Promise<TxnReceipt> {
    return this.#writes.transact(txn, options);
  }

  /**
   * Appends to the record log, as one record of the store: all of them get offsets, one after the other, or none. When
   * it resolves, they are committed, and can be consumed here, unless `options` ask for less. Rejects as `write`.
   */
  produce(records: readonly Uint8Array[], options?: WriteOptions): Promise<ProduceReceipt> {
    return this.#writes.produce(records, options);
  }

  /**
   * Lets the record log begin at `below`; what lies before is gone when it resolves, unless `options` ask for less. An offset
   * below the start changes nothing. Rejects as `write`, and with `offset_out_of_range` beyond the end.
   */
  truncateRecords(below: number, options?: WriteOptions): Promise<{ readonly position: Position }> {
    return this.#writes.truncateRecords(below, options);
  }

  /** Writes a member into the replicated state; resolves when that is committed. Rejects as `write`. */
  proposeMember(member: Member): Promise<Position> {
    return this.#writes.proposeChange({ kind: "member", member });
  }

  /** Writes how the cluster decides into the replicated state; resolves when that is committed. Rejects as `write`. */
  async proposeSettings(settings: ClusterSettings): Promise<Position> {
    // From the record on, this node's copy alone may be all that there is of a write.
    if (settings.commit === "master" && this.isServingMaster) await this.#node.save({ masterCommit: undefined });
    return this.#writes.proposeChange({ kind: "settings", settings });
  }

  /** Changes how much may be stored; resolves to the limits as they are once that is committed. Rejects as `write`. */
  async changeLimits(changed: Partial<StorageLimits>): Promise<StorageLimits> {
    const { settings } = this.electorate;
    const limits: StorageLimits = { ...NO_LIMITS, ...settings.limits, ...changed };
    await this.#writes.proposeChange({ kind: "settings", settings: { ...settings, limits } });
    return limits;
  }

  /** Holds back every write that comes from now on, until `resume`, or the end of the mastership; those in flight go on. */
  pauseWrites(): { resume(): void } {
    assert(this.#mastership, "only a master pauses writes");
    return this.#writes.pause();
  }

  /** Resolves when nothing that was proposed is in flight. */
  writesSettled(): Promise<void> {
    return this.#proposals.settled();
  }

  /** Whether this node takes writes now. */
  get isServingMaster(): boolean {
    return this.#mastership !== undefined && this.appliedSeq >= this.#mastership.firstSeq && !this.#closing;
  }

  // ---- mastership ----------------------------------------------------------------------------------------------------

  /** Makes this empty node the first of a new cluster. Durable when it resolves; goes on where it was broken off. */
  async foundCluster(): Promise<ClusterId> {
    const id = this.clusterId ?? newClusterId(this.#options.random);
    await this.joinCluster(id);
    return id;
  }

  /**
   * Makes this empty node a part of a cluster. Durable when it resolves; goes on where it was broken off. Rejects with
   * `StoreError` "not_ready" when that was for another cluster, and with what the disk says.
   */
  async joinCluster(id: ClusterId): Promise<void> {
    assert(!this.#directory, "a node that has a log belongs to a cluster");
    if (!this.clusterId) await this.#node.save({ clusterId: id });
    if (this.clusterId !== id) {
      throw new StoreError("not_ready", `this node has begun to join cluster ${this.clusterId}, and cannot join ${id}`);
    }
    await this.#openData();
  }

  /**
   * Remembers the highest mastership that this node follows, and the role when one is given, in one write; durable when it
   * resolves. Never goes back, and an epoch is promised to one mastership only.
   */
  async promise(promise: EpochPromise, role?: NodeRole): Promise<void> {
    if (role) this.#assertMayBecome(role);
    // A master writes, which may ask for keys in their order, before it says that it has caught up.
    if (role === "master") await this.#applier.endLoadEarly();
    await this.#node.save(({ promised: before }) => {
      assert(promise.epoch >= before.epoch, `epoch ${promise.epoch} is below the promised ${before.epoch}`);
      assert(
        promise.epoch > before.epoch || !before.epochId || before.epochId === promise.epochId,
        `epoch ${promise.epoch} was promised to ${before.epochId}, and cannot be to ${promise.epochId}`,
      );
      // How a new mastership commits is certain only once its first record is.
      return { promised: promise, ...(role && { role }), ...(role === "master" && { masterCommit: undefined }) };
    });
  }

  /** Changes what this node is, from now on and after a restart; durable when it resolves. */
  async saveRole(role: NodeRole): Promise<void> {
    this.#assertMayBecome(role);
    if (role === "master") await this.#applier.endLoadEarly();
    await this.#node.save({ role });
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
    const { log, lineage, cluster, produced } = this.#mustBeJoined();
    assert(this.role === "master", "only a master begins an epoch");
    assert(this.promised.epoch === epoch, `epoch ${epoch} was not promised`);
    assert(epoch > log.last.epoch, `epoch ${epoch} does not follow epoch ${log.last.epoch} of the log`);
    const first: Change[] = [{ kind: "epoch", epochId, forced, master: this.nodeId }, ...changes];
    const payload = encodeChanges(first);
    const seq = log.append({ epoch, timestampMs: recordTime(this.#time.now(), log), payload });
    cluster.note(seq, first);
    lineage.history.push({ epoch, epochId, firstSeq: seq, ...(forced && { forced }) });
    this.#mastership = { epoch, firstSeq: seq, log, lineage, cluster, produced };
    this.#hasBegunServing = false;
    return seq;
  }

  /**
   * Ends this node's mastership: writes in flight end with `outcome_unknown`, their records stay in the log; those that are held
   * back end with `not_master`.
   */
  endMastership(): void {
    this.#mastership = undefined;
    this.#stopRemovals();
    this.#writes.end("the node is no longer master", notMasterError());
  }

  // ---- what replication drives ---------------------------------------------------------------------------------------

  /**
   * Appends records that the master pushed, exactly as they came. Throws `WalError` `mismatch` when they do not follow
   * on this log's end, having changed nothing. They are kept when the listener's `kept` says so.
   */
  appendRecords(records: Uint8Array): Seq {
    assert(!this.#mastership, "a master's log grows by its own writes only");
    return this.#mustBeJoined().appendRecords(records);
  }

  /**
   * Cuts the log after `seq`, saving what is cut in a file of its own. When records past `seq` were applied already, the
   * state is built anew from what remains, and nothing is served until that is done.
   */
  async cutAfter(seq: Seq): Promise<void> {
    const directory = this.#mustBeJoined();
    assert(!this.#mastership, "a master never cuts its log");
    assert(seq <= directory.log.lastSeq, "a cut lies inside the log");
    if (seq === directory.log.lastSeq) return;
    await this.#applier.settled();
    await directory.cutAfter(seq, async () => {
      try {
        await this.#applier.cutAfter(directory.lineage.positionAt(seq));
      } catch (error) {
        // What is applied is no longer what the log says; only the next start can make it so again.
        this.#fail(error instanceof Error ? error : new Error(String(error)));
        throw error;
      }
    });
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
    // What is pushed to a majority leaves this node while it syncs; where this copy alone commits, nobody waits for that.
    if (this.electorate.settings.commit === "majority") this.#readCount++;
    return this.#mustBeJoined().log.readTail(afterSeq, maxBytes);
  }

  /** Encoded records after a place, from memory or disk; see `Log.read`. */
  readRecords(afterSeq: Seq, maxBytes: number): Promise<Uint8Array> {
    this.#readCount++;
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
   * The checksum of the applied state, where it stands now; undefined while keys of a range that was deleted are still being
   * removed, since nodes may be at different places of that.
   */
  stateCheck(): StateCheck | undefined {
    const { engine, cluster, retries, applied } = this.#applier;
    if (!engine.isSettled) return undefined;
    return {
      seq: applied.seq,
      checksum: stateChecksum({ engine, cluster, retries, records: this.#mustBeJoined().produced.mark() }),
    };
  }

  /**
   * Says what the master's state is at a seq. When this node's own is another one there, listeners are told by `stateDiffers`.
   * Skipped when the seq has passed, when a mastership begins before it, and while there is no checksum of it.
   */
  expectState(check: StateCheck): void {
    this.#applier.expect(check);
  }

  /**
   * Lets the next start begin with an empty log and fetch everything anew; what is there is kept in a folder beside it. Node,
   * cluster and promise stay. Durable when it resolves; from then on this node serves no reads, and must catch up.
   */
  async setAside(reason: string): Promise<void> {
    assert(!this.#mastership, "a master never sets its data aside");
    const { fileSystem, clock, logger } = this.#options;
    logger.error("the data of this node is set aside at the next start", { reason });
    await planSetAside(this.#node, { fileSystem, clock, reason });
  }

  /**
   * Takes a snapshot and compacts the log, while everything goes on; durable when it resolves. Rejects with `StoreError`:
   * "not_ready", "disk_full", "lineage_lost", "closing", "failed"; and with `WalError`.
   */
  async createSnapshot(): Promise<SnapshotSummary> {
    return this.#readable().snapshotter.create();
  }

  /** Begins a backup of everything that is replicated, while everything goes on. Throws `StoreError` "not_ready", "closing". */
  backup(): BackupStream {
    return this.#readable().backups.begin();
  }

  /**
   * The whole state as a file that does not change, and from whose end on the log stays, for a replica that lacks what the
   * log no longer holds. Rejects as a backup does, and with the signal's reason.
   */
  async openTransfer(signal: AbortSignal): Promise<TransferFile> {
    // What is applied on a master is the cluster's state, also while no quorum has kept its first record yet: it may wait for
    // nodes that lack just this.
    const isCurrent = this.#mastership !== undefined && !this.#applier.isRebuilding && !this.#node.state.settingAside;
    const directory = isCurrent && !this.#closing ? this.#mustBeJoined() : this.#readable();
    return directory.transfers.file(signal);
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
    const directory = this.#mustBeJoined();
    const found = await this.#incoming.check(directory.lineage.clusterId);
    if (typeof found === "string") return { damage: found };
    await directory.saveDiverged(found.end);
    await this.#node.save({ installing: found.id });
    return {};
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
    await this.#applier.endLoadEarly();
    await this.#incoming.forget();
    if (!this.caughtUp || this.mustCatchUp) {
      await this.#node.save(({ settingAside }) => (settingAside ? {} : { caughtUp: true, mustCatchUp: false }));
    }
    void this.#ground.reserve.hold();
  }

  status(): StoreStatus {
    const { last } = this;
    const reason = this.#notReadyReason();
    const { fileSystem, durability } = this.#options;
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
      accountedBytes: this.#applier.engine.accountedBytes,
      walBytes: this.#directory?.log.sizeBytes ?? 0,
      durability,
      settings: this.settings,
      divergedRecords: this.#ground.diverged.count,
      setAside: this.#ground.setAside,
      clockAheadMs: this.#time.clockAheadMs,
      retryClients: this.#applier.retries.clientCount,
      retryBytes: this.#applier.retries.bytes,
      diskFreeBytes: fileSystem.freeBytes?.(),
    };
  }

  /** For those who measure. */
  counts(): StoreCounts {
    const { removed, retries } = this.#applier;
    const lackedAfter = this.#directory && this.#lackedAfter();
    return {
      expiredKeys: removed.expire,
      evictedKeys: removed.evict,
      pendingWrites: this.#proposals.size,
      pendingBytes: this.#proposals.byteLength,
      retryBytes: retries.bytes,
      retryClients: retries.clientCount,
      snapshotBytes: this.#directory?.snapshots.newestBytes ?? 0,
      lackedBytes: lackedAfter === undefined ? 0 : this.#mustBeJoined().log.bytesOfSegmentsAfter(lackedAfter),
      recordLogBytes: this.#directory?.records.sizeBytes ?? 0,
    };
  }

  /** Ends writes in flight, closes the log with a clean mark, and gives the directory back. Idempotent. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#time.stop();
    this.#tidier.stop();
    this.#stopRemovals();
    this.#writes.end("the node shut down", closingError());
    this.#applier.stop(closingError());
    try {
      if (this.#directory) {
        await this.#directory.close(closingError());
        if (!this.#failure) await this.#time.noteEnd();
      }
      await this.#node.settled();
      await this.#ground.reserve.close();
    } finally {
      await this.#ground.lock.release();
    }
  }

  // ---- inside --------------------------------------------------------------------------------------------------------

  /** Opens what a node of a cluster has, and applies what is known to have been applied. */
  async #openData(): Promise<void> {
    const { clusterId, hasLog, installing } = this.#node.state;
    if (!clusterId) return;
    const recordSegmentBytesMax = this.#options.recordSegmentBytesMax ?? this.#options.segmentBytesMax;
    if (installing) await installTransfer(this.#node, installing, { ...this.#options, recordSegmentBytesMax });
    const applier = this.#applier;
    const directory = await DataDirectory.open({
      store: this.#options,
      clusterId,
      mustExist: hasLog,
      listener: this.#logListener(),
      readCount: () => this.#readCount,
      applier,
      diverged: this.#ground.diverged,
      onRecovered: (recovery) => noteRun(this.#node, this.#options, recovery.syncedSeq),
      onFailed: (error) => this.#fail(error),
      lackedAfter: () => this.#lackedAfter(),
    });
    this.#directory = directory;
    const { log, snapshots } = directory;
    this.#time.start(log.lastTimestampMs);
    try {
      await applier.attach(log);
      // Applied once, applied for ever: what a frame says was applied had been committed, and so had what was walked.
      const known = Math.max(log.recovery.appliedSeq, snapshots.newest?.to ?? 0);
      this.#applying = new Progress(this.#options.clock, this.#options.logger, "applying the log");
      applier.commit(toSeq(Math.min(known, log.lastSeq)));
      await applier.settled();
      // Until a replica has caught up, nobody reads here, and what it is sent comes faster without an order of the keys.
      if (this.caughtUp || this.role === "master") await applier.endLoad();
      this.#applying = undefined;
      // What a start repeats was counted when it happened.
      applier.forgetRemoved();
      if (this.#failure) throw this.#failure;
    } catch (error) {
      // The applier knows this log; only another store begins anew.
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      await directory.close(closingError());
      throw error;
    }
  }

  #logListener(): LogListener {
    return {
      written: (seq) => this.#tell((listener) => listener.written?.(seq)),
      kept: (seq) => {
        this.#proposals.noteKept(seq);
        this.#tell((listener) => listener.kept?.(seq));
      },
      dropped: (firstSeq, cause) => {
        this.#directory?.forgetAfter(toSeq(firstSeq - 1));
        if (this.#mastership && this.#mastership.firstSeq >= firstSeq) {
          this.#mastership = undefined;
          this.#stopRemovals();
        }
        this.#writes.drop(firstSeq, cause);
        this.#applier.wake();
        this.#tell((listener) => listener.dropped?.(firstSeq));
      },
      failed: (error) => this.#fail(error),
    };
  }

  #noteApplied(seq: Seq): void {
    this.#applying?.look(seq);
    this.#directory?.log.setAppliedSeq(seq);
    this.#directory?.snapshotter.noteApplied();
    this.#tidier.noteApplied();
    if (this.isServingMaster) {
      if (!this.#hasBegunServing) this.#beginServing();
      this.#expirer.look();
      this.#forgetter.look();
    }
    this.#tell((listener) => listener.applied?.(seq));
  }

  /** The first record of a mastership is committed. */
  #beginServing(): void {
    this.#hasBegunServing = true;
    this.#noteCommit();
    this.#expirer.start();
    this.#forgetter.start();
    this.#trimmer.start();
  }

  #noteSettings(): void {
    if (this.isServingMaster) this.#trimmer.start();
    this.#tell((listener) => listener.settingsChanged?.());
  }

  /** Limits were not looked at while deleted keys counted. */
  #noteSettled(): void {
    if (this.isServingMaster) this.#trimmer.start();
  }

  /** Only a master expires, evicts and forgets. */
  #stopRemovals(): void {
    this.#expirer.stop();
    this.#forgetter.stop();
    this.#trimmer.stop();
  }

  /** From then on it is certain that others have what this mastership acknowledges, if they have to. */
  #noteCommit(): void {
    if (this.settings.commit !== "majority") return;
    this.#node.save({ masterCommit: "majority" }).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.logger.warn("should this node's data be damaged, it will not be set aside by itself", { reason });
    });
  }

  #compareState(expected: StateCheck): void {
    const own = this.stateCheck();
    if (!own || own.checksum === expected.checksum) return;
    const detail = `the state at seq ${expected.seq} has the checksum ${own.checksum}, the master's ${expected.checksum}`;
    this.#tell((listener) => listener.stateDiffers?.(detail));
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#stopRemovals();
    const refusal = new StoreError("failed", `the disk of this node failed: ${error.message}`, { cause: error });
    this.#writes.end("the disk failed", refusal);
    this.#applier.stop(refusal);
    this.#tell((listener) => listener.failed?.(error));
  }

  /** The read point, where the keys can be read in their order. */
  #scanPoint(): ReadPoint {
    const point = this.readPoint();
    if (!this.#applier.engine.isOrdered) throw notOrderedError();
    return point;
  }

  /** Throws `StoreError` while this node serves no reads. */
  #readable(): DataDirectory {
    if (this.#closing) throw closingError();
    const reason = this.#notReadyReason();
    if (reason) throw new StoreError("not_ready", reason);
    return this.#mustBeJoined();
  }

  #notReadyReason(): string {
    if (this.#closing) return "this node is shutting down";
    const { clusterId, settingAside, caughtUp, mustCatchUp } = this.#node.state;
    if (!clusterId) return "this node belongs to no cluster yet; it waits for a master";
    if (settingAside) return `the data of this node cannot be trusted and is set aside: ${settingAside.reason}`;
    if (!caughtUp && mustCatchUp) return "the data of this node was set aside; it waits for that of a master";
    if (!caughtUp) return "this node has never caught up with a master; ask another one, or wait";
    if (this.#applier.isRebuilding)
      return "history was lost in a failover, and the state is made anew; try again shortly";
    return "";
  }

  /** Throws `StoreError` while this node takes no writes. */
  #writableMastership(): Mastership {
    if (this.#closing) throw closingError();
    if (this.#failure) {
      const message = "the disk of this node failed; it takes no writes until it is started again";
      throw new StoreError("failed", message, { cause: this.#failure });
    }
    if (this.role !== "master") throw notMasterError();
    if (!this.#mastership || this.appliedSeq < this.#mastership.firstSeq) {
      throw new StoreError("not_ready", "the mastership of this node has not begun yet; try again shortly");
    }
    return this.#mastership;
  }

  #assertMayBecome(role: NodeRole): void {
    assert(role === "master" || !this.#mastership, "a master ends its mastership before it becomes a replica");
  }

  #mustBeJoined(): DataDirectory {
    return must(this.#directory, "a node of a cluster has a log");
  }

  #tell(call: (listener: StoreListener) => void): void {
    for (const listener of this.#listeners) call(listener);
  }
}
