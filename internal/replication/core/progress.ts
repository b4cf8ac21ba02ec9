/**
 * A replica as its master sees it.
 *
 * ```
 *                    opened, Hello        Welcome, mark read, Align       Ack
 *   disconnected ───────────────► probing ────────────────────────► streaming
 *        ▲  ▲                        │ Welcome from before compact       │
 *        │  │                        └─────────► transferring            │
 *        │  │                                         │ (it starts anew) │
 *        │  └────────────────────── lost, silent ─────┴──────────────────┤
 *        └──────────── after a pause ────── refused ◄── Reject ──────────┘
 * ```
 */
import { assert, must } from "../../base/assert.js";
import type { NodeId, TransferId } from "../../base/ids.js";
import { type LogMark, type Seq, seq } from "../../base/position.js";
import type { Refusal } from "./effect.js";
import type { Batch, LogView, PeerSpec } from "./event.js";
import { boundHeartbeat, silenceMs } from "./timing.js";

/** Probes that wait for their round; the newest are as good as the oldest, once there is a majority again. */
const PROBES_MAX = 64;

/** No connection. */
export interface Disconnected {
  readonly kind: "disconnected";
  /** The try that is under way. */
  readonly opening: number | undefined;
  /** When the next try is due, or the one under way is given up. */
  readonly dueAtMs: number;
}

/** Connected; the master finds out where the two logs agree. */
export interface Probing {
  readonly kind: "probing";
  readonly connection: number;
  /** Hello is sent; the own mark is being read; Align is sent. */
  readonly step: "greeting" | "reading" | "aligning";
  readonly deadlineMs: number;
  /** From step `reading` on. */
  readonly heartbeatIntervalMs: number;
  /** In step `aligning`: what Align said. */
  readonly agreement: LogMark | undefined;
}

/** Records that were sent together. */
interface Flight {
  readonly lastSeq: Seq;
  readonly bytes: number;
}

/** Connected, and the master pushes what the replica lacks. */
export interface Streaming {
  readonly kind: "streaming";
  readonly connection: number;
  /** Where pushing began. */
  readonly agreementSeq: Seq;
  /** The last record sent; the next one to send follows it. Invariant: match ≤ sent ≤ own written. */
  sent: LogMark;
  /** Sent and not acknowledged, oldest first. */
  readonly inFlight: Flight[];
  /** Sum over `inFlight`. Invariant: nothing is sent while this has reached the window. */
  inFlightBytes: number;
  /** The one read of the log that is outstanding. */
  reading: "tail" | "disk" | undefined;
  /** Since when there has been something written that the replica was not sent; Infinity: it was sent everything. */
  lacksSinceMs: number;
  /** What is gathered for it is sent then; Infinity: there is nothing. */
  gathersUntilMs: number;
  /** The commit seq that the replica was told last. */
  toldCommitSeq: Seq;
  /** The newest round that the replica was told of. */
  toldRound: number;
  /**
   * Probes that came, oldest first, and the round whose confirmation shows that this node was still master after they
   * came: only then they are given back.
   */
  readonly probes: { readonly probe: number; readonly round: number }[];
  /** The newest probe that may be given back, and the newest that was. Invariant: echoed ≤ probe. */
  probe: number;
  echoed: number;
  readonly heartbeatIntervalMs: number;
  sentAtMs: number;
  heardAtMs: number;
  /** When a heartbeat last asked for an answer. */
  askedAtMs: number;
  /** When the master's checksum was sent last. */
  checkedAtMs: number;
  /** Silent until then, the peer is given up. */
  deadlineMs: number;
}

