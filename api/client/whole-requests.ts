/**
 * HTTP/1.1 for calls that have one message each way, as the protocol library takes its HTTP: a request goes out in one write, and an
 * answer is read as a whole. The library's own is made for streams too: it writes head and body one after the other, and lets each
 * piece wait for several promises, which costs half of a call.
 */
import http from "node:http";
import https from "node:https";
import { urlToHttpOptions } from "node:url";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalClientFn, UniversalClientResponse } from "@connectrpc/connect/protocol";

/** Of an answer that is none of errors, what the library looks at. */
const READ_HEADERS = ["content-type", "content-encoding", "content-length"] as const;

/** `readMaxBytes`: no more of an answer is kept than shows that it is too large. */
export function wholeRequests({
  baseUrl,
  agent,
  readMaxBytes,
}: {
  readonly baseUrl: string;
  readonly agent: http.Agent;
  readonly readMaxBytes: number;
}): UniversalClientFn {
  const base = new URL(baseUrl);
  const { protocol, hostname, port } = urlToHttpOptions(base);
  const { request } = protocol === "https:" ? https : http;
  return async ({ url, method, header, signal, body }) => {
    const sent = await joined(body);
    return new Promise((resolve, reject) => {
      const headers = Object.fromEntries(header);
      const path = url.slice(base.origin.length);
      const outgoing = request({ agent, protocol, hostname, port, method, path, headers });
      const abort = (): void => void outgoing.destroy();
      const fail = (error: Error): void => {
        signal?.removeEventListener("abort", abort);
        // Its cause tells the client what became of the connection.
        reject(ConnectError.from(error, Code.Unavailable));
      };
      outgoing.on("error", fail);
      outgoing.on("response", (incoming) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        const answer = (): void => {
          signal?.removeEventListener("abort", abort);
          resolve(toAnswer(incoming, chunks));
        };
        incoming.on("data", (chunk: Buffer) => {
          chunks.push(chunk);
          bytes += chunk.byteLength;
          if (bytes <= readMaxBytes) return;
          // The library says so, in its own words.
          answer();
          outgoing.destroy();
        });
        incoming.on("end", answer);
        incoming.on("error", fail);
      });
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort);
      outgoing.end(sent);
    });
  };
}

async function joined(body: AsyncIterable<Uint8Array> | undefined): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk);
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

function toAnswer(
  { statusCode = 0, headers }: http.IncomingMessage,
  chunks: readonly Uint8Array[],
): UniversalClientResponse {
  const header = new Headers();
  for (const name of statusCode === 200 ? READ_HEADERS : Object.keys(headers)) {
    const value = headers[name];
    if (value !== undefined) header.set(name, String(value));
  }
  return { status: statusCode, header, body: each(chunks), trailer: new Headers() };
}

async function* each(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}
