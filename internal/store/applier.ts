/**
 * The committed state of a node, and the one loop that moves it: records are applied in the order of the log, up to the
 * commit seq, and whoever waits for that is woken.
 */
import { assert, unreachable } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import { type Epoch, type EpochMs, ORIGIN, type Position, type Seq, seq as toSeq } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import { EntryRun } from "../engine/entry-run.js";
import { RECORD_HEADER_BYTES, RecordRun } from "../wal/record.js";
import { type Change, decodeChanges, LonePut, type RecordsChange, type Removal } from "./change.js";
import { ClusterState } from "./cluster-state.js";
import { HiddenRemoval } from "./hidden-removal.js";
import type { Proposal, Proposals } from "./proposals.js";
import { RetryTable } from "./retries.js";
import type { StateCheck } from "./store-types.js";
import { turn } from "./turn.js";

/** Where the applier finds committed records that were not proposed on this node. */
export interface RecordSource {
  readTail(afterSeq: Seq, maxBytes: number): Uint8Array | undefined;
  read(afterSeq: Seq, maxBytes: number): Promise<Uint8Array>;
  visit(afterSeq: Seq, upToSeq: Seq, bytesMax: number, show: (records: Uint8Array) => void): Promise<void>;
}

export interface ApplierOptions {
  readonly engine: Engine;
  readonly proposals: Proposals;
  readonly clock: Clock;
  /** Makes engine, cluster state and what is remembered what the newest snapshot before the log's end says, and tells where that stands. */
  readonly restore: (cluster: ClusterState, retries: RetryTable) => Promise<Position>;
  /** Called after the applied position moved, once for all that moved together. */
  readonly onApplied: (seq: Seq) => void;
  readonly onMembersChanged: () => void;
  readonly onSettingsChanged: () => void;
  /** Exactly what `expect` waited for is applied. */
  readonly onExpected: (check: StateCheck) => void;
  /** All that deletions of ranges have hidden is removed, which took a while. */
  readonly onSettled: () => void;
  /** Carries out a change of the record log. */
  readonly applyRecords: (change: RecordsChange, position: Position, timestampMs: EpochMs) => void;
  /** The log could not be read; nothing more is applied. */
  readonly onFailed: (error: Error) => void;
}

/** How long somebody waits at most, or until when. */
export interface Patience {
  readonly signal?: AbortSignal;
  readonly waitMs?: number;
}

/** Bytes of log that are applied in one turn of the event loop: some two milliseconds where records are small. */
const SLICE_BYTES = 256 * 1024;
/**
 * The same while the log brings more than is applied: to keep what comes, and to say so, goes first, since others wait for that. What
 * is kept is applied in the pauses that are left.
 */
const SMALL_SLICE_BYTES = 32 * 1024;
const NO_BYTES = new Uint8Array(0);
const FAR_BEHIND_RECORDS = 10_000;
/** What is taken at once from a log that must be read from the disk. */
const READ_BYTES = 1024 * 1024;
/** Of a log that is read from the disk while nobody is served yet. */
const LOADED_SLICE_BYTES = 8 * 1024 * 1024;

export class Applier {
  readonly engine: Engine;
  readonly cluster = new ClusterState();
  readonly retries = new RetryTable();
  readonly #options: ApplierOptions;
  readonly #waiters = new Set<() => void>();
  #source: RecordSource | undefined;
  /** Invariant: applied ≤ commit. Neither goes back, but for `cutAfter`. */
  #applied: Position = ORIGIN;
  #commitSeq = toSeq(0);
  #appliedBytes = 0;
  /** The application of records that were not proposed here, while it goes on. */
  #applying: Promise<void> | undefined;
  readonly #forks: Position[] = [];
  #isRebuilding = false;
  /** From a restored snapshot on, until `endLoad`. */
  #isLoading = false;
  /** Somebody waits for the load to end; what is still to be applied waits for that. */
  #isEndDue = false;
  readonly #hidden: HiddenRemoval;
  #expected: StateCheck | undefined;
  #removed = { expire: 0, evict: 0 };
  /** Why nothing more will be applied. */
  #stopped: Error | undefined;
  readonly #lonePut = new LonePut();
  /** Puts that are carried out together. */
  readonly #puts = new EntryRun();
  #putsEpoch = ORIGIN.epoch;

