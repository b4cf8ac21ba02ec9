/** What is known of a connection: who is at its other end, and what has not been sent there yet. */
import { setMaxListeners } from "node:events";
import type { Http2Session, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Caller } from "../identity/access.js";
import { AnswersUnderWay } from "./answers-under-way.js";
import { unsentBytes } from "./http-answer.js";
import type { Connection } from "./turns.js";

/** A socket, or a session of HTTP/2; a stream that has lost its session. */
export type ConnectionKey = Socket | Http2Session | ServerHttp2Stream;

/** Undefined once it is gone. */
export function socketOf(key: ConnectionKey): Socket | TLSSocket | undefined {
  if ("socket" in key) return key.socket;
  return "pushAllowed" in key ? undefined : key;
}

export type Origin = Omit<Caller, "authorization">;

export class CallerConnection implements Connection {
  readonly origin: Origin;
  /** The answers that go over it. */
  readonly answers = new AnswersUnderWay();
  /** Calls over it that are carried out the short way, and not answered yet. */
  held = 0;
  /** Since when there is none, where there is none. */
  idleSinceMs = 0;
  /** By what name the node was called here last, where that was in order. */
  acceptedAuthority: string | undefined;
  readonly #key: ConnectionKey;
  #gone: AbortSignal | undefined;

  constructor(key: ConnectionKey, origin: Origin) {
    this.#key = key;
    this.origin = origin;
  }

  /** Whether anything is under way on it. */
  get isBusy(): boolean {
    return this.held > 0 || !this.answers.isEmpty;
  }

  get unsentBytes(): number {
    let bytes = 0;
    for (const answer of this.answers) bytes += unsentBytes(answer);
    return bytes;
  }

  /** Aborted once there is nobody any more to answer to: one signal for all calls that have none of their own. */
  get gone(): AbortSignal {
    if (!this.#gone) {
      const left = new AbortController();
      this.#gone = left.signal;
      setMaxListeners(0, left.signal);
      if (this.#key.destroyed) left.abort();
      else this.#key.once("close", () => left.abort());
    }
    return this.#gone;
  }
}
