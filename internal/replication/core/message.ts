/**
 * What master and replica say to each other: the domain forms of `PushRequest` and `PushResponse`, one to one. Their
 * fields are described in replication.proto, which is the contract; here stand only the types.
 */
import type { EpochStart } from "../../base/epoch-history.js";
import type { ClusterId, EpochId, NodeId } from "../../base/ids.js";
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
}

export interface Heartbeat extends Envelope {
  readonly kind: "heartbeat";
  readonly commitSeq: Seq;
  readonly echo: number;
  readonly answer: boolean;
  readonly masterTimeMs: EpochMs;
}

export type MasterMessage = Hello | Align | Append | Heartbeat;

export interface Welcome extends Envelope {
  readonly kind: "welcome";
  readonly protocolVersion: number;
  readonly history: readonly EpochStart[];
  readonly last: Position;
  readonly heartbeatIntervalMs: number;
}

export interface Ack extends Envelope {
  readonly kind: "ack";
  readonly matchSeq: Seq;
  readonly appliedSeq: Seq;
  readonly probe: number;
}

export type RejectReason =
  | "foreign_cluster"
  | "stale_epoch"
  | "epoch_conflict"
  | "misaligned"
  | "protocol_version"
  | "not_a_replica"
  /** A reason that this version does not know; `detail` still says it for people. */
  | "unknown";

export interface Reject extends Envelope {
  readonly kind: "reject";
  readonly reason: RejectReason;
  readonly detail: string;
}

export type ReplicaMessage = Welcome | Ack | Reject;
