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
  /** The best that were met and not named, in no order, with what they scored then, for the policy that was asked for last. */
  readonly #pool: number[] = [];
  readonly #scores: number[] = [];
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
    if (this.#candidates.count() <= POOL_IDS) this.#meetAll(policy);
    else for (let tries = 0; tries < SAMPLES; tries++) this.#meet(policy, this.#anyOf());
    while (this.#pool.length > 0) {
      const at = this.#place("best");
      const id = this.#pool[at]!;
      const score = this.#scores[at]!;
      this.#drop(at);
      // One that was used since it was met scores less, as does another entry that has its id now.
      if (this.#candidates.isThere(id) && this.#isWanted(id) && this.#score(policy, id) >= score) {
        while (this.#pool.length > POOL_IDS) this.#drop(this.#place("worst"));
        return id;
      }
    }
    return NO_ID;
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

  #meet(policy: "lru" | "lfu", id: number): void {
    if (id === NO_ID || this.#pool.includes(id)) return;
    this.#pool.push(id);
    this.#scores.push(this.#score(policy, id));
  }

  /** Where in the pool the highest score is, or the lowest. */
  #place(which: "best" | "worst"): number {
    let found = 0;
    for (let at = 1; at < this.#scores.length; at++) {
      const isHigher = this.#scores[at]! > this.#scores[found]!;
      if (isHigher === (which === "best")) found = at;
    }
    return found;
  }

  #drop(at: number): void {
    const [id, score] = [this.#pool.pop()!, this.#scores.pop()!];
    if (at === this.#pool.length) return;
    this.#pool[at] = id;
    this.#scores[at] = score;
  }

  #emptyPool(): void {
    this.#pool.length = 0;
    this.#scores.length = 0;
  }

  /** The highest goes. It rises by itself, when a count falls, and falls only by a use. */
  #score(policy: "lru" | "lfu", id: number): number {
    const lastUse = this.#candidates.lastUse(id);
    // Of those that were used equally often, the one goes that was not used for longest.
    return policy === "lru" ? -lastUse : -lastUse - this.#candidates.uses(id) * A_USE;
  }
}
