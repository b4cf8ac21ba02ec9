/**
 * Replication of one node: the loops that drive the pure core against a store, a network and a clock.
 */
import type { Clock } from "../base/clock.js";
import type { NodeId, RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import type { Seq } from "../base/position.js";
import type { ReplicaMessage } from "./core/message.js";
import type { PeerNetwork, PushSession, RegisterReply, RegisterRequest } from "./peer.js";
import type { MemberSource, ReplicatedStore } from "./store-port.js";

export { ReplicationError, type ReplicationErrorCode } from "./replication-error.js";
export type { MasterMessage, ReplicaMessage, RejectReason } from "./core/message.js";
export type { PeerConnection, PeerListener, PeerNetwork, PushSession, RegisterReply, RegisterRequest } from "./peer.js";

export interface ReplicatorOptions {
  readonly store: ReplicatedStore;
  readonly network: PeerNetwork;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Where others reach this node, as `host:port`. Asked for only after `start`. */
  readonly address: () => string;
  /** Of a replica's configuration: where it registers itself. */
  readonly masterAddress?: string;
  /** Of a master's configuration: replicas to push to, whether they register or not. */
  readonly listedReplicas: readonly string[];
  /** What this node, as a replica, asks of its master. */
  readonly heartbeatIntervalMs: number;
  /** Bytes of records in one message, at most, unless one record alone is larger. */
  readonly batchBytes: number;
  /** Bytes of records sent to a replica and not acknowledged, at most, beside one record. */
  readonly windowBytes: number;
}

/** A member as this node sees it. */
export interface MemberView {
  /** Absent while the master has not reached a listed address yet. */
  readonly nodeId?: NodeId;
  readonly address: string;
  readonly voter: boolean;
  readonly source: MemberSource;
  /** Absent where it is not known: only the master knows more than `self`. */
  readonly state?: "self" | "disconnected" | "probing" | "streaming" | "refused";
  /** Highest seq that the member has acknowledged. */
  readonly matchSeq: Seq;
  readonly appliedSeq: Seq;
  /** Records that the member lacks. */
  readonly lagRecords: number;
  /** Since the member last had everything; 0 when it has. */
  readonly lagMs: number;
  /** What went wrong last; empty when all is well. */
  readonly detail: string;
}

export class Replicator {
  constructor(_options: ReplicatorOptions) {
    throw new Error("being built");
  }

  /**
   * On a master: when it resolves, a new epoch is promised, begun and committed, and pushing goes on in the background.
   * On a replica it resolves at once; registering goes on in the background.
   */
  start(): Promise<void> {
    throw new Error("being built");
  }

  /** Closes every connection and session and stops all loops. The store stays open. Idempotent. */
  close(): Promise<void> {
    throw new Error("being built");
  }

  /**
   * A master has connected to this node. `send` and `close` are called until the session's `closed`; `close` at most
   * once, with the reason in words.
   */
  acceptPush(_send: (message: ReplicaMessage) => void, _close: (reason: string) => void): PushSession {
    throw new Error("being built");
  }

  /**
   * A replica asks to be followed up. Resolves once its membership is committed. Rejects with `ReplicationError`
   * (`not_master`, `foreign_cluster`, `removed`, `refused`, `invalid_address`, `closing`) or as `Store.proposeMember`.
   */
  register(_request: RegisterRequest): Promise<RegisterReply> {
    throw new Error("being built");
  }

  /**
   * Makes the node at an address a member. Resolves once that is committed. Rejects with `ReplicationError`
   * (`not_master`, `invalid_address`, `unreachable`, `foreign_cluster`, `refused`, `closing`) or as
   * `Store.proposeMember`.
   */
  addReplica(_address: string): Promise<MemberView> {
    throw new Error("being built");
  }

  /**
   * Ends a membership; both fields must fit the same member when both are given. Resolves once that is committed.
   * Rejects with `ReplicationError` (`not_master`, `not_found`, `is_voter`, `closing`) or as `Store.proposeMember`.
   */
  removeReplica(_which: { nodeId?: NodeId; address?: string }): Promise<void> {
    throw new Error("being built");
  }

  /** The members, and on a master the state of replication to each; listed addresses not reached yet included. */
  members(): readonly MemberView[] {
    throw new Error("being built");
  }

  /** Where the master takes writes, as far as this node knows; on a master its own address. */
  get masterAddress(): string | undefined {
    throw new Error("being built");
  }

  /** How old this node's committed state is at most; 0 on a master that is the sole voter; undefined when unknown. */
  stalenessMs(): number | undefined {
    throw new Error("being built");
  }

  /** Highest kept seq that is verified to equal the present master's log; on a master its kept seq. */
  get matchSeq(): Seq {
    throw new Error("being built");
  }

  /** Highest seq that this node knows to be committed. */
  get commitSeq(): Seq {
    throw new Error("being built");
  }
}
