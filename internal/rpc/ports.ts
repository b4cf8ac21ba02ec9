/** What the handlers need of the rooms below: exactly these members, so that tests can put something simpler in their place. */
import type { Replicator } from "../replication/replicator.js";
import type { Store } from "../store/store.js";

export type RpcStore = Pick<Store, "readPoint" | "get" | "scan" | "write" | "updates" | "status" | "history">;

export type RpcReplicator = Pick<
  Replicator,
  | "acceptPush"
  | "register"
  | "addReplica"
  | "removeReplica"
  | "members"
  | "masterAddress"
  | "stalenessMs"
  | "matchSeq"
  | "commitSeq"
>;

/** The record log of a store. */
export type RpcRecords = Pick<Store, "produce" | "consume" | "truncateRecords" | "recordRange" | "nextProduced">;

/** What of a store can be put aside. */
export type RpcBackups = Pick<Store, "createSnapshot" | "backup">;
