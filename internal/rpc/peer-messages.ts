/** The messages of `Replication`, between the wire and replication's own forms, one to one. */
import { create } from "@bufbuild/protobuf";
import {
  type EpochStart as WireEpochStart,
  type LogMark as WireLogMark,
  type PushRequest,
  PushRequestSchema,
  type PushResponse,
  PushResponseSchema,
  RejectReason as WireReason,
} from "../../api/gen/cambium/v1/replication_pb.js";
import { unreachable } from "../base/assert.js";
import type { EpochStart } from "../base/epoch-history.js";
import {
  type ClusterId,
  clusterId,
  type EpochId,
  epochId,
  idFromBytes,
  idToBytes,
  type NodeId,
  nodeId,
  transferId,
} from "../base/ids.js";
import { epochMs, fromWire64, type LogMark, seq, toWire64 } from "../base/position.js";
import type { MasterMessage, RejectReason, ReplicaMessage } from "../replication/replicator.js";
import { epochFromWire, positionFromWire, positionToWire } from "./convert.js";
import { RequestError } from "./request-error.js";

const ID_BYTES = 16;
export const NO_BYTES = new Uint8Array(0);

export function masterMessageToWire(message: MasterMessage): PushRequest {
  return create(PushRequestSchema, { ...envelopeToWire(message), message: masterBodyToWire(message) });
}

function masterBodyToWire(message: MasterMessage): Exclude<PushRequestInit["message"], undefined> {
  switch (message.kind) {
    case "hello":
      return {
        case: "hello",
        value: {
          protocolVersion: message.protocolVersion,
          epochId: epochIdToWire(message.epochId),
          masterAddress: message.masterAddress,
          history: message.history.map(epochStartToWire),
          last: positionToWire(message.last),
        },
      };
    case "align":
      return { case: "align", value: { agreement: markToWire(message.agreement) } };
    case "append":
      return {
        case: "append",
        value: {
          previous: markToWire(message.previous),
          records: message.records,
          commitSeq: toWire64(message.commitSeq),
          echo: toWire64(message.echo),
          masterTimeMs: toWire64(message.masterTimeMs),
          round: toWire64(message.round),
        },
      };
    case "heartbeat":
      return {
        case: "heartbeat",
        value: {
          commitSeq: toWire64(message.commitSeq),
          echo: toWire64(message.echo),
          answer: message.answer,
          masterTimeMs: toWire64(message.masterTimeMs),
          round: toWire64(message.round),
          ...(message.check && { check: { seq: toWire64(message.check.seq), checksum: message.check.checksum } }),
        },
      };
    case "takeOver":
      return { case: "takeOver", value: {} };
    case "snapshotOffer":
      return { case: "snapshotOffer", value: { id: idToBytes(message.id), size: toWire64(message.size) } };
    case "snapshotChunk":
      return {
        case: "snapshotChunk",
        value: { id: idToBytes(message.id), offset: toWire64(message.offset), bytes: message.bytes },
      };
    default:
      return unreachable(message);
  }
}

export function masterMessageFromWire(request: PushRequest): MasterMessage {
  const envelope = envelopeFromWire(request);
  const { message } = request;
  switch (message.case) {
    case "hello":
      return {
        kind: "hello",
        ...envelope,
        protocolVersion: message.value.protocolVersion,
        epochId: epochIdFromWire(message.value.epochId),
        masterAddress: message.value.masterAddress,
        history: historyFromWire(message.value.history),
        last: positionFromWire(message.value.last, "hello.last"),
      };
    case "align":
      return { kind: "align", ...envelope, agreement: markFromWire(message.value.agreement, "align.agreement") };
    case "append":
      return {
        kind: "append",
        ...envelope,
        previous: markFromWire(message.value.previous, "append.previous"),
        records: message.value.records,
        commitSeq: seq(fromWire64(message.value.commitSeq, "append.commit_seq")),
        echo: fromWire64(message.value.echo, "append.echo"),
        masterTimeMs: epochMs(fromWire64(message.value.masterTimeMs, "append.master_time_ms")),
        round: fromWire64(message.value.round, "append.round"),
      };
    case "heartbeat": {
      const { check } = message.value;
      return {
        kind: "heartbeat",
        ...envelope,
        commitSeq: seq(fromWire64(message.value.commitSeq, "heartbeat.commit_seq")),
        echo: fromWire64(message.value.echo, "heartbeat.echo"),
        answer: message.value.answer,
        masterTimeMs: epochMs(fromWire64(message.value.masterTimeMs, "heartbeat.master_time_ms")),
        round: fromWire64(message.value.round, "heartbeat.round"),
        ...(check && {
          check: { seq: seq(fromWire64(check.seq, "heartbeat.check.seq")), checksum: check.checksum },
        }),
      };
    }
    case "takeOver":
      return { kind: "takeOver", ...envelope };
    case "snapshotOffer":
      return {
        kind: "snapshotOffer",
        ...envelope,
        id: transferId(checkedId(message.value.id, "snapshot_offer.id")),
        size: fromWire64(message.value.size, "snapshot_offer.size"),
      };
    case "snapshotChunk":
      return {
        kind: "snapshotChunk",
        ...envelope,
        id: transferId(checkedId(message.value.id, "snapshot_chunk.id")),
        offset: fromWire64(message.value.offset, "snapshot_chunk.offset"),
        bytes: message.value.bytes,
      };
    case undefined:
      throw new RequestError("invalid", "the message of the master is of a kind that this version does not know");
    default:
      return unreachable(message);
  }
}

