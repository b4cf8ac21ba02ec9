import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { crc32 } from "../base/crc32.js";
import { idToBytes } from "../base/ids.js";
import { epoch, epochMs, seq } from "../base/position.js";
import { chainSeed, damageProblem, decodeRecords, encodeRecord, lastSeqOf, RECORD_HEADER_BYTES } from "./record.js";
import { CLUSTER } from "./testing/logs.js";

/** Encoded records with these payloads, from seq `first` on. */
function encodeAll(payloads: readonly Uint8Array[], first = 1, chainBefore = chainSeed(CLUSTER)): Buffer {
  const bytes = Buffer.alloc(payloads.reduce((sum, payload) => sum + RECORD_HEADER_BYTES + payload.length, 0));
  let chain = chainBefore;
  let offset = 0;
  payloads.forEach((payload, i) => {
    const record = { seq: seq(first + i), epoch: epoch(3), timestampMs: epochMs(1000 + i) };
    chain = encodeRecord(bytes, offset, record, chain, payload);
    offset += RECORD_HEADER_BYTES + payload.length;
  });
  return bytes;
}

test("a record has the documented bytes", () => {
  const bytes = Buffer.alloc(RECORD_HEADER_BYTES + 5);
  const record = { seq: seq(2 ** 40 + 7), epoch: epoch(5), timestampMs: epochMs(1_700_000_000_123) };
  const chain = encodeRecord(bytes, 0, record, 0xdeadbeef, Buffer.from("hello"));
  expect(bytes.readUInt32LE(0)).toBe(crc32(bytes.subarray(4, 40)));
  expect(bytes.readUInt32LE(4)).toBe(chain);
  expect(chain).toBe(crc32(bytes.subarray(8), 0xdeadbeef));
  expect(bytes.readUInt32LE(8)).toBe(5);
  expect(bytes.readUInt32LE(12)).toBe(0xdeadbeef);
  expect(bytes.readBigUInt64LE(16)).toBe(2n ** 40n + 7n);
  expect(bytes.readBigUInt64LE(24)).toBe(5n);
  expect(bytes.readBigUInt64LE(32)).toBe(1_700_000_000_123n);
  expect(bytes.subarray(40).toString()).toBe("hello");
});

test("the chain begins with the cluster's id", () => {
  expect(chainSeed(CLUSTER)).toBe(crc32(idToBytes(CLUSTER)));
});

test("what was encoded is decoded, at any length", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 8 }), (payloads) => {
      const bytes = encodeAll(payloads);
      const records = [...decodeRecords(bytes, true)];
      expect(records.map((record) => [...record.payload])).toEqual(payloads.map((payload) => [...payload]));
      expect(records.map((record) => record.seq)).toEqual(payloads.map((_, i) => i + 1));
      expect(records.map((record) => record.byteLength)).toEqual(payloads.map((payload) => 40 + payload.length));
      expect(records.every((record) => record.epoch === 3)).toBe(true);
      expect(lastSeqOf(bytes)).toBe(payloads.length);
      records.forEach((record, i) => expect(record.chainBefore).toBe(records[i - 1]?.chain ?? chainSeed(CLUSTER)));
    }),
  );
});

test("a payload is a view of the bytes that were decoded", () => {
  const bytes = encodeAll([Buffer.from("a")]);
  const [record] = [...decodeRecords(bytes)];
  bytes[40] = 98;
  expect(Buffer.from(record!.payload).toString()).toBe("b");
});

describe("damage is seen", () => {
  const payloads = ["one", "", "three", "four"].map((text) => Buffer.from(text));

  test("in every bit of a record", () => {
    const sound = encodeAll(payloads);
    for (let bit = 0; bit < sound.length * 8; bit++) {
      const bytes = Buffer.from(sound);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => [...decodeRecords(bytes, true)], `bit ${bit}`).toThrow(
        expect.objectContaining({ code: "mismatch" }),
      );
    }
  });

  test("in a run that ends inside a record, wherever that is", () => {
    const sound = encodeAll(payloads);
    const ends = new Set<number>([0]);
    let at = 0;
    for (const record of decodeRecords(sound)) ends.add((at += record.byteLength));
    for (let length = 0; length <= sound.length; length++) {
      const decode = (): number => [...decodeRecords(sound.subarray(0, length), true)].length;
      if (ends.has(length)) expect(decode()).toBe([...ends].indexOf(length));
      else expect(decode, `${length} bytes`).toThrow(expect.objectContaining({ code: "mismatch" }));
    }
  });

  test("in records that are missing, swapped or of another chain", () => {
    const records = [...decodeRecords(encodeAll(payloads))];
    const sound = encodeAll(payloads);
    const piece = (i: number): Buffer => {
      const start = records.slice(0, i).reduce((sum, record) => sum + record.byteLength, 0);
      return sound.subarray(start, start + records[i]!.byteLength);
    };
    const decode = (...pieces: Buffer[]): number => [...decodeRecords(Buffer.concat(pieces), true)].length;
    expect(decode(piece(0), piece(1), piece(2))).toBe(3);
    expect(decode(piece(1), piece(2))).toBe(2);
    expect(() => decode(piece(0), piece(2))).toThrow("not a run of records");
    expect(() => decode(piece(1), piece(0))).toThrow("not a run of records");
    expect(() => decode(piece(0), piece(0))).toThrow("not a run of records");
    expect(() => decode(piece(0), encodeAll([Buffer.from("other")], 2, 12345))).toThrow("after chain");
  });
});

test("the chain depends on the chain before, whatever the payload's length", () => {
  // A CRC that runs over its own value forgets it; the length between the two is what prevents that.
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0, max: 0xffffffff }),
      (payload, one, other) => {
        fc.pre(one !== other);
        const chainOf = (before: number): number => encodeAll([payload], 1, before).readUInt32LE(4);
        expect(chainOf(one)).not.toBe(chainOf(other));
      },
    ),
  );
});

test("a length that reaches past the bytes is never followed", () => {
  const bytes = encodeAll([Buffer.from("abc")]);
  bytes.writeUInt32LE(0xffffffff, 8);
  expect(damageProblem(bytes, 0, bytes.length)).toMatchObject({ expected: expect.stringContaining("header CRC") });
  expect(() => [...decodeRecords(bytes)]).toThrow("a payload of at most 3 bytes, found 4294967295");
});
