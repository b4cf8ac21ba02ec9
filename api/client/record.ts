/** What goes in and out of the record log, in plain types, and its translation from the messages of the wire. */
import type { ProducedRecord as WireRecord, ProduceResponse } from "../gen/cambium/v1/log_pb.js";
import { CambiumError } from "./cambium-error.js";
import { fromWire, type Position, toPosition } from "./wire.js";

/** A record of the record log. */
export interface ProducedRecord {
  /** 0, 1, 2, … without holes. */
  readonly offset: number;
  readonly record: Uint8Array;
  /** The record of the store's log with which it was produced; records that were produced together share it. */
  readonly position: Position;
  /** The master's time when it was produced, in milliseconds since 1970; it never goes back from one offset to the next. */
  readonly timestampMs: number;
}

/** Records that are committed. */
export interface ProduceReceipt {
  /** Of the first record; the others follow. */
  readonly offset: number;
  readonly count: number;
  readonly position: Position;
  /** `position` with its lineage, opaque. */
  readonly token: Uint8Array;
  /** They had been produced before, by an earlier try: this is the answer that it got then. */
  readonly repeated?: true;
}

/** The records that a node has: from `start` up to, but without, `end`. */
export interface OffsetRange {
  readonly start: number;
  readonly end: number;
}

/** A string is produced as UTF-8. */
export function encodeRecord(record: Uint8Array | string): Uint8Array<ArrayBuffer> {
  return typeof record === "string" ? new TextEncoder().encode(record) : (record as Uint8Array<ArrayBuffer>);
}

export function toProduceReceipt(answer: ProduceResponse, count: number): ProduceReceipt {
  return {
    offset: fromWire(answer.offset, "offset"),
    count,
    position: toPosition(answer.position),
    token: answer.token,
    ...(answer.repeated && { repeated: true }),
  };
}

export function toProducedRecord({ offset, record, position, timestampMs }: WireRecord): ProducedRecord {
  return {
    offset: fromWire(offset, "offset"),
    record,
    position: toPosition(position),
    timestampMs: fromWire(timestampMs, "timestamp_ms"),
  };
}

/** Whether two reads of one offset gave the record of one history. */
export function isSameRecord(a: ProducedRecord, b: ProducedRecord): boolean {
  return (
    a.offset === b.offset &&
    a.position.epoch === b.position.epoch &&
    a.position.seq === b.position.seq &&
    a.timestampMs === b.timestampMs
  );
}

/** The history in which the offset was read is not this cluster's any more. */
export function lostRecord(offset: number): CambiumError {
  return new CambiumError(
    "lineage_lost",
    `the record at offset ${offset} is another one now: a failover lost the records that were read before; read again from where they can be trusted`,
  );
}
