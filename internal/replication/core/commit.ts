/** When a record is committed. */
import { assert } from "../../base/assert.js";
import { type Seq, seq } from "../../base/position.js";

/** `master`: the master's copy is enough. `majority`: of the voters, the master being one. */
export type CommitMode = "master" | "majority";

export interface Ballot {
  readonly mode: CommitMode;
  /** What the master itself keeps. */
  readonly ownKeptSeq: Seq;
  /** What each other voter has acknowledged; 0 for one that has not answered. */
  readonly othersMatchSeq: readonly Seq[];
  /** Of the master's epoch. */
  readonly firstSeq: Seq;
}

/**
 * The highest seq that the quorum keeps; undefined while that is not a record of the master's own epoch. An older record
 * counts only with one of the own epoch above it: alone, a quorum's copies of it may still lose against a log with a
 * newer epoch. Never beyond what the master itself keeps, so that applied ≤ kept holds on every node.
 */
export function committedSeq({ mode, ownKeptSeq, othersMatchSeq, firstSeq }: Ballot): Seq | undefined {
  const kept = [ownKeptSeq, ...(mode === "majority" ? othersMatchSeq : [])].sort((a, b) => b - a);
  const quorum = Math.floor(kept.length / 2) + 1;
  const byQuorum = kept[quorum - 1];
  assert(byQuorum !== undefined, "a quorum is no larger than the voters");
  const committed = seq(Math.min(byQuorum, ownKeptSeq));
  return committed >= firstSeq ? committed : undefined;
}
