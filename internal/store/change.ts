/**
 * What a record's payload means, and its bytes. A payload is one or more changes, one behind the other; they happen
 * together. The log carries payloads without looking into them.
 *
 * ```
 * change        = kind (1 byte) body
 *
 * kind 1  epoch   epoch id (8)  flags (1)  node id of the master (16)     of the first record of an epoch, and its first change
 * kind 2  put     previous      length key  length value                  previous: of the version that it replaces; see `previousSeq`
 * kind 3  put     previous      deadline (8)  length key  length value    deadline: ms since 1970, little-endian
 * kind 4  delete  previous      length key
 * kind 5  member  node id (16)  flags (1)  source (1)  length address
 * kind 6  produce            offset (8)  length record
 * kind 7  truncate-records   below (8)
 * kind 8  settings           commit (1)  voters (1)  entries (8)  bytes (8)  policy (1)   the last three limit what is stored; 0: no limit
 * kind 9  expire  mod seq (8)  length key
 * kind 10 evict   mod seq (8)  length key
 * kind 11 delete-range  flags (1)  length start  length end               end: where a flag says that there is one
 * kind 12 remember  length client id  client seq  length answer           the answer (answers.ts) of the write that this record is
 * kind 13 forget    count  count × length client id                       of these clients nothing is remembered any more
 * ```
 *
 * A length is an unsigned LEB128 number of at most five bytes; a previous one, a client seq and a count are such of at most eight. An unknown kind is from a newer version: the record is refused, never skipped,
 * since skipping would make this node's state differ from the others'.
 */
import { assert, must, unreachable } from "../base/assert.js";
import { type EpochId, epochId, idFromBytes, idToBytes, type NodeId, nodeId } from "../base/ids.js";
import { epochMs, type Seq, seq } from "../base/position.js";
import { varintSize } from "../base/varint.js";
import type { KeyOperation, KeyValueBytes, Operation } from "../engine/engine.js";
import { NO_LIMITS, type StorageLimits } from "./room.js";
import { ByteReader, ByteWriter, FormatError, prefixedSize } from "./byte-codec.js";

export type { Removal } from "../engine/engine.js";

/** How a member came to be known. */
export type MemberSource = "founder" | "listed" | "added" | "registered";

/** A node that the replicated state knows. */
export interface Member {
  readonly nodeId: NodeId;
  /** `host:port` */
  readonly address: string;
  readonly voter: boolean;
  readonly source: MemberSource;
  /** Taken out by an operator: not pushed to, and refused when it registers, until it is added again. */
  readonly removed: boolean;
}

/** Whose copies make a record committed: the master's alone, or those of a majority of the voters. */
export type CommitMode = "master" | "majority";

/** How the cluster decides, as the replicated state says. */
export interface ClusterSettings {
  readonly commit: CommitMode;
  /** `listed`: the members marked as voters. `master`: one vote, which goes with the mastership. */
  readonly voters: "listed" | "master";
  /** How much may be stored; absent: there is no limit. */
  readonly limits?: StorageLimits;
}

/** Before the first record that says otherwise. */
export const INITIAL_SETTINGS: ClusterSettings = { commit: "master", voters: "master" };

/** What a change of one key replaces, as its master saw it: the engine does not need it, and who follows the changes may look it up. */
export interface Replacing {
  /** The record that had changed the key last, which may be this one; 0: there was no such key, or its time was over. */
  readonly previousSeq: Seq;
}

export type PutChange = Extract<Operation, { kind: "put" }> & Replacing;
export type DeleteChange = Extract<Operation, { kind: "delete" }> & Replacing;

/** One part of a record. */
export type Change =
  | PutChange
  | DeleteChange
  | Exclude<Operation, { kind: "put" | "delete" }>
  | { readonly kind: "epoch"; readonly epochId: EpochId; readonly forced: boolean; readonly master: NodeId }
  | { readonly kind: "member"; readonly member: Member }
  | { readonly kind: "settings"; readonly settings: ClusterSettings }
  /** The record log's next record; offsets are dense, and given by the master. */
  | { readonly kind: "produce"; readonly offset: number; readonly record: Uint8Array }
  /** The record log begins at `below` from here on. */
  | { readonly kind: "truncate-records"; readonly below: number }
  | RetriesChange;

