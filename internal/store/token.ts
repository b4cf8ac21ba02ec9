/**
 * A position with its lineage, as opaque bytes that clients carry from answer to request.
 *
 * ```
 * 0  version (1)   1  cluster id (16)   17  epoch id (8)   25  epoch (8)   33  seq (8)     41 bytes, little-endian
 * ```
 */
import { type ClusterId, clusterId, type EpochId, epochId, idFromBytes, idToBytes } from "../base/ids.js";
import { epoch, type Position, type Seq, seq } from "../base/position.js";
import { writeU64 } from "../wal/bytes.js";
import { StoreError } from "./store-error.js";

const VERSION = 1;
const EPOCH_OFFSET = 25;
const SEQ_OFFSET = 33;
const TOKEN_BYTES = 41;

/** What a token says. */
export interface TokenPlace {
  readonly clusterId: ClusterId;
  /** Of the mastership that wrote the record at `position`; sixteen zeros before the first. */
  readonly epochId: EpochId;
  readonly position: Position;
}

/** The epoch id of positions before the first record. */
export const NO_EPOCH_ID = epochId("0".repeat(16));

export function encodeToken(place: TokenPlace): Uint8Array {
  const token = Buffer.allocUnsafe(TOKEN_BYTES);
  token[0] = VERSION;
  token.set(idToBytes(place.clusterId), 1);
  token.set(idToBytes(place.epochId), 17);
  writeU64(token, place.position.epoch, EPOCH_OFFSET);
  writeU64(token, place.position.seq, SEQ_OFFSET);
  return token;
}

/** The token of another seq of the same mastership: what tokens are mostly made by, since reading ids as text costs much more. */
export function tokenAtSeq(token: Uint8Array, seq: Seq): Uint8Array {
  const other = Buffer.allocUnsafe(TOKEN_BYTES);
  other.set(token);
  writeU64(other, seq, SEQ_OFFSET);
  return other;
}

/** Throws `StoreError` with code `invalid_token` for bytes that are no token of this version. */
export function decodeToken(bytes: Uint8Array): TokenPlace {
  const token = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (token.length !== TOKEN_BYTES || token[0] !== VERSION) {
    throw new StoreError(
      "invalid_token",
      "the token is not one of this cluster's; give back a token exactly as it came",
    );
  }
  const epochValue = token.readBigUInt64LE(EPOCH_OFFSET);
  const seqValue = token.readBigUInt64LE(SEQ_OFFSET);
  if (epochValue > BigInt(Number.MAX_SAFE_INTEGER) || seqValue > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new StoreError("invalid_token", "the token is damaged; give back a token exactly as it came");
  }
  return {
    clusterId: clusterId(idFromBytes(token.subarray(1, 17))),
    epochId: epochId(idFromBytes(token.subarray(17, 25))),
    position: { epoch: epoch(Number(epochValue)), seq: seq(Number(seqValue)) },
  };
}
