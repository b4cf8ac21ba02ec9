/** Which version of HTTP a new connection speaks, told by its first bytes: every one of HTTP/2 begins in the same way. */
import type { Socket } from "node:net";
import type { Clock } from "../base/clock.js";

const HTTP2_PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export interface SnifferOptions {
  readonly clock: Clock;
  /** How long a caller may take to send enough to tell. */
  readonly timeoutMs: number;
  /** Takes over the socket; the bytes read so far are in it again. */
  readonly http1: (socket: Socket) => void;
  readonly http2: (socket: Socket) => void;
}

export class ProtocolSniffer {
  readonly #options: SnifferOptions;
  readonly #undecided = new Set<Socket>();

  constructor(options: SnifferOptions) {
    this.#options = options;
  }

  /** Reads until the version is clear, then hands the socket over. A caller that stays silent, or ends, is cut off. */
  sniff(socket: Socket): void {
    let seen: Buffer | undefined;
    const release = (): void => {
      isReleased = true;
      timer.cancel();
      this.#undecided.delete(socket);
      socket.off("readable", read);
      socket.off("end", end);
      socket.off("close", release);
      socket.off("error", end);
    };
    const end = (): void => {
      release();
      // What fails while it is being destroyed is of no interest, but without a listener it would end the process.
      socket.on("error", () => undefined);
      socket.destroy();
    };
    const read = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      seen = seen ? Buffer.concat([seen, chunk]) : chunk;
      const length = Math.min(seen.length, HTTP2_PREFACE.length);
      const matches = seen.compare(HTTP2_PREFACE, 0, length, 0, length) === 0;
      if (matches && length < HTTP2_PREFACE.length) return;
      release();
      socket.unshift(seen);
      if (matches) this.#options.http2(socket);
      else this.#options.http1(socket);
    };
    let isReleased = false;
    const timer = this.#options.clock.after(this.#options.timeoutMs, () => {
      // On a busy node what came in time may not have been looked at yet.
      setImmediate(() => {
        if (!isReleased) end();
      });
    });
    this.#undecided.add(socket);
    socket.on("readable", read);
    socket.on("end", end);
    socket.on("close", release);
    socket.on("error", end);
  }

  /** Cuts off every connection that has not told its version. */
  close(): void {
    for (const socket of this.#undecided) socket.destroy();
  }
}
