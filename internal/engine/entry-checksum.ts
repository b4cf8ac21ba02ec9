/** The checksum of one entry, by which nodes find out that their states differ. It is the same in every engine. */
import { crc32Range } from "../base/crc32.js";
import type { Entry } from "./engine.js";

/**
 * create seq (8)  mod seq (8)  deadline + 1, or 0 for none (8)  length of the key (4), little-endian; then the key and the
 * value. Without the key's length, a byte could go from the key to the value unseen.
 */
const NUMBERS_BYTES = 28;
const numbers = new Uint8Array(NUMBERS_BYTES);
const view = new DataView(numbers.buffer);

/** The CRC-32 over all that an entry is. Unsigned 32 bits. */
export function entryChecksum(key: Uint8Array, { value, createSeq, modSeq, expiresAtMs }: Entry): number {
  const crc = crc32Range(key, 0, key.length, numbersChecksum(key.length, createSeq, modSeq, expiresAtMs ?? Infinity));
  return crc32Range(value, 0, value.length, crc);
}

/**
 * The CRC-32 over what comes before an entry's key; key and value continue it. A deadline of Infinity is none. For engines
 * that keep an entry in another form.
 */
export function numbersChecksum(keyBytes: number, createSeq: number, modSeq: number, deadlineMs: number): number {
  writeUint64(0, createSeq);
  writeUint64(8, modSeq);
  writeUint64(16, deadlineMs === Infinity ? 0 : deadlineMs + 1);
  view.setUint32(24, keyBytes, true);
  return crc32Range(numbers, 0, NUMBERS_BYTES);
}

function writeUint64(at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