export function replicaMessageToWire(message: ReplicaMessage): PushResponse {
  return create(PushResponseSchema, { ...envelopeToWire(message), message: replicaBodyToWire(message) });
}

function replicaBodyToWire(message: ReplicaMessage): Exclude<PushResponseInit["message"], undefined> {
  switch (message.kind) {
    case "welcome":
      return {
        case: "welcome",
        value: {
          protocolVersion: message.protocolVersion,
          history: message.history.map(epochStartToWire),
          last: positionToWire(message.last),
          heartbeatIntervalMs: message.heartbeatIntervalMs,
          floorSeq: toWire64(message.floorSeq),
        },
      };
    case "ack":
      return {
        case: "ack",
        value: {
          matchSeq: toWire64(message.matchSeq),
          appliedSeq: toWire64(message.appliedSeq),
          probe: toWire64(message.probe),
          round: toWire64(message.round),
        },
      };
    case "snapshotAck":
      return {
        case: "snapshotAck",
        value: {
          id: message.id === undefined ? NO_BYTES : idToBytes(message.id),
          received: toWire64(message.received),
        },
      };
    case "reject":
      return { case: "reject", value: { reason: reasonToWire(message.reason), detail: message.detail } };
    default:
      return unreachable(message);
  }
}

export function replicaMessageFromWire(response: PushResponse): ReplicaMessage {
  const envelope = envelopeFromWire(response);
  const { message } = response;
  switch (message.case) {
    case "welcome":
      return {
        kind: "welcome",
        ...envelope,
        protocolVersion: message.value.protocolVersion,
        history: historyFromWire(message.value.history),
        last: positionFromWire(message.value.last, "welcome.last"),
        heartbeatIntervalMs: message.value.heartbeatIntervalMs,
        floorSeq: seq(fromWire64(message.value.floorSeq, "welcome.floor_seq")),
      };
    case "ack":
      return {
        kind: "ack",
        ...envelope,
        matchSeq: seq(fromWire64(message.value.matchSeq, "ack.match_seq")),
        appliedSeq: seq(fromWire64(message.value.appliedSeq, "ack.applied_seq")),
        probe: fromWire64(message.value.probe, "ack.probe"),
        round: fromWire64(message.value.round, "ack.round"),
      };
    case "snapshotAck": {
      const { id } = message.value;
      return {
        kind: "snapshotAck",
        ...envelope,
        ...(id.length > 0 && { id: transferId(checkedId(id, "snapshot_ack.id")) }),
        received: fromWire64(message.value.received, "snapshot_ack.received"),
      };
    }
    case "reject":
      return {
        kind: "reject",
        ...envelope,
        reason: reasonFromWire(message.value.reason),
        detail: message.value.detail,
      };
    case undefined:
      throw new RequestError("invalid", "the message of the replica is of a kind that this version does not know");
    default:
      return unreachable(message);
  }
}

export function clusterIdFromWire(bytes: Uint8Array, field: string): ClusterId | undefined {
  return bytes.length === 0 ? undefined : clusterId(checkedId(bytes, field));
}

export function nodeIdFromWire(bytes: Uint8Array, field: string): NodeId {
  return nodeId(checkedId(bytes, field));
}

export const clusterIdToWire = (id: ClusterId | undefined): Uint8Array => (id === undefined ? NO_BYTES : idToBytes(id));

