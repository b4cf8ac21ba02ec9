/** What a store is made from, what it tells of itself, and what it answers with. */
import type { Clock } from "../base/clock.js";
import type { ClusterId, NodeId, RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import type { EpochMs, Position, Seq } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import type { FileSystem } from "../wal/file-system.js";
import type { Durability, LogObserver } from "../wal/log.js";
import type { ClusterSettings } from "./change.js";
import type { NodeRole } from "./node-file.js";
import type { RetryLimits } from "./retry-guard.js";
import type { SnapshotPolicy } from "./snapshotter.js";
import type { WriteResult } from "./write-command.js";

export interface StoreOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Empty. */
  readonly engine: Engine;
  /** What an empty directory becomes. */
  readonly initialRole: NodeRole;
  readonly durability: Durability;
  readonly syncIntervalMs: number;
  readonly segmentBytesMax: number;
  /** Of the record log; absent: the same. */
  readonly recordSegmentBytesMax?: number;
  readonly snapshots: SnapshotPolicy;
  /** Bytes of log that are kept, at most, for members that lack them; see `retainLog`. */
  readonly retainedBytesMax: number;
  /** The newest bytes of log that stay although a snapshot holds what they say, as far as whole segments fit; absent: none. */
  readonly historyBytes?: number;
  /** Payload bytes of writes that are proposed and not applied yet, at most, and of those that a pause holds back. */
  readonly pendingBytesMax: number;
  /** How much is remembered for safe retries, and for how long; absent: `RETRY_LIMITS`. */
  readonly retries?: RetryLimits;
  /** Bytes of the disk that are kept back for deletions on a full disk, and for the next start; absent: none. */
  readonly reserveBytes?: number;
  /**
   * A wall clock that at the start is further ahead of what the data knows is not believed: deadlines wait, and the log says so.
   * Absent: any clock is believed.
   */
  readonly clockJumpMsMax?: number;
  /** Cuts a damaged log at its first corrupt place, instead of refusing it or setting it aside. */
  readonly recover?: "truncate-tail";
  /**
   * Names the time that the machine has been up: another one means that whatever was not synced may be gone. Absent: nobody
   * knows, and every end of the process that was not in order counts as one of the machine.
   */
  readonly bootId?: string;
  /** Absent: nobody measures. */
  readonly observer?: StoreObserver;
}

/** Told what the store costs, for those who measure it: of its log, and of its snapshots. As `LogObserver`. */
export interface StoreObserver extends LogObserver {
  /** A snapshot was taken, in so long. */
  snapshotTaken(seconds: number): void;
}

/** Told of the store's progress; every call is made after the fact, on the tick that brought it about. */
export interface StoreListener {
  written?(seq: Seq): void;
  kept?(seq: Seq): void;
  applied?(seq: Seq): void;
  /** The records from `firstSeq` on are not in the log after all: the disk had no room. */
  dropped?(firstSeq: Seq): void;
  membersChanged?(): void;
  settingsChanged?(): void;
  /** The applied state is not what `expectState` was told that it must be. */
  stateDiffers?(detail: string): void;
  /** The disk can no longer be believed. Nothing is acknowledged any more; the process must end. */
  failed?(error: Error): void;
}

/** The committed state that reads of one tick see. */
export interface ReadPoint {
  readonly position: Position;
  /** The master's time. */
  readonly nowMs: EpochMs;
  readonly token: Uint8Array;
}

/** How a caller wants its write answered. */
export interface WriteOptions {
  /**
   * `committed`, the default: once it is committed and applied here. `kept`: once this node, the master, keeps it; reads do
   * not see it yet, and a failover may lose it.
   */
  readonly acknowledge?: "kept" | "committed" | undefined;
  /** Then the write is answered in any case: with `outcome_unknown`, unless it was not proposed yet. Absent: never. */
  readonly timeoutMs?: number | undefined;
  /** Bytes of stored values that the record and the answer may take over, for touched keys, previous values and gets. Absent: 4 MiB. */
  readonly storedBytesMax?: number | undefined;
  /** The write may have been sent before: then it is answered as it was the first time. */
  readonly retry?: RetryKey | undefined;
  /**
   * Asks those who decide whether this node is still master, which a write that changes nothing shows to nobody: its answer is given, or
   * its refusal, once this resolves; what this rejects with otherwise. Absent, or with `kept`: by this node's own knowledge.
   */
  readonly confirm?: (() => Promise<unknown>) | undefined;
}

/** What makes two calls one and the same write. */
export interface RetryKey {
  readonly clientId: string;
  /** 1, 2, 3, … */
  readonly clientSeq: number;
}

export interface WriteReceipt {
  /** The record of the write; for a write that changed nothing, the committed position that showed so. */
  readonly position: Position;
  readonly token: Uint8Array;
  /** One for each command. */
  readonly results: readonly WriteResult[];
  /** The write had been made before: this is what it was answered then. */
  readonly repeated?: true;
}

/** `results` has one for each operation of the list that was carried out. */
export interface TxnReceipt extends WriteReceipt {
  /** Whether all compares held, so that `then` was carried out. */
  readonly succeeded: boolean;
  /** Which did not, by their places, from 0 on. */
  readonly failedCompares: readonly number[];
}

export interface ProduceReceipt {
  /** Of the first record; the others follow. */
  readonly firstOffset: number;
  readonly position: Position;
  readonly token: Uint8Array;
  /** As in `WriteReceipt`. */
  readonly repeated?: true;
}

/** The checksum of the whole replicated state at a seq; equal on every node that has applied up to there. */
export interface StateCheck {
  readonly seq: Seq;
  /** Unsigned 32 bits. */
  readonly checksum: number;
}

export interface StoreStatus {
  readonly clusterId: ClusterId | undefined;
  readonly nodeId: NodeId;
  readonly role: NodeRole;
  readonly ready: boolean;
  /** Why the node is not ready, for people; empty when it is. */
  readonly notReadyReason: string;
  readonly applied: Position;
  readonly last: Position;
  readonly keptSeq: Seq;
  readonly commitSeq: Seq;
  readonly compactSeq: Seq;
  readonly keys: number;
  readonly dataBytes: number;
  /** What counts against `StorageLimits.bytesMax`. */
  readonly accountedBytes: number;
  readonly walBytes: number;
  readonly durability: Durability;
  readonly settings: ClusterSettings;
  /** Records that this node had and the present history does not, as long as the files are there that they were saved in. */
  readonly divergedRecords: number;
  /** The newest folder into which damaged or differing data was set aside; empty when there is none. */
  readonly setAside: string;
  /** How far ahead the wall clock was at the start, where it was not believed; else 0. */
  readonly clockAheadMs: number;
  /** Clients whose writes are remembered, and what that takes, about. */
  readonly retryClients: number;
  readonly retryBytes: number;
  /** Absent when the system does not tell. */
  readonly diskFreeBytes: number | undefined;
}

/** What a store counts, and how much it has of what its status does not tell. */
export interface StoreCounts {
  /** Keys that were removed since the store was opened because their time was over, and to make room. */
  readonly expiredKeys: number;
  readonly evictedKeys: number;
  /** Writes that were proposed and are not applied yet, and the bytes of their records. */
  readonly pendingWrites: number;
  readonly pendingBytes: number;
  /** What is remembered for safe retries. */
  readonly retryBytes: number;
  readonly retryClients: number;
  /** Of the newest snapshot; 0 when there is none. */
  readonly snapshotBytes: number;
  /** Of the files of the log that hold what some member lacks. */
  readonly lackedBytes: number;
  /** Of the record log. */
  readonly recordLogBytes: number;
}
