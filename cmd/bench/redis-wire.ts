/** The Redis protocol, one command at a time on a connection. */
import type { Socket } from "node:net";
import type { Caller, Connection, ConnectionOptions, Wire } from "./caller.js";
import { openSocket } from "./socket.js";

const lineEnd = Buffer.from("\r\n");

export const redisWire: Wire = {
  encode: (command) => Buffer.from(command),

  async open(options) {
    if (options.streams !== 1) throw new Error("the Redis protocol is spoken here with one command at a time");
    return new RedisConnection(await openSocket(options.address), options);
  },
};

/** A command as an array of bulk strings. */
export function redisCommand(...words: readonly (string | Uint8Array)[]): Buffer {
  const parts = words.map((word) => (typeof word === "string" ? Buffer.from(word) : word));
  return Buffer.concat([
    Buffer.from(`*${parts.length}\r\n`),
    ...parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, lineEnd]),
  ]);
}

class RedisConnection implements Connection, Caller {
  readonly callers: readonly Caller[] = [this];
  startedMs = 0;
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  /** What has come of an answer that is not complete. */
  #partial: Buffer | undefined;
  #closed = false;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", (error) => this.#fail(error.message));
    socket.on("close", () => this.#fail("the server closed the connection"));
  }

  call(request: Buffer): void {
    this.#socket.write(request);
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    const bytes = this.#partial ? Buffer.concat([this.#partial, chunk]) : chunk;
    if (!isComplete(bytes)) {
      this.#partial = bytes;
      return;
    }
    this.#partial = undefined;
    if (bytes[0] !== MINUS && bytes.includes(this.#options.expected)) this.#options.answered(this);
    else this.#fail(`unexpected answer: ${JSON.stringify(bytes.toString("latin1").slice(0, 500))}`);
  }

  #fail(why: string): void {
    if (this.#closed) return;
    this.close();
    this.#options.failed(new Error(`${this.#options.address}: ${why}`));
  }
}

const MINUS = 0x2d;
const DOLLAR = 0x24;

/** Whether the bytes are a whole answer: a line, and where that says so a string behind it. */
function isComplete(bytes: Buffer): boolean {
  const end = bytes.indexOf(lineEnd);
  if (end < 0) return false;
  if (bytes[0] !== DOLLAR) return true;
  const length = Number(bytes.toString("latin1", 1, end));
  return length < 0 || bytes.length >= end + lineEnd.length + length + lineEnd.length;
}
