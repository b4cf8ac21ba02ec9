/** What an engine holds while its entries are overwritten with values of ever other sizes, as through a day. */
import { epochMs, type Seq } from "../../internal/base/position.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import type { ChurnResult, Job } from "./engine-job.js";
import { collect, KEY_BYTES, makeKeys, makeRandom, ranMs } from "./engine-workload.js";

const NOW = epochMs(1_700_000_000_000);
/** Of the values of each round in turn. */
const VALUE_BYTES_MAX = [200, 1400, 120, 1000, 2000];
const ROUNDS = 10;
/** In two of three rounds one of so many entries keeps its value, in the midst of those that others leave. */
const KEPT = 8;
const LOOK_EVERY = 1000;

export async function measureChurn({ entries, overwrites }: Job<"churn">): Promise<ChurnResult> {
  const engine = new SlabEngine();
  const keys = makeKeys(entries);
  const random = makeRandom();
  const bytes = Buffer.alloc(Math.max(...VALUE_BYTES_MAX), "v");
  let seq = 0;
  const put = (n: number, valueBytesMax: number): void => {
    const key = keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES);
    const value = bytes.subarray(0, random() % valueBytesMax);
    engine.apply(++seq as Seq, NOW, { kind: "put", key, value });
  };
  await collect();
  const before = process.memoryUsage.rss();
  for (let n = 0; n < entries; n++) put(n, 400);
  const overwritesARound = Math.ceil(overwrites / ROUNDS);
  const startMs = ranMs();
  let heldMost = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const valueBytesMax = VALUE_BYTES_MAX[round % VALUE_BYTES_MAX.length]!;
    for (let count = 0; count < overwritesARound; count++) {
      const n = random() % entries;
      if (round % 3 === 0 || n % KEPT > 0) put(n, valueBytesMax);
      if (count % LOOK_EVERY === 0) heldMost = Math.max(heldMost, engine.bytesTotal / engine.accountedBytes);
    }
  }
  const elapsedMs = ranMs() - startMs;
  await collect();
  return {
    overwriteNs: (elapsedMs * 1e6) / (ROUNDS * overwritesARound),
    heldMost,
    heldAtEnd: engine.bytesTotal / engine.accountedBytes,
    residentAtEnd: (process.memoryUsage.rss() - before) / engine.accountedBytes,
  };
}
