/**
 * How the client reaches one node. The port is a pair of Connect transports; this file holds the implementation on
 * `fetch`, which runs in browsers and in Node. It imports nothing of Node.
 */
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

/** The way to one node. */
export interface NodeTransport {
  readonly transport: Transport;
  /** The same node by HTTP GET for methods without side effects; absent where GET has no use. */
  readonly getTransport?: Transport | undefined;
  /** Gives back connections; calls in flight fail. */
  close?(): void;
}

export interface TransportOptions {
  /** Bytes that an answer may have, decompressed. A larger one is an error before it is kept in memory. */
  readonly readMaxBytes: number;
}

/** Makes the way to the node at `baseUrl`, without connecting yet. Called once an endpoint. */
export type TransportFactory = (baseUrl: string, options: TransportOptions) => NodeTransport;

/** Connect over `fetch`, binary; reads by GET, which a browser sends to another origin without asking first. */
export function fetchTransport(baseUrl: string, { readMaxBytes }: TransportOptions): NodeTransport {
  const options = { baseUrl, useBinaryFormat: true, fetch: limitedFetch(readMaxBytes) };
  return {
    transport: createConnectTransport(options),
    getTransport: createConnectTransport({ ...options, useHttpGet: true }),
  };
}

/**
 * `fetch` whose whole answer is read here, up to `maxBytes`: connect-web has no such limit of its own, and
 * `content-length` says nothing about a compressed body. For unary calls only.
 */
export function limitedFetch(maxBytes: number, fetch: typeof globalThis.fetch = globalThis.fetch): typeof fetch {
  return async (input, init) => {
    const response = await fetch(input, init);
    if (!response.body) return response;
    const chunks: Uint8Array[] = [];
    let length = 0;
    const reader = response.body.getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      length += read.value.byteLength;
      if (length > maxBytes) {
        await reader.cancel();
        throw new ConnectError(
          `the answer is larger than the ${maxBytes} bytes that this client reads; raise readMaxBytes, or ask for less`,
          Code.ResourceExhausted,
        );
      }
      chunks.push(read.value);
    }
    const { status, statusText, headers } = response;
    return new Response(joined(chunks, length), { status, statusText, headers });
  };
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
