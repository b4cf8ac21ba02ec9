/**
 * From Node's HTTP requests to the handlers of the protocol library and back. The library's own adapter throws on
 * requests that anybody can send; this one answers every request, whatever it is, with a status and a sentence.
 */
import { Code, ConnectError, type ContextKey, createContextKey, createContextValues } from "@connectrpc/connect";
import { universalRequestFromNodeRequest } from "@connectrpc/connect-node";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { Health } from "../../api/gen/grpc/health/v1/health_pb.js";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { Caller } from "../identity/access.js";
import { FailureBrake } from "../identity/failure-brake.js";
import type { IdentityError } from "../identity/identity-error.js";
import type { Identity } from "../identity/role.js";
import type { Registry } from "../metrics/registry.js";
import { type AuthorityCheck, hasItsHost } from "./authority.js";
import { callKey, type CallLog, type Outcome } from "./call-log.js";
import { CallerConnection, type ConnectionKey, type Origin, socketOf } from "./caller-connection.js";
import { faultOfQuery, matchesTag, wantsJson } from "./connect-get.js";
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
  isHttp2,
  type Outlet,
  writeFrame,
  writeHead,
} from "./http-answer.js";
import { Http1Connections } from "./http1-connections.js";
import type { IntakeOfRequest } from "./intake.js";
import { correctJson } from "./library-errors.js";
import { overloaded, RETRY_AFTER } from "./overload.js";
import type { Readiness } from "./readiness.js";
import { answerMetrics, METRICS_PATH } from "./metrics-page.js";
import { methodName } from "./method-name.js";
import type { ServerLimits } from "./server-limits.js";
import { type Connection, LARGE_BYTES, type Turns } from "./turns.js";
import type { Arrival, UnderWay } from "./under-way.js";

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

export interface AdapterOptions {
  readonly handlers: readonly UniversalHandler[];
  readonly cors: Cors;
  readonly authorities: AuthorityCheck;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly turns: Turns;
  readonly underWay: UnderWay;
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
  readonly #connections = new WeakMap<ConnectionKey, CallerConnection>();
  readonly #http1Connections: Http1Connections;
  /** Requests over HTTP/1.1 that go on although they have been answered. */
  readonly #answered = new Set<HttpRequest>();

  constructor(options: AdapterOptions) {
    this.#options = options;
    this.#brake = new FailureBrake(options.clock);
    this.#http1Connections = new Http1Connections(options.clock, options.limits.idleTimeoutMs);
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

  /**
   * Tells callers over HTTP/1.1 whose answers are not begun to use another connection afterwards, and ends the connections of
   * those that have their answer and go on with their request.
   */
  announceEnd(): void {
    for (const outlet of this.#options.underWay.answers()) this.#announceEnd(outlet);
    for (const request of this.#answered) request.socket.destroy();
  }

  #begin(request: HttpRequest, response: HttpResponse): void {
    // Without listeners these would end the process; what they tell is seen by `close`.
    request.on("error", ignore);
    response.on("error", ignore);
    this.#options.underWay.track(response, this.#connectionOf(request));
    if (this.#options.readiness.isDraining) this.#announceEnd(response);
  }

  /** What is known of a connection, by which a request has come just now. */
  connectionAt(key: ConnectionKey): CallerConnection {
    let connection = this.#connections.get(key);
    if (!connection) {
      connection = new CallerConnection(key, this.#options.origin(key));
      this.#connections.set(key, connection);
      const socket = socketOf(key);
      // Over HTTP/1.1.
      if (socket === key) this.#http1Connections.keep(connection, socket);
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
    if (!this.#options.underWay.hasRoom) return undefined;
    return this.peerFor(name, connection, authority, authorization);
  }

  /** The same for a call between nodes, which clients must not keep apart by how many they are. */
  peerFor(
    name: string,
    connection: CallerConnection,
    authority: string,
    authorization: string | undefined,
  ): Identity | undefined {
    const { readiness, authorities, identityOf } = this.#options;
    if (readiness.isDraining) return undefined;
    if (connection.acceptedAuthority !== authority) {
      if (authorities.refusalOf(authority, connection.origin.address) !== undefined) return undefined;
      connection.acceptedAuthority = authority;
    }
    const { address, certificateNames, isAtPeerListener } = connection.origin;
    return identityOf(name, { address, authorization, certificateNames, isAtPeerListener });
  }

  get isDraining(): boolean {
    return this.#options.readiness.isDraining;
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
    const isOwnName = (authority: string): boolean => this.#options.authorities.isOwn(authority);
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
    const { calls, underWay } = this.#options;
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
    if (isCounted && !failed && !underWay.hasRoom) {
      const { callsMax } = this.#options.limits;
      const text = `${underWay.callCount} calls are under way on this node, ${callsMax} are possible (limits.max_calls); nothing was changed by this one, try again shortly`;
      const refusal = overloaded(text);
      this.#options.onOverload();
      calls.end(method, noted, refusal.code);
      answerRefusal(request, response, 429, refusal, RETRY_AFTER);
      this.#discardRest(request, response);
      return;
    }
    underWay.begin(response, { isCounted });
    const { methodKind } = method;
    const isStream = methodKind === "client_streaming" || methodKind === "bidi_streaming";
    const connection = this.#connectionOf(request);
    const intake = isBetweenNodes ? undefined : underWay.take({ isStream });
    const arrival: Arrival = { sinceMs: noted.startedAtMs, request, response, isOverdue: false };
    // The library refuses by itself what it cannot read.
    let otherwise: Outcome = Code.InvalidArgument;
    // Over HTTP/1.1 the server sees to it that requests arrive.
    if (!isStream && !handed && isHttp2(request)) underWay.expect(arrival);
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
      underWay.expectNoMore(arrival);
      underWay.end(response, { isCounted });
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
    this.#options.underWay.expectNoMore(arrival);
    if (!isStream && bytes > LARGE_BYTES) await this.#options.turns.take(connection, signal);
  }

  #connectionOf(request: HttpRequest): CallerConnection {
    // Over HTTP/2 each look at the socket gives another wrapping of it.
    const key = isHttp2(request) ? (request.stream.session ?? request.stream) : request.socket;
    return this.connectionAt(key);
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
    const refusal = this.#options.authorities.refusalOf(authority, this.#connectionOf(request).origin.address);
    if (refusal instanceof ConnectError) answerRefusal(request, response, 403, refusal);
    else if (refusal !== undefined) answerText(response, 400, refusal);
    return refusal === undefined;
  }
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

/** A deadline further away than timers reach is none: without this it would pass at once. */
function dropEndlessTimeouts(header: Headers): void {
  const connect = header.get("connect-timeout-ms");
  if (connect !== null && Number(connect) > TIMEOUT_MS_MAX) header.delete("connect-timeout-ms");
  const grpc = /^(\d{1,8})([HMSmun])$/.exec(header.get("grpc-timeout") ?? "");
  if (!grpc) return;
  const unitMs = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 }[grpc[2] ?? ""] ?? 0;
  if (Number(grpc[1]) * unitMs > TIMEOUT_MS_MAX) header.delete("grpc-timeout");
}
