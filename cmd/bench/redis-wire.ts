/** Redis' protocol, written onto a bare socket. */
import type { Socket } from "node:net";
import type { Caller, Connection, ConnectionOptions, Wire } from "./caller.js";
import { openSocket } from "./socket.js";

export const redisWire: Wire = {
  encode: (commands) => Buffer.from(commands),

  async open(options) {
    if (options.streams !== 1) throw new Error("one caller has a connection to itself");
    return new RedisConnection(await openSocket(options.address), options);
  },
};

/** The bytes of a command. */
export function redisCommand(...words: readonly (string | Uint8Array)[]): Buffer {
  const parts = words.flatMap((word) => [Buffer.from(`$${word.length}\r\n`), Buffer.from(word), Buffer.from("\r\n")]);
  return Buffer.concat([Buffer.from(`*${words.length}\r\n`), ...parts]);
}

class RedisConnection implements Connection, Caller {
  readonly callers: readonly Caller[] = [this];
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  #answer = Buffer.alloc(0);
  #closed = false;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", (error) => this.#fail(error.message));
    socket.on("close", () => this.#fail("the server closed the connection"));
  }

  call(request: Buffer): void {
    this.#answer = Buffer.alloc(0);
    this.#socket.write(request);
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    const { expected, answered } = this.#options;
    this.#answer = Buffer.concat([this.#answer, chunk]);
    if (this.#answer.equals(expected)) answered(this);
    else if (!expected.subarray(0, this.#answer.length).equals(this.#answer)) {
      this.#fail(`unexpected answer: ${JSON.stringify(this.#answer.toString("latin1").slice(0, 500))}`);
    }
  }

  #fail(why: string): void {
    if (this.#closed) return;
    this.close();
    this.#options.failed(new Error(`${this.#options.address}: ${why}`));
  }
}