/** A change of what is remembered for safe retries. */
export type RetriesChange =
  /** The answer of the write that this record is; whoever sends it again, under the same two, gets it again. */
  | { readonly kind: "remember"; readonly clientId: string; readonly clientSeq: number; readonly answer: Uint8Array }
  | { readonly kind: "forget"; readonly clientIds: readonly string[] };

/** A change of the record log. */
export type RecordsChange = Extract<Change, { kind: "produce" | "truncate-records" }>;

/** A change of how the cluster decides, or of who belongs to it. */
export type ClusterChange = Extract<Change, { kind: "member" | "settings" }>;

const KIND = {
  epoch: 1,
  put: 2,
  putExpiring: 3,
  delete: 4,
  member: 5,
  produce: 6,
  truncateRecords: 7,
  settings: 8,
  expire: 9,
  evict: 10,
  deleteRange: 11,
  remember: 12,
  forget: 13,
} as const;
const FLAG_FORCED = 1;
const FLAG_VOTER = 1;
const FLAG_REMOVED = 2;
const FLAG_END = 1;
const SOURCES: readonly MemberSource[] = ["founder", "listed", "added", "registered"];
const COMMIT_MODES: readonly CommitMode[] = ["master", "majority"];
const VOTERS: readonly ClusterSettings["voters"][] = ["master", "listed"];
const POLICIES: readonly StorageLimits["policy"][] = ["noeviction", "lru", "lfu", "random", "ttl"];
const NOTHING: Uint8Array = new Uint8Array(0);
const ID_BYTES = 16;
const EPOCH_ID_BYTES = 8;

/** The payload of a record with these changes. */
export function encodeChanges(changes: readonly Change[]): Uint8Array {
  assert(changes.length > 0, "a record has at least one change");
  let size = 0;
  for (const change of changes) size += sizeOf(change);
  const writer = new ByteWriter(Buffer.allocUnsafe(size));
  for (const change of changes) write(writer, change);
  assert(writer.at === size, `payload is ${writer.at} bytes, ${size} were reckoned`);
  return writer.bytes;
}

/** The changes of a payload; keys and values are views into it. Throws `FormatError`. */
export function decodeChanges(payload: Uint8Array): Change[] {
  const reader = new ByteReader(payload);
  const changes: Change[] = [];
  do changes.push(read(reader));
  while (!reader.atEnd);
  return changes;
}

/** Whether the payload at `offset` says how the cluster decides, or who belongs to it: records that do so say nothing of keys or records. */
export function isClusterPayload(bytes: Uint8Array, offset = 0): boolean {
  return isClusterKind(bytes[offset] ?? 0);
}

/** The same by the first byte of a payload. */
export function isClusterKind(kind: number): boolean {
  return kind === KIND.epoch || kind === KIND.member || kind === KIND.settings;
}

/** A put that is all of a record, where it lies; one of these for many records. */
export class LonePut implements KeyValueBytes {
  readonly #reader = new ByteReader(NOTHING);
  keyIn = NOTHING;
  keyStart = 0;
  keyEnd = 0;
  valueIn = NOTHING;
  valueStart = 0;
  valueEnd = 0;
  deadlineMs = Infinity;

  /** Whether the payload from `start` up to `end` is one put and nothing else; then this is it. Throws `FormatError`, as `decodeChanges`. */
  read(bytes: Uint8Array, start: number, end: number): boolean {
    const kind = bytes[start];
    if (start === end || (kind !== KIND.put && kind !== KIND.putExpiring)) return false;
    const reader = this.#reader;
    reader.moveTo(bytes, start + 1, end);
    reader.varint();
    this.deadlineMs = kind === KIND.put ? Infinity : reader.uint64();
    this.keyIn = this.valueIn = bytes;
    this.keyStart = reader.passPrefixed();
    this.keyEnd = reader.at;
    this.valueStart = reader.passPrefixed();
    this.valueEnd = reader.at;
    return reader.atEnd;
  }
}

/** The epoch change of a payload that begins an epoch. */
export function epochChangeOf(payload: Uint8Array): (Change & { kind: "epoch" }) | undefined {
  if (payload[0] !== KIND.epoch) return undefined;
  const change = must(decodeChanges(payload)[0], "a payload has a change");
  assert(change.kind === "epoch", "kind 1 is an epoch");
  return change;
}

