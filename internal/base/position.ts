/**
 * The places and numbers that all rooms share, each with one maker. 64-bit values are `bigint` on the wire and safe
 * integers inside; `fromWire64` and `toWire64` are the only bridge.
 */
import { assert } from "./assert.js";

declare const brand: unique symbol;

/** 1, 2, 3, …: the place of a record in the log, dense. 0 stands before the first record. */
export type Seq = number & { readonly [brand]: "Seq" };
/** Number of a mastership, from 1; 0 stands before the first. */
export type Epoch = number & { readonly [brand]: "Epoch" };
/** Milliseconds since 1970 by the master's clock. */
export type EpochMs = number & { readonly [brand]: "EpochMs" };
/** A place in a file. */
export type ByteOffset = number & { readonly [brand]: "ByteOffset" };

function safe(value: number, what: string): number {
  // The sentence is built only when it is needed: every record and every answer comes through here.
  if (!Number.isSafeInteger(value) || value < 0) {
    assert(false, `${what} must be a whole number from 0 to 2^53 - 1, not ${value}`);
  }
  return value;
}

export const seq = (value: number): Seq => safe(value, "seq") as Seq;
export const epoch = (value: number): Epoch => safe(value, "epoch") as Epoch;
export const epochMs = (value: number): EpochMs => safe(value, "epoch ms") as EpochMs;
export const byteOffset = (value: number): ByteOffset => safe(value, "byte offset") as ByteOffset;

/** A number from the wire that would not fit a safe integer. The caller refuses the message. */
export class WireRangeError extends Error {
  override readonly name = "WireRangeError";
}

/** Turns a 64-bit wire value into a safe integer. Throws `WireRangeError` above 2^53 - 1 or below 0. */
export function fromWire64(value: bigint, field: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new WireRangeError(`${field} must be from 0 to ${Number.MAX_SAFE_INTEGER}, not ${value}`);
  }
  return Number(value);
}

/** Turns a number of ours into a 64-bit wire value. */
export const toWire64 = (value: number): bigint => BigInt(safe(value, "wire value"));

/** A place in the history of a cluster. */
export interface Position {
  readonly epoch: Epoch;
  readonly seq: Seq;
}

/** Before the first record. */
export const ORIGIN: Position = { epoch: epoch(0), seq: seq(0) };

/** Negative, zero or positive, as `a` comes before, at, or after `b`: by epoch, then by seq. */
export function comparePositions(a: Position, b: Position): number {
  return a.epoch - b.epoch || a.seq - b.seq;
}

/** A place in the log with the chain value after its record: equal marks mean equal logs up to there. */
export interface LogMark extends Position {
  /** Unsigned 32 bits. */
  readonly chain: number;
}
