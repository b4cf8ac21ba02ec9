/**
 * The protocol: what a node does about what happens. Pure and synchronous; `state` is changed in place. Production drives
 * it with a real store, network and clock, tests and the simulator with their own.
 */
import { unreachable } from "../../base/assert.js";
import { beginCampaign, isCommitted } from "./candidacy.js";
import { candidateDueAtMs, CandidateStep } from "./candidate.js";
import type { Effect } from "./effect.js";
import type { Event, EventOf } from "./event.js";
import { masterDueAtMs, MasterStep } from "./master.js";
import { type Hello, PROTOCOL_VERSION, type RejectReason } from "./message.js";
import { replicaDueAtMs, type ReplicaRole, ReplicaStep } from "./replica.js";
import { becomeReplica, resign } from "./resign.js";
import { type CoreState, envelope } from "./state.js";
import { isPromised, objectionTo, promiseReply } from "./voting.js";

/** Takes in one event and tells what is to be done about it, in this order. */
export function step(state: CoreState, event: Event): Effect[] {
  const out: Effect[] = [];
  const { role } = state;
  switch (event.kind) {
    case "log": {
      const before = state.log;
      state.log = event.log;
      if (role.kind === "master") new MasterStep(state, role, out, event.nowMs).logChanged(before);
      else if (role.kind === "candidate") new CandidateStep(state, role, out, event.nowMs).logChanged();
      else if (role.kind === "replica") new ReplicaStep(state, role, out, event.nowMs).logChanged();
      break;
    }
    case "shutdown":
      endRole(state, out, event.nowMs, event.reason);
      state.role = { kind: "idle", why: event.reason, canFollow: false };
      break;
    case "campaign":
      campaign(state, event, out);
      break;
    case "promiseAsked":
      askForPromise(state, event, out);
      break;
    default:
      if (role.kind === "replica") stepReplica(new ReplicaStep(state, role, out, event.nowMs), event);
      else if (event.kind === "pushed") knock(state, event, out);
      else if (role.kind === "master") stepMaster(new MasterStep(state, role, out, event.nowMs), event);
      else if (role.kind === "candidate") stepCandidate(new CandidateStep(state, role, out, event.nowMs), event);
  }
  return out;
}

/** When a `flush` is due although nothing happens, in monotonic milliseconds; Infinity: never. */
export function nextDueMs(state: CoreState): number {
  const { role } = state;
  switch (role.kind) {
    case "master":
      return masterDueAtMs(state, role);
    case "candidate":
      return candidateDueAtMs(role);
    case "replica":
      return replicaDueAtMs(role);
    case "idle":
      return Infinity;
    default:
      return unreachable(role);
  }
}

/** Lets go of everybody. */
function endRole(state: CoreState, out: Effect[], nowMs: number, reason: string): void {
  const { role } = state;
  if (role.kind === "master") new MasterStep(state, role, out, nowMs).end();
  else if (role.kind === "candidate") new CandidateStep(state, role, out, nowMs).end();
  else if (role.kind === "replica") new ReplicaStep(state, role, out, nowMs).end(reason);
}

// ---- campaigns and promises ----------------------------------------------------------------------------------------------

function campaign(state: CoreState, event: EventOf<"campaign">, out: Effect[]): void {
  const { role } = state;
  const { cause, forced, nowMs } = event;
  switch (role.kind) {
    case "replica":
      return new ReplicaStep(state, role, out, nowMs).campaign({ cause, forced });
    case "candidate": {
      // What is decided is done first; whoever asked hears of that.
      if (isCommitted(role)) return;
      new CandidateStep(state, role, out, nowMs).end();
      return beginCampaign(state, out, { cause, forced, masterOnDisk: role.masterOnDisk });
    }
    case "master":
      // Nothing is to be gained for a master but a quorum that it can reach.
      if (!forced) return;
      new MasterStep(state, role, out, nowMs).end();
      out.push({
        kind: "stepDown",
        detail: "an operator wants a mastership without a majority",
        masterAddress: undefined,
        conflict: false,
      });
      return beginCampaign(state, out, { cause, forced, masterOnDisk: true });
    case "idle":
      if (role.canFollow || cause === "start") return beginCampaign(state, out, { cause, forced, masterOnDisk: true });
      return;
    default:
      return unreachable(role);
  }
}

