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
import { EpochHistory } from "../base/epoch-history.js";
import { type ClusterId, type EpochId, newClusterId, type NodeId, type RandomSource } from "../base/ids.js";
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
import { decodeRecords } from "../wal/record.js";
import { WalError } from "../wal/wal-error.js";
import { type Change, decodeChanges, encodeChanges, epochChangeOf, type Member } from "./change.js";
import { MasterTime } from "./master-time.js";
import { Members } from "./members.js";
import {
  type EpochPromise,
  newNodeState,
  NodeFileError,
  type NodeRole,
  type NodeState,
  readNodeFile,
  writeNodeFile,
} from "./node-file.js";
import { keyName, type Proposal, Proposals } from "./proposals.js";
import { StoreError } from "./store-error.js";
import { decodeToken, encodeToken, NO_EPOCH_ID } from "./token.js";
import { readUpdates, type UpdatesPage, type UpdatesRequest } from "./updates.js";

export type { Member, MemberSource } from "./change.js";
export type { EpochPromise, NodeRole } from "./node-file.js";
export { StoreError, type StoreErrorCode } from "./store-error.js";
export type { UpdateEvent, UpdatesPage, UpdatesRequest } from "./updates.js";
// Reads of the log may fail with it, and those who answer callers do not know the log itself.
export { WalError, type WalErrorCode } from "../wal/wal-error.js";

/** A wish to change a key; conditions and relative times still in it. */
export type WriteCommand =
  | {
      readonly kind: "set";
      readonly key: Uint8Array;
      readonly value: Uint8Array;
      /** From now; absent or 0: the key does not expire. */
      readonly ttlMs?: number;
    }
  | { readonly kind: "delete"; readonly key: Uint8Array };

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
  readonly results: readonly { readonly existed: boolean }[];
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
}

/** Told of the store's progress; every call is made after the fact, on the tick that brought it about. */
export interface StoreListener {
  written?(seq: Seq): void;
  kept?(seq: Seq): void;
  applied?(seq: Seq): void;
  /** The records from `firstSeq` on are not in the log after all: the disk had no room. */
  dropped?(firstSeq: Seq): void;
  membersChanged?(): void;
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
  /** Payload bytes of writes that are proposed and not applied yet, at most. */
  readonly pendingBytesMax: number;
  readonly recover?: "truncate-tail";
}

const LOG_DIRECTORY = "wal";
/** Bytes of log that are applied before others get their turn. */
const APPLY_SLICE_BYTES = 256 * 1024;

export class Store {
  readonly #options: StoreOptions;
  readonly #engine: Engine;
  readonly #lock: DirectoryLock;
  readonly #time: MasterTime;
  readonly #listeners: StoreListener[] = [];
  readonly #proposals = new Proposals();
  readonly #members = new Members();
  readonly #history = new EpochHistory();
  readonly #appliedWaiters = new Set<() => void>();

  #state: NodeState;
  /** Writes of the node file, one after the other. */
  #saving: Promise<void> = Promise.resolve();
  #log: Log | undefined;
  /** Set from `beginEpoch` to `endMastership`. */
  #mastership: { readonly epoch: Epoch; readonly firstSeq: Seq } | undefined;
  /** Never goes back, but for a cut. Invariant: applied ≤ commit ≤ last. */
  #commitSeq = toSeq(0);
  #applied: Position = ORIGIN;
  #appliedToken: Uint8Array | undefined;
  /** The application of records that are no longer in memory, while it waits for the disk. */
  #applying: Promise<void> | undefined;
  #failure: Error | undefined;
  #closing = false;

  private constructor(options: StoreOptions, lock: DirectoryLock, state: NodeState) {
    this.#options = options;
    this.#engine = options.engine;
    this.#lock = lock;
    this.#state = state;
    this.#time = new MasterTime(options.clock, epochMs(0));
  }

