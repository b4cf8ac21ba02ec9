/**
 * The committed state of a node, and the one loop that moves it: records are applied in the order of the log, up to the
 * commit seq, and whoever waits for that is woken.
 */
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { type Epoch, type EpochMs, ORIGIN, type Position, type Seq, seq as toSeq } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import { decodeRecords, RECORD_HEADER_BYTES } from "../wal/record.js";
import { ClusterState } from "./cluster-state.js";
import { type Change, decodeChanges, type RecordsChange } from "./change.js";
import type { Proposal, Proposals } from "./proposals.js";
import { closingError, StoreError } from "./store-error.js";

/** Where the applier finds committed records that were not proposed on this node. */
export interface RecordSource {
  readTail(afterSeq: Seq, maxBytes: number): Uint8Array | undefined;
  read(afterSeq: Seq, maxBytes: number): Promise<Uint8Array>;
}

export interface ApplierOptions {
  readonly engine: Engine;
  readonly proposals: Proposals;
  readonly clock: Clock;
  /** Makes engine and cluster state what the newest snapshot before the log's end says, and tells where that stands. */
  readonly restore: (cluster: ClusterState) => Promise<Position>;
  /** Called after the applied position moved, once for all that moved together. */
  readonly onApplied: (seq: Seq) => void;
  readonly onMembersChanged: () => void;
  readonly onSettingsChanged: () => void;
  /** Carries out a change of the record log. */
  readonly applyRecords: (change: RecordsChange, position: Position, timestampMs: EpochMs) => void;
  /** The log could not be read; nothing more is applied. */
  readonly onFailed: (error: Error) => void;
}

/** Bytes of log that are read and applied in one go. */
const SLICE_BYTES = 256 * 1024;

export class Applier {
  readonly engine: Engine;
  readonly cluster = new ClusterState();
  readonly #options: ApplierOptions;
  readonly #waiters = new Set<() => void>();
  #source: RecordSource | undefined;
  /** Invariant: applied ≤ commit. Neither goes back, but for `cutAfter`. */
  #applied: Position = ORIGIN;
  #commitSeq = toSeq(0);
  #appliedBytes = 0;
  /** The application of records that are no longer in memory, while it waits for the disk. */
  #reading: Promise<void> | undefined;
  /** Why nothing more will be applied. */
  #stopped: Error | undefined;

  constructor(options: ApplierOptions) {
    this.engine = options.engine;
    this.#options = options;
  }

  get applied(): Position {
    return this.#applied;
  }

  get commitSeq(): Seq {
    return this.#commitSeq;
  }

  /** Bytes of log that were applied since the process began. */
  get appliedBytes(): number {
    return this.#appliedBytes;
  }

