/** The replica's side: whom to follow, what to cut, what to append, and what to acknowledge and apply. */
import { assert, must, unreachable } from "../../base/assert.js";
import { type Epoch, type LogMark, type Position, type Seq, seq } from "../../base/position.js";
import type { NodeId } from "../../base/ids.js";
import { beginCampaign, type Campaign } from "./candidacy.js";
import type { Effect } from "./effect.js";
import type { EventOf, Outcome } from "./event.js";
import { agreementWith, readHistory } from "./history.js";
import {
  type Align,
  type Append,
  type Heartbeat,
  type Hello,
  type MasterMessage,
  PROTOCOL_VERSION,
  type RejectReason,
  type SnapshotChunk,
  type SnapshotOffer,
} from "./message.js";
import { type Following, type Granting, newSession, type Receiving, type Session, type Work } from "./session.js";
import { Staleness } from "./staleness.js";
import { type CoreState, envelope, takeNumber } from "./state.js";
import { boundHeartbeat, GREETING_MS, silenceMs } from "./timing.js";
import { promiseReply } from "./voting.js";

/** Masters are few, and each has one connection; more than this is somebody's mistake. */
const SESSIONS_MAX = 16;
/** No master sends anything while it waits for an answer, so little has to wait here. */
const WAITING_MAX = 64;

export interface ReplicaRole {
  readonly kind: "replica";
  readonly sessions: Map<number, Session>;
  /** The one that is followed: the newest whose Hello was accepted. */
  current: Session | undefined;
  /**
   * What the store is doing. There is one piece of work at a time, for the log is one; it outlives its session, and
   * messages of all sessions wait until it is done.
   */
  work: { readonly operation: number; readonly session: number | undefined; readonly what: Work } | undefined;
  /** This node is to campaign once the store has done its work. */
  campaign: Campaign | undefined;
  /** In the order of their arrival. */
  readonly waiting: { readonly session: number; readonly message: MasterMessage }[];
  readonly staleness: Staleness;
}

export function newReplicaRole(): ReplicaRole {
  return {
    kind: "replica",
    sessions: new Map(),
    current: undefined,
    work: undefined,
    campaign: undefined,
    waiting: [],
    staleness: new Staleness(),
  };
}

/** When something is due for the replica although nothing happens. */
export function replicaDueAtMs({ sessions, work }: ReplicaRole): number {
  let dueAtMs = Infinity;
  for (const session of sessions.values()) {
    if (work === undefined) dueAtMs = Math.min(dueAtMs, session.deadlineMs);
  }
  return dueAtMs;
}

/** One step of a replica: its state, and where the step's effects go. */
export class ReplicaStep {
  readonly #state: CoreState;
  readonly #role: ReplicaRole;
  readonly #out: Effect[];
  readonly #nowMs: number;

  constructor(state: CoreState, role: ReplicaRole, out: Effect[], nowMs: number) {
    this.#state = state;
    this.#role = role;
    this.#out = out;
    this.#nowMs = nowMs;
  }

  logChanged(): void {
    const following = this.#following();
    if (following) this.#matchAndCommit(following);
  }

  accepted({ session: id }: Pick<EventOf<"accepted">, "session">): void {
    if (this.#role.sessions.size >= SESSIONS_MAX) {
      this.#out.push({ kind: "closeSession", session: id, reason: `${SESSIONS_MAX} masters are connected already` });
      return;
    }
    this.#role.sessions.set(id, newSession(id, this.#nowMs));
  }

  left({ session: id }: EventOf<"left">): void {
    const session = this.#role.sessions.get(id);
    if (session) this.#forget(session, "the master's connection has ended");
  }

