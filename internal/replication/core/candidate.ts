/** A candidate's side: whom to survey, whom to ask, whether that is enough, and what begins then. */
import { assert, must, unreachable } from "../../base/assert.js";
import type { NodeId } from "../../base/ids.js";
import { comparePositions, epoch as toEpoch, type Epoch, ORIGIN, type Position } from "../../base/position.js";
import type { PromiseReply } from "./ballot.js";
import {
  type Ask,
  type Asking,
  type Bid,
  type CandidateRole,
  isCommitted,
  type Surveying,
  type Won,
} from "./candidacy.js";
import type { Effect } from "./effect.js";
import { isVoter, majorityOf, type Voter } from "./electorate.js";
import type { EventOf } from "./event.js";
import { MasterStep } from "./master.js";
import { newMasterRole } from "./master-role.js";
import type { Hello } from "./message.js";
import { newReplicaRole, type ReplicaRole } from "./replica.js";
import { becomeReplica, resign } from "./resign.js";
import { type CoreState, takeChance, takeNumber } from "./state.js";
import { type Asked, type CampaignFailure, isEnough, judgeSurvey, wasForcedAfter } from "./survey.js";
import { ASK_AGAIN_MS, ASKING_MS, candidacyPauseMs, SURVEY_MS } from "./timing.js";

interface Tally {
  readonly voters: number;
  /** A majority of them. */
  readonly needed: number;
  /** Voters that have promised, and have lost nothing. */
  readonly clean: number;
  readonly isClean: boolean;
  /** All voters have promised. */
  readonly isWhole: boolean;
  /** The promises may yet suffice. */
  readonly isPossible: boolean;
}

/** When something is due for the candidate although nothing happens. */
export function candidateDueAtMs({ phase }: CandidateRole): number {
  switch (phase.kind) {
    case "surveying":
      return phase.deadlineMs;
    case "asking": {
      const asks = phase.asks.filter(isOpen).map((ask) => (ask.calling === undefined ? ask.dueAtMs : Infinity));
      return Math.min(phase.deadlineMs, ...asks);
    }
    case "waiting":
      return phase.dueAtMs;
    case "preparing":
    case "founding":
    case "assuming":
    case "beginning":
      return Infinity;
    default:
      return unreachable(phase);
  }
}

/** One step of a candidate: its state, and where the step's effects go. */
export class CandidateStep {
  readonly #state: CoreState;
  readonly #role: CandidateRole;
  readonly #out: Effect[];
  readonly #nowMs: number;

  constructor(state: CoreState, role: CandidateRole, out: Effect[], nowMs: number) {
    this.#state = state;
    this.#role = role;
    this.#out = out;
    this.#nowMs = nowMs;
  }

