/** Connect's unary protocol over HTTP/1.1, written onto a bare socket. */
import type { Socket } from "node:net";
import type { Caller, Connection, ConnectionOptions, Wire } from "./caller.js";
import { openSocket } from "./socket.js";

const headEnd = Buffer.from("\r\n\r\n");
const lastChunk = Buffer.from("0\r\n\r\n");

export const connectWire: Wire = wireOf("application/proto");
export const connectJsonWire: Wire = wireOf("application/json");

function wireOf(contentType: string): Wire {
  return {
    encode(message, { address, path }) {
      const head = [
        `POST ${path} HTTP/1.1`,
        `host: ${address}`,
        `content-type: ${contentType}`,
        "connect-protocol-version: 1",
        `content-length: ${message.length}`,
      ];
      return Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`, "latin1"), message]);
    },

    async open(options) {
      if (options.streams !== 1) throw new Error("HTTP/1.1 carries one call at a time on a connection");
      return new ConnectConnection(await openSocket(options.address), options);
    },
  };
}

class ConnectConnection implements Connection, Caller {
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
    if (bytes.toString("latin1", 9, 12) === "200" && bytes.includes(this.#options.expected)) {
      this.#options.answered(this);
    } else {
      this.#fail(`unexpected answer: ${JSON.stringify(bytes.toString("latin1").slice(0, 500))}`);
    }
  }

  #fail(why: string): void {
    if (this.#closed) return;
    this.close();
    this.#options.failed(new Error(`${this.#options.address}: ${why}`));
  }
}

/** Whether the bytes are a whole answer. There is one call in flight, so nothing can come after it. */
function isComplete(bytes: Buffer): boolean {
  const end = bytes.indexOf(headEnd);
  if (end < 0) return false;
  const length = /\ncontent-length: (\d+)/i.exec(bytes.toString("latin1", 0, end + 2))?.[1];
  if (length !== undefined) return bytes.length >= end + headEnd.length + Number(length);
  return bytes.subarray(-lastChunk.length).equals(lastChunk);
}
