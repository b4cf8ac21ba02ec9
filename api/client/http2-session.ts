/**
 * The HTTP/2 connection to a node, made when it is first needed and again when it is gone, and more of them where more calls are
 * open than the node takes on one. It replaces connect-node's own manager, which has one only, whose ping timer can throw into
 * the void and end the process, and which leaves the flow-control windows at 64 KiB.
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

/** A connection, and the calls that are open on it. */
interface Connection {
  readonly session: http2.ClientHttp2Session;
  /** Settles when it is connected and knows how many calls the node takes on it, or never will be. */
  readonly connected: Promise<void>;
  streams: number;
}

export class Http2Session implements SessionManager {
  readonly authority: string;
  readonly #tls: http2.SecureClientSessionOptions;
  /** Those that take new calls; the ones before may still end theirs in peace. */
  readonly #connections = new Set<Connection>();

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
    let connection = this.#free();
    for (;;) {
      await connection.connected;
      // Others may have waited for the same one.
      if (mayTake(connection)) break;
      connection = this.#free();
    }
    const stream = connection.session.request({ ...headers, ":method": method, ":path": path }, options);
    // An idle connection does not keep the process alive, one with open calls does.
    this.#countStreams(connection, 1);
    stream.once("close", () => this.#countStreams(connection, -1));
    return stream;
  }

  /** Pings go by the connection's own idle timeout, which counts received bytes already. */
  notifyResponseByteRead(): void {}

  /** Ends the connections with all their streams. */
  abort(reason?: Error): void {
    for (const { session } of this.#connections) session.destroy(reason, http2.constants.NGHTTP2_CANCEL);
    this.#connections.clear();
  }

  #countStreams(connection: Connection, change: 1 | -1): void {
    connection.streams += change;
    const { session, streams } = connection;
    if (session.destroyed) return;
    if (streams > 0) {
      session.ref();
      return;
    }
    session.unref();
    if ([...this.#connections].some((other) => other !== connection && mayTake(other))) session.close();
  }

  /** A connection that takes a new call, or that will tell; another one where all are full. */
  #free(): Connection {
    for (const connection of this.#connections) if (mayTake(connection)) return connection;
    return this.#open();
  }

  #open(): Connection {
    const session = http2.connect(this.authority, {
      ...this.#tls,
      settings: { initialWindowSize: STREAM_WINDOW_BYTES },
      maxSessionMemory: SESSION_MEMORY_MIB_MAX,
    });
    const connection: Connection = { session, connected: connected(session), streams: 0 };
    this.#connections.add(connection);
    const forget = (): void => void this.#connections.delete(connection);
    session.once("connect", () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    // Streams get the error themselves; without a listener it would end the process.
    session.on("error", forget);
    session.on("close", forget);
    // After GOAWAY the open streams end in peace, new ones need a new connection.
    session.on("goaway", forget);
    session.setTimeout(PING_INTERVAL_MS, () => probe(session));
    return connection;
  }
}

/** Node keeps calls beyond the number that the other end takes waiting, for as long as the others are open. */
function mayTake({ session, streams }: Connection): boolean {
  return !session.closed && !session.destroyed && streams < (session.remoteSettings.maxConcurrentStreams ?? Infinity);
}

function connected(session: http2.ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    session.once("remoteSettings", () => resolve());
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
