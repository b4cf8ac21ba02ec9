/** What the engine off the heap does beyond what every engine does. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { epochMs, seq } from "../base/position.js";
import type { Engine } from "./engine.js";
import { type HashSeed, KeyHash } from "./hash-index-hash.js";
import { MapEngine } from "./map-engine.js";
import { SlabEngine } from "./slab-engine.js";
import { runOf } from "./testing/engine-model.js";

const at = epochMs(1000);
const MiB = 1 << 20;

function put(engine: Engine, n: number, key: Uint8Array, value: Uint8Array): void {
  engine.apply(seq(n), at, { kind: "put", key, value });
}

function remove(engine: Engine, n: number, key: Uint8Array): void {
  engine.apply(seq(n), at, { kind: "delete", key });
}

function keyOf(n: number): Buffer {
  return Buffer.from(`key-${String(n).padStart(12, "0")}`);
}

function scanned(engine: Engine): string[] {
  const keys: string[] = [];
  const scan = engine.scan({ start: Buffer.alloc(0) }, at);
  for (let step = scan.next(); !step.done; step = scan.next()) keys.push(Buffer.from(step.value.key).toString());
  return keys;
}

test("values of every size up to the largest come back, whatever size the key has, and had", () => {
  const size = fc.oneof(
    fc.integer({ min: 0, max: 300 }),
    // Around where entries get bodies of their own, and those a buffer of their own.
    fc.integer({ min: 8000, max: 8300 }),
    fc.integer({ min: 130_000, max: 131_200 }),
    fc.constant(32 * MiB),
  );
  const keySize = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(8148, 8149, 65_535));
  fc.assert(
    fc.property(fc.array(fc.record({ key: keySize, value: size }), { minLength: 1, maxLength: 12 }), (sizes) => {
      const [engine, oracle] = [new SlabEngine(), new MapEngine()];
      for (const [i, { key, value }] of sizes.entries()) {
        for (const each of [engine, oracle]) put(each, i + 1, Buffer.alloc(key, "k"), Buffer.alloc(value, i + 1));
      }
      for (const { key } of sizes) {
        const [found, expected] = [engine, oracle].map((each) => each.get(Buffer.alloc(key, "k"), at)!);
        expect([found!.createSeq, found!.modSeq, found!.value.length]).toEqual([
          expected!.createSeq,
          expected!.modSeq,
          expected!.value.length,
        ]);
        expect(Buffer.compare(found!.value, expected!.value)).toBe(0);
      }
      expect([engine.checksum, engine.dataBytes]).toEqual([oracle.checksum, oracle.dataBytes]);
      for (const [i, { key }] of sizes.entries()) remove(engine, 100 + i, Buffer.alloc(key, "k"));
      expect([engine.entryCount, engine.checksum, engine.dataBytes]).toEqual([0, 0, 0]);
    }),
    { numRuns: 15 },
  );
});

test("an entry may be written from what was read of another, or of itself", () => {
  const engine = new SlabEngine();
  put(engine, 1, keyOf(1), Buffer.alloc(100, "a"));
  put(engine, 2, keyOf(2), engine.get(keyOf(1), at)!.value);
  put(engine, 3, keyOf(1), engine.get(keyOf(1), at)!.value.subarray(40));
  for (let n = 0; n < 1000; n++) {
    put(engine, 4 + n, keyOf(3 + n), engine.get(keyOf(2 + n), at)!.value);
  }
  expect(engine.get(keyOf(1002), at)!.value).toEqual(new Uint8Array(100).fill(97));
  expect(engine.get(keyOf(1), at)!.value).toEqual(new Uint8Array(60).fill(97));
});

test.each(["expire", "evict"] as const)("memory is given back after many are removed by each record, to %s", (kind) => {
  const engine = new SlabEngine();
  const entries = 100_000;
  const value = Buffer.alloc(500, "v");
  for (let n = 0; n < entries; n++) put(engine, n + 1, keyOf(n), value);
  for (let from = 0; from < entries; from += 500) {
    const removals = [];
    for (let n = from; n < from + 500; n++)
      if (n % 10 !== 7) removals.push({ kind, key: keyOf(n), modSeq: seq(n + 1) });
    expect(engine.applyRemovals(seq(entries + from), at, removals)).toBe(450);
  }
  // Evictions make room at once.
  while (kind === "expire" && engine.tidy());
  // Of 6 MB in use.
  expect(engine.bytesTotal).toBeLessThan(32 * MiB);
  for (let n = 7; n < entries; n += 10) expect(engine.get(keyOf(n), at)!.value.length).toBe(500);
});

test("memory is given back after most, and after all, is deleted", () => {
  const engine = new SlabEngine();
  const entries = 150_000;
  const value = Buffer.alloc(500, "v");
  for (let n = 0; n < entries; n++) put(engine, n + 1, keyOf(n), value);
  expect(engine.bytesTotal).toBeGreaterThan(entries * 560);
  for (let n = 0; n < entries; n++) if (n % 10 !== 7) remove(engine, entries + n, keyOf(n));
  // Of 9 MB in use.
  expect(engine.bytesTotal).toBeLessThan(45 * MiB);
  for (let n = 7; n < entries; n += 10) expect(engine.get(keyOf(n), at)!.value.length).toBe(500);
  for (let n = 7; n < entries; n += 10) remove(engine, 2 * entries + n, keyOf(n));
  expect(engine.bytesTotal).toBeLessThan(2 * MiB);
});

test("memory stays in proportion to what is stored, through a million and a half overwrites with ever other sizes", () => {
  const engine = new SlabEngine();
  const entries = 100_000;
  const bytes = Buffer.alloc(2000, "v");
  let n = 0;
  let state = 1;
  const random = (below: number): number => (state = (state * 48_271) % 2_147_483_647) % below;
  const overwrite = (key: number, valueBytesMax: number): void =>
    put(engine, ++n, keyOf(key), bytes.subarray(0, random(valueBytesMax)));
  for (let key = 0; key < entries; key++) overwrite(key, 400);
  // Each round the sizes lie elsewhere, as they do where what is stored changes through a day; and in some of them every
  // eighth entry keeps its block, in the midst of those that others leave.
  for (let round = 0; round < 10; round++) {
    const valueBytesMax = [200, 1400, 120, 1000, 2000][round % 5]!;
    let mostHeld = 0;
    for (let i = 0; i < 150_000; i++) {
      const key = random(entries);
      if (round % 3 === 0 || key % 8 > 0) overwrite(key, valueBytesMax);
      if (i % 100 === 0) mostHeld = Math.max(mostHeld, (engine.bytesTotal - 32 * MiB) / engine.accountedBytes);
    }
    expect(mostHeld).toBeLessThan(2);
    while (engine.tidy());
    // What one region holds in vain does not grow with the rest.
    expect(engine.bytesTotal).toBeLessThan(2 * engine.accountedBytes + 16 * MiB);
  }
  for (let key = 0; key < entries; key++) expect(engine.get(keyOf(key), at)).toBeDefined();
});

test("what few operations have left to be tidied is tidied without them, in several steps", () => {
  const engine = new SlabEngine();
  const entries = 80_000;
  const valueOf = (n: number): Buffer => Buffer.alloc(n % 16 === 0 ? 7000 : 100, n);
  for (let n = 0; n < entries; n++) put(engine, n + 1, keyOf(n), valueOf(n));
  for (let n = 0; n < entries; n += 16) remove(engine, entries + n, keyOf(n));
  const before = engine.bytesTotal;
  let steps = 0;
  while (engine.tidy()) steps++;
  expect(steps).toBeGreaterThan(100);
  expect(engine.bytesTotal).toBeLessThan(before * 0.75);
  const wrong = Array.from({ length: entries }, (_, n) => n).filter((n) => {
    const found = engine.get(keyOf(n), at);
    return n % 16 === 0 ? found : !found || Buffer.compare(found.value, valueOf(n)) !== 0;
  });
  expect(wrong).toEqual([]);
});

test("keys that collide under one seed do not under another", () => {
  const seed: HashSeed = [1, 2];
  const hash = new KeyHash(seed);
  // All of one segment's 4096 slots, at a place in it where the others are as well.
  const keys: Buffer[] = [];
  for (let n = 0; keys.length < 400; n++) {
    const key = keyOf(n);
    if ((hash.of(key, 0, key.length) & 0xfff) === 5) keys.push(key);
  }
  const places = (other: KeyHash): number => new Set(keys.map((key) => other.of(key, 0, key.length) & 0xfff)).size;
  expect(places(hash)).toBe(1);
  expect(places(new KeyHash([3, 4]))).toBeGreaterThan(350);
  // With the seed known they are found nevertheless.
  const engine = new SlabEngine({ seed });
  for (const [i, key] of keys.entries()) put(engine, i + 1, key, key);
  for (const key of keys) expect(Buffer.compare(engine.get(key, at)!.value, key)).toBe(0);
});

test("an engine without order does all but scan", () => {
  const engine = new SlabEngine({ isOrdered: false });
  const ordered = new SlabEngine();
  for (let n = 0; n < 1000; n++) for (const each of [engine, ordered]) put(each, n + 1, keyOf(n % 700), keyOf(n));
  for (let n = 0; n < 300; n++) for (const each of [engine, ordered]) remove(each, 2000 + n, keyOf(n));
  expect([engine.entryCount, engine.checksum]).toEqual([ordered.entryCount, ordered.checksum]);
  expect(engine.bytesTotal).toBeLessThan(ordered.bytesTotal);
  expect(() => engine.scan({ start: keyOf(0) }, at)).toThrow("keeps its keys in order");
});

test("a deletion of a range of a million keys removes few of them itself, and each call no more than it may look at", () => {
  for (const [isOrdered, entries] of [
    [true, 1_000_000],
    [false, 200_000],
  ] as const) {
    const engine = new SlabEngine({ isOrdered });
    for (let n = 0; n < entries; n++) put(engine, n + 1, keyOf(n), Buffer.alloc(8));
    engine.apply(seq(entries + 1), at, { kind: "delete-range", start: keyOf(10), end: keyOf(entries - 10) });
    expect(engine.entryCount).toBeGreaterThanOrEqual(entries - 16);
    let calls = 0;
    for (let before = engine.entryCount, isMore = true; isMore; before = engine.entryCount) {
      isMore = engine.removeHidden(1000);
      calls++;
      expect(before - engine.entryCount).toBeLessThanOrEqual(1000);
    }
    expect([engine.isSettled, engine.entryCount]).toEqual([true, 20]);
    expect(calls).toBeLessThanOrEqual(entries / 1000 + 10);
    expect(engine.get(keyOf(9), at)).toBeDefined();
    expect(engine.bytesTotal).toBeLessThan(64 * MiB);
  }
});

test("ranges of few keys each do not pile up, however many are deleted in a row", () => {
  const engine = new SlabEngine();
  const entries = 100_000;
  for (let n = 0; n < entries; n++) put(engine, n + 1, keyOf(n), Buffer.alloc(8));
  for (let n = 0; n < entries; n += 10) {
    engine.apply(seq(entries + 1 + n), at, { kind: "delete-range", start: keyOf(n), end: keyOf(n + 9) });
    expect(engine.isSettled).toBe(true);
  }
  expect(engine.entryCount).toBe(entries / 10);
});

test("while a load ends, in many steps, nothing comes or goes, and what is hidden is removed afterwards", () => {
  const engine = new SlabEngine();
  engine.beginLoad();
  for (let n = 1; n <= 60_000; n++) put(engine, n, keyOf((n * 7919) % 60_000), Buffer.of(1));
  engine.apply(seq(60_001), at, { kind: "delete-range", start: keyOf(10), end: keyOf(50_000) });
  expect(() => engine.scan({ start: Buffer.alloc(0) }, at)).toThrow("keeps its keys in order");
  expect(engine.endLoad()).toBe(true);
  expect(() => put(engine, 60_002, keyOf(70_000), Buffer.of(1))).toThrow("no entry comes");
  expect(() => remove(engine, 60_002, keyOf(1))).toThrow("no entry goes");
  expect(engine.removeHidden(Infinity)).toBe(true);
  let steps = 1;
  while (engine.endLoad()) steps++;
  expect(steps).toBeGreaterThan(10);
  expect(engine.endLoad()).toBe(false);
  expect(engine.count({ start: Buffer.alloc(0) }, at, undefined, Infinity)).toEqual({ count: 10_010 });
  while (engine.removeHidden(1000));
  expect(engine.entryCount).toBe(10_010);
  expect(engine.count({ start: keyOf(5) }, at, undefined, Infinity)).toEqual({ count: 10_005 });
});

test("only an empty engine is loaded, and one that is cleared meanwhile is as new", () => {
  const engine = new SlabEngine();
  put(engine, 1, keyOf(1), Buffer.of(1));
  expect(() => engine.beginLoad()).toThrow("only an empty engine is loaded");
  engine.clear();
  engine.beginLoad();
  for (let n = 1; n <= 60_000; n++) put(engine, n, keyOf(n), Buffer.of(1));
  expect(engine.endLoad()).toBe(true);
  engine.clear();
  put(engine, 1, keyOf(1), Buffer.of(1));
  expect(engine.endLoad()).toBe(false);
  expect(engine.count({ start: Buffer.alloc(0) }, at, undefined, Infinity)).toEqual({ count: 1 });
});

test("what is restored is known by its keys once all is there, in several steps, and of a key that came twice the later", () => {
  const engine = new SlabEngine();
  const oracle = new MapEngine();
  engine.beginLoad();
  const restore = (n: number, modSeq: number): void => {
    const value = Buffer.from(`value ${n} ${modSeq}`);
    const entry = { key: keyOf(n), value, createSeq: seq(1), modSeq: seq(modSeq), expiresAtMs: epochMs(1e12 + n) };
    for (const each of [engine, oracle]) each.restoreAll(runOf([{ ...entry, timestampMs: at }]));
  };
  oracle.beginLoad();
  for (let n = 0; n < 70_000; n++) restore((n * 7919) % 60_000, 10 + n);
  let steps = 1;
  while (engine.indexRestored()) steps++;
  expect(steps).toBeGreaterThan(3);
  for (let n = 0; n < 100; n++) restore(n * 600, 100_000 + n);
  for (const each of [engine, oracle]) while (each.endLoad());
  expect(engine.entryCount).toBe(60_000);
  expect([engine.checksum, engine.dataBytes]).toEqual([oracle.checksum, oracle.dataBytes]);
  for (let n = 0; n < 60_000; n++) expect(engine.get(keyOf(n), at)).toEqual(oracle.get(keyOf(n), at));
  expect(scanned(engine)).toEqual(scanned(oracle));
});

test("whoever asks for a key before all that was restored is known waits for that", () => {
  const engine = new SlabEngine();
  engine.beginLoad();
  const written = { createSeq: seq(1), modSeq: seq(1), timestampMs: at };
  engine.restoreAll(runOf(Array.from({ length: 100 }, (_, n) => ({ key: keyOf(n), value: Buffer.of(n), ...written }))));
  remove(engine, 2, keyOf(7));
  expect(engine.get(keyOf(7), at)).toBeUndefined();
  expect(engine.get(keyOf(8), at)?.value).toEqual(Uint8Array.of(8));
  while (engine.endLoad());
  expect(engine.entryCount).toBe(99);
});
