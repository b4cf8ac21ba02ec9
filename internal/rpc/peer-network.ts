/**
 * The network between nodes: `Replication` over gRPC, each push on a connection of HTTP/2 of its own, so that a slow
 * replica holds up nobody else. Nothing is compressed, and the bytes of the log go through as they are.
 */
import { create } from "@bufbuild/protobuf";
import { type CallOptions, type Client, ConnectError, createClient } from "@connectrpc/connect";
import {
  type RegisterRequest as WireRegisterRequest,
  RegisterRequestSchema,
  type RegisterResponse,
  Replication,
} from "../../api/gen/cambium/v1/replication_pb.js";
import { NotMasterSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { type Clock, SystemClock } from "../base/clock.js";
import { idToBytes } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { type Position, WireRangeError } from "../base/position.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import { PROTOCOL_VERSION } from "../replication/core/message.js";
import type { Asker, PromiseReply, PromiseRequest, SurveyReply } from "../replication/peer.js";
import {
  type PeerConnection,
  type PeerListener,
  type PeerNetwork,
  type RegisterReply,
  type RegisterRequest,
  ReplicationError,
} from "../replication/replicator.js";
import { epochFromWire } from "./convert.js";
import { PeerCallError, PeerChannels, urlOf } from "./peer-channels.js";
import { clusterIdFromWire, clusterIdToWire, nodeIdFromWire } from "./peer-messages.js";
import { PeerPush } from "./peer-push.js";
import { PeerSession, type PeerSessionOptions, type PeerTls } from "./peer-session.js";
import {
  promiseReplyFromWire,
  promiseRequestToWire,
  readIndexReplyFromWire,
  readIndexToWire,
  surveyReplyFromWire,
  surveyToWire,
} from "./peer-questions.js";
import { RequestError } from "./request-error.js";
import { useNodeTextEncoding } from "./text-encoding.js";

export interface ConnectPeerNetworkOptions {
  readonly logger: Logger;
  /** What this node proves to others that it knows. */
  readonly clusterSecret?: Uint8Array;
  /** Absent: nodes call each other without TLS. */
  readonly tls?: PeerTls;
  readonly clock?: Clock;
  readonly connectTimeoutMs?: number;
  readonly pingIntervalMs?: number;
  readonly pingTimeoutMs?: number;
  /** Of a registration, which waits until the membership is committed. */
  readonly registerTimeoutMs?: number;
  /** Told of a failed assertion in a listener. By default it is thrown where nothing catches it. */
  readonly onBug?: (error: Error) => void;
}

/** Of a question that is answered from what a node knows, or from one write of its disk. */
const ASK_TIMEOUT_MS = 5000;

export class ConnectPeerNetwork implements PeerNetwork {
  readonly #session: PeerSessionOptions;
  readonly #registerTimeoutMs: number;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #channels: PeerChannels;
  readonly #logger: Logger;
  readonly #onBug: (error: Error) => void;
  /** What ends each push that is open. */
  readonly #open = new Set<() => void>();
  #whenEmpty: (() => void) | undefined;
  #isClosed = false;

  constructor(options: ConnectPeerNetworkOptions) {
    useNodeTextEncoding();
    this.#session = {
      clock: options.clock ?? new SystemClock(),
      connectTimeoutMs: options.connectTimeoutMs ?? 5000,
      pingIntervalMs: options.pingIntervalMs ?? 10_000,
      pingTimeoutMs: options.pingTimeoutMs ?? 5000,
      ...(options.tls && { tls: options.tls }),
    };
    this.#registerTimeoutMs = options.registerTimeoutMs ?? 15_000;
    this.#headers = options.clusterSecret ? { authorization: peerAuthorization(options.clusterSecret) } : {};
    this.#channels = new PeerChannels({ ...this.#session, headers: this.#headers });
    this.#logger = options.logger;
    this.#onBug = options.onBug ?? throwLater;
  }

  connect(address: string, listener: PeerListener): PeerConnection {
    const push = new PeerPush({
      listener,
      onBug: this.#onBug,
      onClosed: (reason) => {
        this.#logger.debug("a push connection ended", { address, reason });
        this.#forget(push.close);
      },
    });
    this.#open.add(push.close);
    const url = urlOf(address, this.#session.tls);
    if (this.#isClosed) push.fail("this node is shutting down");
    else if (url === undefined) push.fail(`${JSON.stringify(address)} is no host:port`);
    else {
      const session = new PeerSession(url, this.#session, {
        opened: () => push.opened(session, this.#headers),
        closed: (reason) => push.sessionClosed(reason),
      });
      push.use(session);
    }
    return push;
  }

  register(masterAddress: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterReply> {
    return this.#ask(masterAddress, `the master at ${masterAddress} did not take this node`, signal, {
      timeoutMs: this.#registerTimeoutMs,
      call: (client, options) => client.register(registerToWire(request), options),
      read: registerReplyFromWire,
    });
  }

  survey(address: string, asker: Asker, signal: AbortSignal): Promise<SurveyReply> {
    return this.#ask(address, `the node at ${address} did not say how it is`, signal, {
      timeoutMs: ASK_TIMEOUT_MS,
      call: (client, options) => client.survey(surveyToWire(asker), options),
      read: surveyReplyFromWire,
    });
  }

  requestPromise(address: string, request: PromiseRequest, signal: AbortSignal): Promise<PromiseReply> {
    return this.#ask(address, `the node at ${address} did not say whether it promises epoch ${request.epoch}`, signal, {
      timeoutMs: ASK_TIMEOUT_MS,
      call: (client, options) => client.requestPromise(promiseRequestToWire(request), options),
      read: (reply) => promiseReplyFromWire(reply, request),
    });
  }

  readIndex(masterAddress: string, asker: Asker, signal: AbortSignal): Promise<Position> {
    return this.#ask(masterAddress, `the node at ${masterAddress} did not confirm that it is the master`, signal, {
      timeoutMs: ASK_TIMEOUT_MS,
      // Every linearizable read of a replica is such a call: one connection serves them all.
      isKept: true,
      call: (client, options) => client.readIndex(readIndexToWire(asker), options),
      read: readIndexReplyFromWire,
    });
  }

  /** Ends every connection and call; resolves when their sockets are given back. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const empty = new Promise<void>((resolve) => {
      this.#whenEmpty = resolve;
    });
    for (const end of this.#open) end();
    if (this.#open.size > 0) await empty;
    await this.#channels.close();
  }

  #forget(end: () => void): void {
    this.#open.delete(end);
    if (this.#open.size === 0) this.#whenEmpty?.();
  }

  /** `failure`: what is said where it fails, for an operator. */
  async #ask<Answer, Reply>(
    address: string,
    failure: string,
    signal: AbortSignal,
    question: {
      readonly timeoutMs: number;
      readonly isKept?: boolean;
      readonly call: (client: Client<typeof Replication>, options: CallOptions) => Promise<Answer>;
      readonly read: (answer: Answer) => Reply;
    },
  ): Promise<Reply> {
    const { timeoutMs, isKept = false } = question;
    try {
      const answer = await this.#channels.call(
        address,
        (transport, options) => question.call(createClient(Replication, transport), options),
        { signal, timeoutMs, isKept },
      );
      return question.read(answer);
    } catch (error) {
      signal.throwIfAborted();
      throw askError(error, failure);
    }
  }
}

