/**
 * The master's writes between being proposed and being committed: a queue in the order of the log, and the overlay that
 * lets the conditions of later writes see the earlier ones. The engine itself holds committed state only.
 */
import { assert } from "../base/assert.js";
import type { EpochMs, Position, Seq } from "../base/position.js";
import type { Change } from "./change.js";
import { Overlay } from "./overlay.js";
import { RetriesInFlight } from "./retries-in-flight.js";
import { type Growth, NO_GROWTH } from "./room.js";

/** What a caller waits for: a record, and the answer that goes out once it is applied. The first answer counts. */
export interface Proposal {
  readonly position: Position;
  readonly timestampMs: EpochMs;
  readonly changes: readonly Change[];
  /** Of the encoded payload. */
  readonly byteLength: number;
  /** What is held once it is applied, beyond what is held before. */
  readonly growth: Growth;
  /** Whether the caller is answered as soon as the master keeps the record. */
  readonly isDoneWhenKept: boolean;
  /** By the monotonic clock: then its caller is answered in any case. Infinity: never, or answered so already. */
  deadlineMs: number;
  /** Called when the record is applied, and before that when it is kept, if that is enough. */
  readonly done: () => void;
  /** Called instead, when it is not known to become committed, or known not to be; and at the deadline. */
  readonly failed: (error: Error) => void;
}

export class Proposals {
  /** Rising seqs; the head is the next to be applied. A sparse head is trimmed now and then. */
  #queue: Proposal[] = [];
  #head = 0;
  #byteLength = 0;
  #growth = NO_GROWTH;
  #nextOffset: number | undefined;
  /** What they make of the keys. */
  readonly overlay = new Overlay();
  /** What they make of what is remembered. */
  readonly retries = new RetriesInFlight();
  /** Those that only wait for being kept, in the order of the log. */
  #awaitKept: Proposal[] = [];
  #emptied: (() => void)[] = [];
  /** Who waits for what becomes of a write in flight, by its seq. */
  readonly #observers = new Map<Seq, Set<(isApplied: boolean) => void>>();

  get byteLength(): number {
    return this.#byteLength;
  }

  /** Of all that is in flight. */
  get growth(): Growth {
    return this.#growth;
  }

  /** The record log's next offset after what is in flight; undefined when nothing is produced in it. */
  get nextOffset(): number | undefined {
    return this.#nextOffset;
  }

  get size(): number {
    return this.#queue.length - this.#head;
  }

  add(proposal: Proposal): void {
    const last = this.#queue.at(-1);
    assert(!last || last.position.seq < proposal.position.seq, "proposals come in the order of the log");
    this.#queue.push(proposal);
    if (proposal.isDoneWhenKept) this.#awaitKept.push(proposal);
    this.#byteLength += proposal.byteLength;
    this.#grow(proposal.growth, 1);
    this.overlay.add(proposal.position.seq, proposal.changes);
    this.retries.add(proposal.position, proposal.changes);
    for (const change of proposal.changes) if (change.kind === "produce") this.#nextOffset = change.offset + 1;
  }

  /** Takes the proposal of `seq` out, when there is one. The caller applies it on the same tick, and then calls `done`. */
  take(seq: Seq): Proposal | undefined {
    const proposal = this.#queue[this.#head];
    if (!proposal || proposal.position.seq !== seq) return undefined;
    this.#head++;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
      this.#nextOffset = undefined;
      this.#tellEmpty();
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    this.#byteLength -= proposal.byteLength;
    this.#grow(proposal.growth, -1);
    this.overlay.forget(seq, proposal.changes);
    this.retries.remove(proposal.changes);
    if (this.#observers.size > 0) this.#tellObservers(seq, true);
    return proposal;
  }

  /** The master keeps what comes up to `seq`. */
  noteKept(seq: Seq): void {
    if (this.#awaitKept.length === 0) return;
    const later = this.#awaitKept.findIndex(({ position }) => position.seq > seq);
    for (const { done } of this.#awaitKept.splice(0, later < 0 ? this.#awaitKept.length : later)) done();
  }

  /** Fails those whose deadline has come; they stay in flight. Gives the next deadline; Infinity when there is none. */
  expire(nowMs: number, reason: (proposal: Proposal) => Error): number {
    let nextMs = Infinity;
    for (let i = this.#head; i < this.#queue.length; i++) {
      const proposal = this.#queue[i]!;
      if (proposal.deadlineMs <= nowMs) {
        proposal.deadlineMs = Infinity;
        proposal.failed(reason(proposal));
      }
      nextMs = Math.min(nextMs, proposal.deadlineMs);
    }
    return nextMs;
  }

  /** Resolves when none is in flight. */
  settled(): Promise<void> {
    if (this.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#emptied.push(resolve));
  }

  /**
   * Fails every proposal from `firstSeq` on. What they had put over older proposals' keys is reckoned anew from those.
   */
  failFrom(firstSeq: Seq, reason: (proposal: Proposal) => Error): void {
    const all = this.#queue.slice(this.#head);
    const left = all.filter((proposal) => proposal.position.seq < firstSeq);
    this.#queue = [];
    this.#head = 0;
    this.#byteLength = 0;
    this.#growth = NO_GROWTH;
    this.#nextOffset = undefined;
    this.overlay.clear();
    this.retries.clear();
    this.#awaitKept = [];
    // One that was answered when it was kept is answered again, which nobody hears.
    for (const proposal of left) this.add(proposal);
    for (const proposal of all.slice(left.length)) proposal.failed(reason(proposal));
    for (const seq of this.#observers.keys()) if (seq >= firstSeq) this.#tellObservers(seq, false);
    if (left.length === 0) this.#tellEmpty();
  }

  /**
   * Calls `tell` once, on the tick on which the write in flight at `seq` is applied, or comes to nothing that is known here. Gives
   * a function with which to wait no longer.
   */
  observe(seq: Seq, tell: (isApplied: boolean) => void): () => void {
    const observers = this.#observers.get(seq) ?? new Set();
    this.#observers.set(seq, observers.add(tell));
    return () => {
      observers.delete(tell);
      if (observers.size === 0 && this.#observers.get(seq) === observers) this.#observers.delete(seq);
    };
  }

  #tellObservers(seq: Seq, isApplied: boolean): void {
    const observers = this.#observers.get(seq);
    this.#observers.delete(seq);
    for (const tell of observers ?? []) tell(isApplied);
  }

  #grow({ entries, bytes, retryBytes = 0 }: Growth, sign: 1 | -1): void {
    if (entries === 0 && bytes === 0 && retryBytes === 0) return;
    const before = this.#growth;
    this.#growth = {
      entries: before.entries + sign * entries,
      bytes: before.bytes + sign * bytes,
      retryBytes: (before.retryBytes ?? 0) + sign * retryBytes,
    };
  }

  #tellEmpty(): void {
    if (this.#emptied.length === 0) return;
    for (const emptied of this.#emptied.splice(0)) emptied();
  }
}
