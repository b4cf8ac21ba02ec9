/**
 * Chunks: what a file of the store is made of behind its header.
 *
 * ```
 *   0  CRC (4) of the rest, seeded by the file's salt and the chunk's number in it
 *   4  kind (1)   5  length (4)   9  content
 * ```
 *
 * So a chunk that is damaged, is missing, stands in the wrong place, or comes from another file is seen.
 */
import { crc32, crc32Uint32 } from "../base/crc32.js";
import { ByteReader, FormatError, NewerFormatError } from "./byte-codec.js";

export const CHUNK_HEADER_BYTES = 9;
/** No chunk's content is larger: the largest record, or a key and a value, with room to spare. */
export const CHUNK_BYTES_MAX = 72 * 1024 * 1024;

/** Makes and checks the chunks of one file, in their order. */
export class ChunkCodec<Kind extends string> {
  readonly #kinds: readonly (Kind | undefined)[];
  readonly #salted: number;
  #number = 0;

  /** A kind is written as its place in `kinds`. */
  constructor(salt: Uint8Array, kinds: readonly (Kind | undefined)[]) {
    this.#salted = crc32(salt);
    this.#kinds = kinds;
  }

  encode(kind: Kind, content: Uint8Array): Buffer {
    const chunk = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + content.length);
    chunk.set(content, CHUNK_HEADER_BYTES);
    this.seal(kind, chunk);
    return chunk;
  }

  /** Makes a chunk of content that stands behind room for the header. */
  seal(kind: Kind, chunk: Buffer): void {
    chunk[4] = this.#kinds.indexOf(kind);
    chunk.writeUInt32LE(chunk.length - CHUNK_HEADER_BYTES, 5);
    chunk.writeUInt32LE(crc32(chunk.subarray(4), this.#seed()), 0);
  }

  /** Bytes of content that a chunk's header announces. Throws `FormatError`. */
  contentLength(header: Uint8Array): number {
    const length = new ByteReader(header.subarray(5)).uint32();
    if (length > CHUNK_BYTES_MAX)
      throw new FormatError(`a chunk of ${length} bytes is larger than any that is written`);
    return length;
  }

  /** Throws `FormatError` when the chunk is damaged or stands in the wrong place. */
  decode(chunk: Uint8Array): { kind: Kind; content: Uint8Array } {
    const reader = new ByteReader(chunk);
    const expected = reader.uint32();
    const number = this.#number;
    const found = crc32(chunk.subarray(4), this.#seed());
    if (found !== expected)
      throw new FormatError(`chunk ${number} is damaged: its CRC is ${found}, ${expected} was expected`);
    const kind = this.#kinds[reader.byte()];
    if (!kind) {
      throw new NewerFormatError(`chunk ${number} is of a kind that this version does not know; use a newer one`);
    }
    return { kind, content: reader.raw(reader.uint32()) };
  }

  #seed(): number {
    return crc32Uint32(this.#number++, this.#salted) >>> 0;
  }
}