  prepared({ campaign, bid }: EventOf<"prepared">): void {
    if (campaign !== this.#role.campaign || this.#role.phase.kind !== "preparing") return;
    const addresses =
      this.#state.log.last.seq === 0 ? bid.founders.filter((other) => other !== bid.address) : bid.addresses;
    const open = new Set(addresses);
    this.#role.phase = { kind: "surveying", bid, open, answers: new Map(), deadlineMs: this.#nowMs + SURVEY_MS };
    for (const address of open) this.#out.push({ kind: "survey", campaign, address });
    this.#judge();
  }

  surveyed({ campaign, address, answer }: EventOf<"surveyed">): void {
    const { phase } = this.#role;
    if (campaign !== this.#role.campaign || phase.kind !== "surveying" || !phase.open.delete(address)) return;
    phase.answers.set(address, answer);
    this.#judge();
  }

  /** What is appended must be kept before anybody is told of it. */
  logChanged(): void {
    this.#judge();
  }

  promised({ campaign, address, epoch, answer }: EventOf<"promised">): void {
    const { phase } = this.#role;
    if (campaign !== this.#role.campaign || phase.kind !== "asking") return;
    const ask = phase.asks.find((ask) => ask.address === address);
    if (ask?.calling !== epoch) return;
    ask.calling = undefined;
    if (typeof answer === "string") {
      ask.detail = answer;
      ask.dueAtMs = this.#nowMs + ASK_AGAIN_MS;
    } else this.#answered(phase, ask, answer);
    this.#count(phase);
  }

  finished({ operation, outcome }: EventOf<"finished">): void {
    const { phase } = this.#role;
    assert(
      (phase.kind === "founding" || phase.kind === "assuming") && phase.operation === operation,
      `operation ${operation} has ended, but the candidate is ${phase.kind}`,
    );
    if (outcome.kind === "failed") {
      return this.#fail("refused", `this node's own promise could not be written: ${outcome.detail}`);
    }
    if (phase.kind === "founding") {
      assert(outcome.kind === "founded", "a cluster that is founded has an id");
      this.#state.clusterId = outcome.clusterId;
      return this.#ask(phase.bid, phase.epoch, phase.founders, othersOf(phase.founders, this.#state.self));
    }
    const { won } = phase;
    this.#state.promised = won.promise;
    this.#role.masterOnDisk = true;
    this.#role.phase = { kind: "beginning", won };
    this.#out.push({ kind: "beginEpoch", won });
  }

  begun({ firstSeq, masterTimeOffsetMs }: EventOf<"begun">): void {
    const { phase } = this.#role;
    assert(phase.kind === "beginning", `an epoch has begun, but the candidate is ${phase.kind}`);
    const { promise, address } = phase.won;
    const { epoch, epochId } = promise;
    const role = newMasterRole({ epoch, epochId, firstSeq, address, masterTimeOffsetMs });
    this.#state.role = role;
    this.#out.push({ kind: "begun", won: phase.won, firstSeq });
    // The disk may have been quick.
    new MasterStep(this.#state, role, this.#out, this.#nowMs).logChanged(this.#state.log);
  }

  unbegun({ detail }: EventOf<"unbegun">): void {
    assert(this.#role.phase.kind === "beginning", "an epoch that was to begin has not");
    this.#fail("refused", detail);
  }

  flush(): void {
    const { phase } = this.#role;
    switch (phase.kind) {
      case "surveying":
        return this.#judge();
      case "asking":
        for (const ask of phase.asks) {
          if (isOpen(ask) && ask.calling === undefined && ask.dueAtMs <= this.#nowMs) this.#call(phase, ask);
        }
        return this.#count(phase);
      case "waiting":
        if (phase.dueAtMs > this.#nowMs) return;
        this.#role.campaign = takeNumber(this.#state);
        this.#role.phase = { kind: "preparing" };
        this.#out.push({ kind: "prepare", campaign: this.#role.campaign });
        return;
      default:
    }
  }

  /**
   * Another node is master, or is to be: this one becomes a replica. `durably`: another write is about to say so on the
   * disk.
   */
  yieldTo(detail: string, options: { durably: boolean; masterAddress: string | undefined }): ReplicaRole {
    assert(!isCommitted(this.#role), "what was promised last is being done");
    this.#endCalls();
    this.#out.push({ kind: "campaignFailed", code: "no_majority", detail, again: false });
    if (!this.#role.masterOnDisk) {
      const role = newReplicaRole();
      this.#state.role = role;
      return role;
    }
    const become = options.durably ? becomeReplica : resign;
    return become(this.#state, this.#out, detail, options.masterAddress);
  }

  /** The candidacy ends with the process, or with another one. */
  end(): void {
    this.#endCalls();
  }

  /** Whether another master's Hello shows that this candidacy is over. */
  yieldsTo(hello: Hello): boolean {
    const { phase } = this.#role;
    const { clusterId, promised, log } = this.#state;
    if (isCommitted(this.#role)) return false;
    if (clusterId === undefined) return true;
    const wanted = phase.kind === "asking" ? phase.epoch : 0;
    if (hello.epoch < wanted) return false;
    // Of an epoch that this node has promised to itself, and then did not begin, another node may be master.
    const isOther = hello.epoch === promised.epoch && hello.epochId !== promised.epochId;
    return hello.epoch > promised.epoch || (isOther && log.history.last?.epoch !== hello.epoch);
  }

  /** Whether the other master's epoch is one that this node has begun itself. */
  contradicts(hello: Hello): boolean {
    return this.#state.log.history.starts.some(
      ({ epoch, epochId }) => epoch === hello.epoch && epochId !== hello.epochId,
    );
  }

  // ---- the survey ------------------------------------------------------------------------------------------------------

  /** Goes on once everybody has answered, or the time for it is over, and this node keeps all that it has. */
  #judge(): void {
    const state = this.#state;
    const { phase } = this.#role;
    if (phase.kind !== "surveying") return;
    const isLate = phase.deadlineMs <= this.#nowMs;
    if (state.log.keptSeq < state.log.last.seq) {
      if (isLate)
        this.#fail(
          "refused",
          `the log of this node ends at seq ${state.log.last.seq}, and is kept up to ${state.log.keptSeq} only`,
        );
      return;
    }
    const isOver = phase.open.size === 0;
    const isHurried = this.#role.cause === "takeOver" && isEnough(state, this.#role, phase);
    if (!isOver && !isLate && !isHurried) return;
    const verdict = judgeSurvey(state, this.#role, phase);
    switch (verdict.kind) {
      case "yield":
        this.yieldTo(verdict.detail, { durably: false, masterAddress: verdict.masterAddress });
        return;
      case "giveUp":
        return this.#fail(verdict.code, verdict.detail);
      case "found":
        if (state.clusterId !== undefined) {
          return this.#ask(phase.bid, verdict.epoch, verdict.founders, othersOf(verdict.founders, state.self));
        }
        this.#found(phase.bid, verdict.epoch, verdict.founders);
        return;
      case "ask":
        return this.#ask(phase.bid, verdict.epoch, undefined, verdict.whom, furthestOf(phase));
      default:
        unreachable(verdict);
    }
  }

  #found(bid: Bid, epoch: Epoch, founders: readonly Voter[] | undefined): void {
    const operation = takeNumber(this.#state);
    this.#role.phase = { kind: "founding", operation, bid, founders, epoch };
    this.#out.push({ kind: "found", operation });
  }

  // ---- asking ----------------------------------------------------------------------------------------------------------

  #ask(
    bid: Bid,
    epoch: Epoch,
    founders: readonly Voter[] | undefined,
    whom: readonly Asked[],
    furthest: Position = ORIGIN,
  ): void {
    const asks = whom.map(({ address, nodeId }) => newAsk(address, nodeId, this.#nowMs));
    const phase: Asking = {
      kind: "asking",
      bid,
      asks,
      founders,
      epoch,
      deadlineMs: this.#nowMs + ASKING_MS,
      furthest,
    };
    this.#role.phase = phase;
    for (const ask of asks) this.#call(phase, ask);
    this.#count(phase);
  }

  #call({ bid, epoch }: Asking, ask: Ask): void {
    const { clusterId, self, log, promised } = this.#state;
    assert(log.keptSeq === log.last.seq, "what a candidate tells of, it keeps");
    assert(promised.epoch < epoch, `epoch ${epoch} is asked for, and ${promised.epoch} was promised`);
    ask.calling = epoch;
    this.#out.push({
      kind: "requestPromise",
      campaign: this.#role.campaign,
      address: ask.address,
      request: {
        clusterId: must(clusterId, "a candidate has a cluster"),
        candidate: self,
        address: bid.address,
        epoch,
        epochId: bid.epochId,
        last: { epoch: log.last.epoch, seq: log.last.seq },
        forced: this.#role.forced,
        promisedEpoch: promised.epoch,
        ...(ask.nodeId !== undefined && { voter: ask.nodeId }),
      },
    });
  }

  #answered(phase: Asking, ask: Ask, reply: PromiseReply): void {
    const { refusal, nodeId, detail, unclean, promisedEpoch, last } = reply;
    if (comparePositions(last, phase.furthest) > 0) phase.furthest = last;
    ask.detail = detail;
    if (nodeId !== (ask.nodeId ?? nodeId)) {
      ask.refused = { behind: false };
      ask.detail = `node ${nodeId} answers at ${ask.address}`;
      return;
    }
    if (refusal === "busy") {
      ask.dueAtMs = this.#nowMs + ASK_AGAIN_MS;
      return;
    }
    if (refusal === "stale_epoch" && promisedEpoch >= phase.epoch) return this.#outbid(phase, promisedEpoch);
    if (refusal === "behind" && phase.founders !== undefined) {
      // Whoever has records is of a cluster that was founded already, perhaps by a node that has lost its disk since.
      return this.#fail("behind", `${ask.address}: ${detail}; the cluster has been founded already`);
    }
    if (refusal !== undefined) {
      ask.refused = { behind: refusal === "behind" };
      return;
    }
    // Only a log tells whether the one vote was this node's to give.
    if (this.#isOneVote(phase) && last.seq === 0 && !this.#role.forced) {
      ask.refused = { behind: false };
      ask.detail = `node ${nodeId} has no records, and cannot have the vote`;
      return;
    }
    ask.granted = { nodeId, unclean };
  }

  /** Somebody has promised more than was known: everybody is asked for a higher epoch. */
  #outbid(phase: Asking, promised: Epoch): void {
    if (!this.#role.forced && wasForcedAfter(this.#state.log.last.epoch, promised)) {
      return this.#fail("behind", `epoch ${promised} was forced meanwhile; let this node follow that mastership first`);
    }
    phase.epoch = toEpoch(promised + 1);
    phase.asks = phase.asks.map(({ address, nodeId }) => newAsk(address, nodeId, this.#nowMs));
    for (const ask of phase.asks) this.#call(phase, ask);
  }

  #isOneVote({ founders }: Asking): boolean {
    return founders === undefined && this.#state.log.electorate.mode === "master";
  }

  /** Whether the promises are enough by now, or cannot become so. */
  #count(phase: Asking): void {
    if (this.#state.role !== this.#role || this.#role.phase !== phase) return;
    const open = phase.asks.filter(isOpen);
    const isLate = phase.deadlineMs <= this.#nowMs;
    if (this.#role.forced) {
      if (open.length === 0 || isLate) this.#winByForce(phase);
      return;
    }
    const tally = this.#tally(phase);
    const release = this.#releaseOf(phase);
    if (release === "given" && (tally.isClean || tally.isWhole)) return this.#win(phase, !tally.isClean);
    if (release !== "refused" && tally.isPossible && open.length > 0 && !isLate) return;
    const behind = phase.asks.some(({ refused }) => refused?.behind);
    const reasons = phase.asks
      .filter(({ granted }) => granted?.unclean ?? true)
      .map(
        ({ address, detail, granted }) => `${address}: ${granted ? "may have lost records" : detail || "no answer"}`,
      );
    const detail = `epoch ${phase.epoch} needs the promises of ${tally.needed} of ${tally.voters} voters, and has ${tally.clean}: ${reasons.join("; ")}`;
    this.#fail(behind ? "behind" : "no_majority", detail);
  }

  /** Whether the master that hands over, if there is one, has given up what it was. */
  #releaseOf({ asks }: Asking): "given" | "open" | "refused" {
    const { handedOverBy } = this.#role;
    if (handedOverBy === undefined) return "given";
    if (asks.some(({ granted }) => granted?.nodeId === handedOverBy)) return "given";
    return asks.some((ask) => ask.nodeId === handedOverBy && isOpen(ask)) ? "open" : "refused";
  }

  #tally(phase: Asking): Tally {
    const grants = phase.asks.flatMap(({ granted }) => granted ?? []);
    const open = phase.asks.filter(isOpen).length;
    const own = { nodeId: this.#state.self, unclean: phase.bid.unclean };
    if (this.#isOneVote(phase)) {
      // Nobody need be asked where the vote is this node's already.
      const clean = phase.asks.length === 0 ? 1 : grants.length;
      return { voters: 1, needed: 1, clean, isClean: clean > 0, isWhole: false, isPossible: clean + open > 0 };
    }
    const voters = this.#votersOf(phase);
    const votes = [own, ...grants].filter(({ nodeId }) => voters.some((voter) => voter.nodeId === nodeId));
    const all = new Set(votes.map(({ nodeId }) => nodeId)).size;
    const clean = new Set(votes.filter(({ unclean }) => !unclean).map(({ nodeId }) => nodeId)).size;
    const needed = majorityOf(voters.length);
    return {
      voters: voters.length,
      needed,
      clean,
      isClean: clean >= needed,
      // Voters that may have lost records count only where nobody else can have them.
      isWhole: all === voters.length,
      isPossible: clean + open >= needed || all + open === voters.length,
    };
  }

  #votersOf({ founders }: Asking): readonly Voter[] {
    const { electorate } = this.#state.log;
    if (founders) return founders;
    return electorate.mode === "listed" ? electorate.voters : [{ nodeId: this.#state.self, address: "" }];
  }

  // ---- the end ---------------------------------------------------------------------------------------------------------

  #win(phase: Asking, isUnclean: boolean): void {
    // It was forced before, by this node, and its record was lost or never came to be: it is above all that was not heard of.
    const isLeap = wasForcedAfter(this.#state.log.last.epoch, phase.epoch);
    this.#assume(phase, { forced: isUnclean || isLeap, stripped: [], unreached: [], knownLostRecords: 0 });
  }

  #winByForce(phase: Asking): void {
    const { self, log } = this.#state;
    const granted = new Set(phase.asks.flatMap(({ granted }) => granted?.nodeId ?? []));
    const { mode, voters } = log.electorate;
    const stripped = voters.map(({ nodeId }) => nodeId).filter((id) => id !== self && !granted.has(id));
    const furthestSeq = Math.max(
      phase.furthest.epoch >= log.last.epoch ? phase.furthest.seq : 0,
      this.#state.heardCommitSeq,
    );
    this.#assume(phase, {
      forced: true,
      stripped: mode === "listed" ? stripped : [],
      unreached: phase.asks.filter(({ granted }) => !granted).map(({ address }) => address),
      knownLostRecords: Math.max(0, furthestSeq - log.last.seq),
    });
  }

  /** The others have promised. This node's own promise comes last: until here it could still follow another candidate. */
  #assume(
    { epoch, bid, founders }: Asking,
    rest: Pick<Won, "forced" | "stripped" | "unreached" | "knownLostRecords">,
  ): void {
    const { self, promised, log } = this.#state;
    assert(promised.epoch < epoch, `epoch ${epoch} is won, and ${promised.epoch} was promised meanwhile`);
    assert(
      this.#role.forced || log.electorate.mode === "master" || isVoter(log.electorate, self),
      "only a voter becomes master",
    );
    this.#endCalls();
    const operation = takeNumber(this.#state);
    const promise = { epoch, candidate: self, epochId: bid.epochId };
    this.#role.phase = {
      kind: "assuming",
      operation,
      won: { promise, address: bid.address, founders, ...rest },
    };
    this.#out.push({ kind: "assume", operation, promise });
  }

  #fail(code: CampaignFailure, detail: string): void {
    this.#endCalls();
    const { masterOnDisk } = this.#role;
    this.#out.push({ kind: "campaignFailed", code, detail, again: masterOnDisk });
    if (!masterOnDisk) {
      this.#state.role = newReplicaRole();
      return;
    }
    this.#role.why = detail;
    const pauseMs = candidacyPauseMs(this.#role.failures++, takeChance(this.#state));
    this.#role.phase = { kind: "waiting", dueAtMs: this.#nowMs + pauseMs };
  }

  #endCalls(): void {
    this.#out.push({ kind: "endCalls", campaign: this.#role.campaign });
  }
}

function newAsk(address: string, nodeId: NodeId | undefined, nowMs: number): Ask {
  return {
    address,
    nodeId,
    calling: undefined,
    dueAtMs: nowMs,
    granted: undefined,
    refused: undefined,
    detail: "",
  };
}

function isOpen({ granted, refused }: Ask): boolean {
  return !granted && !refused;
}

function othersOf(voters: readonly Voter[] = [], self: NodeId): readonly Voter[] {
  return voters.filter(({ nodeId }) => nodeId !== self);
}

/** The furthest place that anybody was seen to have. */
function furthestOf({ answers }: Surveying): Position {
  let furthest = ORIGIN;
  for (const answer of answers.values()) {
    if (typeof answer !== "string" && comparePositions(answer.last, furthest) > 0) furthest = answer.last;
  }
  return furthest;
}
