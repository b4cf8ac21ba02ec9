/** What a candidate makes of what the others say of themselves, before it asks anybody for a promise. */
import type { NodeId } from "../../base/ids.js";
import { comparePositions, epoch as toEpoch, type Epoch, type Position } from "../../base/position.js";
import type { SurveyReply } from "./ballot.js";
import type { Bid, CandidateRole } from "./candidacy.js";
import { isVoter, majorityOf, type Voter } from "./electorate.js";
import type { CoreState } from "./state.js";

/** How far a forced epoch jumps, so that masterships which nobody here has heard of are below it. */
const FORCED_EPOCHS = 1_000_000;
/** Nothing but force makes epochs rise by so much. */
const FORCED_EPOCHS_MIN = FORCED_EPOCHS / 2;

/** Why a campaign has failed: too few promises, somebody has more of the log, or this node could not do its part. */
export type CampaignFailure = "no_majority" | "behind" | "refused";

/** Whose promise is asked for, and where. */
export interface Asked {
  readonly address: string;
  /** Absent: of whoever is there. */
  readonly nodeId: NodeId | undefined;
}

export type Verdict =
  /** Another node is, or was, master after this one. */
  | { readonly kind: "yield"; readonly detail: string; readonly masterAddress: string | undefined }
  | { readonly kind: "giveUp"; readonly code: CampaignFailure; readonly detail: string }
  | { readonly kind: "found"; readonly epoch: Epoch; readonly founders: readonly Voter[] | undefined }
  | { readonly kind: "ask"; readonly epoch: Epoch; readonly whom: readonly Asked[] };

export interface Survey {
  readonly bid: Bid;
  /** By address; a string says why there is none. */
  readonly answers: ReadonlyMap<string, SurveyReply | string>;
}

type Answered = SurveyReply & { readonly address: string };

/** What a survey that is over leads to. All that this node has in its log is kept. */
export function judgeSurvey(state: CoreState, role: CandidateRole, survey: Survey): Verdict {
  if (state.log.last.seq === 0) return judgeFounding(state, role, survey);
  const others = membersAmong(state, survey);
  if (role.cause === "start" && !role.forced) {
    const newer = others.find((other) => hasComeAfter(state, other));
    if (newer) {
      const { nodeId, address, promised, last, masterAddress } = newer;
      const detail = `node ${nodeId} at ${address} knows a newer mastership (its log ends in epoch ${last.epoch}, it promised ${promised.epoch})`;
      return { kind: "yield", detail, masterAddress };
    }
  }
  const highest = highestEpoch(state, others);
  if (role.forced) {
    const known = new Set([...survey.bid.addresses, ...state.log.electorate.voters.map(({ address }) => address)]);
    known.delete(survey.bid.address);
    const whom = [...known].map((address) => ({ address, nodeId: undefined }));
    return { kind: "ask", epoch: toEpoch(highest + FORCED_EPOCHS), whom };
  }
  const forced = forcedElsewhere(state, others);
  if (forced) return forced;
  const next = toEpoch(highest + 1);
  return state.log.electorate.mode === "listed"
    ? judgeVoters(state, survey, others, next)
    : judgeVote(state, role, survey, others, next);
}

/** Whether what has been answered so far is enough to go on with, when time matters. */
export function isEnough(state: CoreState, role: CandidateRole, survey: Survey): boolean {
  return state.log.last.seq > 0 && judgeSurvey(state, role, survey).kind === "ask";
}

/**
 * Whether `epoch` belongs to a mastership that was forced, and that a log which ends in `last` knows nothing of. Such a log
 * is of a history that an operator has given up: its voters, were they a majority, would undo what was forced.
 */
export function wasForcedAfter(last: Epoch, epoch: Epoch): boolean {
  return epoch - last >= FORCED_EPOCHS_MIN;
}

/**
 * Who has promised a forced mastership, or has its records, that this node lacks. What was promised to this node is its own
 * where a majority must promise anew; the one vote is not to be had by force, and then without saying so.
 */
