/**
 * From Node's HTTP requests to the handlers of the protocol library and back. The library's own adapter throws on
 * requests that anybody can send; this one answers every request, whatever it is, with a status and a sentence.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Code, ConnectError, type ContextKey, createContextKey, createContextValues } from "@connectrpc/connect";
import { universalRequestFromNodeRequest } from "@connectrpc/connect-node";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { Health } from "../../api/gen/grpc/health/v1/health_pb.js";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { Caller } from "../identity/access.js";
import { FailureBrake } from "../identity/failure-brake.js";
import { isLoopbackAddress } from "../identity/loopback.js";
import type { HostNames } from "../identity/host-names.js";
import type { IdentityError } from "../identity/identity-error.js";
import type { Identity } from "../identity/role.js";
import type { Registry } from "../metrics/registry.js";
import { callKey, type CallLog, type Outcome } from "./call-log.js";
import { CallerConnection, type ConnectionKey, type Origin, socketOf } from "./caller-connection.js";
import type { Cors } from "./cors.js";
import { framesKey } from "./direct-frames.js";
import {
  answerCall,
  answerError,
  answerRefusal,
  answerText,
  breakOff,
  discardRest,
  type HttpRequest,
  type HttpResponse,
  isFull,
  isHttp2,
  type Outlet,
  unsentBytes,
  writeFrame,
  writeHead,
} from "./http-answer.js";
import { Intake, type IntakeOfRequest } from "./intake.js";
import { correctJson } from "./library-errors.js";
import { overloaded, RETRY_AFTER } from "./overload.js";
import type { Readiness } from "./readiness.js";
import { answerMetrics, METRICS_PATH } from "./metrics-page.js";
import { methodName } from "./method-name.js";
import type { ServerLimits } from "./server-limits.js";
import { type Connection, LARGE_BYTES, type Turns } from "./turns.js";

/** Who makes the call, once it is known that it may; for those who guard the handlers. */
export const identityKey: ContextKey<Identity | undefined> = createContextKey<Identity | undefined>(undefined);

/** By what the call came, for those who have large answers to give. */
export const connectionKey: ContextKey<Connection> = createContextKey<Connection>({ unsentBytes: 0 });

/** Why the call has failed, where it has been carried out already, and only what its caller is told of it is still to be written. */
export const failureKey: ContextKey<Failure | undefined> = createContextKey<Failure | undefined>(undefined);

/** Whether the answer will be JSON. */
export const jsonKey: ContextKey<boolean> = createContextKey<boolean>(false);

/** Timers fire at once when they are set for longer. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;
/** How often it is looked whether requests arrive, and answers are taken. */
const LOOK_INTERVAL_MS = 1000;
/** Of those who say nothing Node takes care first. */
const IDLE_MARGIN_MS = 2000;
const AUTHORITY = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~-]+)(?::\d{0,5})?$/;

export interface AdapterOptions {
  readonly handlers: readonly UniversalHandler[];
  readonly cors: Cors;
  /** The names under which callers on this machine, and web pages, may address the node. */
  readonly hostNames: () => HostNames;
  /** Whether those on other machines may use no other names either. */
  readonly checksEveryHost: boolean;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly turns: Turns;
  readonly limits: ServerLimits;
  /** Of a client; a longer one is refused. */
  readonly messageBytesMax: number;
  readonly calls: CallLog;
  readonly registry: Registry;
  /** Who calls, where it may call the method, or see the page, of this name, else why not. Asked before anything of the message is read. */
  readonly admit: (name: string, caller: Caller) => Admission;
  /** The same without a word about why not, for calls that are asked about again then. */
  readonly identityOf: (name: string, caller: Caller) => Identity | undefined;
  /** What a connection tells of who calls. */
  readonly origin: (key: ConnectionKey) => Origin;
  /** Told of each call that there is no room for. */
  readonly onOverload: () => void;
  readonly logger: Logger;
}

export type Admission =
  | { readonly identity: Identity }
  /** `reason`: as the audit has it. */
  | { readonly refusal: ConnectError; readonly reason: IdentityError | undefined };

export interface Failure {
  readonly error: unknown;
}

