/**
 * The store as replication needs it: exactly these members of `internal/store`, so that tests and the simulator can put
 * another log in its place.
 */
import type { EpochHistory } from "../base/epoch-history.js";
import type { ClusterId, EpochId, NodeId, TransferId } from "../base/ids.js";
import type { Epoch, EpochMs, LogMark, Position, Seq } from "../base/position.js";
import type { CommitMode } from "./core/commit.js";
import type { StateCheck } from "./core/message.js";
import type { EpochPromise, Member, NodeRole, StorageLimits, StoreListener, TransferFile } from "../store/store.js";

export type { EpochPromise, Member, MemberSource, NodeRole, StorageLimits, TransferFile } from "../store/store.js";
export type { CommitMode } from "./core/commit.js";

/** What the replicated state says about how the cluster decides. */
export interface ClusterSettings {
  readonly commit: CommitMode;
  /** `listed`: the members marked as voters. `master`: one vote, which goes with the mastership. */
  readonly voters: "listed" | "master";
  /** Absent: whatever is written is stored. */
  readonly limits?: StorageLimits;
}

/** Before the first record that says otherwise. */
export const INITIAL_SETTINGS: ClusterSettings = { commit: "master", voters: "master" };

/** Who decides, as a log says: it counts from the moment a record is in the log, committed or not. */
export interface LoggedState {
  readonly settings: ClusterSettings;
  readonly members: readonly Member[];
}

/** What the first record of an epoch may carry beside the epoch itself. */
export type EpochChange =
  | { readonly kind: "member"; readonly member: Member }
  | { readonly kind: "settings"; readonly settings: ClusterSettings };

/** What the store tells replication of. */
export interface ReplicatedStoreListener extends StoreListener {
  /** The applied settings have changed. */
  settingsChanged?(): void;
  /** The applied state is not what `expectState` was told. */
  stateDiffers?(detail: string): void;
}

export interface ReplicatedStore {
  readonly nodeId: NodeId;
  /** Absent until the node founds or joins a cluster. */
  readonly clusterId: ClusterId | undefined;
  /** Durable. */
  readonly role: NodeRole;
  /** The highest mastership that this node has promised to follow; durable. */
  readonly promised: EpochPromise;

  /** The end of the log, queued records included. Seq 0 when there is no log yet. */
  readonly last: LogMark;
  /** `write()` has returned for every record up to here. Only these are pushed: a queued one may yet be dropped. */
  readonly writtenSeq: Seq;
  readonly keptSeq: Seq;
  readonly appliedSeq: Seq;
  /** The log holds what comes after it. */
  readonly compactSeq: Seq;
  /** The lowest seq after which the log can be cut, and the state still be told. */
  readonly floorSeq: Seq;
  /** The masterships of the whole log, queued records included. */
  readonly history: EpochHistory;
  /** As far as the log is applied. */
  readonly members: readonly Member[];
  /** As far as the log is applied. */
  readonly settings: ClusterSettings;
  /** What the whole log says, queued records included; a new object whenever it changes. */
  readonly electorate: LoggedState;
  /** Whether this node once held everything that its master had. */
  readonly caughtUp: boolean;
  /** This node may have lost what it once acknowledged: until it has caught up, its vote counts for little. */
  readonly mustCatchUp: boolean;
  /** When data of this node was set aside last, by the wall clock; undefined: never, or an operator has removed it. */
  readonly setAsideMs: number | undefined;
  /** There is no record, whether the node belongs to a cluster or not. */
  readonly isEmpty: boolean;
  /** What an empty directory becomes here is a master. */
  readonly foundsWhenEmpty: boolean;
  listen(listener: ReplicatedStoreListener): void;

  foundCluster(): Promise<ClusterId>;
  joinCluster(id: ClusterId): Promise<void>;
  /** Durable when it resolves, the role too when one is given, in the same write. */
  promise(promise: EpochPromise, role?: NodeRole): Promise<void>;
  /** Durable when it resolves. */
  saveRole(role: NodeRole): Promise<void>;
  /** Appends the first record of an epoch that was promised: the epoch itself, and the changes after it. */
  beginEpoch(
    epoch: Epoch,
    epochId: EpochId,
    options?: { readonly forced?: boolean; readonly changes?: readonly EpochChange[] },
  ): Seq;
  /** Writes in flight end with an unknown outcome, paused ones learn that this node is no master. */
  endMastership(): void;
  /** Whatever would write waits until `resume`; what is in flight goes on. */
  pauseWrites(): { resume(): void };
  /** Nothing that was proposed is in flight. */
  writesSettled(): Promise<void>;

  /** Appends a master's records; throws an operating error when they do not follow on the log's end. */
  appendRecords(records: Uint8Array): Seq;
  cutAfter(seq: Seq): Promise<void>;
  mark(seq: Seq): Promise<LogMark>;
  /** The mark after the last of some whole encoded records. */
  markAfter(records: Uint8Array): LogMark;
  /** Whole encoded records with seq > `afterSeq` and ≤ writtenSeq; undefined when they are no longer in memory. */
  readTail(afterSeq: Seq, maxBytes: number): Uint8Array | undefined;
  /** The same from memory or disk. */
  readRecords(afterSeq: Seq, maxBytes: number): Promise<Uint8Array>;
  commit(seq: Seq): void;
  /** Tells compaction after which seq some member lacks the log; undefined: none does. */
  retainLog(lackedAfter: () => Seq | undefined): void;
  /** Of a master: the whole state as a file, from which the log goes on. Waits until it is ready. Rejects with the signal's reason. */
  openTransfer(signal: AbortSignal): Promise<TransferFile>;
  /** Of a replica: goes on with a master's file, or begins it; resolves to the bytes of it that are there. */
  stageTransfer(id: TransferId, size: number): Promise<number>;
  /** Adds to the file. Calls are carried out in their order. */
  writeTransfer(offset: number, bytes: Uint8Array): Promise<void>;
  /**
   * Checks the whole file, and remembers durably that the next start puts it in the place of this node's state. Says what
   * is damaged about a file that is; that file is gone then.
   */
  installTransfer(): Promise<{ readonly damage?: string }>;
  /** This node holds all that its master had committed. */
  markCaughtUp(): Promise<void>;
  proposeMember(member: Member): Promise<Position>;

  /** The checksum of the applied state; undefined while there is none that all nodes would have. */
  stateCheck(): StateCheck | undefined;
  /** What the applied state must be, compared once exactly that seq is applied; skipped when it has passed. */
  expectState(check: StateCheck): void;
  /** Durably: the next start begins with an empty log, what was there is kept beside it, and this node must catch up. */
  setAside(reason: string): Promise<void>;

  observeMasterTime(masterMs: EpochMs): void;
  masterTimeMs(): EpochMs;
}
