/**
 * The one loop that writes a log. Everything that gathers in the tail while a write is in flight becomes the next group:
 * one write, and at most one sync. Rotation, frames that prove a sync, and exclusive acts take their turn in the same loop, so
 * that no two of them ever meet.
 *
 * A failed sync, and any failed write that is not for lack of room, ends the loop for good: after it the page cache
 * cannot be believed, so nothing more is taken or kept.
 */
import { assert, must } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { seq, type Seq } from "../base/position.js";
import type { FileSystemError } from "./file-system.js";
import { FrameGroup, type FrameFields } from "./frame-group.js";
import { FLAG_CLEAN_SHUTDOWN, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES } from "./frame.js";
import { Quickness } from "./quickness.js";
import { logEndAt, type LogEnd } from "./record.js";
import { SEGMENT_HEADER_BYTES } from "./segment-header.js";
import type { Segments } from "./segments.js";
import { IdleTimer, SyncPolicy, type Durability } from "./sync-policy.js";
import type { Run, Tail } from "./tail.js";
import { isDiskFull, WalError, walErrorOf } from "./wal-error.js";

/** A group ends once it has this many bytes, whatever else waits. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024;
/** Zeros are not written ahead of larger groups: these cost more than the metadata that the zeros save. */
const PREALLOCATED_GROUP_BYTES_MAX = 32 * 1024;
/** What is larger is not written while the thread stands still. */
const AT_ONCE_GROUP_BYTES_MAX = 64 * 1024;
/** A log without writes for this long proves its last sync by a frame of its own. */
const IDLE_MS = 50;
const NO_RECORDS = Buffer.alloc(0);

/** What the loop tells the log. */
export interface WriterListener {
  written(seq: Seq): void;
  kept(seq: Seq): void;
  /** The records after `end` were not written and are forgotten. */
  dropped(end: LogEnd, error: WalError): void;
  failed(error: WalError): void;
}

/** Told what the loop costs, for those who measure it. Called from within the loop: be short, and do not throw. */
export interface LogObserver {
  /** One write has returned, of so many records in so many bytes. */
  wrote(records: number, bytes: number): void;
  /** A sync of the file that is written to has returned, after so long. */
  synced(seconds: number): void;
  /** A sync has failed, which is the end of the log. */
  syncFailed(): void;
  /** Records were not written for lack of room. */
  refused(): void;
}

export interface WriterOptions {
  readonly segments: Segments;
  readonly tail: Tail;
  readonly clock: Clock;
  readonly durability: Durability;
  readonly syncIntervalMs: number;
  readonly segmentBytesMax: number;
  /** Everything up to here is written and synced. */
  readonly end: LogEnd;
  readonly appliedSeq: Seq;
  /** The last frame is the mark of an orderly close. */
  readonly clean: boolean;
  readonly listener: WriterListener;
  readonly observer?: LogObserver;
  /** See `LogOptions`. */
  readonly readCount?: () => number;
}

interface Waiter {
  readonly seq: Seq;
  readonly resolve: () => void;
  readonly reject: (error: WalError) => void;
}

interface Act {
  readonly run: () => Promise<void>;
  readonly reject: (error: WalError) => void;
}

export class Writer {
  readonly #options: WriterOptions;
  readonly #segments: Segments;
  readonly #tail: Tail;
  readonly #listener: WriterListener;
  readonly #policy: SyncPolicy;
  readonly #idle: IdleTimer;
  readonly #group = new FrameGroup();
  readonly #writes: Quickness;
  readonly #syncs: Quickness;
  /** As it was when the last sync began. */
  #readCount = 0;

  #written: LogEnd;
  #syncedSeq: Seq;
  #keptSeq: Seq;
  #appliedSeq: Seq;
  /** What the latest frame says. */
  #carried: FrameFields;
  #endsClean: boolean;

