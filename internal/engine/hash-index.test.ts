import fc from "fast-check";
import { expect, test } from "vitest";
import { ABSENT, HashIndex, type Keys } from "./hash-index.js";
import { LocatedKeys } from "./located-keys.js";
import { KeyHash } from "./hash-index-hash.js";

/** A key is four bytes, and its location the number that they are. */
class NumberKeys implements Keys {
  compared = 0;

  isKey(location: number, bytes: Uint8Array, start: number): boolean {
    this.compared++;
    return (bytes as Buffer).readInt32LE(start) === location;
  }
}

class Checked {
  readonly keys = new NumberKeys();
  readonly index = new HashIndex(this.keys);
  readonly model = new Map<number, { hash: number; location: number }>();
  readonly #bytes = Buffer.alloc(4);

  set(key: number, hash: number): void {
    if (this.model.has(key)) return;
    this.index.add(hash, key);
    this.model.set(key, { hash, location: key });
  }

  delete(key: number): void {
    const known = this.model.get(key);
    if (!known) return;
    this.index.delete(known.hash, key);
    this.model.delete(key);
  }

  find(key: number, hash: number): number {
    this.#bytes.writeInt32LE(key);
    return this.index.find(hash, this.#bytes, 0, 4);
  }

  expectSame(): void {
    expect(this.index.count).toBe(this.model.size);
    const lost = [...this.model].filter(([key, { hash }]) => this.find(key, hash) !== key);
    expect(lost).toEqual([]);
  }
}

/** Spreads a number over 32 bits; signed. */
function spread(n: number): number {
  let hash = Math.imul(n, 0x9e3779b1);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x85ebca6b);
  return hash ^ (hash >>> 13);
}

const hashes = {
  spread,
  "all alike": () => 0x12345678,
  "alike in their first bits": (n: number) => (spread(n) & 0xfff) | 0xabcde000,
  "alike in their last bits": (n: number) => (n << 20) | 77,
} as const;

