/**
 * The network between nodes: `Replication` over gRPC, each push on a connection of HTTP/2 of its own, so that a slow
 * replica holds up nobody else. Nothing is compressed, and the bytes of the log go through as they are.
 */
import { create } from "@bufbuild/protobuf";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { RegisterRequestSchema, Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import { type Clock, SystemClock } from "../base/clock.js";
import { idToBytes } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { epoch, fromWire64 } from "../base/position.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import {
  type PeerConnection,
  type PeerListener,
  type PeerNetwork,
  type RegisterReply,
  type RegisterRequest,
  ReplicationError,
} from "../replication/replicator.js";
import { clusterIdFromWire, clusterIdToWire, nodeIdFromWire } from "./peer-messages.js";
import { PeerPush } from "./peer-push.js";
import { PeerSession, type PeerSessionOptions } from "./peer-session.js";
import { PEER_MESSAGE_BYTES_MAX } from "./limits.js";
import { useNodeTextEncoding } from "./text-encoding.js";

export interface ConnectPeerNetworkOptions {
  readonly logger: Logger;
  /** What this node proves to others that it knows. */
  readonly clusterSecret?: Uint8Array;
  readonly clock?: Clock;
  readonly connectTimeoutMs?: number;
  readonly pingIntervalMs?: number;
  readonly pingTimeoutMs?: number;
  /** Of a registration, which waits until the membership is committed. */
  readonly registerTimeoutMs?: number;
  /** Told of a failed assertion in a listener. By default it is thrown where nothing catches it. */
  readonly onBug?: (error: Error) => void;
}

const ADDRESS = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/;

export class ConnectPeerNetwork implements PeerNetwork {
  readonly #session: PeerSessionOptions;
  readonly #registerTimeoutMs: number;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #logger: Logger;
  readonly #onBug: (error: Error) => void;
  /** What ends each connection and registration that is open. */
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
    };
    this.#registerTimeoutMs = options.registerTimeoutMs ?? 15_000;
    this.#headers = options.clusterSecret ? { authorization: peerAuthorization(options.clusterSecret) } : {};
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
    const url = urlOf(address);
    if (this.#isClosed) push.fail("this node is shutting down");
    else if (url === undefined) push.fail(`${JSON.stringify(address)} is no host:port`);
    else {
      const session = new PeerSession(url, this.#session, {
        opened: () => push.opened(this.#clientOf(url, session), this.#headers),
        closed: (reason) => push.sessionClosed(reason),
      });
      push.use(session);
    }
    return push;
  }

  async register(masterAddress: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterReply> {
    const url = urlOf(masterAddress);
    if (url === undefined) {
      throw new ReplicationError("invalid_address", `${JSON.stringify(masterAddress)} is no host:port`);
    }
    if (this.#isClosed) throw new ReplicationError("closing", "this node is shutting down");
    let reason: string | undefined;
    let isOver = (): void => undefined;
    const over = new Promise<void>((resolve) => {
      isOver = resolve;
    });
    const session = new PeerSession(url, this.#session, {
      opened: () => undefined,
      closed: (why) => {
        reason = why;
        isOver();
      },
    });
    const end = (): void => session.destroy();
    this.#open.add(end);
    try {
      const reply = await this.#clientOf(url, session).register(
        create(RegisterRequestSchema, {
          clusterId: clusterIdToWire(request.clusterId),
          nodeId: idToBytes(request.nodeId),
          address: request.address,
        }),
        { headers: this.#headers, signal, timeoutMs: this.#registerTimeoutMs },
      );
      const clusterId = clusterIdFromWire(reply.clusterId, "cluster_id");
      if (clusterId === undefined) throw new ReplicationError("refused", "the master did not name its cluster");
      return {
        clusterId,
        masterNodeId: nodeIdFromWire(reply.masterNodeId, "master_node_id"),
        epoch: epoch(fromWire64(reply.epoch, "epoch")),
      };
    } catch (error) {
      signal.throwIfAborted();
      throw registerError(error, masterAddress, reason);
    } finally {
      end();
      await over;
      this.#forget(end);
    }
  }

  /** Ends every connection and registration; resolves when their sockets are given back. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const empty = new Promise<void>((resolve) => {
      this.#whenEmpty = resolve;
    });
    for (const end of this.#open) end();
    if (this.#open.size > 0) await empty;
  }

  #forget(end: () => void): void {
    this.#open.delete(end);
    if (this.#open.size === 0) this.#whenEmpty?.();
  }

  #clientOf(url: string, session: PeerSession): Client<typeof Replication> {
    const transport = createGrpcTransport({
      baseUrl: url,
      sessionManager: session,
      acceptCompression: [],
      readMaxBytes: PEER_MESSAGE_BYTES_MAX,
      writeMaxBytes: PEER_MESSAGE_BYTES_MAX,
    });
    return createClient(Replication, transport);
  }
}

function urlOf(address: string): string | undefined {
  const port = ADDRESS.exec(address)?.[1];
  const url = `http://${address}`;
  return port !== undefined && Number(port) <= 65_535 && URL.canParse(url) ? url : undefined;
}

/** The library's error is of another call than ours: what it says is put into an error of our own. */
function registerError(error: unknown, address: string, reason: string | undefined): Error {
  if (!(error instanceof ConnectError)) return error instanceof Error ? error : new Error(String(error));
  const message = `the master at ${address} did not take this node: ${reason ?? error.rawMessage}`;
  return new ReplicationError(reason === undefined ? "refused" : "unreachable", message, { cause: error });
}

function throwLater(error: Error): void {
  setImmediate(() => {
    throw error;
  });
}
