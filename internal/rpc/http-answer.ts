/** Writing answers to Node's HTTP/1.1 and HTTP/2 responses alike, for callers that may leave at any time. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Stream } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { errorToJson } from "@connectrpc/connect/protocol-connect";
import { correctStatus, encodeStatusMessage, endOfStream, frameCorrector } from "./library-errors.js";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;
/** What answers go out by. */
export type Outlet = HttpResponse | ServerHttp2Stream;

/** How long a caller over HTTP/2 may go on with a request that has been answered. */
const REST_TIMEOUT_MS = 1000;

/** Whether a request came over HTTP/2. */
export const isHttp2 = (request: HttpRequest): request is Http2ServerRequest => request.httpVersionMajor === 2;

/** The two kinds of response have the same method, under types that have nothing in common. */
export function writeHead(response: HttpResponse, status: number, headers: OutgoingHttpHeaders): void {
  (response as ServerResponse).writeHead(status, headers);
}

/** Answers with a sentence, as text. */
export function answerText(response: HttpResponse, status: number, text: string, headers?: OutgoingHttpHeaders): void {
  answerWhole(response, status, "text/plain; charset=utf-8", `${text}\n`, headers);
}

/** Answers a request that is no call of any protocol, with a status and the error as JSON. */
export function answerError(
  response: HttpResponse,
  status: number,
  error: ConnectError,
  headers?: OutgoingHttpHeaders,
): void {
  answerWhole(response, status, "application/json", JSON.stringify(errorToJson(error, undefined)), headers);
}

/** Answers a call that does not get to a handler, in the form of its protocol, so that the client's program sees the error. */
export function answerRefusal(
  request: HttpRequest,
  response: HttpResponse,
  status: number,
  error: ConnectError,
  headers?: OutgoingHttpHeaders,
): void {
  const type = request.headers["content-type"] ?? "";
  if (/^application\/grpc(-web)?(\+(proto|json))?(;|$)/.test(type)) {
    // To a client of gRPC every answer is 200, and an error a trailer, which may come alone.
    writeHead(response, 200, {
      "content-type": type,
      "grpc-status": String(error.code),
      "grpc-message": encodeStatusMessage(error.rawMessage),
    });
    response.end();
  } else if (/^application\/connect\+(proto|json)$/.test(type)) {
    // A stream ends with its error, and is 200 until then.
    writeHead(response, 200, { "content-type": type });
    response.end(endOfStream(error));
  } else answerError(response, status, error, headers);
}

/** Answers with a whole body, which nobody may keep. */
export function answerWhole(
  response: HttpResponse,
  status: number,
  type: string,
  body: string,
  headers?: OutgoingHttpHeaders,
): void {
  writeHead(response, status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    ...headers,
  });
  response.end(body);
}

/**
 * Writes an answer of the protocol library. Resolves when it is written or its caller gone; either way the iterator of
 * its body has been told to end, so that whatever the handler holds is given back.
 */
export async function answerCall(answer: UniversalServerResponse, response: HttpResponse): Promise<void> {
  const correct = frameCorrector(answer.header?.get("content-type") ?? "");
  // Where the length is known there is one chunk, and it travels with the head.
  const isSingle = answer.header?.has("content-length") === true;
  const body = answer.body?.[Symbol.asyncIterator]();
  try {
    let chunk = await body?.next();
    if (hasLeft(response)) return;
    // Only now, since handlers may set headers until they give out the first message.
    writeHead(response, answer.status, toNodeHeaders(answer.header));
    if (isSingle && chunk && chunk.done !== true) {
      response.end(chunk.value);
      return;
    }
    if (body) {
      for (; chunk && chunk.done !== true; chunk = await body.next()) {
        const frame = correct ? correct(chunk.value) : chunk.value;
        const taken = writeFrame(response, frame);
        if (taken) await taken;
        if (hasLeft(response)) return;
      }
      if (hasLeft(response)) return;
    }
    if (answer.trailer) {
      correctStatus(answer.trailer);
      response.addTrailers(toNodeHeaders(answer.trailer));
    }
    response.end();
  } finally {
    // Not awaited: a handler that waits for something else ends when its call's signal is aborted, not before.
    body?.return?.()?.catch(() => undefined);
  }
}

/**
 * Takes what is left of a request after its answer is written, so that the connection can go on: it is read and thrown
 * away. Over HTTP/2 a caller that still goes on after a moment is asked to stop; over HTTP/1.1 its time is that of every
 * request.
 */
export function discardRest(request: HttpRequest, response: HttpResponse): void {
  if (request.complete || request.destroyed) return;
  // What the library has not read stays in memory with the stream, and in the window of the whole connection: without this a
  // connection would come to a halt after a few messages that are too large, and could not even be closed.
  request.removeAllListeners("readable");
  request.resume();
  if (isHttp2(request)) closeLater((response as Http2ServerResponse).stream);
}

/** The same of a stream by itself, which is being read. */
export function closeLater(stream: ServerHttp2Stream): void {
  // Not at once: a stream that is closed sends nothing more, its answer included, and Node's own client takes no answer while
  // it has megabytes to send, nor ever gets over those that it was not let send.
  const timer = setTimeout(() => {
    if (!stream.destroyed && !stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
  }, REST_TIMEOUT_MS);
  timer.unref();
  stream.once("close", () => clearTimeout(timer));
}

/** Whether more was written than the caller has taken, so that writing waits for it. */
export function isFull(outlet: Outlet): boolean {
  return (streamOf(outlet) ?? (outlet as ServerResponse)).writableNeedDrain;
}

/** Bytes of an answer that the network has not taken yet. */
export function unsentBytes(outlet: Outlet): number {
  return streamOf(outlet)?.bufferSize ?? outlet.writableLength;
}

/** Ends an answer that its caller does not take, and with it what else the caller has on its connection. */
export function breakOff(outlet: Outlet): void {
  const stream = streamOf(outlet);
  if (stream) (stream.session ?? stream).destroy();
  // One that waits for the answer before it has no socket of its own yet.
  else (outlet as ServerResponse).req.socket.destroy();
}

/** Undefined when more may be written at once; else a promise, which resolves when the caller has taken enough, or has left. */
export function writeFrame(response: HttpResponse, frame: Uint8Array): Promise<void> | undefined {
  if (hasLeft(response) || (response as ServerResponse).write(frame)) return undefined;
  return drainedOrLeft(response);
}

/** Undefined over HTTP/1.1. */
function streamOf(outlet: Outlet): ServerHttp2Stream | undefined {
  if ("stream" in outlet) return outlet.stream;
  return "bufferSize" in outlet ? outlet : undefined;
}

function hasLeft(response: HttpResponse): boolean {
  return response.destroyed || ("stream" in response && response.stream.destroyed);
}

/** A caller that left never drains: without its close this would wait for ever, and the handler's `finally` with it. */
function drainedOrLeft(response: HttpResponse): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      response.off("drain", end);
      response.off("close", end);
      resolve();
    };
    response.on("drain", end);
    response.on("close", end);
  });
}

function toNodeHeaders(headers: Headers | undefined): OutgoingHttpHeaders {
  const result: OutgoingHttpHeaders = {};
  headers?.forEach((value, name) => {
    result[name] = value;
  });
  return result;
}
