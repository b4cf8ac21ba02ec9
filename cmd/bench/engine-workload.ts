/** Keys, their order and the thread's time, for what measures the engine. */
import { must } from "../../internal/base/assert.js";
import { threadRanMs } from "./thread-time.js";

export const KEY_BYTES = 16;

/** Different keys of letters and digits, in no order, one after another. */
export function makeKeys(count: number): Buffer {
  const keys = Buffer.alloc(count * KEY_BYTES);
  for (let n = 0; n < count; n++) {
    const spread = String(Math.imul(n, 0x9e3779b1) >>> 0).padStart(KEY_BYTES - 4, "0");
    keys.write(`key:${spread}`, n * KEY_BYTES, "latin1");
  }
  return keys;
}

/** 32 bits at a call, by chance, and the same in every run. */
export function makeRandom(): () => number {
  let state = 0x2545f491;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Numbers below `count` by chance, each as often as any other. */
export function makeOrder(count: number, length: number): Uint32Array {
  const random = makeRandom();
  return Uint32Array.from({ length }, () => random() % count);
}

/** Numbers below `count` by chance, the first most often, the n-th a `n ** exponent`-th of that (Zipf's law). */
export function makeZipfOrder(count: number, exponent: number, length: number): Uint32Array {
  const sums = new Float64Array(count);
  let sum = 0;
  for (let n = 0; n < count; n++) sums[n] = sum += (n + 1) ** -exponent;
  const random = makeRandom();
  return Uint32Array.from({ length }, () => {
    const wanted = (random() / 2 ** 32) * sum;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sums[middle]! <= wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  });
}

/** How long the thread ran; where the system does not tell, how late it is. */
export function ranMs(): number {
  return threadRanMs() ?? performance.now();
}

/** Collects what nobody refers to, and waits until its memory is given back, which takes longer where there was much. */
export async function collect(entries = Infinity): Promise<void> {
  const waitMs = entries < 100_000 ? 20 : 100;
  for (let round = 0; round < 3; round++) {
    must(globalThis.gc, "the process is started with --expose-gc")();
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}
