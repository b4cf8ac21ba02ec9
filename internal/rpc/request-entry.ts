/**
 * Where requests of HTTP/1.1 and HTTP/2 come in. Fast calls, where there are any, try those that are whole once all that came with
 * their heads is there, which most are; everything else goes the long way.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type {
  Http2Server,
  Http2ServerRequest,
  Http2ServerResponse,
  IncomingHttpHeaders,
  ServerHttp2Stream,
} from "node:http2";
import { assert } from "../base/assert.js";
import type { Handed } from "./adapter.js";
import { hasItsHost } from "./authority.js";
import { type Desk, Http1Exchange, Http2Exchange, type LongWay, type StreamArrival } from "./exchange.js";
import type { FastCalls, FastMethod } from "./fast-calls.js";
import { BODY_BYTES_MAX, formOf } from "./fast-path/form.js";
import type { PushedCalls } from "./peer-pushed.js";

type StreamListener = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  flags: number,
  rawHeaders: readonly string[],
) => void;

/** How often a request that is not whole yet is looked at again: once a turn, since its rest often comes in the next packet. */
const TURNS_MAX = 2;
const NOTHING: Handed = { body: new Uint8Array(0) };

export interface RequestEntryOptions extends Desk {
  /** Absent: all goes the long way. */
  readonly fastCalls?: FastCalls;
  /** Absent: pushes go the long way too. */
  readonly pushedCalls?: PushedCalls;
}

export class RequestEntry {
  readonly #adapter: Desk["adapter"];
  readonly #desk: Desk;
  readonly #fastCalls: FastCalls | undefined;
  readonly #pushedCalls: PushedCalls | undefined;
  /** What is known already of a request that is about to be made of a stream. */
  readonly #handed = new WeakMap<ServerHttp2Stream, Handed>();

  constructor({ adapter, underWay, fastCalls, pushedCalls }: RequestEntryOptions) {
    this.#adapter = adapter;
    this.#desk = { adapter, underWay };
    this.#fastCalls = fastCalls;
    this.#pushedCalls = pushedCalls;
  }

  /** Answers a request of HTTP/1.1. */
  readonly handle = (request: IncomingMessage, response: ServerResponse): void => {
    const method = request.method === "POST" ? this.#fastCalls?.methodAt(request.url) : undefined;
    // Node gives out a head before it looks at what came with it.
    if (method) process.nextTick(this.#tryRequest, method, request, response, 0);
    else this.#adapter.handle(request, response);
  };

  /** Answers what comes to a server of HTTP/2. */
  serve(server: Http2Server): void {
    server.on("request", (request: Http2ServerRequest, response: Http2ServerResponse) => {
      setImmediate(this.#handleLater, request, response);
    });
    // With that listener Node has set up one that makes requests of streams.
    const [makeRequest, ...others] = server.listeners("stream") as StreamListener[];
    assert(makeRequest && others.length === 0, "a server of HTTP/2 makes requests of streams");
    server.removeAllListeners("stream");
    const longWay: LongWay = (arrival, handed) => {
      const { stream, headers, flags, rawHeaders } = arrival;
      if (handed) this.#handed.set(stream, handed);
      makeRequest.call(server, stream, headers, flags, rawHeaders);
    };
    const again = (method: FastMethod, arrival: StreamArrival, turns: number): void => {
      const { stream } = arrival;
      if (stream.closed || stream.destroyed) return;
      const isDone = this.#tryStream(method, arrival, turns < TURNS_MAX, longWay);
      if (isDone === true) return;
      if (isDone === undefined) setImmediate(again, method, arrival, turns + 1);
      // The end of nothing is told at once, and is not told again to a request that is made later.
      else longWay(arrival, stream.readableEnded ? NOTHING : undefined);
    };
    // The calls of a turn are begun together, since the log writes together what is there when the last of them is.
    let arrived: { readonly method: FastMethod; readonly arrival: StreamArrival }[] = [];
    const beginAll = (): void => {
      const all = arrived;
      arrived = [];
      for (const { method, arrival } of all) again(method, arrival, 0);
      this.#fastCalls?.endTurn();
    };
    server.on("stream", (...[stream, headers, flags, rawHeaders]: Parameters<StreamListener>) => {
      // Broken off in the same breath in which it began: to make a request of it would cost as much as to answer it.
      if (stream.closed || stream.destroyed) {
        stream.on("error", ignore);
        return;
      }
      const arrival = { stream, headers, flags, rawHeaders };
      const method = headers[":method"] === "POST" ? this.#fastCalls?.methodAt(headers[":path"]) : undefined;
      if (!method) {
        if (this.#pushedCalls?.take(arrival) === true) return;
        longWay(arrival);
        return;
      }
      // Without a listener this would end the process.
      stream.on("error", ignore);
      if (arrived.length === 0) setImmediate(beginAll);
      arrived.push({ method, arrival });
    });
  }

  /** After all that has come with it: a call that was broken off in the same breath costs hardly anything then. */
  readonly #handleLater = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
    const { stream } = response;
    if (!stream.closed && !stream.destroyed) this.#adapter.handle(request, response, this.#handed.get(stream));
  };

  readonly #tryRequest = (
    method: FastMethod,
    request: IncomingMessage,
    response: ServerResponse,
    turns: number,
  ): void => {
    const { headers, readableLength } = request;
    const form = formOf(headers);
    if (
      form === undefined ||
      form.isGrpc ||
      headers.host === undefined ||
      !hasItsHost(request) ||
      request.httpVersion !== "1.1" ||
      readableLength > BODY_BYTES_MAX ||
      response.destroyed
    ) {
      this.#adapter.handle(request, response);
      return;
    }
    // Node's parser sees to it that there is no more, and no less, than was announced.
    const isWhole = request.complete || readableLength === Number(headers["content-length"]);
    if (!isWhole && turns < TURNS_MAX) {
      setImmediate(this.#tryRequest, method, request, response, turns + 1);
      return;
    }
    const exchange = isWhole && new Http1Exchange(request, response, { form, desk: this.#desk });
    if (!exchange || this.#fastCalls?.carryOut(method, exchange) !== true) this.#adapter.handle(request, response);
  };

  /** Undefined: it is not whole, and may be looked at again. */
  #tryStream(method: FastMethod, arrival: StreamArrival, mayWait: boolean, longWay: LongWay): boolean | undefined {
    const { stream, headers } = arrival;
    const form = formOf(headers);
    const { session } = stream;
    if (!form || !session || headers[":authority"] === undefined || stream.readableLength > BODY_BYTES_MAX) {
      return false;
    }
    // What has not been ended may have more to come.
    if (stream.state.remoteClose !== 1) return mayWait ? undefined : false;
    const exchange = new Http2Exchange(arrival, form, session, this.#desk, longWay);
    return this.#fastCalls?.carryOut(method, exchange) === true;
  }
}

const ignore = (): void => undefined;