  #running = false;
  /** The loop begins then. */
  #beginning: NodeJS.Immediate | undefined;
  /** In this turn of the event loop the thread has waited for the disk. */
  #hasStoodStill = false;
  #stopped = false;
  #failure: WalError | undefined;
  #proofDue = false;
  /** Callers of `flush`, in the order of their seqs. */
  #waiters: Waiter[] = [];
  #acts: Act[] = [];
  /** Acts that run between two groups, once what was in the tail when they were asked for is written or dropped. */
  #rotations: (Act & { readonly after: number })[] = [];

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#segments = options.segments;
    this.#tail = options.tail;
    this.#listener = options.listener;
    this.#written = options.end;
    this.#syncedSeq = options.end.seq;
    this.#keptSeq = options.end.seq;
    this.#appliedSeq = options.appliedSeq;
    this.#carried = { flags: 0, syncedSeq: options.end.seq, appliedSeq: options.appliedSeq };
    this.#endsClean = options.clean;
    this.#writes = new Quickness(options.clock);
    this.#syncs = new Quickness(options.clock);
    this.#policy = new SyncPolicy({ ...options, due: () => this.wake() });
    this.#idle = new IdleTimer(options.clock, IDLE_MS, () => {
      this.#proofDue = this.#hasNews();
      if (this.#proofDue) this.wake();
    });
  }

  get written(): LogEnd {
    return this.#written;
  }

  get syncedSeq(): Seq {
    return this.#syncedSeq;
  }

  get keptSeq(): Seq {
    return this.#keptSeq;
  }

  get appliedSeq(): Seq {
    return this.#appliedSeq;
  }

  get failure(): WalError | undefined {
    return this.#failure;
  }

  setAppliedSeq(appliedSeq: Seq): void {
    if (appliedSeq <= this.#appliedSeq) return;
    this.#appliedSeq = appliedSeq;
    if (!this.#stopped) this.#idle.busy();
  }

  /** There is something to do. What else comes in this turn of the event loop is gathered with it. */
  wake(): void {
    if (this.#running || this.#stopped) return;
    this.#running = true;
    this.#beginning = setImmediate(this.#begin);
  }

  /** Nothing else comes in this turn of the event loop: what there is to do need not wait for its end. Whether something waited for that. */
  endTurn(): boolean {
    if (!this.#beginning) return false;
    clearImmediate(this.#beginning);
    this.#begin();
    return true;
  }

  readonly #begin = (): void => {
    this.#beginning = undefined;
    this.#hasStoodStill = false;
    void this.#run();
  };

  /** Resolves when everything in the tail is synced. */
  flush(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#syncedSeq >= this.#tail.lastSeq) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiters.push({ seq: seq(this.#tail.lastSeq), resolve, reject });
      this.wake();
    });
  }

  /** Runs `act` once everything in the tail is written, with nothing else going on. */
  exclusive(act: () => Promise<void>): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#acts.push({ run: () => act().then(resolve, reject), reject });
      this.wake();
    });
  }

  /**
   * Begins a new segment after what is in the tail now, unless the last one is empty; gives up where the disk has no room
   * for one. It does not wait for a pause in the writing, which may never come.
   */
  rotate(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const after = this.#tail.lastSeq;
      const run = (): Promise<void> =>
        this.#tryRotate().then(resolve, (error: unknown) => {
          // The old segment's sync or the new one's name is in doubt, and nothing may be written to either.
          this.fail(error);
          reject(must(this.#failure, "the loop has failed"));
        });
      this.#rotations.push({ after, run, reject });
      this.wake();
    });
  }

  /** After an exclusive act has cut the log: it ends at `end`, synced. */
  cutTo(end: LogEnd): void {
    this.#written = end;
    this.#appliedSeq = seq(Math.min(this.#appliedSeq, end.seq));
    this.#carried = { flags: 0, syncedSeq: 0, appliedSeq: 0 };
    this.#endsClean = false;
    this.#syncedSeq = this.#keptSeq = end.seq;
    this.#policy.synced();
    this.#idle.busy();
  }

  /** In an exclusive act: marks the log as closed in order, and gives up what is preallocated. */
  async markClean(): Promise<void> {
    if (!this.#endsClean || this.#hasNews()) await this.#tryEmptyFrame(FLAG_CLEAN_SHUTDOWN);
    await this.#segments.active.trimAndSync();
  }

  /** Ends the loop; nothing is written after it. */
  stop(): void {
    this.#stopped = true;
    this.#policy.close();
    this.#idle.close();
  }

  /** Ends the loop for good. */
  fail(error: unknown): void {
    if (this.#failure) return;
    const reason = error instanceof Error ? error.message : String(error);
    this.#failure = new WalError("failed", `the log can no longer be written to: ${reason}`, { cause: error });
    this.stop();
    for (const { reject } of [...this.#waiters, ...this.#rotations, ...this.#acts]) reject(this.#failure);
    this.#waiters = [];
    this.#rotations = [];
    this.#acts = [];
    this.#listener.failed(this.#failure);
  }

  async #run(): Promise<void> {
    try {
      while (!this.#stopped) {
        if (this.#isSyncDue()) await this.#sync();
        else if (this.#isRotationDue()) await must(this.#rotations.shift(), "a rotation waits").run();
        else if (this.#hasStoodStill && this.#tail.lastSeq > this.#written.seq) await this.#nextTurn();
        else if (this.#tail.lastSeq > this.#written.seq) await this.#writeGroup();
        else if (this.#acts.length > 0) await must(this.#acts.shift(), "an act waits").run();
        else if (this.#proofDue) await this.#writeProof();
        else break;
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.#running = false;
    }
  }

  /** Others have had no turn since the last group was begun, and what comes in it may go out together. */
  #nextTurn(): Promise<void> {
    this.#hasStoodStill = false;
    return new Promise((resolve) => setImmediate(resolve));
  }

  #isRotationDue(): boolean {
    const first = this.#rotations[0];
    return first !== undefined && Math.min(first.after, this.#tail.lastSeq) <= this.#written.seq;
  }

  #isSyncDue(): boolean {
    if (this.#syncedSeq === this.#written.seq) return false;
    const first = this.#waiters[0];
    return this.#policy.isDue || (first !== undefined && first.seq <= this.#written.seq);
  }

  async #sync(): Promise<void> {
    const { active } = this.#segments;
    const { clock, observer } = this.#options;
    const hasReaders = this.#hasReaders();
    const isWaitedFor = this.#options.durability === "always";
    const atOnce = isWaitedFor && this.#isSmall && this.#syncs.isQuick && !hasReaders;
    const startMs = clock.monotonicMs();
    try {
      await this.#onDisk(this.#syncs, atOnce, () => active.datasync(atOnce));
    } catch (error) {
      observer?.syncFailed();
      throw error;
    }
    observer?.synced((clock.monotonicMs() - startMs) / 1000);
    this.#noteSynced();
    if (this.#group.byteLength <= PREALLOCATED_GROUP_BYTES_MAX) await active.preallocate(this.#options.segmentBytesMax);
  }

  /** The way of the group through another thread may take longer than the disk itself. */
  get #isSmall(): boolean {
    return this.#group.byteLength <= AT_ONCE_GROUP_BYTES_MAX;
  }

  /** Notes how long the thread stands still for a call that is made `atOnce`. */
  #onDisk(calls: Quickness, atOnce: boolean, call: () => Promise<void>): Promise<void> {
    const { clock } = this.#options;
    const startMs = clock.monotonicMs();
    const called = call();
    if (atOnce) calls.stoodStill(clock.monotonicMs() - startMs);
    this.#hasStoodStill = atOnce;
    return called;
  }

  /** Somebody has read since the last sync, and goes on doing so while another thread syncs. */
  #hasReaders(): boolean {
    const before = this.#readCount;
    this.#readCount = this.#options.readCount?.() ?? 0;
    return this.#readCount !== before;
  }

  /** Everything written is synced. */
  #noteSynced(): void {
    this.#syncedSeq = this.#written.seq;
    this.#policy.synced();
    this.#noteKept();
    while (this.#waiters.length > 0 && this.#waiters[0]!.seq <= this.#syncedSeq) this.#waiters.shift()!.resolve();
    this.#idle.busy();
  }

  #noteKept(): void {
    const kept = this.#policy.keptSeq(this.#written.seq, this.#syncedSeq);
    if (kept === this.#keptSeq) return;
    this.#keptSeq = kept;
    this.#listener.kept(kept);
  }

  async #writeGroup(): Promise<void> {
    const fields = this.#frameFields(0);
    const last = this.#fillGroup(fields);
    if (!last) return this.#rotate();
    const { active } = this.#segments;
    const end = logEndAt(last.bytes, last.lastOffset);
    const atOnce = this.#isSmall && this.#writes.isQuick;
    try {
      await this.#onDisk(this.#writes, atOnce, () => active.append(this.#group, end.seq, atOnce));
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      // Part of the group may stand there already; and it must be gone for sure before anything else is written over it.
      await active.cut(active.end, active.lastSeq);
      this.#noteSynced();
      return this.#drop(error);
    }
    this.#options.observer?.wrote(end.seq - this.#written.seq, this.#group.byteLength);
    this.#written = end;
    this.#noteFrame(fields);
    this.#tail.trim(end.seq);
    this.#policy.wrote();
    this.#idle.busy();
    this.#listener.written(end.seq);
    this.#noteKept();
  }

  /** Makes the frames of the next group; the last run of records in it, or undefined when the segment has no room for any. */
  #fillGroup(fields: FrameFields): Run | undefined {
    const { active } = this.#segments;
    const { segmentBytesMax } = this.#options;
    const isEmpty = active.lastSeq < active.firstSeq;
    const bodyBytesMax = Math.min(FRAME_BODY_BYTES_MAX, segmentBytesMax - SEGMENT_HEADER_BYTES - FRAME_HEADER_BYTES);
    let last: Run | undefined;
    this.#group.begin(active.saltCrc, active.end);
    for (let next = this.#written.seq + 1; next <= this.#tail.lastSeq && this.#group.byteLength < GROUP_BYTES_MAX;) {
      const run = this.#tail.run(next, this.#tail.lastSeq, bodyBytesMax);
      const end = active.end + this.#group.byteLength + FRAME_HEADER_BYTES + run.bytes.length;
      // A record that is larger than a segment gets one of its own.
      if (end > segmentBytesMax && !(isEmpty && !last)) break;
      this.#group.add(run.bytes, run.firstSeq, run.lastSeq - run.firstSeq + 1, fields);
      last = run;
      next = run.lastSeq + 1;
    }
    return last;
  }

  #frameFields(flags: number): FrameFields {
    // A record can be committed by others before this node has written it; a frame speaks of what stands before it.
    return { flags, syncedSeq: this.#syncedSeq, appliedSeq: Math.min(this.#appliedSeq, this.#written.seq) };
  }

  async #rotate(): Promise<void> {
    try {
      await this.#beginSegment();
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      this.#drop(error);
    }
  }

  async #tryRotate(): Promise<void> {
    const { active } = this.#segments;
    if (active.lastSeq < active.firstSeq) return;
    try {
      await this.#beginSegment();
    } catch (error) {
      // Nobody's write depends on it.
      if (!isDiskFull(error)) throw error;
    }
  }

  async #beginSegment(): Promise<void> {
    await this.#segments.active.trimAndSync();
    this.#noteSynced();
    await this.#segments.begin(this.#written);
    // The segments before may go, and what their frames said with them.
    this.#carried = { flags: 0, syncedSeq: 0, appliedSeq: 0 };
    this.#endsClean = false;
  }

  /** Forgets what could not be written for lack of room. */
  #drop(cause: FileSystemError): void {
    const error = walErrorOf(cause, "writing records");
    this.#options.observer?.refused();
    this.#tail.dropAfter(this.#written.seq);
    const refused = this.#waiters.filter((waiter) => waiter.seq > this.#written.seq);
    this.#waiters = this.#waiters.filter((waiter) => waiter.seq <= this.#written.seq);
    for (const { reject } of refused) reject(error);
    this.#listener.dropped(this.#written, error);
  }

  /** Whether the frames on the disk say less than is true. */
  #hasNews(): boolean {
    return (
      this.#syncedSeq > this.#carried.syncedSeq ||
      Math.min(this.#appliedSeq, this.#written.seq) > this.#carried.appliedSeq
    );
  }

  async #writeProof(): Promise<void> {
    this.#proofDue = false;
    if (this.#hasNews()) await this.#tryEmptyFrame(0);
  }

  /** Writes a frame without records, if there is room. Nothing is lost without it: the next start has more to do. */
  async #tryEmptyFrame(flags: number): Promise<void> {
    const { active } = this.#segments;
    assert(this.#written.seq === this.#tail.lastSeq, "nothing waits to be written before an empty frame");
    const fields = this.#frameFields(flags);
    this.#group.begin(active.saltCrc, active.end);
    this.#group.add(NO_RECORDS, this.#written.seq + 1, 0, fields);
    try {
      await active.append(this.#group, active.lastSeq);
      this.#noteFrame(fields);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      await active.cut(active.end, active.lastSeq);
      this.#noteSynced();
    }
  }

  #noteFrame(fields: FrameFields): void {
    this.#carried = fields;
    this.#endsClean = (fields.flags & FLAG_CLEAN_SHUTDOWN) !== 0;
  }
}
