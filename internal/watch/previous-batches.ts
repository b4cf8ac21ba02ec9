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

interface Made {
  readonly result: Promise<CompletePart | undefined>;
  /** Of each that has asked, whether it still waits; none any more once it is made. */
  askers: (() => boolean)[] | undefined;
  bytes: number;
}

/** What is kept for watches that come a little later. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;
const KEPT_COUNT_MAX = 256;
/** Batches that are made at the same time: each holds a record of the log meanwhile. */
const MAKING_MAX = 4;
/** Looking up, for all batches together, keeps nobody waiting longer than this, about. */
const SLICE_MS_MAX = 2;

export class PreviousBatches {
  readonly #options: {
    readonly finder: () => PreviousFinder;
    readonly places: Places;
    readonly turn: () => Promise<void>;
    readonly nowMs: () => number;
  };
  /** The oldest first. */
  readonly #made = new Map<Part, Made>();
  #keptBytes = 0;
  /** Batches that are being made, and those that wait for that. */
  #makingCount = 0;
  readonly #waiting: (() => void)[] = [];
  /** When others had their turn last. */
  #sinceMs = 0;

  /** `turn` resolves on a later turn of the event loop, a turn for each that waits; `nowMs` is the monotonic clock. */
  constructor(options: {
    finder: () => PreviousFinder;
    places: Places;
    turn: () => Promise<void>;
    nowMs: () => number;
  }) {
    this.#options = options;
  }

  /** undefined: the log has been cut meanwhile, or nobody who has asked still waits. */
  complete(part: Part, isWaiting: () => boolean): Promise<CompletePart | undefined> {
    const known = this.#made.get(part);
    if (known) {
      known.askers?.push(isWaiting);
      return known.result;
    }
    const askers = [isWaiting];
    const made: Made = { result: this.#makeInTurn(part, askers), askers, bytes: part.bytes };
    this.#made.set(part, made);
    this.#keptBytes += made.bytes;
    made.result.then(
      (complete) => {
        made.askers = undefined;
        if (this.#made.get(part) !== made) return;
        if (!complete) return this.#forget(part);
        const bytes = complete.batch.events.reduce((sum, event) => sum + bytesOfEvent(event), 0);
        this.#keptBytes += bytes - made.bytes;
        made.bytes = bytes;
        this.#trim();
      },
      () => {
        if (this.#made.get(part) === made) this.#forget(part);
      },
    );
    this.#trim();
    return made.result;
  }

  async #makeInTurn(part: Part, askers: readonly (() => boolean)[]): Promise<CompletePart | undefined> {
    if (this.#makingCount === MAKING_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else if (this.#makingCount++ === 0) this.#sinceMs = this.#options.nowMs();
    try {
      return await this.#make(part, askers);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#makingCount--;
    }
  }

  async #make(part: Part, askers: readonly (() => boolean)[]): Promise<CompletePart | undefined> {
    const finder = this.#options.finder();
    const events: LoggedEvent[] = [];
    let bytes = 0;
    const { batch } = part;
    for (const event of batch.events) {
      await this.#othersTurn();
      if (!askers.some((isWaiting) => isWaiting())) {
        // Whoever asks from now on does so anew.
        this.#forget(part);
        return undefined;
      }
      const found = await finder.of(event);
      if (!found) return undefined;
      const complete = { ...event, ...found };
      bytes += bytesOfEvent(complete);
      if (events.length > 0 && bytes > PART_BYTES_MAX) return splitPart(part, events, this.#options.places);
      events.push(complete);
    }
    return { batch: { ...batch, events }, rest: [] };
  }

  /** Waits while others are due: each value may be in another large record. */
  async #othersTurn(): Promise<void> {
    const { nowMs, turn } = this.#options;
    if (nowMs() - this.#sinceMs < SLICE_MS_MAX) return;
    await turn();
    this.#sinceMs = nowMs();
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
