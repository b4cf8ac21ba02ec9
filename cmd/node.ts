/**
 * A server program: flags → config → construct → run → drain. Master and replica are the same node; which program was
 * started decides only what an empty data directory becomes, and a node changes its role while it runs.
 *
 * Exit codes: 0 after a clean shutdown, also one before the node had started, 1 when the node could not start or run, 2 for
 * bad flags or configuration.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { Command, CommanderError, Option } from "commander";
import { must } from "../internal/base/assert.js";
import { formatAddress } from "../internal/base/address.js";
import { SystemClock } from "../internal/base/clock.js";
import type { RandomSource } from "../internal/base/ids.js";
import { AUDIT, type Logger } from "../internal/base/logger.js";
import {
  addressOf,
  cautions,
  ConfigError,
  loadConfig,
  type NodeConfig,
  type NodeKind,
  printConfig,
} from "../internal/config/config.js";
import { WatchHub } from "../internal/watch/watch-hub.js";
import { SlabEngine } from "../internal/engine/slab-engine.js";
import { protectedModeWarning } from "../internal/identity/access.js";
import { Registry } from "../internal/metrics/registry.js";
import { RetentionLoop } from "../internal/records/retention-loop.js";
import { Replicator } from "../internal/replication/replicator.js";
import { ConnectPeerNetwork } from "../internal/rpc/peer-network.js";
import { type PeerTls, RpcServer } from "../internal/rpc/server.js";
import { type StorageLimits, Store } from "../internal/store/store.js";
import { NodeFileSystem } from "../internal/wal/node-file-system.js";
import { CredentialError, Credentials, type Renewable } from "./credentials.js";
import { dataDirectoryWarning, makeDataDirectory } from "./data-directory.js";
import type { LeaveSignal, LeaveSignals } from "./leave-signals.js";
import { createLogger, type ProgramLogger } from "./logger.js";
import { addNodeMetrics, storeObserver } from "./node-metrics.js";
import { processMetrics } from "./process-metrics.js";
import { VERSION } from "./version.js";

/** Another one after each boot of the machine; on Linux only. */
const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";

/**
 * By how much of what lives in it V8's heap may grow until it is collected as a whole. Left alone it is collected after each few tens of
 * megabytes of buffers, however little lives in it, and a master that sends its log, or a replica that takes it, spends a third to a
 * half of its time on that. The entries do not count: they lie outside of the heap.
 */
const HEAP_GROWTH_PERCENT = 300;

/** Some hundred deletions, or starts, on a full disk. */
const RESERVE_BYTES = 256 * 1024;

interface Flags {
  readonly config: string;
  readonly checkConfig?: true;
  readonly printConfig?: true;
  readonly recover?: "truncate-tail";
  readonly untilStdinEnds?: true;
}

/** Runs until a signal ends it, and then ends the process. */
export async function runServer(program: { kind: NodeKind; program: string; signals: LeaveSignals }): Promise<void> {
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`);
  const flags = parseFlags(program);
  const config = readConfig(program, flags);
  const credentials = readCredentials(program, config);
  if (flags.checkConfig) {
    process.stdout.write(`${flags.config}: valid\n`);
    return;
  }
  if (flags.printConfig) {
    process.stdout.write(printConfig(config));
    return;
  }
  const logger = createLogger(config.log);
  const die = (error: unknown): never => {
    process.stderr.write(`${program.program}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  };
  process.on("uncaughtException", (error) => {
    // A bug. State may be broken, so nothing more is written: the next start recovers what was kept.
    logger.error("bug: the node stops", { error: error.stack ?? String(error) });
    process.exit(1);
  });
  const node = new RunningNode({
    config,
    kind: program.kind,
    logger,
    credentials,
    processMetrics: processMetrics(),
    ...(flags.recover && { recover: flags.recover }),
  });
  drainOnSignals(node, program.signals, logger, config.server.drainTimeoutMs);
  // A node that has nothing to read again goes with its terminal, as any other program does.
  if (credentials.hasFiles) process.on("SIGHUP", () => node.reload());
  if (flags.untilStdinEnds) program.signals.watchStdin();
  try {
    await node.start();
  } catch (error) {
    // Asked to leave meanwhile, it does not start any more; the drain ends the process.
    if (!node.isClosing) die(error);
  }
}

export interface NodeOptions {
  readonly config: NodeConfig;
  readonly kind: NodeKind;
  readonly logger: ProgramLogger;
  readonly credentials: Credentials;
  /** What the process tells of itself, for the node to tell. */
  readonly processMetrics: Registry;
  readonly recover?: "truncate-tail";
}

