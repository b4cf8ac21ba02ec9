/** A request that the fast calls may answer, and the way of its answer, over HTTP/1.1 and over HTTP/2. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { IncomingHttpHeaders, Http2Session, ServerHttp2Stream } from "node:http2";
import { compressionNegotiate } from "@connectrpc/connect/protocol";
import type { Adapter, Handed } from "./adapter.js";
import type { CallerConnection } from "./caller-connection.js";
import { compressions } from "./compression.js";
import type { Exchange } from "./fast-calls.js";
import type { Form } from "./fast-path/form.js";
import type { UnderWay } from "./under-way.js";

/** What answers need of the node. */
export interface Desk {
  readonly adapter: Pick<Adapter, "handle" | "connectionAt" | "isDraining">;
  readonly underWay: Pick<UnderWay, "track">;
}

const CONNECT_TYPE = { json: "application/json", binary: "application/proto" } as const;
const GRPC_TYPE = "application/grpc+proto";
const TRAILERS = { "grpc-status": "0" };
// With all that Node would add by itself: that costs it more than the options say.
const WITHOUT_TRAILERS = { endStream: false, waitForTrailers: false, sendDate: true } as const;
const WITH_TRAILERS = { endStream: false, waitForTrailers: true, sendDate: true } as const;

/** What Node tells of a stream of HTTP/2. */
export interface StreamArrival {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly flags: number;
  readonly rawHeaders: readonly string[];
}

/** Makes a request of a stream. */
export type LongWay = (arrival: StreamArrival, handed?: Handed) => void;

export class Http1Exchange implements Exchange {
  readonly form: Form;
  readonly connection: CallerConnection;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #desk: Desk;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    { form, desk }: { readonly form: Form; readonly desk: Desk },
  ) {
    this.#request = request;
    this.#response = response;
    this.#desk = desk;
    this.form = form;
    this.connection = desk.adapter.connectionAt(request.socket);
  }

  get authority(): string {
    return this.#request.headers.host ?? "";
  }

  get authorization(): string | undefined {
    return this.#request.headers.authorization;
  }

  get headers(): IncomingHttpHeaders {
    return this.#request.headers;
  }

  takeBody(): Buffer | undefined {
    return (this.#request.read() as Buffer | null) ?? undefined;
  }

  giveBack(body: Buffer): void {
    this.#request.unshift(body);
  }

  answer(requestId: string, text: string): void {
    const response = this.#response;
    // Its end is still to be read.
    this.#request.resume();
    if (response.destroyed) return;
    if (this.#desk.adapter.isDraining) response.setHeader("connection", "close");
    response.writeHead(200, {
      "x-request-id": requestId,
      "content-type": this.form.isJson ? CONNECT_TYPE.json : CONNECT_TYPE.binary,
      "content-length": text.length,
    });
    sendWhole(response, text);
    if (response.writableLength > 0) this.#desk.underWay.track(response, this.connection);
  }

  handOver(handed: Handed): void {
    this.#request.resume();
    this.#desk.adapter.handle(this.#request, this.#response, handed);
  }
}

export class Http2Exchange implements Exchange {
  readonly form: Form;
  readonly connection: CallerConnection;
  readonly #arrival: StreamArrival;
  readonly #stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly #desk: Desk;
  readonly #longWay: LongWay;

  constructor(arrival: StreamArrival, form: Form, session: Http2Session, desk: Desk, longWay: LongWay) {
    this.#arrival = arrival;
    this.#stream = arrival.stream;
    this.headers = arrival.headers;
    this.#desk = desk;
    this.#longWay = longWay;
    this.form = form;
    this.connection = desk.adapter.connectionAt(session);
  }

  get authority(): string {
    return this.headers[":authority"] ?? "";
  }

  get authorization(): string | undefined {
    return this.headers.authorization;
  }

  takeBody(): Buffer | undefined {
    return (this.#stream.read() as Buffer | null) ?? undefined;
  }

  giveBack(body: Buffer): void {
    this.#stream.unshift(body);
  }

  answer(requestId: string, text: string): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    if (this.form.isGrpc) {
      const encoding = grpcEncodingOf(this.headers["grpc-accept-encoding"]);
      const head: OutgoingHttpHeaders = { ":status": 200, "x-request-id": requestId, "content-type": GRPC_TYPE };
      if (encoding !== undefined) head["grpc-encoding"] = encoding;
      stream.respond(head, WITH_TRAILERS);
      stream.on("wantTrailers", sendTrailers);
    } else {
      stream.respond(
        {
          ":status": 200,
          "x-request-id": requestId,
          "content-type": this.form.isJson ? CONNECT_TYPE.json : CONNECT_TYPE.binary,
          "content-length": text.length,
        },
        WITHOUT_TRAILERS,
      );
    }
    this.#desk.underWay.track(stream, this.connection);
    stream.end(text, "latin1");
  }

  handOver(handed: Handed): void {
    this.#longWay(this.#arrival, handed);
  }
}

/**
 * Ends an answer whose head is written. A head and a text of latin1 become one string, and leave in the simplest of writes; `end` with
 * the text would add an empty piece, by which the two pieces are gathered first.
 */
function sendWhole(response: ServerResponse, text: string): void {
  const { socket } = response;
  // It waits for the answer before it.
  if (!socket || socket.writableCorked > 0) {
    response.end(text, "latin1");
    return;
  }
  socket.cork();
  response.write(text, "latin1");
  socket.uncork();
  response.end();
}

function sendTrailers(this: ServerHttp2Stream): void {
  this.sendTrailers(TRAILERS);
}

/** Few clients have a choice of their own. */
const CHOICES_MAX = 64;
const choices = new Map<string, string | undefined>();

/** In what the answer would be compressed if it were large: it is told in any case. */
function grpcEncodingOf(accepted: string | string[] | undefined): string | undefined {
  if (typeof accepted !== "string") return undefined;
  if (choices.has(accepted)) return choices.get(accepted);
  const { response } = compressionNegotiate(compressions, null, accepted, "grpc-accept-encoding");
  if (choices.size < CHOICES_MAX) choices.set(accepted, response?.name);
  return response?.name;
}