function askForPromise(state: CoreState, event: EventOf<"promiseAsked">, out: Effect[]): void {
  const { ask, request, unclean, nowMs } = event;
  const answer = (objection?: ReturnType<typeof objectionTo>): void => {
    out.push({ kind: "answerPromise", ask, reply: promiseReply(state, unclean, objection) });
  };
  const objection = isPromised(state, request) ? undefined : (busyness(state) ?? objectionTo(state, request));
  if (objection || isPromised(state, request)) return answer(objection);
  const role = toGrant(state, event, out);
  new ReplicaStep(state, role, out, nowMs).grant({ ask, request, unclean });
}

/** Why this node cannot judge at the moment: what it has promised last, or has in its log, is just changing. */
function busyness({ role }: CoreState): { readonly refusal: "busy"; readonly detail: string } | undefined {
  const busy = (detail: string): { refusal: "busy"; detail: string } => ({ refusal: "busy", detail });
  switch (role.kind) {
    case "replica":
      return role.work && busy(`the node is busy (${role.work.what.kind}); ask again`);
    case "candidate":
      return isCommitted(role) ? busy(`the node is about to become master itself (${role.phase.kind})`) : undefined;
    case "idle":
      return role.canFollow ? undefined : busy(role.why);
    case "master":
      return undefined;
    default:
      return unreachable(role);
  }
}

/** The promise will be given: whatever this node was, it is a replica from here on. The promise's write says so too. */
function toGrant(state: CoreState, { request, nowMs }: EventOf<"promiseAsked">, out: Effect[]): ReplicaRole {
  const { role } = state;
  const detail = `node ${request.candidate} asks for epoch ${request.epoch}`;
  switch (role.kind) {
    case "replica":
      return role;
    case "candidate":
      return new CandidateStep(state, role, out, nowMs).yieldTo(detail, {
        durably: true,
        masterAddress: request.address,
      });
    case "master":
      new MasterStep(state, role, out, nowMs).end();
      return becomeReplica(state, out, detail, request.address);
    case "idle":
      return becomeReplica(state, out, detail, request.address);
    default:
      return unreachable(role);
  }
}

// ---- masters that want to push -------------------------------------------------------------------------------------------

/** Another master wants to push to this node, which follows nobody. */
function knock(state: CoreState, event: EventOf<"pushed">, out: Effect[]): void {
  const { session, message } = event;
  const heard = message.kind === "hello" && isOurs(state, message) ? challenge(state, message, event, out) : undefined;
  if (heard === "hear") {
    if (state.role.kind === "replica") new ReplicaStep(state, state.role, out, event.nowMs).pushed(event);
    return;
  }
  const { reason, detail } = heard ?? turnedAway(state, event);
  out.push({ kind: "reply", session, message: { kind: "reject", ...envelope(state), reason, detail } });
  out.push({ kind: "closeSession", session, reason: detail });
}

/** Whether what the Hello says of epochs says something about this node's own. */
function isOurs({ self, clusterId, role }: CoreState, hello: Hello): boolean {
  const isFree = clusterId === undefined && role.kind === "candidate";
  return (
    hello.protocolVersion === PROTOCOL_VERSION &&
    hello.sender !== self &&
    hello.clusterId !== undefined &&
    (hello.clusterId === clusterId || isFree)
  );
}

