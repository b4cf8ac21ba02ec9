/**
 * Compression of requests and answers by what Node has built in. Unlike the library's own, it never puts the blame for
 * bytes that do not decompress on this node.
 */
import { promisify } from "node:util";
import { brotliCompress, brotliDecompress, constants, gunzip, gzip } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { limitDetail } from "./errors.js";

const gzipAsync = promisify(gzip);
const gunzipAsync = promisify(gunzip);
const brotliCompressAsync = promisify(brotliCompress);
const brotliDecompressAsync = promisify(brotliDecompress);

/** At once. The log's writes and syncs go through the same few threads, and must not wait for the callers' compression. */
const WORKING_MAX = 2;

/** An answer below this is sent as it is: compressing costs more than it saves. */
export const COMPRESS_BYTES_MIN = 16 * 1024;
/** The library's default, 11, takes seconds for a megabyte. */
const BROTLI_QUALITY = 4;

const gzipCompression: Compression = {
  name: "gzip",
  compress: async (bytes) => new Uint8Array(await oneOfFew(() => gzipAsync(bytes))),
  decompress: (bytes, maxBytes) => decompressed(bytes, maxBytes, gunzipAsync),
};

const brotliCompression: Compression = {
  name: "br",
  compress: async (bytes) =>
    new Uint8Array(
      await oneOfFew(() =>
        brotliCompressAsync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY } }),
      ),
    ),
  decompress: (bytes, maxBytes) => decompressed(bytes, maxBytes, brotliDecompressAsync),
};

export const compressions: Compression[] = [gzipCompression, brotliCompression];

async function decompressed(
  bytes: Uint8Array,
  maxBytes: number,
  decompress: (bytes: Uint8Array, options: { maxOutputLength: number }) => Promise<Buffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  if (bytes.length === 0) return new Uint8Array(0);
  try {
    // A bomb is given up at the first byte too many: nothing larger than a message is ever held.
    return new Uint8Array(await oneOfFew(() => decompress(bytes, { maxOutputLength: maxBytes })));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE") {
      throw new ConnectError(
        `the message is larger than ${maxBytes} bytes once decompressed (limits.max_message_bytes); send less at once`,
        Code.ResourceExhausted,
        undefined,
        // How large it would have become nobody knows: the first byte too many ended it.
        [limitDetail({ limit: "limits.max_message_bytes", maximum: maxBytes, actual: maxBytes + 1 })],
      );
    }
    throw new ConnectError(
      "the message does not decompress; compress it as its encoding header says",
      Code.InvalidArgument,
    );
  }
}

let working = 0;
const waiting: (() => void)[] = [];

/** Begins the work when less than `WORKING_MAX` is under way, in the order of the calls. */
async function oneOfFew<T>(work: () => Promise<T>): Promise<T> {
  if (working < WORKING_MAX) working++;
  // Whoever ends hands its place over.
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else working--;
  }
}
