/** What the handlers need of the rooms below: exactly these members, so that tests can put something simpler in their place. */
import type { Epoch, Position, Seq } from "../base/position.js";
import type { Replicator } from "../replication/replicator.js";
import type { Store, StoreStatus, WriteCommand } from "../store/store.js";

/** When a write is answered, and how long it may take. */
export interface WriteOptions {
  readonly acknowledge?: "kept" | "committed";
  /** Over it the write rejects with `outcome_unknown`; its record stays in flight. */
  readonly timeoutMs?: number;
}

/** Beside the rest, what has become of the data that this node once had, and the room that is left. */
export interface RpcStoreStatus extends StoreStatus {
  readonly divergedRecords: number;
  readonly setAside: string;
  readonly diskFreeBytes: number | undefined;
}

export type RpcStore = Pick<Store, "readPoint" | "get" | "scan" | "updates" | "history" | "appliedSeq"> & {
  readonly promised: { readonly epoch: Epoch };
  status(): RpcStoreStatus;
  write(commands: readonly WriteCommand[], options?: WriteOptions): ReturnType<Store["write"]>;
  whenApplied(seq: Seq, signal: AbortSignal): Promise<void>;
  reachToken(token: Uint8Array, signal: AbortSignal): Promise<void> | undefined;
};

export type RpcReplicator = Pick<
  Replicator,
  | "acceptPush"
  | "register"
  | "survey"
  | "requestPromise"
  | "readIndex"
  | "addReplica"
  | "removeReplica"
  | "promote"
  | "transfer"
  | "members"
  | "masterAddress"
  | "stalenessMs"
  | "linearizableSeq"
  | "whenReplicated"
  | "matchSeq"
  | "commitSeq"
  | "lagRecords"
  | "isCandidate"
  | "notServing"
>;

/** The record log of a store. */
export type RpcRecords = Pick<Store, "consume" | "recordRange" | "nextProduced"> & {
  produce(records: readonly Uint8Array[], options?: WriteOptions): ReturnType<Store["produce"]>;
  truncateRecords(below: number, options?: WriteOptions): Promise<{ readonly position: Position }>;
};

/** What of a store can be put aside. */
export type RpcBackups = Pick<Store, "createSnapshot" | "backup">;
