/**
 * A node without a process and without a socket: the real store over a file system in memory, replication as its cluster's only
 * voter, watches, and the handlers of the API, all on a clock that the test turns. The client reaches it through the protocol
 * library's transport in memory, which encodes and decodes every message as a socket would carry it.
 */
import { setMaxListeners } from "node:events";
import { Code, ConnectError, createRouterTransport, type Interceptor, type Transport } from "@connectrpc/connect";
import type { NodeTransport } from "../../api/client/node.js";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { FakeClock } from "../../internal/base/clock.js";
import { silentLogger } from "../../internal/base/logger.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import { Access } from "../../internal/identity/access.js";
import { Registry } from "../../internal/metrics/registry.js";
import { ReadGate } from "../../internal/replication/read-gate.js";
import { Replicator } from "../../internal/replication/replicator.js";
import { MemoryNetwork } from "../../internal/replication/testing/memory-network.js";
import { AcknowledgedWrites } from "../../internal/rpc/acknowledged.js";
import { BatchCounts } from "../../internal/rpc/batch-counts.js";
import { identityKey } from "../../internal/rpc/adapter.js";
import { callGuard } from "../../internal/rpc/call-guard.js";
import { methodName } from "../../internal/rpc/method-name.js";
import { audiences } from "../../internal/rpc/method-table.js";
import { ErrorMap } from "../../internal/rpc/errors.js";
import { FreshReads } from "../../internal/rpc/fresh-reads.js";
import { JsonBytes, jsonOptionsWith } from "../../internal/rpc/json-bytes.js";
import { kvHandlers } from "../../internal/rpc/kv-handlers.js";
import { LargeAnswers } from "../../internal/rpc/large-answers.js";
import { NodeClosingError } from "../../internal/rpc/request-error.js";
import { ScanEncoder } from "../../internal/rpc/scan-encoder.js";
import { Turns } from "../../internal/rpc/turns.js";
import { WatchEncoder } from "../../internal/rpc/watch-encoder.js";
import { WriteForwarder } from "../../internal/rpc/write-forwarder.js";
import { Store } from "../../internal/store/store.js";
import { seededRandom } from "../../internal/store/testing/stores.js";
import { MemoryFileSystem } from "../../internal/wal/memory-file-system.js";
import { WatchHub } from "../../internal/watch/watch-hub.js";

const ADDRESS = "127.0.0.1:1";
const WRITE_TIMEOUT_MS = 10_000;
const UNREAD_BYTES_MAX = 1 << 24;
const LIMITS = { keyBytesMax: 4096, valueBytesMax: 1 << 20, messageBytesMax: 4 << 20 };

interface Rooms {
  readonly store: Store;
  readonly transport: Transport;
  readonly close: () => Promise<void>;
}

export class Service {
  readonly #clock: FakeClock;
  readonly #bugs: Error[] = [];
  #disk = new MemoryFileSystem();
  #random = 1;
  #rooms: Rooms | undefined;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  get store(): Store {
    if (!this.#rooms) throw new Error("the service does not run");
    return this.#rooms.store;
  }

  /** How the client reaches it, also after it was started again. */
  readonly transport = (): NodeTransport => {
    const running = (): Transport => {
      if (!this.#rooms) throw new ConnectError("nothing listens", Code.Unavailable);
      return this.#rooms.transport;
    };
    return {
      transport: {
        unary: async (...call) => running().unary(...call),
        stream: async (...call) => running().stream(...call),
      },
      isBinary: true,
    };
  };

  /** Serves once it resolves. */
  async start(): Promise<void> {
    const clock = this.#clock;
    const random = seededRandom(this.#random++);
    const store = await Store.open({
      fileSystem: this.#disk,
      clock,
      random,
      logger: silentLogger,
      engine: new SlabEngine(),
      initialRole: "master",
      durability: "always",
      syncIntervalMs: 1000,
      segmentBytesMax: 4096,
      pendingBytesMax: 1 << 20,
      snapshots: { intervalMs: 0, logBytes: Infinity, keep: 1 },
      retainedBytesMax: 1 << 30,
    });
    const replicator = new Replicator({
      store,
      network: new MemoryNetwork().as(ADDRESS),
      clock,
      random,
      logger: silentLogger,
      address: () => ADDRESS,
      listedReplicas: [],
      heartbeatIntervalMs: 1000,
      batchBytes: 1 << 20,
      windowBytes: 1 << 20,
      restart: () => this.#bugs.push(new Error("a sole master has nobody's state to take over")),
    });
    const hub = new WatchHub({ store, clock, limits: { watchesMax: 1000 } });
    const shutdown = new AbortController();
    // Every call in flight listens to it.
    setMaxListeners(0, shutdown.signal);
    await replicator.start();
    const close = async (): Promise<void> => {
      this.#rooms = undefined;
      const watchesEnded = hub.close();
      shutdown.abort(new NodeClosingError());
      await watchesEnded;
      await replicator.close();
      await store.close();
    };
    this.#rooms = { store, transport: this.#transportOf(store, replicator, hub, shutdown.signal), close };
  }

  async stop(): Promise<void> {
    await this.#rooms?.close();
    const [bug] = this.#bugs;
    if (bug) throw bug;
  }

  /** Ends it as a loss of power does: what was not forced to the disk is gone. */
  async crash(): Promise<void> {
    const disk = this.#disk.crash();
    await this.stop();
    this.#disk = disk;
  }

  #transportOf(store: Store, replicator: Replicator, watches: WatchHub, shutdownSignal: AbortSignal): Transport {
    const clock = this.#clock;
    const errors = new ErrorMap({
      logger: silentLogger,
      masterAddress: () => replicator.masterAddress,
      onBug: (error) => this.#bugs.push(error),
    });
    const jsonBytes = new JsonBytes();
    const encoding = { jsonBytes, jsonOptions: jsonOptionsWith(jsonBytes) };
    const gate = new ReadGate({ store, replicator, clock, maxWaitMs: 5000 });
    const reads = new FreshReads({ store, replicator, gate });
    const turns = new Turns(UNREAD_BYTES_MAX);
    const access = new Access({ audiences, protectedMode: false });
    const handlers = kvHandlers({
      store,
      clock,
      access,
      batchCounts: new BatchCounts(new Registry()),
      replicator,
      watches,
      limits: LIMITS,
      reads,
      large: new LargeAnswers({ turns, reads }),
      writes: new AcknowledgedWrites({ replicator, clock, timeoutMs: WRITE_TIMEOUT_MS }),
      forwarder: new WriteForwarder({ isEnabled: false, replicator, clock, timeoutMs: WRITE_TIMEOUT_MS }),
      encoder: new WatchEncoder(encoding),
      scanEncoder: new ScanEncoder(encoding),
      errors,
    });
    // The adapter does it where there is a socket.
    const admit: Interceptor = (next) => (request) => {
      const here = { address: "127.0.0.1", authorization: undefined };
      request.contextValues.set(identityKey, access.admit(methodName(request.method), here));
      return next(request);
    };
    return createRouterTransport((router) => void router.service(KVStore, handlers), {
      router: { shutdownSignal, interceptors: [admit, callGuard({ access, errors, jsonBytes })] },
    });
  }
}
