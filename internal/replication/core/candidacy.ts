/**
 * A node that wants to be master.
 *
 * ```
 *   preparing ──► surveying ──► (founding) ──► asking ──► assuming ──► beginning ──► master
 *       ▲             │                          │           │             │
 *       │             └──────── given up ────────┴───────────┴─────────────┘
 *       └── waiting ◄──────────────┤ it was master when it started, or is one on its disk
 *                                  └──► replica, in every other case
 * ```
 */
import type { EpochId, NodeId } from "../../base/ids.js";
import type { Epoch, Position } from "../../base/position.js";
import type { SurveyReply } from "./ballot.js";
import type { Effect, PromisedEpoch } from "./effect.js";
import type { Voter } from "./electorate.js";
import { type CoreState, takeNumber } from "./state.js";

/** How it came about. */
export type Cause =
  /** The node starts as what it was, a master. */
  | "start"
  /** An operator asks for it. */
  | "promoted"
  /** The master hands over. */
  | "takeOver";

/** What makes a node a candidate. */
export interface Campaign {
  readonly cause: Cause;
  /** An operator wants it without a majority. */
  readonly forced: boolean;
  /**
   * The master that hands over: without its promise nothing is won. It gives that only to a node that has all of its log; one that has
   * waited for too long, and writes again, refuses.
   */
  readonly handedOverBy?: NodeId;
}

/** What a candidate needs to know for one try. */
export interface Bid {
  readonly epochId: EpochId;
  /** `host:port` at which this node takes writes. */
  readonly address: string;
  /** Of all other nodes that this one knows. */
  readonly addresses: readonly string[];
  /** The addresses of all voters of a cluster that is to be founded, this node's among them; empty: it founds alone. */
  readonly founders: readonly string[];
  /** This node may have lost what it once acknowledged. */
  readonly unclean: boolean;
}

/** Whom the candidate asks for a promise. */
export interface Ask {
  readonly address: string;
  /** Who must answer there; absent: whoever does. */
  readonly nodeId: NodeId | undefined;
  /** The call that is under way is of this epoch. */
  calling: Epoch | undefined;
  /** Without one, when the next is due. */
  dueAtMs: number;
  granted: { readonly nodeId: NodeId; readonly unclean: boolean } | undefined;
  /** It will not grant this epoch, whenever it is asked. */
  refused: { readonly behind: boolean } | undefined;
  /** What went wrong last; empty when all is well. */
  detail: string;
}

export interface Surveying {
  readonly kind: "surveying";
  readonly bid: Bid;
  /** The addresses that have not answered yet. */
  readonly open: Set<string>;
  /** By address; a string says why there is none. */
  readonly answers: Map<string, SurveyReply | string>;
  readonly deadlineMs: number;
}

export interface Asking {
  readonly kind: "asking";
  readonly bid: Bid;
  asks: readonly Ask[];
  /** Of a cluster that is being founded: its voters, this node among them. */
  readonly founders: readonly Voter[] | undefined;
  /** Rises when somebody has promised more than was known. */
  epoch: Epoch;
  readonly deadlineMs: number;
  /** The furthest place that another node was seen to have. */
  furthest: Position;
}

/** What begins once this node's own promise is durable. */
export interface Won {
  readonly promise: PromisedEpoch & { readonly candidate: NodeId; readonly epochId: EpochId };
  readonly address: string;
  /** Committed history may have been lost. */
  readonly forced: boolean;
  readonly founders: readonly Voter[] | undefined;
  /** When an operator forced it: those voters that lose the vote. */
  readonly stripped: readonly NodeId[];
  readonly unreached: readonly string[];
  readonly knownLostRecords: number;
}

export type CandidatePhase =
  /** What is needed for a try is being asked for. */
  | { readonly kind: "preparing" }
  /** All others are asked what they have. */
  | Surveying
  /** The cluster is being founded, durably. */
  | {
      readonly kind: "founding";
      readonly operation: number;
      readonly bid: Bid;
      readonly founders: readonly Voter[] | undefined;
      readonly epoch: Epoch;
    }
  /** The others are asked for their promises. */
  | Asking
  /** The own promise, and that this node is master, are being made durable. */
  | { readonly kind: "assuming"; readonly operation: number; readonly won: Won }
  /** The epoch's first record is being appended. */
  | { readonly kind: "beginning"; readonly won: Won }
  /** The next try is due after a pause. */
  | { readonly kind: "waiting"; readonly dueAtMs: number };

export interface CandidateRole extends Campaign {
  readonly kind: "candidate";
  /** Names the try; what comes back for another one is late. */
  campaign: number;
  /** On the disk this node is master: its next start would be a campaign too. */
  masterOnDisk: boolean;
  /** Tries that have failed. */
  failures: number;
  /** Why the last one has failed; empty before. */
  why: string;
  phase: CandidatePhase;
}

/** This node's own promise is being written: until that is done, it promises nothing to anybody. */
export function isCommitted({ phase }: CandidateRole): boolean {
  return phase.kind === "founding" || phase.kind === "assuming" || phase.kind === "beginning";
}

/** From here on this node follows nobody, and wants to be master. */
export function beginCampaign(
  state: CoreState,
  out: Effect[],
  options: Campaign & { readonly masterOnDisk: boolean },
): void {
  const campaign = takeNumber(state);
  state.role = { kind: "candidate", campaign, ...options, failures: 0, why: "", phase: { kind: "preparing" } };
  out.push({ kind: "prepare", campaign });
}

/** A node that is master on its disk has failed to be one, and tries again after a pause. */
export function beginAgain(
  state: CoreState,
  out: Effect[],
  { detail, dueAtMs }: { readonly detail: string; readonly dueAtMs: number },
): void {
  out.push({ kind: "campaignFailed", code: "refused", detail, again: true });
  state.role = {
    kind: "candidate",
    campaign: takeNumber(state),
    cause: "start",
    forced: false,
    masterOnDisk: true,
    failures: 1,
    why: detail,
    phase: { kind: "waiting", dueAtMs },
  };
}
