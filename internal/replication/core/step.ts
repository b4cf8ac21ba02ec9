/**
 * The protocol: what a node does about what happens. Pure and synchronous; `state` is changed in place. Production drives
 * it with a real store, network and clock, tests and the simulator with their own.
 */
import { assert } from "../../base/assert.js";
import type { Effect } from "./effect.js";
import type { Event, EventOf } from "./event.js";
import { MasterStep } from "./master.js";
import { dueAtMs } from "./progress.js";
import { replicaDueAtMs, ReplicaStep } from "./replica.js";
import { type CoreState, envelope, type IdleRole, type MasterRole } from "./state.js";

/** Takes in one event and tells what is to be done about it, in this order. */
export function step(state: CoreState, event: Event): Effect[] {
  const out: Effect[] = [];
  const { role } = state;
  switch (event.kind) {
    case "begin":
      begin(state, event, out);
      break;
    case "log": {
      const before = state.log;
      state.log = event.log;
      if (role.kind === "master") new MasterStep(state, role, out, event.nowMs).logChanged(before);
      else if (role.kind === "replica") new ReplicaStep(state, role, out, event.nowMs).logChanged();
      break;
    }
    case "shutdown":
      if (role.kind === "master") new MasterStep(state, role, out, event.nowMs).end();
      else if (role.kind === "replica") new ReplicaStep(state, role, out, event.nowMs).end(event.reason);
      state.role = { kind: "idle", why: event.reason };
      break;
    default:
      if (role.kind === "replica") {
        stepReplica(new ReplicaStep(state, role, out, event.nowMs), event);
      } else {
        // What is left over from a role that has ended says nothing any more, but whoever knocks is told.
        if (event.kind === "pushed") turnAway(state, role, event, out);
        if (role.kind === "master") stepMaster(new MasterStep(state, role, out, event.nowMs), event);
      }
  }
  return out;
}

/** When a `flush` is due although nothing happens, in monotonic milliseconds; Infinity: never. */
export function nextDueMs({ role }: CoreState): number {
  if (role.kind === "replica") return replicaDueAtMs(role);
  if (role.kind === "idle") return Infinity;
  let due = Infinity;
  for (const peer of role.peers.values()) due = Math.min(due, dueAtMs(peer));
  return due;
}

function begin(state: CoreState, event: EventOf<"begin">, out: Effect[]): void {
  const { clusterId, epoch, epochId, firstSeq, address, masterTimeOffsetMs } = event;
  assert(state.role.kind === "idle", `a mastership begins on a node that is ${state.role.kind}`);
  assert(state.clusterId === undefined || state.clusterId === clusterId, "a node never changes its cluster");
  assert(epoch > state.promised.epoch, `epoch ${epoch} does not follow the promised ${state.promised.epoch}`);
  state.clusterId = clusterId;
  state.promised = { epoch, candidate: state.self, epochId };
  const role: MasterRole = {
    kind: "master",
    epoch,
    epochId,
    firstSeq,
    address,
    masterTimeOffsetMs,
    peers: new Map(),
    byConnection: new Map(),
    removed: new Set(),
  };
  state.role = role;
  // The disk may have been quick.
  new MasterStep(state, role, out, event.nowMs).logChanged(state.log);
}

/** Another master wants to push to this node, which follows nobody. */
function turnAway(state: CoreState, role: IdleRole | MasterRole, event: EventOf<"pushed">, out: Effect[]): void {
  const { session, message } = event;
  const foreign = message.clusterId !== state.clusterId;
  const detail = foreign
    ? `this node belongs to cluster ${state.clusterId ?? "(none)"}, the master to ${message.clusterId ?? "(none)"}`
    : role.kind === "master"
      ? `this node is a master itself, of epoch ${role.epoch}`
      : role.why;
  const reason = foreign ? "foreign_cluster" : "not_a_replica";
  out.push({ kind: "reply", session, message: { kind: "reject", ...envelope(state), reason, detail } });
  out.push({ kind: "closeSession", session, reason: detail });
}

function stepMaster(master: MasterStep, event: Event): void {
  switch (event.kind) {
    case "flush":
      return master.flush();
    case "peers":
      return master.peersChanged(event);
    case "retry":
      return master.retry(event);
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
    default:
  }
}
