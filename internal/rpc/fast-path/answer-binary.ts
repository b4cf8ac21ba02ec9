/**
 * Answers as protobuf, written straight from what was found: no message, no bigint, no copy in between. Fields stand in the order of
 * their numbers, and those with the value of nothing are left out, as the library writes them.
 */
import { assert } from "../../base/assert.js";
import { writeVarint } from "../../base/varint.js";
import type { FoundEntry, FoundMany, FoundOne, Place, Written } from "./answer.js";
import { ANSWER_BYTES_MAX, ENVELOPE_BYTES } from "./form.js";

/** Beside what is counted by itself: numbers of ten bytes, tags and lengths. */
const ENTRY_BYTES = 64;
const ABOUT_BYTES = 192;

const VARINT = 0;
const BYTES = 2;

/** Makes one answer at a time. Each method gives the bytes as latin1, which is how they leave soonest; undefined: it is too large. */
export class BinaryAnswers {
  readonly #bytes = Buffer.allocUnsafeSlow(ENVELOPE_BYTES + ANSWER_BYTES_MAX + ABOUT_BYTES);
  #at = 0;

  get({ entry, point, stalenessMs }: FoundOne, isGrpc: boolean): string | undefined {
    if (!this.#begin((entry?.value.length ?? 0) + point.token.length)) return undefined;
    if (entry) {
      this.#bool(1, true);
      this.#octets(2, entry.value);
    }
    this.#position(3, point.position);
    if (entry) this.#about(4, entry, point.nowMs);
    this.#optional(7, stalenessMs);
    this.#octets(8, point.token);
    return this.#end(isGrpc);
  }

  batchGet({ entries, point, stalenessMs }: FoundMany, isGrpc: boolean): string | undefined {
    let bytes = point.token.length;
    for (const entry of entries) bytes += ENTRY_BYTES + (entry?.value.length ?? 0);
    if (!this.#begin(bytes)) return undefined;
    for (const entry of entries) this.#entry(1, entry, point.nowMs);
    this.#position(2, point.position);
    this.#optional(3, stalenessMs);
    this.#octets(4, point.token);
    return this.#end(isGrpc);
  }

  /** Of results that each have their length before them. */
  batch(results: readonly Uint8Array[], isGrpc: boolean): string | undefined {
    let bytes = 0;
    for (const result of results) bytes += 1 + result.length;
    if (!this.#begin(bytes)) return undefined;
    for (const result of results) {
      this.#tag(1, BYTES);
      this.#bytes.set(result, this.#at);
      this.#at += result.length;
    }
    return this.#end(isGrpc);
  }

  set({ position, token, repeated }: Written, isGrpc: boolean): string | undefined {
    if (!this.#begin(token.length)) return undefined;
    this.#position(1, position);
    this.#octets(2, token);
    this.#bool(4, repeated);
    return this.#end(isGrpc);
  }

  delete({ position, token, repeated, existed }: Written, isGrpc: boolean): string | undefined {
    if (!this.#begin(token.length)) return undefined;
    this.#bool(1, existed);
    this.#position(2, position);
    this.#octets(3, token);
    this.#bool(5, repeated);
    return this.#end(isGrpc);
  }

  increment({ position, token, repeated, sum = 0n }: Written, isGrpc: boolean): string | undefined {
    if (!this.#begin(token.length)) return undefined;
    if (sum !== 0n) {
      this.#tag(1, VARINT);
      this.#signed(sum);
    }
    this.#position(2, position);
    this.#octets(3, token);
    this.#bool(4, repeated);
    return this.#end(isGrpc);
  }

  /** False: that many bytes, and what belongs to them, do not fit. */
  #begin(bytes: number): boolean {
    this.#at = ENVELOPE_BYTES;
    return bytes + ABOUT_BYTES <= ANSWER_BYTES_MAX;
  }

  #end(isGrpc: boolean): string {
    assert(this.#at <= this.#bytes.length, "an answer was found to fit");
    if (!isGrpc) return this.#bytes.toString("latin1", ENVELOPE_BYTES, this.#at);
    this.#bytes[0] = 0;
    this.#bytes.writeUInt32BE(this.#at - ENVELOPE_BYTES, 1);
    return this.#bytes.toString("latin1", 0, this.#at);
  }

  #entry(field: number, entry: FoundEntry | undefined, nowMs: number): void {
    this.#tag(field, BYTES);
    if (!entry) {
      this.#varint(0);
      return;
    }
    // Its length comes first: the whole of it is written where it would stand behind the longest of lengths, and moved to it.
    const start = this.#at;
    this.#at += 3;
    this.#bool(1, true);
    this.#octets(2, entry.value);
    this.#about(3, entry, nowMs);
    const [from, to] = [start + 3, this.#at];
    this.#at = start;
    this.#varint(to - from);
    this.#bytes.copyWithin(this.#at, from, to);
    this.#at += to - from;
  }

  /** `create_seq`, `mod_seq` and `ttl_ms` follow each other wherever they are. */
  #about(field: number, { createSeq, modSeq, expiresAtMs }: FoundEntry, nowMs: number): void {
    this.#number(field, createSeq);
    this.#number(field + 1, modSeq);
    if (expiresAtMs !== undefined) this.#optional(field + 2, Math.max(0, expiresAtMs - nowMs));
  }

  #position(field: number, { epoch, seq }: Place): void {
    this.#tag(field, BYTES);
    // Less than 128 bytes, so that its length is one.
    const lengthAt = this.#at++;
    this.#number(1, epoch);
    this.#number(2, seq);
    this.#bytes[lengthAt] = this.#at - lengthAt - 1;
  }

  #bool(field: number, value: boolean): void {
    if (!value) return;
    this.#tag(field, VARINT);
    this.#bytes[this.#at++] = 1;
  }

  #number(field: number, value: number): void {
    if (value === 0) return;
    this.#tag(field, VARINT);
    this.#varint(value);
  }

  /** There also when it is 0. */
  #optional(field: number, value: number | undefined): void {
    if (value === undefined) return;
    this.#tag(field, VARINT);
    this.#varint(Math.ceil(value));
  }

  #octets(field: number, value: Uint8Array): void {
    if (value.length === 0) return;
    this.#tag(field, BYTES);
    this.#varint(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  #tag(field: number, wireType: number): void {
    this.#bytes[this.#at++] = field * 8 + wireType;
  }

  #varint(value: number): void {
    this.#at = writeVarint(this.#bytes, this.#at, value);
  }

  #signed(value: bigint): void {
    if (value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)) {
      this.#varint(Number(value));
      return;
    }
    let left = BigInt.asUintN(64, value);
    for (; left >= 128n; left >>= 7n) this.#bytes[this.#at++] = Number(left & 127n) | 128;
    this.#bytes[this.#at++] = Number(left);
  }
}
