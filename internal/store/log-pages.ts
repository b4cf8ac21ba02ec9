/** Reads the events of the log, a page at a time, in slices that leave the event loop to others. */
import { must } from "../base/assert.js";
import type { Seq } from "../base/position.js";
import { decodeRecords, type LogRecord } from "../wal/record.js";
import { PreviousValues, type PreviousSource } from "./previous-values.js";
import { StoreError } from "./store-error.js";
import { bytesOf, clipped, eventsOf, type KeyFilter, type LoggedEvent } from "./update-events.js";

export interface PageSource extends PreviousSource {
  appliedSeq(): Seq;
  monotonicMs(): number;
  /** Resolves on a later turn of the event loop, which its caller has to itself. */
  turn(): Promise<void>;
}

/** What a page of the log may hold. */
export interface PageLimits {
  readonly after: Seq;
  /** No record after this one; absent: all that is applied. */
  readonly upTo?: Seq;
  readonly limit: number;
  readonly maxBytes: number;
  readonly filter?: KeyFilter;
  readonly wantPrevious?: true;
}

/** Nobody else's turn waits longer than this, about, for a look through the log. */
const SLICE_MS_MAX = 2;
const READ_BYTES = 256 * 1024;
/** A page ends after so many bytes of log, events or not; `next` tells how far they went. */
export const SEARCH_BYTES_MAX = 16 * 1024 * 1024;

/** Whole records' events, until they are enough. */
export class LogPage {
  readonly #limits: PageLimits;
  readonly events: LoggedEvent[] = [];
  /** Everything up to here is in it. */
  next: Seq;
  /** It has what it may have, or was looked for long enough. */
  isFull = false;
  #bytes = 0;
  #searchedBytes = 0;

  constructor(limits: PageLimits) {
    this.#limits = limits;
    this.next = limits.after;
  }

  /** Bytes of the values before that the next record may add. */
  get bytesLeft(): number {
    return this.events.length === 0 ? this.#limits.maxBytes : this.#limits.maxBytes - this.#bytes;
  }

  /** Takes what a record tells, unless that is too much. */
  add(record: LogRecord, events: readonly LoggedEvent[]): void {
    const { maxBytes, limit } = this.#limits;
    const bytes = events.reduce((sum, event) => sum + bytesOf(event), 0);
    if (this.events.length > 0 && events.length > 0 && this.#bytes + bytes > maxBytes) {
      this.isFull = true;
      return;
    }
    for (const event of events) this.events.push(event);
    this.#bytes += bytes;
    this.#searchedBytes += record.byteLength;
    this.next = record.seq;
    this.isFull = this.events.length >= limit || this.#searchedBytes >= SEARCH_BYTES_MAX;
  }
}

/**
 * Adds what follows until the page is full, all that is applied is read, or `isCut` says that some was cut off: then what is in the page
 * counts for nothing. Rejects with the signal's reason, and with `WalError` "out_of_range" when compaction was faster.
 */
export async function fillPage(
  page: LogPage,
  options: { limits: PageLimits; source: PageSource; signal: AbortSignal; isCut: () => boolean },
): Promise<void> {
  const { limits, source, signal, isCut } = options;
  const slice = new Slice(source);
  const previous = limits.wantPrevious && new PreviousValues(source);
  const endOf = (): Seq => Math.min(source.appliedSeq(), limits.upTo ?? Infinity) as Seq;
  while (!page.isFull && page.next < endOf()) {
    signal.throwIfAborted();
    // The end is taken before the read: a cut meanwhile must not let records through that were never applied.
    const end = endOf();
    const read = source.read(page.next, READ_BYTES);
    const records = read instanceof Uint8Array ? read : await slice.after(read);
    // The log has been cut, or this node is about to find out what it still has.
    if (isCut() || records.length === 0) return;
    for (const record of decodeRecords(records)) {
      if (record.seq > end) break;
      const events = filtered(eventsOf(record), limits.filter);
      if (previous && events.length > 0) {
        const complete = await withPrevious(events, { ...options, page, previous, slice });
        if (isCut()) return;
        if (!complete) page.isFull = true;
        else page.add(record, complete);
      } else page.add(record, events);
      if (page.isFull) return;
      if (!slice.isOver) continue;
      await slice.rest();
      if (isCut()) return;
      signal.throwIfAborted();
    }
  }
}

/** A record's events with the values before; undefined when they are too many for what is left of the page, or some was cut off. */
async function withPrevious(
  events: readonly LoggedEvent[],
  options: { page: LogPage; previous: PreviousValues; slice: Slice; limits: PageLimits; isCut: () => boolean },
): Promise<LoggedEvent[] | undefined> {
  const { page, previous, slice, limits, isCut } = options;
  const complete: LoggedEvent[] = [];
  let bytes = 0;
  for (const event of events) {
    const found = await previous.of(event);
    if (isCut()) return undefined;
    const known = must(found, `the log holds record ${event.previousSeq}, which wrote what was replaced`);
    bytes += known.previous?.length ?? 0;
    if (bytes > page.bytesLeft) {
      if (page.events.length > 0) return undefined;
      throw new StoreError(
        "too_large",
        `the values that record ${event.position.seq} replaced are more than the ${limits.maxBytes} bytes of an answer; ask without them, or watch`,
      );
    }
    complete.push({ ...event, ...known });
    if (slice.isOver) await slice.rest();
  }
  return complete;
}

/** A stretch of work between two turns of the event loop. */
export class Slice {
  readonly #source: Pick<PageSource, "monotonicMs" | "turn">;
  #sinceMs: number;

  constructor(source: Pick<PageSource, "monotonicMs" | "turn">) {
    this.#source = source;
    this.#sinceMs = source.monotonicMs();
  }

  get isOver(): boolean {
    return this.#source.monotonicMs() - this.#sinceMs >= SLICE_MS_MAX;
  }

  /** Lets others have their turn. */
  rest(): Promise<void> {
    return this.after(this.#source.turn());
  }

  /** Waits for something, with which a new stretch begins. */
  async after<Result>(something: Promise<Result>): Promise<Result> {
    const result = await something;
    this.#sinceMs = this.#source.monotonicMs();
    return result;
  }
}

function filtered(events: readonly LoggedEvent[], filter: KeyFilter | undefined): readonly LoggedEvent[] {
  if (!filter) return events;
  const kept: LoggedEvent[] = [];
  for (const event of events) {
    const part = clipped(event, filter);
    if (part) kept.push(part);
  }
  return kept;
}