function forcedElsewhere(state: CoreState, others: readonly Answered[]): Verdict | undefined {
  const { self, log, promised } = state;
  const isMine = log.electorate.mode === "listed" || promised.candidate === self;
  const isNewer = ({ epoch, candidate }: SurveyReply["promised"]): boolean =>
    !(isMine && candidate === self) && wasForcedAfter(log.last.epoch, epoch);
  const other = others.find((other) => isNewer(other.promised) || wasForcedAfter(log.last.epoch, other.last.epoch));
  const epoch = isNewer(promised) ? promised.epoch : other && Math.max(other.promised.epoch, other.last.epoch);
  if (epoch === undefined) return undefined;
  const who = isNewer(promised) ? `this node has promised` : `node ${other?.nodeId} at ${other?.address} knows`;
  const detail = `${who} epoch ${epoch}, which was forced, and this node's log ends in epoch ${log.last.epoch}; let it follow that mastership first`;
  return { kind: "giveUp", code: "behind", detail };
}

/** The node knows of a mastership after this node's own. */
function hasComeAfter({ self, log, promised }: CoreState, other: Answered): boolean {
  if (other.last.epoch > log.last.epoch) return true;
  if (other.promised.epoch <= promised.epoch) return false;
  // A voter of many may have promised an epoch that never began; the one vote goes with the promise.
  return other.isMaster || (log.electorate.mode === "master" && other.promised.candidate !== self);
}

/**
 * The voters are listed: a majority of them must be there that has no more than this node, and has lost nothing; or all of
 * them, for then nobody else can have more. Whoever would fail must not ask: its epoch would depose a master that works.
 */
function judgeVoters(state: CoreState, survey: Survey, others: readonly Answered[], epoch: Epoch): Verdict {
  const { self, log } = state;
  const { voters } = log.electorate;
  if (!isVoter(log.electorate, self)) {
    return { kind: "giveUp", code: "refused", detail: "this node is no voter, and only follows" };
  }
  let willing = 1;
  let clean = survey.bid.unclean ? 0 : 1;
  const problems = survey.bid.unclean ? ["this node may have lost records"] : [];
  let behind = false;
  const whom: Asked[] = [];
  for (const voter of voters) {
    if (voter.nodeId === self) continue;
    const found = others.find(({ nodeId }) => nodeId === voter.nodeId);
    if (!found) problems.push(problemAt(survey, voter.address, voter.nodeId));
    else if (comparePositions(found.last, log.last) > 0) {
      behind = true;
      problems.push(`voter ${voter.nodeId} at ${found.address} has records up to ${show(found.last)}`);
    } else {
      willing++;
      if (found.unclean) problems.push(`voter ${voter.nodeId} at ${found.address} may have lost records`);
      else clean++;
    }
    whom.push({ address: found?.address ?? voter.address, nodeId: voter.nodeId });
  }
  const needed = majorityOf(voters.length);
  if (clean >= needed || willing === voters.length) return { kind: "ask", epoch, whom };
  const agreeing = `${needed} of ${voters.length} voters must agree, and ${clean} can`;
  const why = behind ? `this node's log ends at ${show(log.last)}, behind others` : "there is no majority";
  const detail = `${why}: ${agreeing}; ${problems.join("; ")}`;
  return { kind: "giveUp", code: behind ? "behind" : "no_majority", detail };
}

/** There is one vote: whoever has it must be there, and have no more than this node. */
function judgeVote(
  state: CoreState,
  role: CandidateRole,
  survey: Survey,
  others: readonly Answered[],
  epoch: Epoch,
): Verdict {
  const { self, log, promised } = state;
  // The newest promise tells where the vote went last.
  let newest: SurveyReply["promised"] = promised;
  for (const other of others) if (other.promised.epoch > newest.epoch) newest = other.promised;
  const holder = newest.candidate;
  // What was promised to this node does not take from it what it has.
  const hasVote = holder === self && promised.candidate === self;
  if (hasVote || (newest === promised && holder === undefined && role.masterOnDisk)) {
    return { kind: "ask", epoch, whom: [] };
  }
  // On its way to this node, it is still with whoever has given it.
  const givers = others.filter(
    (other) => other.promised.epoch === newest.epoch && (holder === self || other.nodeId === holder),
  );
  const fit = givers.filter(({ last }) => comparePositions(last, log.last) <= 0);
  if (fit.length > 0) return { kind: "ask", epoch, whom: fit };
  const ahead = givers[0];
  if (ahead) {
    const detail = `node ${ahead.nodeId} at ${ahead.address}, which has the vote, has records up to ${show(ahead.last)}, this node up to ${show(log.last)}`;
    return { kind: "giveUp", code: "behind", detail };
  }
  const there = others.find(({ nodeId }) => nodeId === holder);
  const missing = [...survey.answers].filter(([, answer]) => typeof answer === "string");
  const detail = there
    ? `the vote went to node ${there.nodeId} at ${there.address} with epoch ${newest.epoch}, which has not used it yet; promote that node`
    : `the vote went to node ${holder ?? "(unknown)"} with epoch ${newest.epoch}, and that node was not found: ${missing.map(([address]) => problemAt(survey, address)).join("; ") || "nobody else answered"}`;
  return { kind: "giveUp", code: "no_majority", detail };
}

