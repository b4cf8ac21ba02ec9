/** Nodes over array stores and a network in memory, which live, crash and come back as a test wants it. */
import { assert, must } from "../../base/assert.js";
import { FakeClock } from "../../base/clock.js";
import type { RandomSource } from "../../base/ids.js";
import type { LogFields, Logger } from "../../base/logger.js";
import { seq as toSeq } from "../../base/position.js";
import type { NodeRole } from "../../store/store.js";
import { Replicator, type ReplicatorOptions } from "../replicator.js";
import { GATHER_MS } from "../core/gathering.js";
import { type ArrayDisk, ArrayStore, type DiskPace, emptyDisk } from "./array-store.js";
import { MemoryNetwork } from "./memory-network.js";

/** A start that takes longer waits for something that a test must bring about. */
const START_MAX_MS = 30_000;

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields: LogFields;
}

export class TestNode {
  readonly address: string;
  readonly store: ArrayStore;
  readonly replicator: Replicator;
  readonly lines: LogLine[] = [];
  /** How its start has ended, once it has. */
  started: { readonly error?: unknown } | undefined;

  constructor(address: string, disk: ArrayDisk, cluster: Cluster, options: Partial<ReplicatorOptions>) {
    this.address = address;
    this.store = new ArrayStore(disk, cluster.clock.wallMs());
    const log =
      (level: LogLine["level"]) =>
      (message: string, fields: LogFields = {}) =>
        void this.lines.push({ level, message, fields });
    const logger: Logger = { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
    this.replicator = new Replicator({
      store: this.store,
      network: cluster.network.as(address),
      clock: cluster.clock,
      random: cluster.random,
      logger,
      address: () => address,
      listedReplicas: [],
      heartbeatIntervalMs: 1000,
      batchBytes: 1000,
      windowBytes: 4000,
      restart: () => void cluster.renewing.add(this),
      ...options,
    });
  }

  /** Begins to run; `started` tells when that is done. */
  run(): void {
    this.replicator.start().then(
      () => (this.started = {}),
      (error: unknown) => (this.started = { error }),
    );
  }

  /** It is master, and has committed its epoch's first record. */
  get isServing(): boolean {
    return this.replicator.survey({ nodeId: this.store.nodeId }).isMaster;
  }

  /** What its log says, record by record. */
  get texts(): string[] {
    return this.store.records.map(({ text }) => text);
  }

  /** The warnings and errors, as sentences. */
  get complaints(): string[] {
    return this.lines
      .filter(({ level }) => level === "warn" || level === "error")
      .map(({ message, fields }) => `${message}: ${String(fields["reason"])}`);
  }
}

export class Cluster {
  readonly clock = new FakeClock();
  readonly network = new MemoryNetwork();
  readonly random: RandomSource;
  readonly nodes = new Map<string, TestNode>();
  /** Nodes that want to start anew. */
  readonly renewing = new Set<TestNode>();
  /** How often one has. */
  renewals = 0;
  #names = 1;
  readonly #options = new Map<string, Partial<ReplicatorOptions>>();

  constructor(random: RandomSource = countingRandom()) {
    this.random = random;
  }

  /** Starts a node over a disk, an empty one if none is given, and lets time pass until that is done. */
  async start(
    role: NodeRole,
    address: string,
    options: Partial<ReplicatorOptions> & { disk?: ArrayDisk } = {},
  ): Promise<TestNode> {
    const node = this.launch(role, address, options);
    await this.settle();
    for (let i = 0; i < START_MAX_MS / 100 && !node.started; i++) await this.pass(100);
    const { error } = must(node.started, `the node at ${address} starts within ${START_MAX_MS} ms`);
    if (error) throw error as Error;
    await this.settle();
    return node;
  }

