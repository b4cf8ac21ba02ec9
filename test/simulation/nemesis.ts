/**
 * What goes wrong, and who puts it right: faults at random times, each with its end; a supervisor that starts programs
 * again; and an operator who promotes, hands over, adds and removes. It keeps to what the promises allow: no more disks
 * lost than the cluster's mode survives.
 */
import type { MemberView } from "../../internal/replication/replicator.js";
import { isPartOf, show } from "./ledger.js";
import { type FaultKind, limitsOf } from "./plan.js";
import type { Random } from "./random.js";
import type { SimNode } from "./sim-node.js";
import type { Simulation } from "./simulation.js";

/** How long an operator's request may take. */
const PATIENCE_MS = 15_000;

export class Nemesis {
  readonly #simulation: Simulation;
  readonly #random: Random;
  #left: number;
  #healing = false;
  /** Nodes that stay down until somebody starts them. */
  readonly #heldDown = new Set<SimNode>();
  /** Data directories that are gone, or no longer whole. */
  #lostDisks = 0;
  /** Nodes on whose disks a bit has changed. */
  readonly #rotten = new Set<SimNode>();
  /** Voters that may have lost what they kept, until they have caught up. */
  readonly #unclean = new Set<SimNode>();
  #spareStarted = false;
  #busyOperator = false;

  constructor(simulation: Simulation, random: Random) {
    this.#simulation = simulation;
    this.#random = random;
    this.#left = simulation.plan.faults;
  }

  /** Whether there were as many faults as planned. */
  get isDone(): boolean {
    return this.#left <= 0;
  }

