/**
 * What master and replica say to each other: the domain forms of `PushRequest` and `PushResponse`, one to one. Their
 * fields are described in replication.proto, which is the contract; here stand only the types.
 */
import type { EpochStart } from "../../base/epoch-history.js";
import type { ClusterId, EpochId, NodeId, TransferId } from "../../base/ids.js";
import type { Epoch, EpochMs, LogMark, Position, Seq } from "../../base/position.js";

/** The version of the protocol that this code speaks. */
export const PROTOCOL_VERSION = 1;

/** On every message. */
export interface Envelope {
  /** Absent while a replica belongs to no cluster; a master always has one. */
  readonly clusterId?: ClusterId;
  /** Of a master: its own. Of a replica: the highest that it has promised. */
  readonly epoch: Epoch;
  readonly sender: NodeId;
}

export interface Hello extends Envelope {
  readonly kind: "hello";
  readonly protocolVersion: number;
  readonly epochId: EpochId;
  /** `host:port` at which the master takes writes. */
  readonly masterAddress: string;
  readonly history: readonly EpochStart[];
  readonly last: Position;
}

export interface Align extends Envelope {
  readonly kind: "align";
  readonly agreement: LogMark;
}

export interface Append extends Envelope {
  readonly kind: "append";
  readonly previous: LogMark;
  /** Whole encoded records, at least one. Never changed by anybody once the message is made. */
  readonly records: Uint8Array;
  readonly commitSeq: Seq;
  readonly echo: number;
  readonly masterTimeMs: EpochMs;
  readonly round: number;
}

/** The checksum of a node's whole replicated state at a seq; equal on every node that has applied up to there. */
export interface StateCheck {
  readonly seq: Seq;
  /** Unsigned, 32 bits. */
  readonly checksum: number;
}

export interface Heartbeat extends Envelope {
  readonly kind: "heartbeat";
  readonly commitSeq: Seq;
  readonly echo: number;
  readonly answer: boolean;
  readonly masterTimeMs: EpochMs;
  readonly round: number;
  readonly check?: StateCheck;
}

/** The replica has everything, and the master hands over to it. */
export interface TakeOver extends Envelope {
  readonly kind: "takeOver";
}

/** In the place of Align, when the log no longer reaches back to where the two agree. */
export interface SnapshotOffer extends Envelope {
  readonly kind: "snapshotOffer";
  readonly id: TransferId;
  readonly size: number;
}

export interface SnapshotChunk extends Envelope {
  readonly kind: "snapshotChunk";
  readonly id: TransferId;
  readonly offset: number;
  /** At least one. Never changed by anybody once the message is made. */
  readonly bytes: Uint8Array;
}

export type MasterMessage = Hello | Align | Append | Heartbeat | TakeOver | SnapshotOffer | SnapshotChunk;

export interface Welcome extends Envelope {
  readonly kind: "welcome";
  readonly protocolVersion: number;
  readonly history: readonly EpochStart[];
  readonly last: Position;
  readonly heartbeatIntervalMs: number;
  readonly floorSeq: Seq;
}

export interface Ack extends Envelope {
  readonly kind: "ack";
  readonly matchSeq: Seq;
  readonly appliedSeq: Seq;
  readonly probe: number;
  readonly round: number;
}

export interface SnapshotAck extends Envelope {
  readonly kind: "snapshotAck";
  /** Absent while nothing was offered. */
  readonly id?: TransferId;
  readonly received: number;
}

export type RejectReason =
  | "foreign_cluster"
  | "stale_epoch"
  | "epoch_conflict"
  | "misaligned"
  | "protocol_version"
  | "not_a_replica"
  | "damaged_snapshot"
  /** A reason that this version does not know; `detail` still says it for people. */
  | "unknown";

export interface Reject extends Envelope {
  readonly kind: "reject";
  readonly reason: RejectReason;
  readonly detail: string;
}

export type ReplicaMessage = Welcome | Ack | SnapshotAck | Reject;
