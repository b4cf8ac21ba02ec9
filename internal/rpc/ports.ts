/** What the handlers need of the rooms below: exactly these members, so that tests can put something simpler in their place. */
import type { Position } from "../base/position.js";
import type { Replicator } from "../replication/replicator.js";
import type { Store, Txn, TxnReceipt, WriteOptions } from "../store/store.js";
import type { Watches } from "../watch/watch-types.js";

export type RpcStore = Pick<
  Store,
  | "readPoint"
  | "get"
  | "scan"
  | "count"
  | "write"
  | "endTurn"
  | "updates"
  | "whenApplied"
  | "reachToken"
  | "status"
  | "history"
  | "appliedSeq"
  | "promised"
  | "masterTimeMs"
  | "changeLimits"
> & {
  transact(txn: Txn, options?: WriteOptions): Promise<TxnReceipt>;
};

/** Who is told of which events of a store. */
export type RpcWatches = Pick<Watches, "open" | "count">;

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
  | "hasten"
  | "matchSeq"
  | "commitSeq"
  | "lagRecords"
  | "isCandidate"
  | "notServing"
>;

/** The record log of a store. */
export type RpcRecords = Pick<Store, "produce" | "consume" | "recordRange" | "nextProduced"> & {
  truncateRecords(below: number, options?: WriteOptions): Promise<{ readonly position: Position }>;
};

/** What of a store can be put aside. */
export type RpcBackups = Pick<Store, "createSnapshot" | "backup">;
