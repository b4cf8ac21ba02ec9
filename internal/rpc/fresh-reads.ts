/** The consistency of a read: from the wire, through the gate, and what a caller is told whose read cannot be fresh enough. */
import { ConnectError } from "@connectrpc/connect";
import type { Consistency } from "../../api/gen/cambium/v1/types_pb.js";
import { fromWire64, seq } from "../base/position.js";
import { ReplicationError } from "../replication/replicator.js";
import type { ReadConsistency, ReadGate } from "../replication/read-gate.js";
import type { RpcReplicator, RpcStore } from "./ports.js";
import { NotFreshError } from "./request-error.js";

export interface FreshReadsOptions {
  readonly store: Pick<RpcStore, "readPoint" | "appliedSeq" | "history">;
  readonly replicator: Pick<RpcReplicator, "stalenessMs">;
  readonly gate: Pick<ReadGate, "admit">;
}

export class FreshReads {
  readonly #options: FreshReadsOptions;

  constructor(options: FreshReadsOptions) {
    this.#options = options;
  }

  /** Undefined when the read may be done in this tick; else a promise of the same. `signal` is the call's own. */
  admit(wanted: Consistency | undefined, signal: AbortSignal): Promise<void> | undefined {
    const consistency = wanted && consistencyFromWire(wanted);
    if (consistency === undefined) return undefined;
    const { store, gate } = this.#options;
    // A node that has nothing to show says so at once: there may be another that has.
    store.readPoint();
    try {
      return gate.admit(consistency, signal)?.catch((error: unknown) => {
        throw this.#explained(error, signal);
      });
    } catch (error) {
      throw this.#explained(error, signal);
    }
  }

  #explained(error: unknown, signal: AbortSignal): unknown {
    const { store, replicator } = this.#options;
    // The reason of a deadline is an error of the library; a caller that has left has another one, and needs no answer.
    const isLate = signal.aborted && error === signal.reason && error instanceof ConnectError;
    if (!isLate && !(error instanceof ReplicationError && error.code !== "closing")) return error;
    const applied = { epoch: store.history.epochAt(store.appliedSeq), seq: store.appliedSeq };
    const message = isLate ? "the call's time was over before this node was as fresh as it asks for" : error.message;
    return new NotFreshError(message, { applied, stalenessMs: replicator.stalenessMs(), isLate }, { cause: error });
  }
}

/** Undefined where nothing is asked for. */
function consistencyFromWire(wanted: Consistency): ReadConsistency | undefined {
  const { atLeast, atLeastSeq, maxStalenessMs, linearizable } = wanted;
  if (atLeast.length === 0 && atLeastSeq === 0n && maxStalenessMs === undefined && !linearizable) return undefined;
  return {
    ...(atLeast.length > 0 && { atLeast }),
    ...(atLeastSeq > 0n && { atLeastSeq: seq(fromWire64(atLeastSeq, "consistency.at_least_seq")) }),
    ...(maxStalenessMs !== undefined && {
      maxStalenessMs: fromWire64(maxStalenessMs, "consistency.max_staleness_ms"),
    }),
    ...(linearizable && { linearizable }),
  };
}