  constructor(options: ApplierOptions) {
    this.engine = options.engine;
    this.#options = options;
    const { engine, clock } = options;
    this.#hidden = new HiddenRemoval({ engine, clock, onSettled: () => this.#noteSettled() });
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

  /** Keys that were removed by themselves since `forgetRemoved`. */
  get removed(): { readonly expire: number; readonly evict: number } {
    return this.#removed;
  }

  forgetRemoved(): void {
    this.#removed = { expire: 0, evict: 0 };
  }

  /** Where applied records were cut off, in the order in which it happened: who had seen more has seen what is no history. */
  get forks(): readonly Position[] {
    return this.#forks;
  }

  /** Applied records were cut off, and the state before them is being made anew: nothing of it may be shown. */
  get isRebuilding(): boolean {
    return this.#isRebuilding;
  }

  /** Connects the log, once there is one, and begins with what the newest snapshot holds. No key is in its order before `endLoad`. */
  async attach(source: RecordSource): Promise<void> {
    assert(!this.#source, "a log is attached once");
    this.#source = source;
    await this.#restore();
  }

  /** Puts the keys into their order, once what is known to be committed is applied; others have their turn meanwhile. */
  async endLoad(): Promise<void> {
    while (this.#applying) await this.#applying;
    await this.#orderNow();
  }

  /**
   * The same without waiting for what is committed, which may never be all: that goes on afterwards. Nothing to do where no load
   * was begun, nor while the state is made anew, which ends with an order of its own. Rejects at `stop`.
   */
  async endLoadEarly(): Promise<void> {
    if (!this.#isLoading || this.#isRebuilding) return;
    this.#isEndDue = true;
    try {
      while (this.#applying) await this.#applying;
    } finally {
      this.#isEndDue = false;
    }
    // Meanwhile a cut may have begun it anew, which it ends itself, or somebody else may have ended it.
    if (this.#isRebuilding) return;
    if (this.#isLoading) await this.#orderNow();
    else this.#apply();
    if (this.#stopped) throw this.#stopped;
  }

  async #orderNow(): Promise<void> {
    // What is committed from now on waits.
    this.#applying = this.#orderKeys().finally(() => {
      this.#isLoading = false;
      this.#applying = undefined;
      // At once: whoever waits until all is applied must not find nothing under way in between.
      this.#apply();
    });
    await this.#applying;
  }

  /** Records up to `seq` are committed. Where they are many, and were not proposed here, it goes on in later turns of the event loop; see `settled`. */
  commit(seq: Seq): void {
    if (seq <= this.#commitSeq) return;
    this.#commitSeq = seq;
    this.#apply();
  }

  /** Resolves once all that is committed is applied, or nothing will be any more. */
  async settled(): Promise<void> {
    // Where a load ends early, the rest is applied after it.
    while (this.#applying || this.#isEndDue) await (this.#applying ?? turn());
  }

  /** Forgets what lies after `fork`; when some of it was applied, builds the state anew from the log. */
  async cutAfter(fork: Position): Promise<void> {
    this.#expected = undefined;
    if (this.#applied.seq > fork.seq) {
      // Before anything else: who reads on in the log must learn that it is no longer the one that it was.
      this.#isRebuilding = true;
      this.#forks.push(fork);
    }
    this.wake();
    // Keys that are just put into their order must not go meanwhile.
    while (this.#applying) await this.#applying;
    this.#commitSeq = toSeq(Math.min(this.#commitSeq, fork.seq));
    if (this.#isRebuilding) this.#hidden.stop();
    if (!this.#isRebuilding) return;
    const commitSeq = this.#commitSeq;
    await this.#restore();
    this.commit(commitSeq);
    await this.endLoad();
    this.#isRebuilding = false;
    this.wake();
    this.#options.onSettingsChanged();
    this.#options.onMembersChanged();
  }

  /** Applies nothing more, and ends every wait with `reason`. */
  stop(reason: Error): void {
    this.#stopped ??= reason;
    this.#hidden.stop();
    this.wake();
  }

  /**
   * Says what the state must be at a seq: `onExpected` is called when exactly that is applied, now or later; not when it has
   * passed, and not when a mastership begins before it, whose history may be another one.
   */
  expect(check: StateCheck): void {
    if (this.#isRebuilding || this.#applied.seq > check.seq) return;
    if (this.#applied.seq === check.seq) this.#options.onExpected(check);
    // One that is waited for comes first; were it replaced by each that follows, a busy node would never be compared.
    else this.#expected ??= check;
  }

  /**
   * Resolves to true once `isReached` says so, which is asked now and whenever more was applied; to false after `waitMs`.
   * Rejects with what `isReached` throws, with the signal's reason, or at `stop`.
   */
  until(isReached: () => boolean, { signal, waitMs }: Patience): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined = undefined;
      const settle = (act: () => void): void => {
        timer?.cancel();
        this.#waiters.delete(check);
        signal?.removeEventListener("abort", aborted);
        act();
      };
      const check = (): void => {
        try {
          if (!this.#isRebuilding && isReached()) settle(() => resolve(true));
          else if (this.#stopped) throw this.#stopped;
        } catch (error) {
          settle(() => reject(error instanceof Error ? error : new Error(String(error))));
        }
      };
      const aborted = (): void => settle(() => reject(signal?.reason as Error));
      this.#waiters.add(check);
      signal?.addEventListener("abort", aborted);
      if (waitMs !== undefined) timer = this.#options.clock.after(waitMs, () => settle(() => resolve(false)));
      if (signal?.aborted) aborted();
      else check();
    });
  }

  /** Resolves when all that deletions of ranges have hidden is removed; rejects as `until`. */
  async whenEngineSettled(): Promise<void> {
    await this.until(() => this.engine.isSettled, {});
  }

  /** Resolves when something more is applied, or was cut off, or after `waitMs`; rejects as `until`. */
  async nextApplied(waitMs: number, signal: AbortSignal): Promise<void> {
    const before = this.#applied.seq;
    const forks = this.#forks.length;
    await this.until(() => this.#applied.seq !== before || this.#forks.length > forks, { waitMs, signal });
  }

  /** Why nothing more is applied, once that is so. */
  get stopReason(): Error | undefined {
    return this.#stopped;
  }

  /** Calls back whenever waiters look again: more is applied, some was cut off, the state is there again, or all ends. Gives what ends it. */
  onMoved(callback: () => void): () => void {
    this.#waiters.add(callback);
    return () => void this.#waiters.delete(callback);
  }

  /** Lets every waiter look again, when the log's end has gone back. */
  wake(): void {
    for (const waiter of this.#waiters) waiter();
  }

  async #restore(): Promise<void> {
    this.#isLoading = true;
    this.#applied = await this.#options.restore(this.cluster, this.retries);
    while (this.engine.indexRestored()) await turn();
    this.#commitSeq = this.#applied.seq;
  }

  #apply(): void {
    if (this.#applying || this.#stopped) return;
    const before = this.#applied.seq;
    let isFirst = true;
    while (this.#applied.seq < this.#commitSeq) {
      const proposal = this.#options.proposals.take(toSeq(this.#applied.seq + 1));
      if (proposal) {
        this.#applyProposal(proposal);
        continue;
      }
      const source = this.#source;
      assert(source, "what is committed is in a log");
      const run = isFirst ? this.#runInMemory(source) : undefined;
      if (!run) {
        this.#applying = this.#applyInTurns(source);
        break;
      }
      isFirst = false;
      this.#applyRun(run, SLICE_BYTES);
    }
    if (this.#applied.seq > before) this.#tell();
  }

  /** A slice in each turn of the event loop: a replica that catches up has megabytes to apply, and serves reads meanwhile. */
  async #applyInTurns(source: RecordSource): Promise<void> {
    /** Records that were read, of which some are still to be applied. */
    let run: RecordRun | undefined;
    let commitSeq = this.#commitSeq;
    try {
      for (;;) {
        await turn();
        if (this.#applied.seq >= this.#commitSeq || this.#stopped || this.#isEndDue) return;
        const isFarBehind = this.#commitSeq - this.#applied.seq > FAR_BEHIND_RECORDS;
        const sliceBytes = isFarBehind && this.#commitSeq > commitSeq ? SMALL_SLICE_BYTES : SLICE_BYTES;
        commitSeq = this.#commitSeq;
        run ??= this.#runInMemory(source);
        if (!run && this.#isLoading) await this.#applyAllOf(source);
        else {
          run ??= this.#newRun(await source.read(this.#applied.seq, READ_BYTES), "chains");
          if (this.#applyRun(run, sliceBytes)) run = undefined;
        }
        this.#tell();
      }
    } catch (error) {
      this.#options.onFailed(error instanceof Error ? error : new Error(String(error)));
    } finally {
      // At once, and not when the promise settles: what is committed between the two would wait for ever.
      this.#applying = undefined;
    }
  }

  #runInMemory(source: RecordSource): RecordRun | undefined {
    const records = source.readTail(this.#applied.seq, SLICE_BYTES);
    return records && this.#newRun(records, "nothing");
  }

  #newRun(records: Uint8Array, checked: "chains" | "nothing"): RecordRun {
    assert(records.length > 0, `record ${this.#applied.seq + 1} is committed but not in the log`);
    return new RecordRun(records, checked);
  }

  /** From the disk, while nobody is served yet. */
  async #applyAllOf(source: RecordSource): Promise<void> {
    const before = this.#applied.seq;
    await source.visit(before, this.#commitSeq, LOADED_SLICE_BYTES, (records) => {
      if (!this.#stopped) this.#applyRun(this.#newRun(records, "chains"), Infinity);
    });
    assert(this.#stopped || this.#applied.seq > before, `record ${before + 1} is committed but not in the log`);
  }

  async #orderKeys(): Promise<void> {
    // Not a timer of the clock, which would not keep a process alive that does nothing else yet.
    while (!this.#stopped && this.engine.endLoad()) await turn();
  }

  /** Applies up to some `bytesMax` bytes of records, as far as they are committed; whether that is all of them. */
  #applyRun(run: RecordRun, bytesMax: number): boolean {
    const endBytes = this.#appliedBytes + bytesMax;
    const [put, puts] = [this.#lonePut, this.#puts];
    puts.begin(run.bytes);
    try {
      // What is gathered counts as applied here already.
      for (let applied = this.#applied.seq; applied < this.#commitSeq; applied = run.seq) {
        if (this.#appliedBytes >= endBytes) return false;
        if (!run.next()) return true;
        const { seq, epoch, timestampMs } = run;
        // A record that was proposed here is applied from its proposal, which has a caller waiting.
        const proposal = this.#options.proposals.take(seq);
        if (proposal) {
          this.#applyPuts();
          this.#applyProposal(proposal);
          continue;
        }
        // Most records are one put each: those are carried out where they lie, many at a time. One at which the state is to be
        // compared stands by itself, since it is compared before anything else is carried out.
        if (this.#expected?.seq !== seq && put.read(run.bytes, run.payloadStart, run.payloadEnd)) {
          // All that are gathered are of one epoch: a record that begins one is no put.
          this.#putsEpoch = epoch;
          puts.add(put, seq, seq, timestampMs);
          if (puts.isFull) this.#applyPuts();
        } else {
          this.#applyPuts();
          this.#applyChanges(seq, epoch, timestampMs, decodeChanges(run.record.payload));
        }
        this.#appliedBytes += run.byteLength;
      }
    } finally {
      // Also those before a record that is damaged.
      this.#applyPuts();
      // The bytes are not held on to.
      puts.begin(NO_BYTES);
    }
    return true;
  }

  /** Applies the puts that were gathered. */
  #applyPuts(): void {
    const puts = this.#puts;
    const { count } = puts;
    if (count === 0) return;
    puts.moveTo(count - 1);
    const last = puts.modSeq;
    this.#assertNext(toSeq(last - count + 1));
    try {
      this.engine.applyPuts(puts);
    } finally {
      puts.begin(puts.keyIn);
    }
    this.#applied = { epoch: this.#putsEpoch, seq: last };
  }

  #applyProposal(proposal: Proposal): void {
    const { position, timestampMs, changes } = proposal;
    this.#applyChanges(position.seq, position.epoch, timestampMs, changes);
    this.#appliedBytes += proposal.byteLength + RECORD_HEADER_BYTES;
    proposal.done();
  }

  #assertNext(seq: Seq): void {
    if (seq !== this.#applied.seq + 1) assert(false, `record ${seq} is applied after ${this.#applied.seq}`);
  }

  #applyChanges(seq: Seq, epoch: Epoch, timestampMs: EpochMs, changes: readonly Change[]): void {
    this.#assertNext(seq);
    let membersChanged = false;
    let settingsChanged = false;
    for (let at = 0; at < changes.length; at++) {
      const change = changes[at]!;
      switch (change.kind) {
        case "put":
        case "delete":
        case "delete-range":
          this.engine.apply(seq, timestampMs, change);
          break;
        case "expire":
        case "evict": {
          const removals = removalsFrom(changes, at, change.kind);
          at += removals.length - 1;
          // One that has changed since stays.
          this.#removed[change.kind] += this.engine.applyRemovals(seq, timestampMs, removals);
          break;
        }
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
        case "remember":
        case "forget":
          this.retries.apply(change, seq, timestampMs);
          break;
        case "epoch":
          if (this.cluster.applyEpoch(change)) membersChanged = true;
          this.#expected = undefined;
          break;
        default:
          unreachable(change);
      }
    }
    this.#applied = { epoch, seq };
    if (this.#expected?.seq === seq) {
      const check = this.#expected;
      this.#expected = undefined;
      // A state can be compared only when nothing is hidden in it.
      this.#hidden.look();
      this.#options.onExpected(check);
    }
    if (settingsChanged) this.#options.onSettingsChanged();
    if (membersChanged) this.#options.onMembersChanged();
  }

  #noteSettled(): void {
    this.wake();
    this.#options.onSettled();
  }

  #tell(): void {
    if (!this.#stopped) this.#hidden.look();
    this.wake();
    this.#options.onApplied(this.#applied.seq);
  }
}

/** The removals of one kind that stand together in a record, from a place on. */
function removalsFrom(changes: readonly Change[], from: number, kind: Removal["kind"]): Removal[] {
  const removals: Removal[] = [];
  for (let change = changes[from]; change?.kind === kind; change = changes[from + removals.length])
    removals.push(change);
  return removals;
}
