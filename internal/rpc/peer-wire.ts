/**
 * The messages of a push as gRPC has them on the wire. Those that come all the time, Append, Heartbeat and Ack, are written and read
 * here by hand, with no message, bigint or copy in between; all others, and whatever is written otherwise than an encoder
 * does it, go through the protocol library. What both make of a message is the same.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { PushRequestSchema, PushResponseSchema } from "../../api/gen/cambium/v1/replication_pb.js";
import { assert } from "../base/assert.js";
import { clusterId, idFromBytes, nodeId } from "../base/ids.js";
import { epoch, epochMs, type LogMark, seq } from "../base/position.js";
import { varintSize, writeVarint } from "../base/varint.js";
import type { MasterMessage, ReplicaMessage } from "../replication/replicator.js";
import { EPOCH_MAX } from "./convert.js";
import { FRAME_HEAD_BYTES } from "./peer-frames.js";
import {
  masterMessageFromWire,
  masterMessageToWire,
  replicaMessageFromWire,
  replicaMessageToWire,
} from "./peer-messages.js";

type Append = Extract<MasterMessage, { kind: "append" }>;
type Heartbeat = Extract<MasterMessage, { kind: "heartbeat" }>;
type Ack = Extract<ReplicaMessage, { kind: "ack" }>;
type Envelope = Pick<Ack, "clusterId" | "epoch" | "sender">;

const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;
const ID_BYTES = 16;
/** Of a frame written by hand, but for the records in it; it is less than half of that. */
const WRITTEN_BYTES_MAX = 512;
/** A number that a double holds has no more. */
const SMALL_VARINT_BYTES_MAX = 8;

/** As fields of PushRequest, and of PushResponse. */
const APPEND = 6;
const HEARTBEAT = 7;
const ACK = 5;

// ---- writing ---------------------------------------------------------------------------------------------------------

/** The frame of a message, in one piece, or with the bytes that the message carries as they are in another. */
export function frameOfMaster(message: MasterMessage): readonly [Uint8Array] | readonly [Uint8Array, Uint8Array] {
  switch (message.kind) {
    case "append":
      return [writer.append(message), message.records];
    case "heartbeat":
      return [writer.heartbeat(message)];
    default:
      return [framed(toBinary(PushRequestSchema, masterMessageToWire(message)))];
  }
}

export function frameOfReplica(message: ReplicaMessage): Uint8Array {
  if (message.kind === "ack") return writer.ack(message);
  return framed(toBinary(PushResponseSchema, replicaMessageToWire(message)));
}

function framed(message: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, FRAME_HEAD_BYTES);
  return frame;
}

/** Writes from the end to the beginning, since the length of what is inside a message stands before it. */
class Writer {
  readonly #bytes = Buffer.alloc(WRITTEN_BYTES_MAX);
  #at = WRITTEN_BYTES_MAX;
  /** Bytes of the message that follow on those that are written here. */
  #after = 0;

  append(message: Append): Uint8Array {
    this.#begin(message.records.length);
    // Out of the order of the fields, so that the records need not be copied between others.
    this.#varint(message.records.length);
    this.#tag(2, BYTES);
    this.#number(6, message.round);
    this.#number(5, message.masterTimeMs);
    this.#number(4, message.echo);
    this.#number(3, message.commitSeq);
    this.#mark(1, message.previous);
    this.#message(APPEND, WRITTEN_BYTES_MAX);
    return this.#end(message);
  }

  heartbeat(message: Heartbeat): Uint8Array {
    this.#begin();
    if (message.check) {
      this.#fixed32(2, message.check.checksum);
      this.#number(1, message.check.seq);
      this.#message(6, WRITTEN_BYTES_MAX);
    }
    this.#number(5, message.round);
    this.#number(4, message.masterTimeMs);
    this.#number(3, message.answer ? 1 : 0);
    this.#number(2, message.echo);
    this.#number(1, message.commitSeq);
    this.#message(HEARTBEAT, WRITTEN_BYTES_MAX);
    return this.#end(message);
  }

  ack(message: Ack): Uint8Array {
    this.#begin();
    this.#number(4, message.round);
    this.#number(3, message.probe);
    this.#number(2, message.appliedSeq);
    this.#number(1, message.matchSeq);
    this.#message(ACK, WRITTEN_BYTES_MAX);
    return this.#end(message);
  }

