/** What goes through the client, in plain types, and its translation from and to the messages of the wire. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Event,
  EventType,
  type GetResponse,
  type SetRequestSchema,
  type SetResponse,
  type WriteOperationSchema,
} from "../gen/cambium/v1/kvstore_pb.js";
import { CambiumError } from "./cambium-error.js";
import { fromWire, type Position, toPosition, toWire } from "./wire.js";

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

/** One operation of a batch. A string is stored as UTF-8. */
export type WriteOperation =
  | { readonly kind: "set"; readonly key: string; readonly value: Uint8Array | string; readonly ttlMs?: number }
  | { readonly kind: "delete"; readonly key: string };

/** A write, committed unless it was to be answered earlier. */
export interface WriteReceipt {
  readonly position: Position;
  /** `position` with its lineage, opaque: `atLeast` of a read that must see the write, at whichever node. */
  readonly token: Uint8Array;
}

export interface DeleteReceipt extends WriteReceipt {
  /** Whether there was a key to remove. */
  readonly existed: boolean;
}

export interface BatchReceipt extends WriteReceipt {
  /** One result an operation: whether its key existed before it. */
  readonly results: readonly { readonly existed: boolean }[];
}

/** One change of one key. */
export interface UpdateEvent {
  /** `expire`: its deadline had passed. `evict`: it made room for others. */
  readonly type: "put" | "delete" | "expire" | "evict";
  readonly key: string;
  /** The new value; empty unless it is a put. */
  readonly value: Uint8Array;
  /** The record that made the change; events of one record share it. */
  readonly position: Position;
  /** The master's time of the record, in milliseconds since 1970. */
  readonly timestampMs: number;
  /** When the key expires, in milliseconds since 1970; absent when it does not. */
  readonly expiresAtMs?: number;
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

/** The bytes of a key. A lone surrogate has none: TextEncoder would quietly make another key of it. */
export function encodeKey(key: string): Uint8Array {
  if (/\p{Surrogate}/u.test(key)) {
    throw new CambiumError(
      "invalid_argument",
      `the key ${JSON.stringify(key)} holds a lone surrogate, so it is no UTF-8`,
    );
  }
  return new TextEncoder().encode(key);
}

export function setRequest(set: {
  readonly key: string;
  readonly value: Uint8Array | string;
  readonly ttlMs?: number | undefined;
}): MessageInitShape<typeof SetRequestSchema> {
  encodeKey(set.key);
  if (set.ttlMs === 0) throw new CambiumError("invalid_argument", "ttlMs must be more than 0; delete the key instead");
  return {
    key: set.key,
    value: typeof set.value === "string" ? new TextEncoder().encode(set.value) : set.value,
    ttlMs: toWire(set.ttlMs ?? 0, "ttlMs"),
  };
}

export function toWireOperation(operation: WriteOperation): MessageInitShape<typeof WriteOperationSchema> {
  if (operation.kind === "set") return { operation: { case: "set", value: setRequest(operation) } };
  encodeKey(operation.key);
  return { operation: { case: "delete", value: { key: operation.key } } };
}

export function toEntry(
  entry: Pick<GetResponse, "exists" | "value" | "createSeq" | "modSeq" | "ttlMs">,
  read: Pick<GetResponse, "position" | "stalenessMs" | "token">,
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

export function toReceipt(answer: Pick<SetResponse, "position" | "token">): WriteReceipt {
  return { position: toPosition(answer.position), token: answer.token };
}

export function toUpdateEvent(event: Event): UpdateEvent {
  return {
    type: eventType(event.type),
    key: event.key,
    value: event.value,
    position: toPosition(event.position),
    timestampMs: fromWire(event.timestampMs, "timestamp_ms"),
    ...(event.expiresAtMs !== undefined && { expiresAtMs: fromWire(event.expiresAtMs, "expires_at_ms") }),
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
    default:
      // Guessing would make a reader's copy wrong in silence.
      throw new CambiumError("internal", `the node sent an event of type ${type}; this client is too old for it`);
  }
}