  start(): void {
    const { world, plan } = this.#simulation;
    world.after(this.#random.delay(plan.faultPauseMs) + 500, undefined, "nemesis", () => this.#next());
    if (plan.spare) {
      world.after(this.#random.between(500, 8000), undefined, "spare", () => this.#startSpare());
    }
  }

  /** Faults end, and none comes any more. */
  heal(): void {
    const { world, network, nodes } = this.#simulation;
    this.#healing = true;
    network.healAll();
    for (const node of nodes) {
      node.disk.mend();
      node.resume();
      this.#heldDown.delete(node);
    }
    this.#startSpare();
    for (const node of nodes) if (node.state === "stopped" && this.#isPartOfCluster(node)) node.start();
    world.trace(() => "everything heals");
  }

  #isPartOfCluster(node: SimNode): boolean {
    return node.index < this.#simulation.plan.size || this.#spareStarted;
  }

  #startSpare(): void {
    const { plan, nodes, counts } = this.#simulation;
    if (!plan.spare || this.#spareStarted) return;
    this.#spareStarted = true;
    counts.note("nodes that joined later");
    nodes[plan.size]?.start();
  }

  // ---- the supervisor --------------------------------------------------------------------------------------------------

  started(node: SimNode, error: Error | undefined): void {
    const { counts, world } = this.#simulation;
    world.trace(() => `${node.name} ${error ? `cannot start: ${error.message}` : "has started"}`);
    if (!error) {
      counts.note("starts");
      return;
    }
    counts.note("starts that failed");
    if (!this.#isBeyondRepair(error)) return;
    world.check(
      this.#rotten.has(node),
      "what a crash leaves is not taken for damage",
      () => `${node.name} refuses to start, and its disk has only lost what was not synced: ${error.message}`,
    );
    this.#replaceDisk(node);
  }

  ended(node: SimNode, why: string): void {
    const { world, counts } = this.#simulation;
    if (/disk failed/.test(why)) counts.note("processes that a disk ended");
    if (this.#heldDown.has(node)) return;
    const pauseMs = this.#random.pick([5, 300, 2000]);
    world.after(pauseMs, undefined, "supervisor", () => {
      if (this.#heldDown.has(node)) return;
      node.start();
    });
  }

  /** What only an operator can mend, with an empty directory. */
  #isBeyondRepair(error: Error): boolean {
    return ["NodeFileError", "SnapshotError"].includes(error.name) || /damage|corrupt/i.test(error.message);
  }

  #replaceDisk(node: SimNode): void {
    const { world, counts } = this.#simulation;
    world.trace(() => `the operator gives ${node.name} an empty directory`);
    counts.note("directories replaced by an operator");
    this.#emptyDisk(node);
  }

  #emptyDisk(node: SimNode): void {
    const { watch, nodes } = this.#simulation;
    watch.wiped(node);
    this.#rotten.delete(node);
    const others = nodes.filter((other) => other !== node);
    node.wiped(others.length > 0 ? this.#random.pick(others).address : undefined);
  }

  // ---- faults ----------------------------------------------------------------------------------------------------------

  #next(): void {
    const { world, plan } = this.#simulation;
    if (this.#healing) return;
    const kind = this.#random.weighted(plan.faultWeights);
    if (this.#strike(kind)) {
      this.#left--;
      this.#simulation.counts.note(`fault ${kind}`);
      this.#simulation.counts.note("faults");
    }
    world.after(this.#random.delay(plan.faultPauseMs), undefined, "nemesis", () => this.#next());
  }

  /** Whether there was something to strike. */
  #strike(kind: FaultKind): boolean {
    const { world, network, nodes } = this.#simulation;
    world.trace(() => `fault: ${kind}`);
    const random = this.#random;
    const running = nodes.filter(({ process }) => process?.alive);
    const one = running.length > 0 ? random.pick(running) : undefined;
    switch (kind) {
      case "kill":
        if (!one) return false;
        one.kill();
        return true;
      case "cutPower":
        return one !== undefined && this.#cutPower(one);
      case "cutAllPower": {
        const cut = running.filter((node) => this.#cutPower(node));
        return cut.length > 0;
      }
      case "close":
        if (!one || one.state !== "running") return false;
        one.close();
        return true;
      case "pause":
        if (!one || one.paused) return false;
        one.pause();
        this.#later([100, 1500, 7000], () => one.resume());
        return true;
      case "partition":
        return this.#partition(random.shuffled(nodes).slice(0, random.between(1, Math.max(1, nodes.length - 1))));
      case "isolate":
        return one !== undefined && this.#partition([one]);
      case "oneWay": {
        const [from, to] = random.shuffled(nodes);
        if (!from || !to) return false;
        network.cut(from.address, to.address);
        this.#later([300, 3000, 9000], () => network.heal(from.address, to.address));
        return true;
      }
      case "breakConnection":
        return network.breakOne("both");
      case "halfOpen":
        return network.breakOne("one");
      case "slowNetwork":
        return this.#disturb({ delayMs: random.pick([50, 400]) });
      case "lossyNetwork":
        return this.#disturb({ loss: 0.3, duplication: 0.3 });
      case "wallJump":
        if (!one) return false;
        one.clock.stepWall(random.pick([-3_600_000, -2000, 2000, 3_600_000]));
        return true;
      case "drift":
        if (!one) return false;
        one.clock.setRate(random.pick([0.9, 0.99, 1.01, 1.1]));
        this.#later([2000, 10_000], () => one.clock.setRate(1));
        return true;
      case "slowDisk":
        if (!one) return false;
        one.disk.slowness = random.pick([5, 50, 300]);
        this.#later([200, 2000], () => (one.disk.slowness = 1));
        return true;
      case "fullDisk":
        if (!one) return false;
        one.disk.fillUp(random.pick([0, 100, 1000]));
        this.#later([200, 2000, 6000], () => one.disk.makeRoom());
        return true;
      case "shortWrites":
        if (!one) return false;
        one.disk.shortWrites = random.pick([1, 3]);
        this.#later([500, 3000], () => (one.disk.shortWrites = 0));
        return true;
      case "failWrite":
        one?.disk.failLater("write", random.below(10));
        return one !== undefined;
      case "failSync":
        one?.disk.failLater("datasync", random.below(5));
        return one !== undefined;
      case "failRead":
        one?.disk.failLater("read", random.below(5), /^(wal|snapshots|transfers)\//);
        return one !== undefined;
      case "rot":
        return this.#rot(random.pick(nodes));
      case "wipe":
        return this.#wipe(random.pick(nodes));
      case "promote":
        return one !== undefined && !this.#isMaster(one) && this.#promote(one, false);
      case "forcePromote":
        return one !== undefined && !this.#isMaster(one) && this.#promote(one, true);
      case "transfer":
        return this.#transfer();
      case "addReplica":
        return this.#changeMembers("add");
      case "removeReplica":
        return this.#changeMembers("remove");
      case "snapshot":
        if (!one?.rooms?.store.caughtUp) return false;
        this.#operate(one, "snapshot", () => one.mustRooms.store.createSnapshot());
        return true;
      case "changeLimits": {
        const master = nodes.find((node) => node.state === "running" && this.#isMaster(node));
        if (!master) return false;
        const limits = limitsOf(random);
        this.#operate(master, "change of limits", () => master.mustRooms.store.changeLimits(limits));
        return true;
      }
    }
  }

  /** After one of these times, or sooner when everything heals. */
  #later(typicalMs: readonly number[], act: () => void): void {
    this.#simulation.world.after(this.#random.delay(this.#random.pick(typicalMs)), undefined, "fault ends", act);
  }

  #cutPower(node: SimNode): boolean {
    const { plan, watch, counts } = this.#simulation;
    if (plan.durability !== "always") {
      if (!this.#mayLose(node)) return false;
      watch.excuse(node, "the power failed, and not everything was synced");
      this.#unclean.add(node);
      const view = watch.viewOf(node);
      if (view) watch.lostWithPower(view.nodeId);
    }
    counts.note("power cuts");
    node.cutPower();
    return true;
  }

  /** Whether the cluster's promises hold even if this node loses what it kept. */
  #mayLose(node: SimNode): boolean {
    const { plan, watch } = this.#simulation;
    if (plan.commit === "master") return true;
    for (const other of this.#unclean) {
      const applied = watch.appliedOn(other);
      if (other.rooms?.store.caughtUp && applied && isPartOf(watch.ledger.top, applied)) this.#unclean.delete(other);
    }
    const others = [...this.#unclean].filter((other) => other !== node).length;
    return others + this.#lostDisks + 1 <= Math.floor((plan.size - 1) / 2);
  }

  #partition(side: readonly SimNode[]): boolean {
    const { nodes, network } = this.#simulation;
    const others = nodes.filter((node) => !side.includes(node));
    if (others.length === 0 || side.length === 0) return false;
    const pairs = side.flatMap((a) => others.flatMap((b) => [[a, b] as const, [b, a] as const]));
    for (const [from, to] of pairs) network.cut(from.address, to.address);
    this.#later([300, 3000, 9000, 14_000], () => {
      for (const [from, to] of pairs) network.heal(from.address, to.address);
    });
    return true;
  }

  #disturb(quality: { delayMs?: number; loss?: number; duplication?: number }): boolean {
    const { nodes, network } = this.#simulation;
    const pairs = nodes.flatMap((a) => nodes.filter((b) => b !== a).map((b) => [a.address, b.address] as const));
    for (const [from, to] of pairs) network.disturb(from, to, quality);
    this.#later([500, 4000], () => {
      for (const [from, to] of pairs) network.disturb(from, to, network.defaults);
    });
    return pairs.length > 0;
  }

  /** A disk forgets, or says something else than what was written. Only where the others have everything. */
  #rot(node: SimNode): boolean {
    const { watch, world } = this.#simulation;
    // One at a time: what has rotted on one disk must be whole on another.
    const others = [...this.#rotten].some((other) => other !== node);
    if (others || !this.#mayDamage(node)) return false;
    const rotten = node.disk.rot(/^(wal|records|snapshots)\/[^.]+\.(wal|snapshot)$/);
    if (!rotten) return false;
    this.#lostDisks++;
    this.#rotten.add(node);
    watch.rotten(node);
    world.trace(() => `a bit of ${rotten.path} of ${node.name} rots at ${rotten.at}`);
    return true;
  }

  #wipe(node: SimNode): boolean {
    const { world } = this.#simulation;
    if (!this.#mayDamage(node)) return false;
    this.#lostDisks++;
    world.trace(() => `the directory of ${node.name} is wiped`);
    this.#heldDown.add(node);
    node.kill();
    this.#emptyDisk(node);
    this.#heldDown.delete(node);
    this.#later([200, 3000], () => node.start());
    return true;
  }

  #mayDamage(node: SimNode): boolean {
    const { plan, watch } = this.#simulation;
    if (plan.commit === "majority") {
      // Where nothing is committed yet, those who have joined wait for the one that founds.
      if (watch.ledger.top.seq === 0) return false;
      return this.#lostDisks + this.#unclean.size + 1 <= Math.floor((plan.size - 1) / 2);
    }
    // The one copy that counts is the master's; and another node whose disk is good must have everything.
    const view = watch.viewOf(node);
    const { top } = watch.ledger;
    if (view === undefined || top.start?.begins === undefined) return false;
    if (top.start.begins.master === view.nodeId || this.#isMaster(node)) return false;
    // Nobody would become master after it without force.
    if (watch.mayHaveVote(view.nodeId)) return false;
    return this.#isCopied(node);
  }

  /** Another node, whose disk is good, has everything that is committed. */
  #isCopied(node: SimNode): boolean {
    const { nodes, watch } = this.#simulation;
    return nodes.some((other) => {
      const end = watch.viewOf(other)?.log.at(-1);
      return other !== node && !this.#rotten.has(other) && end !== undefined && isPartOf(watch.ledger.top, end);
    });
  }

  // ---- the operator ----------------------------------------------------------------------------------------------------

  #isMaster(node: SimNode): boolean {
    return this.#simulation.watch.coreOf(node)?.role.kind === "master";
  }

  #promote(node: SimNode, force: boolean): boolean {
    const { counts, world } = this.#simulation;
    if (!node.rooms || node.state !== "running" || this.#busyOperator) return false;
    this.#busyOperator = true;
    this.#operate(node, force ? "forced promotion" : "promotion", async () => {
      const result = await node.mustRooms.replicator.promote({ force });
      counts.note(force ? "forced promotions" : "promotions");
      world.trace(() => `${node.name} is promoted: ${JSON.stringify(result)}`);
    });
    return true;
  }

  #transfer(): boolean {
    const { nodes, counts, world, watch } = this.#simulation;
    const master = nodes.find((node) => node.state === "running" && this.#isMaster(node));
    const target = this.#random.chance(0.5) ? this.#random.pick(nodes) : undefined;
    if (!master?.rooms || this.#busyOperator || target === master) return false;
    this.#busyOperator = true;
    this.#operate(master, "transfer", async () => {
      const which = target ? { address: target.address } : {};
      const result = await master.mustRooms.replicator.transfer(which, new AbortController().signal);
      counts.note("transfers");
      const { epochs, top } = watch.ledger;
      const start = epochs.find(({ begins }) => begins?.epoch === result.epoch);
      world.check(
        start !== undefined && (top.epoch >= result.epoch || isPartOf(top, start)),
        "a planned switchover loses nothing",
        () => `epoch ${result.epoch} begins at ${start && show(start)}, and ${show(top)} had been committed`,
      );
      world.trace(() => `the mastership is handed over: ${JSON.stringify(result)}`);
    });
    return true;
  }

  #changeMembers(how: "add" | "remove"): boolean {
    const { nodes, counts, plan } = this.#simulation;
    const master = nodes.find((node) => node.state === "running" && this.#isMaster(node));
    if (!master?.rooms) return false;
    const others = master.rooms.replicator.members().filter((member: MemberView) => member.state !== "self");
    if (how === "remove") {
      const candidates = others.filter(({ voter, nodeId }) => !voter && nodeId !== undefined);
      if (candidates.length === 0) return false;
      const { nodeId, address } = this.#random.pick(candidates);
      this.#operate(master, "removal", async () => {
        await master.mustRooms.replicator.removeReplica(nodeId ? { nodeId } : { address });
        counts.note("members removed");
      });
      // It comes back, or else nothing would show that it can.
      this.#later([1000, 4000], () => this.add(address));
      return true;
    }
    const node = this.#random.pick(nodes);
    if (node === master || (node.index >= plan.size && !this.#spareStarted)) return false;
    this.add(node.address);
    return true;
  }

  add(address: string): void {
    const { nodes, counts } = this.#simulation;
    const master = nodes.find((node) => node.state === "running" && this.#isMaster(node));
    if (!master?.rooms || master.address === address) return;
    this.#operate(master, "addition", async () => {
      await master.mustRooms.replicator.addReplica(address);
      counts.note("members added");
    });
  }

  /** Something that an operator asks of a node. Whether it works out is for the node to say. */
  #operate(node: SimNode, what: string, act: () => Promise<unknown>): void {
    const { world, counts } = this.#simulation;
    const { process } = node;
    if (!process) return;
    const patience = world.after(PATIENCE_MS, undefined, "operator", () => (this.#busyOperator = false));
    const finish = (): void => {
      patience.cancel();
      this.#busyOperator = false;
    };
    world.after(0, process, what, () => {
      if (!node.rooms) return finish();
      void Promise.resolve()
        .then(act)
        .then(
          () => finish(),
          (error: unknown) => {
            finish();
            if (error instanceof Error && error.name === "AssertionError") world.uncaught(error);
            counts.note(`${what} refused`);
            world.trace(() => `${what} at ${node.name} is refused: ${String(error)}`);
          },
        );
    });
  }

  // ---- for the audit ---------------------------------------------------------------------------------------------------

  /** Whether the operator waits for an answer. */
  get isOperating(): boolean {
    return this.#busyOperator;
  }

  isRotten(node: SimNode): boolean {
    return this.#rotten.has(node);
  }

  /** A start reads everything, and finds what has rotted. */
  restart(node: SimNode): void {
    node.kill();
  }

  /** A disk that has errors gets out of the house, once another node has everything. */
  replaceRotten(node: SimNode): void {
    const { counts, world } = this.#simulation;
    if (this.#isMaster(node) || !this.#isCopied(node)) return;
    world.trace(() => `the operator replaces the disk of ${node.name}`);
    counts.note("rotten disks replaced");
    this.#heldDown.add(node);
    node.kill();
    this.#emptyDisk(node);
    this.#heldDown.delete(node);
    node.start();
  }

  /** Lets the operator hand over from a master whose disk has errors. */
  handOver(master: SimNode, target: SimNode): void {
    if (this.#busyOperator) return;
    this.#busyOperator = true;
    this.#operate(master, "transfer", () =>
      master.mustRooms.replicator.transfer({ address: target.address }, new AbortController().signal),
    );
  }

  /** Lets the operator make a node the master. */
  promoteFor(node: SimNode, force: boolean): boolean {
    return this.#promote(node, force);
  }
}
