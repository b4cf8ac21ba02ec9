/**
 * One `Replication.Push` as the master sees it, on a stream of HTTP/2, without the protocol library: records leave as they lie in the
 * log's memory. It calls its listener on ticks of its own, and `closed` last, whatever happens; `send` and `close` never wait.
 */
import type { ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { validateResponseWithCompression, validateTrailer } from "@connectrpc/connect/protocol-grpc";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import type { MasterMessage, PeerConnection, PeerListener } from "../replication/replicator.js";
import { PEER_MESSAGE_BYTES_MAX } from "./limits.js";
import { methodName } from "./method-name.js";
import { FrameReader } from "./peer-frames.js";
import type { PeerSession } from "./peer-session.js";
import { frameOfMaster, PushReader } from "./peer-wire.js";

const PATH = `/${methodName(Replication.method.push)}`;

export interface PeerPushOptions {
  readonly listener: PeerListener;
  readonly onBug: (error: Error) => void;
  /** Called after the listener's. */
  readonly onClosed: (reason: string) => void;
}

export class PeerPush implements PeerConnection {
  readonly #options: PeerPushOptions;
  /** What is sent before the stream is there. */
  readonly #waiting: MasterMessage[] = [];
  #session: PeerSession | undefined;
  #stream: ClientHttp2Stream | undefined;
  #bufferedBytes = 0;
  /** Why the call ended, where that tells more than why the connection did. */
  #reason: string | undefined;
  #isClosed = false;

  constructor(options: PeerPushOptions) {
    this.#options = options;
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  send(message: MasterMessage): void {
    if (this.#isClosed || this.#reason !== undefined) return;
    // Replication keeps its own window, so that this is bounded.
    this.#bufferedBytes += bytesOf(message);
    if (this.#stream) this.#write(this.#stream, message);
    else this.#waiting.push(message);
  }

  readonly close = (): void => {
    this.fail("this node closed the connection");
  };

  /** The connection that carries this push; when it ends, `sessionClosed` is called. */
  use(session: PeerSession): void {
    this.#session = session;
  }

  /** The connection stands: makes the call on it. */
  opened(session: PeerSession, headers: Readonly<Record<string, string>>): void {
    this.#tell(() => this.#options.listener.opened());
    if (this.#isClosed || this.#reason !== undefined) return;
    try {
      this.#stream = this.#listen(session.begin("POST", PATH, { ...requestHeaders, ...headers }), session);
    } catch (error) {
      this.#failSoon(error);
      return;
    }
    for (const message of this.#waiting.splice(0)) this.#write(this.#stream, message);
  }

  /** Ends the push for a reason of this node's. */
  fail(reason: string): void {
    this.#reason ??= reason;
    if (this.#session) this.#session.destroy();
    else setImmediate(() => this.sessionClosed(reason));
  }

  /** The connection is gone, and with it the call. */
  sessionClosed(reason: string): void {
    if (this.#isClosed) return;
    const why = this.#reason ?? reason;
    this.#tell(() => this.#options.listener.closed(why));
    this.#isClosed = true;
    this.#options.onClosed(why);
  }

  #listen(stream: ClientHttp2Stream, session: PeerSession): ClientHttp2Stream {
    const frames = new FrameReader(PEER_MESSAGE_BYTES_MAX);
    const reader = new PushReader();
    const take = (bytes: Buffer): void => {
      const message = reader.ofReplica(bytes);
      this.#tell(() => this.#options.listener.message(message));
    };
    /** Why no more is read; the rest of the stream says nothing any more. */
    let failure: unknown;
    const attempt = (act: () => void): void => {
      if (failure !== undefined) return;
      try {
        act();
      } catch (error) {
        failure = error;
        this.#failSoon(error);
      }
    };
    let header = new Headers();
    let trailer: Headers | undefined;
    stream.on("response", (received) => {
      session.notifyResponseByteRead();
      header = headersOf(received);
      attempt(() => {
        const { headerError } = validateResponseWithCompression([], Number(received[":status"]), header);
        if (headerError) throw headerError;
      });
    });
    stream.on("data", (piece: Buffer) => {
      session.notifyResponseByteRead();
      attempt(() => frames.read(piece, take));
    });
    stream.on("trailers", (received: IncomingHttpHeaders) => (trailer = headersOf(received)));
    stream.on("end", () =>
      attempt(() => {
        // Without a word about the call it is the connection that has ended.
        if (!trailer) return;
        frames.end();
        validateTrailer(trailer, header);
        throw new ConnectError("the replica ended the push", Code.Unknown);
      }),
    );
    const broken = (why: string): void => attempt(() => fail(new Error(session.reason ?? why)));
    stream.on("error", (error) => broken(error.message));
    stream.on("close", () => broken(`the replica reset the stream, with code ${stream.rstCode}`));
    return stream;
  }

  #write(stream: ClientHttp2Stream, message: MasterMessage): void {
    const [head, records] = frameOfMaster(message);
    const bytes = bytesOf(message);
    const taken = (): void => {
      this.#bufferedBytes -= bytes;
      if (this.#bufferedBytes === 0) this.#tell(() => this.#options.listener.drained?.());
    };
    if (!records) {
      stream.write(head, taken);
      return;
    }
    // Together they are one write, and none of them is copied.
    stream.cork();
    stream.write(head);
    stream.write(records, taken);
    stream.uncork();
  }

  /** The connection's own end tells more than what the call makes of it, so that is let come first. */
  #failSoon(error: unknown): void {
    const reason =
      error instanceof ConnectError ? error.rawMessage : error instanceof Error ? error.message : String(error);
    setImmediate(() => this.fail(reason));
  }

  /** The listener's failures are bugs of this node: they end the push, and are never taken for the network's. */
  #tell(call: () => void): void {
    if (this.#isClosed) return;
    try {
      call();
    } catch (error) {
      this.#options.onBug(error instanceof Error ? error : new Error(String(error)));
      this.#session?.destroy();
    }
  }
}

const requestHeaders = { "content-type": "application/grpc+proto", te: "trailers", "user-agent": "cambium" };

/** Reckoned for a message beside the records in it. */
const MESSAGE_BYTES = 128;

function bytesOf(message: MasterMessage): number {
  return MESSAGE_BYTES + (message.kind === "append" ? message.records.byteLength : 0);
}

function fail(error: Error): never {
  throw error;
}

function headersOf(received: IncomingHttpHeaders): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(received)) {
    if (!name.startsWith(":") && value !== undefined) headers.set(name, String(value));
  }
  return headers;
}
