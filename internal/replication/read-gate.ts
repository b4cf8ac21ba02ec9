/**
 * Holds a read back until this node's committed state is as fresh as the read asks for, or says that it is not. The common
 * read asks for nothing, or for what is there already: it passes without a promise, a timer or an allocation.
 */
import type { Clock } from "../base/clock.js";
import { type Seq, seq as toSeq } from "../base/position.js";
import { ReplicationError } from "./replication-error.js";

/** How fresh a read must be. All that is given must hold. */
export interface ReadConsistency {
  /** A token: what it stands for is seen. */
  readonly atLeast?: Uint8Array;
  /** The same by a plain seq, without its lineage. */
  readonly atLeastSeq?: Seq;
  readonly maxStalenessMs?: number;
  /** Every write that was answered before the read came is seen. */
  readonly linearizable?: boolean;
}

/** What of the store a read waits for. */
export interface ReadGateStore {
  readonly appliedSeq: Seq;
  /** Rejects with the signal's reason, or `StoreError` `closing`. */
  whenApplied(seq: Seq, signal: AbortSignal): Promise<void>;
  /** Undefined when reads see the token already. Throws or rejects with `StoreError` `lineage_lost`, `invalid_token`, or as `whenApplied`. */
  reachToken(token: Uint8Array, signal: AbortSignal): Promise<void> | undefined;
}

/** What of replication tells how fresh this node is. */
export interface ReadGateReplicator {
  stalenessMs(): number | undefined;
  linearizableSeq(signal: AbortSignal): Promise<Seq>;
}

export interface ReadGateOptions {
  readonly store: ReadGateStore;
  readonly replicator: ReadGateReplicator;
  readonly clock: Clock;
  /** `limits.max_read_wait`. */
  readonly maxWaitMs: number;
}

export class ReadGate {
  readonly #options: ReadGateOptions;

  constructor(options: ReadGateOptions) {
    this.#options = options;
  }

  /**
   * Undefined when the read may be done in this tick; else a promise of the same. Throws, or rejects, with `StoreError`
   * (`lineage_lost`, `invalid_token`, `closing`), with `ReplicationError`: `too_stale`, `timeout` (of `maxWaitMs`) or what
   * `linearizableSeq` rejects with, and with the signal's reason.
   */
  admit(consistency: ReadConsistency | undefined, signal: AbortSignal): Promise<void> | undefined {
    if (consistency === undefined) return undefined;
    const { store } = this.#options;
    const { atLeast, atLeastSeq, maxStalenessMs, linearizable } = consistency;
    if (linearizable === true) return this.#wait(consistency, signal);
    if (atLeastSeq !== undefined && store.appliedSeq < atLeastSeq) return this.#wait(consistency, signal);
    if (atLeast !== undefined) {
      // Where it is not reached this leaves nothing behind; the waiting below has a signal and an end of its own.
      const unreached = store.reachToken(atLeast, ABORTED);
      if (unreached) {
        unreached.catch(() => undefined);
        return this.#wait(consistency, signal);
      }
    }
    if (maxStalenessMs !== undefined) this.#assertFresh(maxStalenessMs);
    return undefined;
  }

  async #wait(consistency: ReadConsistency, signal: AbortSignal): Promise<void> {
    const { store, replicator, clock, maxWaitMs } = this.#options;
    const { atLeast, atLeastSeq = NO_SEQ, maxStalenessMs, linearizable } = consistency;
    signal.throwIfAborted();
    const waiting = new AbortController();
    const abort = (): void => waiting.abort(signal.reason);
    signal.addEventListener("abort", abort);
    let lacking = "it has not been confirmed who the master is";
    const timer = clock.after(maxWaitMs, () =>
      waiting.abort(
        new ReplicationError(
          "timeout",
          `the read had to wait for more than ${maxWaitMs} ms (limits.max_read_wait): ${lacking}; ask again, or another node`,
        ),
      ),
    );
    try {
      let seq = atLeastSeq;
      if (linearizable === true) {
        seq = toSeq(Math.max(seq, await replicator.linearizableSeq(waiting.signal)));
      }
      lacking = "this node has not applied yet what it asks for";
      for (;;) {
        // Both anew each time: while the one was waited for, a failover may have cut off the other.
        const reached =
          (atLeast && store.reachToken(atLeast, waiting.signal)) ??
          (store.appliedSeq < seq ? store.whenApplied(seq, waiting.signal) : undefined);
        if (!reached) break;
        await reached;
      }
      // Last, for it gets older while the rest is waited for.
      if (maxStalenessMs !== undefined) this.#assertFresh(maxStalenessMs);
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", abort);
    }
  }

  #assertFresh(maxStalenessMs: number): void {
    const stalenessMs = this.#options.replicator.stalenessMs();
    if (stalenessMs !== undefined && stalenessMs <= maxStalenessMs) return;
    const how =
      stalenessMs === undefined
        ? "this node cannot tell how old its state is"
        : `the state of this node may be ${Math.ceil(stalenessMs)} ms old`;
    throw new ReplicationError(
      "too_stale",
      `${how}, and the read asks for ${maxStalenessMs} ms at most; ask the master, or allow more`,
    );
  }
}

const ABORTED = AbortSignal.abort();
const NO_SEQ = toSeq(0);
