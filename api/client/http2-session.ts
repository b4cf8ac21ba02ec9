/**
 * One HTTP/2 connection to a node, made when it is first needed and again when it is gone. It replaces connect-node's own
 * manager, whose ping timer can throw into the void and end the process, and which leaves the flow-control windows at 64 KiB.
 */
import http2 from "node:http2";
import type { ConnectTransportOptions } from "@connectrpc/connect-node";

type SessionManager = NonNullable<Extract<ConnectTransportOptions, { httpVersion: "2" }>["sessionManager"]>;

/** A quiet connection with open calls is asked for a sign of life after this time… */
const PING_INTERVAL_MS = 10_000;
/** …and ended when none comes in this time: the machine or the way to it is gone. */
const PING_TIMEOUT_MS = 5_000;
const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 32 * 1024 * 1024;
/** Node takes no answer on a connection where more than this waits to be sent: by default those to ten calls of a megabyte. */
const SESSION_MEMORY_MIB_MAX = 4096;

export class Http2Session implements SessionManager {
  readonly authority: string;
  readonly #tls: http2.SecureClientSessionOptions;
  #session: http2.ClientHttp2Session | undefined;
  /** Settles when `#session` is connected, or never will be. */
  #connected: Promise<http2.ClientHttp2Session> | undefined;
  /** Open calls of each connection; the ones before the present may still end in peace. */
  readonly #streams = new WeakMap<http2.ClientHttp2Session, number>();

  /** `tls`: for an `https` URL. */
  constructor(baseUrl: string, tls: http2.SecureClientSessionOptions = {}) {
    this.authority = new URL(baseUrl).origin;
    this.#tls = tls;
  }

  async request(
    method: string,
    path: string,
    headers: http2.OutgoingHttpHeaders,
    options: Omit<http2.ClientSessionRequestOptions, "signal">,
  ): Promise<http2.ClientHttp2Stream> {
    const session = await this.#ready();
    const stream = session.request({ ...headers, ":method": method, ":path": path }, options);
    // An idle connection does not keep the process alive, one with open calls does.
    this.#countStreams(session, 1);
    stream.once("close", () => this.#countStreams(session, -1));
    return stream;
  }

  /** Pings go by the connection's own idle timeout, which counts received bytes already. */
  notifyResponseByteRead(): void {}

  /** Ends the connection with all its streams. */
  abort(reason?: Error): void {
    this.#session?.destroy(reason, http2.constants.NGHTTP2_CANCEL);
    this.#session = undefined;
  }

  #countStreams(session: http2.ClientHttp2Session, change: 1 | -1): void {
    const streams = (this.#streams.get(session) ?? 0) + change;
    this.#streams.set(session, streams);
    if (session.destroyed) return;
    if (streams === 0) session.unref();
    else session.ref();
  }

  /** A connection that takes new streams. Throws the system's error where none can be made. */
  #ready(): Promise<http2.ClientHttp2Session> {
    const current = this.#session;
    if (current && this.#connected && !current.closed && !current.destroyed) return this.#connected;
    const session = http2.connect(this.authority, {
      ...this.#tls,
      settings: { initialWindowSize: STREAM_WINDOW_BYTES },
      maxSessionMemory: SESSION_MEMORY_MIB_MAX,
    });
    this.#session = session;
    const forget = (): void => {
      if (this.#session === session) this.#session = undefined;
    };
    session.once("connect", () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    // Streams get the error themselves; without a listener it would end the process.
    session.on("error", forget);
    session.on("close", forget);
    // After GOAWAY the open streams end in peace, new ones need a new connection.
    session.on("goaway", forget);
    session.setTimeout(PING_INTERVAL_MS, () => probe(session));
    this.#connected = connected(session);
    return this.#connected;
  }
}

function connected(session: http2.ClientHttp2Session): Promise<http2.ClientHttp2Session> {
  return new Promise((resolve, reject) => {
    session.once("connect", () => resolve(session));
    session.once("error", reject);
    session.once("close", () => reject(failure("ECONNRESET", "the connection was closed while it was being made")));
  });
}

function probe(session: http2.ClientHttp2Session): void {
  if (session.closed || session.destroyed) return;
  const deadline = setTimeout(() => session.destroy(failure("ETIMEDOUT", "no sign of life")), PING_TIMEOUT_MS);
  deadline.unref();
  session.ping((error) => {
    clearTimeout(deadline);
    if (error && !session.destroyed) session.destroy(error);
  });
}

/** An error that looks like one of the system, so that it counts as a failure of the network. */
function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