  #begin(after = 0): void {
    this.#at = WRITTEN_BYTES_MAX;
    this.#after = after;
  }

  /** The envelope, and the head of the frame; gives a copy of all. */
  #end({ clusterId, epoch, sender }: Envelope): Uint8Array {
    this.#id(3, sender);
    this.#number(2, epoch);
    if (clusterId !== undefined) this.#id(1, clusterId);
    const length = WRITTEN_BYTES_MAX - this.#at + this.#after;
    this.#at -= FRAME_HEAD_BYTES;
    this.#bytes[this.#at] = 0;
    this.#bytes.writeUInt32BE(length, this.#at + 1);
    return Buffer.from(this.#bytes.subarray(this.#at));
  }

  #mark(field: number, { epoch, seq, chain }: LogMark): void {
    const end = this.#at;
    this.#fixed32(2, chain);
    const positionEnd = this.#at;
    this.#number(2, seq);
    this.#number(1, epoch);
    this.#message(1, positionEnd);
    this.#message(field, end);
  }

  /** What stands here now, up to `end`, is the message of that field. */
  #message(field: number, end: number): void {
    this.#varint(end - this.#at + (end === WRITTEN_BYTES_MAX ? this.#after : 0));
    this.#tag(field, BYTES);
  }

  /** A number that is 0 is left out. */
  #number(field: number, value: number): void {
    if (value === 0) return;
    this.#varint(value);
    this.#tag(field, VARINT);
  }

  #fixed32(field: number, value: number): void {
    if (value === 0) return;
    this.#at -= 4;
    this.#bytes.writeUInt32LE(value, this.#at);
    this.#tag(field, FIXED32);
  }

  #id(field: number, hex: string): void {
    this.#at -= ID_BYTES;
    const written = this.#bytes.write(hex, this.#at, ID_BYTES, "hex");
    assert(written === ID_BYTES, "an id has 16 bytes");
    this.#varint(ID_BYTES);
    this.#tag(field, BYTES);
  }

  #tag(field: number, wireType: number): void {
    this.#bytes[--this.#at] = field * 8 + wireType;
  }

  #varint(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, "what is sent is a whole number");
    this.#at -= varintSize(value);
    writeVarint(this.#bytes, this.#at, value);
  }
}

const writer = new Writer();

// ---- reading ---------------------------------------------------------------------------------------------------------

/** Reads what comes on one push. Where there are bytes in a message, they are a part of what is read. */
export class PushReader {
  readonly #clusterIds = new KnownId(clusterId);
  readonly #nodeIds = new KnownId(nodeId);

  /** The message of a master. Throws `RequestError`, `WireRangeError`, and a `ConnectError` as the library does. */
  ofMaster(bytes: Buffer): MasterMessage {
    return this.#readMaster(bytes) ?? masterMessageFromWire(parsed(() => fromBinary(PushRequestSchema, bytes)));
  }

  /** The same of a replica. */
  ofReplica(bytes: Buffer): ReplicaMessage {
    return this.#readReplica(bytes) ?? replicaMessageFromWire(parsed(() => fromBinary(PushResponseSchema, bytes)));
  }

  #readMaster(bytes: Buffer): MasterMessage | undefined {
    const fields = new Fields(bytes);
    const envelope = this.#envelope(fields);
    const tag = envelope && fields.tag();
    const end = fields.message();
    if (!envelope || end !== bytes.length) return undefined;
    if (tag === APPEND * 8 + BYTES) return appendOf(envelope, fields);
    if (tag === HEARTBEAT * 8 + BYTES) return heartbeatOf(envelope, fields);
    return undefined;
  }

  #readReplica(bytes: Buffer): ReplicaMessage | undefined {
    const fields = new Fields(bytes);
    const envelope = this.#envelope(fields);
    const tag = envelope && fields.tag();
    if (!envelope || tag !== ACK * 8 + BYTES || fields.message() !== bytes.length) return undefined;
    return ackOf(envelope, fields);
  }

  /** As an encoder writes it: all three, in their order, and then one message alone. */
  #envelope(fields: Fields): Envelope | undefined {
    if (fields.tag() !== 8 + BYTES) return undefined;
    const clusterId = this.#clusterIds.at(fields);
    if (fields.tag() !== 2 * 8 + VARINT) return undefined;
    const number = fields.number();
    if (fields.tag() !== 3 * 8 + BYTES) return undefined;
    const sender = this.#nodeIds.at(fields);
    if (fields.isOdd || !clusterId || !sender || number > EPOCH_MAX) return undefined;
    return { clusterId, epoch: epoch(number), sender };
  }
}

function appendOf(envelope: Envelope, fields: Fields): Append | undefined {
  let previous: LogMark | undefined;
  let records: Uint8Array | undefined;
  let [commitSeq, echo, masterTimeMs, round] = [0, 0, 0, 0];
  while (fields.hasMore) {
    switch (fields.tag()) {
      case 8 + BYTES:
        if (previous) return undefined;
        previous = markOf(fields);
        if (!previous) return undefined;
        break;
      case 2 * 8 + BYTES:
        records = fields.bytes();
        break;
      case 3 * 8 + VARINT:
        commitSeq = fields.number();
        break;
      case 4 * 8 + VARINT:
        echo = fields.number();
        break;
      case 5 * 8 + VARINT:
        masterTimeMs = fields.number();
        break;
      case 6 * 8 + VARINT:
        round = fields.number();
        break;
      default:
        return undefined;
    }
  }
  if (fields.isOdd || !previous || !records) return undefined;
  return {
    kind: "append",
    ...envelope,
    previous,
    records,
    commitSeq: seq(commitSeq),
    echo,
    masterTimeMs: epochMs(masterTimeMs),
    round,
  };
}

