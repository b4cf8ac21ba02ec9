/** Whether this node is to be sent calls, in one place for `/readyz`, the health service and `Cluster.Status`. */
import type { RpcStore } from "./ports.js";

export class Readiness {
  readonly #store: Pick<RpcStore, "status">;
  readonly #listeners = new Set<() => void>();
  #draining = false;

  constructor(store: Pick<RpcStore, "status">) {
    this.#store = store;
  }

  /** Why the node is not ready, for people; empty when it is. */
  reason(): string {
    if (this.#draining) return "this node is shutting down";
    return this.#store.status().notReadyReason;
  }

  get isDraining(): boolean {
    return this.#draining;
  }

  /** From now on the node is not ready, whatever the store says. */
  drain(): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` when draining begins; the result of this call ends that. */
  onDrain(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
