import { expect, test } from "vitest";
import { Chance } from "./chance.js";
import type { EvictionPolicy } from "./engine.js";
import { type Candidates, Victims } from "./victims.js";

/** Entries with ids from 1 on, as far as they are there. */
class Entries implements Candidates {
  readonly idles = new Map<number, number>();
  readonly counts = new Map<number, number>();
  readonly deadlines = new Map<number, number>();
  readonly hidden = new Set<number>();
  looks = 0;

  count(): number {
    return this.idles.size;
  }

  sample(random: number): number {
    const ids = [...this.idles.keys()];
    return ids[(random >>> 0) % ids.length] ?? 0;
  }

  sampleFew(random: number, into: Int32Array): number {
    const ids = [...this.idles.keys()];
    const count = Math.min(into.length, ids.length);
    for (let at = 0; at < count; at++) into[at] = ids[((random >>> 0) + at) % ids.length]!;
    return count;
  }

  nextFrom(id: number): number {
    const ids = [...this.idles.keys()].sort((a, b) => a - b);
    return ids.find((other) => other >= id) ?? ids[0] ?? 0;
  }

  isHidden(id: number): boolean {
    return this.hidden.has(id);
  }

  isThere(id: number): boolean {
    return this.idles.has(id);
  }

  lastUse(id: number): number {
    this.looks++;
    return 1e6 - this.idles.get(id)!;
  }

  uses(id: number): number {
    return this.counts.get(id) ?? 0;
  }

  soonest(isWanted: (id: number) => boolean): number {
    const ids = [...this.deadlines.keys()].filter(isWanted);
    return ids.sort((a, b) => this.deadlines.get(a)! - this.deadlines.get(b)!)[0] ?? 0;
  }
}

const policies: readonly EvictionPolicy[] = ["lru", "lfu", "random", "ttl"];

function setUp(count: number): { entries: Entries; victims: Victims } {
  const entries = new Entries();
  for (let id = 1; id <= count; id++) {
    entries.idles.set(id, id);
    entries.deadlines.set(id, 10_000 - id);
  }
  return { entries, victims: new Victims(entries, new Chance(7)) };
}

test.each(policies)("%s names every entry once before it names one again", (policy) => {
  const { victims } = setUp(40);
  const first = new Set(Array.from({ length: 40 }, () => victims.next(policy)));
  expect(first.size).toBe(40);
  expect(first.has(0)).toBe(false);
  const again = new Set(Array.from({ length: 40 }, () => victims.next(policy)));
  expect(again).toEqual(first);
});

test.each(policies)("%s names nothing where there is nothing", (policy) => {
  const { entries, victims } = setUp(0);
  expect(victims.next(policy)).toBe(0);
  entries.idles.set(5, 1);
  entries.deadlines.set(5, 1);
  expect([victims.next(policy), victims.next(policy)]).toEqual([5, 5]);
});

test("an entry that was changed may be named again", () => {
  const { victims } = setUp(3);
  expect(victims.next("lru")).toBe(3);
  victims.forget(3);
  expect(victims.next("lru")).toBe(3);
  expect(victims.next("lru")).toBe(2);
});

test("an entry that is used after it was met does not go", () => {
  const { entries, victims } = setUp(300);
  // By now the best of them all were met.
  for (let round = 0; round < 200; round++) victims.forget(victims.next("lru"));
  entries.idles.set(300, 0);
  entries.idles.set(299, 0);
  const named = Array.from({ length: 150 }, () => victims.next("lru"));
  expect(named.filter((id) => id >= 299)).toEqual([]);
});

test("of few entries the one goes that was not used for longest, or was used least, or is due first", () => {
  const { entries, victims } = setUp(10);
  expect(victims.next("lru")).toBe(10);
  for (let id = 1; id <= 10; id++) entries.counts.set(id, id === 4 ? 1 : 9);
  expect(victims.next("lfu")).toBe(4);
  expect(victims.next("ttl")).toBe(9);
});

test("of many, those that go were used little, though few are looked at", () => {
  const { entries, victims } = setUp(5000);
  let idle = 0;
  for (let round = 0; round < 500; round++) {
    const id = victims.next("lru");
    idle += id;
    entries.idles.delete(id);
    victims.forget(id);
  }
  // By chance it would be 2500; exact, 4750.
  expect(idle / 500).toBeGreaterThan(4400);
  expect(entries.looks / 500).toBeLessThan(30);
});

test.each(policies)("by %s an entry is never named that goes in any case, and the search for others ends", (policy) => {
  const { entries, victims } = setUp(600);
  for (let id = 1; id <= 600; id++) if (id % 300 !== 0) entries.hidden.add(id);
  for (let n = 0; n < 20; n++) expect([0, 300, 600]).toContain(victims.next(policy));
  entries.hidden.add(300).add(600);
  expect(victims.next(policy)).toBe(0);
  entries.hidden.clear();
  expect(victims.next(policy)).not.toBe(0);
});
