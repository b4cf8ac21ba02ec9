/** Messages in the frames of gRPC, out of a stream that comes in pieces as it likes. */
import { Code, ConnectError } from "@connectrpc/connect";

/** Before each message: a byte of flags, and the length as 32 bits, most significant byte first. */
export const FRAME_HEAD_BYTES = 5;

const COMPRESSED = 1;
const NOTHING = Buffer.alloc(0);
/** What is taken at once for a message that is larger than the pieces it comes in; a longer one gets more as it comes. */
const ROOM_BYTES_MIN = 2 * 1024 * 1024;

/** Goes through a stream of frames that are not compressed. What it finds wrong is said as the protocol library says it. */
export class FrameReader {
  readonly #bytesMax: number;
  readonly #head = Buffer.alloc(FRAME_HEAD_BYTES);
  #headBytes = 0;
  /** Of the message that has begun, and of what of it is there. */
  #length = 0;
  #filled = 0;
  #message: Buffer | undefined;

  /** `bytesMax`: of a message. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /**
   * Gives each message that is whole now, in memory that nobody writes to afterwards; it may be a part of `piece`. Throws a
   * `ConnectError` where the stream is none of such frames; no message comes of it any more then.
   */
  read(piece: Buffer, take: (message: Buffer) => void): void {
    let at = 0;
    while (at < piece.length) {
      if (this.#headBytes < FRAME_HEAD_BYTES) {
        const end = Math.min(piece.length, at + FRAME_HEAD_BYTES - this.#headBytes);
        this.#headBytes += piece.copy(this.#head, this.#headBytes, at, end);
        at = end;
        if (this.#headBytes < FRAME_HEAD_BYTES) return;
        this.#begin();
        if (this.#length === 0) this.#end(take, NOTHING);
        continue;
      }
      const end = Math.min(piece.length, at + this.#length - this.#filled);
      if (this.#filled === 0 && end - at === this.#length) this.#end(take, piece.subarray(at, end));
      else this.#fill(piece, at, end, take);
      at = end;
    }
  }

  /** The stream has ended. Throws a `ConnectError` where that is within a frame. */
  end(): void {
    if (this.#headBytes > 0) throw new ConnectError("protocol error: incomplete envelope", Code.InvalidArgument);
  }

  #begin(): void {
    this.#length = this.#head.readUInt32BE(1);
    if (this.#length > this.#bytesMax) {
      const text = `message size ${this.#length} is larger than configured readMaxBytes ${this.#bytesMax}`;
      throw new ConnectError(text, Code.ResourceExhausted);
    }
    if ((this.#head[0]! & COMPRESSED) !== 0) {
      throw new ConnectError("received compressed envelope, but do not know how to decompress", Code.Internal);
    }
  }

  #fill(piece: Buffer, from: number, to: number, take: (message: Buffer) => void): void {
    const filled = this.#filled + to - from;
    // Not as much as the head says: of that nothing may ever come.
    if (!this.#message || filled > this.#message.length) {
      const room = Math.min(this.#length, Math.max(ROOM_BYTES_MIN, 2 * filled));
      const larger = Buffer.allocUnsafeSlow(room);
      this.#message?.copy(larger, 0, 0, this.#filled);
      this.#message = larger;
    }
    piece.copy(this.#message, this.#filled, from, to);
    this.#filled = filled;
    if (filled === this.#length) this.#end(take, this.#message);
  }

  #end(take: (message: Buffer) => void, message: Buffer): void {
    this.#headBytes = 0;
    this.#filled = 0;
    this.#message = undefined;
    take(message);
  }
}
