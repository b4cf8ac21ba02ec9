/** A master's connection as the replica sees it. */
import type { TransferId } from "../../base/ids.js";
import type { LogMark, Seq } from "../../base/position.js";
import type { PromiseRequest } from "./ballot.js";
import type { Hello, SnapshotOffer } from "./message.js";
import { GREETING_MS } from "./timing.js";

/** A candidate's request that waits for the store. */
export interface Granting {
  readonly ask: number;
  readonly request: PromiseRequest;
  /** This node may have lost what it once acknowledged. */
  readonly unclean: boolean;
}

/** The store's work, for a session mostly, is under way; what masters send meanwhile waits. */
export type Work =
  /** This node was a master until now; that it is none any more is being made durable. */
  | { readonly kind: "resigning" }
  /** This empty node becomes a part of the candidate's cluster. */
  | { readonly kind: "enlisting"; readonly granting: Granting }
  /** The promise that a candidate asked for is being made durable. */
  | { readonly kind: "granting"; readonly granting: Granting }
  /** This empty node becomes a part of the cluster. */
  | { readonly kind: "joining"; readonly hello: Hello }
  /** The promise of the master's epoch is being made durable. */
  | { readonly kind: "promising"; readonly hello: Hello }
  /** This node's own mark at the agreement is being read. */
  | { readonly kind: "comparing"; readonly agreement: LogMark }
  /** What lies after the agreement is being set aside. */
  | { readonly kind: "cutting"; readonly agreement: LogMark }
  /** What is there already of the master's file is being looked up. */
  | { readonly kind: "staging"; readonly offer: SnapshotOffer }
  /** The whole file is being checked, and chosen for the next start. */
  | { readonly kind: "installing"; readonly receiving: Receiving };

export type Phase =
  /** Nothing was heard yet. */
  | { readonly kind: "silent" }
  /** Hello was heard, and cannot be answered yet. */
  | { readonly kind: "greeting" }
  /** Welcome was sent. */
  | { readonly kind: "welcomed" }
  /** Align was heard, and cannot be answered yet. */
  | { readonly kind: "aligning" }
  /** SnapshotOffer was heard, and cannot be answered yet. */
  | { readonly kind: "offered" }
  /** The master's whole state is coming in. */
  | {
      readonly kind: "receiving";
      readonly id: TransferId;
      readonly size: number;
      /** Bytes that are in the file. Invariant: received ≤ heard ≤ size. */
      received: number;
      /** Bytes that have come, those that are still being written included. */
      heard: number;
    }
  /** The log's end is the master's, up to `verified`: every record there came from it, or was compared with it. */
  | {
      readonly kind: "following";
      verified: LogMark;
      /** As the master said last. Never goes back. */
      masterCommitSeq: Seq;
      /** Of the master's epoch: what it says about commits counts once it has committed this. */
      readonly firstSeq: Seq;
      /** The newest round that came. */
      round: number;
      /** An append that the store has not answered. The store answers at once, before the next message. */
      appending: boolean;
      /** The next flush sends an Ack; `probe`: with a new probe, in any case. */
      ack: { due: boolean; probe: boolean };
      /** Whether it was said that this node has caught up. */
      caughtUp: boolean;
    };

export type Following = Extract<Phase, { kind: "following" }>;

export type Receiving = Extract<Phase, { kind: "receiving" }>;

export interface Session {
  readonly id: number;
  /** Who is there; absent before its Hello was accepted. */
  master: Hello | undefined;
  phase: Phase;
  /** Without a sign of life until then, the session ends. Does not run while the store works for it. */
  deadlineMs: number;
}

export function newSession(id: number, nowMs: number): Session {
  return { id, master: undefined, phase: { kind: "silent" }, deadlineMs: nowMs + GREETING_MS };
}
