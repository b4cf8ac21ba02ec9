/**
 * What compaction must leave where it is, because somebody is reading it. A pin lasts until it is released, or until its
 * reader has been idle for ten minutes: nobody who merely went silent holds a disk full.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { Seq } from "../base/position.js";
import { StoreError } from "./store-error.js";

export const PIN_IDLE_MS = 10 * 60 * 1000;
/** Readers at once; each may hold back all that the log grows by. */
export const PINS_MAX = 8;

/** What a reader needs. */
export interface PinnedPlaces {
  /** The log after this seq. */
  readonly logSeq: Seq;
  /** The record log from this offset on. */
  readonly recordOffset: number;
  /** The snapshot file. */
  readonly snapshot: string;
}

export class Pin {
  readonly #clock: Clock;
  readonly #onRelease: (pin: Pin) => void;
  #timer: Timer | undefined;
  /** Why the pin holds nothing any more. */
  #ended: StoreError | undefined;
  readonly places: PinnedPlaces;

  constructor(places: PinnedPlaces, clock: Clock, onRelease: (pin: Pin) => void) {
    this.places = places;
    this.#clock = clock;
    this.#onRelease = onRelease;
    this.touch();
  }

  /** The reader is still there. Throws `StoreError` when the pin has ended meanwhile: what was pinned may be gone. */
  touch(): void {
    if (this.#ended) throw this.#ended;
    this.#timer?.cancel();
    this.#timer = this.#clock.after(PIN_IDLE_MS, () => {
      this.end(
        new StoreError(
          "overloaded",
          `nothing was read for ${PIN_IDLE_MS / 60_000} minutes, and what was kept for it is given up; start again`,
        ),
      );
    });
  }

  /** Lets go; whoever still reads is told `reason`. */
  end(reason: StoreError): void {
    this.#ended ??= reason;
    this.#timer?.cancel();
    this.#onRelease(this);
  }

  /** The reader is done. Idempotent. */
  release(): void {
    this.end(new StoreError("closing", "what was read has been given back"));
  }
}

export class Pins {
  readonly #clock: Clock;
  readonly #pins = new Set<Pin>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws `StoreError` "overloaded" when there are too many. */
  take(places: PinnedPlaces): Pin {
    if (this.#pins.size >= PINS_MAX) {
      throw new StoreError("overloaded", `${PINS_MAX} backups are being sent already, which is the limit; try later`);
    }
    const pin = new Pin(places, this.#clock, (ended) => this.#pins.delete(ended));
    this.#pins.add(pin);
    return pin;
  }

  get count(): number {
    return this.#pins.size;
  }

  /** The log after this seq stays; `Infinity` without pins. */
  get logSeq(): number {
    return this.#lowest(({ logSeq }) => logSeq);
  }

  /** The record log stays from this offset on; `Infinity` without pins. */
  get recordOffset(): number {
    return this.#lowest(({ recordOffset }) => recordOffset);
  }

  holdsSnapshot(path: string): boolean {
    return [...this.#pins].some(({ places }) => places.snapshot === path);
  }

  /** Lets go of everything; readers are told `reason`. */
  endAll(reason: StoreError): void {
    for (const pin of this.#pins) pin.end(reason);
  }

  #lowest(of: (places: PinnedPlaces) => number): number {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#pins].map(({ places }) => of(places)));
  }
}
