/**
 * CRC-32 (ISO-HDLC, the one of zlib, gzip and PNG), continued from an earlier value. zlib's is the fastest on long runs of
 * bytes; below some 256 bytes the call itself costs more than the work, and eight table look-ups a step win.
 */
import { crc32 as zlibCrc32 } from "node:zlib";

const ZLIB_WINS_BYTES = 256;

/** The CRC of `bytes`, going on from `seed` (0 at the start). Unsigned 32 bits. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  // zlib takes an empty buffer's null pointer for "begin anew" and would forget the seed.
  return bytes.length === 0 ? seed : zlibCrc32(bytes, seed);
}

/** The same of the bytes from `start` up to `end`, without a view made for them. For short runs on hot paths. */
export function crc32Range(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  if (end - start > ZLIB_WINS_BYTES) {
    return zlibCrc32(new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start), seed >>> 0);
  }
  let crc = ~seed;
  let at = start;
  for (; at + 8 <= end; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      TABLE_7[crc & 255]! ^
      TABLE_6[(crc >>> 8) & 255]! ^
      TABLE_5[(crc >>> 16) & 255]! ^
      TABLE_4[crc >>> 24]! ^
      TABLE_3[bytes[at + 4]!]! ^
      TABLE_2[bytes[at + 5]!]! ^
      TABLE_1[bytes[at + 6]!]! ^
      TABLE_0[bytes[at + 7]!]!;
  }
  for (; at < end; at++) crc = TABLE_0[(crc ^ bytes[at]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * The same of bytes that are copied on the way, which costs little more than either: short runs pass through the processor's
 * registers but once. Where the two lie in one buffer, the copy must not begin inside the run.
 */
export function crc32Copy(
  from: Uint8Array,
  start: number,
  end: number,
  to: Uint8Array,
  toStart: number,
  seed = 0,
): number {
  if (end - start > ZLIB_WINS_BYTES) {
    const bytes = new Uint8Array(from.buffer, from.byteOffset + start, end - start);
    const crc = zlibCrc32(bytes, seed >>> 0);
    to.set(bytes, toStart);
    return crc;
  }
  let crc = ~seed;
  let at = start;
  let into = toStart;
  for (; at + 8 <= end; at += 8, into += 8) {
    const b0 = from[at]!;
    const b1 = from[at + 1]!;
    const b2 = from[at + 2]!;
    const b3 = from[at + 3]!;
    const b4 = from[at + 4]!;
    const b5 = from[at + 5]!;
    const b6 = from[at + 6]!;
    const b7 = from[at + 7]!;
    crc ^= b0 | (b1 << 8) | (b2 << 16) | (b3 << 24);
    crc =
      TABLE_7[crc & 255]! ^
      TABLE_6[(crc >>> 8) & 255]! ^
      TABLE_5[(crc >>> 16) & 255]! ^
      TABLE_4[crc >>> 24]! ^
      TABLE_3[b4]! ^
      TABLE_2[b5]! ^
      TABLE_1[b6]! ^
      TABLE_0[b7]!;
    to[into] = b0;
    to[into + 1] = b1;
    to[into + 2] = b2;
    to[into + 3] = b3;
    to[into + 4] = b4;
    to[into + 5] = b5;
    to[into + 6] = b6;
    to[into + 7] = b7;
  }
  for (; at < end; at++, into++) {
    const byte = from[at]!;
    to[into] = byte;
    crc = TABLE_0[(crc ^ byte) & 255]! ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

/**
 * The CRC of a run of bytes that are seen through a view, for bulk: four bytes are one look, and sixteen go through at a time,
 * which halves the cost. Signed 32 bits: the larger half of unsigned ones would be an object each.
 */
export function crc32View(view: DataView, start: number, end: number, seed = 0): number {
  if (end - start > ZLIB_WINS_BYTES) {
    return zlibCrc32(new Uint8Array(view.buffer, view.byteOffset + start, end - start), seed >>> 0) | 0;
  }
  let crc = ~seed;
  let at = start;
  for (; at + 16 <= end; at += 16) {
    const a = crc ^ view.getInt32(at, true);
    const b = view.getInt32(at + 4, true);
    const c = view.getInt32(at + 8, true);
    const d = view.getInt32(at + 12, true);
    crc = last8(c, d) ^ first8(a, b);
  }
  for (; at + 4 <= end; at += 4) crc = last4(crc ^ view.getInt32(at, true));
  for (; at < end; at++) crc = TABLE_0[(crc ^ view.getUint8(at)) & 255]! ^ (crc >>> 8);
  return ~crc;
}

/** The same of bytes that are copied on the way. Where the two lie in one buffer, the copy must not begin inside the run. */
export function crc32CopyViews(
  from: DataView,
  start: number,
  end: number,
  to: DataView,
  toStart: number,
  seed = 0,
): number {
  let crc = ~seed;
  let at = start;
  let into = toStart;
  for (; at + 16 <= end; at += 16, into += 16) {
    const a = from.getInt32(at, true);
    const b = from.getInt32(at + 4, true);
    const c = from.getInt32(at + 8, true);
    const d = from.getInt32(at + 12, true);
    to.setInt32(into, a, true);
    to.setInt32(into + 4, b, true);
    to.setInt32(into + 8, c, true);
    to.setInt32(into + 12, d, true);
    crc = last8(c, d) ^ first8(crc ^ a, b);
  }
  for (; at + 4 <= end; at += 4, into += 4) {
    const word = from.getInt32(at, true);
    to.setInt32(into, word, true);
    crc = last4(crc ^ word);
  }
  for (; at < end; at++, into++) {
    const byte = from.getUint8(at);
    to.setUint8(into, byte);
    crc = TABLE_0[(crc ^ byte) & 255]! ^ (crc >>> 8);
  }
  return ~crc;
}

/** What eight bytes leave of the CRC when eight more follow. */
function first8(a: number, b: number): number {
  return (
    TABLE_15[a & 255]! ^
    TABLE_14[(a >>> 8) & 255]! ^
    TABLE_13[(a >>> 16) & 255]! ^
    TABLE_12[a >>> 24]! ^
    TABLE_11[b & 255]! ^
    TABLE_10[(b >>> 8) & 255]! ^
    TABLE_9[(b >>> 16) & 255]! ^
    TABLE_8[b >>> 24]!
  );
}

/** What eight bytes leave of it when nothing follows. */
function last8(a: number, b: number): number {
  return TABLE_7[a & 255]! ^ TABLE_6[(a >>> 8) & 255]! ^ TABLE_5[(a >>> 16) & 255]! ^ TABLE_4[a >>> 24]! ^ last4(b);
}

function last4(a: number): number {
  return TABLE_3[a & 255]! ^ TABLE_2[(a >>> 8) & 255]! ^ TABLE_1[(a >>> 16) & 255]! ^ TABLE_0[a >>> 24]!;
}

/** The CRC of a number as its eight bytes, little-endian, which are made nowhere. It is whole, and up to 2^53. Signed 32 bits. */
export function crc32Uint64(value: number, seed = 0): number {
  return ~last8((value | 0) ^ ~seed, (value / 2 ** 32) | 0);
}

/** The same of two such numbers, one after the other. */
export function crc32Uint64s(first: number, second: number, seed = 0): number {
  const before = first8((first | 0) ^ ~seed, (first / 2 ** 32) | 0);
  return ~(last8(second | 0, (second / 2 ** 32) | 0) ^ before);
}

/** The same of a number as four bytes, below 2^32. */
export function crc32Uint32(value: number, seed = 0): number {
  return ~last4(value ^ ~seed);
}

/** The CRC state of each byte value on its own, the reflected polynomial being 0xEDB88320. */
function byteTable(): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    return crc;
  });
}

/** The state one zero byte further on than in `before`. */
function nextTable(before: Int32Array): Int32Array {
  return before.map((crc) => (crc >>> 8) ^ TABLE_0[crc & 255]!);
}

// A constant each, not an array of tables: the optimiser then knows where each one lies.
const TABLE_0 = byteTable();
const TABLE_1 = nextTable(TABLE_0);
const TABLE_2 = nextTable(TABLE_1);
const TABLE_3 = nextTable(TABLE_2);
const TABLE_4 = nextTable(TABLE_3);
const TABLE_5 = nextTable(TABLE_4);
const TABLE_6 = nextTable(TABLE_5);
const TABLE_7 = nextTable(TABLE_6);
const TABLE_8 = nextTable(TABLE_7);
const TABLE_9 = nextTable(TABLE_8);
const TABLE_10 = nextTable(TABLE_9);
const TABLE_11 = nextTable(TABLE_10);
const TABLE_12 = nextTable(TABLE_11);
const TABLE_13 = nextTable(TABLE_12);
const TABLE_14 = nextTable(TABLE_13);
const TABLE_15 = nextTable(TABLE_14);
