/** A get and a put of one entry of many, in the engine and in the map beside it. */
import { bench, describe } from "vitest";
import { epochMs, type Seq } from "../base/position.js";
import type { Engine } from "./engine.js";
import { MapEngine } from "./map-engine.js";
import { SlabEngine } from "./slab-engine.js";

const ENTRIES = 100_000;
const KEY_BYTES = 16;
const NOW = epochMs(1_700_000_000_000);
/** Prime to the number of entries, so that all have their turn, in no order. */
const STEP = 7919;

const keys = Buffer.from(
  Array.from({ length: ENTRIES }, (_, n) => `k${String(n).padStart(KEY_BYTES - 1, "0")}`).join(""),
);
const value = Buffer.alloc(100, "v");

const engines: readonly [name: string, engine: Engine][] = [
  ["slab", new SlabEngine()],
  ["slab without order", new SlabEngine({ isOrdered: false })],
  ["map", new MapEngine()],
];
let seq = 0;
for (const [, engine] of engines) for (let n = 0; n < ENTRIES; n++) put(engine, n);

function put(engine: Engine, n: number): void {
  const key = keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES);
  engine.apply(++seq as Seq, NOW, { kind: "put", key, value });
}

/** The next number of an entry at each call. */
function makeNext(): () => number {
  let n = 0;
  return () => (n = (n + STEP) % ENTRIES);
}

describe(`of ${ENTRIES} entries, a get`, () => {
  for (const [name, engine] of engines) {
    const next = makeNext();
    bench(name, () => {
      const n = next();
      if (!engine.getIn(keys, n * KEY_BYTES, (n + 1) * KEY_BYTES, NOW)) throw new Error("a key is not there");
    });
  }
});

describe(`of ${ENTRIES} entries, a put of one that is there`, () => {
  for (const [name, engine] of engines) {
    const next = makeNext();
    bench(name, () => put(engine, next()));
  }
});

describe(`of ${ENTRIES} entries, a delete and a put again`, () => {
  for (const [name, engine] of engines) {
    const next = makeNext();
    bench(name, () => {
      const n = next();
      const key = keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES);
      engine.apply(++seq as Seq, NOW, { kind: "delete", key });
      put(engine, n);
    });
  }
});

describe(`of ${ENTRIES} entries, a hundred by the order of their keys`, () => {
  for (const [name, engine] of engines.filter(([, { isOrdered }]) => isOrdered)) {
    const next = makeNext();
    bench(name, () => {
      const n = next();
      const scan = engine.scan({ start: keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES) }, NOW);
      for (let left = 100; left > 0 && !scan.next().done; left--);
    });
  }
});
