/** One seed: a cluster, its clients and its faults; then everything heals, and all must be as promised. */
import { must } from "../../internal/base/assert.js";
import { Audit } from "./audit.js";
import { Client } from "./client.js";
import { Counts } from "./counts.js";
import { Follower } from "./follower.js";
import { WatchFollower } from "./watch-follower.js";
import { hooks } from "./hooks.js";
import { Nemesis } from "./nemesis.js";
import { type Plan, planOf } from "./plan.js";
import { type Planted, plantedFaults } from "./planted.js";
import { Random } from "./random.js";
import { Service } from "./service.js";
import { SimNetwork } from "./sim-network.js";
import { type NodeListener, type NodeSetup, SimNode } from "./sim-node.js";
import { Watch } from "./watch.js";
import { World } from "./world.js";

export interface SeedResult {
  readonly seed: number;
  readonly violation: { readonly rule: string; readonly detail: string; readonly atMs: number } | undefined;
  readonly counts: Readonly<Record<string, number>>;
  readonly events: number;
  readonly virtualMs: number;
  readonly traceHash: string;
  /** The last lines of the trace, when it was asked for. */
  readonly trace: readonly string[];
}

export interface SeedOptions {
  readonly seed: number;
  readonly tracing?: boolean;
  /** Every line of the trace as it comes. */
  readonly onLine?: (line: string) => void;
  /** The name of a planted fault. */
  readonly planted?: string;
  /** Of bugs that are known already, and are to be looked past: an expression that their messages match. */
  readonly known?: string;
}

/** What nodes tell only their operators, and what it counts as. */
const TOLD: ReadonlyMap<string, string> = new Map([
  ["the end of the log was cut", "torn recoveries"],
  ["records that may not have reached the disk are copied into a new segment", "recoveries of an unproven end"],
  ["putting the state that the master sent in the place of this node's own", "installs of a whole state"],
  ["snapshot taken", "snapshots"],
  ["log compacted", "compactions"],
  ["the data of this node is set aside, and is fetched from the master again", "data set aside"],
  [
    "the machine may have lost what was acknowledged and not synced; this node must catch up with a master",
    "unclean boots",
  ],
]);

/** More virtual time than any seed needs. */
const END_MS = 600_000;

/** Runs a seed, as one synchronous call; not from within a microtask. */
export function runSeed(options: SeedOptions): SeedResult {
  const simulation = new Simulation(options);
  return simulation.run();
}

export class Simulation {
  readonly plan: Plan;
  readonly world: World;
  readonly counts = new Counts();
  readonly watch: Watch;
  readonly service: Service;
  readonly network: SimNetwork;
  readonly nodes: SimNode[] = [];
  readonly clients: Client[] = [];
  readonly followers: Follower[] = [];
  readonly watchers: WatchFollower[] = [];
  readonly nemesis: Nemesis;
  readonly random: Random;
  readonly planted: Planted | undefined;

  constructor(options: SeedOptions) {
    const random = new Random(options.seed);
    this.random = random;
    const plan = planOf(options.seed, random.fork());
    this.plan = plan;
    this.planted =
      options.planted === undefined ? undefined : must(plantedFaults[options.planted], "the fault is known")();
    this.world = new World({
      random: random.fork(),
      tracing: options.tracing === true,
      known: options.known === undefined ? undefined : new RegExp(options.known),
      die: (process, why) => (process.host as SimNode).exit(process, why),
      look: (process) => {
        if (process) this.watch.look(process.host as SimNode);
      },
    });
    this.world.onLine = options.onLine;
    this.watch = new Watch(this.world, this.counts);
    this.service = new Service(this.world, this.watch, this.counts);
    this.network = new SimNetwork(this.world, random.fork(), plan.network, {
      surveyed: (candidate, by, reply) =>
        this.world.trace(() => `${this.#nameOf(by)} tells ${this.#nameOf(candidate)} ${JSON.stringify(reply)}`),
      promised: (by, request, reply) => {
        this.world.trace(() => `${this.#nameOf(by)} is asked for ${JSON.stringify(request)}: ${JSON.stringify(reply)}`);
        this.watch.promised(request, reply);
      },
      delivered: (from, to, message) =>
        this.world.trace(() => `${this.#nameOf(from)} → ${this.#nameOf(to)} ${describe(message)}`),
    });
    const nodeRandom = random.fork();
    for (let index = 0; index < plan.size + (plan.spare ? 1 : 0); index++) this.#addNode(index, nodeRandom.fork());
    const clientRandom = random.fork();
    for (let index = 0; index < plan.clients; index++) this.#addClient(index, clientRandom.fork());
    for (let index = 0; index < plan.followers; index++) {
      const about = {
        index,
        world: this.world,
        watch: this.watch,
        service: this.service,
        counts: this.counts,
        nodes: () => this.nodes,
        delayMs: plan.network.delayMs,
        loss: plan.clientLoss,
      };
      this.followers.push(new Follower({ ...about, random: clientRandom.fork() }));
      this.watchers.push(new WatchFollower({ ...about, random: clientRandom.fork() }));
    }
    this.nemesis = new Nemesis(this, random.fork());
  }

