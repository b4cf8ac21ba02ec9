/** The keys of a range in their order, a page at a time, and their number. */
import type { Clock } from "../base/clock.js";
import type { EpochMs } from "../base/position.js";
import type { Engine, KeyedEntry, KeyRange, ScanBudget } from "../engine/engine.js";

export interface ScanRequest extends KeyRange {
  /** Entries of a page at most, which may be fewer; 1 or more. */
  readonly limit: number;
  /** The page ends before the entry with which it would pass this, unless it is the first. */
  readonly maxBytes: number;
  /** Values do not count for `maxBytes`. */
  readonly keysOnly: boolean;
  /** From the last key down. */
  readonly reverse?: boolean;
}

/** May have fewer entries than were asked for, even none, though there are more: much that is not shown may lie before them. */
export interface ScanPage {
  readonly entries: readonly KeyedEntry[];
  /** Where the rest begins, a copy: the `start` of the next page, or with `reverse` its `end`. Absent when this was the last. */
  readonly next?: Uint8Array;
}

/** Bytes of an entry on the wire beside its key and value, at most. */
const ENTRY_OVERHEAD_BYTES = 64;
/**
 * A page that shows few keys looks at no more than these: what is deleted or overdue is passed over one by one, and a page is read
 * within one turn of the event loop, of which it takes three milliseconds so.
 */
const LOOKS_A_PAGE = 5000;

export function readScanPage(engine: Engine, request: ScanRequest, nowMs: EpochMs): ScanPage {
  const { limit, maxBytes, keysOnly, reverse = false } = request;
  const entries: KeyedEntry[] = [];
  let bytes = 0;
  const budget: ScanBudget = { looks: Math.max(LOOKS_A_PAGE, limit + 1) };
  const scan = engine.scan(request, nowMs, reverse, budget);
  for (let step = scan.next(); !step.done; step = scan.next()) {
    const { key, value } = step.value;
    bytes += key.length + (keysOnly ? 0 : value.length) + ENTRY_OVERHEAD_BYTES;
    if (entries.length === limit || (entries.length > 0 && bytes > maxBytes)) {
      // Downwards, the page goes on before what it has shown.
      return { entries, next: copyOf(reverse ? entries.at(-1)!.key : key) };
    }
    entries.push(step.value);
  }
  return { entries, ...(budget.stoppedAt && { next: copyOf(budget.stoppedAt) }) };
}

/** What is left of a scan after a page; undefined after the last. */
export function restOf<T extends ScanRequest>(request: T, { next }: ScanPage): T | undefined {
  if (!next) return undefined;
  return request.reverse ? { ...request, end: next } : { ...request, start: next };
}

/** Resolves after others had their turn; rejects with the signal's reason. */
export function nextTurn(clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      timer.cancel();
      reject(signal.reason as Error);
    };
    const timer = clock.after(0, () => {
      signal.removeEventListener("abort", aborted);
      resolve();
    });
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
  });
}

function copyOf(key: Uint8Array): Uint8Array {
  return new Uint8Array(key);
}
