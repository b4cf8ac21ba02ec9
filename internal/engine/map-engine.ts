/**
 * The engine as a plain `Map`: short enough to be seen correct, and so the oracle that every other engine is tested
 * against. Costs about three times the memory of its data.
 */
import type { EpochMs, Seq } from "../base/position.js";
import { unreachable } from "../base/assert.js";
import type { Engine, Entry, Operation } from "./engine.js";

export class MapEngine implements Engine {
  /** By the key's bytes, one character a byte: cheaper to make than a string from UTF-8, and equal exactly when the bytes are. */
  readonly #entries = new Map<string, Entry>();
  #dataBytes = 0;

  get entryCount(): number {
    return this.#entries.size;
  }

  get dataBytes(): number {
    return this.#dataBytes;
  }

  get(key: Uint8Array, nowMs: EpochMs): Entry | undefined {
    const entry = this.#entries.get(nameOf(key));
    return entry && isOverdue(entry, nowMs) ? undefined : entry;
  }

  apply(seq: Seq, timestampMs: EpochMs, operation: Operation): void {
    const name = nameOf(operation.key);
    const before = this.#entries.get(name);
    if (before) this.#dataBytes -= operation.key.length + before.value.length;
    switch (operation.kind) {
      case "put": {
        const present = before && !isOverdue(before, timestampMs);
        this.#entries.set(name, {
          value: operation.value.slice(),
          createSeq: present ? before.createSeq : seq,
          modSeq: seq,
          ...(operation.expiresAtMs !== undefined && { expiresAtMs: operation.expiresAtMs }),
        });
        this.#dataBytes += operation.key.length + operation.value.length;
        return;
      }
      case "delete":
        this.#entries.delete(name);
        return;
      default:
        unreachable(operation);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#dataBytes = 0;
  }
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function isOverdue(entry: Entry, nowMs: EpochMs): boolean {
  return entry.expiresAtMs !== undefined && entry.expiresAtMs <= nowMs;
}
