/** What can be told about a node's replication, for status and metrics. */
import { must, unreachable } from "../../base/assert.js";
import type { NodeId } from "../../base/ids.js";
import { type Seq, seq } from "../../base/position.js";
import { isVoter, majorityOf, otherVoters } from "./electorate.js";
import type { Hello } from "./message.js";
import type { Peer } from "./progress.js";
import type { Following } from "./session.js";
import type { CoreState } from "./state.js";

export interface PeerView {
  readonly address: string;
  /** Who answered there last. */
  readonly nodeId: NodeId | undefined;
  readonly state: "disconnected" | "probing" | "transferring" | "streaming" | "refused";
  readonly matchSeq: Seq;
  readonly appliedSeq: Seq;
  readonly lagRecords: number;
  readonly lagMs: number;
  readonly detail: string;
}

/** How old this node's committed state is at most; undefined when that cannot be shown. */
export function stalenessMs(state: CoreState, nowMs: number): number | undefined {
  const { role, self, log } = state;
  if (role.kind === "replica") return role.staleness.at(nowMs);
  if (role.kind !== "master" || !isServing(state)) return undefined;
  if (otherVoters(log.electorate, self).length === 0) return 0;
  const { confirmedAtMs } = role.rounds;
  return confirmedAtMs === undefined ? undefined : nowMs - confirmedAtMs;
}

/** Whether this node is master, and knows all that was committed before. */
export function isServing({ role, commitSeq }: CoreState): boolean {
  return role.kind === "master" && commitSeq >= role.firstSeq;
}

/** Whether a master pushes to this node. */
export function isFollowing(state: CoreState): boolean {
  return following(state) !== undefined;
}

/** Whether this node is a replica of nobody, and nothing is under way that could change that. */
export function isUnclaimed({ role }: CoreState): boolean {
  return role.kind === "replica" && !role.current && !role.work && !role.campaign;
}

/** The master that is followed, once it has committed a record of its own: it takes writes. */
export function settledMaster({ role }: CoreState): Hello | undefined {
  if (role.kind !== "replica" || role.current?.phase.kind !== "following") return undefined;
  const { master, phase } = role.current;
  return phase.masterCommitSeq >= phase.firstSeq ? master : undefined;
}

/** Records that the followed master has committed, and that are not applied here. */
export function lagRecords(state: CoreState): number | undefined {
  const phase = following(state);
  return phase && Math.max(0, phase.masterCommitSeq - state.log.appliedSeq);
}

function following({ role }: CoreState): Following | undefined {
  const phase = role.kind === "replica" ? role.current?.phase : undefined;
  return phase?.kind === "following" ? phase : undefined;
}

/** Why a node that is meant to be master does not serve; empty of one that serves, or that only follows. */
export function notServing(state: CoreState): string {
  const { role } = state;
  switch (role.kind) {
    case "replica":
      return "";
    case "idle":
      return role.why;
    case "candidate":
      return role.why === "" ? "this node asks the others for a mastership" : `this node is not master: ${role.why}`;
    case "master":
      if (isServing(state)) return "";
      return `this node is master of epoch ${role.epoch}, whose first record is not committed yet`;
    default:
      return unreachable(role);
  }
}

/** What everybody keeps whom a write may have to wait for: connected voters, or members where the one vote moves. */
export function replicatedSeq({ role, log }: CoreState): Seq {
  if (role.kind !== "master") return seq(0);
  const isListed = log.electorate.mode === "listed";
  let least = log.keptSeq;
  for (const { progress, spec, met, matchSeq } of role.peers.values()) {
    if (progress.kind !== "streaming" || met === undefined || spec.member?.nodeId !== met) continue;
    if ((!isListed || isVoter(log.electorate, met)) && matchSeq < least) least = matchSeq;
  }
  return least;
}

/** What a majority of the voters keeps, by what they have acknowledged to this master; whatever it takes to commit. */
export function majoritySeq({ role, log, self }: CoreState): Seq {
  if (role.kind !== "master") return seq(0);
  const kept: Seq[] = [log.keptSeq];
  for (const { nodeId } of otherVoters(log.electorate, self)) {
    const peers = [...role.peers.values()].filter(({ met, spec }) => met === nodeId && spec.member?.nodeId === nodeId);
    kept.push(seq(Math.max(0, ...peers.map(({ matchSeq }) => matchSeq))));
  }
  kept.sort((a, b) => b - a);
  return must(kept[majorityOf(kept.length) - 1], "a majority is no more than all");
}

/** Of a master: the peer at an address. */
export function peerAt(state: CoreState, address: string, nowMs: number): PeerView | undefined {
  const peer = state.role.kind === "master" ? state.role.peers.get(address) : undefined;
  return peer && viewOf(peer, state, nowMs);
}

function viewOf(peer: Peer, { log }: CoreState, nowMs: number): PeerView {
  const behind = peer.matchSeq < log.writtenSeq;
  return {
    address: peer.address,
    nodeId: peer.met,
    state: peer.progress.kind,
    matchSeq: peer.matchSeq,
    appliedSeq: peer.appliedSeq,
    lagRecords: behind ? log.writtenSeq - peer.matchSeq : 0,
    lagMs: behind ? Math.max(0, Math.round(nowMs - peer.hadAllAtMs)) : 0,
    detail: peer.detail,
  };
}
