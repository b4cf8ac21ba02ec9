/** The checksum of one entry, by which nodes find out that their states differ. It is the same in every engine. */
import { crc32Range, crc32Uint32, crc32Uint64, crc32Uint64s } from "../base/crc32.js";
import type { Entry, EntryBytes } from "./engine.js";
import type { EntryRun } from "./entry-run.js";

/**
 * The CRC-32 over all that an entry is: create seq (8), mod seq (8), deadline + 1, or 0 for none (8), the key's length (4), all
 * little-endian; then the key and the value. Without the key's length, a byte could go from the key to the value unseen.
 * Unsigned 32 bits.
 */
export function entryChecksum(key: Uint8Array, { value, createSeq, modSeq, expiresAtMs }: Entry): number {
  const crc = crc32Range(
    key,
    0,
    key.length,
    numbersChecksum(key.length, createSeq, modSeq, deadlineNumber(expiresAtMs ?? Infinity)),
  );
  return crc32Range(value, 0, value.length, crc);
}

/** The same of an entry that lies in other bytes. */
export function entryBytesChecksum(entry: EntryBytes): number {
  const { keyIn, keyStart, keyEnd, valueIn, valueStart, valueEnd, createSeq, modSeq, deadlineMs } = entry;
  const numbers = numbersChecksum(keyEnd - keyStart, createSeq, modSeq, deadlineNumber(deadlineMs));
  return crc32Range(valueIn, valueStart, valueEnd, crc32Range(keyIn, keyStart, keyEnd, numbers));
}

/** The sum of those of a run, modulo 2^32. */
export function entryRunChecksum(run: EntryRun): number {
  let sum = 0;
  for (let at = 0; at < run.count; at++) {
    run.moveTo(at);
    sum = (sum + entryBytesChecksum(run)) >>> 0;
  }
  return sum;
}

/**
 * The CRC-32 over what comes before an entry's key; key and value continue it. `deadline` is its `deadlineNumber`. For engines
 * that keep an entry in another form. Signed 32 bits, so that it is no object.
 */
export function numbersChecksum(keyBytes: number, createSeq: number, modSeq: number, deadline: number): number {
  return crc32Uint32(keyBytes, crc32Uint64(deadline, crc32Uint64s(createSeq, modSeq)));
}

/** What the checksum is over of a deadline, of which Infinity is none. */
export function deadlineNumber(deadlineMs: number): number {
  return deadlineMs === Infinity ? 0 : deadlineMs + 1;
}
