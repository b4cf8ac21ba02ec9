/** What a node knows for the sake of replication. It begins anew with each process; what must outlive that is the store's. */
import { assert } from "../../base/assert.js";
import { EpochHistory } from "../../base/epoch-history.js";
import type { ClusterId, EpochId, NodeId } from "../../base/ids.js";
import { epoch, type Epoch, ORIGIN, type Seq, seq } from "../../base/position.js";
import type { CandidateRole } from "./candidacy.js";
import type { PromisedEpoch } from "./effect.js";
import { NO_ELECTORATE } from "./electorate.js";
import type { LogView } from "./event.js";
import type { Envelope } from "./message.js";
import type { Peer } from "./progress.js";
import type { ReplicaRole } from "./replica.js";
import type { Rounds } from "./rounds.js";

export interface Settings {
  /** What this node, as a replica, asks of its master. */
  readonly heartbeatIntervalMs: number;
  /** Bytes of records in one message, at most, unless one record alone is larger. */
  readonly batchBytes: number;
  /** Nothing is sent to a replica that has this many bytes of records unacknowledged. */
  readonly windowBytes: number;
}

/** A node before it starts, once it shuts down, or a master whose epoch another one has too. */
export interface IdleRole {
  readonly kind: "idle";
  /** Told to whoever wants to push. */
  readonly why: string;
  /** Whether a newer mastership brings it back: it has stopped because of a conflict, and nothing else is wrong with it. */
  readonly canFollow: boolean;
}

export interface MasterRole {
  readonly kind: "master";
  readonly epoch: Epoch;
  readonly epochId: EpochId;
  /** Of the epoch's first record. */
  readonly firstSeq: Seq;
  readonly address: string;
  /** The master's time minus the monotonic time; it does not change during a mastership. */
  readonly masterTimeOffsetMs: number;
  /** By address. */
  readonly peers: Map<string, Peer>;
  /** By connection; each stands in `peers` too. */
  readonly byConnection: Map<number, Peer>;
  removed: ReadonlySet<NodeId>;
  readonly rounds: Rounds;
  /** Somebody waits until replicas have what comes up to here. */
  awaitedSeq: Seq;
  /** When some peer was sent the checksum of the state last. */
  checkedAtMs: number;
}

export type Role = IdleRole | MasterRole | CandidateRole | ReplicaRole;

export interface CoreState {
  readonly self: NodeId;
  readonly settings: Settings;
  clusterId: ClusterId | undefined;
  /** Never goes back. Durable before anybody is answered by it. */
  promised: PromisedEpoch;
  log: LogView;
  /** Highest seq known to be committed. Never goes back, but for a cut. Invariant: ≤ match, once anything is matched. */
  commitSeq: Seq;
  /** Of a replica: highest kept seq verified equal to its master's log. Of a master: kept. Invariant: ≤ kept. */
  matchSeq: Seq;
  /** What the master that was followed last said that it had committed; 0 before there was one. */
  heardCommitSeq: Seq;
  role: Role;
  /** Names connections and operations; each number is used once. */
  nextNumber: number;
  /** Of the generator of chance; unsigned 32 bits, not 0. */
  seed: number;
}

/** A node as its process starts. */
export function newCoreState(
  start: Omit<CoreState, "commitSeq" | "matchSeq" | "heardCommitSeq" | "nextNumber">,
): CoreState {
  assert(start.seed !== 0 && start.seed === start.seed >>> 0, "a seed has 32 bits, not all of them 0");
  // Applied once, applied for ever: it had been committed.
  return { ...start, commitSeq: start.log.appliedSeq, matchSeq: seq(0), heardCommitSeq: seq(0), nextNumber: 1 };
}

export const EMPTY_LOG: LogView = {
  last: { ...ORIGIN, chain: 0 },
  writtenSeq: seq(0),
  keptSeq: seq(0),
  appliedSeq: seq(0),
  compactSeq: seq(0),
  floorSeq: seq(0),
  history: new EpochHistory(),
  electorate: NO_ELECTORATE,
};

export function takeNumber(state: CoreState): number {
  return state.nextNumber++;
}

/** A number from 0 to 1, by Marsaglia's xorshift: good enough to keep nodes from doing things all at once. */
export function takeChance(state: CoreState): number {
  let x = state.seed;
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  state.seed = x >>> 0;
  return state.seed / 2 ** 32;
}

/** What this node puts on every message. */
export function envelope(state: CoreState): Envelope {
  return {
    ...(state.clusterId !== undefined && { clusterId: state.clusterId }),
    epoch: epoch(
      state.role.kind === "master" ? state.role.epoch : Math.max(state.promised.epoch, state.log.last.epoch),
    ),
    sender: state.self,
  };
}
