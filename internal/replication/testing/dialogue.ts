/**
 * Scripts that the core plays by itself: a line that begins with `>` is what happens, and the lines after it are what the
 * core wants done. A test compares the script with what was really played.
 *
 * Places are `epoch/seq`, and `!` after one makes its chain value wrong. Histories are `epoch@firstSeq …`, and `'` after an
 * epoch makes its id another one. Connections are `#1`, sessions `s1`. Records have 100 bytes each.
 */
import { assert, must } from "../../base/assert.js";
import { EpochHistory, type EpochStart } from "../../base/epoch-history.js";
import {
  type ClusterId,
  clusterId,
  type EpochId,
  epochId,
  nodeId,
  type NodeId,
  type TransferId,
  transferId,
} from "../../base/ids.js";
import { epoch as toEpoch, epochMs, type LogMark, type Position, type Seq, seq as toSeq } from "../../base/position.js";
import type { Effect } from "../core/effect.js";
import type { Batch, Happening, LogView, PeerSpec } from "../core/event.js";
import {
  type Envelope,
  type MasterMessage,
  PROTOCOL_VERSION,
  type RejectReason,
  type ReplicaMessage,
} from "../core/message.js";
import { newReplicaRole } from "../core/replica.js";
import { type CoreState, newCoreState, type Settings } from "../core/state.js";
import { step } from "../core/step.js";

export const OUR_CLUSTER = clusterId("c1".repeat(16));
export const FOREIGN_CLUSTER = clusterId("f0".repeat(16));
export const RECORD_BYTES = 100;

/** `a` … `z`, each the name of a node. */
export const nodeNamed = (name: string): NodeId => nodeId(name.charCodeAt(0).toString(16).repeat(16));
const transferNamed = (name: string): TransferId => transferId(nodeNamed(name));
const nameOf = (id: NodeId | TransferId): string => String.fromCharCode(parseInt(id.slice(0, 2), 16));

export interface LogOptions {
  readonly history?: string;
  /** The end, all of it written, kept and applied. */
  readonly last?: string;
  readonly written?: number;
  readonly kept?: number;
  readonly applied?: number;
  readonly compact?: number;
  readonly floor?: number;
}

export function logOf({ history = "", last = "0/0", ...seqs }: LogOptions): LogView {
  const end = markOf(last);
  return {
    last: end,
    writtenSeq: toSeq(seqs.written ?? end.seq),
    keptSeq: toSeq(seqs.kept ?? end.seq),
    appliedSeq: toSeq(seqs.applied ?? seqs.kept ?? end.seq),
    compactSeq: toSeq(seqs.compact ?? 0),
    floorSeq: toSeq(seqs.floor ?? 0),
    history: new EpochHistory(historyOf(history)),
  };
}

export interface Player {
  readonly state: CoreState;
  nowMs: number;
}

const SETTINGS: Settings = { commit: "master", heartbeatIntervalMs: 1000, batchBytes: 300, windowBytes: 500 };

/** Node `r`, a replica of our cluster, or of none. */
export function replicaPlayer(
  options: LogOptions & { empty?: true; promised?: number; settings?: Partial<Settings> },
): Player {
  const promised = options.promised ?? 0;
  const state = newCoreState({
    self: nodeNamed("r"),
    settings: { ...SETTINGS, ...options.settings },
    clusterId: options.empty ? undefined : OUR_CLUSTER,
    promised: {
      epoch: toEpoch(promised),
      ...(promised > 0 && { candidate: nodeNamed("m"), epochId: epochIdOf(String(promised)) }),
    },
    log: logOf(options),
    role: newReplicaRole(),
    seed: 1,
  });
  return { state, nowMs: 0 };
}

