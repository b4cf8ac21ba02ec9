/**
 * One port for everything: Connect, gRPC and gRPC-web, over HTTP/1.1 and HTTP/2, and the probes of orchestrators.
 *
 * Promises: every request is answered, and none ends the process; limits hold before anything is allocated; `close` lets
 * the calls in flight end. With a certificate it does TLS, and nothing else.
 */
import { setMaxListeners } from "node:events";
import { createServer as createHttp1, type Server as Http1Server } from "node:http";
import { createServer as createHttp2, type Http2Server, type ServerHttp2Session } from "node:http2";
import { type AddressInfo, createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { createConnectRouter, type ConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import { Cluster } from "../../api/gen/cambium/v1/cluster_pb.js";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import { Health } from "../../api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { LogControl, Logger } from "../base/logger.js";
import { Access, type Caller } from "../identity/access.js";
import { HostNames } from "../identity/host-names.js";
import type { Identities } from "../identity/identities.js";
import { IdentityError } from "../identity/identity-error.js";
import type { Identity } from "../identity/role.js";
import { Registry } from "../metrics/registry.js";
import { ReadGate } from "../replication/read-gate.js";
import { AcknowledgedWrites } from "./acknowledged.js";
import { Adapter, type Admission } from "./adapter.js";
import { AuthorityCheck } from "./authority.js";
import { callGuard } from "./call-guard.js";
import { type ConnectionKey, type Origin, socketOf } from "./caller-connection.js";
import { CallLog } from "./call-log.js";
import { clusterHandlers } from "./cluster-handlers.js";
import { COMPRESS_BYTES_MIN, compressions } from "./compression.js";
import { type ConnectionMetrics, connectionMetrics } from "./connection-metrics.js";
import { Cors } from "./cors.js";
import { Doorway } from "./doorway.js";
import { ErrorMap } from "./errors.js";
import { FastCalls } from "./fast-calls.js";
import { FreshReads } from "./fresh-reads.js";
import { healthHandlers } from "./health-handlers.js";
import { Http2Sessions } from "./http2-sessions.js";
import { serverOptionsOf } from "./http2-settings.js";
import { JsonBytes, jsonOptionsWith } from "./json-bytes.js";
import { kvHandlers } from "./kv-handlers.js";
import { logHandlers } from "./log-handlers.js";
import { LargeAnswers } from "./large-answers.js";
import { type Limits, PEER_MESSAGE_BYTES_MAX, PEER_QUESTION_BYTES_MAX } from "./limits.js";
import { RpcListenError } from "./listen-error.js";
import { methodName } from "./method-name.js";
import type { RpcBackups, RpcRecords, RpcReplicator, RpcStore, RpcWatches } from "./ports.js";
import { audiences } from "./method-table.js";
import { PushedCalls } from "./peer-pushed.js";
import type { PeerTls } from "./peer-session.js";
import { ProtocolSniffer } from "./protocol-sniffer.js";
import { OpenSockets } from "./open-sockets.js";
import { Readiness } from "./readiness.js";
import { RequestEntry } from "./request-entry.js";
import { Reflection } from "./reflection-handlers.js";
import { replicationHandlers } from "./replication-handlers.js";
import { NodeClosingError } from "./request-error.js";
import { BatchCounts } from "./batch-counts.js";
import { answerBrokenRequest, refuseTunnel } from "./broken-request.js";
import { ScanEncoder } from "./scan-encoder.js";
import { SlowCalls } from "./slow-calls.js";
import { useNodeTextEncoding } from "./text-encoding.js";
import { certificateNamesOf, type ClientAuth, TlsFront, type TlsMaterial } from "./tls.js";
import {
  defaultServerLimits,
  PEER_CONNECTIONS_MAX,
  PEER_CONNECTIONS_PER_ADDRESS_MAX,
  type ServerLimits,
} from "./server-limits.js";
import { Turns } from "./turns.js";
import { UnderWay } from "./under-way.js";
import { WatchEncoder } from "./watch-encoder.js";
import { WriteForwarder } from "./write-forwarder.js";

export type { Limits } from "./limits.js";
export type { ServerLimits } from "./server-limits.js";
export type { ClientAuth, TlsMaterial } from "./tls.js";
export type { PeerTls } from "./peer-session.js";
export { RpcListenError, type RpcListenErrorCode } from "./listen-error.js";

/** How long a new connection may take to say anything: a caller whose process is busy connects long before it sends. */
const SNIFF_TIMEOUT_MS = 10_000;
/** How often the timeouts of HTTP/1.1 are looked at. */
const CHECK_INTERVAL_MS = 1000;
/** How often the log says so. */
const DROPPED_INTERVAL_MS = 60_000;
/** How long an answer may stand still on its way while the node drains. */
const LINGER_MS = 1000;
/** Silence after which the kernel asks whether the other end is still there. */
const TCP_KEEP_ALIVE_MS = 30_000;

export interface RpcServerOptions {
  readonly store: RpcStore;
  /** The same store, as far as its record log goes. */
  readonly records: RpcRecords;
  /** Of the same store. */
  readonly watches: RpcWatches;
  /** The same store, as far as it can be put aside. */
  readonly backups: RpcBackups;
  readonly replicator: RpcReplicator;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the program, for `Cluster.Status`. */
  readonly version: string;
  /** Where to listen; never more than this. */
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** `host:port` at which others reach this node. */
  readonly advertisedAddress: () => string;
  readonly limits: Limits;
  /** What differs from the defaults. */
  readonly serverLimits?: Partial<ServerLimits>;
  /** Origins of web pages that may call; `*` for all. */
  readonly corsOrigins: readonly string[];
  /** Names by which this node may be called, beside its own; when there are any, nobody may call it by another one. */
  readonly allowedHosts: readonly string[];
  /** Callers from other machines are refused, peers excepted. */
  readonly protectedMode: boolean;
  readonly clusterSecret?: Uint8Array;
  /** Those whom the node knows; absent: protected mode, or its absence, says who may call. */
  readonly identities?: Identities;
  /** Absent: no TLS. */
  readonly tls?: { readonly material: TlsMaterial; readonly clientAuth: ClientAuth };
  /** How this node calls others; absent: without TLS. */
  readonly peerTls?: PeerTls;
  /** A listener for other nodes alone, where whoever has a certificate of the authority is one; absent: they call at `port`. */
  readonly peerListener?: { readonly host: string; readonly port: number; readonly material: Required<TlsMaterial> };
  /** Whether the calls that are made most are carried out without the protocol library, where they can be. */
  readonly fastPath: boolean;
  /** How long a write may take before its caller is told that its outcome is unknown. */
  readonly writeTimeoutMs: number;
  /** How long a read may wait until this node is as fresh as it asks for. */
  readonly maxReadWaitMs: number;
  /** Whether a replica passes writes on to its master. */
  readonly forwardWrites: boolean;
  /** Staleness above which the node is not ready; 0: none. */
  readonly readyMaxStalenessMs: number;
  /** How long `close` waits for calls in flight. */
  readonly drainTimeoutMs: number;
  /** What `/metrics` tells; the server adds what it counts itself. Absent: that alone. */
  readonly registry?: Registry;
  /** Of this program's log, for `Cluster.SetLogLevel`. */
  readonly logControl: LogControl;
  /** Calls that take longer are kept for `Cluster.SlowLog`; 0: none are. */
  readonly slowThresholdMs: number;
  /** Told of a failed assertion in a call. By default it is thrown where nothing catches it, which ends the process. */
  readonly onBug?: (error: Error) => void;
}

export class RpcServer {
  readonly #options: RpcServerOptions;
  readonly #readiness: Readiness;
  readonly #forwarder: WriteForwarder;
  readonly #shutdown = new AbortController();
  readonly #limits: ServerLimits;
  readonly #turns: Turns;
  readonly #calls: CallLog;
  readonly #underWay: UnderWay;
  readonly #adapter: Adapter;
  readonly #http1: Http1Server;
  readonly #http2: Http2Server;
  readonly #sniffer: ProtocolSniffer;
  /** With TLS only. */
  readonly #tls: TlsFront | undefined;
  readonly #peers: { readonly tls: TlsFront; readonly server: NetServer } | undefined;
  /** Of the listener for peers. */
  readonly #peerSessions = new WeakSet<object>();
  readonly #callerSockets: OpenSockets;
  readonly #peerSockets: OpenSockets;
  readonly #sessions: Http2Sessions;
  readonly #connectionMetrics: ConnectionMetrics;
  #hostNames: HostNames | undefined;
  #hasToldOfDropped = false;
  #closed: Promise<void> | undefined;

  private constructor(options: RpcServerOptions) {
    useNodeTextEncoding();
    this.#options = options;
    const limits = { ...defaultServerLimits, ...options.serverLimits };
    this.#limits = limits;
    this.#turns = new Turns(limits.unreadBytesMax);
    this.#sessions = new Http2Sessions(options.clock, limits);
    const { clock, replicator, writeTimeoutMs, clusterSecret, peerTls } = options;
    this.#readiness = new Readiness({ store: options.store, replicator, maxStalenessMs: options.readyMaxStalenessMs });
    this.#forwarder = new WriteForwarder({
      isEnabled: options.forwardWrites,
      replicator,
      clock,
      timeoutMs: writeTimeoutMs,
      ...(clusterSecret && { clusterSecret }),
      ...(peerTls && { tls: peerTls }),
    });
    // Every call in flight listens to it.
    setMaxListeners(0, this.#shutdown.signal);
    const { registry = new Registry() } = options;
    const closed = (socket: Socket): void => this.#connectionMetrics.closed(socket);
    this.#callerSockets = new OpenSockets(limits.connectionsPerAddressMax, closed);
    this.#peerSockets = new OpenSockets(PEER_CONNECTIONS_PER_ADDRESS_MAX, closed);
    this.#connectionMetrics = connectionMetrics(registry, [this.#callerSockets, this.#peerSockets], this.#sessions);
    registry.gauge({ name: "cambium_ready", help: "Whether /readyz says that this node is ready." }, () =>
      Number(this.#readiness.reason() === ""),
    );
    const reasons = registry.counters({
      name: "cambium_rpc_errors_total",
      help: "Errors that callers were told of, by what went wrong, where that has a name.",
      labels: ["reason"],
    });
    // Who watches for these must be able to see the first one.
    for (const reason of ["storage_full", "disk_full", "overloaded"]) reasons.with(reason);
    const count = (reason: string): void => reasons.with(reason).increment();
    const errors = new ErrorMap({
      count,
      logger: options.logger,
      masterAddress: () => replicator.masterAddress,
      onBug: options.onBug ?? throwLater,
    });
    const access = new Access({
      audiences,
      protectedMode: options.protectedMode,
      ...(clusterSecret && { clusterSecret }),
      ...(options.identities && { identities: options.identities }),
      hasPeerListener: options.peerListener !== undefined,
    });
    const slowCalls = new SlowCalls(options.slowThresholdMs);
    const reads = new FreshReads({
      store: options.store,
      replicator,
      gate: new ReadGate({ store: options.store, replicator, clock, maxWaitMs: options.maxReadWaitMs }),
    });
    const writes = new AcknowledgedWrites({ replicator, clock, timeoutMs: writeTimeoutMs });
    const batchCounts = new BatchCounts(registry);
    const router = this.#createRouter({ access, errors, slowCalls, reads, writes, batchCounts });
    this.#calls = new CallLog({
      methods: router.handlers.map(({ method }) => method),
      registry,
      clock,
      logger: options.logger,
      slowCalls,
    });
    const onOverload = (): void => count("overloaded");
    this.#underWay = new UnderWay({ clock, limits, onOverload });
    this.#adapter = new Adapter({
      handlers: router.handlers,
      cors: new Cors(options.corsOrigins),
      authorities: new AuthorityCheck({
        hostNames: () => this.#ownNames(),
        checksEveryHost: options.allowedHosts.length > 0,
      }),
      readiness: this.#readiness,
      clock,
      turns: this.#turns,
      underWay: this.#underWay,
      limits,
      calls: this.#calls,
      registry,
      messageBytesMax: options.limits.messageBytesMax,
      origin: (key) => this.#originOf(key),
      admit: (name, caller) => admissionOf(access, errors, name, caller),
      identityOf: (name, caller) => identityOf(access, name, caller),
      onOverload,
      logger: options.logger,
    });
    const { store, limits: messageLimits } = options;
    const fastCalls =
      options.fastPath &&
      new FastCalls({
        store,
        replicator,
        limits: messageLimits,
        reads,
        writes,
        access,
        batchCounts,
        calls: this.#calls,
        clock,
        adapter: this.#adapter,
        underWay: this.#underWay,
      });
    const pushedCalls =
      options.fastPath &&
      new PushedCalls({
        replicator,
        store,
        access,
        errors,
        calls: this.#calls,
        adapter: this.#adapter,
        underWay: this.#underWay,
        shutdown: this.#shutdown.signal,
      });
    const entry = new RequestEntry({
      adapter: this.#adapter,
      underWay: this.#underWay,
      ...(fastCalls && { fastCalls }),
      ...(pushedCalls && { pushedCalls }),
    });
    this.#http1 = createHttp1(
      {
        headersTimeout: limits.headersTimeoutMs,
        requestTimeout: limits.requestTimeoutMs,
        keepAliveTimeout: limits.idleTimeoutMs,
        connectionsCheckingInterval: CHECK_INTERVAL_MS,
        keepAlive: true,
        keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
        noDelay: true,
        // Node would refuse it without a word; the adapter says why.
        requireHostHeader: false,
      },
      entry.handle,
    );
    this.#limitConnections(this.#http1, limits.connectionsMax);
    // By default Node leaves out, without a word, headers beyond the first 2000; what a head may have is bounded in bytes.
    this.#http1.maxHeadersCount = 0;
    this.#http1.on("clientError", (error, socket) =>
      answerBrokenRequest(error, socket, this.#underWay.isAnswering(socket)),
    );
    // Node answers the one without a word, and the other not at all.
    this.#http1.on("checkExpectation", this.#adapter.refuseExpectation);
    this.#http1.on("connect", (_request, socket: Duplex) => refuseTunnel(socket, this.#underWay.isAnswering(socket)));
    this.#http2 = createHttp2(serverOptionsOf(limits.streamsMax));
    entry.serve(this.#http2);
    this.#http2.on("sessionError", (error) =>
      options.logger.debug("a connection of HTTP/2 failed", { error: error.message }),
    );
    // The server of HTTP/1.1 owns the port: with one of its own in front, its timeouts would never be looked at.
    const [acceptHttp1] = this.#http1.listeners("connection");
    assert(acceptHttp1, "a server of HTTP/1.1 takes connections");
    this.#http1.removeAllListeners("connection");
    this.#http1.on("connection", (socket) => this.#keepSocket(socket, this.#callerSockets, this.#tls));
    const doorway = new Doorway((socket) => this.#acceptHttp2(socket));
    this.#sniffer = new ProtocolSniffer({
      clock: options.clock,
      timeoutMs: SNIFF_TIMEOUT_MS,
      http1: (socket) => acceptHttp1.call(this.#http1, socket),
      http2: (socket) => doorway.come(socket),
    });
    const { tls, peerListener } = options;
    if (tls) {
      this.#tls = this.#frontOf(tls.material, tls.clientAuth, ["h2", "http/1.1"], (socket) => {
        if (socket.alpnProtocol === "h2") this.#acceptHttp2(socket);
        else acceptHttp1.call(this.#http1, socket);
      });
    }
    if (peerListener) {
      const front = this.#frontOf(peerListener.material, "required", ["h2"], (socket) => this.#acceptPeer(socket));
      const server = createNetServer((socket) => this.#keepSocket(socket, this.#peerSockets, front));
      this.#limitConnections(server, PEER_CONNECTIONS_MAX);
      this.#peers = { tls: front, server };
    }
  }

  /** From now on these are shown, and asked for. Throws what OpenSSL finds wrong with them, and keeps what there was. */
  renewTls({
    port,
    peers,
  }: {
    readonly port?: TlsMaterial | undefined;
    readonly peers?: TlsMaterial | undefined;
  }): void {
    if (port) this.#tls?.renew(port);
    if (peers) this.#peers?.tls.renew(peers);
  }

  #frontOf(
    material: TlsMaterial,
    clientAuth: ClientAuth,
    protocols: readonly string[],
    accept: (socket: TLSSocket) => void,
  ): TlsFront {
    return new TlsFront({
      material,
      clientAuth,
      protocols,
      handshakeTimeoutMs: this.#limits.handshakeTimeoutMs,
      accept: (socket) => {
        if (this.#readiness.isDraining) socket.destroy();
        else accept(socket);
      },
      failed: (error) => this.#options.logger.debug("a handshake of TLS failed", { error: error.message }),
      refused: (refusal) => {
        this.#options.logger.debug("a certificate was refused", { ...refusal });
        this.#calls.refusedHandshake(refusal);
      },
    });
  }

  #acceptHttp2(socket: Socket): void {
    // Or else a caller that ends its half would keep the connection.
    socket.allowHalfOpen = false;
    const keep = (session: ServerHttp2Session): void => this.#sessions.keep(session, socket);
    // The session is made, and told of, in this very call.
    this.#http2.once("session", keep);
    this.#http2.emit("connection", socket);
    this.#http2.off("session", keep);
  }

  #acceptPeer(socket: TLSSocket): void {
    const mark = (session: ServerHttp2Session): void => void this.#peerSessions.add(session);
    // The session is made, and told of, in this very call.
    this.#http2.prependOnceListener("session", mark);
    this.#acceptHttp2(socket);
    this.#http2.off("session", mark);
  }

  /** Found out once a connection. */
  #originOf(key: ConnectionKey): Origin {
    const socket = socketOf(key);
    return {
      address: socket?.remoteAddress,
      certificateNames: socket && certificateNamesOf(socket as Partial<TLSSocket>),
      isAtPeerListener: this.#peerSessions.has(key),
    };
  }

  /** Listens and serves once it resolves. Rejects with `RpcListenError`. */
  static async listen(options: RpcServerOptions): Promise<RpcServer> {
    const server = new RpcServer(options);
    await server.#listen();
    try {
      await server.#listenForPeers();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#http1.address() as AddressInfo | null;
    assert(address, "the server listens");
    return address.port;
  }

  /**
   * Drains: from now on the node is not ready, takes no connection, and ends calls that only wait. Resolves when the
   * other calls have been answered, or broken off after `drainTimeoutMs`, and every connection is closed; one whose other
   * end takes nothing any more is not waited for when all have their answers. Idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#drain();
    return this.#closed;
  }

  async #drain(): Promise<void> {
    const { clock, logger, drainTimeoutMs } = this.#options;
    this.#readiness.drain();
    this.#adapter.announceEnd();
    const closed = new Promise<void>((resolve) => {
      this.#http1.close(() => resolve());
    });
    const peersClosed = new Promise<void>((resolve) => {
      if (this.#peers) this.#peers.server.close(() => resolve());
      else resolve();
    });
    this.#sniffer.close();
    this.#http1.closeIdleConnections();
    this.#sessions.drain();
    this.#shutdown.abort(new NodeClosingError());
    const deadline = clock.after(drainTimeoutMs, () => {
      logger.warn("calls in flight are broken off", {
        connections: this.#openCount,
        drain_timeout_ms: drainTimeoutMs,
      });
      this.#breakOff();
    });
    const lingering = this.#breakOffOnceSilent();
    await closed;
    await peersClosed;
    deadline.cancel();
    lingering.cancel();
    await this.#forwarder.close();
    this.#calls.close();
  }

  /** Ends the connections once every call has its answer and nothing of that moves any more. */
  #breakOffOnceSilent(): { cancel(): void } {
    const { clock, logger } = this.#options;
    let leftBytes = Number.POSITIVE_INFINITY;
    const look = (): void => {
      const { isIdle, unsentBytes } = this.#underWay;
      if (isIdle && (unsentBytes === 0 || unsentBytes >= leftBytes)) {
        logger.debug("connections whose other end is silent are closed", { connections: this.#openCount });
        this.#breakOff();
        return;
      }
      leftBytes = isIdle ? unsentBytes : Number.POSITIVE_INFINITY;
      timer = clock.after(LINGER_MS, look);
    };
    let timer = clock.after(LINGER_MS, look);
    return { cancel: () => timer.cancel() };
  }

  #breakOff(): void {
    this.#sessions.breakOff();
    for (const sockets of [this.#callerSockets, this.#peerSockets]) {
      for (const socket of sockets) socket.destroy();
    }
  }

  get #openCount(): number {
    return this.#callerSockets.size + this.#peerSockets.size;
  }

  #listen(): Promise<void> {
    const { host, port, logger } = this.#options;
    return new Promise((resolve, reject) => {
      const refuse = (error: NodeJS.ErrnoException): void => reject(RpcListenError.from(error, host, port));
      this.#http1.once("error", refuse);
      this.#http1.listen({ host, port }, () => {
        this.#http1.off("error", refuse);
        this.#http1.on("error", (error) => logger.error("the listening socket failed", { error: error.message }));
        resolve();
      });
    });
  }

  #listenForPeers(): Promise<void> {
    const { peerListener, logger } = this.#options;
    const server = this.#peers?.server;
    if (!peerListener || !server) return Promise.resolve();
    const { host, port } = peerListener;
    return new Promise((resolve, reject) => {
      const refuse = (error: NodeJS.ErrnoException): void => reject(RpcListenError.from(error, host, port));
      server.once("error", refuse);
      server.listen({ host, port }, () => {
        server.off("error", refuse);
        server.on("error", (error) => logger.error("the listener for nodes failed", { error: error.message }));
        resolve();
      });
    });
  }

  #createRouter({
    access,
    errors,
    slowCalls,
    reads,
    writes,
    batchCounts,
  }: {
    readonly access: Access;
    readonly errors: ErrorMap;
    readonly slowCalls: SlowCalls;
    readonly reads: FreshReads;
    readonly writes: AcknowledgedWrites;
    readonly batchCounts: BatchCounts;
  }): ConnectRouter {
    const { store, records, watches, backups, replicator, clock, limits, version, advertisedAddress } = this.#options;
    const jsonBytes = new JsonBytes();
    const jsonOptions = jsonOptionsWith(jsonBytes);
    const router = createConnectRouter({
      acceptCompression: compressions,
      compressMinBytes: COMPRESS_BYTES_MIN,
      readMaxBytes: limits.messageBytesMax,
      // Handlers hold their answers to the limit, which is one of the encoded message. This bounds what JSON makes of
      // it, and a page of updates whose only record is larger by itself.
      writeMaxBytes: 4 * limits.messageBytesMax,
      jsonOptions,
      interceptors: [callGuard({ access, errors, jsonBytes })],
      shutdownSignal: this.#shutdown.signal,
    });
    const forwarder = this.#forwarder;
    const large = new LargeAnswers({ turns: this.#turns, reads });
    const encoder = new WatchEncoder({ jsonBytes, jsonOptions });
    const scanEncoder = new ScanEncoder({ jsonBytes, jsonOptions });
    const rooms = { store, replicator, watches };
    const guarding = { access, errors, clock, batchCounts };
    router.service(
      KVStore,
      kvHandlers({ ...rooms, ...guarding, limits, reads, large, writes, forwarder, encoder, scanEncoder }),
    );
    router.service(Log, logHandlers({ store: records, limits, reads, large, writes, forwarder }));
    router.service(
      Cluster,
      clusterHandlers({
        store,
        backups,
        replicator,
        watches,
        readiness: this.#readiness,
        clock,
        version,
        advertisedAddress,
        logControl: this.#options.logControl,
        slowCalls,
      }),
    );
    routeReplication(router, replicationHandlers({ replicator, logger: this.#options.logger }));
    const served = [KVStore, Log, Cluster, Replication];
    const services = served.map(({ typeName }) => typeName);
    router.service(Health, healthHandlers({ readiness: this.#readiness, clock, services }));
    const described = [...served, Health, ServerReflection, ServerReflectionAlpha];
    const reflection = new Reflection(
      described.map(({ file }) => file),
      described.map(({ typeName }) => typeName),
    );
    router.service(ServerReflection, reflection);
    router.service(ServerReflectionAlpha, reflection);
    const unlisted = access.unlisted(router.handlers.map(({ method }) => methodName(method)));
    assert(unlisted.length === 0, `the access table says nothing about ${unlisted.join(", ")}`);
    return router;
  }

  #tellOfDropped(limit: Readonly<Record<string, string | number>>): void {
    this.#connectionMetrics.dropped();
    const { clock, logger } = this.#options;
    if (this.#hasToldOfDropped) return;
    this.#hasToldOfDropped = true;
    clock.after(DROPPED_INTERVAL_MS, () => (this.#hasToldOfDropped = false));
    logger.warn("too many connections: new ones are cut off", limit);
  }

  #limitConnections(server: NetServer, max: number): void {
    server.maxConnections = max;
    server.on("drop", () => this.#tellOfDropped({ connections_max: max }));
  }

  /** From here on it counts: while nothing of it is known yet, and while its handshake goes on, as much as later. */
  #keepSocket(socket: Socket, open: OpenSockets, tls: TlsFront | undefined): void {
    if (!open.add(socket)) {
      this.#tellOfDropped({ address: socket.remoteAddress ?? "", connections_per_address_max: open.perAddressMax });
      socket.on("error", () => undefined);
      socket.destroy();
      return;
    }
    this.#connectionMetrics.accepted();
    if (tls) tls.handshake(socket);
    else this.#sniffer.sniff(socket);
  }

  #ownNames(): HostNames {
    const { host, advertisedAddress, corsOrigins, allowedHosts } = this.#options;
    this.#hostNames ??= new HostNames([host, advertisedAddress(), ...corsOrigins, ...allowedHosts]);
    return this.#hostNames;
  }
}

function routeReplication(router: ConnectRouter, handlers: ServiceImpl<typeof Replication>): void {
  const { push, register, survey, requestPromise, readIndex } = Replication.method;
  // Between nodes the network is fast, and records do not shrink enough to be worth compressing.
  const options = { acceptCompression: [], writeMaxBytes: PEER_MESSAGE_BYTES_MAX };
  router.rpc(push, handlers.push, { ...options, readMaxBytes: PEER_MESSAGE_BYTES_MAX });
  const question = { ...options, readMaxBytes: PEER_QUESTION_BYTES_MAX };
  router.rpc(register, handlers.register, question);
  router.rpc(survey, handlers.survey, question);
  router.rpc(requestPromise, handlers.requestPromise, question);
  router.rpc(readIndex, handlers.readIndex, question);
}

/** Who calls a method, or asks for a page, or why it may not, as it is told. */
function admissionOf(access: Access, errors: ErrorMap, name: string, caller: Caller): Admission {
  try {
    return { identity: access.admit(name, caller) };
  } catch (error) {
    return {
      refusal: errors.toConnectError(error, name),
      reason: error instanceof IdentityError ? error : undefined,
    };
  }
}

function identityOf(access: Access, name: string, caller: Caller): Identity | undefined {
  try {
    return access.admit(name, caller);
  } catch (error) {
    if (error instanceof IdentityError) return undefined;
    throw error;
  }
}

/** Where the process ends, after the caller has been answered. */
function throwLater(error: Error): void {
  setImmediate(() => {
    throw error;
  });
}