/**
 * A node, whatever its role. Where it takes over a state that its master has sent, or sets aside data that proved wrong, all
 * its rooms are built anew, at the same address; should that fail, the process ends.
 */
export class RunningNode {
  readonly #options: NodeOptions;
  readonly #closing = new AbortController();
  #port: number;
  /** The rooms, once they are built; absent once they are closed for good. */
  #running: Promise<Rooms | undefined> = Promise.resolve(undefined);

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#port = options.config.server.port;
  }

  get isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Reads again what the node knows others by. */
  reload(): void {
    const { credentials, logger } = this.#options;
    // A start that is under way takes what is read by then, or is renewed after it.
    this.#running.then(
      (rooms) => credentials.reload(logger, rooms),
      () => undefined,
    );
  }

  /** When it resolves, the node serves. Rejects when it cannot, and when it is closed meanwhile. */
  async start(): Promise<void> {
    this.#running = this.#build();
    await this.#running;
  }

  /** Answers what is in flight, writes the log's clean mark, and gives everything back. Ends a start that is under way. */
  async close(): Promise<void> {
    this.#closing.abort(new StartInterrupted());
    let rooms: Rooms | undefined;
    try {
      rooms = await this.#running;
    } catch {
      // It had not started, or could not be started anew, which has been told; there is nothing left to give back.
    }
    await rooms?.close();
  }

  async #build(): Promise<Rooms> {
    const rooms = await buildRooms({
      ...this.#options,
      port: this.#port,
      restart: () => this.#restart(),
      closing: this.#closing.signal,
    });
    this.#port = rooms.port;
    return rooms;
  }

  #restart(): void {
    this.#running = this.#running.then(async (rooms) => {
      if (this.isClosing) return rooms;
      await rooms?.close();
      return this.isClosing ? undefined : this.#build();
    });
    this.#running.catch((error: unknown) => {
      if (this.isClosing) return;
      this.#options.logger.error("the node could not be started anew; it stops", { error: String(error) });
      process.exit(1);
    });
  }
}

/** Thrown by a start that was overtaken by `close`. */
class StartInterrupted extends Error {
  override readonly name = "StartInterrupted";

  constructor() {
    super("the node was asked to leave before it had started");
  }
}

interface Rooms extends Renewable {
  readonly port: number;
  close(): Promise<void>;
}

