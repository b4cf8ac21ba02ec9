/**
 * One connection of HTTP/2 to another node, kept under watch. It stands in for the library's session manager, whose ping
 * timer can throw where nothing catches it: here whatever goes wrong ends this connection, and never the process.
 */
import { connect as dial, isIP, type LookupFunction, type Socket } from "node:net";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from "node:http2";
import { connect as connectTls } from "node:tls";
import type { Clock, Timer } from "../base/clock.js";
import { TLS_VERSION_MIN, type TlsMaterial } from "./tls.js";
import { clientOptions, CONNECTION_WINDOW_BYTES } from "./http2-settings.js";

export interface PeerSessionOptions {
  readonly clock: Clock;
  /** How long connecting may take. */
  readonly connectTimeoutMs: number;
  /** Silence after which the other end is asked whether it is there. */
  readonly pingIntervalMs: number;
  /** How long it may take to answer. */
  readonly pingTimeoutMs: number;
  /** Finds the addresses of a name; absent: the system's. */
  readonly lookup?: LookupFunction;
  /** Absent: without TLS. */
  readonly tls?: PeerTls;
}

export interface PeerTls {
  /** What this node shows, and by whom what it is shown must be signed; asked for each connection, since it is renewed. */
  readonly material: () => TlsMaterial;
  /** Where nodes call each other, at the hosts of their addresses; absent: at their addresses. */
  readonly port?: number;
}

export interface PeerSessionListener {
  /** At most once. */
  opened(): void;
  /** Exactly once and last, on a later tick, in whichever way the session ended: why, for an operator. */
  closed(reason: string): void;
}

export class PeerSession {
  /** What the library compares the addresses of its requests with. */
  readonly authority: string;
  readonly #session: ClientHttp2Session;
  readonly #socket: Socket;
  readonly #options: PeerSessionOptions;
  #reason: string | undefined;
  #wasConnected = false;
  #lastHeardMs: number;
  /** For connecting, then for the next ping, then for its answer. */
  #timer: Timer;

  /** Connects to `http://host:port`, or to `https://host:port` where there is TLS. */
  constructor(url: string, options: PeerSessionOptions, listener: PeerSessionListener) {
    const { clock, connectTimeoutMs, lookup } = options;
    const { origin, hostname, port } = new URL(url);
    this.authority = origin;
    this.#options = options;
    this.#lastHeardMs = clock.monotonicMs();
    this.#timer = clock.after(connectTimeoutMs, () => this.#end(`nothing answered within ${connectTimeoutMs} ms`));
    const host = hostname.replace(/^\[(.*)\]$/, "$1");
    const target = { host, port: Number(port || (options.tls ? 443 : 80)), ...(lookup && { lookup }) };
    this.#socket = options.tls ? dialTls(target, options.tls) : dial(target);
    this.#session = connect(url, { ...clientOptions, createConnection: () => this.#socket });
    this.#session.on("error", (error) => this.#end(describe(error)));
    this.#session.on("goaway", () => {
      this.#reason ??= "the other node is shutting down";
    });
    this.#session.on("connect", () => {
      this.#wasConnected = true;
      if (this.#session.destroyed) return;
      this.#session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
      this.#watch();
      listener.opened();
    });
    this.#session.on("close", () => {
      this.#timer.cancel();
      listener.closed(this.#reason ?? "the connection was closed");
    });
  }

  /** Whether a request can be begun, or will be once it is connected. */
  get isUsable(): boolean {
    return !this.#session.closed && !this.#session.destroyed;
  }

  /** Why the session ends, or has ended, for an operator; undefined while it stands. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** Begins a request. Throws where the session has none any more. */
  begin(method: string, path: string, headers: OutgoingHttpHeaders): ClientHttp2Stream {
    return this.#session.request({ ...headers, ":method": method, ":path": path });
  }

  /** The same, as a part of what the library asks of a session manager. */
  request(method: string, path: string, headers: OutgoingHttpHeaders): Promise<ClientHttp2Stream> {
    return new Promise((resolve) => resolve(this.begin(method, path, headers)));
  }

  /** Something came from the other end. Part of what the library asks of a session manager. */
  notifyResponseByteRead(): void {
    this.#lastHeardMs = this.#options.clock.monotonicMs();
  }

  /** Ends the session and all its requests at once. Idempotent. */
  destroy(): void {
    this.#end("the connection was closed");
  }

  /** The first reason counts: what comes after follows from it. */
  #end(reason: string): void {
    this.#reason ??= reason;
    this.#timer.cancel();
    if (!this.#session.destroyed) this.#session.destroy();
    // One that is still connecting would be closed only when the system gives up, minutes later where packets vanish.
    if (!this.#wasConnected) this.#socket.destroy();
  }

  /** Asks after a silence. The session may be gone by the time a timer fires, and asking would throw. */
  #watch(): void {
    const { clock, pingIntervalMs, pingTimeoutMs } = this.#options;
    this.#timer.cancel();
    const silentMs = clock.monotonicMs() - this.#lastHeardMs;
    this.#timer = clock.after(pingIntervalMs - silentMs, () => {
      if (this.#session.destroyed || this.#session.closed) return;
      if (clock.monotonicMs() - this.#lastHeardMs < pingIntervalMs) {
        this.#watch();
        return;
      }
      this.#timer = clock.after(pingTimeoutMs, () =>
        this.#end(`the other node did not answer within ${pingTimeoutMs} ms`),
      );
      this.#session.ping((error) => {
        if (error) return;
        this.notifyResponseByteRead();
        this.#watch();
      });
    });
  }
}

function dialTls(target: { host: string; port: number; lookup?: LookupFunction }, { material }: PeerTls): Socket {
  const { cert, key, ca } = material();
  return connectTls({
    ...target,
    cert,
    key,
    ...(ca !== undefined && { ca }),
    // Addresses have no place there, and are compared with the certificate all the same.
    ...(isIP(target.host) === 0 && { servername: target.host }),
    minVersion: TLS_VERSION_MIN,
    ALPNProtocols: ["h2"],
  });
}

function describe(error: NodeJS.ErrnoException): string {
  if (/CERT|ISSUER|SIGNATURE|_CA$/.test(error.code ?? "")) return `no trust in the certificate: ${error.message}`;
  switch (error.code) {
    case "ECONNREFUSED":
      return "nothing listens there";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "the host name is not known";
    case "ECONNRESET":
    case "EPIPE":
      return "the connection broke";
    default:
      return error.message;
  }
}
