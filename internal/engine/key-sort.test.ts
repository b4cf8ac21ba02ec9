import fc from "fast-check";
import { expect, test } from "vitest";
import { KeySort, type SortableKeys } from "./key-sort.js";
import { KeyWindows } from "./key-windows.js";
import { commonBytes, compareBytes, windowOf } from "./slab-bytes.js";
import { keyName, numbered, shapes } from "./testing/key-names.js";

/** Ids are places in the list of keys. */
class ListedKeys implements SortableKeys {
  readonly #keys: readonly Buffer[];
  looks = 0;

  constructor(names: readonly string[]) {
    this.#keys = names.map((name) => Buffer.from(name, "latin1"));
  }

  keyBytesOf(id: number): number {
    return this.#keys[id]!.length;
  }

  windowOf(id: number, skip: number): number {
    this.looks++;
    const key = this.#keys[id]!;
    return windowOf(key, Math.min(skip, key.length), key.length);
  }

  copyKey(id: number): Uint8Array {
    return this.#keys[id]!.slice();
  }

  commonBytesFrom(id: number, b: Uint8Array, skip: number): number {
    const a = this.#keys[id]!;
    if (Math.min(a.length, b.length) < skip) throw new Error(`a key of fewer than ${skip} bytes was compared`);
    return commonBytes(a, skip, a.length, b, skip, b.length);
  }

  compareFrom(id: number, other: number, skip: number): number {
    const [a, b] = [this.#keys[id]!, this.#keys[other]!];
    const [aStart, bStart] = [Math.min(skip, a.length), Math.min(skip, b.length)];
    return compareBytes(a, aStart, a.length, b, bStart, b.length) || a.length - b.length;
  }

  expectSorted(sort: KeySort): void {
    const found = Array.from(sort.ids, (id) => this.#keys[id]!.toString("latin1"));
    expect(found).toEqual(Array.from(this.#keys, (key) => key.toString("latin1")).sort());
    const copied = new Int32Array(3);
    for (const [place, id] of sort.ids.entries()) {
      for (let skip = 0; skip < 24; skip++) {
        sort.copyWindows(place, place + 1, skip, copied, 1);
        const expected = this.windowOf(id, skip);
        if (copied[1] !== expected) expect(copied[1], `${found[place]} without ${skip} bytes`).toBe(expected);
      }
    }
  }
}

/** Sorts, and gives the number of portions. */
function expectSorted(names: readonly string[]): number {
  const keys = new ListedKeys(names);
  const sort = new KeySort(keys, Int32Array.from(names.keys()));
  const steps = sort.run();
  let portions = 1;
  while (!steps.next().done) portions++;
  keys.expectSorted(sort);
  expectSortedBy(keys, names);
  return portions;
}

/** The same where eight bytes of each key are known. */
function expectSortedBy(keys: ListedKeys, names: readonly string[]): void {
  const known = new KeyWindows();
  for (const [id, name] of names.entries()) known.note(id, Buffer.from(name, "latin1"), 0, name.length);
  for (const _ of known.settle());
  const sort = new KeySort(keys, Int32Array.from(names.keys()), known);
  for (const _ of sort.run());
  keys.expectSorted(sort);
}

const prefix = fc.constantFrom("", "\0", "k", "tenant-7/users/", "\0".repeat(20), "z".repeat(70));

test("ids are sorted by their keys, whatever these are and however they come", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ prefix, shape: fc.nat(shapes.length - 1), first: fc.nat(900), count: fc.nat(400) }), {
        maxLength: 6,
      }),
      fc.array(keyName),
      fc.nat(1_000_000),
      (groups, names, seed) => {
        for (const { prefix, shape, first, count } of groups) {
          for (let n = first; n < first + count; n++) names.push(prefix + shapes[shape]!(n));
        }
        const all = [...new Set(names)];
        // By chance, but the same chance each time.
        const ranks = new Map(all.map((name, n) => [name, ((n + 1) * (2 * seed + 7919)) % 1_000_003]));
        expectSorted(all.sort((a, b) => ranks.get(a)! - ranks.get(b)!));
      },
    ),
    { numRuns: Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 60) },
  );
});

test("no keys, one key, and the empty key are sorted", () => {
  expectSorted([]);
  expectSorted(["a"]);
  expectSorted([""]);
  expectSorted(["b", "", "a"]);
});

test("keys that come in their order, in the opposite one, or as far as eight bytes tell, are sorted", () => {
  const ascending = Array.from({ length: 3000 }, (_, n) => numbered(n));
  expectSorted(ascending);
  expectSorted(ascending.toReversed());
  expectSorted([...ascending.slice(0, 2000), "a", ...ascending.slice(2000)]);
  const alike = ["abcdefgh", "bcdefghi"].flatMap((name) =>
    Array.from({ length: 50 }, (_, n) => `${name}${(n * 7) % 50}`),
  );
  expectSorted(alike);
});

test("many keys are sorted in many portions", () => {
  const names = Array.from({ length: 120_000 }, (_, n) => numbered((n * 7919) % 120_000));
  const keys = new ListedKeys(names);
  const sort = new KeySort(keys, Int32Array.from(names.keys()));
  const steps = sort.run();
  let portions = 1;
  for (let before = 0; !steps.next().done; portions++) {
    // Two windows a key: none reads more than a portion of them.
    expect(keys.looks - before).toBeLessThanOrEqual(20_000);
    before = keys.looks;
  }
  expect(portions).toBeGreaterThan(10);
  expect(keys.looks).toBe(240_000);
  expect(Array.from(sort.ids.subarray(0, 3), (id) => names[id])).toEqual([numbered(0), numbered(1), numbered(2)]);
});
