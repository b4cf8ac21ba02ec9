/**
 * The codec of a segment's header, and the names of its files.
 *
 *       0         8        12       16         32        48        56        64        72       76       80
 *      ┌─────────┬────────┬────────┬──────────┬─────────┬─────────┬─────────┬─────────┬────────┬────────┬───────
 *      │ magic   │ format │ header │ cluster  │ salt    │ first   │ epoch   │ time    │ chain  │ flags  │ frames
 *      │         │ version│ CRC    │ id       │         │ seq     │ before  │ before  │ before │        │ …
 *      └─────────┴────────┴────────┴──────────┴─────────┴─────────┴─────────┴─────────┴────────┴────────┴───────
 *       8 bytes   u32      u32      16 bytes   16 bytes  u64       u64       u64       u32      u32
 *
 * All numbers are little-endian. `header CRC` is the CRC-32 of bytes 0..12 and 16..80. Every later format version keeps
 * these 80 bytes and their CRC, so that a damaged version is told from a newer one. `… before` is the end of the log
 * just before the first record (zero, zero, and the cluster's chain seed before seq 1): with it a segment whose
 * predecessors are gone still knows what it continues. `salt` is random and seeds the CRCs of the frames.
 */
import { crc32Range } from "../base/crc32.js";
import { clusterId, idFromBytes, idToBytes, type ClusterId } from "../base/ids.js";
import { epoch, epochMs, seq, type Seq } from "../base/position.js";
import { readU64, writeU64 } from "./bytes.js";
import type { LogEnd } from "./record.js";

export const SEGMENT_HEADER_BYTES = 80;
export const SALT_BYTES = 16;
export const FORMAT_VERSION = 1;

/** Like PNG's: not text, and damaged by whoever translates line ends or strips the eighth bit. */
const MAGIC = Buffer.from([0xab, 0x43, 0x57, 0x41, 0x4c, 0x0d, 0x0a, 0x1a]);

/**
 * This segment took over the end of the one before it: records from its first seq on that still stand there are the
 * same or were cut, and are to be removed.
 */
export const FLAG_TAKES_OVER = 1;

export interface SegmentHeader {
  readonly clusterId: ClusterId;
  readonly salt: Uint8Array;
  readonly firstSeq: Seq;
  /** The end of the log before the first record: its `seq` is `firstSeq - 1`. */
  readonly before: LogEnd;
  readonly takesOver: boolean;
}

export type DecodedSegmentHeader =
  | { readonly kind: "header"; readonly header: SegmentHeader }
  | { readonly kind: "newer"; readonly version: number }
  | { readonly kind: "damaged"; readonly expected: string; readonly found: string };

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt32LE(FORMAT_VERSION, 8);
  bytes.set(idToBytes(header.clusterId), 16);
  bytes.set(header.salt, 32);
  writeU64(bytes, header.firstSeq, 48);
  writeU64(bytes, header.before.epoch, 56);
  writeU64(bytes, header.before.timestampMs, 64);
  bytes.writeUInt32LE(header.before.chain, 72);
  bytes.writeUInt32LE(header.takesOver ? FLAG_TAKES_OVER : 0, 76);
  bytes.writeUInt32LE(headerCrc(bytes), 12);
  return bytes;
}

export function decodeSegmentHeader(bytes: Buffer): DecodedSegmentHeader {
  if (!bytes.subarray(0, 8).equals(MAGIC)) {
    return damaged(`magic ${MAGIC.toString("hex")}`, bytes.subarray(0, 8).toString("hex"));
  }
  const crc = bytes.readUInt32LE(12);
  if (crc !== headerCrc(bytes)) return damaged(`header CRC ${headerCrc(bytes)}`, `${crc}`);
  const version = bytes.readUInt32LE(8);
  if (version > FORMAT_VERSION) return { kind: "newer", version };
  const numbers = [readU64(bytes, 48), readU64(bytes, 56), readU64(bytes, 64)] as const;
  if (version < 1 || numbers[0] < 1 || !numbers.every((number) => Number.isSafeInteger(number))) {
    return damaged("a segment header", `version ${version}, first seq ${numbers[0]}`);
  }
  const header: SegmentHeader = {
    clusterId: clusterId(idFromBytes(bytes.subarray(16, 32))),
    salt: new Uint8Array(bytes.subarray(32, 32 + SALT_BYTES)),
    firstSeq: seq(numbers[0]),
    before: {
      seq: seq(numbers[0] - 1),
      epoch: epoch(numbers[1]),
      timestampMs: epochMs(numbers[2]),
      chain: bytes.readUInt32LE(72),
    },
    takesOver: (bytes.readUInt32LE(76) & FLAG_TAKES_OVER) !== 0,
  };
  return { kind: "header", header };
}

function headerCrc(bytes: Buffer): number {
  return crc32Range(bytes, 16, SEGMENT_HEADER_BYTES, crc32Range(bytes, 0, 12));
}

function damaged(expected: string, found: string): DecodedSegmentHeader {
  return { kind: "damaged", expected, found };
}

const SEQ_DIGITS = 20;
const SEGMENT_NAME = /^(\d{20})\.wal$/;

const stem = (firstSeq: Seq): string => String(firstSeq).padStart(SEQ_DIGITS, "0");

export const segmentName = (firstSeq: Seq): string => `${stem(firstSeq)}.wal`;
export const indexName = (firstSeq: Seq): string => `${stem(firstSeq)}.index`;
/** A segment that is still being made; it does not count, and the next start removes it. */
export const unfinishedName = (firstSeq: Seq): string => `${stem(firstSeq)}.wal.new`;
/** What was cut from a segment at `offset` and saved. */
export const tornName = (firstSeq: Seq, offset: number): string => `${stem(firstSeq)}.${offset}.torn`;

/** The first seq that a segment's name says; undefined for any other file. */
export function firstSeqOfName(name: string): Seq | undefined {
  const digits = SEGMENT_NAME.exec(name)?.[1];
  const number = Number(digits);
  return digits !== undefined && number >= 1 && Number.isSafeInteger(number) ? seq(number) : undefined;
}

export const isIndexName = (name: string): boolean => /^\d{20}\.index$/.test(name);
export const isUnfinishedName = (name: string): boolean => name.endsWith(".wal.new");
