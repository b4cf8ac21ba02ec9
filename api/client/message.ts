/** What is read through the client, in plain types, and its translation from the messages of the wire. */
import { type Event, EventType, type GetResponse } from "../gen/cambium/v1/kvstore_pb.js";
import { CambiumError } from "./cambium-error.js";
import type { TokenedAnswer } from "./consistency.js";
import { fromWire, type Position, toPosition } from "./wire.js";

/** A key that exists. */
export interface Entry {
  readonly value: Uint8Array;
  /** Seq of the record that created the key. */
  readonly createSeq: number;
  /** Seq of the record that last changed the key. */
  readonly modSeq: number;
  /** Milliseconds until the key expired, when it was read; absent when it does not expire. */
  readonly ttlMs?: number;
  /** The committed position at which the node read. */
  readonly position: Position;
  /** How old the answer may be: 0 from the master; absent when the node could not tell. */
  readonly stalenessMs?: number;
  /** `position` with its lineage, opaque: `atLeast` of a read that must see what this one saw. */
  readonly token: Uint8Array;
}

/** One change of one key, or of a range of keys. */
export interface UpdateEvent {
  /** `expire`: its deadline had passed. `evict`: it made room for others. `delete-range`: a client removed a range at once. */
  readonly type: "put" | "delete" | "expire" | "evict" | "delete-range";
  /** Of a `delete-range`: the first key of the range. */
  readonly key: string;
  /** Of a `delete-range`: the keys before this one are gone; absent: all from `key` on. */
  readonly rangeEnd?: string;
  /** The new value; empty unless it is a put, or where only keys were asked for. */
  readonly value: Uint8Array;
  /** The record that made the change; events of one record share it. */
  readonly position: Position;
  /** The master's time of the record, in milliseconds since 1970. */
  readonly timestampMs: number;
  /** When the key expires, in milliseconds since 1970; absent when it does not. */
  readonly expiresAtMs?: number;
  /** With `wantPrevious`: the value before the change, where there was one and the log still holds it. */
  readonly previous?: Uint8Array;
  /** With `wantPrevious`: there was a value before, and the log no longer holds it. */
  readonly previousCompacted?: true;
}

/** Some changes that follow each other. Records are whole, so that reading may stop after any page and go on at `next`. */
export interface UpdatesPage {
  readonly events: readonly UpdateEvent[];
  /** Where to go on: `after` of the next call. */
  readonly next: number;
  /** `next` with its lineage: `afterToken` of the next call, which notices a history that was lost. */
  readonly nextToken: Uint8Array;
  /** What the node had applied when it answered; all is read when `next` has reached its seq. */
  readonly position: Position;
}

/** A lone surrogate has no bytes: TextEncoder would quietly make another key of it. */
export function checkKey(key: string): void {
  if (!/\p{Surrogate}/u.test(key)) return;
  throw new CambiumError(
    "invalid_argument",
    `the key ${JSON.stringify(key)} holds a lone surrogate, so it is no UTF-8`,
  );
}

/** The bytes of a key. */
export function encodeKey(key: string): Uint8Array {
  checkKey(key);
  return new TextEncoder().encode(key);
}

export function toEntry(
  entry: Pick<GetResponse, "exists" | "value" | "createSeq" | "modSeq" | "ttlMs">,
  read: TokenedAnswer & { readonly stalenessMs?: bigint | undefined },
): Entry | undefined {
  if (!entry.exists) return undefined;
  return {
    value: entry.value,
    createSeq: fromWire(entry.createSeq, "create_seq"),
    modSeq: fromWire(entry.modSeq, "mod_seq"),
    ...(entry.ttlMs !== undefined && { ttlMs: fromWire(entry.ttlMs, "ttl_ms") }),
    position: toPosition(read.position),
    ...(read.stalenessMs !== undefined && { stalenessMs: fromWire(read.stalenessMs, "staleness_ms") }),
    token: read.token,
  };
}

export function toUpdateEvent(event: Event): UpdateEvent {
  return {
    type: eventType(event.type),
    key: event.key,
    ...(event.type === EventType.DELETE_RANGE && event.rangeEnd !== "" && { rangeEnd: event.rangeEnd }),
    value: event.value,
    position: toPosition(event.position),
    timestampMs: fromWire(event.timestampMs, "timestamp_ms"),
    ...(event.expiresAtMs !== undefined && { expiresAtMs: fromWire(event.expiresAtMs, "expires_at_ms") }),
    ...(event.previous && { previous: event.previous }),
    ...(event.previousCompacted && { previousCompacted: true }),
  };
}

function eventType(type: EventType): UpdateEvent["type"] {
  switch (type) {
    case EventType.PUT:
      return "put";
    case EventType.DELETE:
      return "delete";
    case EventType.EXPIRE:
      return "expire";
    case EventType.EVICT:
      return "evict";
    case EventType.DELETE_RANGE:
      return "delete-range";
    default:
      // Guessing would make a reader's copy wrong in silence.
      throw new CambiumError("internal", `the node sent an event of type ${type}; this client is too old for it`);
  }
}
