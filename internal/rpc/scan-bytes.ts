/**
 * The entries of a page of a scan on the wire, straight from the engine's bytes: a message each, made by the library, would
 * take ten times as long, and a page is read, and so encoded, within one turn of the event loop.
 *
 * What comes out is what the library makes of the same entries: fields in the order of their numbers, those with the value of
 * nothing left out (https://protobuf.dev/programming-guides/encoding).
 */
import type { EpochMs } from "../base/position.js";
import { varintSize, writeVarint } from "../base/varint.js";
import type { ScanPage } from "../store/store.js";
import { ENTRY_OVERHEAD_BYTES } from "./entries.js";

/** Tags of `ScanResponse` and `ScanEntry`: the number of the field, and how it is written. */
const ENTRIES = (1 << 3) | 2;
const KEY = (1 << 3) | 2;
const VALUE = (2 << 3) | 2;
const CREATE_SEQ = 3 << 3;
const MOD_SEQ = 4 << 3;
const TTL_MS = 5 << 3;
const VALUE_BYTES = 6 << 3;

type ScannedEntry = ScanPage["entries"][number];

/** All entries as fields of a ScanResponse, tags included. */
export function entriesToBytes(entries: readonly ScannedEntry[], nowMs: EpochMs, keysOnly: boolean): Uint8Array {
  let bytesMax = 0;
  for (const { key, value } of entries) bytesMax += key.length + (keysOnly ? 0 : value.length) + ENTRY_OVERHEAD_BYTES;
  const into = Buffer.allocUnsafe(bytesMax);
  let at = 0;
  for (const entry of entries) {
    at = writeVarint(into, at, ENTRIES);
    at = writeVarint(into, at, sizeOf(entry, nowMs, keysOnly));
    at = writeEntry(into, at, entry, nowMs, keysOnly);
  }
  return into.subarray(0, at);
}

function sizeOf(
  { key, value, createSeq, modSeq, expiresAtMs }: ScannedEntry,
  nowMs: EpochMs,
  keysOnly: boolean,
): number {
  let size = key.length === 0 ? 0 : 1 + varintSize(key.length) + key.length;
  if (!keysOnly && value.length > 0) size += 1 + varintSize(value.length) + value.length;
  size += 1 + varintSize(createSeq) + 1 + varintSize(modSeq);
  if (expiresAtMs !== undefined) size += 1 + varintSize(ttlOf(expiresAtMs, nowMs));
  return value.length === 0 ? size : size + 1 + varintSize(value.length);
}

function writeEntry(
  into: Buffer,
  start: number,
  { key, value, createSeq, modSeq, expiresAtMs }: ScannedEntry,
  nowMs: EpochMs,
  keysOnly: boolean,
): number {
  let at = start;
  if (key.length > 0) at = writeBytes(into, at, KEY, key);
  if (!keysOnly && value.length > 0) at = writeBytes(into, at, VALUE, value);
  at = writeNumber(into, at, CREATE_SEQ, createSeq);
  at = writeNumber(into, at, MOD_SEQ, modSeq);
  if (expiresAtMs !== undefined) at = writeNumber(into, at, TTL_MS, ttlOf(expiresAtMs, nowMs));
  return value.length === 0 ? at : writeNumber(into, at, VALUE_BYTES, value.length);
}

const ttlOf = (expiresAtMs: EpochMs, nowMs: EpochMs): number => Math.max(0, expiresAtMs - nowMs);

function writeBytes(into: Buffer, start: number, tag: number, bytes: Uint8Array): number {
  into[start] = tag;
  const at = writeVarint(into, start + 1, bytes.length);
  into.set(bytes, at);
  return at + bytes.length;
}

function writeNumber(into: Buffer, start: number, tag: number, value: number): number {
  into[start] = tag;
  return writeVarint(into, start + 1, value);
}
