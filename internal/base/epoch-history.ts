/**
 * The masterships that a log has seen, oldest first. By them two logs find how far they agree, without trusting the
 * high-water mark of either (the leader-epoch method of Kafka's KIP-101, with a random id added to each epoch so that
 * two forced masterships of one number are told apart).
 */
import { assert } from "./assert.js";
import { epoch, type Epoch, seq, type Seq } from "./position.js";
import type { EpochId } from "./ids.js";

/** The start of one mastership. */
export interface EpochStart {
  readonly epoch: Epoch;
  readonly epochId: EpochId;
  /** Seq of the epoch's first record, the empty one. */
  readonly firstSeq: Seq;
  /** Whether an operator forced it without a majority: committed history before it may have been lost. Absent: no. */
  readonly forced?: boolean;
}

/** Invariant: epochs and first seqs both rise strictly. */
export class EpochHistory {
  readonly #starts: EpochStart[] = [];

  constructor(starts: Iterable<EpochStart> = []) {
    for (const start of starts) this.push(start);
  }

  get starts(): readonly EpochStart[] {
    return this.#starts;
  }

  get last(): EpochStart | undefined {
    return this.#starts.at(-1);
  }

  push(start: EpochStart): void {
    const last = this.last;
    assert(
      !last || (start.epoch > last.epoch && start.firstSeq > last.firstSeq),
      `epoch ${start.epoch} at seq ${start.firstSeq} does not follow epoch ${last?.epoch} at seq ${last?.firstSeq}`,
    );
    this.#starts.push(start);
  }

  /** Forgets the epochs that begin after `seq`. */
  cutAfter(seq: Seq): void {
    while (this.last && this.last.firstSeq > seq) this.#starts.pop();
  }

  /** The mastership that wrote the record at `seq`; undefined before the first. */
  at(seq: Seq): EpochStart | undefined {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#starts[middle]!.firstSeq <= seq) low = middle + 1;
      else high = middle;
    }
    return this.#starts[low - 1];
  }

  /** The epoch of the record at `seq`; 0 before the first. */
  epochAt(seq: Seq): Epoch {
    return this.at(seq)?.epoch ?? epoch(0);
  }

  /** Whether this history has exactly this mastership. */
  has(start: { epoch: Epoch; epochId: EpochId }): boolean {
    return this.#starts.some((own) => own.epoch === start.epoch && own.epochId === start.epochId);
  }
}

/** A log as far as agreement is concerned. */
export interface HistoryEnd {
  readonly history: EpochHistory;
  readonly lastSeq: Seq;
}

/**
 * The highest seq up to which two logs of one cluster have the same records: the earlier end of the newest mastership
 * that both have seen. 0 when they share none.
 */
export function agreementSeq(a: HistoryEnd, b: HistoryEnd): Seq {
  for (let i = a.history.starts.length - 1; i >= 0; i--) {
    const start = a.history.starts[i]!;
    const j = b.history.starts.findIndex((other) => other.epoch === start.epoch && other.epochId === start.epochId);
    if (j < 0) continue;
    assert(b.history.starts[j]!.firstSeq === start.firstSeq, `epoch ${start.epoch} begins at two different seqs`);
    return seq(Math.min(endOf(a, i), endOf(b, j)));
  }
  return seq(0);
}

function endOf(log: HistoryEnd, index: number): number {
  const next = log.history.starts[index + 1];
  return next ? next.firstSeq - 1 : log.lastSeq;
}
