/** The keys of a range in their order, a page at a time. */
import type { EpochMs } from "../base/position.js";
import type { Engine, KeyedEntry, KeyRange } from "../engine/engine.js";

export interface ScanRequest extends KeyRange {
  /** Entries of a page at most; 1 or more. */
  readonly limit: number;
  /** The page ends before the entry with which it would pass this, unless it is the first. */
  readonly maxBytes: number;
  /** Values do not count for `maxBytes`. */
  readonly keysOnly: boolean;
}

export interface ScanPage {
  readonly entries: readonly KeyedEntry[];
  /** The `start` of the next page; absent when this was the last. */
  readonly next?: Uint8Array;
}

/** Bytes of an entry on the wire beside its key and value, at most. */
const ENTRY_OVERHEAD_BYTES = 64;

export function readScanPage(engine: Engine, request: ScanRequest, nowMs: EpochMs): ScanPage {
  const { limit, maxBytes, keysOnly } = request;
  const entries: KeyedEntry[] = [];
  let bytes = 0;
  const scan = engine.scan(request, nowMs);
  for (let step = scan.next(); !step.done; step = scan.next()) {
    const { key, value } = step.value;
    bytes += key.length + (keysOnly ? 0 : value.length) + ENTRY_OVERHEAD_BYTES;
    if (entries.length === limit || (entries.length > 0 && bytes > maxBytes)) return { entries, next: key };
    entries.push(step.value);
  }
  return { entries };
}
