/**
 * How the client reaches one node. The port is a pair of Connect transports; this file holds the implementation on
 * `fetch`, which runs in browsers and in Node. It imports nothing of Node.
 */
import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

/** The way to one node. */
export interface NodeTransport {
  readonly transport: Transport;
  /** The same node by HTTP GET for methods without side effects; absent where GET has no use. */
  readonly getTransport?: Transport | undefined;
  /** Whether messages travel as protobuf's bytes, as those of calls that are gathered must; absent: calls are not gathered. */
  readonly isBinary?: boolean;
  /** Gives back connections; calls in flight fail. */
  close?(): void;
}

export interface TransportOptions {
  /** Bytes that an answer may have, decompressed. A larger one is an error before it is kept in memory. */
  readonly readMaxBytes: number;
  /** What every call goes through before it is sent. */
  readonly interceptors?: Interceptor[];
}

/** Makes the way to the node at `baseUrl`, without connecting yet. Called once an endpoint. */
export type TransportFactory = (baseUrl: string, options: TransportOptions) => NodeTransport;

/** Connect over `fetch`, binary; reads by GET, which a browser sends to another origin without asking first. */
export function fetchTransport(baseUrl: string, { readMaxBytes, interceptors = [] }: TransportOptions): NodeTransport {
  const options = { baseUrl, interceptors, useBinaryFormat: true, fetch: limitedFetch(readMaxBytes) };
  return {
    transport: createConnectTransport(options),
    getTransport: createConnectTransport({ ...options, useHttpGet: true }),
    isBinary: true,
  };
}

/**
 * `fetch` whose answers have messages of up to `maxBytes`: connect-web has no such limit of its own, and `content-length`
 * says nothing about a compressed body. The answer of a unary call is read here as a whole; a stream is looked through
 * as it passes.
 */
export function limitedFetch(maxBytes: number, fetch: typeof globalThis.fetch = globalThis.fetch): typeof fetch {
  return async (input, init) => {
    const response = await fetch(input, init);
    if (!response.body) return response;
    if (response.headers.get("content-type")?.startsWith("application/connect+")) {
      const { status, statusText, headers } = response;
      const checked = response.body.pipeThrough(envelopeCheck(maxBytes, init?.signal));
      return new Response(checked, { status, statusText, headers });
    }
    const chunks: Uint8Array[] = [];
    let length = 0;
    const reader = response.body.getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      length += read.value.byteLength;
      if (length > maxBytes) {
        await reader.cancel();
        throw tooLarge("the answer", maxBytes);
      }
      chunks.push(read.value);
    }
    const { status, statusText, headers } = response;
    return new Response(joined(chunks, length), { status, statusText, headers });
  };
}

/** Bytes before each message of a stream: flags, and the message's length. */
const ENVELOPE_HEAD_BYTES = 5;

/**
 * Passes a stream of envelopes on, and fails at the head of the first message that is longer than `maxBytes`, and when the signal
 * fires: Node's `fetch` forgets its signal once garbage was collected while a stream is waited for, and the reader would hang.
 */
function envelopeCheck(
  maxBytes: number,
  signal: AbortSignal | null | undefined,
): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  let headBytes = 0;
  let length = 0;
  let left = 0;
  return new TransformStream({
    start(controller) {
      const abort = (): void => controller.error(signal?.reason);
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort, { once: true });
    },
    transform(chunk, controller) {
      for (let at = 0; at < chunk.byteLength;) {
        if (left > 0) {
          const passed = Math.min(left, chunk.byteLength - at);
          left -= passed;
          at += passed;
          continue;
        }
        // The first byte has the flags, the other four the length, highest first.
        if (headBytes > 0) length = length * 256 + chunk[at]!;
        at++;
        headBytes++;
        if (headBytes < ENVELOPE_HEAD_BYTES) continue;
        if (length > maxBytes) throw tooLarge("a message", maxBytes);
        left = length;
        headBytes = length = 0;
      }
      controller.enqueue(chunk);
    },
  });
}

function tooLarge(what: string, maxBytes: number): ConnectError {
  return new ConnectError(
    `${what} is larger than the ${maxBytes} bytes that this client reads; raise readMaxBytes, or ask for less`,
    Code.ResourceExhausted,
  );
}

function joined(chunks: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}
