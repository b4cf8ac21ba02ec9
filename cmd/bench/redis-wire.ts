/** The Redis protocol, one request at a time on a connection. */
import type { Socket } from "node:net";
import type { Caller, Connection, ConnectionOptions, Wire } from "./caller.js";
import { openSocket } from "./socket.js";

const lineEnd = Buffer.from("\r\n");

/** A request is a command. */
export const redisWire: Wire = wireOf(1);
/** A request is two commands, which go out together. */
export const redisPairWire: Wire = wireOf(2);

function wireOf(commands: number): Wire {
  return {
    encode: (message) => Buffer.from(message),

    async open(options) {
      if (options.streams !== 1) throw new Error("the Redis protocol is spoken here with one request at a time");
      return new RedisConnection(await openSocket(options.address), options, commands);
    },
  };
}

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
  /** Each has its own answer. */
  readonly #commands: number;
  /** What has come of an answer that is not complete. */
  #partial: Buffer | undefined;
  #closed = false;

  constructor(socket: Socket, options: ConnectionOptions, commands: number) {
    this.#socket = socket;
    this.#options = options;
    this.#commands = commands;
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
    let end = 0;
    for (let left = this.#commands; left > 0 && end >= 0; left--) end = answerEnd(bytes, end);
    if (end < 0) {
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

/** Where the answer ends that begins at `start`: a line, and where that says so a string behind it. Negative when it is not whole. */
function answerEnd(bytes: Buffer, start: number): number {
  const lineStop = bytes.indexOf(lineEnd, start);
  if (lineStop < 0) return -1;
  const end = lineStop + lineEnd.length;
  if (bytes[start] !== DOLLAR) return end;
  const length = Number(bytes.toString("latin1", start + 1, lineStop));
  if (length < 0) return end;
  const stringEnd = end + length + lineEnd.length;
  return stringEnd <= bytes.length ? stringEnd : -1;
}
