/**
 * Calls to other nodes that have one answer each, over gRPC and HTTP/2. A channel is one connection: used for one call, or
 * kept for those that follow. Whoever calls learns what an answer cannot tell: whether the request was sent at all.
 */
import { type CallOptions, Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { Timer } from "../base/clock.js";
import { PEER_MESSAGE_BYTES_MAX } from "./limits.js";
import { PeerSession, type PeerSessionOptions, type PeerTls } from "./peer-session.js";

export type PeerCallErrorCode =
  /** The address is not `host:port`. */
  | "invalid_address"
  /** This node shuts down. Nothing was sent. */
  | "closing"
  /** No connection came about, or none that took the request: it was certainly not carried out. */
  | "unreached"
  /** The connection broke, or ended without an answer, after the request may have been sent. */
  | "broken"
  /** The time of the call is over. The request may have been carried out, or be carried out yet. */
  | "timeout";

/** Why there is no answer of the other node, as a clause for an operator. */
export class PeerCallError extends Error {
  override readonly name = "PeerCallError";
  readonly code: PeerCallErrorCode;

  constructor(code: PeerCallErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface PeerChannelsOptions extends PeerSessionOptions {
  /** Sent with every call. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface PeerCallOptions {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** Whether the connection is kept for the next call to that address. */
  readonly isKept: boolean;
  /** Beside those of all calls. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Silence after which a kept connection is given back. */
const IDLE_MS = 60_000;
const CLOSING = "this node is shutting down";
const ADDRESS = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/;

export class PeerChannels {
  readonly #options: PeerChannelsOptions;
  readonly #open = new Set<PeerChannel>();
  /** By URL. */
  readonly #kept = new Map<string, PeerChannel>();
  #isClosed = false;

  constructor(options: PeerChannelsOptions) {
    this.#options = options;
  }

  /** Connections that stand, or are being made. */
  get count(): number {
    return this.#open.size;
  }

  /**
   * Makes a call. Rejects with the signal's reason, with a `PeerCallError` where the other node gave no answer, or with the
   * `ConnectError` that it answered, which is of another call than that of whoever is to be told.
   */
  async call<T>(
    address: string,
    invoke: (transport: Transport, options: CallOptions) => Promise<T>,
    { signal, timeoutMs, isKept, headers }: PeerCallOptions,
  ): Promise<T> {
    signal.throwIfAborted();
    if (this.#isClosed) throw new PeerCallError("closing", CLOSING);
    const channel = this.#channelTo(address, isKept);
    const ending = new AbortController();
    const abort = (): void => ending.abort(signal.reason);
    signal.addEventListener("abort", abort);
    channel.begin(ending);
    try {
      return await invoke(channel.transport, {
        signal: ending.signal,
        timeoutMs,
        headers: { ...this.#options.headers, ...headers },
      });
    } catch (error) {
      signal.throwIfAborted();
      const failure =
        this.#isClosed && !isAnswer(error) ? closingError(channel, error) : channel.explain(error, timeoutMs);
      // Whatever it waits for there, the next call had better not.
      if (failure instanceof PeerCallError) this.#retire(channel);
      throw failure;
    } finally {
      signal.removeEventListener("abort", abort);
      channel.end(ending);
      if (!isKept) {
        channel.destroy();
        await channel.ended;
      }
    }
  }

  /** Ends every call and connection; resolves when their sockets are given back. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const open = [...this.#open];
    for (const channel of open) channel.destroy();
    await Promise.all(open.map(({ ended }) => ended));
  }

  #channelTo(address: string, isKept: boolean): PeerChannel {
    const url = urlOf(address, this.#options.tls);
    if (url === undefined) throw new PeerCallError("invalid_address", `${JSON.stringify(address)} is no host:port`);
    const kept = isKept ? this.#kept.get(url) : undefined;
    if (kept?.isUsable) return kept;
    const channel = new PeerChannel(url, this.#options);
    this.#open.add(channel);
    void channel.ended.then(() => {
      this.#open.delete(channel);
      this.#retire(channel);
    });
    if (isKept) {
      if (kept) this.#retire(kept);
      this.#kept.set(url, channel);
    }
    return channel;
  }

  /** No further call goes over it; those under way may end in peace. */
  #retire(channel: PeerChannel): void {
    if (this.#kept.get(channel.url) === channel) this.#kept.delete(channel.url);
    channel.retire();
  }
}

/** One connection. */
class PeerChannel {
  readonly url: string;
  readonly transport: Transport;
  /** The socket is given back. */
  readonly ended: Promise<void>;
  readonly #session: PeerSession;
  readonly #options: PeerSessionOptions;
  #wasOpened = false;
  #isRetired = false;
  /** What ends each call under way: by itself the library waits on for an answer when the connection is gone. */
  readonly #calls = new Set<AbortController>();
  #idle: Timer | undefined;

  constructor(url: string, options: PeerSessionOptions) {
    this.url = url;
    this.#options = options;
    let end = (): void => undefined;
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.#session = new PeerSession(url, options, {
      opened: () => {
        this.#wasOpened = true;
      },
      closed: (reason) => {
        this.#idle?.cancel();
        // Not before those have their answers that came with the last bytes.
        setImmediate(() => {
          for (const call of this.#calls) call.abort(new Error(reason));
        });
        end();
      },
    });
    this.transport = createGrpcTransport({
      baseUrl: url,
      sessionManager: this.#session,
      acceptCompression: [],
      readMaxBytes: PEER_MESSAGE_BYTES_MAX,
      writeMaxBytes: PEER_MESSAGE_BYTES_MAX,
    });
  }

  get isUsable(): boolean {
    return this.#session.isUsable;
  }

  get wasOpened(): boolean {
    return this.#wasOpened;
  }

  begin(call: AbortController): void {
    this.#calls.add(call);
    this.#idle?.cancel();
  }

  end(call: AbortController): void {
    this.#calls.delete(call);
    if (this.#calls.size > 0) return;
    if (this.#isRetired) this.destroy();
    else if (this.isUsable) this.#idle = this.#options.clock.after(IDLE_MS, () => this.destroy());
  }

  /** Ends once no call is under way. */
  retire(): void {
    this.#isRetired = true;
    if (this.#calls.size === 0) this.destroy();
  }

  destroy(): void {
    this.#session.destroy();
  }

  /** What a failed call means. */
  explain(error: unknown, timeoutMs: number): unknown {
    if (!(error instanceof ConnectError) || isAnswer(error)) return error;
    const { reason } = this.#session;
    const isLate = error.code === Code.DeadlineExceeded;
    const why = reason ?? (isLate ? `nothing answered within ${timeoutMs} ms` : error.rawMessage);
    if (!this.#wasOpened || wasNeverSent(error)) return new PeerCallError("unreached", why, { cause: error });
    return new PeerCallError(isLate && reason === undefined ? "timeout" : "broken", why, { cause: error });
  }
}

/** `http://host:port`, or with TLS `https://host:port`, where nodes call each other; undefined for what is no `host:port`. */
export function urlOf(address: string, tls?: PeerTls): string | undefined {
  const port = ADDRESS.exec(address)?.[1];
  if (port === undefined || Number(port) > 65_535) return undefined;
  const called = tls?.port === undefined ? address : `${address.slice(0, -port.length)}${tls.port}`;
  const url = `${tls ? "https" : "http"}://${called}`;
  return URL.canParse(url) ? url : undefined;
}

/** Whether the other node itself has said so: only an answer has a status. */
function isAnswer(error: unknown): boolean {
  return error instanceof ConnectError && error.metadata.has("grpc-status");
}

function closingError(channel: PeerChannel, cause: unknown): PeerCallError {
  return new PeerCallError(channel.wasOpened ? "broken" : "closing", CLOSING, { cause });
}

const NEVER_SENT = new Set(["ERR_HTTP2_GOAWAY_SESSION", "ERR_HTTP2_INVALID_SESSION"]);

function wasNeverSent({ cause, rawMessage }: ConnectError): boolean {
  if (rawMessage.includes("REFUSED_STREAM")) return true;
  return cause instanceof Error && "code" in cause && NEVER_SENT.has(String(cause.code));
}