/** What is known of a request before it comes here. */
export interface Handed {
  /** All of it; it is not to be read any more. */
  readonly body: Uint8Array;
  /** The call was carried out already, and has failed; that is told as all errors are. */
  readonly failed?: FailedCall;
}

export interface FailedCall extends Failure {
  readonly requestId: string;
  /** By the monotonic clock. */
  readonly startedAtMs: number;
  readonly identity: Identity;
}

export class Adapter {
  readonly #options: AdapterOptions;
  readonly #brake: FailureBrake;
  readonly #handlers: ReadonlyMap<string, UniversalHandler>;
  /** Those with answers under way, and others that had some at the last look. */
  readonly #answering = new Set<CallerConnection>();
  /** Of calls whose answer has not been handed over to the network yet. */
  readonly #calls = new Set<HttpResponse>();
  readonly #intake: Intake;
  /** Of clients. */
  #callCount = 0;
  /** Of those, the ones that are carried out the short way. */
  #heldCount = 0;
  /** Messages over HTTP/2 that are not whole yet. */
  readonly #arriving = new Set<Arrival>();
  /** What an answer had left when it was looked at last, and since when that has not become less. */
  readonly #unread = new WeakMap<Outlet, { readonly bytes: number; readonly sinceMs: number }>();
  readonly #connections = new WeakMap<ConnectionKey, CallerConnection>();
  #isLooking = false;
  /** Requests over HTTP/1.1 that go on although they have been answered. */
  readonly #answered = new Set<HttpRequest>();

  constructor(options: AdapterOptions) {
    this.#options = options;
    this.#intake = new Intake(options.limits.arrivingBytesMax, options.onOverload);
    this.#brake = new FailureBrake(options.clock);
    this.#handlers = new Map(options.handlers.map((handler) => [handler.requestPath, handler]));
  }

  /** Answers a request. Never throws. */
  readonly handle = (request: HttpRequest, response: HttpResponse, handed?: Handed): void => {
    this.#begin(request, response);
    try {
      this.#route(request, response, handed);
    } catch (error) {
      this.#options.logger.error("a request could not be dealt with", {
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
      if (!response.headersSent) answerText(response, 500, "this node could not deal with the request");
    }
  };

  /** Answers a request of HTTP/1.1 that expects something else of this node than an answer. */
  readonly refuseExpectation = (request: HttpRequest, response: HttpResponse): void => {
    this.#begin(request, response);
    const expected = String(request.headers.expect).slice(0, 80);
    const text = `the request expects ${JSON.stringify(expected)}; 100-continue is all that this node knows of`;
    // The body, which may never come, is not waited for.
    answerText(response, 417, text, { connection: "close" });
  };

  /** Whether no call has anything to wait for but that its caller takes what was written. */
  get isIdle(): boolean {
    return this.#heldCount === 0 && [...this.#calls].every((response) => isFull(response));
  }

