/** Numbers in bytes, as all formats of the log write them: little-endian. */

const TWO_32 = 2 ** 32;

/** The same bytes as a Buffer, whose accessors are the fastest that Node has; no copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Writes a safe integer as 64 bits. */
export function writeU64(into: Buffer, value: number, offset: number): void {
  into.writeUInt32LE(value >>> 0, offset);
  into.writeUInt32LE(Math.floor(value / TWO_32), offset + 4);
}

/** Reads 32 bits that must be there: `readUInt32LE` looks each time whether they are, which the way of a million records shows. */
export function readU32(bytes: Buffer, offset: number): number {
  return readI32(bytes, offset) >>> 0;
}

/** The same as a signed number. */
export function readI32(bytes: Buffer, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24);
}

/** Reads 64 bits that must be there. Damaged bytes may give more than a safe integer; whoever reads them compares or asks. */
export function readU64(bytes: Buffer, offset: number): number {
  return readU32(bytes, offset) + readU32(bytes, offset + 4) * TWO_32;
}

const ZEROS = Buffer.alloc(64 * 1024);

/** Whether all bytes from `start` up to `end` are zero. */
export function allZero(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += ZEROS.length) {
    const length = Math.min(ZEROS.length, end - at);
    if (bytes.compare(ZEROS, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}
