/**
 * Who decides about masterships, and about what is committed. It is what the whole log says, queued records included, and
 * counts from the moment a record is in the log, committed or not: so two quorums that follow on each other always share
 * a node (Raft's rule for changes of one server).
 */
import type { NodeId } from "../../base/ids.js";
import type { CommitMode } from "./commit.js";

export interface Voter {
  readonly nodeId: NodeId;
  readonly address: string;
}

export interface Electorate {
  readonly commit: CommitMode;
  /** `listed`: the voters decide by majority. `master`: there is one vote, and whoever is master has it. */
  readonly mode: "listed" | "master";
  /** In mode `listed`. */
  readonly voters: readonly Voter[];
}

/** Of an empty log. */
export const NO_ELECTORATE: Electorate = { commit: "master", mode: "master", voters: [] };

/** So many of `count` voters are a majority. */
export function majorityOf(count: number): number {
  return Math.floor(count / 2) + 1;
}

export function isVoter({ voters }: Electorate, id: NodeId): boolean {
  return voters.some(({ nodeId }) => nodeId === id);
}

/** The voters beside a master; none where the vote is its own. */
export function otherVoters({ mode, voters }: Electorate, self: NodeId): readonly Voter[] {
  return mode === "master" ? [] : voters.filter(({ nodeId }) => nodeId !== self);
}
