/** What the core wants done, in the words of the scripts in `dialogue.ts`. */
import type { EpochStart } from "../../base/epoch-history.js";
import type { Position, Seq } from "../../base/position.js";
import type { PromiseReply } from "../core/ballot.js";
import type { Won } from "../core/candidacy.js";
import type { Effect } from "../core/effect.js";
import type { MasterMessage, ReplicaMessage } from "../core/message.js";
import { nameOf } from "./dialogue-words.js";

export function showEffect(effect: Effect): string {
  switch (effect.kind) {
    case "commit":
      return `commit ${effect.seq}`;
    case "answerPromise":
      return `answer ${effect.ask}: ${showReply(effect.reply)}`;
    case "stepDown": {
      const { masterAddress, conflict } = effect;
      return `step down${masterAddress === undefined ? "" : ` for ${masterAddress}`}${conflict ? ", in conflict" : ""}`;
    }
    case "saveRole":
      return `save role`;
    case "unsaved":
      return `role unsaved`;
    case "prepare":
      return `prepare`;
    case "survey":
      return `survey ${effect.address}`;
    case "found":
      return `found`;
    case "requestPromise": {
      const { epoch, last, promisedEpoch, forced, voter } = effect.request;
      const whom = voter === undefined ? effect.address : `${nameOf(voter)} at ${effect.address}`;
      return `ask ${whom} for epoch ${epoch}, last ${showPlace(last)}, promised ${promisedEpoch}${forced ? ", forced" : ""}`;
    }
    case "endCalls":
      return `end calls`;
    case "assume":
      return `assume epoch ${effect.promise.epoch}`;
    case "beginEpoch":
      return `begin epoch ${showWon(effect.won)}`;
    case "begun":
      return `begun epoch ${showWon(effect.won)} at ${effect.firstSeq}`;
    case "campaignFailed":
      return `failed ${effect.code}${effect.again ? ", again" : ""}`;
    case "connect":
      return `connect to ${effect.address} as #${effect.connection}`;
    case "send":
      return `#${effect.connection} <- ${showMessage(effect.message)}${effect.withCheck ? ", checked" : ""}`;
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
    case "confirmed":
      return `confirmed read ${effect.read} at ${effect.seq}`;
    case "handedOver":
      return `handed over to ${effect.address}`;
    case "stageTransfer":
      return `stage ${nameOf(effect.id)}, ${effect.size} bytes`;
    case "writeTransfer":
      return `write ${effect.bytes.length} bytes at ${effect.offset}`;
    case "installTransfer":
      return `install`;
    case "expectState":
      return `expect state ${effect.check.checksum} at ${effect.check.seq}`;
    case "setAside":
      return `set aside`;
    case "restart":
      return `restart`;
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

function showReply({ refusal, unclean, promisedEpoch, last }: PromiseReply): string {
  return `${refusal ?? "granted"}${unclean ? ", unclean" : ""}, promised ${promisedEpoch}, last ${showPlace(last)}`;
}

function showWon({ promise, forced, founders, stripped, unreached, knownLostRecords }: Won): string {
  const founding = founders ? `, founders ${founders.map(({ nodeId }) => nameOf(nodeId)).join("")}` : "";
  const taken = stripped.length > 0 ? `, stripped ${stripped.map(nameOf).join("")}` : "";
  const missing = unreached.length > 0 ? `, unreached ${unreached.join(" ")}` : "";
  const lost = knownLostRecords > 0 ? `, ${knownLostRecords} lost` : "";
  return `${promise.epoch}${forced ? ", forced" : ""}${founding}${taken}${missing}${lost}`;
}

export function showMessage(message: MasterMessage | ReplicaMessage): string {
  switch (message.kind) {
    case "hello":
      return `hello epoch ${message.epoch}, history ${showHistory(message.history)}, last ${showPlace(message.last)}`;
    case "align":
      return `align at ${showPlace(message.agreement)}`;
    case "append": {
      const { previous, records, commitSeq, echo, round } = message;
      const what = `append after ${showPlace(previous)}, ${records.length} bytes`;
      return `${what}, commit ${commitSeq}, echo ${echo}${showRound(round)}`;
    }
    case "heartbeat": {
      const { commitSeq, echo, round, answer } = message;
      return `heartbeat commit ${commitSeq}, echo ${echo}${showRound(round)}${answer ? ", answer" : ""}`;
    }
    case "takeOver":
      return `take over`;
    case "welcome":
      return `welcome promised ${message.epoch}, history ${showHistory(message.history)}, last ${showPlace(message.last)}`;
    case "ack": {
      const { matchSeq, appliedSeq, probe, round } = message;
      return `ack match ${matchSeq}, applied ${appliedSeq}, probe ${probe}${showRound(round)}`;
    }
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

const showRound = (round: number): string => (round > 0 ? `, round ${round}` : "");
const showPlace = ({ epoch, seq }: Position): string => `${epoch}/${seq}`;

function showHistory(starts: readonly EpochStart[]): string {
  return (
    starts.map(({ epoch, firstSeq }: { epoch: number; firstSeq: Seq }) => `${epoch}@${firstSeq}`).join(" ") || "none"
  );
}
