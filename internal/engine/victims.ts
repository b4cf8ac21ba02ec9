/**
 * Chooses which entry goes when there is no room: of a few met by chance the best, together with the best of those met
 * before (as Valkey's eviction pool does it), since exact orders cost memory for each entry and time at each use.
 *
 * Entries that were named are not named again until they are changed or removed, unless there are no others: whoever makes
 * room for much gathers many before the first of them goes.
 */
import { unreachable } from "../base/assert.js";
import type { Chance } from "./chance.js";
import type { EvictionPolicy } from "./engine.js";

/** What is known of the entries. */
export interface Candidates {
  count(): number;
  /** The id of some entry, by chance; NO_ID when there is none. */
  sample(random: number): number;
  /** Puts ids that lie together, as good as by chance, into the list; how many. Cheaper than as many single ones. */
  sampleFew(random: number, ids: Int32Array): number;
  /** The first id from this one on, in whatever order, the first of all after the last; NO_ID when there is none. */
  nextFrom(id: number): number;
  isThere(id: number): boolean;
  /** Whether an entry is about to go in any case. */
  isHidden(id: number): boolean;
  /** When the entry was used last: a number that is higher for later. */
  lastUse(id: number): number;
  /** How often it was used, as a logarithm; 255 at most. */
  uses(id: number): number;
  /** The entry with a deadline that is due soonest, about; NO_ID when none has one. */
  soonest(isWanted: (id: number) => boolean): number;
}

const NO_ID = 0;
const SAMPLES = 8;
const POOL_IDS = 16;
/** So many samples at most are taken for those that were named already. */
const TRIES_MAX = 64;
/** So many entries that go in any case are passed over, then there is none. */
const HIDDEN_MAX = 256;
/** Above every last use: one use more or less counts for more. */
const A_USE = 2 ** 44;

export class Victims {
  readonly #candidates: Candidates;
  readonly #chance: Chance;
  readonly #named = new Set<number>();
  /** The best that were met and not named, with what they scored then, the highest last; for the policy that was asked for last. */
  readonly #pool = new Int32Array(POOL_IDS);
  readonly #scores = new Float64Array(POOL_IDS);
  #poolCount = 0;
  readonly #few = new Int32Array(SAMPLES);
  #poolPolicy: EvictionPolicy = "random";
  readonly #isWanted = (id: number): boolean => !this.#named.has(id) && !this.#candidates.isHidden(id);

  constructor(candidates: Candidates, chance: Chance) {
    this.#candidates = candidates;
    this.#chance = chance;
  }

  /** The id of an entry that could go; NO_ID when none can. */
  next(policy: EvictionPolicy): number {
    if (this.#candidates.count() === 0) return NO_ID;
    let id = this.#choose(policy);
    if (id === NO_ID && this.#named.size > 0) {
      // All that could go were named. Some may not have gone, so they are named once more.
      this.#named.clear();
      id = this.#choose(policy);
    }
    if (id !== NO_ID) this.#named.add(id);
    return id;
  }

  /** The entry was changed or removed. */
  forget(id: number): void {
    if (this.#named.size > 0) this.#named.delete(id);
  }

  clear(): void {
    this.#named.clear();
    this.#emptyPool();
  }

  #choose(policy: EvictionPolicy): number {
    switch (policy) {
      case "random":
        return this.#anyOf();
      case "ttl":
        return this.#candidates.soonest(this.#isWanted);
      case "lru":
      case "lfu":
        return this.#bestOf(policy);
      default:
        return unreachable(policy);
    }
  }

  #anyOf(): number {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const id = this.#candidates.sample(this.#chance.bits());
      if (this.#isWanted(id)) return id;
    }
    return this.#firstWanted();
  }

  /** Named entries are most: the others are sought one after another. */
  #firstWanted(): number {
    if (this.#named.size >= this.#candidates.count()) return NO_ID;
    let id = this.#candidates.sample(this.#chance.bits());
    let hiddenLeft = HIDDEN_MAX;
    for (let left = this.#candidates.count(); left > 0; left--) {
      if (this.#isWanted(id)) return id;
      if (!this.#named.has(id) && --hiddenLeft === 0) return NO_ID;
      id = this.#candidates.nextFrom(id + 1);
    }
    return NO_ID;
  }

  #bestOf(policy: "lru" | "lfu"): number {
    if (this.#poolPolicy !== policy) this.#emptyPool();
    this.#poolPolicy = policy;
    this.#meetSome(policy);
    let id = this.#takeBest(policy);
    if (id === NO_ID) {
      // All in the pool were used or went since they were met, and left those that were met now no room in it.
      this.#meetSome(policy);
      id = this.#takeBest(policy);
    }
    return id;
  }

  #meetSome(policy: "lru" | "lfu"): void {
    if (this.#candidates.count() <= POOL_IDS) {
      this.#meetAll(policy);
      return;
    }
    const few = this.#few;
    const count = this.#candidates.sampleFew(this.#chance.bits(), few);
    for (let at = 0; at < count; at++) if (this.#isWanted(few[at]!)) this.#meet(policy, few[at]!);
    if (this.#poolCount > 0) return;
    const id = this.#anyOf();
    if (id !== NO_ID) this.#meet(policy, id);
  }

  #meetAll(policy: "lru" | "lfu"): void {
    this.#emptyPool();
    const first = this.#candidates.nextFrom(NO_ID);
    let id = first;
    do {
      if (this.#isWanted(id)) this.#meet(policy, id);
      id = this.#candidates.nextFrom(id + 1);
    } while (id !== first);
  }

  /** Takes an id into the pool, if it is better than the worst there. */
  #meet(policy: "lru" | "lfu", id: number): void {
    const [pool, scores] = [this.#pool, this.#scores];
    const score = this.#score(policy, id);
    const isFull = this.#poolCount === POOL_IDS;
    if (isFull && score <= scores[0]!) return;
    if (pool.subarray(0, this.#poolCount).includes(id)) return;
    if (isFull) this.#dropWorst();
    let at = this.#poolCount++;
    for (; at > 0 && scores[at - 1]! > score; at--) {
      pool[at] = pool[at - 1]!;
      scores[at] = scores[at - 1]!;
    }
    pool[at] = id;
    scores[at] = score;
  }

  #dropWorst(): void {
    this.#pool.copyWithin(0, 1);
    this.#scores.copyWithin(0, 1);
    this.#poolCount--;
  }

  #takeBest(policy: "lru" | "lfu"): number {
    while (this.#poolCount > 0) {
      const at = --this.#poolCount;
      const id = this.#pool[at]!;
      // One that was used since it was met scores less, as does another entry that has its id now.
      if (!this.#candidates.isThere(id) || !this.#isWanted(id)) continue;
      if (this.#score(policy, id) >= this.#scores[at]!) return id;
    }
    return NO_ID;
  }

  #emptyPool(): void {
    this.#poolCount = 0;
  }

  /** The highest goes. It rises by itself, when a count falls, and falls only by a use. */
  #score(policy: "lru" | "lfu", id: number): number {
    const lastUse = this.#candidates.lastUse(id);
    // Of those that were used equally often, the one goes that was not used for longest.
    return policy === "lru" ? -lastUse : -lastUse - this.#candidates.uses(id) * A_USE;
  }
}