  pushed({ session: id, message }: EventOf<"pushed">): void {
    // Whoever connected while this node had another role says Hello to it all the same.
    if (message.kind === "hello" && !this.#role.sessions.has(id)) this.accepted({ session: id });
    const session = this.#role.sessions.get(id);
    if (!session) return;
    const { work } = this.#role;
    if (work === undefined) return this.#hear(session, message);
    if (work.what.kind === "installing" && work.session === id && message.kind === "heartbeat") {
      // To check a large file takes its time, and the master must not give up meanwhile.
      return this.#answerHeartbeat(session, message);
    }
    if (this.#role.waiting.length < WAITING_MAX) this.#role.waiting.push({ session: id, message });
    else this.#close(session, "too many messages came while this node was busy");
  }

  finished({ operation, outcome }: EventOf<"finished">): void {
    const { work } = this.#role;
    assert(work?.operation === operation, `operation ${operation} ended, but ${work?.operation} is under way`);
    this.#role.work = undefined;
    const session = work.session === undefined ? undefined : this.#role.sessions.get(work.session);
    this.#workDone(work.what, session, outcome);
    while (this.#state.role === this.#role && this.#role.work === undefined) {
      const { campaign } = this.#role;
      if (campaign) return beginCampaign(this.#state, this.#out, { ...campaign, masterOnDisk: false });
      const next = this.#role.waiting.shift();
      if (!next) return;
      const session = this.#role.sessions.get(next.session);
      if (session) this.#hear(session, next.message);
    }
  }

  /** This node is to be master: it follows nobody from here on. */
  campaign(campaign: Campaign): void {
    this.end("this node asks for a mastership of its own");
    this.#role.campaign = campaign;
    if (this.#role.work === undefined) {
      beginCampaign(this.#state, this.#out, { ...campaign, masterOnDisk: false });
    }
  }

  /** Promises a candidate its epoch. From here on nothing is taken from older masters, nor acknowledged to them. */
  grant(granting: Granting): void {
    const { candidate, clusterId, epoch, epochId } = granting.request;
    for (const session of this.#role.sessions.values()) {
      if (session.master) this.#close(session, `this node promises epoch ${epoch} to node ${candidate}`);
    }
    if (this.#state.clusterId === undefined) {
      const operation = this.#begin(undefined, { kind: "enlisting", granting });
      this.#out.push({ kind: "join", operation, clusterId });
      return;
    }
    const operation = this.#begin(undefined, { kind: "granting", granting });
    this.#out.push({ kind: "promise", operation, promise: { epoch, candidate, epochId } });
  }

  /** The state of this node is not its master's: nothing that it has is shown or acknowledged any more. */
  differs({ detail }: EventOf<"stateDiffers">): void {
    const why = `the state of this node is not its master's (${detail}); it is set aside`;
    this.end(why);
    this.#state.role = { kind: "idle", why, canFollow: false };
    this.#out.push({ kind: "setAside", detail });
  }

  appended({ session: id }: EventOf<"appended">): void {
    const following = this.#following();
    if (!following || this.#role.current?.id !== id) return;
    assert(following.appending, "nothing was to be appended");
    const { last } = this.#state.log;
    assert(
      last.seq > following.verified.seq,
      `seq ${last.seq} after an append that followed ${following.verified.seq}`,
    );
    following.appending = false;
    following.verified = last;
    this.#matchAndCommit(following);
  }

  unappended({ session: id, detail }: EventOf<"unappended">): void {
    const session = this.#role.sessions.get(id);
    if (session) this.#reject(session, "misaligned", detail);
  }

  transferWritten({ session: id, bytes }: EventOf<"transferWritten">): void {
    const session = this.#role.sessions.get(id);
    if (session?.phase.kind !== "receiving") return;
    const { phase } = session;
    phase.received += bytes;
    assert(phase.received <= phase.heard, `${phase.received} bytes are written, ${phase.heard} have come`);
    this.#acknowledgeTransfer(session, phase);
    this.#installWhenWhole(session, phase);
  }

  transferUnwritten({ session: id, detail }: EventOf<"transferUnwritten">): void {
    const session = this.#role.sessions.get(id);
    if (session) this.#close(session, `the state that the master sends cannot be written: ${detail}`);
  }

  dropped({ firstSeq }: EventOf<"dropped">): void {
    const { current } = this.#role;
    if (current) this.#close(current, `the replica's disk has no room: records from seq ${firstSeq} on were not kept`);
  }

  flush(): void {
    for (const session of this.#role.sessions.values()) {
      if (this.#role.work === undefined && session.deadlineMs <= this.#nowMs) {
        this.#close(session, "the master has been silent for too long");
      }
    }
    const following = this.#following();
    if (following?.ack.due) this.#acknowledge(must(this.#role.current, "there is a session"), following);
  }

  /** Lets go of everybody. */
  end(reason: string): void {
    for (const session of this.#role.sessions.values()) this.#close(session, reason);
  }

  // ---- messages --------------------------------------------------------------------------------------------------------

  #hear(session: Session, message: MasterMessage): void {
    if (message.kind === "hello") {
      if (session.phase.kind !== "silent") return this.#close(session, "the master said Hello twice");
      return this.#greeted(session, message);
    }
    const { master } = session;
    if (!master) return this.#close(session, "the master did not say Hello first");
    if (message.epoch !== master.epoch || message.sender !== master.sender || message.clusterId !== master.clusterId) {
      return this.#close(session, "the master's messages contradict its Hello");
    }
    if (message.kind === "align") {
      if (session.phase.kind !== "welcomed") return this.#close(session, "the master sent Align out of turn");
      return this.#align(session, message);
    }
    if (message.kind === "snapshotOffer") {
      if (session.phase.kind !== "welcomed") return this.#close(session, "the master sent SnapshotOffer out of turn");
      return this.#offered(session, message);
    }
    const { phase } = session;
    if (message.kind === "snapshotChunk") {
      if (phase.kind !== "receiving") return this.#close(session, "the master sent SnapshotChunk out of turn");
      return this.#receive(session, phase, message);
    }
    if (message.kind === "heartbeat" && (phase.kind === "welcomed" || phase.kind === "receiving")) {
      return this.#answerHeartbeat(session, message);
    }
    if (phase.kind !== "following") return this.#close(session, `the master sent ${message.kind} before Align`);
    if (message.kind === "takeOver") return this.#takeOver(phase, message.sender);
    session.deadlineMs = this.#nowMs + this.#silenceMs();
    this.#out.push({ kind: "observeTime", masterTimeMs: message.masterTimeMs });
    if (message.kind === "append") this.#append(session, phase, message);
    else if (message.answer) phase.ack = { due: true, probe: true };
    // A refused append has ended the session.
    if (this.#role.sessions.has(session.id)) this.#learn(phase, message);
  }

  /** The master hands over, which is right only while it has nothing that this node lacks. */
  #takeOver({ verified, appending }: Following, master: NodeId): void {
    if (appending || verified.seq !== this.#state.log.last.seq) return;
    this.campaign({ cause: "takeOver", forced: false, handedOverBy: master });
  }

  // ---- Hello -----------------------------------------------------------------------------------------------------------

  #greeted(session: Session, hello: Hello): void {
    const objection = this.#objectionTo(hello);
    if (objection) return this.#reject(session, objection.reason, objection.detail);
    // From here on no older session may add to the log, not even while the promise is being written.
    for (const other of this.#role.sessions.values()) {
      if (other.master) this.#close(other, "a newer connection of a master has taken its place");
    }
    session.master = hello;
    session.phase = { kind: "greeting" };
    this.#role.current = session;
    this.#admit(session, hello);
  }

  /** Does what must be durable before the master is answered, one thing after the other; then answers. */
  #admit(session: Session, hello: Hello): void {
    const cluster = must(hello.clusterId, "a Hello without cluster id was refused");
    if (this.#state.clusterId === undefined) {
      const operation = this.#begin(session, { kind: "joining", hello });
      this.#out.push({ kind: "join", operation, clusterId: cluster });
      return;
    }
    const { promised } = this.#state;
    if (promised.epoch < hello.epoch || promised.epochId === undefined) {
      const operation = this.#begin(session, { kind: "promising", hello });
      const promise = { epoch: hello.epoch, candidate: hello.sender, epochId: hello.epochId };
      this.#out.push({ kind: "promise", operation, promise });
      return;
    }
    session.phase = { kind: "welcomed" };
    session.deadlineMs = this.#nowMs + GREETING_MS;
    const { history, last } = this.#state.log;
    this.#out.push({
      kind: "reply",
      session: session.id,
      message: {
        kind: "welcome",
        ...envelope(this.#state),
        protocolVersion: PROTOCOL_VERSION,
        history: [...history.starts],
        last: { epoch: last.epoch, seq: last.seq },
        heartbeatIntervalMs: this.#state.settings.heartbeatIntervalMs,
        floorSeq: this.#state.log.floorSeq,
      },
    });
  }

  /** Why this node will not follow the master. */
  #objectionTo(hello: Hello): { reason: RejectReason; detail: string } | undefined {
    const { clusterId, promised, self, log } = this.#state;
    if (hello.protocolVersion !== PROTOCOL_VERSION) {
      const detail = `this node speaks version ${PROTOCOL_VERSION} of the protocol, the master ${hello.protocolVersion}`;
      return { reason: "protocol_version", detail };
    }
    if (hello.clusterId === undefined || (clusterId !== undefined && hello.clusterId !== clusterId)) {
      const detail = `this node belongs to cluster ${clusterId ?? "(none)"}, the master to ${hello.clusterId ?? "(none)"}`;
      return { reason: "foreign_cluster", detail };
    }
    if (hello.sender === self) {
      return {
        reason: "not_a_replica",
        detail: "this node and the master have one node id; was its directory copied?",
      };
    }
    const newest = readHistory(hello.history)?.last;
    if (newest?.epoch !== hello.epoch || newest.epochId !== hello.epochId) {
      return { reason: "misaligned", detail: "the master's epoch history does not end with its own epoch" };
    }
    const highest = Math.max(promised.epoch, log.last.epoch);
    if (hello.epoch < highest) {
      const detail = `this node has promised epoch ${highest}, and follows no master of epoch ${hello.epoch}`;
      return { reason: "stale_epoch", detail };
    }
    // A promise of this epoch to another candidate is no conflict: that one did not get enough of them.
    const known = [log.history.starts.find(({ epoch }) => epoch === hello.epoch), this.#masterOf(hello.epoch)];
    const other = known.find((start) => start !== undefined && start.epochId !== hello.epochId);
    const isCopy = promised.epochId === hello.epochId && promised.candidate !== hello.sender;
    if (!other && !isCopy) return undefined;
    const whose = other ? `under epoch id ${other.epochId}` : `as that of node ${promised.candidate ?? "(unknown)"}`;
    const detail = `this node knows epoch ${hello.epoch} ${whose}, the master's is ${hello.epochId} of node ${hello.sender}`;
    return { reason: "epoch_conflict", detail };
  }

  /** The master of that epoch that is followed. */
  #masterOf(epoch: Epoch): Hello | undefined {
    const master = this.#role.current?.master;
    return master?.epoch === epoch ? master : undefined;
  }

  // ---- Align -----------------------------------------------------------------------------------------------------------

  #align(session: Session, { agreement }: Align): void {
    session.phase = { kind: "aligning" };
    const { last } = this.#state.log;
    if (agreement.seq > last.seq) {
      const detail = `the agreement ${show(agreement)} lies beyond the log's end ${show(last)}`;
      return this.#reject(session, "misaligned", detail);
    }
    const operation = this.#begin(session, { kind: "comparing", agreement });
    this.#out.push({ kind: "compare", operation, seq: agreement.seq });
  }

  #compared(session: Session, agreement: LogMark, own: LogMark): void {
    if (!sameMark(own, agreement)) {
      const detail = `at seq ${agreement.seq} the master has ${showMark(agreement)}, this node ${showMark(own)}`;
      return this.#reject(session, "misaligned", detail);
    }
    if (this.#state.log.last.seq === agreement.seq) return this.#follow(session, agreement);
    this.#assertMayCut(session, agreement.seq);
    const operation = this.#begin(session, { kind: "cutting", agreement });
    this.#out.push({ kind: "cut", operation, seq: agreement.seq });
  }

  /**
   * Committed records may go where the master's copy alone had made them so, or where its history has a mastership that began
   * without a majority. Else whoever wants them gone is wrong.
   */
  #assertMayCut({ master }: Session, agreed: Seq): void {
    const { commitSeq, log } = this.#state;
    const { history } = must(master, "a session that wants a cut said Hello");
    const isForced = history.some(({ firstSeq, forced }) => forced && firstSeq > agreed);
    assert(
      agreed >= commitSeq || log.electorate.commit === "master" || isForced,
      `seq ${commitSeq} is committed by a majority, and a master wants it cut after ${agreed}`,
    );
  }

