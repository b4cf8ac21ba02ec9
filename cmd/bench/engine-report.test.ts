import { expect, test } from "vitest";
import { textOf } from "./blocks.js";
import type { EngineExtras, EngineRow } from "./engine.js";
import { engineBlocks } from "./engine-report.js";

const map: EngineRow = {
  engine: "map",
  entries: 1000,
  fillNs: 10,
  getNs: 20,
  setNs: 30,
  scanNs: 40,
  walkNs: 50,
  armNs: 60,
  expireNs: 70,
  deleteNs: 80,
  residentBytes: 400,
  residentBytesOfTenth: 900,
  residentBytesAfter: 100,
  longestTurnMs: 12.34,
  longestTurnIn: "fill",
  longestCollectionMs: 9,
};

const extras: EngineExtras = {
  churn: { entries: 10, overwrites: 100, overwriteNs: 1234, heldMost: 2, heldAtEnd: 1.25, residentAtEnd: 1.5 },
  flood: {
    keys: 1000,
    bits: 8,
    others: { putNs: 100, getNs: 50 },
    colliding: { putNs: 101, getNs: 49 },
    collidingUnderTheirSeed: { putNs: 900, getNs: 500 },
  },
  eviction: {
    entriesMax: 10,
    keys: 100,
    requests: 1000,
    rows: [
      { evictor: "lru", hitRatio: 0.765, requestNs: 900 },
      { evictor: "lfu", hitRatio: 0.79, requestNs: 901 },
      { evictor: "lru-cache", hitRatio: 0.77, requestNs: 500 },
    ],
  },
  expiry: { entries: 1000, lateMs: 900, longestTurnMs: 9, aloneMs: 700, aloneLongestTurnMs: 5 },
  limit: {
    bytesMax: 100e6,
    times: 10,
    writes: 1000,
    writtenBytes: 1e9,
    accountedBytesMost: 100e6,
    residentBytesBefore: 60e6,
    residentBytesMost: 300e6,
    residentBytesAtEnd: 250e6,
  },
};

test("an engine is shown next to the map of as many entries", () => {
  const { scanNs: _, ...slab } = { ...map, engine: "slab without order" as const, getNs: 5, setNs: 15 };
  const text = textOf(engineBlocks({ operations: [map, { ...map, entries: 5, getNs: 1 }, slab] }));
  expect(text).toMatch(/slab, no order .* 5 │ +15 │ +80 +│ +– .* 0\.25 +│ +0\.50 /);
  expect(text).toMatch(/slab, no order +│ fill .* 12\.3 │/);
});

test("what else concerns the engine is shown next to what it is compared with", () => {
  const text = textOf(engineBlocks({ operations: [map], extras }));
  expect(text).toMatch(/were the seed known +│ +900 │ +9\.00 │ +500 │ +10\.00 │/);
  expect(text).toMatch(/lru +│ +76\.50 │ +-0\.50 /);
  expect(text).toMatch(/lfu +│ +79\.00 │ +\+2\.00 /);
  expect(text).toContain("3.00 and 2.50 × the limit");
});
