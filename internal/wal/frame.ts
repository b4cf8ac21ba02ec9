/**
 * The codec of frames. A frame is what one group write of this node put on this disk: a header, then whole records.
 *
 *       0        4        8        12       16       20       24                32                40
 *      ┌────────┬────────┬────────┬────────┬────────┬────────┬─────────────────┬─────────────────┬─────────┐
 *      │ magic  │ header │ body   │ body   │ record │ flags  │ synced          │ applied         │ records │
 *      │        │ CRC    │ length │ CRC    │ count  │        │ seq             │ seq             │ …       │
 *      └────────┴────────┴────────┴────────┴────────┴────────┴─────────────────┴─────────────────┴─────────┘
 *       u32      u32      u32      u32      u32      u32      u64               u64
 *
 * All numbers are little-endian. `header CRC` is the CRC-32 of bytes 8..40, seeded by the CRC-32 of the segment's salt and
 * the frame's file offset (u64): a value that a client wrote cannot know the salt, and a frame that stands elsewhere than
 * where it was written does not count. `body CRC` is the CRC-32 of all the records at once. `synced seq` is the highest
 * seq that this node had synced when it wrote the frame, and so proves that every frame up to there was on the disk;
 * `applied seq` is how far its engine was. Both lie below the frame's own first record.
 *
 * A frame without records (body length 0) only carries those two. With the clean-shutdown flag it ends an orderly close:
 * all before it is synced.
 */
import { crc32Range } from "../base/crc32.js";
import { readU64, writeU64 } from "./bytes.js";
import { PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES } from "./record.js";

export const FRAME_HEADER_BYTES = 40;
/** Records of a group are spread over frames of about this size. Only a record that is larger by itself exceeds it. */
export const FRAME_BODY_BYTES_MAX = 256 * 1024;
/** No frame is longer, however large its record. */
export const FRAME_BODY_BYTES_LIMIT = RECORD_HEADER_BYTES + PAYLOAD_BYTES_MAX;

/** Rare in text and in zeros, so that a search for frames is a search for these bytes. */
export const FRAME_MAGIC = Buffer.from([0xf7, 0x46, 0x72, 0x9a]);
const MAGIC_NUMBER = FRAME_MAGIC.readUInt32LE(0);

/** The node was shut down in order, and everything before this frame is synced. */
export const FLAG_CLEAN_SHUTDOWN = 1;
const FLAGS_KNOWN = FLAG_CLEAN_SHUTDOWN;

export interface FrameHeader {
  readonly bodyLength: number;
  readonly bodyCrc: number;
  readonly recordCount: number;
  readonly flags: number;
  readonly syncedSeq: number;
  readonly appliedSeq: number;
}

const offsetBytes = Buffer.alloc(8);

/** The seed of a frame's header CRC: `saltCrc` is the CRC-32 of the segment's salt. */
export function frameSeed(saltCrc: number, fileOffset: number): number {
  writeU64(offsetBytes, fileOffset, 0);
  return crc32Range(offsetBytes, 0, 8, saltCrc);
}

export function encodeFrameHeader(into: Buffer, offset: number, header: FrameHeader, seed: number): void {
  into.writeUInt32LE(MAGIC_NUMBER, offset);
  into.writeUInt32LE(header.bodyLength, offset + 8);
  into.writeUInt32LE(header.bodyCrc, offset + 12);
  into.writeUInt32LE(header.recordCount, offset + 16);
  into.writeUInt32LE(header.flags, offset + 20);
  writeU64(into, header.syncedSeq, offset + 24);
  writeU64(into, header.appliedSeq, offset + 32);
  into.writeUInt32LE(crc32Range(into, offset + 8, offset + FRAME_HEADER_BYTES, seed), offset + 4);
}

/** The frame header at `offset`, where 40 bytes must be; undefined when what stands there is none. */
export function decodeFrameHeader(bytes: Buffer, offset: number, seed: number): FrameHeader | undefined {
  if (bytes.readUInt32LE(offset) !== MAGIC_NUMBER) return undefined;
  const crc = crc32Range(bytes, offset + 8, offset + FRAME_HEADER_BYTES, seed);
  if (bytes.readUInt32LE(offset + 4) !== crc) return undefined;
  const header: FrameHeader = {
    bodyLength: bytes.readUInt32LE(offset + 8),
    bodyCrc: bytes.readUInt32LE(offset + 12),
    recordCount: bytes.readUInt32LE(offset + 16),
    flags: bytes.readUInt32LE(offset + 20),
    syncedSeq: readU64(bytes, offset + 24),
    appliedSeq: readU64(bytes, offset + 32),
  };
  return isPlausible(header) ? header : undefined;
}

/** One chance in 2^32 is not little when every byte of a file is tried: what no writer writes is no header either. */
function isPlausible(header: FrameHeader): boolean {
  return (
    (header.flags & ~FLAGS_KNOWN) === 0 &&
    header.bodyLength <= FRAME_BODY_BYTES_LIMIT &&
    header.recordCount * RECORD_HEADER_BYTES <= header.bodyLength &&
    header.recordCount > 0 === header.bodyLength > 0 &&
    Number.isSafeInteger(header.syncedSeq) &&
    Number.isSafeInteger(header.appliedSeq)
  );
}