test.each(Object.entries(hashes))(
  "keys are found after many additions and deletions, with hashes that are %s",
  (name, hash) => {
    const step = fc.record({
      isAddition: fc.boolean(),
      first: fc.integer({ min: 1, max: 3000 }),
      count: fc.integer({ min: 1, max: name === "all alike" ? 200 : 3000 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const checked = new Checked();
        for (const { isAddition, first, count } of steps) {
          for (let key = first; key < first + count; key++) {
            if (isAddition) checked.set(key, hash(key));
            else checked.delete(key);
          }
        }
        checked.expectSame();
        for (let key = 1; key <= 6000; key += 7) {
          if (!checked.model.has(key) && checked.find(key, hash(key)) !== ABSENT) expect(key).toBe("absent");
        }
      }),
      { numRuns: 20 },
    );
  },
);

test("the index grows by segments and shrinks again, with every key found on the way", () => {
  const checked = new Checked();
  const keys = 100_000;
  for (let key = 1; key <= keys; key++) checked.set(key, spread(key));
  checked.expectSame();
  expect(checked.index.bytesTotal).toBeLessThan(keys * 8 * 2.6);
  for (let key = 1; key <= keys; key++) if (key % 100 !== 0) checked.delete(key);
  checked.expectSame();
  expect(checked.index.bytesTotal).toBeLessThan((keys / 100) * 8 * 20);
  for (let key = 1; key <= keys; key++) checked.delete(key);
  checked.expectSame();
  expect(checked.index.bytesTotal).toBe(64 * 8);
});

test("more keys of one hash than a segment holds are held nevertheless", () => {
  const checked = new Checked();
  for (let key = 1; key <= 5000; key++) checked.set(key, 99);
  for (let key = 1; key <= 5000; key++) if (key % 3 !== 0) checked.delete(key);
  checked.expectSame();
  expect(checked.index.count).toBe(1666);
});

test("a key that moved is found at its new place", () => {
  const checked = new Checked();
  for (let key = 1; key <= 500; key++) checked.set(key, spread(key));
  checked.index.move(spread(7), 7, -5);
  expect(checked.find(-5, spread(7))).toBe(-5);
  expect(checked.find(7, spread(7))).toBe(ABSENT);
});

test("almost every search compares one key at most", () => {
  const checked = new Checked();
  for (let key = 1; key <= 100_000; key++) checked.set(key, spread(key));
  checked.keys.compared = 0;
  for (let key = 1; key <= 200_000; key++) checked.find(key, spread(key));
  expect(checked.keys.compared).toBeLessThan(100_100);
});

test("keys that collide under a known seed are found as fast as others under any other seed", () => {
  const count = 12_000;
  const key = new Uint8Array(4);
  const numbers = new DataView(key.buffer);
  const hashOf = (hash: KeyHash, n: number): number => {
    numbers.setUint32(0, n, true);
    return hash.of(key, 0, 4);
  };
  const known = new KeyHash([1, 2]);
  const colliding: number[] = [];
  // All begin to look for their slot at one of four places of their segment.
  for (let n = 1; colliding.length < count; n++) if ((hashOf(known, n) & 0x3ff) === 0) colliding.push(n);
  const others = colliding.map((_, place) => place + 1);
  const probesOf = (hash: KeyHash, keys: readonly number[]): number => {
    const index = new HashIndex(new NumberKeys());
    for (const n of keys) index.add(hashOf(hash, n), n);
    return keys.reduce((sum, n) => sum + index.probes(hashOf(hash, n), n), 0) / count;
  };
  expect(probesOf(known, others)).toBeLessThan(3);
  expect(probesOf(known, colliding)).toBeGreaterThan(200);
  for (let seed = 3; seed <= 12; seed++) {
    const hash = new KeyHash([seed, -seed]);
    const ratio = probesOf(hash, colliding) / probesOf(hash, others);
    expect(Math.abs(ratio - 1)).toBeLessThan(0.25);
  }
});

test("a sample meets every key sooner or later, also the last one of many", () => {
  const checked = new Checked();
  for (let key = 1; key <= 200; key++) checked.set(key, spread(key));
  const met = new Set<number>();
  for (let i = 0; i < 20_000; i++) met.add(checked.index.sample(spread(i)));
  expect(met.size).toBe(200);
  for (let key = 201; key <= 20_000; key++) checked.set(key, spread(key));
  for (let key = 1; key < 20_000; key++) checked.delete(key);
  expect(checked.index.sample(12_345)).toBe(20_000);
  checked.delete(20_000);
  expect(checked.index.sample(12_345)).toBe(ABSENT);
});

test("nothing is there after a clear", () => {
  const checked = new Checked();
  for (let key = 1; key <= 20_000; key++) checked.set(key, spread(key));
  checked.index.clear();
  expect(checked.index.count).toBe(0);
  expect(checked.find(5, spread(5))).toBe(ABSENT);
});

test.each(Object.entries(hashes))(
  "keys that are taken in all at once are found, and others beside them later, with hashes that are %s",
  (name, hash) => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: name === "all alike" ? 300 : 20_000 }), (count) => {
        const checked = new Checked();
        const keys = new LocatedKeys();
        for (let key = 1; key <= count; key++) {
          keys.add(hash(key), key);
          checked.model.set(key, { hash: hash(key), location: key });
        }
        const steps = checked.index.take(keys, () => false);
        while (!steps.next().done);
        checked.expectSame();
        for (let key = count + 1; key <= count + 100; key++) checked.set(key, hash(key));
        for (let key = 1; key <= count; key += 3) checked.delete(key);
        checked.expectSame();
      }),
      { numRuns: 20 },
    );
  },
);

test("of keys that are taken in all at once and are one, the last is found, and the others are told", () => {
  const keys = new LocatedKeys();
  const checked = new Checked();
  for (let location = 1; location <= 70_000; location++) keys.add(spread(location % 60_000), location);
  const replaced: number[] = [];
  const steps = checked.index.take(keys, (before, location) => {
    const isTwin = before % 60_000 === location % 60_000;
    if (isTwin) replaced.push(before);
    return isTwin;
  });
  let count = 1;
  while (!steps.next().done) count++;
  expect(count).toBeGreaterThan(3);
  expect(replaced.sort((a, b) => a - b)).toEqual(Array.from({ length: 10_000 }, (_, at) => at + 1));
  expect(checked.index.count).toBe(60_000);
  for (let location = 10_001; location <= 70_000; location++)
    expect(checked.find(location, spread(location % 60_000))).toBe(location);
});