/** Connected, and the master sends its whole state, since its log no longer reaches back to what the replica has. */
export interface Transferring {
  readonly kind: "transferring";
  readonly connection: number;
  /** The file; absent until it is ready, which may take as long as a snapshot takes. */
  file: { readonly id: TransferId; readonly size: number } | undefined;
  /** What the replica had when it was offered the file; absent until it has said so. */
  startedAt: number | undefined;
  /** Bytes from the file's first on. Invariant: received ≤ sent ≤ size. */
  sent: number;
  received: number;
  /** A read of the file is under way. */
  reading: boolean;
  readonly heartbeatIntervalMs: number;
  sentAtMs: number;
  heardAtMs: number;
  askedAtMs: number;
  /** Silent until then, the peer is given up. */
  deadlineMs: number;
}

/** The member refused the master, or the master will not have it. Tried again after a pause, for either may change. */
export interface Refused {
  readonly kind: "refused";
  readonly reason: Refusal;
  readonly retryAtMs: number;
}

export type Progress = Disconnected | Probing | Transferring | Streaming | Refused;

export interface Peer {
  readonly address: string;
  spec: PeerSpec;
  /** Who answered at the address last. */
  met: NodeId | undefined;
  /** Highest seq that the peer has acknowledged since it was met last. Invariant: ≤ own written. */
  matchSeq: Seq;
  /** As the peer said last. */
  appliedSeq: Seq;
  /** The newest round that it has answered. */
  answeredRound: number;
  /** When the peer last had everything that was written by then. */
  hadAllAtMs: number;
  /** Once the peer has this seq, it had everything as of that time. */
  goal: { readonly seq: Seq; readonly atMs: number } | undefined;
  /** Tries since there was progress last. */
  attempts: number;
  /** What went wrong last; empty when all is well. */
  detail: string;
  progress: Progress;
}

export function newPeer(spec: PeerSpec, nowMs: number): Peer {
  return {
    address: spec.address,
    spec,
    met: undefined,
    matchSeq: seq(0),
    appliedSeq: seq(0),
    answeredRound: 0,
    hadAllAtMs: nowMs,
    goal: undefined,
    attempts: 0,
    detail: "",
    progress: { kind: "disconnected", opening: undefined, dueAtMs: nowMs },
  };
}

/** Whether whom the peer was `met` as is who is there now. */
export function isMet({ progress }: Peer): boolean {
  const { kind } = progress;
  return (
    kind === "streaming" || kind === "transferring" || (progress.kind === "probing" && progress.step !== "greeting")
  );
}

/** The peer's open or opening connection. */
export function connectionOf({ progress }: Peer): number | undefined {
  switch (progress.kind) {
    case "disconnected":
      return progress.opening;
    case "probing":
    case "transferring":
    case "streaming":
      return progress.connection;
    case "refused":
      return undefined;
  }
}

/** A stream that begins after the record at `agreement`. */
export function newStreaming(
  { connection, heartbeatIntervalMs }: Probing,
  agreement: LogMark,
  nowMs: number,
): Streaming {
  const intervalMs = boundHeartbeat(heartbeatIntervalMs);
  return {
    kind: "streaming",
    connection,
    agreementSeq: agreement.seq,
    sent: agreement,
    inFlight: [],
    inFlightBytes: 0,
    reading: undefined,
    lacksSinceMs: -Infinity,
    gathersUntilMs: Infinity,
    toldCommitSeq: seq(0),
    toldRound: 0,
    probes: [],
    probe: 0,
    echoed: 0,
    heartbeatIntervalMs: intervalMs,
    sentAtMs: nowMs,
    heardAtMs: nowMs,
    askedAtMs: nowMs,
    checkedAtMs: nowMs,
    deadlineMs: nowMs + silenceMs(intervalMs),
  };
}

export function newTransferring(connection: number, heartbeatIntervalMs: number, nowMs: number): Transferring {
  const intervalMs = boundHeartbeat(heartbeatIntervalMs);
  return {
    kind: "transferring",
    connection,
    file: undefined,
    startedAt: undefined,
    sent: 0,
    received: 0,
    reading: false,
    heartbeatIntervalMs: intervalMs,
    sentAtMs: nowMs,
    heardAtMs: nowMs,
    askedAtMs: nowMs,
    deadlineMs: nowMs + silenceMs(intervalMs),
  };
}

