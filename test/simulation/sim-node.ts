/**
 * One node of a simulated cluster: a machine with clocks and a disk, and on it, for as long as it runs, the program: the
 * production store, log, record log, engine, replication and read gate, put together as `cmd/node.ts` does it.
 */
import { must } from "../../internal/base/assert.js";
import type { RandomSource } from "../../internal/base/ids.js";
import type { LogFields, Logger } from "../../internal/base/logger.js";
import type { Engine } from "../../internal/engine/engine.js";
import { MapEngine } from "../../internal/engine/map-engine.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import { RetentionLoop } from "../../internal/records/retention-loop.js";
import { ReadGate } from "../../internal/replication/read-gate.js";
import { Replicator } from "../../internal/replication/replicator.js";
import type { RetryLimits } from "../../internal/store/retry-guard.js";
import type { StorageLimits } from "../../internal/store/room.js";
import { type NodeRole, type SnapshotPolicy, Store } from "../../internal/store/store.js";
import type { Durability } from "../../internal/wal/log.js";
import { WatchHub } from "../../internal/watch/watch-hub.js";
import type { Random } from "./random.js";
import { MachineClock, ProcessClock } from "./sim-clock.js";
import { type DiskPace, SimDisk } from "./sim-disk.js";
import type { Endpoint, Server, SimNetwork } from "./sim-network.js";
import { type Host, Process, type World } from "./world.js";

/** What a node's configuration file says. */
export interface NodeSetup {
  readonly address: string;
  /** Which of the two programs is started. */
  readonly role: NodeRole;
  readonly masterAddress?: string;
  readonly listedReplicas: readonly string[];
  /** `cluster.nodes`; empty: not given. */
  readonly nodes: readonly string[];
  readonly commit: "master" | "majority" | undefined;
  readonly durability: Durability;
  readonly syncIntervalMs: number;
  readonly segmentBytesMax: number;
  readonly recordSegmentBytesMax: number;
  readonly pendingBytesMax: number;
  readonly snapshots: SnapshotPolicy;
  readonly retainedBytesMax: number;
  readonly reserveBytes: number;
  readonly heartbeatIntervalMs: number;
  readonly batchBytes: number;
  readonly windowBytes: number;
  readonly retention: { readonly ageMs: number; readonly bytesMax: number };
  readonly maxReadWaitMs: number;
  readonly writeTimeoutMs: number;
  /** Both are to come to the same, so that one cluster may have both. */
  readonly engine: "slab" | "map";
  readonly retries: RetryLimits;
  readonly limits: StorageLimits | undefined;
}

/** The parts of a running program. */
export interface Rooms {
  readonly store: Store;
  readonly engine: Engine;
  readonly replicator: Replicator;
  readonly gate: ReadGate;
  readonly hub: WatchHub;
}

/** Of what a node tells the simulation. */
export interface NodeListener {
  /** The store has opened what the disk had, and nothing else has happened yet. */
  opened(node: SimNode, rooms: Rooms): void;
  /** The program has started, or has said why it does not. */
  started(node: SimNode, error: Error | undefined): void;
  /** The process is about to end by itself; what it wrote last is on the disk. */
  exits(node: SimNode): void;
  /** The process has ended, of itself or by force. */
  ended(node: SimNode, why: string): void;
  logged(node: SimNode, level: "debug" | "info" | "warn" | "error", message: string, fields?: LogFields): void;
}

/** Changes what a part of the program does; for planted faults. */
export interface Alterations {
  store?(store: Store, node: SimNode): void;
  disk?(disk: SimDisk, node: SimNode): void;
  engine?(engine: Engine): void;
  replicator?(replicator: Replicator, store: Store): void;
  gate?(gate: ReadGate): void;
  hub?(hub: WatchHub): void;
}

export type NodeState = "stopped" | "starting" | "running";

export class SimNode implements Endpoint, Host {
  readonly index: number;
  setup: NodeSetup;
  readonly clock: MachineClock;
  readonly disk: SimDisk;
  readonly #world: World;
  readonly #network: SimNetwork;
  readonly #random: Random;
  readonly #listener: NodeListener;
  readonly #alterations: Alterations;
  paused = false;
  powered = true;
  state: NodeState = "stopped";
  process: Process | undefined;
  /** What serves. */
  rooms: Rooms | undefined;
  /** What is looked into: also while it closes, for then it still writes. */
  watched: Rooms | undefined;
  server: Server | undefined;
  #closing = false;
  #boots = 0;
  #lives = 0;
  #running: Promise<(() => Promise<void>) | undefined> = Promise.resolve(undefined);
  /** For this life of the program only: what to do about a damaged log. */
  recover = false;

