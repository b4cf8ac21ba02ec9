/**
 * Pushes as their replica sees them, on streams of HTTP/2, without the protocol library: what comes is given to replication piece by
 * piece, on the tick on which it comes. All that the library's way holds a call to holds here as well; a head that asks for
 * anything unusual goes that way.
 */
import type { OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { Code, type ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import type { Access } from "../identity/access.js";
import { IdentityError } from "../identity/identity-error.js";
import type { Identity } from "../identity/role.js";
import type { PushSession, ReplicaMessage } from "../replication/replicator.js";
import type { Adapter } from "./adapter.js";
import type { Call, CallLog } from "./call-log.js";
import type { ErrorMap } from "./errors.js";
import type { StreamArrival } from "./exchange.js";
import { formOf } from "./fast-path/form.js";
import { closeLater } from "./http-answer.js";
import { correctStatus } from "./library-errors.js";
import { PEER_MESSAGE_BYTES_MAX } from "./limits.js";
import { methodName } from "./method-name.js";
import { FrameReader } from "./peer-frames.js";
import { frameOfReplica, PushReader } from "./peer-wire.js";
import type { RpcReplicator, RpcStore } from "./ports.js";
import { UNREAD_BYTES_MAX } from "./replication-handlers.js";
import { RequestError } from "./request-error.js";
import { UNCOUNTED, type UnderWay } from "./under-way.js";

const METHOD = Replication.method.push;
const NAME = methodName(METHOD);
const PATH = `/${NAME}`;

export interface PushedCallsOptions {
  readonly replicator: Pick<RpcReplicator, "acceptPush">;
  readonly store: Pick<RpcStore, "endTurn">;
  readonly access: Pick<Access, "checkCurrent">;
  readonly errors: Pick<ErrorMap, "toConnectError">;
  readonly calls: CallLog;
  readonly adapter: Pick<Adapter, "connectionAt" | "peerFor">;
  readonly underWay: Pick<UnderWay, "track" | "begin" | "end">;
  /** Aborted, with the reason that masters are told, when the node shuts down. */
  readonly shutdown: AbortSignal;
}

export class PushedCalls {
  readonly #options: PushedCallsOptions;
  #hasEndedTurn = false;

  constructor(options: PushedCallsOptions) {
    this.#options = options;
  }

  /** Whether the call is taken; false: it goes the long way, as if nothing had been. */
  take({ stream, headers }: StreamArrival): boolean {
    if (headers[":path"] !== PATH || headers[":method"] !== "POST" || !stream.session) return false;
    const form = formOf(headers);
    const authority = headers[":authority"];
    if (!form?.isGrpc || form.timeoutMs !== undefined || authority === undefined) return false;
    const { calls, adapter, underWay } = this.#options;
    const connection = adapter.connectionAt(stream.session);
    const identity = adapter.peerFor(NAME, connection, authority, headers.authorization);
    if (!identity || identity.prefixes) return false;
    const requestId = calls.requestIdOf(headers["x-request-id"]);
    const call = calls.begin(METHOD, requestId, connection.origin.address, headers);
    call.identity = identity.name;
    underWay.track(stream, connection);
    // It goes on for as long as both ends want.
    underWay.begin(stream, UNCOUNTED);
    new PushedCall(this.#options, { stream, identity, call, came: this.#came }).begin();
    return true;
  }

  /**
   * The first records of a turn are written while Node still has the packet in hand that they came in: then it sends their
   * acknowledgement with whatever else it has to say to that packet. What comes after them in the turn is written together.
   */
  readonly #came = (): void => {
    if (this.#hasEndedTurn || !this.#options.store.endTurn()) return;
    this.#hasEndedTurn = true;
    setImmediate(this.#begunTurn);
  };

  readonly #begunTurn = (): void => {
    this.#hasEndedTurn = false;
  };
}

class PushedCall {
  readonly #options: PushedCallsOptions;
  readonly #stream: ServerHttp2Stream;
  readonly #identity: Identity;
  readonly #call: Call;
  /** Called when a piece of the stream has been dealt with. */
  readonly #came: () => void;
  readonly #frames = new FrameReader(PEER_MESSAGE_BYTES_MAX);
  readonly #reader = new PushReader();
  #session: PushSession | undefined;
  #isOver = false;

  constructor(
    options: PushedCallsOptions,
    {
      stream,
      identity,
      call,
      came,
    }: {
      readonly stream: ServerHttp2Stream;
      readonly identity: Identity;
      readonly call: Call;
      readonly came: () => void;
    },
  ) {
    this.#options = options;
    this.#stream = stream;
    this.#identity = identity;
    this.#call = call;
    this.#came = came;
  }

  begin(): void {
    const { replicator, shutdown } = this.#options;
    const stream = this.#stream;
    // Without a listener an error would end the process; what it tells is seen by `close`.
    stream.on("error", () => undefined);
    stream.on("close", () => this.#left());
    shutdown.addEventListener("abort", this.#shutDown);
    this.#session = replicator.acceptPush(
      (message) => this.#send(message),
      (reason) => this.#end(new RequestError("ended", reason)),
    );
    // Replication may have turned it away at once.
    if (this.#isOver) this.#session.closed();
    stream.on("data", (piece: Buffer) => {
      this.#attempt(() => this.#frames.read(piece, this.#take));
      this.#came();
    });
    stream.on("end", () =>
      this.#attempt(() => {
        this.#frames.end();
        this.#end();
      }),
    );
  }

  readonly #take = (bytes: Buffer): void => {
    if (this.#isOver) return;
    const message = this.#reader.ofMaster(bytes);
    this.#options.access.checkCurrent(this.#identity);
    this.#session?.message(message);
  };

  readonly #shutDown = (): void => this.#end(this.#options.shutdown.reason);

  #attempt(act: () => void): void {
    if (this.#isOver) return;
    try {
      act();
    } catch (error) {
      this.#end(error);
    }
  }

  #send(message: ReplicaMessage): void {
    this.#attempt(() => {
      this.#options.access.checkCurrent(this.#identity);
      this.#respond();
      this.#stream.write(frameOfReplica(message));
      if (this.#stream.bufferSize > UNREAD_BYTES_MAX) {
        throw new RequestError("unread", "the master does not read the answers of this replica");
      }
    });
  }

  #respond(): void {
    const stream = this.#stream;
    if (stream.headersSent || stream.destroyed) return;
    const head = { ":status": 200, "content-type": "application/grpc+proto", "x-request-id": this.#call.requestId };
    stream.respond(head, { waitForTrailers: true });
  }

  /** With an error, or well; after what was sent. */
  #end(error?: unknown): void {
    if (this.#isOver) return;
    const told = error === undefined ? undefined : this.#told(error);
    this.#finish(told?.code ?? 0);
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    const trailers = trailersOf(told);
    stream.once("wantTrailers", () => stream.sendTrailers(trailers));
    this.#respond();
    stream.end();
    closeLater(stream);
  }

  #told(error: unknown): ConnectError {
    if (error instanceof IdentityError) this.#call.refused = error;
    return this.#options.errors.toConnectError(error, NAME, undefined, this.#call.requestId);
  }

  /** The stream is closed; where that was not the end of the call, the master has left. */
  #left(): void {
    if (!this.#isOver) this.#finish(Code.Canceled);
  }

  #finish(outcome: Code | 0): void {
    this.#isOver = true;
    this.#options.shutdown.removeEventListener("abort", this.#shutDown);
    this.#call.outcome = outcome;
    this.#options.calls.end(METHOD, this.#call, outcome);
    this.#options.underWay.end(this.#stream, UNCOUNTED);
    this.#session?.closed();
  }
}

function trailersOf(error: ConnectError | undefined): OutgoingHttpHeaders {
  const trailers = setTrailerStatus(new Headers(), error);
  correctStatus(trailers);
  return Object.fromEntries(trailers);
}
