/** The network as replication needs it: a port. `rpc` carries it over Connect, tests and the simulator in memory. */
import type { ClusterId, NodeId } from "../base/ids.js";
import type { Epoch, Position } from "../base/position.js";
import type { PromiseReply, PromiseRequest, SurveyReply } from "./core/ballot.js";
import type { MasterMessage, ReplicaMessage } from "./core/message.js";

export type { PromiseRefusal, PromiseReply, PromiseRequest, SurveyReply } from "./core/ballot.js";

/** An open, or opening, `Replication.Push` to one replica. Messages arrive in the order in which they were sent. */
export interface PeerConnection {
  /**
   * Queues a message; what is sent before the connection has opened goes out once it has. After `close`, or once
   * `closed` was called, it does nothing. Bytes in the message stay unchanged for ever, so nothing need be copied.
   */
  send(message: MasterMessage): void;
  /** Bytes queued here that the system has not taken yet. */
  readonly bufferedBytes: number;
  /** Ends the connection; what is queued may be lost. Leads to `closed`. Idempotent. */
  close(): void;
}

/** Told of a connection's life. Never called from within `connect`, `send` or `close`. */
export interface PeerListener {
  opened(): void;
  message(message: ReplicaMessage): void;
  /** Exactly once, and last: why the connection ended or never came about, in words for an operator. */
  closed(reason: string): void;
  /** What was buffered has been taken by the system. */
  drained?(): void;
}

export interface RegisterRequest {
  /** Absent while the replica belongs to no cluster. */
  readonly clusterId?: ClusterId;
  readonly nodeId: NodeId;
  /** `host:port` at which the master reaches the replica. */
  readonly address: string;
}

export interface RegisterReply {
  readonly clusterId: ClusterId;
  readonly masterNodeId: NodeId;
  readonly epoch: Epoch;
}

/** Who asks another node something. */
export interface Asker {
  /** Absent while the node belongs to no cluster. */
  readonly clusterId?: ClusterId;
  readonly nodeId: NodeId;
}

export interface PeerNetwork {
  /** Opens `Replication.Push`. Never throws; failures come through `closed`. */
  connect(address: string, listener: PeerListener): PeerConnection;
  /**
   * Calls `Replication.Register` on a master. Rejects with an error whose message is for an operator; a node that is no
   * master leads to a `ReplicationError` `not_master`, which carries the master's address where that node knows it.
   */
  register(masterAddress: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterReply>;
  /** Calls `Replication.Survey`. Rejects with an error whose message is for an operator, or with the signal's reason. */
  survey(address: string, asker: Asker, signal: AbortSignal): Promise<SurveyReply>;
  /** Calls `Replication.RequestPromise`. A refusal is an answer. Rejects as `survey`; the promise may have been given then. */
  requestPromise(address: string, request: PromiseRequest, signal: AbortSignal): Promise<PromiseReply>;
  /** Calls `Replication.ReadIndex` on a master. Rejects as `register`. */
  readIndex(masterAddress: string, asker: Asker, signal: AbortSignal): Promise<Position>;
}

/** The replica's end of a push connection that a master has opened. */
export interface PushSession {
  /** Takes the master's next message. Messages are dealt with one after the other, in the order of these calls. */
  message(message: MasterMessage): void;
  /** The connection is gone; nothing more is sent. */
  closed(): void;
}
