/**
 * When entries were used, and how often. Time is counted in uses of the engine: so it needs no clock, and is as fine for an
 * engine of which much is asked as for an idle one.
 *
 * How often is a logarithm in 8 bits: it rises the more rarely the higher it is, by chance (Morris' counter, as Valkey's LFU
 * has it), and falls while the entry is not used.
 */
import type { Chance } from "./chance.js";

/** What a moment is told in. 2^32 of them are as many uses as a day has at some 400,000 a second. */
const USES_A_MOMENT = 8;
const COUNT_MAX = 255;
/** A new entry is not the first to go. */
export const COUNT_NEW = 5;
/** The higher, the more uses a step of the count stands for: with 10, a million uses fill it. */
const COUNT_FACTOR = 10;
/** The count falls by one each time that all others could have been used so often in between. */
const USES_A_FALL = 8;

export class UseClock {
  readonly #chance: Chance;
  #uses = 0;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  /** Counts a use, and tells the moment of it: unsigned 32 bits, beginning anew after the last. */
  use(): number {
    return (++this.#uses / USES_A_MOMENT) >>> 0;
  }

  /** Which of all moments it was, if it is not as long ago as all that can be told apart. */
  placeOf(moment: number): number {
    return Math.floor(this.#uses / USES_A_MOMENT) - this.since(moment);
  }

  /** How long ago a moment was, in moments. */
  since(moment: number): number {
    return (((this.#uses / USES_A_MOMENT) >>> 0) - moment) >>> 0;
  }

  /** What a count has become in so many moments without a use, among so many entries. */
  fallen(count: number, moments: number, entries: number): number {
    const falls = Math.floor((moments * USES_A_MOMENT) / (Math.max(entries, USES_A_MOMENT) * USES_A_FALL));
    return Math.max(0, count - falls);
  }

  /** What a count becomes by a use. */
  raised(count: number): number {
    if (count >= COUNT_MAX) return COUNT_MAX;
    const above = Math.max(0, count - COUNT_NEW);
    return this.#chance.isOneIn(above * COUNT_FACTOR + 1) ? count + 1 : count;
  }
}
