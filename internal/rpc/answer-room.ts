/** Bytes that the answers of a batch may have. */
import type { BatchRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Limits } from "./limits.js";

/** Bytes of a result beside the values in it, at most; errors aside. */
const RESULT_BYTES = 192;

export class AnswerRoom {
  readonly #bytesMax: number;
  readonly #refusedBytesMax: number;
  #usedBytes = 0;
  #refusedBytes = 0;

  constructor({ maxBytes }: Pick<BatchRequest, "maxBytes">, { messageBytesMax }: Pick<Limits, "messageBytesMax">) {
    this.#bytesMax = Math.min(maxBytes || messageBytesMax, messageBytesMax);
    this.#refusedBytesMax = messageBytesMax;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** So much has been read in vain that to read on would be work and memory for nothing. */
  get isGone(): boolean {
    return this.#refusedBytes > this.#refusedBytesMax;
  }

  /** Whether there is room for one more result with so many bytes of values; takes it then. */
  take(valueBytes: number): boolean {
    const bytes = RESULT_BYTES + valueBytes;
    const isThere = this.#usedBytes + bytes <= this.#bytesMax;
    if (isThere) this.#usedBytes += bytes;
    else this.#refusedBytes += bytes;
    return isThere;
  }
}
