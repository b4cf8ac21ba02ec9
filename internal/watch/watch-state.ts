/**
 * One watch as a state machine without clock, log or promise: what it was given, what waits for it, and where it reads on.
 *
 *   behind ──(has read all, while nobody is being told)──► live ──(does not take what it is told)──► behind
 *
 * Invariant: what it was given and what waits for it are the filtered events up to `readSeq`, in order, each once.
 */
import { assert } from "../base/assert.js";
import type { Position, Seq } from "../base/position.js";
import { firstSeqOf, type HeldParts, lastSeqOf, type Part, partOf, type Weighed } from "./parts.js";
import type { ResumePoint, WatchBatch } from "./watch-types.js";

/** What waits for one watch, at most, but one record at least. */
export const QUEUE_BYTES_MAX = 1024 * 1024;
export const QUEUE_PARTS_MAX = 64;

export class WatchState {
  /** Counts what waits, and what was given last, for all watches together. */
  readonly #held: HeldParts;
  /** Given, and in its reader's hands. */
  #lent: Weighed | undefined;
  #queue: Part[] = [];
  #queuedBytes = 0;
  #isLive = false;
  #readSeq: Seq;
  /** Everything up to here was given. */
  #given: ResumePoint;
  /** The last record of which something was given. */
  #shownSeq: Seq;
  /** The record after `given` was given in part. */
  #isWithinRecord = false;

  constructor(begin: ResumePoint, held: HeldParts) {
    this.#held = held;
    this.#given = begin;
    this.#readSeq = this.#shownSeq = begin.seq;
  }

  get given(): ResumePoint {
    return this.#given;
  }

  /** Everything up to here was given, or waits. */
  get readSeq(): Seq {
    return this.#readSeq;
  }

  get isLive(): boolean {
    return this.#isLive;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get queuedParts(): number {
    return this.#queue.length;
  }

  /** What is to be given next. */
  get head(): Part | undefined {
    return this.#queue[0];
  }

  /** From now on it is told of every record after `readSeq`. */
  goLive(): void {
    assert(this.#queue.length === 0, "a watch takes what it has read before it goes live");
    this.#isLive = true;
  }

  /** A page of the log, up to `next`, was read for it. */
  read(parts: readonly Part[], next: Seq): void {
    assert(!this.#isLive && next >= this.#readSeq, "a watch that is behind reads on");
    this.#push(parts);
    this.#readSeq = next;
  }

  /** Is told of what follows, up to `next`. Says false where that is too much for it: then it is behind. */
  tell(parts: readonly Part[], next: Seq): boolean {
    assert(this.#isLive && next > this.#readSeq, "a live watch is told of what follows");
    this.#push(parts);
    this.#readSeq = next;
    if (this.#queuedBytes <= QUEUE_BYTES_MAX && this.#queue.length <= QUEUE_PARTS_MAX) return true;
    this.#fallBehind();
    return false;
  }

  /** The head was given, as `batch`; `rest`: what of it is left. */
  gave(batch: WatchBatch, rest: readonly Part[] = []): void {
    const part = this.#queue.shift();
    assert(part, "what is given has waited");
    this.#queuedBytes -= part.bytes;
    // What was added to it on the way counts too.
    this.#lend(batch === part.batch ? part : partOf(batch));
    this.#held.release(part);
    this.#queue.unshift(...rest);
    for (const left of rest) {
      this.#queuedBytes += left.bytes;
      this.#held.hold(left);
    }
    this.#note(batch);
  }

  /** Its reader is done with what was given last. */
  takeBack(): void {
    if (this.#lent) this.#held.release(this.#lent);
    this.#lent = undefined;
  }

  /** It was told how far the log was read, which is at most `readSeq`, while nothing waits. */
  told(batch: WatchBatch): void {
    assert(this.#queue.length === 0 && batch.events.length === 0, "only where nothing waits");
    this.#note(batch);
    if (this.#readSeq < batch.position.seq) this.#readSeq = batch.position.seq;
  }

  /** The log was cut after `fork`, when live watches had been told all up to `toldSeq`. Says whether what was given still stands; then it is behind. */
  cut(fork: Position, toldSeq: Seq): boolean {
    if (this.#shownSeq > fork.seq) return false;
    if (this.#isLive && this.#readSeq < toldSeq) this.#readSeq = toldSeq;
    this.#fallBehind();
    if (this.#readSeq > fork.seq) this.#readSeq = fork.seq;
    return true;
  }

  /** Reads on for itself, when live watches have been told all up to `toldSeq`. */
  fallBehind(toldSeq: Seq): void {
    if (this.#isLive && this.#readSeq < toldSeq) this.#readSeq = toldSeq;
    this.#fallBehind();
  }

  /** Nothing is given any more. */
  drop(): void {
    this.takeBack();
    for (const part of this.#queue) this.#held.release(part);
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#isLive = false;
  }

  #push(parts: readonly Part[]): void {
    for (const part of parts) {
      this.#queue.push(part);
      this.#queuedBytes += part.bytes;
      this.#held.hold(part);
    }
  }

  #lend(part: Weighed): void {
    this.takeBack();
    this.#lent = part;
    this.#held.hold(part);
  }

  #note(batch: WatchBatch): void {
    this.#shownSeq = Math.max(this.#shownSeq, lastSeqOf(batch), batch.position.seq) as Seq;
    this.#isWithinRecord = batch.more === true;
    if (batch.token) this.#given = { seq: batch.position.seq, token: batch.token };
  }

  /** Forgets what waits, but for what is left of a record that was given in part; that is read from the log again. */
  #fallBehind(): void {
    const keep = this.#isWithinRecord ? this.#queue.findIndex(({ batch }) => !batch.more) + 1 : 0;
    const forgotten = this.#queue[keep];
    if (forgotten) this.#readSeq = (firstSeqOf(forgotten) - 1) as Seq;
    for (const part of this.#queue.splice(keep)) this.#held.release(part);
    this.#queuedBytes = this.#queue.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#isLive = false;
  }
}