/** Builds a node out of its rooms. */
async function buildRooms(
  options: NodeOptions & { readonly port: number; readonly restart: () => void; readonly closing: AbortSignal },
): Promise<Rooms> {
  const { config, kind, logger, credentials, restart, closing } = options;
  closing.throwIfAborted();
  const clock = new SystemClock();
  // What is counted begins anew with the rooms, as at a start.
  const registry = new Registry(options.processMetrics);
  const random: RandomSource = { bytes: (length) => new Uint8Array(randomBytes(length)) };
  for (const sentence of [...cautions(config), ...credentials.cautions()]) logger.warn(sentence);
  const exposed = credentials.identities ? undefined : protectedModeWarning(config.server);
  if (exposed !== undefined) logger.warn(exposed);
  const openToOthers = dataDirectoryWarning(config.wal.directory);
  if (openToOthers !== undefined) logger.warn(openToOthers);
  await makeDataDirectory(config.wal.directory);

  const store = await Store.open({
    fileSystem: new NodeFileSystem(config.wal.directory),
    clock,
    random,
    logger,
    engine: new SlabEngine({ isOrdered: config.storage.isOrdered }),
    initialRole: kind,
    durability: config.wal.durability,
    syncIntervalMs: config.wal.syncIntervalMs,
    segmentBytesMax: config.wal.segmentBytesMax,
    recordSegmentBytesMax: config.records.segmentBytesMax,
    pendingBytesMax: config.limits.pendingBytesMax,
    retries: config.retries,
    snapshots: config.snapshots,
    retainedBytesMax: config.replication.retainedBytesMax,
    historyBytes: config.wal.historyBytes,
    reserveBytes: RESERVE_BYTES,
    ...(config.clock.jumpMsMax !== undefined && { clockJumpMsMax: config.clock.jumpMsMax }),
    ...bootIdOfMachine(),
    ...(options.recover && { recover: options.recover }),
    observer: storeObserver(registry, clock),
  });
  if (store.role !== kind) {
    logger.warn("the data directory decides the role, not the program", { program: kind, role: store.role });
  }
  store.listen({
    failed: (error) => {
      // What the page cache holds can no longer be believed: leave at once, without a clean mark.
      logger.error("the disk failed; the node stops and acknowledges nothing more", { error: error.message });
      process.exit(1);
    },
  });

  const secret = config.cluster.secret && { clusterSecret: config.cluster.secret };
  const peerTls = peerTlsOf(config, credentials);
  const network = new ConnectPeerNetwork({ logger, ...secret, ...(peerTls && { tls: peerTls }) });
  let server: RpcServer | undefined;
  const advertised = (): string => config.server.advertise ?? addressOf(config.server.host, server?.port ?? 0);
  const replicator = new Replicator({
    store,
    network,
    clock,
    random,
    logger,
    // Known once the server listens, which is before the replicator starts.
    address: advertised,
    nodes: config.cluster.nodes,
    commit: config.replication.commit,
    ...limitsOf(config),
    listedReplicas: config.replication.replicas,
    heartbeatIntervalMs: config.master?.heartbeatIntervalMs ?? config.replication.heartbeatIntervalMs,
    batchBytes: config.replication.batchBytes,
    windowBytes: config.replication.windowBytes,
    restart,
    ...(config.master?.address && { masterAddress: config.master.address }),
  });
  const retention = new RetentionLoop({
    clock,
    logger,
    limits: { ageMs: config.records.retentionAgeMs, bytesMax: config.records.retentionBytes },
    isMaster: () => store.isServingMaster,
    extents: () => store.recordExtents(),
    nowMs: () => store.masterTimeMs(),
    truncateBelow: (offset) => store.truncateRecords(offset),
  });
  const watches = new WatchHub({ store, clock, limits: { watchesMax: config.limits.watchesMax } });
  addNodeMetrics(registry, { store, replicator, watches, version: VERSION });
  auditChanges(store, logger);
  const closeRooms = async (): Promise<void> => {
    const retentionEnded = retention.close();
    await watches.close();
    await replicator.close();
    await network.close();
    await store.close();
    // Its last truncation ends with the store, if not before.
    await retentionEnded;
  };
  // A start may wait for other nodes; who is asked to leave meanwhile waits no longer.
  const leave = (): void => void replicator.close();
  closing.addEventListener("abort", leave, { once: true });
  try {
    closing.throwIfAborted();
    server = await RpcServer.listen({
      store,
      records: store,
      watches,
      backups: store,
      replicator,
      clock,
      logger,
      version: VERSION,
      host: config.server.host,
      port: options.port,
      advertisedAddress: advertised,
      limits: config.limits,
      serverLimits: config.limits,
      corsOrigins: config.server.corsOrigins,
      allowedHosts: config.server.allowedHosts,
      protectedMode: config.server.protectedMode,
      drainTimeoutMs: config.server.drainTimeoutMs,
      writeTimeoutMs: config.replication.writeTimeoutMs,
      maxReadWaitMs: config.limits.maxReadWaitMs,
      fastPath: config.server.fastPath,
      forwardWrites: config.server.forwardWrites,
      readyMaxStalenessMs: config.server.readyMaxStalenessMs,
      ...(credentials.identities && { identities: credentials.identities }),
      ...(credentials.tls && { tls: { material: credentials.tls, clientAuth: config.tls?.clientAuth ?? "none" } }),
      ...(peerTls && { peerTls }),
      ...(config.replication.peers &&
        credentials.peers && {
          peerListener: {
            host: config.replication.peers.host,
            port: config.replication.peers.port,
            material: credentials.peers,
          },
        }),
      registry,
      logControl: logger,
      slowThresholdMs: config.log.slowThresholdMs,
      ...secret,
    });
    const address = formatAddress({ host: config.server.host, port: server.port });
    logger.info("listening", { address, role: store.role, node_id: store.nodeId, version: VERSION });
    closing.throwIfAborted();
    await replicator.start();
    closing.throwIfAborted();
    retention.start();
    const { applied, keys } = store.status();
    const waitsFor = replicator.notServing();
    // A master that has found a newer one is a replica by now, though it may still be writing that down.
    const role = store.isServingMaster || waitsFor !== "" ? "master" : "replica";
    const unserved = waitsFor !== "" && { not_serving: waitsFor };
    logger.info("started", { role, ...unserved, epoch: applied.epoch, seq: applied.seq, keys });
    const listening = server;
    return {
      port: listening.port,
      renewTls: (materials) => listening.renewTls(materials),
      close: async () => {
        // Streams that follow the log have no end of their own for a drain to wait for.
        const watchesEnded = watches.close();
        await listening.close();
        await watchesEnded;
        await closeRooms();
      },
    };
  } catch (error) {
    await server?.close();
    await closeRooms();
    throw closing.aborted ? closing.reason : error;
  } finally {
    closing.removeEventListener("abort", leave);
  }
}