  /** Bytes of answers that the network has not taken yet. */
  get unsentBytes(): number {
    let bytes = 0;
    for (const connection of this.#answering) bytes += connection.unsentBytes;
    return bytes;
  }

  /** Whether an answer has begun, and not ended, on a connection of HTTP/1.1. */
  isAnswering(socket: Duplex): boolean {
    return [...this.#answers()].some((outlet) => outlet.headersSent && "socket" in outlet && outlet.socket === socket);
  }

  /**
   * Tells callers over HTTP/1.1 whose answers are not begun to use another connection afterwards, and ends the connections of
   * those that have their answer and go on with their request.
   */
  announceEnd(): void {
    for (const outlet of this.#answers()) this.#announceEnd(outlet);
    for (const request of this.#answered) request.socket.destroy();
  }

  #begin(request: HttpRequest, response: HttpResponse): void {
    // Without listeners these would end the process; what they tell is seen by `close`.
    request.on("error", ignore);
    response.on("error", ignore);
    this.track(response, this.#connectionOf(request));
    if (this.#options.readiness.isDraining) this.#announceEnd(response);
  }

  /** Sees to it that an answer is taken, for as long as it is on its way. */
  track(outlet: Outlet, connection: CallerConnection): void {
    this.#answering.add(connection);
    const takeOut = connection.answers.add(outlet);
    this.#lookLater();
    outlet.on("close", () => {
      takeOut();
      connection.idleSinceMs = this.#options.clock.monotonicMs();
    });
  }

  *#answers(): Generator<Outlet, void, undefined> {
    for (const { answers } of this.#answering) yield* answers;
  }

  /** What is known of a connection, by which a request has come just now. */
  connectionAt(key: ConnectionKey): CallerConnection {
    let connection = this.#connections.get(key);
    if (!connection) {
      connection = new CallerConnection(key, this.#options.origin(key));
      this.#connections.set(key, connection);
      const socket = socketOf(key);
      // Over HTTP/1.1.
      if (socket === key) this.#keep(connection, socket);
    }
    connection.idleSinceMs = this.#options.clock.monotonicMs();
    return connection;
  }

  /**
   * Who calls, where nothing that can be seen before the message speaks against carrying the call out; undefined: it is to go the
   * long way, where it is found out, and told, what does.
   */
  identityFor(
    name: string,
    connection: CallerConnection,
    authority: string,
    authorization: string | undefined,
  ): Identity | undefined {
    const { readiness, limits, identityOf } = this.#options;
    if (readiness.isDraining || this.#callCount >= limits.callsMax) return undefined;
    if (connection.acceptedAuthority !== authority) {
      if (this.#refusalOf(authority, connection.origin.address) !== undefined) return undefined;
      connection.acceptedAuthority = authority;
    }
    const { address, certificateNames, isAtPeerListener } = connection.origin;
    return identityOf(name, { address, authorization, certificateNames, isAtPeerListener });
  }

  get isDraining(): boolean {
    return this.#options.readiness.isDraining;
  }

  /** Counts a call of a client that is not answered on this tick, and its message; false: there is no room for it. */
  hold(connection: CallerConnection, bytes: number): boolean {
    if (this.#callCount >= this.#options.limits.callsMax || !this.#intake.hold(bytes)) return false;
    this.#callCount++;
    this.#heldCount++;
    connection.held++;
    return true;
  }

  release(connection: CallerConnection, bytes: number): void {
    this.#intake.release(bytes);
    this.#callCount--;
    this.#heldCount--;
    connection.held--;
    connection.idleSinceMs = this.#options.clock.monotonicMs();
  }

  #announceEnd(outlet: Outlet): void {
    // Over HTTP/2 the connection itself says so.
    if ("shouldKeepAlive" in outlet && !outlet.headersSent) outlet.setHeader("connection", "close");
  }

  #route(request: HttpRequest, response: HttpResponse, handed: Handed | undefined): void {
    const target = request.url ?? "";
    const queryAt = target.indexOf("?");
    const path = queryAt < 0 ? target : target.slice(0, queryAt);
    if (!isHttp2(request) && !hasItsHost(request)) {
      const text = "a request of HTTP/1.1 has one Host header, with the host, or host:port, of this node";
      // What else comes on the connection may be meant for somebody else.
      answerText(response, 400, text, { connection: "close" });
      return;
    }
    if (path === "/livez" || path === "/readyz") {
      this.#answerProbe(path, request, response);
      return;
    }
    if (!this.#acceptsAuthority(request, response)) return;
    if (!/^\/[\x21-\x7e]*$/.test(target)) {
      const text = "the target of the request must be a path, such as /cambium.v1.KVStore/Get; this node is no proxy";
      answerText(response, 400, text);
      return;
    }
    const isOwnName = (authority: string): boolean => this.#options.hostNames().allows(authority);
    if (this.#options.cors.handle(request, response, isOwnName)) return;
    if (path === METRICS_PATH) {
      this.#answerMetrics(request, response);
      return;
    }
    const handler = this.#handlers.get(path);
    if (!handler) {
      const known = [...new Set([...this.#handlers.values()].map(({ service }) => service.typeName))].join(", ");
      const text = `there is no method ${path.slice(0, 200)}; the services are ${known}, their methods are in the .proto files and by server reflection`;
      answerRefusal(request, response, 404, new ConnectError(text, Code.Unimplemented));
      return;
    }
    if (request.method === "GET" && handler.allowedMethods.includes("GET")) {
      const fault = faultOfQuery(target.slice(path.length + 1));
      if (fault !== undefined) {
        answerError(response, 400, new ConnectError(fault, Code.InvalidArgument));
        return;
      }
    }
    void this.#call(handler, request, response, handed);
  }

  async #call(
    handler: UniversalHandler,
    request: HttpRequest,
    response: HttpResponse,
    handed: Handed | undefined,
  ): Promise<void> {
    const caller = this.#callerOf(request);
    const failed = handed?.failed;
    const { method } = handler;
    const { calls } = this.#options;
    const requestId = failed?.requestId ?? calls.requestIdOf(request.headers["x-request-id"]);
    response.setHeader("x-request-id", requestId);
    const noted = calls.begin(method, requestId, caller.address, request.headers, failed?.startedAtMs);
    const admission = failed ?? this.#options.admit(methodName(method), caller);
    if ("refusal" in admission) {
      noted.refused = admission.reason;
      calls.end(method, noted, admission.refusal.code);
      this.#refuse(admission, caller.address, request, response);
      return;
    }
    noted.identity = admission.identity.name;
    // What callers leave lying must not keep the nodes of the cluster apart, which have proven themselves.
    const isBetweenNodes = handler.service.typeName === Replication.typeName;
    const isCounted = !isBetweenNodes && handler.service.typeName !== Health.typeName;
    const { callsMax } = this.#options.limits;
    if (isCounted && !failed && this.#callCount >= callsMax) {
      const text = `${this.#callCount} calls are under way on this node, ${callsMax} are possible (limits.max_calls); nothing was changed by this one, try again shortly`;
      const refusal = overloaded(text);
      this.#options.onOverload();
      calls.end(method, noted, refusal.code);
      answerRefusal(request, response, 429, refusal, RETRY_AFTER);
      this.#discardRest(request, response);
      return;
    }
    if (isCounted) this.#callCount++;
    this.#calls.add(response);
    const { methodKind } = method;
    const isStream = methodKind === "client_streaming" || methodKind === "bidi_streaming";
    const connection = this.#connectionOf(request);
    const intake = isBetweenNodes ? undefined : this.#intake.begin({ isStream });
    const arrival: Arrival = { sinceMs: noted.startedAtMs, request, response, isOverdue: false };
    // The library refuses by itself what it cannot read.
    let otherwise: Outcome = Code.InvalidArgument;
    // Over HTTP/1.1 the server sees to it that requests arrive.
    if (!isStream && !handed && isHttp2(request)) this.#arriving.add(arrival);
    try {
      const values = createContextValues()
        .set(identityKey, admission.identity)
        .set(connectionKey, connection)
        .set(callKey, noted)
        .set(failureKey, failed);
      if (wantsJson(request)) values.set(jsonKey, true);
      if (methodKind === "server_streaming") {
        values.set(framesKey, { write: (frame) => writeFrame(response, frame) });
      }
      const call = universalRequestFromNodeRequest(request, response, undefined, values);
      dropEndlessTimeouts(call.header);
      // The library would take as much memory at once as it says, of which nothing may ever come. That all of it comes, and no
      // more, is seen to by Node; what is too long is refused by it at once.
      if (Number(call.header.get("content-length")) <= this.#options.messageBytesMax) {
        call.header.delete("content-length");
      }
      const body = handed
        ? whole(handed.body)
        : this.#bodyOf(request, { intake, connection, signal: call.signal, isStream, arrival });
      const answer = await handler({ ...call, body });
      if (!arrival.isOverdue) await this.#answer(handler, answer, request, response);
    } catch (error) {
      otherwise = Code.Canceled;
      if (response.destroyed || arrival.isOverdue) return;
      otherwise = Code.Internal;
      this.#options.logger.error("an answer could not be written", {
        path: handler.requestPath,
        request_id: requestId,
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
      if (response.headersSent) response.destroy();
      else answerText(response, 500, "this node could not write the answer");
    } finally {
      calls.end(method, noted, arrival.isOverdue ? Code.DeadlineExceeded : otherwise);
      this.#arriving.delete(arrival);
      this.#calls.delete(response);
      if (isCounted) this.#callCount--;
      intake?.end();
      if (!handed) this.#discardRest(request, response);
    }
  }

  /** Whoever tries one credential after the other waits for each answer, or is cut off. */
  #refuse(
    { refusal, reason }: Extract<Admission, { readonly refusal: ConnectError }>,
    address: string | undefined,
    request: HttpRequest,
    response: HttpResponse,
  ): void {
    const answer = (): void => {
      if (response.destroyed) return;
      const status = refusal.code === Code.Unauthenticated ? 401 : 403;
      answerRefusal(request, response, status, refusal, status === 401 ? { "www-authenticate": "Bearer" } : {});
      this.#discardRest(request, response);
    };
    if (reason?.code !== "bad_credential") answer();
    else if (!this.#brake.fail(address, answer)) breakOff(response);
  }

  /** What comes of a request: counted, and where it is large, given to be parsed when it is its turn. */
  async *#bodyOf(
    request: HttpRequest,
    {
      intake,
      connection,
      signal,
      isStream,
      arrival,
    }: {
      readonly intake: IntakeOfRequest | undefined;
      readonly connection: Connection;
      readonly signal: AbortSignal;
      readonly isStream: boolean;
      readonly arrival: Arrival;
    },
  ): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    // The library's own iterator destroys the connection when a handler stops reading, and the answer with it.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
      bytes += chunk.byteLength;
      intake?.add(chunk);
      // What comes is a piece of a larger block, which all of its pieces keep in memory: also those of other callers.
      yield new Uint8Array(chunk);
    }
    this.#arriving.delete(arrival);
    if (!isStream && bytes > LARGE_BYTES) await this.#options.turns.take(connection, signal);
  }

  #connectionOf(request: HttpRequest): CallerConnection {
    // Over HTTP/2 each look at the socket gives another wrapping of it.
    const key = isHttp2(request) ? (request.stream.session ?? request.stream) : request.socket;
    return this.connectionAt(key);
  }

  /** Node ends a connection of HTTP/1.1 that says nothing between two requests; one that sends empty lines it would keep for good. */
  #keep(connection: CallerConnection, socket: Socket): void {
    const { clock, limits } = this.#options;
    const limitMs = limits.idleTimeoutMs + IDLE_MARGIN_MS;
    const look = (): void => {
      const leftMs = connection.isBusy ? limitMs : connection.idleSinceMs + limitMs - clock.monotonicMs();
      if (leftMs <= 0) socket.destroy();
      else timer = clock.after(leftMs, look);
    };
    let timer = clock.after(limitMs, look);
    socket.once("close", () => {
      timer.cancel();
      // Of answers that wait for the one before them Node does not tell that their connection is gone.
      for (const answer of connection.answers) {
        if (!("socket" in answer) || answer.socket) continue;
        answer.destroy();
        // By this their calls end too, which would go on to make answers for nobody.
        answer.emit("close");
      }
    });
  }

  /** Ends what takes too long, now and then while there is anything that could. */
  #lookLater(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#options.clock.after(LOOK_INTERVAL_MS, () => {
      this.#isLooking = false;
      this.#look();
      if (this.#answering.size > 0) this.#lookLater();
    });
  }

  #look(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const arrival of this.#arriving) {
      if (nowMs - arrival.sinceMs >= this.#options.limits.requestTimeoutMs) this.#endOverdue(arrival);
    }
    for (const response of this.#answers()) {
      const bytes = unsentBytes(response);
      const before = this.#unread.get(response);
      if (bytes === 0) this.#unread.delete(response);
      else if (!before || bytes < before.bytes) {
        this.#unread.set(response, { bytes, sinceMs: nowMs });
        // All was taken that had been written by then, and more is written before the next look.
        if (!before) response.once("drain", () => void this.#unread.delete(response));
      } else if (nowMs - before.sinceMs >= this.#options.limits.unreadTimeoutMs) breakOff(response);
    }
    for (const connection of this.#answering) if (connection.answers.isEmpty) this.#answering.delete(connection);
  }

  #endOverdue(arrival: Arrival): void {
    const { request, response } = arrival;
    arrival.isOverdue = true;
    this.#arriving.delete(arrival);
    if (response.headersSent) return;
    const text = `the request did not arrive within ${this.#options.limits.requestTimeoutMs} ms; send it again`;
    answerRefusal(request, response, 408, new ConnectError(text, Code.DeadlineExceeded));
    discardRest(request, response);
    // Its other calls may end in peace. Without this a caller that goes on to send keeps the connection, which is never idle.
    if ("stream" in response) response.stream.session?.close();
  }

  #discardRest(request: HttpRequest, response: HttpResponse): void {
    discardRest(request, response);
    if (request.complete || request.destroyed || isHttp2(request)) return;
    // While the answer is on its way, `connection: close` on it does the same.
    response.once("finish", () => {
      if (request.complete || request.destroyed) return;
      this.#answered.add(request);
      for (const event of ["end", "close"]) request.once(event, () => void this.#answered.delete(request));
    });
  }

  async #answer(
    handler: UniversalHandler,
    answer: UniversalServerResponse,
    request: HttpRequest,
    response: HttpResponse,
  ): Promise<void> {
    const { status, header } = answer;
    if (!answer.body) {
      refuseForm(handler, status, request, response);
      return;
    }
    if (request.method === "GET" && header) {
      if (status === 200 && matchesTag(request.headers["if-none-match"], header.get("etag"))) {
        await answer.body[Symbol.asyncIterator]().return?.();
        writeHead(response, 304, { etag: header.get("etag") ?? "", "cache-control": "no-cache" });
        response.end();
        return;
      }
      if (!header.has("cache-control")) header.set("cache-control", "no-store");
    }
    const isJsonError = status >= 400 && header?.get("content-type") === "application/json";
    await answerCall(isJsonError ? await correctJson(answer) : answer, response);
  }

  #callerOf(request: HttpRequest): Caller {
    return { ...this.#connectionOf(request).origin, authorization: request.headers.authorization };
  }

  #answerMetrics(request: HttpRequest, response: HttpResponse): void {
    const caller = this.#callerOf(request);
    const admission = this.#options.admit(METRICS_PATH, caller);
    if ("refusal" in admission) {
      if (admission.reason) this.#options.calls.refusedPage(METRICS_PATH, admission.reason, caller.address);
      this.#refuse(admission, caller.address, request, response);
    } else answerMetrics(request, response, this.#options.registry);
  }

  /** Outside of the Host check, and for requests without a host too: simple probes send none. */
  #answerProbe(path: string, request: HttpRequest, response: HttpResponse): void {
    if (request.method !== "GET" && request.method !== "HEAD") {
      answerText(response, 405, `${path} is asked for with GET`, { allow: "GET, HEAD" });
      return;
    }
    const reason = path === "/readyz" ? this.#options.readiness.reason() : "";
    if (reason === "") answerText(response, 200, "ok");
    else answerText(response, 503, `not ready: ${reason}`);
  }

  #acceptsAuthority(request: HttpRequest, response: HttpResponse): boolean {
    const authority = isHttp2(request) ? request.authority : request.headers.host;
    const refusal = this.#refusalOf(authority, this.#connectionOf(request).origin.address);
    if (refusal instanceof ConnectError) answerRefusal(request, response, 403, refusal);
    else if (refusal !== undefined) answerText(response, 400, refusal);
    return refusal === undefined;
  }

  /** Why the node may not be called so, as text where it is no name at all; undefined: it may. */
  #refusalOf(authority: string | undefined, address: string | undefined): string | ConnectError | undefined {
    if (authority === undefined || !AUTHORITY.test(authority) || !URL.canParse(`http://${authority}`)) {
      return "the request needs a Host header with the host, or host:port, of this node";
    }
    const isHere = isLoopbackAddress(address);
    if ((!isHere && !this.#options.checksEveryHost) || this.#options.hostNames().allows(authority)) return undefined;
    const text = `this node does not answer to the name ${authority.slice(0, 200)}; use its address, localhost, the name in server.advertise, or one in server.allowed_hosts`;
    return new ConnectError(text, Code.PermissionDenied);
  }
}

interface Arrival {
  readonly sinceMs: number;
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  /** It was answered, since it took too long. */
  isOverdue: boolean;
}

const ignore = (): void => undefined;

async function* whole(body: Uint8Array): AsyncGenerator<Uint8Array> {
  yield body;
}

/** Answers a request whose method or content type no handler takes. */
function refuseForm(handler: UniversalHandler, status: number, request: HttpRequest, response: HttpResponse): void {
  const allow = handler.allowedMethods.join(", ");
  switch (status) {
    case 405: {
      const text = `${handler.requestPath} is called with ${allow}, not with ${request.method ?? ""}`;
      answerError(response, status, new ConnectError(text, Code.Unimplemented), { allow });
      return;
    }
    case 505: {
      const text = `${handler.requestPath} is a stream both ways, which needs HTTP/2`;
      answerError(response, status, new ConnectError(text, Code.Unimplemented), { connection: "close" });
      return;
    }
    default: {
      const text =
        "the content type is not one of Connect (application/json, application/proto), gRPC (application/grpc) or gRPC-web (application/grpc-web)";
      answerError(response, status, new ConnectError(text, Code.InvalidArgument), {
        "accept-post": "application/json, application/proto, application/grpc, application/grpc-web",
      });
    }
  }
}

/** What is wrong with the query of a GET. The library would put replacement characters into keys, and would not say what it misses. */
function faultOfQuery(query: string): string | undefined {
  const parameters = parametersOf(query);
  if (!parameters || (parameters.get("base64") === "1" && !/^[\w+/-]*={0,2}$/.test(parameters.get("message") ?? ""))) {
    return "the query is not percent-encoded UTF-8 with a message in JSON, or with base64=1 in base64";
  }
  const encoding = parameters.get("encoding");
  if (encoding === "json" || encoding === "proto") return undefined;
  return encoding === undefined
    ? "the query has no encoding; send encoding=json, or encoding=proto with base64=1, and the message"
    : `the encoding ${JSON.stringify(encoding.slice(0, 80))} of the query is not known; it is json or proto`;
}

/** In which form a request comes, in that its answer goes. */
function wantsJson(request: HttpRequest): boolean {
  // Of the types that come to a handler, those with this word are JSON, and no others.
  if (request.method !== "GET") return /json/i.test(request.headers["content-type"] ?? "");
  const target = request.url ?? "";
  return parametersOf(target.slice(target.indexOf("?") + 1))?.get("encoding") === "json";
}

/** The first of each name counts, as for the library. */
function parametersOf(query: string): ReadonlyMap<string, string> | undefined {
  const parameters = new Map<string, string>();
  try {
    for (const parameter of query.split("&")) {
      const at = parameter.indexOf("=");
      const [name, value] = at < 0 ? [parameter, ""] : [parameter.slice(0, at), parameter.slice(at + 1)];
      const decoded = decodeURIComponent(name.replaceAll("+", " "));
      const text = decodeURIComponent(value.replaceAll("+", " "));
      if (!parameters.has(decoded)) parameters.set(decoded, text);
    }
    return parameters;
  } catch {
    return undefined;
  }
}

/** HTTP/1.1 wants exactly one Host; two of them are read in two ways by two programs. HTTP/1.0 knew of none. */
export function hasItsHost({
  rawHeaders,
  httpVersion,
}: {
  readonly rawHeaders: string[];
  readonly httpVersion: string;
}): boolean {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  return hosts === 1 || (hosts === 0 && httpVersion === "1.0");
}

/** A deadline further away than timers reach is none: without this it would pass at once. */
function dropEndlessTimeouts(header: Headers): void {
  const connect = header.get("connect-timeout-ms");
  if (connect !== null && Number(connect) > TIMEOUT_MS_MAX) header.delete("connect-timeout-ms");
  const grpc = /^(\d{1,8})([HMSmun])$/.exec(header.get("grpc-timeout") ?? "");
  if (!grpc) return;
  const unitMs = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 }[grpc[2] ?? ""] ?? 0;
  if (Number(grpc[1]) * unitMs > TIMEOUT_MS_MAX) header.delete("grpc-timeout");
}

/** Whether a caller has what is tagged already; weak tags are compared by their value. */
function matchesTag(ifNoneMatch: string | undefined, etag: string | null): boolean {
  if (ifNoneMatch === undefined || etag === null) return false;
  const strip = (tag: string): string => tag.trim().replace(/^W\//, "");
  return ifNoneMatch.trim() === "*" || ifNoneMatch.split(",").some((tag) => strip(tag) === strip(etag));
}
