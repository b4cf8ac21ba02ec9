/**
 * Unary calls of gRPC, and of Connect over HTTP/2, on a bare socket. node:http2 takes more time for a client's call than for a
 * server's, so that it would measure itself. Every request is the same header block, and answers are told apart by their
 * frames, without their headers being decoded.
 */
import type { Socket } from "node:net";
import type { Caller, Connection, ConnectionOptions, Wire } from "./caller.js";
import {
  flag,
  frame,
  frameHeadBytes,
  frameType,
  grpcFrame,
  headerBlock,
  Http2Session,
  setStream,
} from "./http2-frames.js";
import { openSocket } from "./socket.js";

/** Requests in flight on a connection stay far below the 65,535 bytes that a server grants before its first update. */
const inFlightBytesMax = 16_384;

/** What a call is, beyond its path. */
interface Framing {
  readonly headers: readonly (readonly [string, string])[];
  readonly body: (message: Uint8Array) => Uint8Array;
  /** Whether a call that failed is known by its first header block; else by that it has no message. */
  readonly tellsByStatus: boolean;
}

export const grpcHeaders = [
  ["content-type", "application/grpc+proto"],
  ["te", "trailers"],
] as const;

export const grpcWire: Wire = wireOf({ headers: grpcHeaders, body: grpcFrame, tellsByStatus: false });

export const connectHttp2Wire: Wire = wireOf({
  headers: [
    ["content-type", "application/proto"],
    ["connect-protocol-version", "1"],
  ],
  body: (message) => message,
  tellsByStatus: true,
});

function wireOf(framing: Framing): Wire {
  return {
    encode(message, { address, path }) {
      return Buffer.concat([
        frame(frameType.headers, flag.endHeaders, headerBlock(path, address, framing.headers)),
        frame(frameType.data, flag.endStream, framing.body(message)),
      ]);
    },

    async open(options) {
      return new Http2Connection(await openSocket(options.address), options, framing);
    },
  };
}

interface StreamCaller extends Caller {
  /** Whether the message that was expected has come. */
  found: boolean;
  refused: boolean;
}

class Http2Connection extends Http2Session implements Connection {
  readonly callers: readonly Caller[];
  readonly #options: ConnectionOptions;
  readonly #framing: Framing;
  /** The callers that wait for an answer, by the stream on which it comes. */
  readonly #waiting = new Map<number, StreamCaller>();
  #nextStream = 1;

  constructor(socket: Socket, options: ConnectionOptions, framing: Framing) {
    super(socket);
    this.#options = options;
    this.#framing = framing;
    this.callers = Array.from({ length: options.streams }, () => {
      const caller: StreamCaller = {
        startedMs: 0,
        found: false,
        refused: false,
        call: (request) => this.#call(caller, request),
      };
      return caller;
    });
  }

  #call(caller: StreamCaller, request: Buffer): void {
    if (request.length * this.callers.length > inFlightBytesMax) {
      throw new Error("the requests in flight would need flow control, which this client does not know");
    }
    const stream = this.#nextStream;
    this.#nextStream += 2;
    this.#waiting.set(stream, caller);
    caller.found = caller.refused = false;
    // The bytes are shared, and the socket may still hold them when the next call comes.
    const frames = Buffer.from(request);
    setStream(frames, stream, 0);
    setStream(frames, stream, frameHeadBytes + frames.readUIntBE(0, 3));
    this.socket.write(frames);
  }

  protected override take(type: number, flags: number, stream: number, payload: Buffer): void {
    const caller = this.#waiting.get(stream)!;
    if (type === frameType.data) {
      // The answers are short, and come in one piece.
      if (payload.length > 5 && payload.includes(this.#options.expected)) caller.found = true;
    } else if (this.#framing.tellsByStatus && !saysOk(payload)) {
      caller.refused = true;
    }
    if (!(flags & flag.endStream)) return;
    this.#waiting.delete(stream);
    // A call of gRPC that fails has a status and no message.
    if (caller.found && !caller.refused) this.#options.answered(caller);
    else this.fail("the server refused the call, or answered something else than was expected");
  }

  protected override failed(why: string): void {
    this.#options.failed(new Error(`${this.#options.address}: ${why}`));
  }
}

/** Whether a header block begins with `:status 200`, as it stands in HPACK's table; a change of that table's size may go before it. */
function saysOk(block: Buffer): boolean {
  return block[block[0] === 0x20 ? 1 : 0] === 0x88;
}
