/** CRC-32 (ISO-HDLC, the one of zlib, gzip and PNG), continued from an earlier value. */
import { crc32 as zlibCrc32 } from "node:zlib";

/** The CRC of `bytes`, going on from `seed` (0 at the start). Unsigned 32 bits. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return zlibCrc32(bytes, seed);
}
