/** What keys cost that were chosen to collide, by somebody who knows a seed, but not the engine's. */
import { epochMs, type Seq } from "../../internal/base/position.js";
import { type HashSeed, KeyHash, randomHashSeed } from "../../internal/engine/hash-index-hash.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import type { FloodCost, FloodResult, Job } from "./engine-job.js";
import { ranMs } from "./engine-workload.js";

const KEY_BYTES = 4;
const KNOWN_SEED: HashSeed = [1, 2];
const NOW = epochMs(1_700_000_000_000);
const ROUNDS = 3;
const VALUE = Buffer.alloc(8, "v");

export function measureFlood({ keys, bits }: Job<"flood">): FloodResult {
  const colliding = findColliding(keys, bits);
  const others = Buffer.alloc(keys * KEY_BYTES);
  for (let n = 0; n < keys; n++) others.writeUInt32LE(Math.imul(n, 0x9e3779b1) >>> 0, n * KEY_BYTES);
  // One after the other in each round; the first compiles the code.
  const costs = { others: [], colliding: [] } as { others: FloodCost[]; colliding: FloodCost[] };
  for (let round = 0; round <= ROUNDS; round++) {
    costs.others.push(costOf(others, randomHashSeed()));
    costs.colliding.push(costOf(colliding, randomHashSeed()));
  }
  return {
    others: best(costs.others.slice(1)),
    colliding: best(costs.colliding.slice(1)),
    collidingUnderTheirSeed: costOf(colliding, KNOWN_SEED),
  };
}

/** Keys that begin to look for their place in few places of a segment of the index. */
function findColliding(count: number, bits: number): Buffer {
  const hash = new KeyHash(KNOWN_SEED);
  const found = Buffer.alloc(count * KEY_BYTES);
  const key = new Uint8Array(KEY_BYTES);
  const mask = (1 << bits) - 1;
  for (let [n, at] = [0, 0]; at < found.length; n++) {
    key[0] = n;
    key[1] = n >>> 8;
    key[2] = n >>> 16;
    key[3] = n >>> 24;
    if ((hash.of(key, 0, KEY_BYTES) & mask) !== 0) continue;
    found.set(key, at);
    at += KEY_BYTES;
  }
  return found;
}

function costOf(keys: Buffer, seed: HashSeed): FloodCost {
  const engine = new SlabEngine({ isOrdered: false, seed });
  const count = keys.length / KEY_BYTES;
  let seq = 0;
  let startMs = ranMs();
  for (let at = 0; at < keys.length; at += KEY_BYTES) {
    engine.apply(++seq as Seq, NOW, { kind: "put", key: keys.subarray(at, at + KEY_BYTES), value: VALUE });
  }
  const putNs = ((ranMs() - startMs) * 1e6) / count;
  startMs = ranMs();
  for (let at = 0; at < keys.length; at += KEY_BYTES) {
    if (!engine.getIn(keys, at, at + KEY_BYTES, NOW)) throw new Error("a key that was put is not there");
  }
  return { putNs, getNs: ((ranMs() - startMs) * 1e6) / count };
}

function best(costs: readonly FloodCost[]): FloodCost {
  return {
    putNs: Math.min(...costs.map(({ putNs }) => putNs)),
    getNs: Math.min(...costs.map(({ getNs }) => getNs)),
  };
}
