/** What the master's writes in flight will change of what is remembered: by whom, and who is about to be forgotten. */
import type { Position } from "../base/position.js";
import type { Change } from "./change.js";

export class RetriesInFlight {
  /** By client, the records in flight under its numbers. */
  readonly #writes = new Map<string, Map<number, Position>>();
  readonly #forgotten = new Set<string>();

  /** The record in flight of a write; undefined when there is none. */
  find(clientId: string, clientSeq: number): Position | undefined {
    return this.#writes.get(clientId)?.get(clientSeq);
  }

  /** Whether something in flight concerns the client: it must not be forgotten now. */
  isBusy(clientId: string): boolean {
    return this.#writes.has(clientId) || this.#forgotten.has(clientId);
  }

  /** The changes of a record that is now in flight. */
  add(position: Position, changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === "remember") {
        const writes = this.#writes.get(change.clientId) ?? new Map<number, Position>();
        this.#writes.set(change.clientId, writes.set(change.clientSeq, position));
      } else if (change.kind === "forget") {
        for (const id of change.clientIds) this.#forgotten.add(id);
      }
    }
  }

  /** The changes of a record that is no longer in flight. */
  remove(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === "remember") {
        const writes = this.#writes.get(change.clientId);
        writes?.delete(change.clientSeq);
        if (writes?.size === 0) this.#writes.delete(change.clientId);
      } else if (change.kind === "forget") {
        for (const id of change.clientIds) this.#forgotten.delete(id);
      }
    }
  }

  clear(): void {
    this.#writes.clear();
    this.#forgotten.clear();
  }
}
