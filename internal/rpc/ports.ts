/** What the handlers need of the rooms below: exactly these members, so that tests can put something simpler in their place. */
import type { EpochMs, Position } from "../base/position.js";
import type { Replicator } from "../replication/replicator.js";
import type { Store } from "../store/store.js";

export type RpcStore = Pick<Store, "readPoint" | "get" | "write" | "updates" | "status" | "history">;

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

/** A record of the record log. */
export interface RpcRecord {
  readonly offset: number;
  /** Stays as it is. */
  readonly record: Uint8Array;
  readonly position: Position;
  readonly timestampMs: EpochMs;
}

/** The record log of a store. */
export interface RpcRecords {
  produce(
    records: readonly Uint8Array[],
  ): Promise<{ readonly firstOffset: number; readonly position: Position; readonly token: Uint8Array }>;
  consume(
    offset: number,
    maxBytes: number,
    maxRecords: number,
  ): Promise<{ readonly records: readonly RpcRecord[]; readonly start: number; readonly end: number }>;
  truncateRecords(below: number): Promise<{ readonly position: Position }>;
  recordRange(): { readonly start: number; readonly end: number };
  nextProduced(end: number, waitMs: number, signal: AbortSignal): Promise<void>;
}