/** Says who belongs to the cluster and how it is set, whenever that changes, whoever has asked for it. */
function auditChanges(store: Store, logger: Logger): void {
  store.listen({
    membersChanged: () => {
      const members = store.members.filter(({ removed }) => !removed);
      const named = members.map(({ nodeId, address, voter }) => `${nodeId} ${address}${voter ? " voter" : ""}`);
      logger.info("the members are", { ...AUDIT, seq: store.appliedSeq, members: named.join(", ") });
    },
    settingsChanged: () => {
      const { commit, voters, limits } = store.settings;
      logger.info("the replicated settings are", {
        ...AUDIT,
        seq: store.appliedSeq,
        commit,
        voters,
        max_entries: limits?.entriesMax,
        max_bytes: limits?.bytesMax,
        eviction_policy: limits?.policy,
      });
    },
  });
}

function drainOnSignals(node: RunningNode, signals: LeaveSignals, logger: Logger, drainTimeoutMs: number): void {
  let drainingSinceMs: number | undefined;
  signals.listen((signal: LeaveSignal) => {
    const nowMs = performance.now();
    // npm passes a ctrl-C on that the terminal has given to the whole group already: one keystroke, two signals.
    if (drainingSinceMs !== undefined && nowMs - drainingSinceMs < SAME_KEYSTROKE_MS) return;
    if (drainingSinceMs !== undefined) {
      // The end of standard input asks once; who is gone does not insist.
      if (signal === "stdin") return;
      logger.warn("second signal: leaving at once", { signal });
      process.exit(1);
    }
    drainingSinceMs = nowMs;
    logger.info("draining", { signal });
    // Beyond the calls in flight there is the log's last sync to wait for.
    setTimeout(() => {
      logger.error("draining took too long; leaving at once", { drain_timeout_ms: drainTimeoutMs });
      process.exit(1);
    }, drainTimeoutMs + 5000).unref();
    node.close().then(
      () => {
        logger.info("stopped");
        process.exit(0);
      },
      (error: unknown) => {
        logger.error("the node did not stop cleanly", { error: String(error) });
        process.exit(1);
      },
    );
  });
}

function parseFlags(program: { kind: NodeKind; program: string }): Flags {
  const command = new Command(program.program)
    .description(
      `Runs a Cambium ${program.kind}. Every setting is in the configuration file; see configs/${program.kind}.yaml.`,
    )
    .requiredOption("-c, --config <file>", "the configuration, as YAML")
    .option("--check-config", "check the configuration and leave: exit code 0 when it is valid, 2 when not")
    .option("--print-config", "print the configuration in effect, defaults and environment included, secrets hidden")
    .addOption(
      new Option(
        "--recover <how>",
        "start although the log is damaged; truncate-tail saves what follows the damage to a file and cuts it",
      ).choices(["truncate-tail"]),
    )
    .option("--until-stdin-ends", "leave, as on SIGTERM, when standard input ends: for a program that started this one")
    .version(VERSION)
    .exitOverride();
  try {
    return command.parse().opts<Flags>();
  } catch (error) {
    // Commander has said what is wrong already.
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
}

function readConfig({ kind, program }: { kind: NodeKind; program: string }, flags: Flags): NodeConfig {
  try {
    return loadConfig({ kind, file: flags.config, environment: process.env });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${program}: the configuration is not valid\n${error.message}\n`);
    process.exit(2);
  }
}

/** How this node calls others: where they listen for nodes alone, else as everybody calls them. */
function peerTlsOf({ replication }: NodeConfig, credentials: Credentials): PeerTls | undefined {
  if (replication.peers)
    return { material: () => must(credentials.peers, "files were read"), port: replication.peers.port };
  return credentials.tls && { material: () => must(credentials.tls, "files were read") };
}

function readCredentials({ program }: { program: string }, config: NodeConfig): Credentials {
  try {
    return new Credentials(config, new SystemClock());
  } catch (error) {
    if (!(error instanceof CredentialError)) throw error;
    process.stderr.write(`${program}: the configuration is not valid\n${error.message}\n`);
    process.exit(2);
  }
}

const SAME_KEYSTROKE_MS = 500;

/** By it the store tells a crash of the process, which loses nothing, from one of the machine, which may. */
function bootIdOfMachine(): { bootId?: string } {
  try {
    return { bootId: readFileSync(BOOT_ID_FILE, "utf8").trim() };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return {};
  }
}

/** What the file says of how much may be stored, when it says something. */
function limitsOf({ storage: { entriesMax, bytesMax, evictionPolicy } }: NodeConfig): { limits?: StorageLimits } {
  return entriesMax === 0 && bytesMax === 0 ? {} : { limits: { entriesMax, bytesMax, policy: evictionPolicy } };
}
