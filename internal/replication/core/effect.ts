/** What the core wants done, in this order. `event.ts` tells which event answers which effect. */
import type { ClusterId, EpochId, NodeId, TransferId } from "../../base/ids.js";
import type { Epoch, EpochMs, Seq } from "../../base/position.js";
import type { PromiseReply, PromiseRequest } from "./ballot.js";
import type { Won } from "./candidacy.js";
import type { MasterMessage, RejectReason, ReplicaMessage, StateCheck } from "./message.js";
import type { CampaignFailure } from "./survey.js";

/** The highest mastership that a node follows. The parts but the number are absent before the first. */
export interface PromisedEpoch {
  readonly epoch: Epoch;
  readonly candidate?: NodeId;
  readonly epochId?: EpochId;
}

/** Why a peer is in state `refused`: it said so itself, or the master will not have it. */
export type Refusal = RejectReason | "removed" | "replaced_voter";

export type Effect =
  /** Records up to `seq` are committed, and are the master's: apply them. Rises, but for a cut. */
  | { readonly kind: "commit"; readonly seq: Seq }

  /** The promise is durable, or refused. */
  | { readonly kind: "answerPromise"; readonly ask: number; readonly reply: PromiseReply }
  /**
   * No mastership of this node goes on, nor begins. `conflict`: another one has its number, and this node stays idle until
   * an operator does something; else it follows from now on. `masterAddress`: who is, or is about to be, master.
   */
  | {
      readonly kind: "stepDown";
      readonly detail: string;
      readonly masterAddress: string | undefined;
      readonly conflict: boolean;
    }
  /** Remember durably that this node is a replica. */
  | { readonly kind: "saveRole"; readonly operation: number }
  /** That could not be remembered: the next start begins with a campaign. */
  | { readonly kind: "unsaved"; readonly detail: string }

  // of a candidate
  /** A try begins: what does it need? Answered by `prepared` before anything else. */
  | { readonly kind: "prepare"; readonly campaign: number }
  | { readonly kind: "survey"; readonly campaign: number; readonly address: string }
  /** Make this empty node the first of a new cluster, durably. */
  | { readonly kind: "found"; readonly operation: number }
  | {
      readonly kind: "requestPromise";
      readonly campaign: number;
      readonly address: string;
      readonly request: PromiseRequest;
    }
  /** Whatever is under way for the try is of no use any more. */
  | { readonly kind: "endCalls"; readonly campaign: number }
  /** Remember durably, in one write, the own promise and that this node is master. */
  | { readonly kind: "assume"; readonly operation: number; readonly promise: Won["promise"] }
  /** Append the epoch's first record. Answered by `begun` or `unbegun` before anything else. */
  | { readonly kind: "beginEpoch"; readonly won: Won }
  /** This node is master; it serves once the record at `firstSeq` is committed. */
  | { readonly kind: "begun"; readonly won: Won; readonly firstSeq: Seq }
  /** `again`: another try follows; else this node is the replica that it was. */
  | {
      readonly kind: "campaignFailed";
      readonly code: CampaignFailure;
      readonly detail: string;
      readonly again: boolean;
    }

  // of a master
  | { readonly kind: "connect"; readonly address: string; readonly connection: number }
  /** `withCheck`: the checksum of the applied state goes with it. */
  | {
      readonly kind: "send";
      readonly connection: number;
      readonly message: MasterMessage;
      readonly withCheck?: true;
    }
  /** Answered by nothing: the connection is forgotten. */
  | { readonly kind: "disconnect"; readonly connection: number }
  | { readonly kind: "readMark"; readonly connection: number; readonly seq: Seq }
  | { readonly kind: "readTail"; readonly connection: number; readonly afterSeq: Seq; readonly maxBytes: number }
  | { readonly kind: "readDisk"; readonly connection: number; readonly afterSeq: Seq; readonly maxBytes: number }
  /** Have a file with the whole state ready for the connection, from which the log goes on. */
  | { readonly kind: "openTransfer"; readonly connection: number }
  | { readonly kind: "readTransfer"; readonly connection: number; readonly offset: number; readonly maxBytes: number }
  /** The file was found damaged: nobody is sent it any more. */
  | { readonly kind: "spoilTransfer"; readonly connection: number }
  /** The whole state is being sent to a peer. */
  | { readonly kind: "transferring"; readonly address: string; readonly nodeId: NodeId; readonly size: number }
  /** All reads up to `read` see the newest state once they see `seq`. */
  | { readonly kind: "confirmed"; readonly read: number; readonly seq: Seq }
  /** The node at the address was told to take over. */
  | { readonly kind: "handedOver"; readonly address: string }
  /** The node at an address has said who it is. */
  | { readonly kind: "met"; readonly address: string; readonly nodeId: NodeId }
  /** Pushing begins after `afterSeq`. */
  | { readonly kind: "streaming"; readonly address: string; readonly nodeId: NodeId; readonly afterSeq: Seq }
  | { readonly kind: "refused"; readonly address: string; readonly reason: Refusal; readonly detail: string }
  | { readonly kind: "unreached"; readonly address: string; readonly detail: string }

  // of a replica
  | { readonly kind: "reply"; readonly session: number; readonly message: ReplicaMessage }
  | { readonly kind: "closeSession"; readonly session: number; readonly reason: string }
  /** Become a part of the cluster, durably. */
  | { readonly kind: "join"; readonly operation: number; readonly clusterId: ClusterId }
  /** Remember the promise, durably. */
  | { readonly kind: "promise"; readonly operation: number; readonly promise: PromisedEpoch }
  /** Read this node's own mark. */
  | { readonly kind: "compare"; readonly operation: number; readonly seq: Seq }
  /** Set aside what lies after `seq`, durably. */
  | { readonly kind: "cut"; readonly operation: number; readonly seq: Seq }
  | { readonly kind: "append"; readonly session: number; readonly records: Uint8Array }
  /** Go on with the file of that id where it was left, or begin it. */
  | { readonly kind: "stageTransfer"; readonly operation: number; readonly id: TransferId; readonly size: number }
  /** Add to the file; several may be under way, and are done in their order. */
  | { readonly kind: "writeTransfer"; readonly session: number; readonly offset: number; readonly bytes: Uint8Array }
  /** Check the whole file, and remember durably that the next start puts it in the place of this node's state. */
  | { readonly kind: "installTransfer"; readonly operation: number }
  /** The applied state must be this once it is at that seq. */
  | { readonly kind: "expectState"; readonly check: StateCheck }
  /** Remember durably that the next start begins without this node's data; then start anew. */
  | { readonly kind: "setAside"; readonly detail: string }
  /** Start anew: nothing that this process still has is true any more. */
  | { readonly kind: "restart" }
  /** Deadlines are measured by the master's time. */
  | { readonly kind: "observeTime"; readonly masterTimeMs: EpochMs }
  /** A master is followed from now on, whose writes go to `address`. */
  | { readonly kind: "follow"; readonly nodeId: NodeId; readonly epoch: Epoch; readonly address: string }
  /** Nobody is followed any more. */
  | { readonly kind: "orphaned"; readonly reason: string }
  /** This node has applied all that its master had committed when asked. */
  | { readonly kind: "caughtUp" };
