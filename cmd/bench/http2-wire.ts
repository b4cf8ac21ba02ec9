/**
 * Unary calls of gRPC, and of Connect over HTTP/2, on a bare socket. node:http2 takes more time for a client's call than for a
 * server's, so that it would measure itself. This knows just as much of HTTP/2 as short calls to a well-behaved server need:
 * every request is the same header block, and answers are told apart by their frames, without their headers being decoded.
 */
import type { Socket } from "node:net";
import type { Caller, Connection, ConnectionOptions, Wire } from "./caller.js";
import { openSocket } from "./socket.js";

const frameHeadBytes = 9;
const frameType = { data: 0, headers: 1, resetStream: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const;
const flag = { endStream: 1, ack: 1, endHeaders: 4 } as const;

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** HEADER_TABLE_SIZE 0, ENABLE_PUSH 0, INITIAL_WINDOW_SIZE 2^31 - 1. */
const settings = Buffer.from("00010000000000020000000000047fffffff", "hex");
/** From the 65,535 bytes that a connection begins with to 2^31 - 1: more than any job receives, so that none are given back later. */
const connectionWindow = Buffer.from("7fff0000", "hex");
/** Requests in flight on a connection stay far below the 65,535 bytes that a server grants before its first update. */
const inFlightBytesMax = 16_384;

/** What a call is, beyond its path. */
interface Framing {
  readonly headers: readonly (readonly [string, string])[];
  readonly body: (message: Uint8Array) => Uint8Array;
  /** Whether a call that failed is known by its first header block; else by that it has no message. */
  readonly tellsByStatus: boolean;
}

export const grpcWire: Wire = wireOf({
  headers: [
    ["content-type", "application/grpc+proto"],
    ["te", "trailers"],
  ],
  body: grpcFrame,
  tellsByStatus: false,
});

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
      const headers = Buffer.concat([
        // :method POST and :scheme http stand in HPACK's table; the others are literals that nobody is to remember.
        Buffer.from([0x83, 0x86]),
        Buffer.from([0x04]),
        text(path),
        Buffer.from([0x01]),
        text(address),
        ...framing.headers.flatMap(([name, value]) => [Buffer.from([0x00]), text(name), text(value)]),
      ]);
      return Buffer.concat([
        frame(frameType.headers, flag.endHeaders, headers),
        frame(frameType.data, flag.endStream, framing.body(message)),
      ]);
    },

    async open(options) {
      return new Http2Connection(await openSocket(options.address), options, framing);
    },
  };
}

/** A gRPC message: not compressed, its length, its bytes. */
export function grpcFrame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

interface StreamCaller extends Caller {
  /** Whether the message that was expected has come. */
  found: boolean;
  refused: boolean;
}

class Http2Connection implements Connection {
  readonly callers: readonly Caller[];
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #framing: Framing;
  /** The callers that wait for an answer, by the stream on which it comes. */
  readonly #waiting = new Map<number, StreamCaller>();
  #nextStream = 1;
  /** What has come of a frame that is not complete. */
  #partial: Buffer | undefined;
  #closed = false;

  constructor(socket: Socket, options: ConnectionOptions, framing: Framing) {
    this.#socket = socket;
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
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", (error) => this.#fail(error.message));
    socket.on("close", () => this.#fail("the server closed the connection"));
    const window = frame(frameType.windowUpdate, 0, connectionWindow);
    socket.write(Buffer.concat([preface, frame(frameType.settings, 0, settings), window]));
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
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
    frames.writeUInt32BE(stream, 5);
    frames.writeUInt32BE(stream, frameHeadBytes + frames.readUIntBE(0, 3) + 5);
    this.#socket.write(frames);
  }

  #read(chunk: Buffer): void {
    const bytes = this.#partial ? Buffer.concat([this.#partial, chunk]) : chunk;
    let offset = 0;
    // The next calls of those that are answered here go out together.
    this.#socket.cork();
    while (offset + frameHeadBytes <= bytes.length) {
      const end = offset + frameHeadBytes + bytes.readUIntBE(offset, 3);
      if (end > bytes.length) break;
      const stream = bytes.readUInt32BE(offset + 5);
      this.#take(bytes[offset + 3]!, bytes[offset + 4]!, stream, bytes.subarray(offset + frameHeadBytes, end));
      if (this.#closed) return;
      offset = end;
    }
    this.#socket.uncork();
    this.#partial = offset < bytes.length ? bytes.subarray(offset) : undefined;
  }

  #take(type: number, flags: number, stream: number, payload: Buffer): void {
    switch (type) {
      case frameType.data:
        // The answers are short, and come in one piece.
        if (payload.length > 5 && payload.includes(this.#options.expected)) this.#waiting.get(stream)!.found = true;
        break;
      case frameType.headers:
        if (this.#framing.tellsByStatus && !saysOk(payload)) this.#waiting.get(stream)!.refused = true;
        break;
      case frameType.settings:
        if (!(flags & flag.ack)) this.#socket.write(frame(frameType.settings, flag.ack, Buffer.alloc(0)));
        return;
      case frameType.ping:
        if (!(flags & flag.ack)) this.#socket.write(frame(frameType.ping, flag.ack, payload));
        return;
      case frameType.resetStream:
      case frameType.goAway:
        return this.#fail("the server broke the call or the connection off");
    }
    if ((type === frameType.data || type === frameType.headers) && flags & flag.endStream) this.#end(stream);
  }

  #end(stream: number): void {
    const caller = this.#waiting.get(stream)!;
    this.#waiting.delete(stream);
    // A call of gRPC that fails has a status and no message.
    if (caller.found && !caller.refused) this.#options.answered(caller);
    else this.#fail("the server refused the call, or answered something else than was expected");
  }

  #fail(why: string): void {
    if (this.#closed) return;
    this.close();
    this.#options.failed(new Error(`${this.#options.address}: ${why}`));
  }
}

/** Whether a header block begins with `:status 200`, as it stands in HPACK's table; a change of that table's size may go before it. */
function saysOk(block: Buffer): boolean {
  return block[block[0] === 0x20 ? 1 : 0] === 0x88;
}

function frame(type: number, flags: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  return Buffer.concat([head, payload]);
}

/** A text of HPACK, as it is: its length and its bytes. */
function text(value: string): Buffer {
  if (value.length > 126) throw new Error(`${value} is longer than this client writes`);
  return Buffer.concat([Buffer.from([value.length]), Buffer.from(value, "latin1")]);
}