export function noteSent(stream: Streaming, { records, end }: Batch, log: LogView): void {
  assert(end.seq > stream.sent.seq, `a batch that ends at ${end.seq} brings nothing after ${stream.sent.seq}`);
  assert(end.seq <= log.writtenSeq, `seq ${end.seq} is pushed, but only ${log.writtenSeq} is written`);
  stream.sent = end;
  stream.inFlight.push({ lastSeq: end.seq, bytes: records.length });
  stream.inFlightBytes += records.length;
}

export function noteChunkSent(transfer: Transferring, bytes: number, nowMs: number): void {
  const { size } = must(transfer.file, "what is sent was opened");
  assert(bytes > 0 && transfer.sent + bytes <= size, `${bytes} bytes after ${transfer.sent} of a file of ${size}`);
  transfer.sent += bytes;
  transfer.sentAtMs = nowMs;
}

/** Cumulative. The peer can acknowledge only what it was sent; the caller has checked that. */
export function noteAcknowledged(peer: Peer, stream: Streaming, matchSeq: Seq, log: LogView, nowMs: number): void {
  assert(matchSeq <= stream.sent.seq, `seq ${matchSeq} is acknowledged, but only ${stream.sent.seq} was sent`);
  if (matchSeq > peer.matchSeq) peer.matchSeq = matchSeq;
  while (stream.inFlight[0] && stream.inFlight[0].lastSeq <= matchSeq) {
    stream.inFlightBytes -= stream.inFlight.shift()!.bytes;
  }
  assert(stream.inFlight.length > 0 || stream.inFlightBytes === 0, "no flight, no bytes");
  noteLag(peer, log, nowMs);
}

/** A probe came: it may be given back once the next round is confirmed. */
export function noteProbe(stream: Streaming, probe: number, nextRound: number): void {
  const last = stream.probes.at(-1);
  if (probe <= Math.max(stream.probe, last?.probe ?? 0)) return;
  if (last?.round === nextRound) stream.probes.pop();
  stream.probes.push({ probe, round: nextRound });
  if (stream.probes.length > PROBES_MAX) stream.probes.shift();
}

/** Rounds up to `round` are confirmed. */
export function noteConfirmed(stream: Streaming, round: number): void {
  while (stream.probes[0] && stream.probes[0].round <= round) stream.probe = stream.probes.shift()!.probe;
}

export function noteHeard(stream: Streaming | Transferring, nowMs: number): void {
  stream.heardAtMs = nowMs;
  stream.deadlineMs = nowMs + silenceMs(stream.heartbeatIntervalMs);
}

/** Brings up to date when the peer had everything. */
export function noteLag(peer: Peer, log: LogView, nowMs: number): void {
  if (peer.matchSeq >= log.writtenSeq) {
    peer.hadAllAtMs = nowMs;
    peer.goal = undefined;
    return;
  }
  if (peer.goal && peer.matchSeq >= peer.goal.seq) {
    peer.hadAllAtMs = peer.goal.atMs;
    peer.goal = undefined;
  }
  peer.goal ??= { seq: log.writtenSeq, atMs: nowMs };
}

/** When the stream owes the replica a heartbeat that asks for an answer: when either side has been quiet. */
export function askAtMs(stream: Streaming | Transferring): number {
  return Math.max(stream.askedAtMs, Math.min(stream.sentAtMs, stream.heardAtMs)) + stream.heartbeatIntervalMs;
}

/** When something is due for the peer although nothing happens. */
export function dueAtMs({ progress }: Peer): number {
  switch (progress.kind) {
    case "disconnected":
      return progress.dueAtMs;
    case "probing":
      return progress.deadlineMs;
    case "transferring":
      return Math.min(askAtMs(progress), progress.deadlineMs);
    case "streaming":
      return Math.min(askAtMs(progress), progress.deadlineMs, progress.gathersUntilMs);
    case "refused":
      return progress.retryAtMs;
  }
}