  constructor(options: {
    index: number;
    setup: NodeSetup;
    world: World;
    network: SimNetwork;
    random: Random;
    pace: DiskPace;
    wallMs: number;
    listener: NodeListener;
    alterations: Alterations;
  }) {
    this.index = options.index;
    this.setup = options.setup;
    this.#world = options.world;
    this.#network = options.network;
    this.#random = options.random;
    this.#listener = options.listener;
    this.#alterations = options.alterations;
    this.clock = new MachineClock(options.world, {
      monotonicMs: options.random.below(1_000_000),
      wallMs: options.wallMs,
    });
    this.disk = new SimDisk(options.world, options.random.fork(), options.pace);
    this.#network.add(this);
  }

  get address(): string {
    return this.setup.address;
  }

  get name(): string {
    return `n${this.index + 1}`;
  }

  /** Starts the program; on a machine that is off, switches it on first. */
  start(): void {
    if (this.state !== "stopped") return;
    if (!this.powered) {
      this.powered = true;
      this.#boots++;
      this.clock.reboot(this.#random.below(1_000_000));
    }
    const process = new Process(`${this.name}.${++this.#lives}`, this);
    this.process = process;
    this.state = "starting";
    this.#closing = false;
    this.#world.after(0, process, "start", () => {
      const first = this.#build(process);
      this.#running = first;
      first.then(
        () => {
          if (!process.alive) return;
          this.state = "running";
          this.#listener.started(this, undefined);
        },
        (error: unknown) => {
          if (!process.alive) return;
          const why = error instanceof Error ? error : new Error(String(error));
          this.#listener.started(this, why);
          this.exit(process, `it could not start: ${why.message}`);
        },
      );
    });
  }

  /** An operator has given it an empty directory: where it is not listed it must follow, or it would found another cluster. */
  wiped(masterAddress: string | undefined): void {
    this.disk.wipe();
    if (this.setup.nodes.length > 0 || masterAddress === undefined) return;
    this.setup = { ...this.setup, role: "replica", masterAddress, listedReplicas: [] };
  }

  /** The process is killed, and the machine goes on. */
  kill(): void {
    const { process } = this;
    if (process) this.#end(process, "killed", false);
  }

  /** The machine loses its power. */
  cutPower(): void {
    const { process } = this;
    if (process) this.#end(process, "the power failed", true);
    this.disk.cutPower();
    this.powered = false;
    this.#resumeForNobody();
  }

  /** Asks the program to end in order. */
  close(): void {
    const { process } = this;
    if (!process?.alive || this.#closing) return;
    this.#closing = true;
    this.#world.after(0, process, "close", () => {
      void this.#running
        .then((close) => close?.())
        .then(
          () => this.exit(process, "closed in order"),
          (error: unknown) => this.exit(process, `it did not close in order: ${String(error)}`),
        );
    });
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (this.paused) this.#world.resume(this);
  }

  /** The program ends itself. */
  exit(process: Process, why: string): void {
    if (!process.alive) return;
    this.#listener.exits(this);
    this.#end(process, why, false);
  }

  #end(process: Process, why: string, silently: boolean): void {
    if (!process.alive) return;
    process.alive = false;
    this.process = undefined;
    this.rooms = this.watched = undefined;
    this.server = undefined;
    this.state = "stopped";
    this.#network.ended(process, silently);
    this.#listener.ended(this, why);
    this.#resumeForNobody();
  }

  /** A machine that was paused goes on with whatever is started on it next. */
  #resumeForNobody(): void {
    if (this.paused) this.#world.resume(this);
  }

  async #build(process: Process): Promise<() => Promise<void>> {
    const { setup } = this;
    const clock = new ProcessClock(this.#world, this.clock, process);
    const random: RandomSource = { bytes: (length) => this.#random.bytes(length) };
    const logger = this.#logger(process);
    const engine =
      setup.engine === "slab"
        ? new SlabEngine({ seed: [this.#random.below(2 ** 31), this.#random.below(2 ** 31)] })
        : new MapEngine();
    this.#alterations.disk?.(this.disk, this);
    this.#alterations.engine?.(engine);
    const store = await Store.open({
      fileSystem: this.disk.as(process),
      clock,
      random,
      logger,
      engine,
      initialRole: setup.role,
      durability: setup.durability,
      syncIntervalMs: setup.syncIntervalMs,
      segmentBytesMax: setup.segmentBytesMax,
      recordSegmentBytesMax: setup.recordSegmentBytesMax,
      pendingBytesMax: setup.pendingBytesMax,
      snapshots: setup.snapshots,
      retainedBytesMax: setup.retainedBytesMax,
      reserveBytes: setup.reserveBytes,
      retries: setup.retries,
      bootId: `boot ${this.#boots} of ${this.name}`,
      ...(this.recover && { recover: "truncate-tail" }),
    });
    this.recover = false;
    this.#alterations.store?.(store, this);
    store.listen({ failed: (error) => this.exit(process, `its disk failed: ${error.message}`) });
    const restart = (): void => {
      if (process.alive) this.#restart(process);
    };
    const replicator = new Replicator({
      store,
      network: this.#network.as(this.address, process),
      clock,
      random,
      logger,
      address: () => this.address,
      listedReplicas: setup.listedReplicas,
      heartbeatIntervalMs: setup.heartbeatIntervalMs,
      batchBytes: setup.batchBytes,
      windowBytes: setup.windowBytes,
      nodes: setup.nodes,
      commit: setup.commit,
      restart,
      ...(setup.masterAddress !== undefined && { masterAddress: setup.masterAddress }),
      ...(setup.limits && { limits: setup.limits }),
    });
    const gate = new ReadGate({ store, replicator, clock, maxWaitMs: setup.maxReadWaitMs });
    this.#alterations.replicator?.(replicator, store);
    this.#alterations.gate?.(gate);
    const retention = new RetentionLoop({
      clock,
      logger,
      limits: setup.retention,
      isMaster: () => store.isServingMaster,
      extents: () => store.recordExtents(),
      nowMs: () => store.masterTimeMs(),
      truncateBelow: (offset) => store.truncateRecords(offset),
    });
    const hub = new WatchHub({ store, clock, limits: { watchesMax: 100 } });
    this.#alterations.hub?.(hub);
    const rooms: Rooms = { store, engine, replicator, gate, hub };
    if (process.alive) {
      this.rooms = this.watched = rooms;
      this.server = serverOf(replicator);
      this.#listener.opened(this, rooms);
    }
    const closeRooms = async (): Promise<void> => {
      this.rooms = undefined;
      this.server = undefined;
      this.#network.ended(process, false);
      await hub.close();
      const retentionEnded = retention.close();
      await replicator.close();
      await store.close();
      await retentionEnded;
    };
    try {
      await replicator.start();
      retention.start();
    } catch (error) {
      if (process.alive) await closeRooms();
      throw error;
    }
    return closeRooms;
  }

  /** In the same process, all parts are built anew. */
  #restart(process: Process): void {
    this.#running = this.#running.then(async (close) => {
      if (this.#closing) return close;
      await close?.();
      return this.#closing ? undefined : this.#build(process);
    });
    this.#running.catch((error: unknown) => {
      this.#listener.logged(this, "error", "the node could not be started anew; it stops", { error: String(error) });
      this.exit(process, `it could not be started anew: ${String(error)}`);
    });
  }

  #logger(process: Process): Logger {
    const log =
      (level: "debug" | "info" | "warn" | "error") =>
      (message: string, fields?: LogFields): void => {
        if (process.alive) this.#listener.logged(this, level, message, fields);
      };
    return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
  }

  /** The parts of the running program, which must be there. */
  get mustRooms(): Rooms {
    return must(this.rooms, `${this.name} runs`);
  }
}

function serverOf(replicator: Replicator): Server {
  return {
    acceptPush: (send, close) => replicator.acceptPush(send, close),
    register: (request) => replicator.register(request),
    survey: (asker) => replicator.survey(asker),
    requestPromise: (request) => replicator.requestPromise(request),
    readIndex: (asker, signal) => replicator.readIndex(asker, signal),
  };
}
