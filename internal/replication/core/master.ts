/** The master's side: whom to connect to, where the logs agree, what to push, and what is committed. */
import { must, unreachable } from "../../base/assert.js";
import type { NodeId } from "../../base/ids.js";
import { type EpochMs, epochMs, type LogMark, type Seq, seq } from "../../base/position.js";
import { beginAgain } from "./candidacy.js";
import { committedSeq } from "./commit.js";
import type { Effect, Refusal } from "./effect.js";
import { majorityOf, otherVoters } from "./electorate.js";
import type { Batch, EventOf, LogView } from "./event.js";
import { isWaitedFor, newsDueAtMs, recordsDueAtMs } from "./gathering.js";
import { agreementWith, readHistory } from "./history.js";
import {
  type Ack,
  type Heartbeat,
  type Hello,
  PROTOCOL_VERSION,
  type RejectReason,
  type ReplicaMessage,
  type SnapshotAck,
  type Welcome,
} from "./message.js";
import {
  askAtMs,
  connectionOf,
  dueAtMs,
  isMet,
  newPeer,
  newStreaming,
  newTransferring,
  noteAcknowledged,
  noteChunkSent,
  noteConfirmed,
  noteHeard,
  noteLag,
  noteProbe,
  noteSent,
  type Peer,
  type Probing,
  type Streaming,
  type Transferring,
} from "./progress.js";
import { resign } from "./resign.js";
import type { Confirmed } from "./rounds.js";
import { type CoreState, envelope, type MasterRole, takeChance, takeNumber } from "./state.js";
import { ALIGNING_MS, backoffMs, boundHeartbeat, GREETING_MS, STATE_CHECK_MS, SUSPICION_MS } from "./timing.js";

/** When something is due for the master although nothing happens. */
export function masterDueAtMs(state: CoreState, role: MasterRole): number {
  let due = otherVoters(state.log.electorate, state.self).length > 0 ? roundDueAtMs(state, role) : Infinity;
  for (const peer of role.peers.values()) due = Math.min(due, dueAtMs(peer));
  return due;
}

/** Twice in a heartbeat's time this node shows that it is still the master. */
function roundDueAtMs({ settings }: CoreState, { rounds }: MasterRole): number {
  return rounds.startedAtMs + boundHeartbeat(settings.heartbeatIntervalMs) / 2;
}

/** One step of a master: its state, and where the step's effects go. */
export class MasterStep {
  readonly #state: CoreState;
  readonly #role: MasterRole;
  readonly #out: Effect[];
  readonly #nowMs: number;

  constructor(state: CoreState, role: MasterRole, out: Effect[], nowMs: number) {
    this.#state = state;
    this.#role = role;
    this.#out = out;
    this.#nowMs = nowMs;
  }