function challenge(
  state: CoreState,
  hello: Hello,
  event: EventOf<"pushed">,
  out: Effect[],
): ReturnType<MasterStep["challenged"]> | undefined {
  const { role } = state;
  switch (role.kind) {
    case "master":
      return new MasterStep(state, role, out, event.nowMs).challenged(hello);
    case "candidate": {
      const candidate = new CandidateStep(state, role, out, event.nowMs);
      if (candidate.contradicts(hello)) {
        const own = `this node's log has epoch ${hello.epoch} under another id than ${hello.epochId}`;
        return { reason: "epoch_conflict", detail: own };
      }
      if (!candidate.yieldsTo(hello)) return undefined;
      const detail = `node ${hello.sender} is master of epoch ${hello.epoch}`;
      candidate.yieldTo(detail, { durably: false, masterAddress: hello.masterAddress });
      return "hear";
    }
    case "idle": {
      if (!role.canFollow) return undefined;
      const { epoch, epochId } = state.promised;
      if (hello.epoch < epoch) return { reason: "stale_epoch", detail: role.why };
      // The other one must not go on either, and may not know yet.
      if (hello.epoch === epoch) {
        return { reason: hello.epochId === epochId ? "not_a_replica" : "epoch_conflict", detail: role.why };
      }
      resign(state, out, `node ${hello.sender} is master of epoch ${hello.epoch}`, hello.masterAddress);
      return "hear";
    }
    case "replica":
      return "hear";
    default:
      return unreachable(role);
  }
}

function turnedAway(state: CoreState, { message }: EventOf<"pushed">): { reason: RejectReason; detail: string } {
  const { clusterId, role } = state;
  if (message.clusterId !== clusterId) {
    const detail = `this node belongs to cluster ${clusterId ?? "(none)"}, the master to ${message.clusterId ?? "(none)"}`;
    return { reason: "foreign_cluster", detail };
  }
  switch (role.kind) {
    case "master":
      return { reason: "not_a_replica", detail: `this node is a master itself, of epoch ${role.epoch}` };
    case "candidate":
      return { reason: "not_a_replica", detail: "this node asks for a mastership of its own" };
    case "idle":
      return { reason: "not_a_replica", detail: role.why };
    case "replica":
      return { reason: "not_a_replica", detail: "" };
    default:
      return unreachable(role);
  }
}

// ---- each role's own -----------------------------------------------------------------------------------------------------

function stepMaster(master: MasterStep, event: Event): void {
  switch (event.kind) {
    case "flush":
      return master.flush();
    case "peers":
      return master.peersChanged(event);
    case "retry":
      return master.retry(event);
    case "awaited":
      return master.awaited(event);
    case "confirm":
      return master.confirm(event);
    case "handOver":
      return master.handOver(event);
    case "opened":
      return master.opened(event);
    case "answered":
      return master.answered(event);
    case "lost":
      return master.lost(event);
    case "marked":
      return master.marked(event);
    case "tail":
      return master.tailRead(event);
    case "read":
      return master.diskRead(event);
    case "transferOpened":
      return master.transferOpened(event);
    case "transferRead":
      return master.transferRead(event);
    case "unreadable":
      return master.unreadable(event);
    case "dropped":
      return master.dropped(event);
    default:
  }
}

function stepCandidate(candidate: CandidateStep, event: Event): void {
  switch (event.kind) {
    case "flush":
      return candidate.flush();
    case "prepared":
      return candidate.prepared(event);
    case "surveyed":
      return candidate.surveyed(event);
    case "promised":
      return candidate.promised(event);
    case "finished":
      return candidate.finished(event);
    case "begun":
      return candidate.begun(event);
    case "unbegun":
      return candidate.unbegun(event);
    default:
  }
}

function stepReplica(replica: ReplicaStep, event: Event): void {
  switch (event.kind) {
    case "flush":
      return replica.flush();
    case "accepted":
      return replica.accepted(event);
    case "pushed":
      return replica.pushed(event);
    case "left":
      return replica.left(event);
    case "finished":
      return replica.finished(event);
    case "appended":
      return replica.appended(event);
    case "unappended":
      return replica.unappended(event);
    case "transferWritten":
      return replica.transferWritten(event);
    case "transferUnwritten":
      return replica.transferUnwritten(event);
    case "dropped":
      return replica.dropped(event);
    case "stateDiffers":
      return replica.differs(event);
    default:
  }
}
