/**
 * The bridge between 64-bit values of the wire and numbers of JavaScript. Seqs, epochs and milliseconds are plain numbers
 * here: a node never gives one above 2^53 - 1 (it refuses to make one), plain numbers compare and print as JSON, and a value
 * that would not fit is an error, never a rounded number.
 */
import { CambiumError } from "./cambium-error.js";

/** A place in the history of a cluster. Two are compared by epoch first, then by seq. */
export interface Position {
  /** The number of the mastership under which the record was written. */
  readonly epoch: number;
  /** The place of the record in the log: 1, 2, 3, …; 0 stands before the first. */
  readonly seq: number;
}

/** Turns a 64-bit wire value into an exact number. Throws `CambiumError` `internal` where there is none. */
export function fromWire(value: bigint, field: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new CambiumError("internal", `the node answered with ${field} ${value}, which is not from 0 to 2^53 - 1`);
  }
  return Number(value);
}

/** Turns a caller's number into a 64-bit wire value. Throws `CambiumError` `invalid_argument` for what is not whole. */
export function toWire(value: number, field: string): bigint {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new CambiumError("invalid_argument", `${field} must be a whole number from 0 to 2^53 - 1, not ${value}`);
  }
  return BigInt(value);
}

/** An absent position stands before the first record. */
export function toPosition(position: { epoch: bigint; seq: bigint } | undefined): Position {
  if (!position) return { epoch: 0, seq: 0 };
  return { epoch: fromWire(position.epoch, "epoch"), seq: fromWire(position.seq, "seq") };
}
