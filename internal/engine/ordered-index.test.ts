import fc from "fast-check";
import { expect, test } from "vitest";
import { NO_ID, OrderedIndex, type OrderedKeys } from "./ordered-index.js";
import { commonBytes, windowOf } from "./slab-bytes.js";
import { keyName, numbered, shapes } from "./testing/key-names.js";

class Checked implements OrderedKeys {
  readonly index = new OrderedIndex(this);
  readonly ids = new Map<string, number>();
  looks = 0;
  readonly #keys = new Map<number, Buffer>();
  #nextId = 1;

  /** Keys are given one character a byte. */
  add(name: string): void {
    if (this.ids.has(name)) return;
    const id = this.#nextId++;
    const key = Buffer.from(name, "latin1");
    this.ids.set(name, id);
    this.#keys.set(id, key);
    this.index.add(id, key);
  }

  /** Takes in all names at once, which an empty index does from the leaves up. */
  build(names: readonly string[]): void {
    for (const name of names) {
      const id = this.#nextId++;
      this.ids.set(name, id);
      this.#keys.set(id, Buffer.from(name, "latin1"));
    }
    const ids = Int32Array.from(this.sorted(), (name) => this.ids.get(name)!);
    const steps = this.index.build({
      ids,
      copyWindows: (from, to, skip, words, start) =>
        words.set(
          Array.from(ids.subarray(from, to), (id) => this.windowOf(id, skip)),
          start,
        ),
    });
    while (!steps.next().done);
  }

  delete(name: string): void {
    const id = this.ids.get(name);
    if (id === undefined) return;
    this.index.delete(id, this.#keyOf(id));
    // From now on, whoever asks for it fails.
    this.ids.delete(name);
    this.#keys.delete(id);
  }

  sorted(): string[] {
    return [...this.ids.keys()].sort((a, b) => (a < b ? -1 : 1));
  }

  from(start: string): string[] {
    const found: string[] = [];
    for (let id = this.index.from(Buffer.from(start, "latin1")); id !== NO_ID; id = this.index.next())
      found.push(this.#nameOf(id));
    return found;
  }

  before(end?: string): string[] {
    const found: string[] = [];
    const key = end === undefined ? undefined : Buffer.from(end, "latin1");
    for (let id = this.index.before(key); id !== NO_ID; id = this.index.previous()) found.push(this.#nameOf(id));
    return found;
  }

  expectSame(places: readonly string[] = []): void {
    const sorted = this.sorted();
    expect(this.from("")).toEqual(sorted);
    expect(this.before()).toEqual(sorted.toReversed());
    for (const place of places) {
      expect(this.from(place)).toEqual(sorted.filter((name) => name >= place));
      expect(this.before(place)).toEqual(sorted.filter((name) => name < place).reverse());
    }
  }

  compareKey(id: number, key: Uint8Array): number {
    this.looks++;
    return Buffer.compare(this.#keyOf(id), key);
  }

  windowOf(id: number, skip: number): number {
    const key = this.#keyOf(id);
    return windowOf(key, Math.min(skip, key.length), key.length);
  }

  commonBytes(id: number, other: number): number {
    return this.commonBytesWith(id, this.#keyOf(other));
  }

  commonBytesWith(id: number, other: Uint8Array): number {
    this.looks++;
    const key = this.#keyOf(id);
    return commonBytes(key, 0, key.length, other, 0, other.length);
  }

  #keyOf(id: number): Buffer {
    const key = this.#keys.get(id);
    if (!key) throw new Error(`the key of ${id}, which was deleted, was looked at`);
    return key;
  }

  #nameOf(id: number): string {
    return this.#keyOf(id).toString("latin1");
  }
}

const step = fc.record({
  isAddition: fc.boolean(),
  shape: fc.nat(shapes.length - 1),
  first: fc.nat(3000),
  count: fc.integer({ min: 1, max: 1500 }),
  stride: fc.constantFrom(1, -1, 7919),
});

test("ids come in the order of their keys, both ways and from everywhere, whatever was added and deleted before", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 15 }), fc.array(keyName, { maxLength: 6 }), (steps, places) => {
      const checked = new Checked();
      for (const { isAddition, shape, first, count, stride } of steps) {
        for (let i = 0; i < count; i++) {
          const name = shapes[shape]!(first + ((((i * stride) % count) + count) % count));
          if (isAddition) checked.add(name);
          else checked.delete(name);
        }
      }
      checked.expectSame(places);
      for (const name of places) checked.add(name);
      checked.expectSame(places);
    }),
    { numRuns: Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 30) },
  );
});

