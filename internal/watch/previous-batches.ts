/** Adds to batches the values before, once for all watches that wait for the same batch. */
import { bytesOfEvent, type LoggedEvent, type Previous } from "../store/store.js";
import { type Part, PART_BYTES_MAX, type Places, splitPart } from "./parts.js";
import type { WatchBatch } from "./watch-types.js";

/** Finds what an event replaced; undefined: the log has been cut there. */
export interface PreviousFinder {
  of(event: LoggedEvent): Promise<Previous | undefined>;
}

/** A part with the values before, as far as they fit one batch, and what is left of it. */
export interface CompletePart {
  readonly batch: WatchBatch;
  readonly rest: readonly Part[];
}

/** What is kept for watches that come a little later. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;
const KEPT_COUNT_MAX = 256;

export class PreviousBatches {
  readonly #options: {
    readonly finder: () => PreviousFinder;
    readonly places: Places;
    readonly turn: () => Promise<void>;
  };
  /** The oldest first. */
  readonly #made = new Map<Part, { readonly result: Promise<CompletePart | undefined>; bytes: number }>();
  #keptBytes = 0;

  constructor(options: { finder: () => PreviousFinder; places: Places; turn: () => Promise<void> }) {
    this.#options = options;
  }

  /** undefined: the log has been cut meanwhile. */
  complete(part: Part): Promise<CompletePart | undefined> {
    const known = this.#made.get(part);
    if (known) return known.result;
    const made = { result: this.#make(part), bytes: part.bytes };
    this.#made.set(part, made);
    this.#keptBytes += made.bytes;
    made.result.then(
      (complete) => {
        if (this.#made.get(part) !== made || !complete) return this.#forget(part);
        const bytes = complete.batch.events.reduce((sum, event) => sum + bytesOfEvent(event), 0);
        this.#keptBytes += bytes - made.bytes;
        made.bytes = bytes;
        this.#trim();
      },
      () => this.#forget(part),
    );
    this.#trim();
    return made.result;
  }

  async #make(part: Part): Promise<CompletePart | undefined> {
    const finder = this.#options.finder();
    const events: LoggedEvent[] = [];
    let bytes = 0;
    const { batch } = part;
    for (const [i, event] of batch.events.entries()) {
      const found = await finder.of(event);
      if (!found) return undefined;
      const complete = { ...event, ...found };
      bytes += bytesOfEvent(complete);
      if (events.length > 0 && bytes > PART_BYTES_MAX) return splitPart(part, events, this.#options.places);
      events.push(complete);
      // Each may have read a large record.
      if (i % 64 === 63) await this.#options.turn();
    }
    return { batch: { ...batch, events }, rest: [] };
  }

  #trim(): void {
    for (const part of this.#made.keys()) {
      if (this.#keptBytes <= KEPT_BYTES_MAX && this.#made.size <= KEPT_COUNT_MAX) return;
      this.#forget(part);
    }
  }

  #forget(part: Part): void {
    const made = this.#made.get(part);
    if (!made) return;
    this.#made.delete(part);
    this.#keptBytes -= made.bytes;
  }
}