/** A node without a record that is to be master founds a cluster, or finds that there is one. */
function judgeFounding(state: CoreState, role: CandidateRole, survey: Survey): Verdict {
  const { self, clusterId, promised } = state;
  const { founders, address: own } = survey.bid;
  const refuse = (detail: string): Verdict => ({ kind: "giveUp", code: "refused", detail });
  if (role.forced) return refuse("this node has no records, and there is nothing that force could keep");
  if (founders.length === 0) {
    // Whoever is to follow another node, or has promised to, has not got the one vote.
    if (role.cause !== "start" || (promised.candidate ?? self) !== self)
      return refuse("this node has no records, and is not the first of its cluster");
    return { kind: "found", epoch: toEpoch(promised.epoch + 1), founders: undefined };
  }
  const wait = (detail: string): Verdict => ({ kind: "giveUp", code: "no_majority", detail });
  if (!founders.includes(own)) {
    return wait(`this node's address ${own} is not among those of cluster.nodes (${founders.join(", ")})`);
  }
  const voters: Voter[] = [];
  let first: string | undefined;
  let highest = promised.epoch;
  for (const address of founders) {
    if (address === own) {
      voters.push({ nodeId: self, address });
      first ??= address;
      continue;
    }
    const answer = survey.answers.get(address);
    if (answer === undefined || typeof answer === "string") return wait(problemAt(survey, address));
    if (answer.clusterId !== undefined && clusterId === undefined) {
      const detail = `node ${answer.nodeId} at ${address} belongs to cluster ${answer.clusterId} already`;
      return { kind: "yield", detail, masterAddress: answer.masterAddress };
    }
    if (answer.clusterId !== undefined && answer.clusterId !== clusterId) {
      return wait(
        `node ${answer.nodeId} at ${address} belongs to cluster ${answer.clusterId}, this node to ${clusterId}; empty one of the directories`,
      );
    }
    if (answer.last.seq > 0) {
      const detail = `node ${answer.nodeId} at ${address} has records of this cluster, and this node has none`;
      return { kind: "yield", detail, masterAddress: answer.masterAddress };
    }
    if (voters.some(({ nodeId }) => nodeId === answer.nodeId) || answer.nodeId === self) {
      return wait(`node ${answer.nodeId} answers at ${address} and elsewhere; was its directory copied?`);
    }
    voters.push({ nodeId: answer.nodeId, address });
    if (answer.founds) first ??= address;
    highest = toEpoch(Math.max(highest, answer.promised.epoch));
  }
  // Who has begun to found goes on; else the first in the list that would.
  if (clusterId === undefined && first !== own) return wait(`the node at ${first} founds the cluster`);
  return { kind: "found", epoch: toEpoch(highest + 1), founders: voters };
}

/** The nodes of this cluster that have answered, each once. A voter may not know yet that it is a part of it. */
function membersAmong({ self, clusterId, log }: CoreState, { answers }: Survey): Answered[] {
  const byId = new Map<NodeId, Answered>();
  for (const [address, answer] of answers) {
    if (typeof answer === "string" || answer.nodeId === self) continue;
    const isNew = answer.clusterId === undefined && isVoter(log.electorate, answer.nodeId);
    if (!isNew && answer.clusterId !== clusterId) continue;
    byId.set(answer.nodeId, { ...answer, address });
  }
  return [...byId.values()];
}

function highestEpoch({ promised, log }: CoreState, others: readonly SurveyReply[]): Epoch {
  const seen = others.flatMap((other) => [other.promised.epoch, other.last.epoch]);
  return toEpoch(Math.max(promised.epoch, log.last.epoch, ...seen));
}

function problemAt({ answers }: Survey, address: string, expected?: NodeId): string {
  const answer = answers.get(address);
  if (answer === undefined) return `no answer from ${address}`;
  // Such words name the address.
  if (typeof answer === "string") return answer;
  const other = expected === undefined ? "" : `, and not node ${expected}`;
  return `node ${answer.nodeId} of cluster ${answer.clusterId ?? "(none)"} answers at ${address}${other}`;
}

export const show = ({ epoch, seq }: Position): string => `epoch ${epoch}, seq ${seq}`;
