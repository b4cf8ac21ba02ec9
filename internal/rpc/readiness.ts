/** Whether this node is to be sent calls, in one place for `/readyz`, the health service and `Cluster.Status`. */
import type { RpcReplicator, RpcStore } from "./ports.js";

export interface ReadinessOptions {
  readonly store: Pick<RpcStore, "status">;
  readonly replicator: Pick<RpcReplicator, "stalenessMs" | "notServing">;
  /** `server.ready_max_staleness`; 0: however old its state is. */
  readonly maxStalenessMs: number;
}

export class Readiness {
  readonly #options: ReadinessOptions;
  readonly #listeners = new Set<() => void>();
  #draining = false;

  constructor(options: ReadinessOptions) {
    this.#options = options;
  }

  /** Why the node is not ready, for people; empty when it is. */
  reason(): string {
    if (this.#draining) return "this node is shutting down";
    const { store, replicator } = this.#options;
    const { notReadyReason } = store.status();
    // Of a node that is to be master, what keeps it from that says more than that its data are not there yet.
    return replicator.notServing() || notReadyReason || this.#tooStale();
  }

  get isDraining(): boolean {
    return this.#draining;
  }

  /** From now on the node is not ready, whatever the rooms below say. */
  drain(): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` when draining begins; the result of this call ends that. */
  onDrain(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tooStale(): string {
    const { replicator, maxStalenessMs } = this.#options;
    if (maxStalenessMs === 0) return "";
    const stalenessMs = replicator.stalenessMs();
    if (stalenessMs !== undefined && stalenessMs <= maxStalenessMs) return "";
    const how =
      stalenessMs === undefined
        ? "this node cannot tell how old its state is"
        : `the state of this node may be ${Math.ceil(stalenessMs)} ms old`;
    return `${how}; ${maxStalenessMs} ms are allowed (server.ready_max_staleness)`;
  }
}