function sizeOf(change: Change): number {
  switch (change.kind) {
    case "epoch":
      return 1 + EPOCH_ID_BYTES + 1 + ID_BYTES;
    case "put":
      return (
        1 +
        varintSize(change.previousSeq) +
        (change.expiresAtMs === undefined ? 0 : 8) +
        prefixedSize(change.key.length) +
        prefixedSize(change.value.length)
      );
    case "delete":
      return 1 + varintSize(change.previousSeq) + prefixedSize(change.key.length);
    case "delete-range":
      return 2 + prefixedSize(change.start.length) + (change.end ? prefixedSize(change.end.length) : 0);
    case "expire":
    case "evict":
      return 1 + 8 + prefixedSize(change.key.length);
    case "member":
      return 1 + ID_BYTES + 2 + prefixedSize(Buffer.byteLength(change.member.address));
    case "produce":
      return 1 + 8 + prefixedSize(change.record.length);
    case "truncate-records":
      return 1 + 8;
    case "settings":
      return 1 + 2 + 8 + 8 + 1;
    case "remember": {
      const { clientId, clientSeq, answer } = change;
      return 1 + prefixedSize(Buffer.byteLength(clientId)) + varintSize(clientSeq) + prefixedSize(answer.length);
    }
    case "forget": {
      const { clientIds } = change;
      return clientIds.reduce((sum, id) => sum + prefixedSize(Buffer.byteLength(id)), 1 + varintSize(clientIds.length));
    }
    default:
      return unreachable(change);
  }
}

function write(writer: ByteWriter, change: Change): void {
  switch (change.kind) {
    case "epoch":
      writer.byte(KIND.epoch);
      writer.raw(idToBytes(change.epochId));
      writer.byte(change.forced ? FLAG_FORCED : 0);
      writer.raw(idToBytes(change.master));
      return;
    case "put":
      writer.byte(change.expiresAtMs === undefined ? KIND.put : KIND.putExpiring);
      writer.varint(change.previousSeq);
      if (change.expiresAtMs !== undefined) writer.uint64(change.expiresAtMs);
      writer.prefixed(change.key);
      writer.prefixed(change.value);
      return;
    case "delete":
      writer.byte(KIND.delete);
      writer.varint(change.previousSeq);
      writer.prefixed(change.key);
      return;
    case "delete-range":
      writer.byte(KIND.deleteRange);
      writer.byte(change.end ? FLAG_END : 0);
      writer.prefixed(change.start);
      if (change.end) writer.prefixed(change.end);
      return;
    case "expire":
    case "evict":
      writer.byte(KIND[change.kind]);
      writer.uint64(change.modSeq);
      writer.prefixed(change.key);
      return;
    case "member": {
      const { member } = change;
      writer.byte(KIND.member);
      writer.raw(idToBytes(member.nodeId));
      writer.byte((member.voter ? FLAG_VOTER : 0) | (member.removed ? FLAG_REMOVED : 0));
      writer.byte(SOURCES.indexOf(member.source));
      writer.prefixed(Buffer.from(member.address));
      return;
    }
    case "produce":
      writer.byte(KIND.produce);
      writer.uint64(change.offset);
      writer.prefixed(change.record);
      return;
    case "truncate-records":
      writer.byte(KIND.truncateRecords);
      writer.uint64(change.below);
      return;
    case "settings":
      writer.byte(KIND.settings);
      writer.byte(COMMIT_MODES.indexOf(change.settings.commit));
      writer.byte(VOTERS.indexOf(change.settings.voters));
      writeLimits(writer, change.settings.limits ?? NO_LIMITS);
      return;
    case "remember":
      writer.byte(KIND.remember);
      writer.prefixed(Buffer.from(change.clientId));
      writer.varint(change.clientSeq);
      writer.prefixed(change.answer);
      return;
    case "forget":
      writer.byte(KIND.forget);
      writer.varint(change.clientIds.length);
      for (const clientId of change.clientIds) writer.prefixed(Buffer.from(clientId));
      return;
    default:
      unreachable(change);
  }
}

