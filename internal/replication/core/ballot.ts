/** What candidates and the others say to each other; their fields are described in replication.proto, which is the contract. */
import type { ClusterId, EpochId, NodeId } from "../../base/ids.js";
import type { Epoch, Position } from "../../base/position.js";

/** What a node says of itself, whatever its role. */
export interface SurveyReply {
  /** Absent while the node belongs to no cluster. */
  readonly clusterId?: ClusterId;
  readonly nodeId: NodeId;
  /** The highest epoch that it has promised, and to whom. */
  readonly promised: { readonly epoch: Epoch; readonly candidate?: NodeId };
  /** The end of its log. */
  readonly last: Position;
  /** It is master, and has committed the first record of its epoch. */
  readonly isMaster: boolean;
  /** Whether an empty directory becomes a master there; only of a node without a cluster. */
  readonly founds: boolean;
  /** Of the master that the node is or follows. */
  readonly masterAddress?: string;
  /** It may have lost what it once acknowledged, and has not caught up since; its promise would say so. */
  readonly unclean?: boolean;
}

/** A candidate asks for the promise of its epoch. */
export interface PromiseRequest {
  readonly clusterId: ClusterId;
  readonly candidate: NodeId;
  /** `host:port` at which the candidate will take writes. */
  readonly address: string;
  readonly epoch: Epoch;
  readonly epochId: EpochId;
  /** The end of what the candidate keeps. Seq 0: it is founding the cluster. */
  readonly last: Position;
  readonly forced: boolean;
  /** The highest epoch that the candidate itself has promised. */
  readonly promisedEpoch: Epoch;
  /** Whom the candidate asks by name, as one of the cluster's voters; absent: whoever is there. */
  readonly voter?: NodeId;
}

export type PromiseRefusal =
  | "foreign_cluster"
  | "stale_epoch"
  | "behind"
  | "no_vote"
  | "busy"
  /** A reason that this version does not know; `detail` still says it for people. */
  | "unknown";

export interface PromiseReply {
  readonly nodeId: NodeId;
  /** Absent: granted, durably. */
  readonly refusal?: PromiseRefusal;
  /** For people; empty when granted. */
  readonly detail: string;
  /** The node may have lost what it once acknowledged, and has not caught up since. */
  readonly unclean: boolean;
  /** The highest epoch that the node has promised, this one included. */
  readonly promisedEpoch: Epoch;
  /** The end of its log. */
  readonly last: Position;
}
