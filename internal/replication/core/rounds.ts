/**
 * Rounds of a master: each is numbered, travels with every message, and is given back by whoever still follows. Once a
 * majority of the voters has answered a round, this node was master when the round began; so what it had committed by then is
 * all that anybody had been told of. No clock is compared with another one.
 */
import { assert } from "../../base/assert.js";
import type { Seq } from "../../base/position.js";

/** Rounds with reads that wait, at once; while there are so many, further reads share the next one. */
const READING_MAX = 4;
/** Rounds that no majority has answered yet. The newest are kept: whoever answers again answers those. */
const PENDING_MAX = 64;

interface Round {
  readonly number: number;
  readonly startedAtMs: number;
  /** The reads that wait for it, up to this one, and what they will see. */
  readonly reads: { readonly upTo: number; readonly seq: Seq } | undefined;
}

/** Reads are numbered by whoever asks for them, and rise. */
export interface Confirmed {
  readonly upTo: number;
  readonly seq: Seq;
}

export class Rounds {
  #current = 0;
  #confirmed = 0;
  #startedAtMs = -Infinity;
  #confirmedAtMs: number | undefined;
  /** Oldest first; numbers and times rise. */
  #pending: Round[] = [];
  #asked = 0;
  /** Reads up to here have got their round. */
  #taken = 0;
  #answered = 0;

  /** The newest round; 0 before the first. */
  get current(): number {
    return this.#current;
  }

  /** The newest round that a majority has answered; what was known before it began is still true. */
  get confirmed(): number {
    return this.#confirmed;
  }

  get startedAtMs(): number {
    return this.#startedAtMs;
  }

  /** When the newest round began that a majority has answered. */
  get confirmedAtMs(): number | undefined {
    return this.#confirmedAtMs;
  }

  /** Reads wait, and a round can be started for them. */
  get isWanted(): boolean {
    return this.#asked > this.#taken && this.#pending.filter(({ reads }) => reads).length < READING_MAX;
  }

  ask(read: number): void {
    assert(read > this.#asked, `read ${read} comes after read ${this.#asked}`);
    this.#asked = read;
  }

  /** Starts a round; reads that wait share it and will see `commitSeq`, unless they cannot be answered yet. */
  start(nowMs: number, commitSeq: Seq | undefined): void {
    const reads = this.isWanted && commitSeq !== undefined ? { upTo: this.#asked, seq: commitSeq } : undefined;
    if (reads) this.#taken = this.#asked;
    this.#startedAtMs = nowMs;
    this.#pending.push({ number: ++this.#current, startedAtMs: nowMs, reads });
    const idle = this.#pending.findIndex(({ reads }) => !reads);
    if (this.#pending.length > PENDING_MAX && idle >= 0) this.#pending.splice(idle, 1);
  }

  /** A majority has answered up to `round`; gives the reads that it confirms, and what the last of them sees. */
  confirm(round: number): Confirmed | undefined {
    assert(round <= this.#current, `round ${round} is answered, ${this.#current} is the newest`);
    this.#confirmed = Math.max(this.#confirmed, round);
    let confirmed: Confirmed | undefined;
    while (this.#pending[0] && this.#pending[0].number <= round) {
      const { startedAtMs, reads } = this.#pending.shift()!;
      this.#confirmedAtMs = startedAtMs;
      confirmed = reads ?? confirmed;
    }
    if (confirmed) this.#answered = confirmed.upTo;
    return confirmed;
  }

  /** There is nobody else to ask: confirms all reads that wait. */
  confirmAlone(commitSeq: Seq): Confirmed | undefined {
    this.#pending = [];
    this.#confirmed = this.#current;
    if (this.#asked === this.#answered) return undefined;
    this.#taken = this.#answered = this.#asked;
    return { upTo: this.#asked, seq: commitSeq };
  }
}
