/**
 * Care for the connections of HTTP/1.1 beyond what Node takes: it ends one that says nothing between two requests, and would keep one
 * for good that sends empty lines.
 */
import type { Socket } from "node:net";
import type { Clock } from "../base/clock.js";
import type { CallerConnection } from "./caller-connection.js";

/** One timer for all, since there may be ten thousand. */
const LOOK_INTERVAL_MS = 1000;
/** Of those who say nothing Node takes care first. */
const IDLE_MARGIN_MS = 2000;

export class Http1Connections {
  readonly #clock: Clock;
  readonly #idleMaxMs: number;
  readonly #open = new Map<Socket, CallerConnection>();
  /** The same function for all of them. */
  readonly #closed: (this: Socket) => void;
  #isLooking = false;

  constructor(clock: Clock, idleTimeoutMs: number) {
    this.#clock = clock;
    this.#idleMaxMs = idleTimeoutMs + IDLE_MARGIN_MS;
    const open = this.#open;
    this.#closed = function (this: Socket): void {
      const connection = open.get(this);
      open.delete(this);
      if (connection) endWaiting(connection);
    };
  }

  /** From now on, until it is closed. */
  keep(connection: CallerConnection, socket: Socket): void {
    this.#open.set(socket, connection);
    socket.on("close", this.#closed);
    if (!this.#isLooking) this.#lookLater();
  }

  #lookLater(): void {
    this.#isLooking = true;
    this.#clock.after(LOOK_INTERVAL_MS, () => {
      this.#isLooking = false;
      const idleBeforeMs = this.#clock.monotonicMs() - this.#idleMaxMs;
      for (const [socket, connection] of this.#open) {
        if (!connection.isBusy && connection.idleSinceMs <= idleBeforeMs) socket.destroy();
      }
      if (this.#open.size > 0) this.#lookLater();
    });
  }
}

/** Of answers that wait for the one before them Node does not tell that their connection is gone. */
function endWaiting(connection: CallerConnection): void {
  for (const answer of connection.answers) {
    if (!("socket" in answer) || answer.socket) continue;
    answer.destroy();
    // By this their calls end too, which would go on to make answers for nobody.
    answer.emit("close");
  }
}
