/** Who may have a node's promise. A promise is given once for an epoch, and outlives everything but the node's directory. */
import { comparePositions } from "../../base/position.js";
import type { PromiseRefusal, PromiseReply, PromiseRequest } from "./ballot.js";
import type { CoreState } from "./state.js";
import { show, wasForcedAfter } from "./survey.js";

export interface Objection {
  readonly refusal: PromiseRefusal;
  readonly detail: string;
}

/** Whether exactly this was promised already: the answer was lost, and is given again. */
export function isPromised({ clusterId, promised }: CoreState, request: PromiseRequest): boolean {
  return (
    clusterId === request.clusterId &&
    promised.epoch === request.epoch &&
    promised.candidate === request.candidate &&
    promised.epochId === request.epochId
  );
}

/** Why this node does not promise what it is asked for, and has not promised yet. */
export function objectionTo(state: CoreState, request: PromiseRequest): Objection | undefined {
  const { self, clusterId, promised, log, role } = state;
  // One that was listed at the founding, and has never joined, has a vote, and nothing that it could have lost.
  if (clusterId === undefined && request.last.seq > 0 && request.voter !== self) {
    return { refusal: "no_vote", detail: `node ${self} belongs to no cluster yet, and has no vote` };
  }
  if (clusterId !== undefined && request.clusterId !== clusterId) {
    const detail = `node ${self} belongs to cluster ${clusterId}, the candidate to ${request.clusterId}`;
    return { refusal: "foreign_cluster", detail };
  }
  if (request.candidate === self) {
    return { refusal: "no_vote", detail: `node ${self} and the candidate have one node id; was its directory copied?` };
  }
  const known = Math.max(promised.epoch, log.last.epoch, role.kind === "master" ? role.epoch : 0);
  if (request.epoch <= known) {
    const whom = promised.epoch === known && promised.candidate !== undefined ? ` to node ${promised.candidate}` : "";
    const detail = `node ${self} has promised epoch ${known}${whom}, and not epoch ${request.epoch}`;
    return { refusal: "stale_epoch", detail };
  }
  if (request.forced) return undefined;
  if (comparePositions(request.last, log.last) < 0) {
    const detail = `node ${self} has records up to ${show(log.last)}, the candidate up to ${show(request.last)}`;
    return { refusal: "behind", detail };
  }
  const isTheirs = promised.candidate === request.candidate && log.electorate.mode === "listed";
  if (!isTheirs && wasForcedAfter(request.last.epoch, promised.epoch)) {
    const detail = `node ${self} has promised epoch ${promised.epoch}, which was forced, and the candidate's log ends in epoch ${request.last.epoch}`;
    return { refusal: "behind", detail };
  }
  return givesVote(state, request) ? undefined : voteGone(state);
}

/**
 * Where the voters are listed every voter has its own vote, and the candidate knows whose promises count. Where there is
 * one vote, the newest promise tells where it is: with the node that has promised to itself; or on its way to the
 * candidate, whom this node has promised before and which has not taken it up. Evidence older than what the candidate
 * itself has promised is of a vote that has moved on.
 */
function givesVote({ self, promised, log }: CoreState, { candidate, promisedEpoch }: PromiseRequest): boolean {
  if (log.electorate.mode === "listed" || log.last.seq === 0) return true;
  if (promised.candidate === self) return promised.epoch >= promisedEpoch;
  return promised.candidate === candidate && promised.epoch > promisedEpoch;
}

function voteGone({ self, promised }: CoreState): Objection {
  const whom = promised.candidate === undefined ? "nobody" : `node ${promised.candidate}`;
  return {
    refusal: "no_vote",
    detail: `node ${self} has no vote: with epoch ${promised.epoch} it has promised to follow ${whom}`,
  };
}

/** The answer of this node as it is now. */
export function promiseReply(
  { self, promised, log }: CoreState,
  unclean: boolean,
  objection: Objection | undefined,
): PromiseReply {
  return {
    nodeId: self,
    ...(objection && { refusal: objection.refusal }),
    detail: objection?.detail ?? "",
    unclean,
    promisedEpoch: promised.epoch,
    last: { epoch: log.last.epoch, seq: log.last.seq },
  };
}
