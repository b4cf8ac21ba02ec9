/**
 * Bytes of requests that have come, and of which no handler has the message yet: a caller that sends nearly all of a message,
 * and then nothing, takes memory for as long as it likes. Together they may have so much of it and no more.
 */
import { overloaded } from "./overload.js";

const ENVELOPE_BYTES = 5;
/** Reckoned for a piece beside its bytes: a message may come in as many pieces as it has bytes. */
const PIECE_OVERHEAD_BYTES = 256;

export class Intake {
  readonly #bytesMax: number;
  readonly #onOverload: () => void;
  #bytes = 0;

  /** `bytesMax`: of all connections together. `onOverload` is told of each request that there is no room for. */
  constructor(bytesMax: number, onOverload: () => void = () => undefined) {
    this.#bytesMax = bytesMax;
    this.#onOverload = onOverload;
  }

  /** Of messages that are not whole, or whose calls are not answered yet. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Counts the body of a request. `isStream`: it is a row of messages, each of which counts until it is whole. */
  begin({ isStream }: { readonly isStream: boolean }): IntakeOfRequest {
    return new IntakeOfRequest(isStream, (bytes) => this.#add(bytes));
  }

  /** Counts a whole message; false: there is no room for it. What was counted is to be released. */
  hold(bytes: number): boolean {
    const counted = bytes + PIECE_OVERHEAD_BYTES;
    if (this.#bytes + counted > this.#bytesMax) return false;
    this.#bytes += counted;
    return true;
  }

  /** Of a message that was held. */
  release(bytes: number): void {
    this.#bytes -= bytes + PIECE_OVERHEAD_BYTES;
  }

  #add(bytes: number): void {
    this.#bytes += bytes;
    if (bytes <= 0 || this.#bytes <= this.#bytesMax) return;
    this.#onOverload();
    throw overloaded(
      `${this.#bytes} bytes of requests have come to this node and are not dealt with yet, ${this.#bytesMax} are possible (limits.max_arriving_bytes); nothing was changed by this one, try again shortly`,
    );
  }
}

export class IntakeOfRequest {
  readonly #isStream: boolean;
  readonly #add: (bytes: number) => void;
  #counted = 0;
  /** Of the envelope's head that has come so far, and what of the message is still to come. */
  readonly #head: number[] = [];
  #leftBytes = 0;

  constructor(isStream: boolean, add: (bytes: number) => void) {
    this.#isStream = isStream;
    this.#add = add;
  }

  /** Throws what the caller is to be told when there is too much of all together. */
  add(chunk: Uint8Array): void {
    const bytes = this.#isStream ? this.#partOf(chunk) - this.#counted : chunk.byteLength + PIECE_OVERHEAD_BYTES;
    this.#counted += bytes;
    this.#add(bytes);
  }

  /** Nothing of the request is held any more. */
  end(): void {
    this.#add(-this.#counted);
    this.#counted = 0;
  }

  /** Bytes of the last message that are there, where the chunk is in the middle of it; 0 when it is whole. */
  #partOf(chunk: Uint8Array): number {
    let held = this.#counted + (chunk.byteLength > 0 ? PIECE_OVERHEAD_BYTES : 0);
    for (let at = 0; at < chunk.byteLength;) {
      if (this.#leftBytes > 0) {
        const taken = Math.min(this.#leftBytes, chunk.byteLength - at);
        this.#leftBytes -= taken;
        at += taken;
        held = this.#leftBytes === 0 ? 0 : held + taken;
        continue;
      }
      this.#head.push(chunk[at++]!);
      held++;
      if (this.#head.length < ENVELOPE_BYTES) continue;
      // The first byte has the flags, the other four the length, highest first.
      this.#leftBytes = this.#head
        .splice(0)
        .reduce((length, byte, index) => (index === 0 ? 0 : length * 256 + byte), 0);
      if (this.#leftBytes === 0) held = 0;
    }
    return held;
  }
}