  /** The same, and waits for nothing. */
  launch(role: NodeRole, address: string, options: Partial<ReplicatorOptions> & { disk?: ArrayDisk } = {}): TestNode {
    const { disk = emptyDisk(role, this.#names++), ...rest } = options;
    this.#options.set(address, rest);
    const node = new TestNode(address, disk, this, rest);
    this.nodes.set(address, node);
    this.network.add(address, node.replicator);
    node.run();
    return node;
  }

  /**
   * Ends a process at once: what was not kept is lost, but for the first `surviving` records of it. Less than 0: so many are
   * lost that were kept, and the node will know that there may be some.
   */
  async crash(address: string, surviving = 0): Promise<ArrayDisk> {
    const { store, replicator } = this.node(address);
    const { disk, keptSeq, writtenSeq, records } = store;
    const seq = Math.max(disk.compactSeq, Math.min(keptSeq + surviving, writtenSeq));
    const left = { ...disk, records: records.slice(0, seq), appliedSeq: toSeq(Math.min(disk.appliedSeq, seq)) };
    if (surviving < 0) left.mustCatchUp = true;
    this.network.remove(address);
    this.nodes.delete(address);
    store.release();
    await replicator.close();
    // As a store that closes: whoever still waits for a write learns that its outcome is unknown.
    store.endMastership();
    return left;
  }

  /** Crashes a node and starts it again over what is left. */
  async restart(address: string, surviving = 0): Promise<TestNode> {
    const disk = await this.crash(address, surviving);
    return this.start(disk.role, address, { ...this.#options.get(address), disk });
  }

  /** The same, and waits for nothing; `pace` is that of its disk. */
  async relaunch(address: string, { surviving = 0, pace }: { surviving?: number; pace: DiskPace }): Promise<TestNode> {
    const again = await this.stop(address, surviving);
    return again(pace);
  }

  /** Gives a node an empty disk: it is another one from here on. */
  async wipe(address: string, pace: DiskPace): Promise<TestNode> {
    await this.crash(address);
    const node = this.launch("replica", address, this.#options.get(address) ?? {});
    node.store.pace = pace;
    return node;
  }

  /** Crashes a node; returns what starts it again over what is left. */
  async stop(address: string, surviving = 0): Promise<(pace: DiskPace) => TestNode> {
    const disk = await this.crash(address, surviving);
    return (pace) => {
      const node = this.launch(disk.role, address, { ...this.#options.get(address), disk });
      node.store.pace = pace;
      return node;
    };
  }

  /** Starts the nodes anew that want it; what it leads to happens later. */
  async renew(): Promise<void> {
    for (const node of this.renewing) {
      this.renewing.delete(node);
      const { address, store } = node;
      if (this.nodes.get(address) !== node) continue;
      this.renewals++;
      const { pace } = store;
      const disk = await this.crash(address, Infinity);
      const again = new TestNode(address, disk, this, this.#options.get(address) ?? {});
      again.store.pace = pace;
      this.nodes.set(address, again);
      this.network.add(address, again.replicator);
      again.run();
    }
  }

  node(address: string): TestNode {
    return must(this.nodes.get(address), `a node runs at ${address}`);
  }

  /** Lets everything happen that can happen without time passing. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3;) {
      await new Promise((resolve) => setImmediate(resolve));
      await this.renew();
      if (this.network.deliver()) quiet = 0;
      else quiet++;
    }
  }

  /** The same, and lets masters send what they gather. */
  async settleGathered(): Promise<void> {
    await this.settle();
    await this.pass(GATHER_MS);
  }

  /** Lets time pass in steps, and in each one everything happen. */
  async pass(ms: number, stepMs = 100): Promise<void> {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.clock.advance(Math.min(stepMs, ms - passed));
      await this.settle();
    }
  }

  /** Lets time pass until a promise is settled, and gives what it is settled with. */
  async outcome<T>(promise: Promise<T>, maxMs = 30_000): Promise<T> {
    let isSettled = false;
    const settle = (): void => void (isSettled = true);
    promise.then(settle, settle);
    await this.settle();
    for (let passed = 0; passed < maxMs && !isSettled; passed += 100) await this.pass(100);
    assert(isSettled, `it is settled within ${maxMs} ms`);
    return promise;
  }

  /** Nodes whose voters are listed; the first is master, and all have what it has. */
  async found(addresses: readonly string[], options: Partial<ReplicatorOptions> = {}): Promise<TestNode[]> {
    const listed = { nodes: addresses, ...options };
    const [first = "", ...others] = addresses;
    const nodes = others.map((address) => this.launch("replica", address, listed));
    const founder = await this.start("master", first, listed);
    await this.pass(2000);
    return [founder, ...nodes];
  }

  /** Cuts a node off, without anybody's noticing, and lets it come back. */
  cut(...addresses: readonly string[]): { heal: () => void } {
    for (const address of addresses) this.network.silent.add(address);
    return {
      heal: () => {
        for (const address of addresses) this.network.silent.delete(address);
      },
    };
  }

  async close(): Promise<void> {
    for (const { replicator, store } of this.nodes.values()) {
      store.release();
      await replicator.close();
    }
  }
}

/** Different bytes every time, the same ones in every run. */
export function countingRandom(): RandomSource {
  let count = 0;
  return {
    bytes: (length) => {
      count++;
      return new Uint8Array(Array.from({ length }, (_, i) => (count * 37 + i * 11) & 0xff));
    },
  };
}