function heartbeatOf(envelope: Envelope, fields: Fields): Heartbeat | undefined {
  let [commitSeq, echo, answer, masterTimeMs, round] = [0, 0, 0, 0, 0];
  while (fields.hasMore) {
    switch (fields.tag()) {
      case 8 + VARINT:
        commitSeq = fields.number();
        break;
      case 2 * 8 + VARINT:
        echo = fields.number();
        break;
      case 3 * 8 + VARINT:
        answer = fields.number();
        break;
      case 4 * 8 + VARINT:
        masterTimeMs = fields.number();
        break;
      case 5 * 8 + VARINT:
        round = fields.number();
        break;
      default:
        // One with the checksum of a state comes once a second at most.
        return undefined;
    }
  }
  if (fields.isOdd || answer > 1) return undefined;
  return {
    kind: "heartbeat",
    ...envelope,
    commitSeq: seq(commitSeq),
    echo,
    answer: answer === 1,
    masterTimeMs: epochMs(masterTimeMs),
    round,
  };
}

function ackOf(envelope: Envelope, fields: Fields): Ack | undefined {
  let [matchSeq, appliedSeq, probe, round] = [0, 0, 0, 0];
  while (fields.hasMore) {
    switch (fields.tag()) {
      case 8 + VARINT:
        matchSeq = fields.number();
        break;
      case 2 * 8 + VARINT:
        appliedSeq = fields.number();
        break;
      case 3 * 8 + VARINT:
        probe = fields.number();
        break;
      case 4 * 8 + VARINT:
        round = fields.number();
        break;
      default:
        return undefined;
    }
  }
  if (fields.isOdd) return undefined;
  return { kind: "ack", ...envelope, matchSeq: seq(matchSeq), appliedSeq: seq(appliedSeq), probe, round };
}

/** As an encoder writes it: the position, both numbers of it, and the chain value. */
function markOf(fields: Fields): LogMark | undefined {
  const end = fields.message();
  if (fields.tag() !== 8 + BYTES) return undefined;
  const positionEnd = fields.message();
  let [epochNumber, seqNumber, chain] = [0, 0, 0];
  if (fields.at < positionEnd && fields.next === 8 + VARINT) epochNumber = fields.skipTag().number();
  if (fields.at < positionEnd && fields.next === 2 * 8 + VARINT) seqNumber = fields.skipTag().number();
  if (fields.at !== positionEnd) return undefined;
  if (fields.at < end && fields.next === 2 * 8 + FIXED32) chain = fields.skipTag().fixed32();
  if (fields.isOdd || fields.at !== end || epochNumber > EPOCH_MAX) return undefined;
  return { epoch: epoch(epochNumber), seq: seq(seqNumber), chain };
}

/** Goes over the fields of a message, and into those of the messages in it. What is odd about it the library is to judge. */
class Fields {
  readonly #bytes: Buffer;
  /** What follows makes no sense to this reader; whatever is read then is nothing. */
  isOdd = false;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get hasMore(): boolean {
    return !this.isOdd && this.at < this.#bytes.length;
  }

  /** The byte that comes next; -1: none does. */
  get next(): number {
    return this.#bytes[this.at] ?? -1;
  }

  /** Of fields up to the fifteenth the tag is one byte; no others are known here. */
  tag(): number {
    const tag = this.next;
    this.at++;
    return tag;
  }

  skipTag(): this {
    this.at++;
    return this;
  }

  /** A number that a double holds exactly. */
  number(): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < SMALL_VARINT_BYTES_MAX; count++) {
      const byte = this.next;
      if (byte < 0) break;
      this.at++;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value <= Number.MAX_SAFE_INTEGER ? value : this.#odd();
      factor *= 0x80;
    }
    return this.#odd();
  }

  fixed32(): number {
    this.at += 4;
    return this.at <= this.#bytes.length ? this.#bytes.readUInt32LE(this.at - 4) : this.#odd();
  }

  /** A message begins; gives where it ends. */
  message(): number {
    const length = this.number();
    return length <= this.#bytes.length - this.at ? this.at + length : this.#odd();
  }

  bytes(): Uint8Array {
    const end = this.message();
    const start = this.at;
    if (this.isOdd) return NOTHING;
    this.at = end;
    return this.#bytes.subarray(start, end);
  }

  #odd(): number {
    this.isOdd = true;
    return 0;
  }
}

const NOTHING = Buffer.alloc(0);

/** Ids of one kind; nearly always it is the one that came last. */
class KnownId<Id extends string> {
  readonly #make: (hex: string) => Id;
  readonly #bytes = Buffer.alloc(ID_BYTES);
  #id: Id | undefined;

  constructor(make: (hex: string) => Id) {
    this.#make = make;
  }

  /** The id that stands there; undefined: the library is to judge it. */
  at(fields: Fields): Id | undefined {
    const bytes = fields.bytes();
    if (bytes.length !== ID_BYTES) return undefined;
    if (this.#id === undefined || !this.#bytes.equals(bytes)) {
      this.#bytes.set(bytes);
      this.#id = this.#make(idFromBytes(bytes));
    }
    return this.#id;
  }
}

function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConnectError(`parse binary: ${reason}`, Code.Internal);
  }
}
