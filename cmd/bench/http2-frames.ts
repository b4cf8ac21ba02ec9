/** Just as much of HTTP/2 as a load generator needs to speak to a well-behaved server, on a bare socket. */
import type { Socket } from "node:net";

export const frameHeadBytes = 9;
export const frameType = {
  data: 0,
  headers: 1,
  resetStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
} as const;
export const flag = { endStream: 1, ack: 1, endHeaders: 4 } as const;

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** HEADER_TABLE_SIZE 0, ENABLE_PUSH 0, INITIAL_WINDOW_SIZE 2^31 - 1. */
const settings = Buffer.from("00010000000000020000000000047fffffff", "hex");
/** From the 65,535 bytes that a connection begins with to 2^31 - 1: more than any job receives, so that none are given back later. */
const connectionWindow = Buffer.from("7fff0000", "hex");

export function frame(type: number, flags: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  return Buffer.concat([head, payload]);
}

/** Sets the stream of the frame that begins at `offset`. */
export function setStream(frames: Buffer, stream: number, offset: number): void {
  frames.writeUInt32BE(stream, offset + 5);
}

/** The header block of a POST, in which nothing is said that the server is to remember. */
export function headerBlock(
  path: string,
  address: string,
  headers: readonly (readonly [name: string, value: string])[],
): Buffer {
  return Buffer.concat([
    // :method POST and :scheme http stand in HPACK's table, and so do the names :path and :authority.
    Buffer.from([0x83, 0x86]),
    Buffer.from([0x04]),
    text(path),
    Buffer.from([0x01]),
    text(address),
    ...headers.flatMap(([name, value]) => [Buffer.from([0x00]), text(name), text(value)]),
  ]);
}

/** A text of HPACK, as it is: its length and its bytes. */
function text(value: string): Buffer {
  if (value.length > 126) throw new Error(`${value} is longer than this client writes`);
  return Buffer.concat([Buffer.from([value.length]), Buffer.from(value, "latin1")]);
}

/** A gRPC message: not compressed, its length, its bytes. */
export function grpcFrame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** What arrives on a connection, as frames. */
export abstract class Http2Session {
  protected readonly socket: Socket;
  /** What has come of a frame that is not complete. */
  #partial: Buffer | undefined;
  #isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", (error) => this.fail(error.message));
    socket.on("close", () => this.fail("the server closed the connection"));
    const window = frame(frameType.windowUpdate, 0, connectionWindow);
    socket.write(Buffer.concat([preface, frame(frameType.settings, 0, settings), window]));
  }

  close(): void {
    this.#isClosed = true;
    this.socket.destroy();
  }

  /** A frame of data or headers. The payload's bytes are gone when it returns. */
  protected abstract take(type: number, flags: number, stream: number, payload: Buffer): void;
  protected abstract failed(why: string): void;

  protected fail(why: string): void {
    if (this.#isClosed) return;
    this.close();
    this.failed(why);
  }

  #read(chunk: Buffer): void {
    const bytes = this.#partial ? Buffer.concat([this.#partial, chunk]) : chunk;
    let offset = 0;
    // What is sent because of what has come goes out together.
    this.socket.cork();
    while (offset + frameHeadBytes <= bytes.length) {
      const end = offset + frameHeadBytes + bytes.readUIntBE(offset, 3);
      if (end > bytes.length) break;
      const stream = bytes.readUInt32BE(offset + 5);
      this.#takeAny(bytes[offset + 3]!, bytes[offset + 4]!, stream, bytes.subarray(offset + frameHeadBytes, end));
      if (this.#isClosed) return;
      offset = end;
    }
    this.socket.uncork();
    this.#partial = offset < bytes.length ? bytes.subarray(offset) : undefined;
  }

  #takeAny(type: number, flags: number, stream: number, payload: Buffer): void {
    switch (type) {
      case frameType.data:
      case frameType.headers:
        return this.take(type, flags, stream, payload);
      case frameType.settings:
      case frameType.ping:
        if (flags & flag.ack) return;
        this.socket.write(frame(type, flag.ack, type === frameType.ping ? payload : Buffer.alloc(0)));
        return;
      case frameType.resetStream:
        return this.fail(`the server broke a call off (error ${payload.readUInt32BE(0)} of HTTP/2)`);
      case frameType.goAway: {
        const said = payload.toString("latin1", 8);
        return this.fail(
          `the server ends the connection (error ${payload.readUInt32BE(4)} of HTTP/2) ${said}`.trimEnd(),
        );
      }
    }
  }
}
