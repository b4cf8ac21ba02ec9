/** What happens to a node, read from the words of the scripts in `dialogue.ts`. */
import { assert, must } from "../../base/assert.js";
import { EpochHistory } from "../../base/epoch-history.js";
import { type ClusterId, clusterId, type NodeId } from "../../base/ids.js";
import { epoch as toEpoch, epochMs, seq as toSeq } from "../../base/position.js";
import type { PromiseRefusal, PromiseReply, SurveyReply } from "../core/ballot.js";
import type { CommitMode } from "../core/commit.js";
import type { Batch, Happening, Outcome, PeerSpec } from "../core/event.js";
import {
  type Envelope,
  type MasterMessage,
  PROTOCOL_VERSION,
  type RejectReason,
  type ReplicaMessage,
} from "../core/message.js";
import type { CoreState } from "../core/state.js";
import {
  electorateOf,
  epochIdOf,
  markOf,
  nameOf,
  nodeNamed,
  RECORD_BYTES,
  transferNamed,
  type Words,
} from "./dialogue-words.js";

export const OUR_CLUSTER = clusterId("c1".repeat(16));
export const FOREIGN_CLUSTER = clusterId("f0".repeat(16));

export function happeningOf(state: CoreState, command: string, words: Words): Happening {
  const { text } = words;
  const connection = Number(/#(\d+)/.exec(text)?.[1]);
  const session = Number(/\bs(\d+)/.exec(`${command} ${text}`)?.[1]);
  if (command.startsWith("#")) {
    return { kind: "answered", connection: Number(command.slice(1)), message: replicaMessage(words.after(1), state) };
  }
  if (/^s\d/.test(command)) return { kind: "pushed", session, message: masterMessage(words.after(1)) };
  switch (command) {
    case "flush":
      return { kind: "flush" };
    case "shutdown":
      return { kind: "shutdown", reason: text };
    case "log":
      return logEvent(words, state);
    case "peers":
      return peersOf(words);
    case "retry":
      return { kind: "retry", address: text };
    case "opened":
      return { kind: "opened", connection };
    case "lost":
      return { kind: "lost", connection, reason: "reset" };
    case "mark": {
      const mark = markOf(words.at(0));
      if (text.includes("#")) return { kind: "marked", connection, mark };
      return finished(state, { kind: "mark", mark });
    }
    case "tail": {
      const batch = words.at(0) === "none" ? undefined : batchOf(words.at(0), state);
      return { kind: "tail", connection, batch };
    }
    case "disk":
      return { kind: "read", connection, batch: batchOf(words.at(0), state) };
    case "unreadable":
      return { kind: "unreadable", connection, detail: "no such record" };
    case "transfer":
      return { kind: "transferOpened", connection, id: transferNamed(words.at(0)), size: words.number("size") };
    case "bytes":
      return { kind: "transferRead", connection, bytes: new Uint8Array(Number(words.at(0))) };
    case "staged":
      return finished(state, { kind: "staged", received: Number(words.at(0)) });
    case "damaged":
      return finished(state, { kind: "damaged", detail: "a chunk is damaged" });
    case "wrote":
      return { kind: "transferWritten", session, bytes: Number(words.at(0)) };
    case "unwritten":
      return { kind: "transferUnwritten", session, detail: "no room" };
    case "accepted":
      return { kind: "accepted", session };
    case "left":
      return { kind: "left", session };
    case "done":
      return finished(state, { kind: "done" });
    case "founded":
      return finished(state, { kind: "founded", clusterId: OUR_CLUSTER });
    case "failed":
      return finished(state, { kind: "failed", detail: "no room" });
    case "appended":
      return { kind: "appended", session };
    case "unappended":
      return { kind: "unappended", session, detail: "damaged" };
    case "dropped":
      return { kind: "dropped", firstSeq: toSeq(words.number("from")) };
    case "confirm":
      return { kind: "confirm", read: Number(words.at(0)) };
    case "awaited":
      return { kind: "awaited", seq: toSeq(Number(words.at(0))) };
    case "handOver":
      return { kind: "handOver", address: text };
    case "differs":
      return { kind: "stateDiffers", detail: text };
    default:
      return electionEvent(state, command, words);
  }
}

// ---- of elections --------------------------------------------------------------------------------------------------------

function electionEvent(state: CoreState, command: string, words: Words): Happening {
  switch (command) {
    // `campaign start`, `campaign promoted forced`
    case "campaign":
      return { kind: "campaign", cause: words.at(0) as "start" | "promoted", forced: words.has("forced") };
    // `prepared a:1 b:1 founders r:1,a:1,b:1 unclean`
    case "prepared":
      return {
        kind: "prepared",
        campaign: campaignOf(state, words),
        bid: {
          epochId: epochIdOf("9"),
          address: `${nameOf(state.self)}:1`,
          addresses: addressesOf(words),
          founders: addressesOf(words, "founders"),
          unclean: words.has("unclean"),
        },
      };
    // `surveyed a:1 last 1/5 promised 3=c`, and `master`, `founds`, `unclean`, `node x`, `cluster foreign`, `at m:1`; `surveyed a:1 silent`
    case "surveyed":
      return { kind: "surveyed", campaign: campaignOf(state, words), address: words.at(0), answer: surveyReply(words) };
    // `promised a:1 granted`, `promised a:1 behind last 3/9 epoch 4`, and `unclean`, `node x`, `promised 7`; `promised a:1 silent`
    case "promised":
      return promisedEvent(state, words);
    case "begun":
      return { kind: "begun", firstSeq: toSeq(words.number("at")), masterTimeOffsetMs: 5000 };
    case "unbegun":
      return { kind: "unbegun", detail: "no room" };
    // `asked 1 by c epoch 5 last 1/5 promised 4`, and `voter r`, `id 5'`, `forced`, `cluster foreign`, `unclean`
    case "asked": {
      const candidate = must(words.get("by"), "a candidate");
      const epoch = must(words.get("epoch"), "an epoch");
      const voter = words.get("voter");
      return {
        kind: "promiseAsked",
        ask: Number(words.at(0)),
        unclean: words.has("unclean"),
        request: {
          clusterId: words.get("cluster") === "foreign" ? FOREIGN_CLUSTER : OUR_CLUSTER,
          candidate: nodeNamed(candidate),
          address: `${candidate}:1`,
          epoch: toEpoch(Number(epoch)),
          epochId: epochIdOf(words.get("id") ?? epoch),
          last: markOf(words.get("last") ?? "0/0"),
          forced: words.has("forced"),
          promisedEpoch: toEpoch(words.number("promised")),
          ...(voter !== undefined && { voter: nodeNamed(voter) }),
        },
      };
    }
    default:
      throw new Error(`the script says ${command}`);
  }
}

function addressesOf(words: Words, name?: string): string[] {
  const all = name === undefined ? [...words] : (words.get(name) ?? "").split("+");
  return all.filter((word) => /^[a-z]:1$/.test(word));
}

function surveyReply(words: Words): SurveyReply | string {
  if (words.has("silent")) return "connection refused";
  const [epoch, candidate] = (words.get("promised") ?? "0").split("=");
  const cluster = clusterNamed(words);
  const masterAddress = words.get("at");
  return {
    ...(cluster && { clusterId: cluster }),
    nodeId: nodeNamed(words.get("node") ?? words.at(0)),
    promised: { epoch: toEpoch(Number(epoch)), ...(candidate !== undefined && { candidate: nodeNamed(candidate) }) },
    last: markOf(words.get("last") ?? "0/0"),
    isMaster: words.has("master"),
    founds: words.has("founds"),
    ...(words.has("unclean") && { unclean: true }),
    ...(masterAddress !== undefined && { masterAddress }),
  };
}

function promisedEvent(state: CoreState, words: Words): Happening {
  const { role, log } = state;
  const asked = role.kind === "candidate" && role.phase.kind === "asking" ? role.phase.epoch : 0;
  const epoch = toEpoch(words.number("epoch", asked));
  const address = words.at(0);
  const said = words.at(1);
  const answer: PromiseReply = {
    nodeId: nodeNamed(words.get("node") ?? address),
    ...(said !== "granted" && { refusal: said as PromiseRefusal }),
    detail: said === "granted" ? "" : said,
    unclean: words.has("unclean"),
    promisedEpoch: toEpoch(words.number("promised", epoch)),
    last: markOf(words.get("last") ?? `${log.last.epoch}/${log.last.seq}`),
  };
  return {
    kind: "promised",
    campaign: campaignOf(state, words),
    address,
    epoch,
    answer: said === "silent" ? "connection refused" : answer,
  };
}

/** The present one, unless the words say `of 3`. */
function campaignOf({ role }: CoreState, words: Words): number {
  return words.number("of", role.kind === "candidate" ? role.campaign : 0);
}

// ---- of the log and the store --------------------------------------------------------------------------------------------

function logEvent(words: Words, { log }: CoreState): Happening {
  const last = words.get("last");
  const hasElectorate = words.has("voters") || words.has("commit");
  return {
    kind: "log",
    log: {
      last: last === undefined ? log.last : markOf(last),
      writtenSeq: toSeq(words.number("written", log.writtenSeq)),
      keptSeq: toSeq(words.number("kept", log.keptSeq)),
      appliedSeq: toSeq(words.number("applied", log.appliedSeq)),
      compactSeq: toSeq(words.number("compact", log.compactSeq)),
      floorSeq: log.floorSeq,
      history: words.has("history") ? new EpochHistory(words.history()) : log.history,
      electorate: hasElectorate
        ? electorateOf(words.get("voters"), words.get("commit") as CommitMode | undefined)
        : log.electorate,
    },
  };
}

function finished(state: CoreState, outcome: Outcome): Happening {
  return { kind: "finished", operation: outstanding(state), outcome };
}

function outstanding({ role }: CoreState): number {
  if (role.kind === "candidate") {
    const { phase } = role;
    assert(phase.kind === "founding" || phase.kind === "assuming", "the candidate waits for the store");
    return phase.operation;
  }
  assert(role.kind === "replica", "a master does no work");
  return must(role.work, "work is under way").operation;
}

function batchOf(seqs: string, { log }: CoreState): Batch {
  const [first, last] = seqs.split("-").map(Number);
  const end = toSeq(must(last ?? first, "a last seq"));
  return {
    records: new Uint8Array((end - must(first, "a first seq") + 1) * RECORD_BYTES),
    end: markOf(`${log.history.epochAt(end)}/${end}`),
  };
}

/** `peers r:1 r:2=b v:1=c:voter x:1:invited removed=d` */
function peersOf(words: Words): Happening {
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

// ---- messages ------------------------------------------------------------------------------------------------------------

function replicaMessage(words: Words, state: CoreState): ReplicaMessage {
  const own = state.role.kind === "master" ? state.role.epoch : state.promised.epoch;
  const head = envelopeOf(words, "r", own);
  const kind = words.at(0);
  switch (kind) {
    case "welcome":
      return {
        kind,
        ...head,
        protocolVersion: words.number("version", PROTOCOL_VERSION),
        history: words.history(),
        last: markOf(words.get("last") ?? "0/0"),
        heartbeatIntervalMs: words.number("heartbeat", 1000),
        floorSeq: toSeq(words.number("floor")),
      };
    case "ack":
      return {
        kind,
        ...head,
        matchSeq: toSeq(words.number("match")),
        appliedSeq: toSeq(words.number("applied")),
        probe: words.number("probe"),
        round: words.number("round"),
      };
    case "snapshotAck": {
      const id = words.get("id");
      return {
        kind,
        ...head,
        ...(id !== undefined && { id: transferNamed(id) }),
        received: words.number("received"),
      };
    }
    case "reject":
      return { kind, ...head, reason: words.at(1) as RejectReason, detail: "as it says" };
    default:
      throw new Error(`the script says ${kind}`);
  }
}

function masterMessage(words: Words): MasterMessage {
  const head = envelopeOf(words, "m", 1);
  const news = {
    commitSeq: toSeq(words.number("commit")),
    echo: words.number("echo"),
    masterTimeMs: epochMs(7000),
    round: words.number("round"),
  };
  switch (words.at(0)) {
    case "hello": {
      const history = words.history();
      const newest = must(history.at(-1), "a history");
      const id = words.get("id");
      return {
        kind: "hello",
        ...head,
        protocolVersion: words.number("version", PROTOCOL_VERSION),
        epochId: id === undefined ? newest.epochId : epochIdOf(id),
        masterAddress: `${words.get("from") ?? "m"}:1`,
        history,
        last: markOf(words.get("last") ?? "0/0"),
      };
    }
    case "align":
      return { kind: "align", ...head, agreement: markOf(must(words.get("at"), "at")) };
    case "append": {
      const [first, last] = must(words.get("records"), "records").split("-").map(Number);
      const records = new Uint8Array((must(last, "last") - must(first, "first") + 1) * RECORD_BYTES);
      return { kind: "append", ...head, previous: markOf(must(words.get("after"), "after")), records, ...news };
    }
    case "offer":
      return { kind: "snapshotOffer", ...head, id: transferNamed(words.at(1)), size: words.number("size") };
    case "chunk":
      return {
        kind: "snapshotChunk",
        ...head,
        id: transferNamed(words.at(1)),
        offset: words.number("offset"),
        bytes: new Uint8Array(words.number("bytes")),
      };
    case "heartbeat": {
      const check = words.get("check")?.split("@").map(Number);
      return {
        kind: "heartbeat",
        ...head,
        answer: words.has("answer"),
        ...news,
        ...(check && { check: { checksum: must(check[0], "a checksum"), seq: toSeq(must(check[1], "a seq")) } }),
      };
    }
    case "takeOver":
      return { kind: "takeOver", ...head };
    default:
      throw new Error(`the script says ${words.at(0)}`);
  }
}

function envelopeOf(words: Words, sender: string, epoch: number): Envelope {
  const cluster = clusterNamed(words);
  return {
    ...(cluster && { clusterId: cluster }),
    epoch: toEpoch(words.number("epoch", epoch)),
    sender: nodeNamed(words.get("from") ?? sender),
  };
}

function clusterNamed(words: Words): ClusterId | undefined {
  const clusters: Record<string, ClusterId | undefined> = { ours: OUR_CLUSTER, foreign: FOREIGN_CLUSTER };
  return clusters[words.get("cluster") ?? "ours"];
}