function registerToWire(request: RegisterRequest): WireRegisterRequest {
  return create(RegisterRequestSchema, {
    clusterId: clusterIdToWire(request.clusterId),
    nodeId: idToBytes(request.nodeId),
    address: request.address,
    protocolVersion: PROTOCOL_VERSION,
  });
}

function registerReplyFromWire(reply: RegisterResponse): RegisterReply {
  const clusterId = clusterIdFromWire(reply.clusterId, "cluster_id");
  if (clusterId === undefined) throw new RequestError("invalid", "the master did not name its cluster");
  return {
    clusterId,
    masterNodeId: nodeIdFromWire(reply.masterNodeId, "master_node_id"),
    epoch: epochFromWire(reply.epoch, "epoch"),
  };
}

/** What went wrong is of another call than ours: what it says is put into an error of our own. */
function askError(error: unknown, what: string): unknown {
  if (error instanceof PeerCallError) {
    const { code, message } = error;
    if (code === "invalid_address") return new ReplicationError(code, message);
    if (code === "closing") return new ReplicationError(code, message, { cause: error });
    return new ReplicationError(code === "timeout" ? code : "unreachable", `${what}: ${message}`, { cause: error });
  }
  if (error instanceof RequestError || error instanceof WireRangeError) {
    return new ReplicationError("refused", `${what}: its answer makes no sense: ${error.message}`, { cause: error });
  }
  if (!(error instanceof ConnectError)) return error;
  const message = `${what}: ${error.rawMessage}`;
  const [notMaster] = error.findDetails(NotMasterSchema);
  if (!notMaster) return new ReplicationError("refused", message, { cause: error });
  // An address that is too long to be one is none: whoever follows it would only fail later.
  const { masterAddress } = notMaster;
  const isKnown = masterAddress !== "" && urlOf(masterAddress) !== undefined;
  return new ReplicationError("not_master", message, { cause: error, ...(isKnown && { masterAddress }) });
}

function throwLater(error: Error): void {
  setImmediate(() => {
    throw error;
  });
}