  /** The log has been cut after `agreement`, whether the session that wanted it still lives or not. */
  #haveCut(agreement: LogMark): void {
    const state = this.#state;
    assert(
      sameMark(state.log.last, agreement),
      `the log was cut at ${show(agreement)}, and ends at ${show(state.log.last)}`,
    );
    if (state.commitSeq > agreement.seq) {
      state.commitSeq = agreement.seq;
      this.#role.staleness.forget();
    }
    state.matchSeq = least(state.matchSeq, agreement.seq);
  }

  #follow(session: Session, agreement: LogMark): void {
    const master = must(session.master, "an aligned session said Hello");
    const following: Following = {
      kind: "following",
      verified: agreement,
      masterCommitSeq: seq(0),
      firstSeq: must(master.history.at(-1), "a Hello without history was refused").firstSeq,
      round: 0,
      appending: false,
      ack: { due: true, probe: true },
      caughtUp: false,
    };
    session.phase = following;
    session.deadlineMs = this.#nowMs + this.#silenceMs();
    this.#role.staleness.restart();
    this.#state.matchSeq = least(this.#state.log.keptSeq, agreement.seq);
    this.#out.push({ kind: "follow", nodeId: master.sender, epoch: master.epoch, address: master.masterAddress });
  }

  // ---- the master's whole state ----------------------------------------------------------------------------------------

  #offered(session: Session, offer: SnapshotOffer): void {
    const { history, last } = must(session.master, "a session with an offer said Hello");
    const read = must(readHistory(history), "a Hello with a history that nobody can have was refused");
    const { log } = this.#state;
    const agreed = agreementWith(log, { history: read, lastSeq: last.seq });
    if (agreed === undefined) {
      return this.#reject(session, "misaligned", "the master's epoch history contradicts this node's");
    }
    if (agreed < log.last.seq) this.#assertMayCut(session, agreed);
    session.phase = { kind: "offered" };
    const operation = this.#begin(session, { kind: "staging", offer });
    this.#out.push({ kind: "stageTransfer", operation, id: offer.id, size: offer.size });
  }

  #staged(session: Session, { id, size }: SnapshotOffer, received: number): void {
    assert(received <= size, `${received} bytes are staged of a file of ${size}`);
    const master = must(session.master, "a session with an offer said Hello");
    const receiving: Receiving = { kind: "receiving", id, size, received, heard: received };
    session.phase = receiving;
    session.deadlineMs = this.#nowMs + this.#silenceMs();
    this.#out.push({ kind: "follow", nodeId: master.sender, epoch: master.epoch, address: master.masterAddress });
    this.#acknowledgeTransfer(session, receiving);
    this.#installWhenWhole(session, receiving);
  }

  #receive(session: Session, phase: Receiving, { id, offset, bytes }: SnapshotChunk): void {
    if (id !== phase.id || offset !== phase.heard || bytes.length === 0 || offset + bytes.length > phase.size) {
      const came = `${bytes.length} bytes at ${offset} of transfer ${id} came`;
      return this.#close(session, `${came}, but those at ${phase.heard} of ${phase.id} (${phase.size}) come next`);
    }
    session.deadlineMs = this.#nowMs + this.#silenceMs();
    phase.heard += bytes.length;
    this.#out.push({ kind: "writeTransfer", session: session.id, offset, bytes });
  }

  #installWhenWhole(session: Session, receiving: Receiving): void {
    if (receiving.received < receiving.size) return;
    const operation = this.#begin(session, { kind: "installing", receiving });
    this.#out.push({ kind: "installTransfer", operation });
  }

  /** The next start of this node has another log: nothing may be acknowledged any more that only this one holds. */
  #restart(): void {
    const why = "this node starts anew with the state that its master sent";
    this.end(why);
    this.#state.role = { kind: "idle", why, canFollow: false };
    this.#out.push({ kind: "restart" });
  }

  /** Before this node is aligned, a heartbeat asks only whether it is there. */
  #answerHeartbeat(session: Session, { answer, masterTimeMs }: Heartbeat): void {
    session.deadlineMs = this.#nowMs + this.#silenceMs();
    this.#out.push({ kind: "observeTime", masterTimeMs });
    const { phase } = session;
    if (answer) this.#acknowledgeTransfer(session, phase.kind === "receiving" ? phase : undefined);
  }

  #acknowledgeTransfer({ id: session }: Session, receiving: Receiving | undefined): void {
    this.#out.push({
      kind: "reply",
      session,
      message: {
        kind: "snapshotAck",
        ...envelope(this.#state),
        ...(receiving && { id: receiving.id }),
        received: receiving?.received ?? 0,
      },
    });
  }

  // ---- the store's work ------------------------------------------------------------------------------------------------

  #begin(session: Session | undefined, what: Work): number {
    assert(this.#role.work === undefined, "the store does one thing at a time");
    const operation = takeNumber(this.#state);
    this.#role.work = { operation, session: session?.id, what };
    return operation;
  }

  #workDone(work: Work, session: Session | undefined, outcome: Outcome): void {
    if (outcome.kind === "failed") {
      if (session) this.#close(session, `${work.kind} failed: ${outcome.detail}`);
      if (work.kind === "resigning") this.#out.push({ kind: "unsaved", detail: outcome.detail });
      if (work.kind === "granting" || work.kind === "enlisting") this.#answer(work.granting, outcome.detail);
      return;
    }
    switch (work.kind) {
      case "resigning":
        return;
      case "enlisting":
        this.#state.clusterId = work.granting.request.clusterId;
        return this.grant(work.granting);
      case "granting": {
        const { epoch, candidate, epochId } = work.granting.request;
        this.#state.promised = { epoch, candidate, epochId };
        return this.#answer(work.granting);
      }
      case "joining":
        this.#state.clusterId = must(work.hello.clusterId, "a Hello without cluster id was refused");
        if (session) this.#admit(session, work.hello);
        return;
      case "promising": {
        const { epoch, sender, epochId } = work.hello;
        this.#state.promised = { epoch, candidate: sender, epochId };
        if (session) this.#admit(session, work.hello);
        return;
      }
      case "comparing":
        assert(outcome.kind === "mark", "a comparison brings a mark");
        if (session) this.#compared(session, work.agreement, outcome.mark);
        return;
      case "cutting":
        this.#haveCut(work.agreement);
        if (session) this.#follow(session, work.agreement);
        return;
      case "staging":
        assert(outcome.kind === "staged", "what was looked up is there or not");
        if (session) this.#staged(session, work.offer, outcome.received);
        return;
      case "installing":
        if (outcome.kind === "done") return this.#restart();
        assert(outcome.kind === "damaged", "a file is whole or damaged");
        if (session) this.#reject(session, "damaged_snapshot", outcome.detail);
        return;
      default:
        unreachable(work);
    }
  }

  /** `failure`: the promise could not be made durable, and is not given. */
  #answer({ ask, unclean }: Granting, failure?: string): void {
    const objection = failure === undefined ? undefined : { refusal: "busy" as const, detail: failure };
    this.#out.push({ kind: "answerPromise", ask, reply: promiseReply(this.#state, unclean, objection) });
  }

  // ---- following -------------------------------------------------------------------------------------------------------

  #following(): Following | undefined {
    const phase = this.#role.current?.phase;
    return phase?.kind === "following" ? phase : undefined;
  }

  #append(session: Session, following: Following, { previous, records }: Append): void {
    assert(!following.appending, "the store answers an append before the next message");
    const { last } = this.#state.log;
    if (!sameMark(previous, last)) {
      const detail = `records that follow ${showMark(previous)} came, but the log ends at ${showMark(last)}`;
      return this.#reject(session, "misaligned", detail);
    }
    following.appending = true;
    this.#out.push({ kind: "append", session: session.id, records });
  }

  #learn(following: Following, message: Append | Heartbeat): void {
    const { commitSeq, echo, round } = message;
    if (commitSeq > following.masterCommitSeq) following.masterCommitSeq = commitSeq;
    this.#state.heardCommitSeq = following.masterCommitSeq;
    if (round > following.round) {
      following.round = round;
      following.ack.due = true;
    }
    // Before it has committed a record of its own, a master knows less than all that is committed.
    if (commitSeq >= following.firstSeq) this.#role.staleness.echoed(echo, commitSeq);
    this.#matchAndCommit(following);
    if (message.kind === "heartbeat" && message.check) this.#out.push({ kind: "expectState", check: message.check });
  }

  #matchAndCommit(following: Following): void {
    const state = this.#state;
    const { log } = state;
    const matchSeq = least(log.keptSeq, following.verified.seq);
    if (matchSeq > state.matchSeq) {
      state.matchSeq = matchSeq;
      following.ack.due = true;
    }
    assert(state.matchSeq <= log.keptSeq, `match ${state.matchSeq} exceeds kept ${log.keptSeq}`);
    const commitSeq = least(following.masterCommitSeq, state.matchSeq);
    if (commitSeq > state.commitSeq) {
      state.commitSeq = commitSeq;
      this.#out.push({ kind: "commit", seq: commitSeq });
    }
    // What is shown is of this master, and not from before its first record was committed.
    const shown = this.#role.staleness.applied(log.appliedSeq);
    if (shown && !following.caughtUp) {
      following.caughtUp = true;
      this.#out.push({ kind: "caughtUp" });
    }
  }

  #acknowledge(session: Session, following: Following): void {
    const { matchSeq, log, settings } = this.#state;
    const { staleness } = this.#role;
    assert(
      matchSeq <= following.verified.seq,
      `seq ${matchSeq} is acknowledged, ${following.verified.seq} is verified`,
    );
    assert(matchSeq <= log.keptSeq, `seq ${matchSeq} is acknowledged, ${log.keptSeq} is kept`);
    // Under load nobody asks; then the acks themselves probe, often enough.
    const stale = this.#nowMs - staleness.probedAtMs >= boundHeartbeat(settings.heartbeatIntervalMs) / 2;
    const probe = following.ack.probe || stale ? staleness.nextProbe(this.#nowMs) : staleness.probe;
    following.ack = { due: false, probe: false };
    this.#out.push({
      kind: "reply",
      session: session.id,
      message: {
        kind: "ack",
        ...envelope(this.#state),
        matchSeq,
        appliedSeq: log.appliedSeq,
        probe,
        round: following.round,
      },
    });
  }

  #silenceMs(): number {
    return silenceMs(boundHeartbeat(this.#state.settings.heartbeatIntervalMs));
  }

  // ---- endings ---------------------------------------------------------------------------------------------------------

  #reject(session: Session, reason: RejectReason, detail: string): void {
    this.#out.push({
      kind: "reply",
      session: session.id,
      message: { kind: "reject", ...envelope(this.#state), reason, detail },
    });
    this.#close(session, detail);
  }

  #close(session: Session, reason: string): void {
    this.#out.push({ kind: "closeSession", session: session.id, reason });
    this.#forget(session, reason);
  }

  #forget(session: Session, reason: string): void {
    this.#role.sessions.delete(session.id);
    if (this.#role.current !== session) return;
    this.#role.current = undefined;
    const { kind } = session.phase;
    if (kind === "following" || kind === "receiving") this.#out.push({ kind: "orphaned", reason });
  }
}

function least(a: Seq, b: Seq): Seq {
  return a < b ? a : b;
}

function sameMark(a: LogMark, b: LogMark): boolean {
  return a.seq === b.seq && a.epoch === b.epoch && a.chain === b.chain;
}

const show = ({ epoch, seq }: Position): string => `epoch ${epoch}, seq ${seq}`;
const showMark = (mark: LogMark): string => `${show(mark)}, chain ${mark.chain.toString(16).padStart(8, "0")}`;
