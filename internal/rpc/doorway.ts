/**
 * Where connections of HTTP/2 come in that say much at once: one in a turn of the event loop. What one has said is read in one go, which
 * nothing can interrupt, and may be a thousand calls; from many such connections at the same moment it would hold up everybody else.
 */
import type { Socket } from "node:net";

/** Few calls say more in their first breath, and those can wait for a turn. */
export const FIRST_WORDS_BYTES_MAX = 8 * 1024;

export class Doorway {
  readonly #enter: (socket: Socket) => void;
  #waiting: Socket[] = [];

  /** `enter` takes a connection over, with what it has said. */
  constructor(enter: (socket: Socket) => void) {
    this.#enter = enter;
  }

  /** Of a connection with its first words still to be read. */
  come(socket: Socket): void {
    if (socket.readableLength <= FIRST_WORDS_BYTES_MAX) {
      this.#enter(socket);
      return;
    }
    // Or it would end the process, should it fail meanwhile.
    socket.on("error", ignore);
    if (this.#waiting.push(socket) === 1) setImmediate(this.#next);
  }

  readonly #next = (): void => {
    const socket = this.#waiting.shift();
    if (this.#waiting.length > 0) setImmediate(this.#next);
    if (!socket || socket.destroyed) return;
    socket.off("error", ignore);
    this.#enter(socket);
  };
}

const ignore = (): void => undefined;