test("an index that was built at once is what one by one makes it, and goes on like that", () => {
  fc.assert(
    fc.property(
      fc.nat(shapes.length - 1),
      fc.oneof(fc.nat(200), fc.nat(9000)),
      fc.array(step, { maxLength: 8 }),
      fc.array(keyName, { maxLength: 6 }),
      (shape, count, steps, places) => {
        const checked = new Checked();
        checked.build([...new Set(Array.from({ length: count }, (_, n) => shapes[shape]!(n)))]);
        checked.expectSame(places);
        for (const { isAddition, shape, first, count, stride } of steps) {
          for (let i = 0; i < count; i++) {
            const name = shapes[shape]!(first + ((((i * stride) % count) + count) % count));
            if (isAddition) checked.add(name);
            else checked.delete(name);
          }
        }
        checked.expectSame(places);
      },
    ),
    { numRuns: Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 30) },
  );
});

test("an index that was built at once shrinks to nothing, from either end and from the middle", () => {
  for (const order of [(n: number) => n, (n: number) => 15_000 - n, (n: number) => (n * 7919) % 15_000]) {
    const checked = new Checked();
    checked.build(Array.from({ length: 15_000 }, (_, n) => numbered(order(n))));
    checked.expectSame([numbered(12_345), "a", "z"]);
    for (let n = 0; n < 14_990; n++) checked.delete(numbered(order(n)));
    checked.expectSame();
    for (let n = 14_990; n < 15_000; n++) checked.delete(numbered(order(n)));
    checked.expectSame();
    checked.add("again");
    expect(checked.from("")).toEqual(["again"]);
  }
});

test("only an empty index is built at once", () => {
  const checked = new Checked();
  checked.add("a");
  expect(() => checked.build(["b"])).toThrow("only an empty index is built");
});

test("a tree of several levels grows and shrinks to nothing, from either end and from the middle", () => {
  for (const order of [(n: number) => n, (n: number) => 15_000 - n, (n: number) => (n * 7919) % 15_000]) {
    const checked = new Checked();
    for (let n = 0; n < 15_000; n++) checked.add(numbered(order(n)));
    checked.expectSame([numbered(12_345), "a", "z"]);
    for (let n = 0; n < 14_990; n++) checked.delete(numbered(order(n)));
    checked.expectSame();
    for (let n = 14_990; n < 15_000; n++) checked.delete(numbered(order(n)));
    checked.expectSame();
    checked.add("again");
    expect(checked.from("")).toEqual(["again"]);
  }
});

test("keys in ascending order fill their leaves", () => {
  const checked = new Checked();
  for (let n = 0; n < 50_000; n++) checked.add(numbered(n));
  expect(checked.index.bytesTotal / 50_000).toBeLessThan(12);
});

test("keys themselves are seldom looked at", () => {
  const checked = new Checked();
  for (let n = 0; n < 50_000; n++) checked.add(numbered((n * 7919) % 50_000));
  checked.looks = 0;
  for (let n = 0; n < 1000; n++) checked.index.from(Buffer.from(numbered((n * 4231) % 50_000)));
  expect(checked.looks / 1000).toBeLessThan(3);
});

test("nothing is there after a clear", () => {
  const checked = new Checked();
  for (let n = 0; n < 5000; n++) checked.add(numbered(n));
  checked.index.clear();
  checked.ids.clear();
  checked.expectSame(["k"]);
  checked.add("a");
  expect(checked.before()).toEqual(["a"]);
});
