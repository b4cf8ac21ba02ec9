/**
 * HalfSipHash-1-3: a keyed hash of 32 bits, in the 32-bit arithmetic that JavaScript has. Whoever does not know the seed
 * cannot choose keys that collide; the hashes that are faster (FNV, Murmur, xxHash) have keys that collide under every seed.
 * Linux guards its own hash tables with this very function where words have 32 bits.
 */
import { randomBytes } from "node:crypto";

/** 64 bits, as two whole numbers of 32. */
export type HashSeed = readonly [number, number];

export function randomHashSeed(): HashSeed {
  const bytes = randomBytes(8);
  return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
}

const FINAL_ROUNDS = 3;

export class KeyHash {
  // The state before the first byte.
  readonly #v0: number;
  readonly #v1: number;
  readonly #v2: number;
  readonly #v3: number;

  constructor([k0, k1]: HashSeed) {
    this.#v0 = k0 | 0;
    this.#v1 = k1 | 0;
    this.#v2 = 0x6c796765 ^ k0;
    this.#v3 = 0x74656462 ^ k1;
  }

  /** The hash of the bytes from `start` up to `end`. Signed 32 bits. */
  of(bytes: Uint8Array, start: number, end: number): number {
    let v0 = this.#v0;
    let v1 = this.#v1;
    let v2 = this.#v2;
    let v3 = this.#v3;
    let at = start;
    // The round stands here twice, and once below: as a function it would have four results.
    for (const whole = end - 3; at < whole; at += 4) {
      const word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
      v3 ^= word;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
    }
    let last = (end - start) << 24;
    switch (end - at) {
      case 3:
        last |= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
        break;
      case 2:
        last |= bytes[at]! | (bytes[at + 1]! << 8);
        break;
      case 1:
        last |= bytes[at]!;
        break;
    }
    v3 ^= last;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= last;
    v2 ^= 0xff;
    for (let round = 0; round < FINAL_ROUNDS; round++) {
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
    }
    return v1 ^ v3;
  }
}
