/** Writes, answered when their callers want it: once the master keeps them, once they are committed, or once all keep them. */
import { Acknowledge as WireAcknowledge } from "../../api/gen/cambium/v1/types_pb.js";
import type { Clock } from "../base/clock.js";
import type { Position } from "../base/position.js";
import { ReplicationError } from "../replication/replicator.js";
import { StoreError, type WriteOptions } from "../store/store.js";
import { spanOf } from "./call-log.js";
import { type CallContext, timeFor, whileWanted } from "./caller.js";
import type { RpcReplicator } from "./ports.js";
import { RequestError } from "./request-error.js";

export type Acknowledge = "kept" | "committed" | "replicated";

export interface AcknowledgedOptions {
  readonly replicator: Pick<RpcReplicator, "whenReplicated" | "hasten" | "linearizableSeq">;
  readonly clock: Clock;
  /** `replication.write_timeout`. */
  readonly timeoutMs: number;
}

export class AcknowledgedWrites {
  readonly #options: AcknowledgedOptions;

  constructor(options: AcknowledgedOptions) {
    this.#options = options;
  }

  /**
   * Carries out a write of the store, and resolves when it has been acknowledged as wanted. Rejects as the store does, and
   * with `outcome_unknown` where the nodes that were to keep it have not told so in time; throws where the caller waits no longer.
   */
  write<R extends { readonly position: Position }>(
    acknowledge: Acknowledge,
    context: CallContext,
    propose: (options: WriteOptions) => Promise<R>,
  ): Promise<R> {
    const { clock, timeoutMs } = this.#options;
    const startMs = clock.monotonicMs();
    const timeMs = timeFor(context, timeoutMs);
    const leftMs = (): number => timeMs - (clock.monotonicMs() - startMs);
    const written = propose({
      acknowledge: acknowledge === "kept" ? "kept" : "committed",
      timeoutMs: timeMs,
      confirm: () => this.#confirmed(context, leftMs()),
    });
    // Unless writes are paused, it is in the log now, and is under way to the replicas while this node makes it durable.
    if (acknowledge === "replicated") this.#options.replicator.hasten();
    // The common write costs no promise beside its own.
    if (acknowledge !== "replicated" && !spanOf(context)) return written;
    return this.#followed(acknowledge, written, context, leftMs);
  }

  async #followed<R extends { readonly position: Position }>(
    acknowledge: Acknowledge,
    written: Promise<R>,
    context: CallContext,
    leftMs: () => number,
  ): Promise<R> {
    const receipt = await written;
    const span = spanOf(context);
    const seq = { "cambium.seq": receipt.position.seq };
    span?.event(acknowledge === "kept" ? "kept" : "committed", seq);
    if (acknowledge === "replicated") {
      await this.#replicated(receipt.position, context, leftMs());
      span?.event("replicated", seq);
    }
    return receipt;
  }

  /** Resolves when a majority has said, after the call, that this node is master. */
  async #confirmed(context: CallContext, leftMs: number): Promise<void> {
    const { replicator } = this.#options;
    const message = "it was not confirmed in time that this node is master; nothing was changed; try again";
    await this.#inTime(context, leftMs, message, (signal) => replicator.linearizableSeq(signal));
  }

  async #replicated(position: Position, context: CallContext, leftMs: number): Promise<void> {
    const { replicator } = this.#options;
    try {
      await this.#inTime(context, leftMs, "they have not answered in time", (signal) =>
        replicator.whenReplicated(position.seq, signal),
      );
    } catch (error) {
      if (!(error instanceof ReplicationError || error instanceof StoreError)) throw error;
      // The write has been done, and what says less would be taken for a refusal.
      throw new StoreError(
        "outcome_unknown",
        `the write is committed at seq ${position.seq}, but not every connected node is known to keep it: ${error.message}; do not write it again`,
        { position, cause: error },
      );
    }
  }

  async #inTime(
    context: CallContext,
    leftMs: number,
    message: string,
    work: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<void> {
    const late = new AbortController();
    const timer = this.#options.clock.after(leftMs, () => late.abort(new ReplicationError("timeout", message)));
    try {
      await whileWanted(context, (wanted) => work(AbortSignal.any([wanted, late.signal])));
    } finally {
      timer.cancel();
    }
  }
}

/** `field` names it in the error. */
export function acknowledgeFromWire(acknowledge: WireAcknowledge, field: string): Acknowledge {
  switch (acknowledge) {
    case WireAcknowledge.UNSPECIFIED:
    case WireAcknowledge.COMMITTED:
      return "committed";
    case WireAcknowledge.MASTER:
      return "kept";
    case WireAcknowledge.ALL:
      return "replicated";
    default:
      // A weaker promise than the one that was asked for must not be given in silence.
      throw new RequestError("invalid", `${field} is ${String(acknowledge)}, which this version does not know`);
  }
}
