import { expect, test } from "vitest";
import { crc32 } from "../base/crc32.js";
import { epoch, epochMs, seq } from "../base/position.js";
import {
  decodeFrameHeader,
  encodeFrameHeader,
  FLAG_CLEAN_SHUTDOWN,
  FRAME_HEADER_BYTES,
  frameSeed,
  type FrameHeader,
} from "./frame.js";
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  firstSeqOfName,
  segmentName,
  tornName,
  type SegmentHeader,
} from "./segment-header.js";
import { SegmentIndex } from "./segment-index.js";
import { CLUSTER, SeededRandom } from "./testing/logs.js";

const SALT_CRC = crc32(new SeededRandom().bytes(16));
const FRAME: FrameHeader = {
  bodyLength: 4711,
  bodyCrc: 0xcafebabe,
  recordCount: 12,
  flags: FLAG_CLEAN_SHUTDOWN,
  syncedSeq: 2 ** 45 + 1,
  appliedSeq: 99,
};

function encodedFrame(offset: number, header = FRAME, saltCrc = SALT_CRC): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES);
  encodeFrameHeader(bytes, 0, header, frameSeed(saltCrc, offset));
  return bytes;
}

test("a frame header has the documented bytes", () => {
  const bytes = encodedFrame(80);
  const offset = Buffer.alloc(8);
  offset.writeBigUInt64LE(80n);
  expect(bytes.subarray(0, 4).toString("hex")).toBe("f746729a");
  expect(bytes.readUInt32LE(4)).toBe(crc32(bytes.subarray(8), crc32(offset, SALT_CRC)));
  expect(bytes.readUInt32LE(8)).toBe(4711);
  expect(bytes.readUInt32LE(12)).toBe(0xcafebabe);
  expect(bytes.readUInt32LE(16)).toBe(12);
  expect(bytes.readUInt32LE(20)).toBe(1);
  expect(bytes.readBigUInt64LE(24)).toBe(2n ** 45n + 1n);
  expect(bytes.readBigUInt64LE(32)).toBe(99n);
  expect(decodeFrameHeader(bytes, 0, frameSeed(SALT_CRC, 80))).toEqual(FRAME);
});

test("a frame header counts only where it was written, in the segment that it was written to", () => {
  const bytes = encodedFrame(80);
  expect(decodeFrameHeader(bytes, 0, frameSeed(SALT_CRC, 81))).toBeUndefined();
  expect(decodeFrameHeader(bytes, 0, frameSeed(SALT_CRC, 80 + 2 ** 32))).toBeUndefined();
  expect(decodeFrameHeader(bytes, 0, frameSeed(SALT_CRC ^ 1, 80))).toBeUndefined();
});

test("a frame header with any bit changed is none", () => {
  for (let bit = 0; bit < FRAME_HEADER_BYTES * 8; bit++) {
    const bytes = encodedFrame(80);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    expect(decodeFrameHeader(bytes, 0, frameSeed(SALT_CRC, 80)), `bit ${bit}`).toBeUndefined();
  }
});

test.each<[string, Partial<FrameHeader>]>([
  ["unknown flags", { flags: 2 }],
  ["records without bytes", { bodyLength: 0 }],
  ["bytes without records", { recordCount: 0 }],
  ["more records than fit", { recordCount: 118 }],
  ["a length past every limit", { bodyLength: 0xffffffff }],
  ["a seq that is no safe integer", { syncedSeq: 2 ** 60 }],
])("a frame header with %s is none, though its CRC is right", (_what, fields) => {
  expect(decodeFrameHeader(encodedFrame(80, { ...FRAME, ...fields }), 0, frameSeed(SALT_CRC, 80))).toBeUndefined();
});

const SEGMENT: SegmentHeader = {
  clusterId: CLUSTER,
  salt: new SeededRandom(9).bytes(16),
  firstSeq: seq(2 ** 33),
  before: { seq: seq(2 ** 33 - 1), epoch: epoch(7), timestampMs: epochMs(1_700_000_000_000), chain: 0x89abcdef },
  takesOver: true,
};

test("a segment header has the documented bytes", () => {
  const bytes = encodeSegmentHeader(SEGMENT);
  expect(bytes.length).toBe(80);
  expect(bytes.subarray(0, 8).toString("hex")).toBe("ab4357414c0d0a1a");
  expect(bytes.readUInt32LE(8)).toBe(1);
  expect(bytes.readUInt32LE(12)).toBe(crc32(bytes.subarray(16), crc32(bytes.subarray(0, 12))));
  expect(bytes.subarray(16, 32).toString("hex")).toBe(CLUSTER);
  expect(new Uint8Array(bytes.subarray(32, 48))).toEqual(SEGMENT.salt);
  expect(bytes.readBigUInt64LE(48)).toBe(2n ** 33n);
  expect(bytes.readBigUInt64LE(56)).toBe(7n);
  expect(bytes.readBigUInt64LE(64)).toBe(1_700_000_000_000n);
  expect(bytes.readUInt32LE(72)).toBe(0x89abcdef);
  expect(bytes.readUInt32LE(76)).toBe(1);
  expect(decodeSegmentHeader(bytes)).toEqual({ kind: "header", header: SEGMENT });
  const plain = { ...SEGMENT, takesOver: false };
  expect(decodeSegmentHeader(encodeSegmentHeader(plain))).toEqual({ kind: "header", header: plain });
});

test("a segment header with any bit changed is damaged, the version's too", () => {
  for (let bit = 0; bit < 80 * 8; bit++) {
    const bytes = encodeSegmentHeader(SEGMENT);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    expect(decodeSegmentHeader(bytes), `bit ${bit}`).toMatchObject({ kind: "damaged" });
  }
});

test("a segment of a newer format is told from a damaged one", () => {
  const bytes = encodeSegmentHeader(SEGMENT);
  bytes.writeUInt32LE(2, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(16), crc32(bytes.subarray(0, 12))), 12);
  expect(decodeSegmentHeader(bytes)).toEqual({ kind: "newer", version: 2 });
});

test("files are named by their first seq, so that their names sort as they do", () => {
  expect(segmentName(seq(42))).toBe("00000000000000000042.wal");
  expect(tornName(seq(42), 4096)).toBe("00000000000000000042.4096.torn");
  expect(firstSeqOfName("00000000000000000042.wal")).toBe(42);
  for (const name of ["42.wal", "00000000000000000000.wal", "00000000000000000042.index", "99999999999999999999.wal"]) {
    expect(firstSeqOfName(name), name).toBeUndefined();
  }
});

test("an index finds the nearest frame that it knows at or before a seq", () => {
  const index = new SegmentIndex();
  expect(index.floor(5)).toBeUndefined();
  for (let i = 0; i < 100; i++) index.note(1 + i * 10, 80 + i * 30_000);
  expect(index.floor(1)).toEqual({ seq: 1, offset: 80 });
  expect(index.floor(30)).toEqual({ seq: 1, offset: 80 });
  expect(index.floor(31)).toEqual({ seq: 31, offset: 80 + 3 * 30_000 });
  expect(index.floor(1000)).toEqual({ seq: 991, offset: 80 + 99 * 30_000 });
  index.cut(80 + 3 * 30_000);
  expect(index.floor(1000)).toEqual({ seq: 1, offset: 80 });
});