  /** Connects the log, once there is one, and begins with what the newest snapshot holds. */
  async attach(source: RecordSource): Promise<void> {
    assert(!this.#source, "a log is attached once");
    this.#source = source;
    await this.#restore();
  }

  /** Records up to `seq` are committed. Goes on in the background when some must be read from the disk; see `settled`. */
  commit(seq: Seq): void {
    if (seq <= this.#commitSeq) return;
    this.#commitSeq = seq;
    this.#apply();
  }

  /** Resolves once nothing waits for the disk any more. */
  async settled(): Promise<void> {
    await this.#reading;
  }

  /** Forgets what lies after `seq`; when some of it was applied, builds the state anew from the log. */
  async cutAfter(seq: Seq): Promise<void> {
    await this.#reading;
    this.#commitSeq = toSeq(Math.min(this.#commitSeq, seq));
    if (this.#applied.seq <= seq) return;
    const commitSeq = this.#commitSeq;
    await this.#restore();
    this.commit(commitSeq);
    await this.#reading;
    this.#options.onSettingsChanged();
    this.#options.onMembersChanged();
  }

  /** Applies nothing more, and ends every wait with `reason`. */
  stop(reason: Error): void {
    this.#stopped ??= reason;
    this.wake();
  }

  /** Resolves when `seq` is applied; rejects when it turns out not to be in the log (`lastSeq`), or at `stop`. */
  whenApplied(seq: Seq, lastSeq: () => Seq): Promise<void> {
    if (this.#applied.seq >= seq) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const lost = lastSeq() < seq;
        if (this.#applied.seq < seq && !lost && !this.#stopped) return;
        this.#waiters.delete(check);
        if (this.#applied.seq >= seq) resolve();
        else
          reject(
            this.#stopped ??
              new StoreError(
                "outcome_unknown",
                `the write at seq ${seq} that this answer rests on was not committed; try again`,
              ),
          );
      };
      this.#waiters.add(check);
    });
  }

  /** Resolves when something more is applied, or after `waitMs`; rejects with the signal's reason, or at `stop`. */
  nextApplied(waitMs: number, signal: AbortSignal): Promise<void> {
    const before = this.#applied.seq;
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        timer.cancel();
        this.#waiters.delete(check);
        signal.removeEventListener("abort", aborted);
        act();
      };
      const check = (): void => {
        if (this.#stopped) settle(() => reject(closingError()));
        else if (this.#applied.seq !== before) settle(resolve);
      };
      const aborted = (): void => settle(() => reject(signal.reason as Error));
      const timer = this.#options.clock.after(waitMs, () => settle(resolve));
      this.#waiters.add(check);
      signal.addEventListener("abort", aborted);
      if (signal.aborted) aborted();
      else check();
    });
  }

  /** Lets every waiter look again, when the log's end has gone back. */
  wake(): void {
    for (const waiter of this.#waiters) waiter();
  }

  async #restore(): Promise<void> {
    this.#applied = await this.#options.restore(this.cluster);
    this.#commitSeq = this.#applied.seq;
  }

  #apply(): void {
    if (this.#reading || this.#stopped) return;
    const before = this.#applied.seq;
    while (this.#applied.seq < this.#commitSeq) {
      const proposal = this.#options.proposals.take(toSeq(this.#applied.seq + 1));
      if (proposal) {
        this.#applyProposal(proposal);
        continue;
      }
      const source = this.#source;
      assert(source, "what is committed is in a log");
      const records = source.readTail(this.#applied.seq, SLICE_BYTES);
      if (!records) {
        this.#reading = this.#applyFromDisk(source).finally(() => (this.#reading = undefined));
        break;
      }
      this.#applyRecords(records, false);
    }
    if (this.#applied.seq > before) this.#tell();
  }

  async #applyFromDisk(source: RecordSource): Promise<void> {
    try {
      while (this.#applied.seq < this.#commitSeq && !this.#stopped) {
        this.#applyRecords(await source.read(this.#applied.seq, SLICE_BYTES), true);
        this.#tell();
      }
    } catch (error) {
      this.#options.onFailed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #applyRecords(records: Uint8Array, verify: boolean): void {
    assert(records.length > 0, `record ${this.#applied.seq + 1} is committed but not in the log`);
    for (const record of decodeRecords(records, verify)) {
      if (record.seq > this.#commitSeq) return;
      // A record that was proposed here is applied from its proposal, which has a caller waiting.
      const proposal = this.#options.proposals.take(record.seq);
      if (proposal) this.#applyProposal(proposal);
      else {
        this.#applyChanges(record.seq, record.epoch, record.timestampMs, decodeChanges(record.payload));
        this.#appliedBytes += record.byteLength;
      }
    }
  }

  #applyProposal(proposal: Proposal): void {
    const { position, timestampMs, changes } = proposal;
    this.#applyChanges(position.seq, position.epoch, timestampMs, changes);
    this.#appliedBytes += proposal.byteLength + RECORD_HEADER_BYTES;
    proposal.done();
  }

  #applyChanges(seq: Seq, epoch: Epoch, timestampMs: EpochMs, changes: readonly Change[]): void {
    assert(seq === this.#applied.seq + 1, `record ${seq} is applied after ${this.#applied.seq}`);
    let membersChanged = false;
    let settingsChanged = false;
    for (const change of changes) {
      switch (change.kind) {
        case "put":
        case "delete":
          this.engine.apply(seq, timestampMs, change);
          break;
        case "member":
          this.cluster.applyMember(change.member);
          membersChanged = true;
          break;
        case "settings":
          this.cluster.applySettings(change.settings);
          settingsChanged = true;
          break;
        case "produce":
        case "truncate-records":
          this.#options.applyRecords(change, { epoch, seq }, timestampMs);
          break;
        case "epoch":
          if (this.cluster.applyEpoch(change)) membersChanged = true;
          break;
      }
    }
    this.#applied = { epoch, seq };
    if (settingsChanged) this.#options.onSettingsChanged();
    if (membersChanged) this.#options.onMembersChanged();
  }

  #tell(): void {
    this.wake();
    this.#options.onApplied(this.#applied.seq);
  }
}
