/**
 * Care for the connections of HTTP/2: each begins, ends, and is left in its time, and what only looks like a connection is closed.
 *
 * After an error of the protocol, a CONTINUATION without its HEADERS is enough, the library below Node is done with a session
 * and reads no more of it; Node tells nobody, and does not see any more that the other end leaves (nodejs/node,
 * `Http2Session::MaybeStopReading`). Such a session answers no PING, by which it is found out.
 */
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Clock } from "../base/clock.js";
import { CONNECTION_WINDOW_BYTES } from "./http2-settings.js";
import { ResetCount } from "./reset-count.js";
import type { ServerLimits } from "./server-limits.js";

/** How long a session may take to end that has nothing left to do. */
const FAREWELL_MS = 1000;

type Limits = Pick<ServerLimits, "headersTimeoutMs" | "idleTimeoutMs">;

export class Http2Sessions {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #open = new Set<ServerHttp2Session>();
  #isDraining = false;

  constructor(clock: Clock, limits: Limits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get count(): number {
    return this.#open.size;
  }

  /** From here on, until it is closed. `socket`: what it came by. */
  keep(session: ServerHttp2Session, socket: Socket): void {
    this.#open.add(session);
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    const kept = new KeptSession({ session, socket, clock: this.#clock, limits: this.#limits });
    session.once("close", () => {
      kept.forget();
      this.#open.delete(session);
    });
    // A connection accepted just before draining began.
    if (this.#isDraining) session.close();
  }

  /** Sessions end once the calls on them have, those that come from now on too. */
  drain(): void {
    this.#isDraining = true;
    for (const session of this.#open) session.close();
  }

  breakOff(): void {
    for (const session of this.#open) session.destroy();
  }
}

class KeptSession {
  readonly #session: ServerHttp2Session;
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #resets: ResetCount;
  readonly #ended: (this: ServerHttp2Stream) => void;
  #streams = 0;
  /** When the last call ended. */
  #idleSinceMs: number;
  /** When the other end was last known to be there. */
  #heardMs: number;
  /** Since when an answer to a PING is waited for. */
  #askedMs: number | undefined;
  #timer: { cancel(): void };

  constructor(options: {
    readonly session: ServerHttp2Session;
    readonly socket: Socket;
    readonly clock: Clock;
    readonly limits: Limits;
  }) {
    const { session, socket, clock, limits } = options;
    this.#session = session;
    this.#socket = socket;
    this.#clock = clock;
    this.#limits = limits;
    this.#resets = new ResetCount(clock);
    this.#idleSinceMs = this.#heardMs = clock.monotonicMs();
    const ended = (rstCode: number): void => this.#streamEnded(rstCode);
    // The same function for all of them.
    this.#ended = function (this: ServerHttp2Stream): void {
      ended(this.rstCode);
    };
    session.on("stream", (stream) => {
      this.#streams++;
      stream.on("close", this.#ended);
    });
    // Not by the time limit that sessions have themselves: a session that is gone would stay in memory until it is over.
    this.#timer = clock.after(limits.headersTimeoutMs, () => session.destroy());
    session.once("remoteSettings", () => this.#lookLater());
  }

  forget(): void {
    this.#timer.cancel();
  }

  #streamEnded(rstCode: number): void {
    if (--this.#streams === 0) this.#idleSinceMs = this.#heardMs = this.#clock.monotonicMs();
    if (rstCode === constants.NGHTTP2_NO_ERROR || !this.#resets.add() || this.#session.destroyed) return;
    this.#session.destroy();
    // The library says goodbye first, and goes on to read until that is sent, megabytes in one turn of the event loop.
    this.#socket.destroy();
  }

  #lookLater(): void {
    const { headersTimeoutMs, idleTimeoutMs } = this.#limits;
    const leftMs = this.#streams > 0 ? idleTimeoutMs : this.#idleSinceMs + idleTimeoutMs - this.#clock.monotonicMs();
    this.#timer.cancel();
    this.#timer = this.#clock.after(Math.min(headersTimeoutMs, leftMs), () => this.#look());
  }

  #look(): void {
    if (this.#session.destroyed) return;
    const { headersTimeoutMs, idleTimeoutMs } = this.#limits;
    const nowMs = this.#clock.monotonicMs();
    const isIdle = this.#streams === 0;
    if (isIdle && nowMs - this.#idleSinceMs >= idleTimeoutMs) {
      this.#leave();
      return;
    }
    // While there are calls, their answers may be in the way of the PING; those have a limit of their own.
    const patienceMs = isIdle ? headersTimeoutMs : idleTimeoutMs;
    if (this.#askedMs !== undefined) {
      if (nowMs - this.#askedMs >= patienceMs) {
        this.#socket.destroy();
        return;
      }
    } else if (nowMs - this.#heardMs >= patienceMs && !(isIdle && this.#heardMs > this.#idleSinceMs)) {
      // An idle one is asked once: it is left before long anyway.
      this.#ask();
    }
    this.#lookLater();
  }

  #ask(): void {
    this.#askedMs = this.#clock.monotonicMs();
    this.#session.ping((error) => {
      if (error) return;
      this.#askedMs = undefined;
      this.#heardMs = this.#clock.monotonicMs();
    });
  }

  /** In peace: whoever begins a call at this moment is told that it was not taken. */
  #leave(): void {
    this.#session.close();
    this.#timer = this.#clock.after(FAREWELL_MS, () => this.#socket.destroy());
  }
}