  /**
   * Takes the data directory, recovers its log, and applies what is known to have been applied. Throws `NodeFileError`,
   * `WalError` or `FileSystemError` when the directory cannot be trusted or used, having changed nothing.
   */
  static async open(options: StoreOptions): Promise<Store> {
    const { fileSystem } = options;
    const lock = await fileSystem.lock();
    try {
      let state = await readNodeFile(fileSystem);
      if (!state) {
        if ((await fileSystem.list(LOG_DIRECTORY)).length > 0) {
          throw new NodeFileError(
            "the directory has a log but no node.json; restore the file, or start over with an empty directory",
          );
        }
        state = newNodeState(options.initialRole, options.random);
        await writeNodeFile(fileSystem, state);
      }
      const store = new Store(options, lock, state);
      if (state.clusterId) await store.#openLog(state.clusterId);
      return store;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  get nodeId(): NodeId {
    return this.#state.nodeId;
  }

  get clusterId(): ClusterId | undefined {
    return this.#state.clusterId;
  }

  get role(): NodeRole {
    return this.#state.role;
  }

  get promised(): EpochPromise {
    return this.#state.promised;
  }

  /** The end of the log, records that are still being written included. */
  get last(): LogMark {
    return this.#log?.last ?? { ...ORIGIN, chain: 0 };
  }

  get writtenSeq(): Seq {
    return this.#log?.writtenSeq ?? toSeq(0);
  }

  get keptSeq(): Seq {
    return this.#log?.keptSeq ?? toSeq(0);
  }

  get appliedSeq(): Seq {
    return this.#applied.seq;
  }

  get commitSeq(): Seq {
    return this.#commitSeq;
  }

  get compactSeq(): Seq {
    return this.#log?.compactSeq ?? toSeq(0);
  }

  get history(): EpochHistory {
    return this.#history;
  }

  get members(): readonly Member[] {
    return this.#members.all;
  }

  /** Whether this node once held everything that its master had. */
  get caughtUp(): boolean {
    return this.#state.caughtUp;
  }

  listen(listener: StoreListener): void {
    this.#listeners.push(listener);
  }

  // ---- reads ---------------------------------------------------------------------------------------------------------

  /** Where reads of this tick stand. Throws `StoreError` `not_ready`. */
  readPoint(): ReadPoint {
    this.#assertReadable();
    this.#appliedToken ??= this.#tokenOf(this.#applied);
    return { position: this.#applied, nowMs: this.#time.now(), token: this.#appliedToken };
  }

  /** A key's committed entry at the read point of this tick. What it hands out is valid until the tick ends. */
  get(key: Uint8Array): Entry | undefined {
    return this.#engine.get(key, this.#time.now());
  }

  /**
   * The committed events after a place in the log. Throws `StoreError`: `not_ready`, `out_of_range`, `invalid_token`,
   * `lineage_lost`, `closing`. Rejects with the signal's reason when it aborts.
   */
  async updates(request: UpdatesRequest): Promise<UpdatesPage> {
    this.#assertReadable();
    const after = request.afterToken ? this.#placeOf(request.afterToken).seq : request.after;
    return readUpdates({
      request: { ...request, after },
      source: {
        compactSeq: () => this.compactSeq,
        appliedSeq: () => this.appliedSeq,
        positionAt: (seq) => this.#positionAt(seq),
        tokenAt: (position) => this.#tokenOf(position),
        read: (afterSeq, maxBytes) => this.readTail(afterSeq, maxBytes) ?? this.readRecords(afterSeq, maxBytes),
        nextApplied: (waitMs, signal) => this.#nextApplied(waitMs, signal),
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
    this.#assertWritable();
    const nowMs = this.#time.now();
    const changes: Change[] = [];
    const results: { existed: boolean }[] = [];
    const earlier = new Map<string, boolean>();
    let seenSeq = 0;
    for (const command of commands) {
      const name = keyName(command.key);
      let existed = earlier.get(name);
      if (existed === undefined) {
        const inFlight = this.#proposals.look(name);
        if (inFlight) seenSeq = Math.max(seenSeq, inFlight.seq);
        existed = inFlight
          ? inFlight.exists && !(inFlight.expiresAtMs !== undefined && inFlight.expiresAtMs <= nowMs)
          : this.#engine.get(command.key, nowMs) !== undefined;
      }
      results.push({ existed });
      earlier.set(name, command.kind === "set");
      if (command.kind === "set") {
        const ttlMs = command.ttlMs ?? 0;
        changes.push({
          kind: "put",
          key: command.key,
          value: command.value,
          ...(ttlMs > 0 && { expiresAtMs: epochMs(nowMs + ttlMs) }),
        });
      } else if (existed) {
        changes.push({ kind: "delete", key: command.key });
      }
    }
    if (changes.length > 0) {
      const position = await this.#propose(changes);
      return { position, token: this.#tokenOf(position), results };
    }
    await this.#whenApplied(toSeq(seenSeq));
    const { position, token } = this.readPoint();
    return { position, token, results };
  }

  /** Writes a member into the replicated state; resolves when that is committed. Rejects as `write`. */
  async proposeMember(member: Member): Promise<Position> {
    this.#assertWritable();
    return this.#propose([{ kind: "member", member }]);
  }

  // ---- mastership ----------------------------------------------------------------------------------------------------

  /** Makes this empty node the first of a new cluster. Durable when it resolves. */
  async foundCluster(): Promise<ClusterId> {
    assert(!this.#state.clusterId, "a node founds a cluster only while it belongs to none");
    const id = newClusterId(this.#options.random);
    await this.#save({ clusterId: id });
    await this.#openLog(id);
    return id;
  }

  /** Makes this empty node a part of a cluster. Durable when it resolves. */
  async joinCluster(id: ClusterId): Promise<void> {
    assert(!this.#state.clusterId, "a node joins a cluster only while it belongs to none");
    await this.#save({ clusterId: id });
    await this.#openLog(id);
  }

  /** Remembers the highest mastership that this node follows; durable when it resolves. Never goes back. */
  async promise(promise: EpochPromise): Promise<void> {
    const before = this.#state.promised;
    assert(promise.epoch >= before.epoch, `epoch ${promise.epoch} is below the promised ${before.epoch}`);
    await this.#save({ promised: promise });
  }

  /**
   * Begins a mastership: appends its first record, which is empty. Writes are taken once that record is committed and
   * applied. The epoch must have been promised.
   */
  beginEpoch(epoch: Epoch, epochId: EpochId): Seq {
    const log = this.#mustLog();
    assert(this.role === "master", "only a master begins an epoch");
    assert(this.#state.promised.epoch === epoch, `epoch ${epoch} was not promised`);
    assert(epoch > log.last.epoch, `epoch ${epoch} does not follow epoch ${log.last.epoch} of the log`);
    const change: Change = { kind: "epoch", epochId, forced: false, master: this.nodeId };
    const payload = encodeChanges([change]);
    const seq = log.append({ epoch, timestampMs: this.#recordTime(log), payload });
    this.#history.push({ epoch, epochId, firstSeq: seq });
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
    const log = this.#mustLog();
    assert(!this.#mastership, "a master's log grows by its own writes only");
    const last = log.appendRecords(records);
    if (log.last.epoch > (this.#history.last?.epoch ?? 0)) {
      for (const record of decodeRecords(records)) this.#learnEpoch(record);
    }
    return last;
  }

  /**
   * Cuts the log after `seq`, saving what is cut in a file of its own. When records past `seq` were applied already, the
   * state is built anew from what remains.
   */
  async cutAfter(seq: Seq): Promise<void> {
    const log = this.#mustLog();
    assert(!this.#mastership, "a master never cuts its log");
    await this.#applying;
    const cut = log.lastSeq - seq;
    assert(cut >= 0, "a cut lies inside the log");
    if (cut === 0) return;
    const saveAs = `diverged-${log.last.epoch}-${seq + 1}-${log.lastSeq}-${this.#options.clock.wallMs()}.log`;
    this.#options.logger.warn("cutting records that the master's history does not have", {
      first_seq: seq + 1,
      last_seq: log.lastSeq,
      records: cut,
      applied_seq: this.#applied.seq,
      saved_as: saveAs,
    });
    await log.cutAfter(seq, saveAs);
    this.#history.cutAfter(seq);
    this.#commitSeq = toSeq(Math.min(this.#commitSeq, seq));
    if (this.#applied.seq > seq) await this.#rebuild();
  }

  /** Epoch and chain value at a place of the log. Rejects with `WalError` `out_of_range`. */
  mark(seq: Seq): Promise<LogMark> {
    return this.#mustLog().mark(seq);
  }

  /** Encoded records after a place, from memory; see `Log.readTail`. */
  readTail(afterSeq: Seq, maxBytes: number): Uint8Array | undefined {
    return this.#mustLog().readTail(afterSeq, maxBytes);
  }

  /** Encoded records after a place, from memory or disk; see `Log.read`. */
  readRecords(afterSeq: Seq, maxBytes: number): Promise<Uint8Array> {
    return this.#mustLog().read(afterSeq, maxBytes);
  }

  /** Records up to `seq` are committed, and on a replica equal the master's: applies them. Never goes back. */
  commit(seq: Seq): void {
    assert(seq <= this.last.seq, `commit ${seq} lies beyond the log's end ${this.last.seq}`);
    if (seq <= this.#commitSeq) return;
    this.#commitSeq = seq;
    this.#apply();
  }

  /** The master's time as the master tells it; a replica's deadlines follow it. */
  observeMasterTime(masterMs: EpochMs): void {
    if (!this.#mastership) this.#time.observe(masterMs);
  }

  /** The master's time, as this node knows it. */
  masterTimeMs(): EpochMs {
    return this.#time.now();
  }

  /** Says that this node holds all that its master had committed: from now on, restarts included, it serves reads. */
  markCaughtUp(): Promise<void> {
    return this.#state.caughtUp ? Promise.resolve() : this.#save({ caughtUp: true });
  }

  status(): StoreStatus {
    const reason = this.#notReadyReason();
    return {
      clusterId: this.clusterId,
      nodeId: this.nodeId,
      role: this.role,
      ready: reason === "",
      notReadyReason: reason,
      applied: this.#applied,
      last: { epoch: this.last.epoch, seq: this.last.seq },
      keptSeq: this.keptSeq,
      commitSeq: this.#commitSeq,
      compactSeq: this.compactSeq,
      keys: this.#engine.entryCount,
      dataBytes: this.#engine.dataBytes,
      walBytes: this.#log?.sizeBytes ?? 0,
      durability: this.#options.durability,
    };
  }

  /** Ends writes in flight, closes the log with a clean mark, and gives the directory back. Idempotent. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#failProposals("the node shut down");
    this.#wakeAppliedWaiters();
    try {
      await this.#applying;
      await this.#log?.close();
      await this.#saving;
    } finally {
      await this.#lock.release();
    }
  }

  // ---- inside --------------------------------------------------------------------------------------------------------

  async #openLog(clusterId: ClusterId): Promise<void> {
    const { fileSystem, clock, random, logger, durability, syncIntervalMs, segmentBytesMax, recover } = this.#options;
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
      mustExist: this.#state.hasLog,
      replay: (record) => this.#learnEpoch(record),
      ...(recover && { recover }),
    });
    this.#log = log;
    this.#time.observe(new MasterTime(clock, log.lastTimestampMs).now());
    if (!this.#state.hasLog) await this.#save({ hasLog: true });
    // Applied once, applied for ever: what a frame says was applied had been committed.
    this.#commitSeq = toSeq(Math.min(log.recovery.appliedSeq, log.lastSeq));
    this.#apply();
    await this.#applying;
  }

  #logListener(): LogListener {
    return {
      written: (seq) => this.#tell((listener) => listener.written?.(seq)),
      kept: (seq) => this.#tell((listener) => listener.kept?.(seq)),
      dropped: (firstSeq, error) => {
        this.#history.cutAfter(toSeq(firstSeq - 1));
        if (this.#mastership && this.#mastership.firstSeq >= firstSeq) this.#mastership = undefined;
        this.#proposals.failFrom(
          firstSeq,
          () =>
            new StoreError("disk_full", "the disk has no room; nothing was changed; free some and try again", {
              cause: error,
            }),
        );
        this.#wakeAppliedWaiters();
        this.#tell((listener) => listener.dropped?.(firstSeq));
      },
      failed: (error) => this.#fail(error),
    };
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#failProposals("the disk failed");
    this.#wakeAppliedWaiters();
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

  #propose(changes: readonly Change[]): Promise<Position> {
    const log = this.#mustLog();
    const { epoch } = must(this.#mastership, "only a master proposes");
    const payload = encodeChanges(changes);
    if (this.#proposals.byteLength + payload.length > this.#options.pendingBytesMax && this.#proposals.size > 0) {
      throw new StoreError(
        "overloaded",
        `${this.#proposals.byteLength} bytes of writes are in flight, the limit (limits.max_pending_bytes) is ${this.#options.pendingBytesMax}; nothing was changed, try again shortly`,
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

  #learnEpoch(record: { readonly seq: Seq; readonly epoch: Epoch; readonly payload: Uint8Array }): void {
    if (record.epoch <= (this.#history.last?.epoch ?? 0)) return;
    const change = must(
      epochChangeOf(record.payload),
      `record ${record.seq} begins epoch ${record.epoch} without saying so`,
    );
    this.#history.push({ epoch: record.epoch, epochId: change.epochId, firstSeq: record.seq });
  }

  /** Applies up to the commit seq: what was proposed here from the proposals, all else from the log. */
  #apply(): void {
    if (this.#applying) return;
    const before = this.#applied.seq;
    while (this.#applied.seq < this.#commitSeq) {
      const proposal = this.#proposals.take(toSeq(this.#applied.seq + 1));
      if (proposal) {
        this.#applyProposal(proposal);
        continue;
      }
      const records = this.#mustLog().readTail(this.#applied.seq, APPLY_SLICE_BYTES);
      if (!records) {
        this.#applying = this.#applyFromDisk().finally(() => (this.#applying = undefined));
        break;
      }
      this.#applyRecords(records, false);
    }
    if (this.#applied.seq > before) this.#tellApplied();
  }

  async #applyFromDisk(): Promise<void> {
    try {
      while (this.#applied.seq < this.#commitSeq && !this.#closing) {
        this.#applyRecords(await this.#mustLog().read(this.#applied.seq, APPLY_SLICE_BYTES), true);
        this.#tellApplied();
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new WalError("io", String(error)));
    }
  }

  #applyRecords(records: Uint8Array, verify: boolean): void {
    assert(records.length > 0, `record ${this.#applied.seq + 1} is committed but not in the log`);
    for (const record of decodeRecords(records, verify)) {
      if (record.seq > this.#commitSeq) return;
      // A record that was proposed here is applied from its proposal, which has a caller waiting.
      const proposal = this.#proposals.take(record.seq);
      if (proposal) this.#applyProposal(proposal);
      else this.#applyChanges(record.seq, record.epoch, record.timestampMs, decodeChanges(record.payload));
    }
  }

  #applyProposal(proposal: Proposal): void {
    this.#applyChanges(proposal.position.seq, proposal.position.epoch, proposal.timestampMs, proposal.changes);
    proposal.done();
  }

  #applyChanges(seq: Seq, epoch: Epoch, timestampMs: EpochMs, changes: readonly Change[]): void {
    assert(seq === this.#applied.seq + 1, `record ${seq} is applied after ${this.#applied.seq}`);
    for (const change of changes) {
      switch (change.kind) {
        case "put":
        case "delete":
          this.#engine.apply(seq, timestampMs, change);
          break;
        case "member":
          this.#members.apply(change.member);
          this.#tell((listener) => listener.membersChanged?.());
          break;
        case "epoch":
          break;
      }
    }
    this.#applied = { epoch, seq };
    this.#appliedToken = undefined;
  }

  #tellApplied(): void {
    this.#log?.setAppliedSeq(this.#applied.seq);
    this.#wakeAppliedWaiters();
    this.#tell((listener) => listener.applied?.(this.#applied.seq));
  }

  async #rebuild(): Promise<void> {
    assert(this.compactSeq === 0, "the log reaches back to the first record");
    this.#engine.clear();
    this.#members.clear();
    this.#applied = ORIGIN;
    this.#appliedToken = undefined;
    this.#apply();
    await this.#applying;
    this.#tell((listener) => listener.membersChanged?.());
  }

  #wakeAppliedWaiters(): void {
    for (const wake of this.#appliedWaiters) wake();
  }

  /** Resolves when `seq` is applied; rejects when that can no longer be told. */
  #whenApplied(seq: Seq): Promise<void> {
    if (this.#applied.seq >= seq) return Promise.resolve();
    const position = this.#positionAt(seq);
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const lost = this.#closing || this.#failure || this.last.seq < seq;
        if (this.#applied.seq < seq && !lost) return;
        this.#appliedWaiters.delete(check);
        if (this.#applied.seq >= seq) resolve();
        else {
          reject(
            new StoreError(
              "outcome_unknown",
              `the write at seq ${seq} that this answer depends on was not committed; try again`,
              {
                position,
              },
            ),
          );
        }
      };
      this.#appliedWaiters.add(check);
    });
  }

  /** Resolves when something more was applied, or after `waitMs`; rejects with the signal's reason. */
  #nextApplied(waitMs: number, signal: AbortSignal): Promise<void> {
    const before = this.#applied.seq;
    return new Promise((resolve, reject) => {
      const end = (): void => {
        timer.cancel();
        this.#appliedWaiters.delete(check);
        signal.removeEventListener("abort", aborted);
      };
      const check = (): void => {
        if (this.#closing) {
          end();
          reject(closingError());
        } else if (this.#applied.seq !== before) {
          end();
          resolve();
        }
      };
      const aborted = (): void => {
        end();
        reject(signal.reason as Error);
      };
      const timer = this.#options.clock.after(waitMs, () => {
        end();
        resolve();
      });
      this.#appliedWaiters.add(check);
      signal.addEventListener("abort", aborted);
      if (signal.aborted) aborted();
    });
  }

  #positionAt(seq: Seq): Position {
    return { epoch: this.#history.epochAt(seq), seq };
  }

  #tokenOf(position: Position): Uint8Array {
    return encodeToken({
      clusterId: must(this.clusterId, "a token belongs to a cluster"),
      epochId: this.#history.at(position.seq)?.epochId ?? NO_EPOCH_ID,
      position,
    });
  }

  /** The place that a token names, when this node's history has it. */
  #placeOf(token: Uint8Array): Position {
    const { clusterId, epochId, position } = decodeToken(token);
    if (clusterId !== this.clusterId) {
      throw new StoreError(
        "lineage_lost",
        `the token is of cluster ${clusterId}, this node belongs to ${this.clusterId}; start without a token`,
      );
    }
    const own = this.#history.at(position.seq);
    const known = own && own.epoch === position.epoch && own.epochId === epochId;
    // A token of an epoch that this node has not heard of yet is merely ahead, until a newer epoch is seen to have won.
    const ahead = position.epoch > (this.#history.last?.epoch ?? 0);
    if (!known && !ahead && position.seq > 0) {
      throw new StoreError(
        "lineage_lost",
        `the history of the token (epoch ${position.epoch}, seq ${position.seq}) was lost in a failover; start again without a token`,
      );
    }
    return position;
  }

  #assertReadable(): void {
    const reason = this.#notReadyReason();
    if (reason) throw this.#closing ? closingError() : new StoreError("not_ready", reason);
  }

  #notReadyReason(): string {
    if (this.#closing) return "this node is shutting down";
    if (!this.clusterId) return "this node belongs to no cluster yet; it waits for a master";
    if (!this.#state.caughtUp) return "this node has never caught up with a master; ask another one, or wait";
    return "";
  }

  #assertWritable(): void {
    if (this.#closing) throw closingError();
    if (this.#failure) {
      throw new StoreError("failed", "the disk of this node failed; it takes no writes until it is started again", {
        cause: this.#failure,
      });
    }
    if (this.role !== "master") {
      throw new StoreError("not_master", "this node is a replica; send writes to the master");
    }
    if (!this.#mastership || this.#applied.seq < this.#mastership.firstSeq) {
      throw new StoreError("not_ready", "the mastership of this node has not begun yet; try again shortly");
    }
  }

  #mustLog(): Log {
    return must(this.#log, "a node of a cluster has a log");
  }

  #save(patch: Partial<NodeState>): Promise<void> {
    const saved = this.#saving.then(async () => {
      const next = { ...this.#state, ...patch };
      await writeNodeFile(this.#options.fileSystem, next);
      this.#state = next;
    });
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  #tell(call: (listener: StoreListener) => void): void {
    for (const listener of this.#listeners) call(listener);
  }
}

function closingError(): StoreError {
  return new StoreError("closing", "this node is shutting down; ask another one");
}