  run(): SeedResult {
    const { world, watch, planted } = this;
    const planting = planted?.hooks?.step;
    hooks.now = {
      ...planted?.hooks,
      step: (real, state, event) => {
        watch.cores.set(state.self, state);
        const effects = planting ? planting(real, state, event) : real(state, event);
        for (const effect of effects) {
          if (effect.kind === "reply" && effect.message.kind === "ack") watch.sent(state, effect.message);
        }
        return effects;
      },
    };
    try {
      world.trace(() => `plan ${JSON.stringify(this.plan)}`);
      for (const node of this.nodes.slice(0, this.plan.size)) {
        world.after(this.random.below(200), undefined, "first start", () => node.start());
      }
      for (const client of this.clients) client.start();
      for (const follower of [...this.followers, ...this.watchers]) follower.start();
      this.nemesis.start();
      world.run(() => this.#isLoadDone || world.nowMs > END_MS || world.isTooLong);
      if (!world.violation) new Audit(this).run();
    } finally {
      hooks.now = {};
    }
    this.#noteCounts();
    return {
      seed: this.plan.seed,
      violation: world.violation,
      counts: this.counts.asRecord(),
      events: world.events,
      virtualMs: world.nowMs,
      traceHash: world.traceHash,
      trace: world.lines,
    };
  }

  get #isLoadDone(): boolean {
    return this.nemesis.isDone && this.clients.every((client) => client.isDone);
  }

  #addNode(index: number, random: Random): void {
    const { plan, planted } = this;
    const addresses = Array.from({ length: plan.size }, (_, i) => addressOf(i));
    const isSpare = index >= plan.size;
    const role = index === 0 || (plan.listed && !isSpare) ? "master" : "replica";
    const setup: NodeSetup = {
      address: addressOf(index),
      role,
      ...(role === "replica" && (plan.introduces === "registration" || isSpare) && { masterAddress: addressOf(0) }),
      listedReplicas: !plan.listed && role === "master" && plan.introduces === "list" ? addresses.slice(1) : [],
      nodes: plan.listed && !isSpare ? addresses : [],
      commit: plan.listed && !isSpare ? plan.commit : undefined,
      durability: plan.durability,
      syncIntervalMs: plan.syncIntervalMs,
      segmentBytesMax: plan.segmentBytesMax,
      recordSegmentBytesMax: plan.recordSegmentBytesMax,
      pendingBytesMax: plan.pendingBytesMax,
      snapshots: { intervalMs: plan.snapshotIntervalMs, logBytes: plan.snapshotLogBytes, keep: plan.snapshotsKept },
      retainedBytesMax: plan.retainedBytesMax,
      reserveBytes: plan.reserveBytes,
      heartbeatIntervalMs: plan.heartbeatIntervalMs,
      batchBytes: plan.batchBytes,
      windowBytes: plan.windowBytes,
      retention: { ageMs: 0, bytesMax: plan.retentionBytes },
      maxReadWaitMs: plan.maxReadWaitMs,
      writeTimeoutMs: plan.writeTimeoutMs,
      engine: must(plan.engines[index], "a plan names an engine for each node"),
      retries: plan.retries,
      limits: plan.limits,
    };
    const node = new SimNode({
      index,
      setup,
      world: this.world,
      network: this.network,
      random,
      pace: plan.pace,
      wallMs: 1_700_000_000_000 + random.below(100_000),
      listener: this.#listener(),
      alterations: planted?.alterations ?? {},
    });
    if (plan.clockDrift > 0) node.clock.setRate(1 + (random.fraction() * 2 - 1) * plan.clockDrift);
    this.nodes.push(node);
  }

  #addClient(index: number, random: Random): void {
    const { plan } = this;
    this.clients.push(
      new Client({
        index,
        world: this.world,
        random,
        service: this.service,
        counts: this.counts,
        nodes: () => this.nodes,
        weights: plan.weights,
        operations: Math.ceil(plan.operations / plan.clients),
        pauseMs: plan.pauseMs * plan.clients,
        delayMs: plan.network.delayMs,
        loss: plan.clientLoss,
        patienceMs: plan.patienceMs,
        writeTimeoutMs: plan.writeTimeoutMs,
        valueBytesMax: plan.valueBytesMax,
        retrying: plan.retrying,
      }),
    );
  }

  #listener(): NodeListener {
    return {
      opened: (node, rooms) => this.watch.opened(node, rooms),
      started: (node, error) => this.nemesis.started(node, error),
      exits: (node) => this.watch.look(node),
      ended: (node, why) => {
        this.world.trace(() => `${node.name} ends: ${why}`);
        this.watch.ended(node);
        this.nemesis.ended(node, why);
      },
      logged: (node, level, message, fields) => {
        this.counts.note(`log: ${message}`);
        const told = TOLD.get(message);
        if (told !== undefined) this.counts.note(told);
        this.world.trace(() => `${node.name} ${level}: ${message} ${JSON.stringify(fields ?? {})}`);
      },
    };
  }

  #nameOf(address: string): string {
    return this.nodes.find((node) => node.address === address)?.name ?? address;
  }

  #noteCounts(): void {
    for (const [what, times] of Object.entries(this.network.counts)) this.counts.note(`network ${what}`, times);
    for (const { disk } of this.nodes) {
      for (const [what, times] of Object.entries(disk.counts)) this.counts.note(`disk ${what}`, times);
    }
    for (const follower of this.followers) this.counts.note("pages of updates", follower.pages);
    for (const { batches } of this.watchers) this.counts.note("batches of watches", batches);
  }
}

export function addressOf(index: number): string {
  return `n${index + 1}:8080`;
}

function describe(message: { readonly kind: string; readonly epoch: number }): string {
  const { kind, epoch, ...rest } = message;
  const shown = JSON.stringify(rest, (key: string, value: unknown) => {
    if (value instanceof Uint8Array) return `${value.length} bytes`;
    // A Buffer comes as what it makes of itself.
    if (isBufferJson(value)) return `${value.data.length} bytes`;
    if (key === "clusterId" || key === "sender") return undefined;
    return value;
  });
  return `${kind} of epoch ${epoch} ${shown}`;
}

function isBufferJson(value: unknown): value is { readonly data: readonly number[] } {
  return typeof value === "object" && value !== null && "type" in value && value.type === "Buffer" && "data" in value;
}