function read(reader: ByteReader): Change {
  const kind = reader.byte();
  switch (kind) {
    case KIND.epoch: {
      const id = epochId(idFromBytes(reader.raw(EPOCH_ID_BYTES)));
      const flags = reader.flags(FLAG_FORCED);
      return {
        kind: "epoch",
        epochId: id,
        forced: (flags & FLAG_FORCED) !== 0,
        master: nodeId(idFromBytes(reader.raw(ID_BYTES))),
      };
    }
    case KIND.put: {
      const previousSeq = seq(reader.varint());
      return { kind: "put", key: reader.prefixed(), value: reader.prefixed(), previousSeq };
    }
    case KIND.putExpiring: {
      const previousSeq = seq(reader.varint());
      const expiresAtMs = epochMs(reader.uint64());
      return { kind: "put", key: reader.prefixed(), value: reader.prefixed(), expiresAtMs, previousSeq };
    }
    case KIND.delete: {
      const previousSeq = seq(reader.varint());
      return { kind: "delete", key: reader.prefixed(), previousSeq };
    }
    case KIND.deleteRange: {
      const flags = reader.flags(FLAG_END);
      const start = reader.prefixed();
      return { kind: "delete-range", start, ...((flags & FLAG_END) !== 0 && { end: reader.prefixed() }) };
    }
    case KIND.expire:
    case KIND.evict: {
      const modSeq = seq(reader.uint64());
      return { kind: kind === KIND.expire ? "expire" : "evict", key: reader.prefixed(), modSeq };
    }
    case KIND.member: {
      const id = nodeId(idFromBytes(reader.raw(ID_BYTES)));
      const flags = reader.flags(FLAG_VOTER | FLAG_REMOVED);
      const source = SOURCES[reader.byte()];
      if (source === undefined) throw new FormatError("a member's source is unknown to this version");
      const address = Buffer.from(reader.prefixed()).toString();
      return {
        kind: "member",
        member: {
          nodeId: id,
          address,
          voter: (flags & FLAG_VOTER) !== 0,
          source,
          removed: (flags & FLAG_REMOVED) !== 0,
        },
      };
    }
    case KIND.produce:
      return { kind: "produce", offset: reader.uint64(), record: reader.prefixed() };
    case KIND.truncateRecords:
      return { kind: "truncate-records", below: reader.uint64() };
    case KIND.settings: {
      const commit = COMMIT_MODES[reader.byte()];
      const voters = VOTERS[reader.byte()];
      if (!commit || !voters) throw new FormatError("a setting of the cluster is unknown to this version");
      return { kind: "settings", settings: { commit, voters, ...readLimits(reader) } };
    }
    case KIND.remember:
      return {
        kind: "remember",
        clientId: Buffer.from(reader.prefixed()).toString(),
        clientSeq: reader.varint(),
        answer: reader.prefixed(),
      };
    case KIND.forget: {
      const clientIds: string[] = [];
      for (let left = reader.varint(); left > 0; left--) clientIds.push(Buffer.from(reader.prefixed()).toString());
      return { kind: "forget", clientIds };
    }
    default:
      throw new FormatError(`a change of kind ${kind} is unknown to this version; use a newer one`);
  }
}

function writeLimits(writer: ByteWriter, { entriesMax, bytesMax, policy }: StorageLimits): void {
  writer.uint64(entriesMax);
  writer.uint64(bytesMax);
  writer.byte(POLICIES.indexOf(policy));
}

function readLimits(reader: ByteReader): { readonly limits?: StorageLimits } {
  const [entriesMax, bytesMax, policy] = [reader.uint64(), reader.uint64(), POLICIES[reader.byte()]];
  if (!policy) throw new FormatError("a policy of eviction is unknown to this version");
  // A policy alone stays, too: what is decoded has to give the same bytes again on every node.
  const isUnlimited = entriesMax === 0 && bytesMax === 0 && policy === NO_LIMITS.policy;
  return isUnlimited ? {} : { limits: { entriesMax, bytesMax, policy } };
}

/** Whether a change is one that the engine carries out. */
export function isOperation(change: Change): change is Extract<Change, Operation> {
  switch (change.kind) {
    case "put":
    case "delete":
    case "expire":
    case "evict":
    case "delete-range":
      return true;
    default:
      return false;
  }
}

/** Whether a change is one that the engine carries out on one key. */
export function isKeyOperation(change: Change): change is Extract<Change, KeyOperation> {
  return change.kind === "put" || change.kind === "delete" || change.kind === "expire" || change.kind === "evict";
}
