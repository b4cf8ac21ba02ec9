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

type Limits = Pick<ServerLimits, "headersTimeoutMs" | "idleTimeoutMs" | "unreadTimeoutMs">;

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
  /** When it was last seen that something had come. */
  #heardMs: number;
  /** All that had come by then. */
  #heardBytes = 0;
  /** Whether a PING has been answered since. */
  #isThere = false;
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
    const began = (): void => {
      this.#heard(clock.monotonicMs(), false);
      this.#lookLater();
    };
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
    session.once("remoteSettings", began);
  }

  forget(): void {
    this.#timer.cancel();
  }

  #streamEnded(rstCode: number): void {
    if (--this.#streams === 0) this.#idleSinceMs = this.#clock.monotonicMs();
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
    const { headersTimeoutMs, idleTimeoutMs, unreadTimeoutMs } = this.#limits;
    const nowMs = this.#clock.monotonicMs();
    const isIdle = this.#streams === 0;
    if (isIdle && nowMs - this.#idleSinceMs >= idleTimeoutMs) {
      this.#leave();
      return;
    }
    if (this.#askedMs !== undefined) {
      // While there are calls, answers that the other end does not take yet may be in the way of the PING.
      const patienceMs = isIdle ? headersTimeoutMs : unreadTimeoutMs;
      if (nowMs - this.#askedMs >= patienceMs) {
        this.#socket.destroy();
        return;
      }
    } else if (this.#isSilent(nowMs)) this.#ask();
    this.#lookLater();
  }

  /** Whether it is time to ask: soon after the last word, which may have been the session's end, and then now and then. */
  #isSilent(nowMs: number): boolean {
    const { bytesRead } = this.#socket;
    if (bytesRead !== this.#heardBytes) this.#heard(nowMs, false);
    const { headersTimeoutMs, idleTimeoutMs } = this.#limits;
    return nowMs - this.#heardMs >= (this.#isThere ? idleTimeoutMs : headersTimeoutMs);
  }

  #heard(nowMs: number, isThere: boolean): void {
    this.#heardMs = nowMs;
    this.#heardBytes = this.#socket.bytesRead;
    this.#isThere = isThere;
  }

  #ask(): void {
    this.#askedMs = this.#clock.monotonicMs();
    this.#session.ping((error) => {
      if (error) return;
      this.#askedMs = undefined;
      this.#heard(this.#clock.monotonicMs(), true);
    });
  }

  /** In peace: whoever begins a call at this moment is told that it was not taken. */
  #leave(): void {
    this.#session.close();
    this.#timer = this.#clock.after(FAREWELL_MS, () => this.#socket.destroy());
  }
}
