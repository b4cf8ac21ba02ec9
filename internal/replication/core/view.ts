/** What can be told about a node's replication, for status and metrics. */
import type { NodeId } from "../../base/ids.js";
import type { Seq } from "../../base/position.js";
import type { Peer } from "./progress.js";
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
export function stalenessMs({ role, settings }: CoreState, nowMs: number): number | undefined {
  switch (role.kind) {
    case "replica":
      return role.staleness.at(nowMs);
    case "master": {
      const otherVoters = [...role.peers.values()].some(({ spec }) => spec.member?.voter);
      return settings.commit === "master" || !otherVoters ? 0 : undefined;
    }
    case "idle":
      return undefined;
  }
}

/** Whether a master pushes to this node. */
export function isFollowing({ role }: CoreState): boolean {
  return role.kind === "replica" && role.current?.phase.kind === "following";
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
