/**
 * What can happen to a node, as far as replication is concerned. Time comes in with the events, chance with the
 * state's seed: the core has none of its own.
 *
 * What the driver owes the core: events come one at a time. A `log` event comes before any other event once anything in
 * the log's view has changed, the work of an effect included. Answers to an effect come before what others sent later.
 * A `flush` follows every event in the same tick.
 */
import type { EpochHistory } from "../../base/epoch-history.js";
import type { ClusterId, NodeId, TransferId } from "../../base/ids.js";
import type { Epoch, LogMark, Seq } from "../../base/position.js";
import type { PromiseReply, PromiseRequest, SurveyReply } from "./ballot.js";
import type { Bid } from "./candidacy.js";
import type { Electorate } from "./electorate.js";
import type { MasterMessage, ReplicaMessage } from "./message.js";

/** This node's log. Invariant: applied ≤ last, and kept ≤ written ≤ last, except while a cut is under way. */
export interface LogView {
  /** Queued records included. */
  readonly last: LogMark;
  readonly writtenSeq: Seq;
  readonly keptSeq: Seq;
  readonly appliedSeq: Seq;
  /** The log holds what comes after it; what lies before is gone. */
  readonly compactSeq: Seq;
  /** The lowest seq after which the log can be cut, and the state still be told. */
  readonly floorSeq: Seq;
  /** Of the whole log, queued records included; nobody changes it. */
  readonly history: EpochHistory;
  /** As the whole log says, queued records included. */
  readonly electorate: Electorate;
}

/** A node that the master pushes to. */
export interface PeerSpec {
  readonly address: string;
  /** The member that is known to be there; absent for an address whose node has not been met. */
  readonly member?: { readonly nodeId: NodeId; readonly voter: boolean };
  /** An operator asks for this address: whoever is there is welcome, removed or not. */
  readonly invited: boolean;
}

/** Whole encoded records, and the mark after the last of them. */
export interface Batch {
  readonly records: Uint8Array;
  readonly end: LogMark;
}

/** How an operation on the store ended. */
export type Outcome =
  | { readonly kind: "done" }
  | { readonly kind: "mark"; readonly mark: LogMark }
  | { readonly kind: "founded"; readonly clusterId: ClusterId }
  /** Of a transfer: so many bytes are there already. */
  | { readonly kind: "staged"; readonly received: number }
  /** Of a transfer: the file is not whole, and gone. */
  | { readonly kind: "damaged"; readonly detail: string }
  | { readonly kind: "failed"; readonly detail: string };

export type Happening =
  /** The view of the log has changed. */
  | { readonly kind: "log"; readonly log: LogView }
  /** The tick ends, or a due time has come: what is due is done, and what has gathered is sent. */
  | { readonly kind: "flush" }
  /** The node lets go of everybody. */
  | { readonly kind: "shutdown"; readonly reason: string }

  /** This node is to become master. */
  | { readonly kind: "campaign"; readonly cause: "start" | "promoted"; readonly forced: boolean }
  /** A candidate asks for this node's promise. `unclean`: this node may have lost what it once acknowledged. */
  | {
      readonly kind: "promiseAsked";
      readonly ask: number;
      readonly request: PromiseRequest;
      readonly unclean: boolean;
    }
  /** The applied state of this node is not its master's. */
  | { readonly kind: "stateDiffers"; readonly detail: string }

  // to a candidate
  /** Answers `prepare`. */
  | { readonly kind: "prepared"; readonly campaign: number; readonly bid: Bid }
  /** Answers `survey`; a string says why there is no answer. */
  | {
      readonly kind: "surveyed";
      readonly campaign: number;
      readonly address: string;
      readonly answer: SurveyReply | string;
    }
  /** Answers `requestPromise`; a string says why there is no answer, and the promise may be given all the same. */
  | {
      readonly kind: "promised";
      readonly campaign: number;
      readonly address: string;
      readonly epoch: Epoch;
      readonly answer: PromiseReply | string;
    }
  /** Answers `beginEpoch`: the mastership begins, its first record is in the log. */
  | {
      readonly kind: "begun";
      readonly firstSeq: Seq;
      /** The master's time minus the monotonic time. */
      readonly masterTimeOffsetMs: number;
    }
  /** Answers `beginEpoch`: the log takes no record. */
  | { readonly kind: "unbegun"; readonly detail: string }

  // to a master
  /** Whom to push to from now on, and who was removed and must not be pushed to wherever it is met. */
  | { readonly kind: "peers"; readonly peers: readonly PeerSpec[]; readonly removed: ReadonlySet<NodeId> }
  /** There is reason to believe that nobody pushes to the node at `address`, and that it can be reached. */
  | { readonly kind: "retry"; readonly address: string }
  /** Somebody waits until replicas have what is in the log up to `seq`: it is not gathered. */
  | { readonly kind: "awaited"; readonly seq: Seq }
  /** A read wants to see the newest state; reads are numbered from 1, and rise. */
  | { readonly kind: "confirm"; readonly read: number }
  /** The node at the address is to take over, as far as it has everything. */
  | { readonly kind: "handOver"; readonly address: string }
  | { readonly kind: "opened"; readonly connection: number }
  | { readonly kind: "answered"; readonly connection: number; readonly message: ReplicaMessage }
  | { readonly kind: "lost"; readonly connection: number; readonly reason: string }
  /** Answers `readMark`. */
  | { readonly kind: "marked"; readonly connection: number; readonly mark: LogMark }
  /** Answers `readTail`; no batch: the records are no longer in memory. */
  | { readonly kind: "tail"; readonly connection: number; readonly batch: Batch | undefined }
  /** Answers `readDisk`. */
  | { readonly kind: "read"; readonly connection: number; readonly batch: Batch }
  /** Answers `openTransfer`. */
  | {
      readonly kind: "transferOpened";
      readonly connection: number;
      readonly id: TransferId;
      readonly size: number;
    }
  /** Answers `readTransfer`; at least one byte. */
  | { readonly kind: "transferRead"; readonly connection: number; readonly bytes: Uint8Array }
  /** Answers `readMark`, `readDisk`, `openTransfer` or `readTransfer`. */
  | { readonly kind: "unreadable"; readonly connection: number; readonly detail: string }

  // to a replica
  /** A master has connected. */
  | { readonly kind: "accepted"; readonly session: number }
  | { readonly kind: "pushed"; readonly session: number; readonly message: MasterMessage }
  | { readonly kind: "left"; readonly session: number }
  /** Answers `join`, `promise`, `saveRole`, `found`, `assume`, `compare`, `cut`, `stageTransfer` and `installTransfer`. */
  | { readonly kind: "finished"; readonly operation: number; readonly outcome: Outcome }
  /** Answers `append`: the records are in the log, after a `log` event that shows them. */
  | { readonly kind: "appended"; readonly session: number }
  /** Answers `append`: they do not follow on the log's end, or the log takes none. */
  | { readonly kind: "unappended"; readonly session: number; readonly detail: string }
  /** Answers `writeTransfer`. */
  | { readonly kind: "transferWritten"; readonly session: number; readonly bytes: number }
  | { readonly kind: "transferUnwritten"; readonly session: number; readonly detail: string }
  /** To any role. The disk had no room: records from `firstSeq` on are not in the log after all. */
  | { readonly kind: "dropped"; readonly firstSeq: Seq };

export type Event = Happening & {
  /** Monotonic, in milliseconds. */
  readonly nowMs: number;
};

export type EventOf<K extends Happening["kind"]> = Extract<Event, { readonly kind: K }>;
