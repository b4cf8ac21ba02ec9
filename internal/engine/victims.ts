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
  /** How long the entry was not used. */
  idle(id: number): number;
  /** How often it was used, as a logarithm. */
  uses(id: number): number;
  /** The entry with a deadline that is due soonest, about; NO_ID when none has one. */
  soonest(isWanted: (id: number) => boolean): number;
}

const NO_ID = 0;
const SAMPLES = 8;
const POOL_IDS = 16;
/** So many samples at most are taken for those that were named already. */
const TRIES_MAX = 64;

export class Victims {
  readonly #candidates: Candidates;
  readonly #chance: Chance;
  readonly #named = new Set<number>();
  /** The best that were met and not named, for the policy that was asked for last. */
  #pool: number[] = [];
  #poolPolicy: EvictionPolicy = "random";
  readonly #isWanted = (id: number): boolean => !this.#named.has(id);

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
    this.#pool = [];
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
    while (!this.#isWanted(id)) id = this.#candidates.nextFrom(id + 1);
    return id;
  }

  #bestOf(policy: "lru" | "lfu"): number {
    if (this.#poolPolicy !== policy) this.#pool = [];
    this.#poolPolicy = policy;
    const met = this.#pool.filter((id) => this.#candidates.isThere(id) && this.#isWanted(id));
    if (this.#candidates.count() <= POOL_IDS) this.#meetAll(met);
    else for (let tries = 0; tries < SAMPLES; tries++) this.#meet(met, this.#anyOf());
    const scored = met.map((id) => ({ id, score: this.#score(policy, id) }));
    scored.sort((a, b) => b.score - a.score);
    const ids = scored.slice(0, POOL_IDS).map(({ id }) => id);
    const best = ids.shift();
    this.#pool = ids;
    return best ?? NO_ID;
  }

  #meetAll(met: number[]): void {
    const first = this.#candidates.nextFrom(NO_ID);
    let id = first;
    do {
      if (this.#isWanted(id)) this.#meet(met, id);
      id = this.#candidates.nextFrom(id + 1);
    } while (id !== first);
  }

  #meet(met: number[], id: number): void {
    if (id !== NO_ID && !met.includes(id)) met.push(id);
  }

  /** The highest goes. */
  #score(policy: "lru" | "lfu", id: number): number {
    const idle = this.#candidates.idle(id);
    // Idle times stay below 2^32: they decide among those that were used equally often.
    return policy === "lru" ? idle : idle - this.#candidates.uses(id) * 2 ** 32;
  }
}