/** Node `m`, whose log's last epoch has just begun with its last record. */
export function masterPlayer(options: LogOptions & { settings?: Partial<Settings> }): Player {
  const log = logOf(options);
  const own = must(log.history.last, "a master has an epoch");
  const state = newCoreState({
    self: nodeNamed("m"),
    settings: { ...SETTINGS, ...options.settings },
    clusterId: OUR_CLUSTER,
    promised: { epoch: toEpoch(own.epoch - 1) },
    log,
    role: { kind: "idle", why: "not begun" },
    seed: 1,
  });
  const begin = {
    ...own,
    kind: "begin",
    clusterId: OUR_CLUSTER,
    address: "m:1",
    masterTimeOffsetMs: 5000,
    nowMs: 0,
  } as const;
  step(state, begin);
  return { state, nowMs: 0 };
}

/** Plays the events of a script, and gives the script back with what the core wanted done. */
export function play(player: Player, script: string): string {
  const played: string[] = [];
  for (const line of tidy(script).split("\n")) {
    if (!line.startsWith(">")) continue;
    played.push(line);
    const [command, ...rest] = line.slice(1).trim().split(/ +/);
    if (command === "pass") {
      player.nowMs += Number(rest[0]);
      continue;
    }
    const happening = eventOf(player.state, must(command, "a command"), rest);
    const effects = step(player.state, { ...happening, nowMs: player.nowMs });
    played.push(...effects.map(showEffect));
  }
  return played.join("\n");
}

/** A script without the indentation of its test. */
export function tidy(script: string): string {
  return script
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .join("\n");
}

// ---- what happens ------------------------------------------------------------------------------------------------------

