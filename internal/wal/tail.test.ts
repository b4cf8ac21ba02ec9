import fc from "fast-check";
import { expect, test } from "vitest";
import { epoch, epochMs, seq } from "../base/position.js";
import { decodeRecords, lastSeqOf, recordAt } from "./record.js";
import { Tail } from "./tail.js";

function add(tail: Tail, bytes: number): void {
  const record = { seq: seq(tail.lastSeq + 1), epoch: epoch(1), timestampMs: epochMs(1) };
  tail.add(record, 0, Buffer.alloc(bytes, tail.lastSeq));
}

test("a run is what lies in one piece, within the limits, and at least one record", () => {
  const sizes = fc.array(fc.oneof(fc.nat(200), fc.integer({ min: 3000, max: 9000 })), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(sizes, fc.nat(), fc.nat(), fc.nat(60_000), fc.nat(9), (lengths, from, to, maxBytes, first) => {
      const tail = new Tail(64 * 1024, first);
      for (const length of lengths) add(tail, length);
      const fromSeq = first + 1 + (from % lengths.length);
      const toSeq = fromSeq + (to % (first + lengths.length - fromSeq + 1));
      // Twice: the second time it is found by way of where the first one ended.
      for (const seqs of [[fromSeq], [first + 1, fromSeq]]) {
        for (const start of seqs) tail.run(start, toSeq, maxBytes);
        const run = tail.run(fromSeq, toSeq, maxBytes);
        const records = [...decodeEach(run.bytes)];
        expect(records.map((record) => record.seq)).toEqual(range(fromSeq, run.lastSeq));
        records.forEach((record) => expect(record.payload.length).toBe(lengths[record.seq - first - 1]));
        expect(recordAt(run.bytes, run.lastOffset).seq).toBe(run.lastSeq);
        expect(run.lastSeq).toBeLessThanOrEqual(toSeq);
        if (records.length > 1) expect(run.bytes.length).toBeLessThanOrEqual(maxBytes);
        // It stops for a reason: the end, the limit, or the end of a block.
        const next = 40 + (lengths[run.lastSeq - first] ?? 0);
        const isFull = run.lastSeq === toSeq || run.bytes.length + next > maxBytes;
        const again = tail.run(fromSeq, toSeq, Number.MAX_SAFE_INTEGER);
        if (!isFull) expect(run.lastSeq).toBe(again.lastSeq);
      }
    }),
  );
});

test("encoded records come out as they went in", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3000), { minLength: 1, maxLength: 60 }), (lengths) => {
      const one = new Tail(1024 * 1024, 0);
      for (const length of lengths) add(one, length);
      const bytes = allOf(one);
      const other = new Tail(32 * 1024, 0);
      other.addEncoded(bytes);
      expect(other.lastSeq).toBe(lengths.length);
      expect(allOf(other).equals(bytes)).toBe(true);
    }),
  );
});

test("encoded records that are many are held as they lie, found like others, and never written over", () => {
  const one = new Tail(8 * 1024 * 1024, 0);
  for (let i = 0; i < 700; i++) add(one, 400 + (i % 7) * 100);
  const bytes = allOf(one);
  const before = Buffer.from(bytes);
  const tail = new Tail(1024 * 1024, 0);
  tail.addEncoded(bytes);
  expect(tail.run(1, 700, Number.MAX_SAFE_INTEGER).bytes.buffer).toBe(bytes.buffer);
  for (const fromSeq of [1, 2, 350, 699, 700]) {
    const run = tail.run(fromSeq, 700, 20_000);
    const seqs = [...decodeEach(run.bytes)].map((record) => record.seq);
    expect(seqs).toEqual(range(fromSeq, run.lastSeq));
    expect(recordAt(run.bytes, run.lastOffset).seq).toBe(run.lastSeq);
  }
  tail.dropAfter(600);
  for (let i = 0; i < 5; i++) add(tail, 10);
  expect(bytes.equals(before)).toBe(true);
  expect([...decodeEach(allOf(tail))].map((record) => record.seq)).toEqual(range(1, 605));
});

test("encoded records that lie in much more memory than their own are copied, and what is held counts until it is forgotten", () => {
  const one = new Tail(8 * 1024 * 1024, 0);
  for (let i = 0; i < 300; i++) add(one, 1000);
  const bytes = allOf(one);
  const inMuch = Buffer.alloc(3 * bytes.length)
    .fill(bytes, 10, 10 + bytes.length)
    .subarray(10, 10 + bytes.length);
  const copied = new Tail(1024 * 1024, 0);
  copied.addEncoded(inMuch);
  expect(copied.run(1, 1, 1).bytes.buffer).not.toBe(inMuch.buffer);
  expect(allOf(copied).equals(bytes)).toBe(true);

  const tail = new Tail(bytes.length * 2, 0);
  for (let copy = 0; copy < 4; copy++) {
    tail.addEncoded(Buffer.from(new Uint8Array(bytes).buffer));
    tail.trim(tail.lastSeq);
  }
  expect([tail.firstSeq, tail.lastSeq]).toEqual([601, 1200]);
});

test("the oldest records are forgotten once they are written and the memory is used up", () => {
  const tail = new Tail(32 * 1024, 0);
  for (let i = 0; i < 200; i++) add(tail, 1000);
  tail.trim(0);
  expect(tail.firstSeq).toBe(1);
  tail.trim(100);
  expect(tail.firstSeq).toBeGreaterThan(90);
  expect(tail.firstSeq).toBeLessThanOrEqual(101);
  tail.trim(200);
  expect(tail.bytesAfter(tail.firstSeq - 1)).toBeLessThanOrEqual(32 * 1024);
  expect(lastSeqOf(tail.run(tail.firstSeq, 200, 1).bytes)).toBe(tail.firstSeq);
});

test("bytes that were handed out stay as they are when the end is dropped and written anew", () => {
  const tail = new Tail(64 * 1024, 0);
  for (let i = 0; i < 10; i++) add(tail, 100);
  const handedOut = tail.run(5, 10, 10_000).bytes;
  const before = Buffer.from(handedOut);
  tail.dropAfter(6);
  expect(tail.lastSeq).toBe(6);
  for (let i = 0; i < 10; i++) add(tail, 77);
  expect(handedOut.equals(before)).toBe(true);
  expect([...decodeEach(allOf(tail))].map((record) => record.payload.length)).toEqual([
    ...Array<number>(6).fill(100),
    ...Array<number>(10).fill(77),
  ]);
});

test("a drop behind everything that is held leaves an empty tail that goes on from there", () => {
  const tail = new Tail(64 * 1024, 50);
  for (let i = 0; i < 10; i++) add(tail, 100);
  tail.dropAfter(20);
  expect([tail.firstSeq, tail.lastSeq]).toEqual([21, 20]);
  add(tail, 5);
  expect(tail.run(21, 21, 1)).toMatchObject({ firstSeq: 21, lastSeq: 21, lastOffset: 0 });
});

/** Records one by one: their chains are made up here. */
function* decodeEach(bytes: Buffer): Generator<ReturnType<typeof recordAt>> {
  for (let at = 0; at < bytes.length;) {
    const record = recordAt(bytes, at);
    yield* decodeRecords(bytes.subarray(at, at + record.byteLength), true);
    at += record.byteLength;
  }
}

function allOf(tail: Tail): Buffer {
  const runs: Buffer[] = [];
  for (let next = tail.firstSeq; next <= tail.lastSeq;) {
    const run = tail.run(next, tail.lastSeq, Number.MAX_SAFE_INTEGER);
    runs.push(run.bytes);
    next = run.lastSeq + 1;
  }
  return Buffer.concat(runs);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
