/**
 * A process that reads keys, one after the other, and says at its end how long that took: `get-latency.mjs host:port prefix`. It goes
 * on until a line comes in, tells of the gets since the line before, and ends with its input.
 */
import { createInterface } from "node:readline";
import { createClient } from "../../../dist/api/client/node.js";

const [address, prefix] = process.argv.slice(2);
const kv = createClient({ endpoints: [address], timeoutMs: 60_000 });
let tookMs = [];
let isOver = false;

createInterface({ input: process.stdin })
  .on("line", () => {
    const sorted = tookMs.toSorted((a, b) => a - b);
    tookMs = [];
    const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
    console.log(JSON.stringify({ count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), longestMs: at(1) }));
  })
  .on("close", () => (isOver = true));

for (let i = 0; !isOver; i = (i + 7919) % 1000) {
  const startMs = performance.now();
  await kv.get(`${prefix}${i}`);
  tookMs.push(performance.now() - startMs);
}
kv.close();
