/** The limits of requests and answers, and the checks that hold them before anything is built from a request. */
import type { ProduceRequest } from "../../api/gen/cambium/v1/log_pb.js";
import { fromWire64 } from "../base/position.js";
import { RequestError } from "./request-error.js";
import { isWellFormed } from "./text-encoding.js";

/** What an operator may set; all in bytes. */
export interface Limits {
  /** Of a key, as UTF-8. */
  readonly keyBytesMax: number;
  readonly valueBytesMax: number;
  /** Of a whole request or answer. */
  readonly messageBytesMax: number;
}

/** Keys of a BatchGet, operations of a Write, records of a Produce. */
export const BATCH_MAX = 1024;
/** Comparisons and operations of a Txn, together. */
export const TXN_MAX = 128;
/** Watches with which a WatchMany may begin. */
export const WATCHES_MAX = 128;
/** Bytes of the id under which a client numbers its writes. */
export const CLIENT_ID_BYTES_MAX = 64;
/** Events that a GetUpdates may ask for. */
export const UPDATES_MAX = 10_000;
export const UPDATES_DEFAULT = 1000;
/** Entries that a page of a Scan may have. */
export const SCAN_MAX = 10_000;
export const SCAN_DEFAULT = 1000;
/** Entries that a page has, whatever was asked for: it is read within one turn of the event loop, and so takes few milliseconds of it. */
export const SCAN_A_TURN = 4000;
/** How long a GetUpdates may wait. */
export const WAIT_MS_MAX = 60_000;
/** A hundred years of 365.25 days. */
export const TTL_MS_MAX = 3_155_760_000_000;
/** Bytes of a replication message between nodes, in either direction. */
export const PEER_MESSAGE_BYTES_MAX = 64 * 1024 * 1024;
/** Bytes of a question that nodes ask each other; they are ids, numbers and an address. */
export const PEER_QUESTION_BYTES_MAX = 16 * 1024;
/** Bytes of a node's `host:port`. */
const ADDRESS_BYTES_MAX = 300;

const encoder = new TextEncoder();

/** A key's bytes. `field` names it in the error. */
export function checkedKey(key: string, field: string, limits: Limits): Uint8Array {
  checkKey(key, field, limits);
  return encoder.encode(key);
}

/**
 * The same, in memory that it shares with others of this moment: several times as fast to come by, and not to be kept, since a key
 * that is kept keeps all of that.
 */
export function checkedKeyForNow(key: string, field: string, limits: Limits): Uint8Array {
  checkKey(key, field, limits);
  return Buffer.from(key);
}

/** Where the last key of `checkedKeyUntilNext` is. */
const lastKey = Buffer.allocUnsafeSlow(1 << 16);

/** The same, valid until it is asked for another one: for a single key, which so takes no memory. */
export function checkedKeyUntilNext(key: string, field: string, limits: Limits): Uint8Array {
  checkKey(key, field, limits);
  // It is whole: the largest of all limits is below what there is room for.
  return lastKey.subarray(0, lastKey.write(key));
}

function checkKey(key: string, field: string, limits: Limits): void {
  if (key === "") throw new RequestError("invalid", `${field} is empty; a key has 1 to ${limits.keyBytesMax} bytes`);
  // A character is one byte at least, so that a text this long is refused without being encoded.
  const bytes = key.length > limits.keyBytesMax ? key.length : Buffer.byteLength(key);
  if (bytes > limits.keyBytesMax) {
    throw new RequestError(
      "limit",
      `${field} has ${key.length > limits.keyBytesMax ? "at least " : ""}${bytes} bytes, a key may have ${limits.keyBytesMax} (limits.max_key_bytes); use a shorter one`,
      { passed: { limit: "limits.max_key_bytes", maximum: limits.keyBytesMax, actual: bytes } },
    );
  }
  if (!isWellFormed(key)) {
    throw new RequestError("invalid", `${field} holds half a surrogate pair, which UTF-8 cannot express; send Unicode`);
  }
}

/** A record that is to be produced. `field` names it in the error. */
export function checkedRecord(record: Uint8Array, field: string, limits: Limits): Uint8Array {
  checkValue(record, limits, {
    what: `${field} has ${record.byteLength} bytes, a record`,
    remedy: "split it over several records",
  });
  return record;
}

/** The records of a ProduceRequest. */
export function checkedRecords(request: ProduceRequest, limits: Limits): Uint8Array[] {
  const { record, records } = request;
  if (records.length === 0) return [checkedRecord(record, "record", limits)];
  if (record.byteLength > 0) throw new RequestError("invalid", "record and records are both given; give one of them");
  checkCount(records.length, "records");
  return records.map((record, index) => checkedRecord(record, `records[${index}]`, limits));
}

/** A value of a key. `field` names it in the error. */
export function checkedValue(value: Uint8Array, field: string, limits: Limits): Uint8Array {
  checkValue(value, limits, {
    what: `${field} has ${value.byteLength} bytes, a value`,
    remedy: "store less, or split it over several keys",
  });
  return value;
}

function checkValue(
  value: Uint8Array,
  limits: Limits,
  words: { readonly what: string; readonly remedy: string },
): void {
  if (value.byteLength <= limits.valueBytesMax) return;
  throw new RequestError(
    "limit",
    `${words.what} may have ${limits.valueBytesMax} (limits.max_value_bytes); ${words.remedy}`,
    { passed: { limit: "limits.max_value_bytes", maximum: limits.valueBytesMax, actual: value.byteLength } },
  );
}

/** Milliseconds after which a key expires; 0: it does not. */
export function checkedTtl(ttl: bigint, field: string): number {
  const ttlMs = fromWire64(ttl, field);
  if (ttlMs <= TTL_MS_MAX) return ttlMs;
  throw new RequestError(
    "invalid",
    `${field} is ${ttlMs}, at most ${TTL_MS_MAX} (100 years) is possible; leave it out for a key that does not expire`,
  );
}

/** The number of a request's parts, from 1 to `BATCH_MAX`. */
export function checkCount(count: number, field: string): void {
  if (count >= 1 && count <= BATCH_MAX) return;
  throw new RequestError("invalid", `${field} has ${count} entries; 1 to ${BATCH_MAX} are possible`);
}

/** A whole number of a request, up to `max`. */
export function checkAtMost(value: number, max: number, field: string): void {
  if (value > max) throw new RequestError("invalid", `${field} is ${value}; at most ${max} is possible`);
}

/** A `host:port` that somebody named; what it means is for replication to judge. */
export function checkAddress(address: string, field: string): void {
  if (address === "") throw new RequestError("invalid", `${field} is empty; give a host and a port, as in node-2:8080`);
  checkAtMost(Buffer.byteLength(address), ADDRESS_BYTES_MAX, `the length of ${field}`);
}