function eventOf(state: CoreState, command: string, words: string[]): Happening {
  const text = words.join(" ");
  const fields = fieldsOf(words);
  const number = (name: string, otherwise = 0): number => Number(fields.get(name) ?? otherwise);
  const connection = Number(/#(\d+)/.exec(text)?.[1]);
  const session = Number(/\bs(\d+)/.exec(`${command} ${text}`)?.[1]);
  if (command.startsWith("#")) {
    return { kind: "answered", connection: Number(command.slice(1)), message: replicaMessage(words.slice(1), state) };
  }
  if (/^s\d/.test(command)) return { kind: "pushed", session, message: masterMessage(words.slice(1)) };
  switch (command) {
    case "flush":
      return { kind: "flush" };
    case "shutdown":
      return { kind: "shutdown", reason: text };
    case "log":
      return {
        kind: "log",
        log: {
          last: fields.has("last") ? markOf(must(fields.get("last"), "last")) : state.log.last,
          writtenSeq: toSeq(number("written", state.log.writtenSeq)),
          keptSeq: toSeq(number("kept", state.log.keptSeq)),
          appliedSeq: toSeq(number("applied", state.log.appliedSeq)),
          compactSeq: toSeq(number("compact", state.log.compactSeq)),
          floorSeq: state.log.floorSeq,
          history: fields.has("history") ? new EpochHistory(historyOf(fields.get("history") ?? "")) : state.log.history,
        },
      };
    case "peers":
      return peersOf(words);
    case "retry":
      return { kind: "retry", address: text };
    case "opened":
      return { kind: "opened", connection };
    case "lost":
      return { kind: "lost", connection, reason: "reset" };
    case "mark": {
      const mark = markOf(must(words[0], "a mark"));
      if (text.includes("#")) return { kind: "marked", connection, mark };
      return { kind: "finished", operation: outstanding(state), outcome: { kind: "mark", mark } };
    }
    case "tail":
      return {
        kind: "tail",
        connection,
        batch: words[0] === "none" ? undefined : batchOf(must(words[0], "seqs"), state),
      };
    case "disk":
      return { kind: "read", connection, batch: batchOf(must(words[0], "seqs"), state) };
    case "unreadable":
      return { kind: "unreadable", connection, detail: "no such record" };
    case "transfer":
      return { kind: "transferOpened", connection, id: transferNamed(must(words[0], "a name")), size: number("size") };
    case "bytes":
      return { kind: "transferRead", connection, bytes: new Uint8Array(Number(words[0])) };
    case "staged":
      return {
        kind: "finished",
        operation: outstanding(state),
        outcome: { kind: "staged", received: Number(words[0]) },
      };
    case "damaged":
      return {
        kind: "finished",
        operation: outstanding(state),
        outcome: { kind: "damaged", detail: "a chunk is damaged" },
      };
    case "wrote":
      return { kind: "transferWritten", session, bytes: Number(words[0]) };
    case "unwritten":
      return { kind: "transferUnwritten", session, detail: "no room" };
    case "accepted":
      return { kind: "accepted", session };
    case "left":
      return { kind: "left", session };
    case "done":
      return { kind: "finished", operation: outstanding(state), outcome: { kind: "done" } };
    case "failed":
      return { kind: "finished", operation: outstanding(state), outcome: { kind: "failed", detail: "no room" } };
    case "appended":
      return { kind: "appended", session };
    case "unappended":
      return { kind: "unappended", session, detail: "damaged" };
    case "dropped":
      return { kind: "dropped", firstSeq: toSeq(number("from")) };
    default:
      throw new Error(`the script says ${command}`);
  }
}

/** `peers r:1 r:2=b v:1=c:voter x:1:invited removed=d` */
function peersOf(words: string[]): Happening {
  const removed = new Set<NodeId>();
  const peers: PeerSpec[] = [];
  for (const word of words) {
    const [, address, name, mark] = /^([a-z]:\d+)(?:=([a-z]))?(?::(voter|invited))?$/.exec(word) ?? [];
    if (address === undefined) {
      removed.add(nodeNamed(word.slice("removed=".length)));
      continue;
    }
    const member = name === undefined ? undefined : { nodeId: nodeNamed(name), voter: mark === "voter" };
    peers.push({ address, invited: mark === "invited", ...(member && { member }) });
  }
  return { kind: "peers", peers, removed };
}

function replicaMessage(words: string[], state: CoreState): ReplicaMessage {
  const [kind, reason] = words;
  const fields = fieldsOf(words.slice(1));
  const number = (name: string): number => Number(fields.get(name) ?? 0);
  const own = state.role.kind === "master" ? state.role.epoch : state.promised.epoch;
  const head = envelopeOf(fields, "r", own);
  switch (kind) {
    case "welcome":
      return {
        kind,
        ...head,
        protocolVersion: Number(fields.get("version") ?? PROTOCOL_VERSION),
        history: historyOf(fields.get("history") ?? ""),
        last: markOf(fields.get("last") ?? "0/0"),
        heartbeatIntervalMs: Number(fields.get("heartbeat") ?? 1000),
        floorSeq: toSeq(number("floor")),
      };
    case "ack":
      return {
        kind,
        ...head,
        matchSeq: toSeq(number("match")),
        appliedSeq: toSeq(number("applied")),
        probe: number("probe"),
        round: number("round"),
      };
    case "snapshotAck": {
      const id = fields.get("id");
      return {
        kind,
        ...head,
        ...(id !== undefined && { id: transferNamed(id) }),
        received: number("received"),
      };
    }
    case "reject":
      return { kind, ...head, reason: reason as RejectReason, detail: "as it says" };
    default:
      throw new Error(`the script says ${kind}`);
  }
}

function masterMessage(words: string[]): MasterMessage {
  const fields = fieldsOf(words.slice(1));
  const number = (name: string): number => Number(fields.get(name) ?? 0);
  const head = envelopeOf(fields, "m", 1);
  const news = {
    commitSeq: toSeq(number("commit")),
    echo: number("echo"),
    masterTimeMs: epochMs(7000),
    round: number("round"),
  };
  switch (words[0]) {
    case "hello": {
      const history = fields.get("history") ?? "";
      const newest = must(history.split(" ").at(-1)?.split("@")[0], "a history");
      return {
        kind: "hello",
        ...head,
        protocolVersion: Number(fields.get("version") ?? PROTOCOL_VERSION),
        epochId: epochIdOf(fields.get("id") ?? newest),
        masterAddress: "m:1",
        history: historyOf(history),
        last: markOf(fields.get("last") ?? "0/0"),
      };
    }
    case "align":
      return { kind: "align", ...head, agreement: markOf(must(fields.get("at"), "at")) };
    case "append": {
      const [first, last] = must(fields.get("records"), "records").split("-").map(Number);
      const records = new Uint8Array((must(last, "last") - must(first, "first") + 1) * RECORD_BYTES);
      return { kind: "append", ...head, previous: markOf(must(fields.get("after"), "after")), records, ...news };
    }
    case "offer":
      return { kind: "snapshotOffer", ...head, id: transferNamed(must(words[1], "a name")), size: number("size") };
    case "chunk": {
      const bytes = new Uint8Array(number("bytes"));
      return {
        kind: "snapshotChunk",
        ...head,
        id: transferNamed(must(words[1], "a name")),
        offset: number("offset"),
        bytes,
      };
    }
    case "heartbeat":
      return { kind: "heartbeat", ...head, answer: words.includes("answer"), ...news };
    case "takeOver":
      return { kind: "takeOver", ...head };
    default:
      throw new Error(`the script says ${words[0]}`);
  }
}

function envelopeOf(fields: Map<string, string>, sender: string, epoch: number): Envelope {
  const clusters: Record<string, ClusterId | undefined> = { ours: OUR_CLUSTER, foreign: FOREIGN_CLUSTER };
  const cluster = clusters[fields.get("cluster") ?? "ours"];
  return {
    ...(cluster && { clusterId: cluster }),
    epoch: toEpoch(Number(fields.get("epoch") ?? epoch)),
    sender: nodeNamed(fields.get("from") ?? sender),
  };
}

/** `name value …`, where a history's value goes on for as long as its words have an `@`. */
function fieldsOf(words: string[]): Map<string, string> {
  const fields = new Map<string, string>();
  for (let i = 0; i < words.length; i++) {
    const name = must(words[i], "a word");
    if (name === "history") {
      const starts: string[] = [];
      while (words[i + 1]?.includes("@")) starts.push(must(words[++i], "a start").replace(",", ""));
      fields.set(name, starts.join(" "));
    } else if (words[i + 1] !== undefined) {
      fields.set(name, must(words[i + 1], "a value").replace(",", ""));
    }
  }
  return fields;
}

function markOf(text: string): LogMark {
  const [, epoch, seq, wrong] = /^(\d+)\/(\d+)(!)?$/.exec(text) ?? [];
  assert(epoch !== undefined && seq !== undefined, `${text} is no mark`);
  const chain = Number(epoch) * 1000 + Number(seq) + (wrong ? 0x8000 : 0);
  return { epoch: toEpoch(Number(epoch)), seq: toSeq(Number(seq)), chain };
}

function historyOf(text: string): EpochStart[] {
  return text
    .split(" ")
    .filter((word) => word !== "")
    .map((word) => {
      const [number, first] = word.split("@");
      const name = must(number, "an epoch");
      return { epoch: toEpoch(parseInt(name, 10)), epochId: epochIdOf(name), firstSeq: toSeq(Number(first)) };
    });
}

function epochIdOf(name: string): EpochId {
  return epochId((name.endsWith("'") ? "f" : "0").repeat(8) + parseInt(name, 10).toString(16).padStart(8, "0"));
}

function batchOf(seqs: string, { log }: CoreState): Batch {
  const [first, last] = seqs.split("-").map(Number);
  const end = toSeq(must(last ?? first, "a last seq"));
  return {
    records: new Uint8Array((end - must(first, "a first seq") + 1) * RECORD_BYTES),
    end: markOf(`${log.history.epochAt(end)}/${end}`),
  };
}

function outstanding({ role }: CoreState): number {
  assert(role.kind === "replica", "only a replica works");
  return must(role.work, "work is under way").operation;
}

// ---- what is to be done --------------------------------------------------------------------------------------------------

function showEffect(effect: Effect): string {
  switch (effect.kind) {
    case "commit":
      return `commit ${effect.seq}`;
    case "connect":
      return `connect to ${effect.address} as #${effect.connection}`;
    case "send":
      return `#${effect.connection} <- ${showMessage(effect.message)}`;
    case "disconnect":
      return `hang up #${effect.connection}`;
    case "readMark":
      return `read mark ${effect.seq} for #${effect.connection}`;
    case "readTail":
    case "readDisk": {
      const where = effect.kind === "readTail" ? "tail" : "disk";
      return `read ${where} after ${effect.afterSeq} up to ${effect.maxBytes} for #${effect.connection}`;
    }
    case "openTransfer":
      return `open transfer for #${effect.connection}`;
    case "readTransfer":
      return `read transfer at ${effect.offset} up to ${effect.maxBytes} for #${effect.connection}`;
    case "spoilTransfer":
      return `spoil transfer of #${effect.connection}`;
    case "transferring":
      return `transferring ${effect.size} bytes to ${effect.address}`;
    case "stageTransfer":
      return `stage ${nameOf(effect.id)}, ${effect.size} bytes`;
    case "writeTransfer":
      return `write ${effect.bytes.length} bytes at ${effect.offset}`;
    case "installTransfer":
      return `install`;
    case "restart":
      return `restart`;
    case "stepDown":
      return `step down`;
    case "met":
      return `met ${nameOf(effect.nodeId)} at ${effect.address}`;
    case "streaming":
      return `streaming to ${effect.address} after ${effect.afterSeq}`;
    case "refused":
      return `refused at ${effect.address}: ${effect.reason}`;
    case "unreached":
      return `unreached at ${effect.address}: ${effect.detail}`;
    case "reply":
      return `s${effect.session} -> ${showMessage(effect.message)}`;
    case "closeSession":
      return `close s${effect.session}: ${effect.reason}`;
    case "join":
      return `join`;
    case "promise":
      return `promise epoch ${effect.promise.epoch} to ${effect.promise.candidate ? nameOf(effect.promise.candidate) : "-"}`;
    case "compare":
      return `compare at ${effect.seq}`;
    case "cut":
      return `cut after ${effect.seq}`;
    case "append":
      return `append ${effect.records.length} bytes`;
    case "observeTime":
      return `master time ${effect.masterTimeMs}`;
    case "follow":
      return `follow ${nameOf(effect.nodeId)} at ${effect.address}`;
    case "orphaned":
      return `orphaned`;
    case "caughtUp":
      return `caught up`;
  }
}

export function showMessage(message: MasterMessage | ReplicaMessage): string {
  switch (message.kind) {
    case "hello":
      return `hello epoch ${message.epoch}, history ${showHistory(message.history)}, last ${showPlace(message.last)}`;
    case "align":
      return `align at ${showPlace(message.agreement)}`;
    case "append": {
      const { previous, records, commitSeq, echo } = message;
      return `append after ${showPlace(previous)}, ${records.length} bytes, commit ${commitSeq}, echo ${echo}`;
    }
    case "heartbeat":
      return `heartbeat commit ${message.commitSeq}, echo ${message.echo}${message.answer ? ", answer" : ""}`;
    case "takeOver":
      return `take over`;
    case "welcome":
      return `welcome promised ${message.epoch}, history ${showHistory(message.history)}, last ${showPlace(message.last)}`;
    case "ack":
      return `ack match ${message.matchSeq}, applied ${message.appliedSeq}, probe ${message.probe}`;
    case "snapshotOffer":
      return `offer ${nameOf(message.id)}, ${message.size} bytes`;
    case "snapshotChunk":
      return `chunk of ${nameOf(message.id)} at ${message.offset}, ${message.bytes.length} bytes`;
    case "snapshotAck":
      return `snapshot ack ${message.id ? nameOf(message.id) : "-"}, received ${message.received}`;
    case "reject":
      return `reject ${message.reason}, promised ${message.epoch}`;
  }
}

const showPlace = ({ epoch, seq }: Position): string => `${epoch}/${seq}`;

function showHistory(starts: readonly EpochStart[]): string {
  return (
    starts.map(({ epoch, firstSeq }: { epoch: number; firstSeq: Seq }) => `${epoch}@${firstSeq}`).join(" ") || "none"
  );
}