  /** The view of the log was `before`. */
  logChanged(before: LogView): void {
    for (const peer of this.#role.peers.values()) {
      // Up to now it had everything, so that an idle hour is no lag.
      if (peer.matchSeq >= before.writtenSeq) peer.hadAllAtMs = this.#nowMs;
      noteLag(peer, this.#state.log, this.#nowMs);
    }
    this.#state.matchSeq = this.#state.log.keptSeq;
    this.advanceCommit();
  }

  advanceCommit(): void {
    const { log, self } = this.#state;
    const committed = committedSeq({
      mode: log.electorate.commit,
      ownKeptSeq: log.keptSeq,
      othersMatchSeq: otherVoters(log.electorate, self).map(({ nodeId }) => this.#answerOf(nodeId, "matchSeq") as Seq),
      firstSeq: this.#role.firstSeq,
    });
    if (committed === undefined || committed <= this.#state.commitSeq) return;
    this.#state.commitSeq = committed;
    this.#out.push({ kind: "commit", seq: committed });
    this.#confirmReads();
  }

  /** What a voter has answered at its own address. Whoever has taken that has another node id; elsewhere it may be a copy. */
  #answerOf(voter: NodeId, what: "matchSeq" | "answeredRound"): number {
    let answer = 0;
    for (const peer of this.#role.peers.values()) {
      if (peer.met === voter && peer.spec.member?.nodeId === voter) answer = Math.max(answer, peer[what]);
    }
    return answer;
  }

  peersChanged({ peers, removed }: EventOf<"peers">): void {
    this.#role.removed = removed;
    const wanted = new Map(peers.map((spec) => [spec.address, spec]));
    for (const [address, peer] of this.#role.peers) {
      if (wanted.has(address)) continue;
      this.#hangUp(peer);
      this.#role.peers.delete(address);
    }
    for (const spec of wanted.values()) {
      const peer = this.#role.peers.get(spec.address);
      if (peer) peer.spec = spec;
      else this.#role.peers.set(spec.address, newPeer(spec, this.#nowMs));
    }
    for (const peer of this.#role.peers.values()) {
      const refusal = isMet(peer) ? this.#refusalOf(peer) : undefined;
      if (refusal) this.#refuse(peer, refusal.reason, refusal.detail);
    }
    this.advanceCommit();
  }

  retry({ address }: EventOf<"retry">): void {
    const peer = this.#role.peers.get(address);
    if (!peer) return;
    const { progress } = peer;
    switch (progress.kind) {
      case "disconnected":
        if (progress.opening === undefined) peer.progress = { ...progress, dueAtMs: this.#nowMs };
        return;
      case "refused":
        peer.progress = { ...progress, retryAtMs: this.#nowMs };
        return;
      case "streaming":
        // After a power cut the old connection looks alive for as long as nobody asks.
        this.#heartbeat(progress, true);
        progress.deadlineMs = Math.min(progress.deadlineMs, this.#nowMs + SUSPICION_MS);
        return;
      case "transferring":
        this.#ask(progress);
        progress.deadlineMs = Math.min(progress.deadlineMs, this.#nowMs + SUSPICION_MS);
        return;
      case "probing":
        return;
      default:
        unreachable(progress);
    }
  }

  opened({ connection }: EventOf<"opened">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer?.progress.kind !== "disconnected") return;
    peer.progress = {
      kind: "probing",
      connection,
      step: "greeting",
      deadlineMs: this.#nowMs + GREETING_MS,
      heartbeatIntervalMs: 0,
      agreement: undefined,
    };
    const { history, last } = this.#state.log;
    this.#out.push({
      kind: "send",
      connection,
      message: {
        kind: "hello",
        ...envelope(this.#state),
        protocolVersion: PROTOCOL_VERSION,
        epochId: this.#role.epochId,
        masterAddress: this.#role.address,
        history: [...history.starts],
        last: { epoch: last.epoch, seq: last.seq },
      },
    });
  }

  lost({ connection, reason }: EventOf<"lost">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer) this.#giveUp(peer, reason);
  }

  answered({ connection, message }: EventOf<"answered">): void {
    const peer = this.#role.byConnection.get(connection);
    if (!peer) return;
    // An epoch of another cluster says nothing about ours.
    if (message.clusterId === this.#state.clusterId && this.#deposedBy(message)) return;
    if (message.kind === "reject") {
      if (message.reason === "damaged_snapshot" && peer.progress.kind === "transferring") {
        this.#out.push({ kind: "spoilTransfer", connection });
      }
      return this.#refuse(peer, message.reason, message.detail);
    }
    if (message.clusterId !== this.#state.clusterId) {
      return this.#refuse(peer, "foreign_cluster", `the node belongs to cluster ${message.clusterId ?? "(none)"}`);
    }
    const { progress } = peer;
    if (message.kind === "welcome" && progress.kind === "probing" && progress.step === "greeting") {
      return this.#welcomed(peer, progress, message);
    }
    if (message.kind === "ack" && progress.kind === "probing" && progress.agreement) {
      return this.#aligned(peer, progress, progress.agreement, message);
    }
    if (message.kind === "ack" && progress.kind === "streaming") return this.#acknowledged(peer, progress, message);
    if (message.kind === "snapshotAck" && progress.kind === "transferring") {
      return this.#transferAcknowledged(peer, progress, message);
    }
    this.#giveUp(peer, `the node sent ${message.kind} out of turn; are both of the same version?`);
  }

  marked({ connection, mark }: EventOf<"marked">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer?.progress.kind !== "probing") return;
    peer.progress = {
      ...peer.progress,
      step: "aligning",
      deadlineMs: this.#nowMs + ALIGNING_MS,
      agreement: mark,
    };
    this.#out.push({ kind: "send", connection, message: { kind: "align", ...envelope(this.#state), agreement: mark } });
  }

  transferOpened({ connection, id, size }: EventOf<"transferOpened">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer?.progress.kind !== "transferring") return;
    const nodeId = must(peer.met, "a peer that is sent a state was met");
    peer.progress.file = { id, size };
    peer.progress.sentAtMs = this.#nowMs;
    this.#out.push({
      kind: "send",
      connection,
      message: { kind: "snapshotOffer", ...envelope(this.#state), id, size },
    });
    this.#out.push({ kind: "transferring", address: peer.address, nodeId, size });
  }

  transferRead({ connection, bytes }: EventOf<"transferRead">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer?.progress.kind !== "transferring") return;
    const transfer = peer.progress;
    const { id } = must(transfer.file, "what is read was opened");
    const offset = transfer.sent;
    transfer.reading = false;
    noteChunkSent(transfer, bytes.length, this.#nowMs);
    this.#out.push({
      kind: "send",
      connection,
      message: { kind: "snapshotChunk", ...envelope(this.#state), id, offset, bytes },
    });
    this.#pumpTransfer(transfer);
  }

  /** The log's tail in memory has, or has not, what comes next. */
  tailRead({ connection, batch }: EventOf<"tail">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer?.progress.kind !== "streaming") return;
    const stream = peer.progress;
    if (batch) return this.#push(peer, stream, batch);
    stream.reading = "disk";
    this.#out.push({ kind: "readDisk", connection, ...this.#wanted(stream) });
    // The disk may take its time; news does not wait for it.
    this.#tell(peer, stream);
  }

  diskRead({ connection, batch }: EventOf<"read">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer?.progress.kind === "streaming") this.#push(peer, peer.progress, batch);
  }

