/**
 * Results of a batch as protobuf, each with its length before it, as a field of the answer. What the protobuf library does for each of
 * many small messages takes longer than to find what they say: so reads and plain sets are written by hand, the rest by the library.
 */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import {
  type BatchResponse,
  BatchResponseSchema,
  BatchResultSchema,
  type SetResponseSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { assert } from "../base/assert.js";
import type { EpochMs, Position, Seq } from "../base/position.js";
import { writeVarint } from "../base/varint.js";

export type Result = MessageInitShape<typeof BatchResultSchema>;

interface Entry {
  readonly value: Uint8Array;
  readonly createSeq: Seq;
  readonly modSeq: Seq;
  readonly expiresAtMs?: EpochMs;
}

/** Where all reads of a tick stand. */
export interface ReadPlace {
  readonly position: Position;
  readonly nowMs: EpochMs;
  readonly token: Uint8Array;
  readonly stalenessMs: number | undefined;
}

const CHUNK_BYTES = 16 * 1024;
/** Of a result beside the values and tokens in it, at most. */
const ABOUT_BYTES = 128;
/** The lengths of results take as many bytes, so that they can be put in when the result is there. */
const LENGTH_BYTES = 4;
const RESULTS = 1;
const GET = 1;
const SET = 2;

/** The message that has these results, in their order. */
export function responseOf(results: readonly Uint8Array[]): BatchResponse {
  // The library writes what it does not know as it is.
  const $unknown = results.map((data) => ({ no: RESULTS, wireType: WireType.LengthDelimited, data }));
  return Object.assign(create(BatchResponseSchema), { $unknown });
}

/** Of one batch: its bytes are the answer's until that is sent. */
export class BatchResults {
  #bytes = Buffer.allocUnsafe(0);
  #at = 0;
  /** What the reads of this place have in common. */
  #place: { readonly of: ReadPlace; readonly bytes: Uint8Array } | undefined;

  get(entry: Entry | undefined, place: ReadPlace): Uint8Array {
    const common = this.#common(place);
    const began = this.#begin((entry?.value.length ?? 0) + common.length);
    const answer = this.#open(GET);
    if (entry) {
      this.#number(1, 1);
      if (entry.value.length > 0) this.#raw(2, entry.value);
      this.#number(4, entry.createSeq);
      this.#number(5, entry.modSeq);
      if (entry.expiresAtMs !== undefined) this.#number(6, Math.max(0, entry.expiresAtMs - place.nowMs));
    }
    this.#bytes.set(common, this.#at);
    this.#at += common.length;
    this.#close(answer);
    return this.#end(began);
  }

  /** Any result. */
  of(result: Result): Uint8Array {
    const { result: part } = result;
    if (part?.case === "set" && !part.value.previous && part.value.position) return this.#set(part.value);
    const bytes = toBinary(BatchResultSchema, create(BatchResultSchema, result));
    const began = this.#begin(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
    return this.#end(began);
  }

  #set({ position, token, repeated = false }: MessageInitShape<typeof SetResponseSchema>): Uint8Array {
    const began = this.#begin(token?.length ?? 0);
    const answer = this.#open(SET);
    this.#position(1, Number(position?.epoch ?? 0), Number(position?.seq ?? 0));
    if (token) this.#raw(2, token);
    if (repeated) this.#number(4, 1);
    this.#close(answer);
    return this.#end(began);
  }

  #common(place: ReadPlace): Uint8Array {
    if (this.#place?.of === place) return this.#place.bytes;
    const { position, stalenessMs, token } = place;
    this.#begin(token.length);
    const from = this.#at;
    this.#position(3, position.epoch, position.seq);
    if (stalenessMs !== undefined) this.#number(7, Math.ceil(stalenessMs));
    this.#raw(8, token);
    this.#place = { of: place, bytes: this.#bytes.subarray(from, this.#at) };
    return this.#place.bytes;
  }

  /** Makes room, and leaves that of the length. */
  #begin(bytes: number): number {
    const wanted = bytes + ABOUT_BYTES;
    if (this.#at + wanted > this.#bytes.length) {
      this.#bytes = Buffer.allocUnsafe(Math.max(CHUNK_BYTES, wanted));
      this.#at = 0;
    }
    this.#at += LENGTH_BYTES;
    return this.#at;
  }

  #end(began: number): Uint8Array {
    this.#close(began);
    assert(this.#at <= this.#bytes.length, "a result has room for what is in it");
    return this.#bytes.subarray(began - LENGTH_BYTES, this.#at);
  }

  /** Begins a message within the message. */
  #open(field: number): number {
    this.#bytes[this.#at] = field * 8 + WireType.LengthDelimited;
    this.#at += 1 + LENGTH_BYTES;
    return this.#at;
  }

  /** Puts the length in that was left out. A number may have more bytes than it needs: the eighth bit says that one follows. */
  #close(began: number): void {
    let length = this.#at - began;
    for (let at = began - LENGTH_BYTES; at < began - 1; at++, length >>>= 7) this.#bytes[at] = (length & 0x7f) | 0x80;
    this.#bytes[began - 1] = length;
  }

  #position(field: number, epoch: number, seq: number): void {
    const position = this.#open(field);
    this.#number(1, epoch);
    this.#number(2, seq);
    this.#close(position);
  }

  #raw(field: number, value: Uint8Array): void {
    const began = this.#open(field);
    this.#bytes.set(value, began);
    this.#at += value.length;
    this.#close(began);
  }

  /** Whole, from 0 to 2^53 - 1. */
  #number(field: number, value: number): void {
    this.#bytes[this.#at] = field * 8 + WireType.Varint;
    this.#at = writeVarint(this.#bytes, this.#at + 1, value);
  }
}
