/**
 * A server program: flags → config → construct → run → drain. Master and replica are the same node; which program was
 * started decides only what an empty data directory becomes.
 *
 * Exit codes: 0 after a clean shutdown, 1 when the node could not start or run, 2 for bad flags or configuration.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { Command, CommanderError, Option } from "commander";
import { formatAddress, isWildcardHost } from "../internal/base/address.js";
import { SystemClock } from "../internal/base/clock.js";
import type { RandomSource } from "../internal/base/ids.js";
import type { Logger } from "../internal/base/logger.js";
import {
  ConfigError,
  loadConfig,
  type NodeConfig,
  type NodeKind,
  cautions,
  printConfig,
} from "../internal/config/config.js";
import { MapEngine } from "../internal/engine/map-engine.js";
import { protectedModeWarning } from "../internal/identity/access.js";
import { RetentionLoop } from "../internal/records/retention-loop.js";
import { Replicator } from "../internal/replication/replicator.js";
import { ConnectPeerNetwork } from "../internal/rpc/peer-network.js";
import { RpcServer } from "../internal/rpc/server.js";
import { Store } from "../internal/store/store.js";
import { NodeFileSystem } from "../internal/wal/node-file-system.js";
import { createLogger } from "./logger.js";
import { VERSION } from "./version.js";

/** Some hundred deletions, or starts, on a full disk. */
const RESERVE_BYTES = 256 * 1024;

interface Flags {
  readonly config: string;
  readonly checkConfig?: true;
  readonly printConfig?: true;
  readonly recover?: "truncate-tail";
}

/** Runs until a signal ends it, and then ends the process. */
export async function runServer(program: { kind: NodeKind; program: string }): Promise<void> {
  const flags = parseFlags(program);
  const config = readConfig(program, flags);
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
  let node: RunningNode;
  try {
    node = await startNode({ config, kind: program.kind, logger, ...(flags.recover && { recover: flags.recover }) });
  } catch (error) {
    return die(error);
  }
  drainOnSignals(node, logger, config.server.drainTimeoutMs);
}

export interface RunningNode {
  /** `host:port` at which it listens. */
  readonly address: string;
  /** Answers what is in flight, writes the log's clean mark, and gives everything back. */
  close(): Promise<void>;
}

export interface NodeOptions {
  readonly config: NodeConfig;
  readonly kind: NodeKind;
  readonly logger: Logger;
  readonly recover?: "truncate-tail";
}

/**
 * Starts a node. When it resolves, the node serves. Where the node takes over a state that its master has sent, all its rooms
 * are built anew, at the same address; should that fail, the process ends.
 */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const { logger } = options;
  let { port } = options.config.server;
  let isClosing = false;
  const start = async (): Promise<Rooms> => {
    const rooms = await buildRooms({ ...options, port, restart });
    ({ port } = rooms);
    return rooms;
  };
  // Absent once they are closed for good.
  let running: Promise<Rooms | undefined> = Promise.resolve(undefined);
  const restart = (): void => {
    running = running.then(async (rooms) => {
      if (isClosing) return rooms;
      await rooms?.close();
      return isClosing ? undefined : start();
    });
    running.catch((error: unknown) => {
      logger.error("the node could not be started anew; it stops", { error: String(error) });
      process.exit(1);
    });
  };
  const first = start();
  running = first;
  const { address } = await first;
  return {
    address,
    close: async () => {
      isClosing = true;
      await (await running)?.close();
    },
  };
}

interface Rooms {
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Builds a node out of its rooms. */
async function buildRooms(
  options: NodeOptions & { readonly port: number; readonly restart: () => void },
): Promise<Rooms> {
  const { config, kind, logger, restart } = options;
  const clock = new SystemClock();
  const random: RandomSource = { bytes: (length) => new Uint8Array(randomBytes(length)) };
  for (const sentence of cautions(config)) logger.warn(sentence);
  const exposed = protectedModeWarning(config.server);
  if (exposed !== undefined) logger.warn(exposed);

  const store = await Store.open({
    fileSystem: new NodeFileSystem(config.wal.directory),
    clock,
    random,
    logger,
    engine: new MapEngine(),
    initialRole: kind,
    durability: config.wal.durability,
    syncIntervalMs: config.wal.syncIntervalMs,
    segmentBytesMax: config.wal.segmentBytesMax,
    recordSegmentBytesMax: config.records.segmentBytesMax,
    pendingBytesMax: config.limits.pendingBytesMax,
    snapshots: config.snapshots,
    retainedBytesMax: config.replication.retainedBytesMax,
    reserveBytes: RESERVE_BYTES,
    ...(options.recover && { recover: options.recover }),
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
  const network = new ConnectPeerNetwork({ logger, ...secret });
  let server: RpcServer | undefined;
  const advertised = (): string => config.server.advertise ?? defaultAddress(config.server.host, server?.port ?? 0);
  const replicator = new Replicator({
    store,
    network,
    clock,
    random,
    logger,
    // Known once the server listens, which is before the replicator starts.
    address: advertised,
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
  const closeRooms = async (): Promise<void> => {
    const retentionEnded = retention.close();
    await replicator.close();
    await network.close();
    await store.close();
    // Its last truncation ends with the store, if not before.
    await retentionEnded;
  };
  try {
    server = await RpcServer.listen({
      store,
      records: store,
      backups: store,
      replicator,
      clock,
      logger,
      version: VERSION,
      host: config.server.host,
      port: options.port,
      advertisedAddress: advertised,
      limits: config.limits,
      corsOrigins: config.server.corsOrigins,
      protectedMode: config.server.protectedMode,
      drainTimeoutMs: config.server.drainTimeoutMs,
      ...secret,
    });
    const address = formatAddress({ host: config.server.host, port: server.port });
    logger.info("listening", { address, role: store.role, node_id: store.nodeId, version: VERSION });
    await replicator.start();
    retention.start();
    const { applied, keys } = store.status();
    logger.info("started", { role: store.role, epoch: applied.epoch, seq: applied.seq, keys });
    const listening = server;
    return {
      address,
      port: listening.port,
      close: async () => {
        await listening.close();
        await closeRooms();
      },
    };
  } catch (error) {
    await server?.close();
    await closeRooms();
    throw error;
  }
}

function drainOnSignals(node: RunningNode, logger: Logger, drainTimeoutMs: number): void {
  let drainingSinceMs: number | undefined;
  const drain = (signal: NodeJS.Signals): void => {
    const nowMs = performance.now();
    // npm passes a ctrl-C on that the terminal has given to the whole group already: one keystroke, two signals.
    if (drainingSinceMs !== undefined && nowMs - drainingSinceMs < SAME_KEYSTROKE_MS) return;
    if (drainingSinceMs !== undefined) {
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
  };
  process.on("SIGTERM", drain);
  process.on("SIGINT", drain);
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

const SAME_KEYSTROKE_MS = 500;

/** Where others reach a node whose configuration does not say. */
function defaultAddress(host: string, port: number): string {
  return formatAddress({ host: isWildcardHost(host) ? hostname() : host, port });
}
