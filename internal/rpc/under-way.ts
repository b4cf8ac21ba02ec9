/**
 * What is under way on this node, whichever way it goes: calls, the messages that come for them, and the answers that leave. Each
 * is counted against its limit while it lasts, and one that takes too long is ended.
 */
import type { Duplex } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../base/clock.js";
import type { CallerConnection } from "./caller-connection.js";
import {
  answerRefusal,
  breakOff,
  discardRest,
  type HttpRequest,
  type HttpResponse,
  isFull,
  type Outlet,
  unsentBytes,
} from "./http-answer.js";
import { Intake, type IntakeOfRequest } from "./intake.js";
import type { ServerLimits } from "./server-limits.js";

/** How often it is looked whether requests arrive, and answers are taken. */
const LOOK_INTERVAL_MS = 1000;

export interface UnderWayOptions {
  readonly clock: Clock;
  readonly limits: ServerLimits;
  /** Told of each message that there is no room for. */
  readonly onOverload: () => void;
}

/** A message over HTTP/2 that is not whole yet. */
export interface Arrival {
  readonly sinceMs: number;
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  /** It was answered, since it took too long. */
  isOverdue: boolean;
}

export class UnderWay {
  readonly #clock: Clock;
  readonly #limits: ServerLimits;
  readonly #intake: Intake;
  /** Connections with answers under way, and others that had some at the last look. */
  readonly #answering = new Set<CallerConnection>();
  /** What an answer had left when it was looked at last, and since when that has not become less. */
  readonly #unread = new WeakMap<Outlet, { readonly bytes: number; readonly sinceMs: number }>();
  /** Of calls whose answer has not been handed over to the network yet. */
  readonly #calls = new Set<Outlet>();
  /** Of clients, those that are held among them. */
  #callCount = 0;
  #heldCount = 0;
  readonly #arriving = new Set<Arrival>();
  #isLooking = false;

  constructor({ clock, limits, onOverload }: UnderWayOptions) {
    this.#clock = clock;
    this.#limits = limits;
    this.#intake = new Intake(limits.arrivingBytesMax, onOverload);
  }

  // ---- answers ---------------------------------------------------------------------------------------------------------

  /** Sees to it that an answer is taken, for as long as it is on its way. */
  track(outlet: Outlet, connection: CallerConnection): void {
    this.#answering.add(connection);
    const takeOut = connection.answers.add(outlet);
    this.#lookLater();
    outlet.on("close", () => {
      takeOut();
      connection.idleSinceMs = this.#clock.monotonicMs();
    });
  }

  *answers(): Generator<Outlet, void, undefined> {
    for (const { answers } of this.#answering) yield* answers;
  }

  /** Whether an answer has begun, and not ended, on a connection of HTTP/1.1. */
  isAnswering(socket: Duplex): boolean {
    return [...this.answers()].some((outlet) => outlet.headersSent && "socket" in outlet && outlet.socket === socket);
  }

  /** Bytes of answers that the network has not taken yet. */
  get unsentBytes(): number {
    let bytes = 0;
    for (const connection of this.#answering) bytes += connection.unsentBytes;
    return bytes;
  }

  // ---- calls -----------------------------------------------------------------------------------------------------------

  /** Of clients. */
  get callCount(): number {
    return this.#callCount;
  }

  /** Whether one more call of a client may begin. */
  get hasRoom(): boolean {
    return this.#callCount < this.#limits.callsMax;
  }

  /** Whether no call has anything to wait for but that its caller takes what was written. */
  get isIdle(): boolean {
    return this.#heldCount === 0 && [...this.#calls].every((outlet) => isFull(outlet));
  }

  /** A call has begun that ends with `end`. `isCounted`: it is a client's, of which there may be so many. */
  begin(outlet: Outlet, { isCounted }: { readonly isCounted: boolean }): void {
    this.#calls.add(outlet);
    if (isCounted) this.#callCount++;
  }

  /** All of the answer is with the network. */
  end(outlet: Outlet, { isCounted }: { readonly isCounted: boolean }): void {
    this.#calls.delete(outlet);
    if (isCounted) this.#callCount--;
  }

  /**
   * Counts a call of a client whose message is whole, and whose answer is written in one piece, so that there is nothing to track
   * before; false: there is no room for it.
   */
  hold(connection: CallerConnection, bytes: number): boolean {
    if (!this.hasRoom || !this.#intake.hold(bytes)) return false;
    this.#callCount++;
    this.#heldCount++;
    connection.held++;
    return true;
  }

  /** Of a call that was held. */
  release(connection: CallerConnection, bytes: number): void {
    this.#intake.release(bytes);
    this.#callCount--;
    this.#heldCount--;
    connection.held--;
    connection.idleSinceMs = this.#clock.monotonicMs();
  }

  // ---- messages --------------------------------------------------------------------------------------------------------

  /** Counts the bytes of a message that comes. `isStream`: of a row of them. */
  take({ isStream }: { readonly isStream: boolean }): IntakeOfRequest {
    return this.#intake.begin({ isStream });
  }

  /** Sees to it that a message arrives. */
  expect(arrival: Arrival): void {
    this.#arriving.add(arrival);
    this.#lookLater();
  }

  /** It is whole, or nobody waits for it any more. */
  expectNoMore(arrival: Arrival): void {
    this.#arriving.delete(arrival);
  }

  // ---- what takes too long ---------------------------------------------------------------------------------------------

  /** Looks now and then, while there is anything that could take too long. */
  #lookLater(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#clock.after(LOOK_INTERVAL_MS, () => {
      this.#isLooking = false;
      this.#look();
      if (this.#answering.size > 0) this.#lookLater();
    });
  }

  #look(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const arrival of this.#arriving) {
      if (nowMs - arrival.sinceMs >= this.#limits.requestTimeoutMs) this.#endOverdue(arrival);
    }
    for (const outlet of this.answers()) {
      const bytes = unsentBytes(outlet);
      const before = this.#unread.get(outlet);
      if (bytes === 0) this.#unread.delete(outlet);
      else if (!before || bytes < before.bytes) {
        this.#unread.set(outlet, { bytes, sinceMs: nowMs });
        // All was taken that had been written by then, and more is written before the next look.
        if (!before) outlet.once("drain", () => void this.#unread.delete(outlet));
      } else if (nowMs - before.sinceMs >= this.#limits.unreadTimeoutMs) breakOff(outlet);
    }
    for (const connection of this.#answering) if (connection.answers.isEmpty) this.#answering.delete(connection);
  }

  #endOverdue(arrival: Arrival): void {
    const { request, response } = arrival;
    arrival.isOverdue = true;
    this.#arriving.delete(arrival);
    if (response.headersSent) return;
    const text = `the request did not arrive within ${this.#limits.requestTimeoutMs} ms; send it again`;
    answerRefusal(request, response, 408, new ConnectError(text, Code.DeadlineExceeded));
    discardRest(request, response);
    // Its other calls may end in peace. Without this a caller that goes on to send keeps the connection, which is never idle.
    if ("stream" in response) response.stream.session?.close();
  }
}

/** For a call between nodes, which clients must not keep apart by how many they are. */
export const UNCOUNTED = { isCounted: false } as const;
