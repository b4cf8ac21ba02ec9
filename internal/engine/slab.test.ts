import fc from "fast-check";
import { expect, test } from "vitest";
import { Slab } from "./slab.js";
import { byteOf, regionOf } from "./slab-regions.js";

const MiB = 1 << 20;
const patterns = Array.from({ length: 256 }, (_, byte) => Buffer.alloc(MiB / 8, byte));

/** A slab whose blocks are filled with what their owner makes of them, so that a block that was overwritten or lost shows. */
class Filled {
  readonly slab: Slab;
  readonly blocks = new Map<number, { location: number; bytes: number }>();
  moves = 0;
  #nextOwner = 1;

  constructor(pageBytes = 1 << 16, blockBytesMax = 1 << 13) {
    const moved = (owner: number, from: number, to: number): void => {
      this.moves++;
      const block = this.blocks.get(owner)!;
      if (block.location !== from) throw new Error(`block ${owner} did not lie where it was moved from`);
      block.location = to;
    };
    this.slab = new Slab({ pageBytes, blockBytesMax, moved });
  }

  add(bytes: number): number {
    const owner = this.#nextOwner++;
    const location = this.slab.allocate(bytes, owner);
    this.blocks.set(owner, { location, bytes });
    this.#bytesOf(owner).fill(owner & 255, 4);
    return owner;
  }

  remove(owner: number): void {
    this.slab.free(this.blocks.get(owner)!.location);
    this.blocks.delete(owner);
  }

  tidyAll(): void {
    while (this.slab.tidy(100));
  }

  expectAllIntact(): void {
    const wrong = [...this.blocks.keys()].filter((owner) => {
      const bytes = this.#bytesOf(owner);
      return (
        bytes.readInt32LE(0) !== owner || !bytes.subarray(4).equals(patterns[owner & 255]!.subarray(4, bytes.length))
      );
    });
    expect(wrong).toEqual([]);
  }

  #bytesOf(owner: number): Buffer {
    const { location, bytes } = this.blocks.get(owner)!;
    return Buffer.from(this.slab.regions.buffers[regionOf(location)]!, byteOf(location), bytes);
  }
}

type Step =
  | { readonly kind: "add"; readonly bytes: number; readonly count: number }
  | { readonly kind: "remove"; readonly from: number; readonly count: number; readonly stride: number }
  | { readonly kind: "tidy"; readonly moves: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant("add" as const),
    bytes: fc.oneof(fc.integer({ min: 8, max: 300 }), fc.integer({ min: 8, max: 8192 })),
    count: fc.integer({ min: 1, max: 400 }),
  }),
  fc.record({
    kind: fc.constant("remove" as const),
    from: fc.nat(1000),
    count: fc.integer({ min: 1, max: 500 }),
    stride: fc.integer({ min: 1, max: 3 }),
  }),
  fc.record({ kind: fc.constant("tidy" as const), moves: fc.integer({ min: 1, max: 50 }) }),
);

test("blocks keep their bytes, whatever is allocated, freed and moved around them", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const filled = new Filled();
      for (const each of steps) {
        if (each.kind === "add") for (let i = 0; i < each.count; i++) filled.add(each.bytes);
        else if (each.kind === "tidy") filled.slab.tidy(each.moves);
        else {
          const owners = [...filled.blocks.keys()].slice(each.from);
          for (let i = 0; i < each.count * each.stride && i < owners.length; i += each.stride)
            filled.remove(owners[i]!);
        }
      }
      filled.expectAllIntact();
      for (const owner of filled.blocks.keys()) filled.remove(owner);
      expect([filled.slab.blockBytes, filled.slab.regions.usedPages]).toEqual([0, 0]);
    }),
    { numRuns: 60 },
  );
});

test("a block that was freed may not be freed again", () => {
  const filled = new Filled();
  const location = filled.slab.allocate(64, 1);
  filled.slab.allocate(64, 2);
  filled.slab.free(location);
  expect(() => filled.slab.free(location)).toThrow("freed once");
});

test("memory is given back when most blocks are freed at random, without any of them lost", () => {
  const filled = new Filled();
  const owners = Array.from({ length: 250_000 }, () => filled.add(200));
  expect(filled.slab.regions.bytesTotal).toBeGreaterThan(49 * MiB);
  for (const [i, owner] of owners.entries()) {
    if (i % 10 !== 3) filled.remove(owner);
    filled.slab.tidy(4);
  }
  filled.expectAllIntact();
  expect(filled.slab.blockBytes).toBe(25_000 * 208);
  // Of 5 MB.
  expect(filled.slab.regions.bytesTotal).toBeLessThanOrEqual(32 * MiB);
  expect(filled.slab.regions.usedPages << 16).toBeLessThan((4 / 3) * filled.slab.blockBytes + 4 * (1 << 16));
});

test("what is left of pages of one size makes room for blocks of another", () => {
  const filled = new Filled();
  const sizes = [100, 200, 400, 800, 1600];
  let owners: number[] = [];
  for (const bytes of sizes) {
    const kept = owners.filter((_, i) => i % 8 === 0);
    for (const [i, owner] of owners.entries()) if (i % 8 !== 0) filled.remove(owner);
    owners = kept;
    for (let total = filled.slab.blockBytes; total < 24 * MiB; total += bytes) {
      owners.push(filled.add(bytes));
      filled.slab.tidy(4);
    }
  }
  filled.tidyAll();
  filled.expectAllIntact();
  const { blockBytes, regions } = filled.slab;
  // Nothing is moved for less than two pages a size and a quarter of each.
  expect(regions.usedPages << 16).toBeLessThan(blockBytes * 1.45 + 2 * sizes.length * (1 << 16));
});

test("tidying moves no more than it is told, and says when all is done", () => {
  const filled = new Filled();
  const owners = Array.from({ length: 10_000 }, () => filled.add(100));
  for (const [i, owner] of owners.entries()) if (i % 4 !== 0) filled.remove(owner);
  let rounds = 0;
  for (let before = 0; filled.slab.tidy(5); before = filled.moves) {
    expect(filled.moves - before).toBeLessThanOrEqual(5);
    rounds++;
  }
  expect(rounds).toBeGreaterThan(100);
  filled.expectAllIntact();
  expect(filled.slab.tidy(5)).toBe(false);
});

test("pages and blocks of other sizes work alike", () => {
  const filled = new Filled(1 << 20, 1 << 17);
  for (let i = 0; i < 1500; i++) filled.add(9000 + (i % 3) * 20_000);
  for (const owner of filled.blocks.keys()) if (owner % 5 !== 0) filled.remove(owner);
  filled.tidyAll();
  filled.expectAllIntact();
  expect(filled.moves).toBeGreaterThan(10);
});
