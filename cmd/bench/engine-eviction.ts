/** How many requests find their key in a cache that holds but some of the keys, by the engine's policies and by `lru-cache`. */
import { LRUCache } from "lru-cache";
import { must } from "../../internal/base/assert.js";
import { epochMs, type Seq } from "../../internal/base/position.js";
import type { EvictionPolicy } from "../../internal/engine/engine.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import type { EvictionResult, Job } from "./engine-job.js";
import { KEY_BYTES, makeKeys, makeRandom, makeZipfOrder, ranMs } from "./engine-workload.js";

/** The most used key has a share of some 7 % of the requests of a million keys, as with YCSB. */
const ZIPF_EXPONENT = 0.99;
const VALUE = Buffer.alloc(100, "v");
const NOW = epochMs(1_700_000_000_000);
const HOUR_MS = 3_600_000;

/** Asks for a key, and puts it where it is not; whether it was there. */
type Request = (n: number) => boolean;

export function measureEviction({ evictor, entriesMax, keys, requests }: Job<"eviction">): EvictionResult {
  const bytes = makeKeys(keys);
  const request = evictor === "lru-cache" ? ofCache(bytes, entriesMax) : ofEngine(bytes, entriesMax, evictor);
  const order = makeZipfOrder(keys, ZIPF_EXPONENT, requests);
  const half = requests >>> 1;
  for (let at = 0; at < half; at++) request(order[at]!);
  let hits = 0;
  const startMs = ranMs();
  for (let at = half; at < requests; at++) if (request(order[at]!)) hits++;
  return { hitRatio: hits / (requests - half), requestNs: ((ranMs() - startMs) * 1e6) / (requests - half) };
}

function ofEngine(keys: Buffer, entriesMax: number, policy: EvictionPolicy): Request {
  const engine = new SlabEngine({ isOrdered: false });
  const random = makeRandom();
  let seq = 0;
  return (n) => {
    const [start, end] = [n * KEY_BYTES, (n + 1) * KEY_BYTES];
    if (engine.getIn(keys, start, end, NOW)) return true;
    if (engine.entryCount === entriesMax) {
      const { key, modSeq } = must(engine.victim(policy), "some entry can go");
      engine.apply(++seq as Seq, NOW, { kind: "evict", key, modSeq });
    }
    const put = { kind: "put", key: keys.subarray(start, end), value: VALUE } as const;
    const expiresAtMs = policy === "ttl" ? epochMs(NOW + HOUR_MS + (random() % HOUR_MS)) : undefined;
    engine.apply(++seq as Seq, NOW, expiresAtMs === undefined ? put : { ...put, expiresAtMs });
    return false;
  };
}

function ofCache(keys: Buffer, entriesMax: number): Request {
  const cache = new LRUCache<string, Buffer>({ max: entriesMax });
  return (n) => {
    const key = keys.toString("latin1", n * KEY_BYTES, (n + 1) * KEY_BYTES);
    if (cache.get(key)) return true;
    cache.set(key, Buffer.from(VALUE));
    return false;
  };
}
