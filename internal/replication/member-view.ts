/** What can be told of a member, to operators mostly. */
import type { NodeId } from "../base/ids.js";
import { type Seq, seq } from "../base/position.js";
import type { PeerView } from "./core/view.js";
import type { Member, MemberSource } from "./store-port.js";

/** A member as this node sees it. */
export interface MemberView {
  /** Absent while the master has not reached a listed address yet. */
  readonly nodeId?: NodeId;
  readonly address: string;
  readonly voter: boolean;
  readonly source: MemberSource;
  /** Absent where it is not known: only the master knows more than `self`. */
  readonly state?: "self" | "disconnected" | "probing" | "transferring" | "streaming" | "refused";
  /** Highest seq that the member has acknowledged. */
  readonly matchSeq: Seq;
  readonly appliedSeq: Seq;
  /** Records that the member lacks. */
  readonly lagRecords: number;
  /** Since the member last had everything; 0 when it has. */
  readonly lagMs: number;
  /** What went wrong last, or what the member waits for; empty when all is well. */
  readonly detail: string;
}

const NOTHING_KNOWN = { matchSeq: seq(0), appliedSeq: seq(0), lagRecords: 0, lagMs: 0, detail: "" };

/** This node itself. */
export function ownView(member: Member, { matchSeq, appliedSeq }: { matchSeq: Seq; appliedSeq: Seq }): MemberView {
  return { ...named(member), ...NOTHING_KNOWN, state: "self", matchSeq, appliedSeq };
}

/** Another node. `peer`: as the master sees it; `voteless`: why it has no vote that might have one. */
export function otherView(member: Member, peer: PeerView | undefined, voteless: string): MemberView {
  if (!peer) return { ...named(member), ...NOTHING_KNOWN };
  const fields = told(peer);
  return { ...named(member), ...fields, detail: voteless || fields.detail };
}

/** Whoever is at a listed address. */
export function listedView(address: string, peer: PeerView): MemberView {
  return { ...told(peer), address, voter: false, source: "listed" };
}

function named({
  nodeId,
  address,
  voter,
  source,
}: Member): Pick<MemberView, "nodeId" | "address" | "voter" | "source"> {
  return { nodeId, address, voter, source };
}

function told({
  state,
  matchSeq,
  appliedSeq,
  lagRecords,
  lagMs,
  detail,
}: PeerView): Omit<MemberView, "nodeId" | "address" | "voter" | "source"> {
  return { state, matchSeq, appliedSeq, lagRecords, lagMs, detail };
}