  unreadable({ connection, detail }: EventOf<"unreadable">): void {
    const peer = this.#role.byConnection.get(connection);
    if (peer) this.#giveUp(peer, detail);
  }

  /** Somebody waits until replicas have what is in the log up to there. */
  awaited({ seq }: EventOf<"awaited">): void {
    if (seq > this.#role.awaitedSeq) this.#role.awaitedSeq = seq;
  }

  /** A read wants to see the newest state. */
  confirm({ read }: EventOf<"confirm">): void {
    this.#role.rounds.ask(read);
    this.#confirmReads();
  }

  /** Hands over to a peer that has everything; to one that has not, nothing is said. */
  handOver({ address }: EventOf<"handOver">): void {
    const peer = this.#role.peers.get(address);
    if (peer?.progress.kind !== "streaming" || peer.matchSeq !== this.#state.log.last.seq) return;
    const message = { kind: "takeOver", ...envelope(this.#state) } as const;
    this.#out.push({ kind: "send", connection: peer.progress.connection, message });
    this.#out.push({ kind: "handedOver", address });
  }

  flush(): void {
    this.#startRound();
    const checked = this.#whomToCheck();
    for (const peer of this.#role.peers.values()) {
      const { progress } = peer;
      switch (progress.kind) {
        case "disconnected":
          if (progress.dueAtMs > this.#nowMs) break;
          if (progress.opening === undefined) this.#connect(peer);
          else this.#giveUp(peer, "nothing answers at the address");
          break;
        case "refused":
          if (progress.retryAtMs <= this.#nowMs) this.#connect(peer);
          break;
        case "probing":
          if (progress.deadlineMs <= this.#nowMs) this.#giveUp(peer, `the node does not answer (${progress.step})`);
          break;
        case "transferring":
          if (progress.deadlineMs <= this.#nowMs) this.#giveUp(peer, this.#silence(progress));
          else if (askAtMs(progress) <= this.#nowMs) this.#ask(progress);
          break;
        case "streaming":
          if (progress.deadlineMs <= this.#nowMs) {
            this.#giveUp(peer, this.#silence(progress));
            break;
          }
          if (peer === checked) this.#heartbeat(progress, askAtMs(progress) <= this.#nowMs, true);
          else if (askAtMs(progress) <= this.#nowMs) this.#heartbeat(progress, true);
          this.#pump(peer, progress);
          break;
        default:
          unreachable(progress);
      }
    }
  }

  /**
   * Another master, of this cluster, wants to push to this one. Whether its Hello is to be heard by the replica that this
   * node has become; else what it is told.
   */
  challenged(hello: Hello): "hear" | { readonly reason: RejectReason; readonly detail: string } {
    const { epoch, epochId } = this.#role;
    if (hello.epoch > epoch) {
      this.end();
      resign(this.#state, this.#out, `node ${hello.sender} is master of epoch ${hello.epoch}`, hello.masterAddress);
      return "hear";
    }
    if (hello.epoch < epoch) {
      return { reason: "stale_epoch", detail: `this node is a master itself, of epoch ${epoch}` };
    }
    const detail = `node ${hello.sender} is master of the same epoch ${epoch}, with epoch id ${hello.epochId}, not ${epochId}`;
    this.#stop(detail);
    return { reason: "epoch_conflict", detail };
  }

  /** The epoch's first record is not in the log after all. */
  dropped({ firstSeq }: EventOf<"dropped">): void {
    if (firstSeq > this.#role.firstSeq) return;
    const detail = "the disk has no room for the first record of a mastership";
    this.end();
    this.#out.push({ kind: "stepDown", detail, masterAddress: undefined, conflict: false });
    beginAgain(this.#state, this.#out, { detail, dueAtMs: this.#nowMs + backoffMs(Infinity, 1) });
  }

  /** Lets go of everybody. */
  end(): void {
    for (const peer of this.#role.peers.values()) this.#hangUp(peer);
  }

  // ---- finding the agreement -------------------------------------------------------------------------------------------

  #connect(peer: Peer): void {
    const connection = takeNumber(this.#state);
    peer.progress = { kind: "disconnected", opening: connection, dueAtMs: this.#nowMs + GREETING_MS };
    this.#role.byConnection.set(connection, peer);
    this.#out.push({ kind: "connect", address: peer.address, connection });
  }

  #welcomed(peer: Peer, progress: Probing, welcome: Welcome): void {
    if (welcome.protocolVersion !== PROTOCOL_VERSION) {
      const detail = `the node speaks version ${welcome.protocolVersion} of the protocol, this one ${PROTOCOL_VERSION}`;
      return this.#refuse(peer, "protocol_version", detail);
    }
    if (peer.met !== welcome.sender) {
      peer.met = welcome.sender;
      peer.appliedSeq = seq(0);
      peer.answeredRound = 0;
    }
    // What it kept before may have been lost since; it counts again once it is acknowledged again.
    peer.matchSeq = seq(0);
    const refusal = this.#refusalOf(peer);
    if (refusal) return this.#refuse(peer, refusal.reason, refusal.detail);
    this.#out.push({ kind: "met", address: peer.address, nodeId: welcome.sender });
    const history = readHistory(welcome.history);
    const agreed = history && agreementWith(this.#state.log, { history, lastSeq: welcome.last.seq });
    if (agreed === undefined) {
      return this.#refuse(peer, "misaligned", "the node's epoch history contradicts this master's; its log is damaged");
    }
    // Either log no longer goes back to where they agree: this one to go on from there, or the node's own to be cut there.
    if (agreed < this.#state.log.compactSeq || (agreed < welcome.last.seq && agreed < welcome.floorSeq)) {
      peer.progress = newTransferring(progress.connection, welcome.heartbeatIntervalMs, this.#nowMs);
      this.#out.push({ kind: "openTransfer", connection: progress.connection });
      return;
    }
    peer.progress = { ...progress, step: "reading", heartbeatIntervalMs: welcome.heartbeatIntervalMs };
    this.#out.push({ kind: "readMark", connection: progress.connection, seq: agreed });
  }

  #aligned(peer: Peer, progress: Probing, agreement: LogMark, ack: Ack): void {
    if (ack.matchSeq > agreement.seq) {
      return this.#giveUp(peer, `the node acknowledges seq ${ack.matchSeq}, but was told of ${agreement.seq} only`);
    }
    const stream = newStreaming(progress, agreement, this.#nowMs);
    peer.progress = stream;
    peer.detail = "";
    this.#out.push({
      kind: "streaming",
      address: peer.address,
      nodeId: must(peer.met, "an aligned peer was met"),
      afterSeq: agreement.seq,
    });
    this.#acknowledged(peer, stream, ack);
  }

  // ---- sending the whole state -----------------------------------------------------------------------------------------

  #transferAcknowledged(peer: Peer, transfer: Transferring, { id, received }: SnapshotAck): void {
    noteHeard(transfer, this.#nowMs);
    // Before the offer has reached it, the replica can say nothing but that it is there.
    if (transfer.file === undefined || id === undefined) return;
    const begins = transfer.startedAt === undefined;
    const most = begins ? transfer.file.size : transfer.sent;
    if (id !== transfer.file.id || received > most || received < transfer.received) {
      const detail = `the node says that it has ${received} bytes of transfer ${id}, it was sent ${most} of ${transfer.file.id}`;
      return this.#giveUp(peer, detail);
    }
    if (begins) {
      transfer.startedAt = received;
      transfer.sent = received;
    }
    transfer.received = received;
    if (received > must(transfer.startedAt, "the transfer has begun")) peer.attempts = 0;
    this.#pumpTransfer(transfer);
  }

  #pumpTransfer(transfer: Transferring): void {
    const { batchBytes, windowBytes } = this.#state.settings;
    const { file, sent, received, connection } = transfer;
    const room = windowBytes - (sent - received);
    if (!file || transfer.reading || sent === file.size || room <= 0) return;
    transfer.reading = true;
    const maxBytes = Math.min(batchBytes, room, file.size - sent);
    this.#out.push({ kind: "readTransfer", connection, offset: sent, maxBytes });
  }

  /** Whether the replica is still there. It learns of no commit while it lacks what comes before. */
  #ask(transfer: Transferring): void {
    transfer.askedAtMs = this.#nowMs;
    transfer.sentAtMs = this.#nowMs;
    const message = {
      kind: "heartbeat",
      ...envelope(this.#state),
      answer: true,
      commitSeq: seq(0),
      echo: 0,
      masterTimeMs: this.#masterTimeMs(),
      round: 0,
    } as const;
    this.#out.push({ kind: "send", connection: transfer.connection, message });
  }

  // ---- pushing ---------------------------------------------------------------------------------------------------------

  #acknowledged(peer: Peer, stream: Streaming, ack: Ack): void {
    if (ack.matchSeq > stream.sent.seq) {
      return this.#giveUp(peer, `the node acknowledges seq ${ack.matchSeq}, but was sent ${stream.sent.seq} only`);
    }
    const { rounds } = this.#role;
    if (ack.round > rounds.current) {
      return this.#giveUp(peer, `the node answers round ${ack.round}, but ${rounds.current} is the newest`);
    }
    noteHeard(stream, this.#nowMs);
    noteAcknowledged(peer, stream, ack.matchSeq, this.#state.log, this.#nowMs);
    peer.appliedSeq = ack.appliedSeq;
    peer.answeredRound = Math.max(peer.answeredRound, ack.round);
    noteProbe(stream, ack.probe, rounds.current + 1);
    // A replica that is aligned again and again but keeps nothing is no success.
    if (ack.matchSeq > stream.agreementSeq || ack.matchSeq >= this.#state.log.writtenSeq) peer.attempts = 0;
    this.advanceCommit();
    this.#confirmRounds();
  }

  // ---- rounds ----------------------------------------------------------------------------------------------------------

  /** Whether what this node knows to be committed is all that was committed before its epoch. */
  get #isServing(): boolean {
    return this.#state.commitSeq >= this.#role.firstSeq;
  }

  #startRound(): void {
    const { rounds } = this.#role;
    if (otherVoters(this.#state.log.electorate, this.#state.self).length === 0) return;
    const isDue = roundDueAtMs(this.#state, this.#role) <= this.#nowMs;
    if (!isDue && !(rounds.isWanted && this.#isServing)) return;
    rounds.start(this.#nowMs, this.#isServing ? this.#state.commitSeq : undefined);
  }

  #confirmRounds(): void {
    const { rounds } = this.#role;
    const others = otherVoters(this.#state.log.electorate, this.#state.self);
    if (others.length > 0) {
      const answered = others.map(({ nodeId }) => this.#answerOf(nodeId, "answeredRound"));
      const newest = [rounds.current, ...answered].sort((a, b) => b - a);
      this.#tellConfirmed(
        rounds.confirm(must(newest[majorityOf(newest.length) - 1], "a majority is no more than all")),
      );
    }
    for (const { progress } of this.#role.peers.values()) {
      if (progress.kind === "streaming") noteConfirmed(progress, others.length > 0 ? rounds.confirmed : Infinity);
    }
  }

  /** Where this node alone decides, it need ask nobody. */
  #confirmReads(): void {
    if (otherVoters(this.#state.log.electorate, this.#state.self).length > 0 || !this.#isServing) return;
    this.#tellConfirmed(this.#role.rounds.confirmAlone(this.#state.commitSeq));
  }

  #tellConfirmed(confirmed: Confirmed | undefined): void {
    if (confirmed) this.#out.push({ kind: "confirmed", read: confirmed.upTo, seq: confirmed.seq });
  }

  /** Sends what the replica lacks, as far as the window lets it, or lets it gather; else what news there is. */
  #pump(peer: Peer, stream: Streaming): void {
    const { last, writtenSeq } = this.#state.log;
    const behind = stream.sent.seq < writtenSeq;
    const open = stream.inFlightBytes < this.#state.settings.windowBytes;
    stream.gathersUntilMs = Infinity;
    stream.lacksSinceMs = behind ? Math.min(stream.lacksSinceMs, this.#nowMs) : Infinity;
    if (!open || stream.reading) return this.#tell(peer, stream);
    if (!behind) return this.#tell(peer, stream, last.seq > writtenSeq);
    const dueAtMs = this.#isWaitedFor(peer, stream) ? this.#nowMs : recordsDueAtMs(this.#state, stream);
    if (dueAtMs > this.#nowMs) {
      stream.gathersUntilMs = dueAtMs;
      return this.#tell(peer, stream, true);
    }
    stream.reading = "tail";
    this.#out.push({ kind: "readTail", connection: stream.connection, ...this.#wanted(stream) });
  }

  #isWaitedFor(peer: Peer, stream: Streaming): boolean {
    return isWaitedFor(this.#state, this.#role, peer, stream);
  }

  #wanted(stream: Streaming): { afterSeq: Seq; maxBytes: number } {
    const { batchBytes, windowBytes } = this.#state.settings;
    return { afterSeq: stream.sent.seq, maxBytes: Math.min(batchBytes, windowBytes - stream.inFlightBytes) };
  }

  #push(peer: Peer, stream: Streaming, batch: Batch): void {
    const previous = stream.sent;
    stream.reading = undefined;
    noteSent(stream, batch, this.#state.log);
    // What one message cannot hold has gathered for long enough.
    if (batch.end.seq < this.#state.log.writtenSeq) stream.lacksSinceMs = -Infinity;
    this.#out.push({
      kind: "send",
      connection: stream.connection,
      message: { kind: "append", ...envelope(this.#state), previous, records: batch.records, ...this.#news(stream) },
    });
    this.#pump(peer, stream);
  }

  /**
   * Says what the replica does not know yet, if there is anything. `pushesSoon`: what is being written or gathered now brings the news of
   * a commit with it; under load that saves every other message.
   */
  #tell(peer: Peer, stream: Streaming, pushesSoon = false): void {
    const isCommitNew = this.#state.commitSeq > stream.toldCommitSeq && !pushesSoon;
    const newsDueMs = this.#isWaitedFor(peer, stream) ? this.#nowMs : newsDueAtMs(stream);
    const isNew =
      (isCommitNew && newsDueMs <= this.#nowMs) ||
      stream.probe > stream.echoed ||
      this.#role.rounds.current > stream.toldRound;
    if (isNew) this.#heartbeat(stream, false);
    else if (isCommitNew) stream.gathersUntilMs = newsDueMs;
  }

  #heartbeat(stream: Streaming, answer: boolean, withCheck = false): void {
    if (answer) stream.askedAtMs = this.#nowMs;
    if (withCheck) stream.checkedAtMs = this.#role.checkedAtMs = this.#nowMs;
    this.#out.push({
      kind: "send",
      connection: stream.connection,
      message: { kind: "heartbeat", ...envelope(this.#state), answer, ...this.#news(stream) },
      ...(withCheck && { withCheck }),
    });
  }

  /**
   * Whose state is compared with this master's now: in quiet times, since only then the two are likely to have applied the
   * same. Peers take turns: whose state differs forgets its log, too, and if it is this master that is wrong, nobody else must
   * do so before the one before is whole again.
   */
  #whomToCheck(): Peer | undefined {
    const { log } = this.#state;
    if (this.#nowMs - this.#role.checkedAtMs < STATE_CHECK_MS || log.appliedSeq < log.writtenSeq) return undefined;
    let next: { readonly peer: Peer; readonly checkedAtMs: number } | undefined;
    for (const peer of this.#role.peers.values()) {
      if (peer.progress.kind !== "streaming" || peer.matchSeq < log.writtenSeq) continue;
      const { checkedAtMs } = peer.progress;
      if (this.#nowMs - checkedAtMs < STATE_CHECK_MS || (next && next.checkedAtMs <= checkedAtMs)) continue;
      if (this.#mayForget(peer)) next = { peer, checkedAtMs };
    }
    return next?.peer;
  }

  /** Whether all other voters keep what is committed. */
  #mayForget({ met }: Peer): boolean {
    const others = otherVoters(this.#state.log.electorate, this.#state.self);
    if (!others.some(({ nodeId }) => nodeId === met)) return true;
    const isWhole = (voter: NodeId): boolean =>
      [...this.#role.peers.values()].some(
        (peer) => peer.met === voter && peer.progress.kind === "streaming" && peer.matchSeq >= this.#state.commitSeq,
      );
    return others.every(({ nodeId }) => nodeId === met || isWhole(nodeId));
  }

  /** What every message to a stream carries; from here on the replica counts as told. */
  #news(stream: Streaming): Pick<Heartbeat, "commitSeq" | "echo" | "masterTimeMs" | "round"> {
    stream.toldCommitSeq = this.#state.commitSeq;
    stream.echoed = stream.probe;
    stream.toldRound = this.#role.rounds.current;
    stream.sentAtMs = this.#nowMs;
    return {
      commitSeq: this.#state.commitSeq,
      echo: stream.echoed,
      masterTimeMs: this.#masterTimeMs(),
      round: stream.toldRound,
    };
  }

  #masterTimeMs(): EpochMs {
    return epochMs(Math.floor(this.#role.masterTimeOffsetMs + this.#nowMs));
  }

  // ---- endings ---------------------------------------------------------------------------------------------------------

  /** Whether the message shows that this mastership has ended; then it has, from here on. */
  #deposedBy(message: ReplicaMessage): boolean {
    const { epoch } = this.#role;
    if (message.kind === "reject" && message.reason === "epoch_conflict" && message.epoch <= epoch) {
      this.#stop(`node ${message.sender} says that another mastership has the same epoch ${epoch}`);
      return true;
    }
    if (message.epoch <= epoch) return false;
    this.end();
    resign(this.#state, this.#out, `node ${message.sender} says that epoch ${message.epoch} has begun`);
    return true;
  }

  /** Another mastership has this one's number: no rule tells which is right, so neither goes on. */
  #stop(detail: string): void {
    const { epoch } = this.#role;
    this.end();
    const why = `the mastership of this node (epoch ${epoch}) has ended: ${detail}; promote the node that is to go on`;
    this.#state.role = { kind: "idle", why, canFollow: true };
    this.#out.push({ kind: "stepDown", detail, masterAddress: undefined, conflict: true });
  }

  /** Why the master will not push to whom it has met at the address. */
  #refusalOf({ spec, met, address }: Peer): { reason: Refusal; detail: string } | undefined {
    if (met === undefined) return undefined;
    if (this.#role.removed.has(met) && !spec.invited) {
      return { reason: "removed", detail: `node ${met} was removed from the cluster; add it again to push to it` };
    }
    if (spec.member?.voter && spec.member.nodeId !== met && !spec.invited) {
      const detail = `voter ${spec.member.nodeId} should be at ${address}, but node ${met} answers there; if the voter's disk was lost, let node ${met} take its place: cambium members add ${address}`;
      return { reason: "replaced_voter", detail };
    }
    return undefined;
  }

  #refuse(peer: Peer, reason: Refusal, detail: string): void {
    this.#hangUp(peer);
    peer.detail = detail;
    peer.progress = { kind: "refused", reason, retryAtMs: this.#nowMs + this.#pause(peer) };
    this.#out.push({ kind: "refused", address: peer.address, reason, detail });
  }

  #giveUp(peer: Peer, detail: string): void {
    this.#hangUp(peer);
    peer.detail = detail;
    peer.progress = { kind: "disconnected", opening: undefined, dueAtMs: this.#nowMs + this.#pause(peer) };
    this.#out.push({ kind: "unreached", address: peer.address, detail });
  }

  #silence({ heardAtMs }: Streaming | Transferring): string {
    return `the node has been silent for ${Math.round(this.#nowMs - heardAtMs)} ms`;
  }

  #pause(peer: Peer): number {
    return backoffMs(peer.attempts++, takeChance(this.#state));
  }

  #hangUp(peer: Peer): void {
    const connection = connectionOf(peer);
    if (connection === undefined) return;
    this.#role.byConnection.delete(connection);
    this.#out.push({ kind: "disconnect", connection });
  }
}
