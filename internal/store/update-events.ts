/** What a record of the log tells clients: events, and those of them that a filter lets through. */
import { assert, must } from "../base/assert.js";
import { type EpochMs, type Position, type Seq, seq as toSeq } from "../base/position.js";
import type { KeyRange } from "../engine/engine.js";
import type { LogRecord } from "../wal/record.js";
import { decodeChanges } from "./change.js";

/** The keys whose events are wanted: one, or those of a range. */
export type KeyFilter = { readonly key: Uint8Array } | { readonly range: KeyRange };

/** One change of one key, or the removal of a range. */
export interface UpdateEvent {
  readonly type: "put" | "delete" | "expire" | "evict" | "delete-range";
  /** Of a delete-range: the first key that it could remove. */
  readonly key: Uint8Array;
  /** Of a delete-range: where it ends, without this key; absent: after the last key. */
  readonly rangeEnd?: Uint8Array;
  /** Empty unless it is a put. */
  readonly value: Uint8Array;
  readonly position: Position;
  readonly timestampMs: EpochMs;
  readonly expiresAtMs?: EpochMs;
  /** The value before, where it was asked for, there was one, and the log holds it; never of a removed range. */
  readonly previous?: Uint8Array;
  /** There was a value before, it was asked for, and the log no longer holds it. */
  readonly previousCompacted?: true;
}

/** An event as it stands in the log. */
export interface LoggedEvent extends UpdateEvent {
  /** The record that had written the value before; 0: there was none, or it is not known, as of a removed range. */
  readonly previousSeq: Seq;
  /** The value before, where this same record had written it. */
  readonly replaced?: Uint8Array;
}

/** Bytes of an event on the wire beside its keys and values, at most. */
export const EVENT_OVERHEAD_BYTES = 64;

const NO_VALUE = new Uint8Array(0);
const NONE = toSeq(0);

/** The events of a record, in their order. Keys and values are views into its payload. */
export function eventsOf(record: LogRecord): LoggedEvent[] {
  const events: LoggedEvent[] = [];
  const position = { epoch: record.epoch, seq: record.seq };
  const { timestampMs } = record;
  for (const change of decodeChanges(record.payload)) {
    switch (change.kind) {
      case "put": {
        const { key, value, expiresAtMs, previousSeq } = change;
        const event: LoggedEvent = { type: "put", key, value, position, timestampMs, previousSeq };
        // Spreading costs more than all the rest, and every record comes by here while somebody watches.
        const timed = expiresAtMs === undefined ? event : { ...event, expiresAtMs };
        events.push(previousSeq === record.seq ? { ...timed, replaced: lastPut(events, key) } : timed);
        break;
      }
      case "delete": {
        const { key, previousSeq } = change;
        const event: LoggedEvent = { type: "delete", key, value: NO_VALUE, position, timestampMs, previousSeq };
        events.push(previousSeq === record.seq ? { ...event, replaced: lastPut(events, key) } : event);
        break;
      }
      case "expire":
      case "evict": {
        const { kind: type, key, modSeq: previousSeq } = change;
        events.push({ type, key, value: NO_VALUE, position, timestampMs, previousSeq });
        break;
      }
      case "delete-range": {
        const { start: key, end: rangeEnd } = change;
        const event: LoggedEvent = {
          type: "delete-range",
          key,
          value: NO_VALUE,
          position,
          timestampMs,
          previousSeq: NONE,
        };
        events.push(rangeEnd ? { ...event, rangeEnd } : event);
        break;
      }
      default:
      // Nothing that happens to keys.
    }
  }
  return events;
}

/** What a filter lets through of an event: of a removed range, what both have in common. */
export function clipped<Event extends UpdateEvent>(event: Event, filter: KeyFilter | undefined): Event | undefined {
  if (!filter) return event;
  if (event.type !== "delete-range") return lets(filter, event.key) ? event : undefined;
  if ("key" in filter) {
    if (!isIn(filter.key, event.key, event.rangeEnd)) return undefined;
    const { rangeEnd: _, ...rest } = event;
    return { ...rest, type: "delete", key: filter.key } as Event;
  }
  const { start, end } = filter.range;
  const key = Buffer.compare(start, event.key) > 0 ? start : event.key;
  const rangeEnd = lower(end, event.rangeEnd);
  if (rangeEnd && Buffer.compare(key, rangeEnd) >= 0) return undefined;
  if (key === event.key && rangeEnd === event.rangeEnd) return event;
  return { ...event, key, ...(rangeEnd && { rangeEnd }) };
}

/** What an event counts for where answers are limited. */
export function bytesOf(event: UpdateEvent): number {
  const { key, value, rangeEnd, previous } = event;
  return key.length + value.length + (rangeEnd?.length ?? 0) + (previous?.length ?? 0) + EVENT_OVERHEAD_BYTES;
}

/** What the events of a record so far leave at a key. */
function lastPut(events: readonly UpdateEvent[], key: Uint8Array): Uint8Array {
  const last = must(
    events.findLast((event) => Buffer.compare(event.key, key) === 0),
    "a change that replaces one of its own record comes after it",
  );
  assert(last.type === "put", "what is replaced was written");
  return last.value;
}

function lets(filter: KeyFilter, key: Uint8Array): boolean {
  return "key" in filter ? Buffer.compare(filter.key, key) === 0 : isIn(key, filter.range.start, filter.range.end);
}

function isIn(key: Uint8Array, start: Uint8Array, end: Uint8Array | undefined): boolean {
  return Buffer.compare(key, start) >= 0 && (!end || Buffer.compare(key, end) < 0);
}

/** The lower of two ends; absent is above all. */
function lower(a: Uint8Array | undefined, b: Uint8Array | undefined): Uint8Array | undefined {
  if (!a || !b) return a ?? b;
  return Buffer.compare(a, b) <= 0 ? a : b;
}
