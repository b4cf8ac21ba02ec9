/**
 * Between the wire and the rooms: with `peer-messages.ts` the only place where 64-bit values of the wire meet the numbers
 * inside, and where ids become bytes. What comes from outside is checked; what goes out is ours, and asserted.
 */
import { create } from "@bufbuild/protobuf";
import {
  MemberSource as WireSource,
  MemberState as WireState,
  type MemberStatus,
  MemberStatusSchema,
  NodeRole as WireRole,
} from "../../api/gen/cambium/v1/cluster_pb.js";
import { type Event, EventSchema, EventType } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { type Position as WirePosition, PositionSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { unreachable } from "../base/assert.js";
import { isHexId, type NodeId, nodeId } from "../base/ids.js";
import { epoch, type Epoch, fromWire64, type Position, seq, toWire64, WireRangeError } from "../base/position.js";
import type { MemberView } from "../replication/replicator.js";
import type { MemberSource, NodeRole, UpdateEvent } from "../store/store.js";
import { RequestError } from "./request-error.js";

export function positionToWire(position: Position): WirePosition {
  return create(PositionSchema, { epoch: toWire64(position.epoch), seq: toWire64(position.seq) });
}

/** `field` names the position in the error. */
export function positionFromWire(position: WirePosition | undefined, field: string): Position {
  if (!position) throw new RequestError("invalid", `${field} is missing`);
  return { epoch: epochFromWire(position.epoch, `${field}.epoch`), seq: seq(fromWire64(position.seq, `${field}.seq`)) };
}

/**
 * No cluster gets there, and whoever counts on from here still counts exactly: without it, one node that names the highest
 * number there is would end every later mastership.
 */
export const EPOCH_MAX = 2 ** 52;

/** The number of a mastership, as another node names it. */
export function epochFromWire(value: bigint, field: string): Epoch {
  const number = fromWire64(value, field);
  if (number > EPOCH_MAX) throw new WireRangeError(`${field} must be ${EPOCH_MAX} at most, not ${number}`);
  return epoch(number);
}

/** A node id as an operator writes it. */
export function nodeIdFromText(text: string, field: string): NodeId {
  const hex = text.toLowerCase();
  if (!isHexId(hex, 16)) {
    throw new RequestError(
      "invalid",
      `${field} must be 32 hexadecimal digits, as Status shows them, not ${JSON.stringify(text.slice(0, 80))}`,
    );
  }
  return nodeId(hex);
}

const EVENT_TYPES: Readonly<Record<UpdateEvent["type"], EventType>> = {
  put: EventType.PUT,
  delete: EventType.DELETE,
  expire: EventType.EXPIRE,
  evict: EventType.EVICT,
  "delete-range": EventType.DELETE_RANGE,
};

export function eventToWire(event: UpdateEvent): Event {
  return create(EventSchema, {
    type: EVENT_TYPES[event.type],
    key: keyToWire(event.key),
    value: bytesToWire(event.value),
    position: positionToWire(event.position),
    timestampMs: toWire64(event.timestampMs),
    ...(event.expiresAtMs !== undefined && { expiresAtMs: toWire64(event.expiresAtMs) }),
    ...(event.rangeEnd && { rangeEnd: keyToWire(event.rangeEnd) }),
    ...(event.previous && { previous: bytesToWire(event.previous) }),
    ...(event.previousCompacted && { previousCompacted: true }),
  });
}

/** About how many bytes an event has on the wire. */
export function bytesOfEvent({ key, value, previous, rangeEnd }: UpdateEvent): number {
  return key.byteLength + value.byteLength + (previous?.byteLength ?? 0) + (rangeEnd?.byteLength ?? 0);
}

/** How old an answer may be; absent where this node cannot tell. */
export function stalenessToWire(stalenessMs: number | undefined): { readonly stalenessMs?: bigint } {
  return stalenessMs === undefined ? {} : { stalenessMs: toWire64(Math.ceil(stalenessMs)) };
}

/** Not a copy: for bytes that stay as they are until they are encoded. */
export function bytesToWire(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

export function keyToWire(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("utf8");
}

export function roleToWire(role: NodeRole): WireRole {
  switch (role) {
    case "master":
      return WireRole.MASTER;
    case "replica":
      return WireRole.REPLICA;
    default:
      return unreachable(role);
  }
}

export function memberToWire(member: MemberView): MemberStatus {
  return create(MemberStatusSchema, {
    nodeId: member.nodeId ?? "",
    address: member.address,
    voter: member.voter,
    source: sourceToWire(member.source),
    state: stateToWire(member.state),
    matchSeq: toWire64(member.matchSeq),
    appliedSeq: toWire64(member.appliedSeq),
    lagRecords: toWire64(member.lagRecords),
    lagMs: toWire64(Math.round(member.lagMs)),
    detail: member.detail,
  });
}

function sourceToWire(source: MemberSource): WireSource {
  switch (source) {
    case "founder":
      return WireSource.FOUNDER;
    case "listed":
      return WireSource.LISTED;
    case "added":
      return WireSource.ADDED;
    case "registered":
      return WireSource.REGISTERED;
    default:
      return unreachable(source);
  }
}

function stateToWire(state: MemberView["state"]): WireState {
  switch (state) {
    case "self":
      return WireState.SELF;
    case "disconnected":
      return WireState.DISCONNECTED;
    case "probing":
      return WireState.PROBING;
    case "streaming":
      return WireState.STREAMING;
    case "transferring":
      return WireState.TRANSFERRING;
    case "refused":
      return WireState.REFUSED;
    case undefined:
      return WireState.UNSPECIFIED;
    default:
      return unreachable(state);
  }
}