type PushRequestInit = Exclude<Parameters<typeof create<typeof PushRequestSchema>>[1], undefined>;
type PushResponseInit = Exclude<Parameters<typeof create<typeof PushResponseSchema>>[1], undefined>;

function envelopeToWire(message: MasterMessage | ReplicaMessage): {
  clusterId: Uint8Array;
  epoch: bigint;
  sender: Uint8Array;
} {
  return {
    clusterId: clusterIdToWire(message.clusterId),
    epoch: toWire64(message.epoch),
    sender: idToBytes(message.sender),
  };
}

function envelopeFromWire(message: PushRequest | PushResponse): Pick<MasterMessage, "clusterId" | "epoch" | "sender"> {
  const id = clusterIdFromWire(message.clusterId, "cluster_id");
  return {
    ...(id !== undefined && { clusterId: id }),
    epoch: epochFromWire(message.epoch, "epoch"),
    sender: nodeIdFromWire(message.sender, "sender"),
  };
}

export function checkedId(bytes: Uint8Array, field: string): string {
  if (bytes.length === ID_BYTES) return idFromBytes(bytes);
  throw new RequestError("invalid", `${field} must have ${ID_BYTES} bytes, not ${bytes.length}`);
}

function markToWire(mark: LogMark): { position: { epoch: bigint; seq: bigint }; chain: number } {
  return { position: positionToWire(mark), chain: mark.chain };
}

function markFromWire(mark: WireLogMark | undefined, field: string): LogMark {
  if (!mark) throw new RequestError("invalid", `${field} is missing`);
  return { ...positionFromWire(mark.position, `${field}.position`), chain: mark.chain };
}

export const epochIdToWire = (id: EpochId): bigint => BigInt(`0x${id}`);
export const epochIdFromWire = (id: bigint): EpochId => epochId(id.toString(16).padStart(16, "0"));

function epochStartToWire(start: EpochStart): { epoch: bigint; epochId: bigint; firstSeq: bigint; forced: boolean } {
  return {
    epoch: toWire64(start.epoch),
    epochId: epochIdToWire(start.epochId),
    firstSeq: toWire64(start.firstSeq),
    forced: start.forced === true,
  };
}

/** A history is refused unless it rises: inside, an `EpochHistory` takes that for granted. */
function historyFromWire(starts: readonly WireEpochStart[]): readonly EpochStart[] {
  const history: EpochStart[] = [];
  for (const start of starts) {
    const next = {
      epoch: epochFromWire(start.epoch, "history.epoch"),
      epochId: epochIdFromWire(start.epochId),
      firstSeq: seq(fromWire64(start.firstSeq, "history.first_seq")),
      ...(start.forced && { forced: true }),
    };
    const last = history.at(-1);
    if (next.epoch < 1 || next.firstSeq < 1 || (last && (next.epoch <= last.epoch || next.firstSeq <= last.firstSeq))) {
      throw new RequestError("invalid", `history does not rise at epoch ${next.epoch}, seq ${next.firstSeq}`);
    }
    history.push(next);
  }
  return history;
}

function reasonToWire(reason: RejectReason): WireReason {
  switch (reason) {
    case "foreign_cluster":
      return WireReason.FOREIGN_CLUSTER;
    case "stale_epoch":
      return WireReason.STALE_EPOCH;
    case "epoch_conflict":
      return WireReason.EPOCH_CONFLICT;
    case "misaligned":
      return WireReason.MISALIGNED;
    case "protocol_version":
      return WireReason.PROTOCOL_VERSION;
    case "not_a_replica":
      return WireReason.NOT_A_REPLICA;
    case "damaged_snapshot":
      return WireReason.DAMAGED_SNAPSHOT;
    case "unknown":
      return WireReason.UNSPECIFIED;
    default:
      return unreachable(reason);
  }
}

function reasonFromWire(reason: WireReason): RejectReason {
  switch (reason) {
    case WireReason.FOREIGN_CLUSTER:
      return "foreign_cluster";
    case WireReason.STALE_EPOCH:
      return "stale_epoch";
    case WireReason.EPOCH_CONFLICT:
      return "epoch_conflict";
    case WireReason.MISALIGNED:
      return "misaligned";
    case WireReason.PROTOCOL_VERSION:
      return "protocol_version";
    case WireReason.NOT_A_REPLICA:
      return "not_a_replica";
    case WireReason.DAMAGED_SNAPSHOT:
      return "damaged_snapshot";
    case WireReason.UNSPECIFIED:
      return "unknown";
    default:
      // A newer node may know more reasons.
      return "unknown";
  }
}
