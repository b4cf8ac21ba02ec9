/**
 * A planned switchover: writes pause, what is in flight settles, the other node gets all of it, and takes over. Whatever
 * goes wrong before this node has given its vote away, it goes on as master.
 */
import type { Clock } from "../base/clock.js";
import type { NodeId } from "../base/ids.js";
import type { Epoch } from "../base/position.js";
import { normalAddress } from "./address.js";
import type { CoreState } from "./core/state.js";
import { peerAt, settledMaster } from "./core/view.js";
import { deadlineOf } from "./deadline.js";
import { ReplicationError } from "./replication-error.js";
import type { Member, ReplicatedStore } from "./store-port.js";
import type { Conditions } from "./waiters.js";

/** Writes wait no longer than this for a node that does not take over. */
const PAUSE_MAX_MS = 3000;
/** Once this node has given its vote away, the other one begins within this, or does not at all. */
const BEGINNING_MAX_MS = 10_000;
/** Nobody is handed over to who lacks more than this: the rest must come within the pause. */
const LAG_RECORDS_MAX = 10_000;

/** Who has taken over. */
export interface TransferResult {
  readonly nodeId: NodeId;
  readonly address: string;
  readonly epoch: Epoch;
  /** How long no writes were taken. */
  readonly pauseMs: number;
}

export interface HandoverOptions {
  readonly state: CoreState;
  readonly store: ReplicatedStore;
  readonly clock: Clock;
  readonly conditions: Conditions;
  /** Tells the target, if it has everything at this moment; says whether it was told. */
  readonly handOver: (address: string) => boolean;
}

export interface Target {
  readonly nodeId?: NodeId;
  readonly address?: string;
}

/** Resolves once another node serves. Rejects with `ReplicationError`: `not_found`, `no_target`, `handover_failed`. */
export async function handOver(options: HandoverOptions, which: Target, signal: AbortSignal): Promise<TransferResult> {
  const { state, store, clock, conditions } = options;
  signal.throwIfAborted();
  const target = targetOf(options, which);
  const { promised } = state;
  const startMs = clock.monotonicMs();
  const isMaster = (): boolean => state.role.kind === "master" && state.role.epoch === promised.epoch;
  const pause = store.pauseWrites();
  const deadline = deadlineOf(clock, {
    ms: PAUSE_MAX_MS,
    signal,
    error: () =>
      failed(
        `node ${target.nodeId} at ${target.address} did not take over within ${PAUSE_MAX_MS} ms; this node goes on`,
      ),
  });
  try {
    let isSettled = false;
    let unsettled: Error | undefined;
    store.writesSettled().then(
      () => {
        isSettled = true;
        conditions.look();
      },
      (error: unknown) => (unsettled = error as Error),
    );
    let isTold = false;
    await conditions.until(() => {
      if (unsettled) throw unsettled;
      if (!isMaster()) return true;
      const peer = peerAt(state, target.address, clock.monotonicMs());
      const hasAll = peer?.state === "streaming" && peer.matchSeq === store.last.seq;
      if (isSettled && hasAll && !isTold) isTold = options.handOver(target.address);
      return !isMaster();
    }, deadline.signal);
  } catch (error) {
    // It may have given its vote away in the very moment.
    if (isMaster()) {
      pause.resume();
      throw error;
    }
  } finally {
    deadline.cancel();
  }
  return afterwards(options, { startMs, epoch: promised.epoch, signal });
}

/** This node is no master any more: waits until another one takes writes. */
async function afterwards(
  { state, clock, conditions }: HandoverOptions,
  { startMs, epoch, signal }: { startMs: number; epoch: Epoch; signal: AbortSignal },
): Promise<TransferResult> {
  const deadline = deadlineOf(clock, {
    ms: BEGINNING_MAX_MS,
    signal,
    error: () => {
      const { promised } = state;
      return failed(
        `this node gave its promise of epoch ${promised.epoch} to node ${promised.candidate ?? "(unknown)"}, which has not begun within ${BEGINNING_MAX_MS} ms; promote it, or another node`,
      );
    },
  });
  try {
    await conditions.until(() => (settledMaster(state)?.epoch ?? 0) > epoch, deadline.signal);
  } finally {
    deadline.cancel();
  }
  const master = settledMaster(state);
  if (!master) throw failed("the new master has gone again");
  const pauseMs = Math.ceil(clock.monotonicMs() - startMs);
  return { nodeId: master.sender, address: master.masterAddress, epoch: master.epoch, pauseMs };
}

function targetOf({ state, store, clock }: HandoverOptions, which: Target): Member {
  const address = which.address === undefined ? undefined : (normalAddress(which.address) ?? which.address);
  const isNamed = which.nodeId !== undefined || address !== undefined;
  const isListed = store.electorate.settings.voters === "listed";
  const members = store.electorate.members.filter(
    (member) =>
      !member.removed &&
      member.nodeId !== store.nodeId &&
      (which.nodeId === undefined || member.nodeId === which.nodeId) &&
      (address === undefined || member.address === address),
  );
  if (isNamed && members.length === 0) {
    const named = [which.nodeId, which.address].filter((name) => name !== undefined).join(" at ");
    throw new ReplicationError("not_found", `no other member is ${named}; status lists them all`);
  }
  let best: { member: Member; matchSeq: number } | undefined;
  const problems: string[] = [];
  for (const member of members) {
    const peer = peerAt(state, member.address, clock.monotonicMs());
    const who = `node ${member.nodeId} at ${member.address}`;
    if (isListed && !member.voter) problems.push(`${who} is no voter`);
    else if (peer?.state !== "streaming" || peer.nodeId !== member.nodeId) {
      problems.push(`${who} is ${peer?.state ?? "not connected"}`);
    } else if (peer.lagRecords > LAG_RECORDS_MAX) problems.push(`${who} lacks ${peer.lagRecords} records`);
    else if (!best || peer.matchSeq > best.matchSeq) best = { member, matchSeq: peer.matchSeq };
  }
  if (best) return best.member;
  throw new ReplicationError("no_target", `nobody can take over: ${problems.join("; ") || "there is no other member"}`);
}

function failed(message: string): ReplicationError {
  return new ReplicationError("handover_failed", message);
}
