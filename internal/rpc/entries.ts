/** Keys' contents as answers show them. */
import type { EpochMs, Seq } from "../base/position.js";
import { toWire64 } from "../base/position.js";

/** Bytes on the wire of an entry beside its key and value, and of an answer beside its entries, at most. */
export const ENTRY_OVERHEAD_BYTES = 64;
export const ANSWER_OVERHEAD_BYTES = 256;

interface Entry {
  readonly value: Uint8Array;
  readonly createSeq: Seq;
  readonly modSeq: Seq;
  readonly expiresAtMs?: EpochMs;
}

interface AboutEntry {
  readonly createSeq: bigint;
  readonly modSeq: bigint;
  readonly ttlMs?: bigint;
}

/** `take`: makes the bytes of the answer of those of the entry. */
export function entryToWire(
  entry: Entry | undefined,
  nowMs: EpochMs,
  take: (value: Uint8Array) => Uint8Array<ArrayBuffer> = copyOf,
): { readonly exists: boolean; readonly value?: Uint8Array<ArrayBuffer> } & Partial<AboutEntry> {
  if (!entry) return { exists: false };
  return { exists: true, value: take(entry.value), ...aboutToWire(entry, nowMs) };
}

/** The answer is encoded later, and the engine's bytes may hold another value by then. */
export function copyOf(value: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(value);
}

export function aboutToWire(entry: Omit<Entry, "value">, nowMs: EpochMs): AboutEntry {
  return {
    createSeq: toWire64(entry.createSeq),
    modSeq: toWire64(entry.modSeq),
    ...(entry.expiresAtMs !== undefined && { ttlMs: toWire64(Math.max(0, entry.expiresAtMs - nowMs)) }),
  };
}
