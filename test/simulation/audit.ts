/**
 * What must be true once everything has healed: the cluster serves again, all nodes come to hold the same, nothing that
 * was acknowledged is missing, and what clients were told all along makes sense as a whole.
 */
import { must } from "../../internal/base/assert.js";
import { seq as toSeq } from "../../internal/base/position.js";
import type { Engine } from "../../internal/engine/engine.js";
import { NO_LIMITS } from "../../internal/store/room.js";
import type { StateCheck } from "../../internal/store/store.js";
import { forkOf, isPartOf, type LedgerRecord, type ModelEntry, show, votersOf } from "./ledger.js";
import { checkRegister, type RegisterOperation } from "./linearizability.js";
import type { SimNode } from "./sim-node.js";
import type { Simulation } from "./simulation.js";
import { REGISTERS } from "./wishes.js";

/** Virtual time within which a healed cluster must be whole again. */
const HEALING_MS = 180_000;
/** When an operator looks after disks with errors, should the cluster not be whole by then: restarts, then replaces. */
const RESTART_ROTTEN_MS = 40_000;
const REPLACE_ROTTEN_MS = 60_000;
const FORCE_FROM_ROTTEN_MS = 90_000;
const LOOK_MS = 250;
const MARKER = new TextEncoder().encode("marker");

export class Audit {
  readonly #simulation: Simulation;
  readonly #beganMs: number;
  /** The record of the last write, which every node must come to apply. */
  #marker: LedgerRecord | undefined;
  #writing = false;
  #settled = false;
  #promotions = 0;
  #nextPromotionMs: number;
  /** Since the healing began. */
  #nextCareMs = RESTART_ROTTEN_MS;
  readonly #nextAdditionMs = new Map<SimNode, number>();

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
    this.#beganMs = simulation.world.nowMs;
    this.#nextPromotionMs = this.#beganMs + 6000;
  }

  run(): void {
    const { world, nemesis, clients, followers, watchers } = this.#simulation;
    nemesis.heal();
    world.after(LOOK_MS, undefined, "audit", () => this.#look());
    world.run(() => this.#settled || world.isTooLong || world.nowMs > this.#beganMs + HEALING_MS);
    if (world.violation) return;
    if (!this.#settled) {
      world.violate("a healed cluster becomes whole", this.#whatIsMissing());
      return;
    }
    for (const follower of [...followers, ...watchers]) follower.stop();
    this.#expectAcknowledged();
    for (const node of this.#nodes) this.#expectState(node);
    this.#expectLinearizable();
    const operations = clients.reduce((sum, client) => sum + client.done, 0);
    const answered = clients.reduce((sum, client) => sum + client.answered, 0);
    this.#simulation.counts.note("operations", operations);
    this.#simulation.counts.note("seeds with most operations answered", answered > operations / 2 ? 1 : 0);
  }

  get #nodes(): readonly SimNode[] {
    return this.#simulation.nodes;
  }

  get #master(): SimNode | undefined {
    return this.#nodes.find((node) => node.state === "running" && node.rooms?.store.isServingMaster);
  }

  // ---- becoming whole --------------------------------------------------------------------------------------------------

  #look(): void {
    const { world } = this.#simulation;
    if (this.#isWhole()) {
      this.#settled = true;
      return;
    }
    this.#careForDisks();
    const master = this.#master;
    if (!master) this.#seekMaster();
    else if (this.#end?.cluster.voters === "listed" && this.#areVotesGone()) this.#strip(master);
    else if (!this.#marker && !this.#writing) this.#writeMarker(master);
    else if (this.#marker) this.#bringBack(master);
    world.after(LOOK_MS, undefined, "audit", () => this.#look());
  }

  #careForDisks(): void {
    const { world, nemesis } = this.#simulation;
    const sinceMs = world.nowMs - this.#beganMs;
    if (sinceMs < this.#nextCareMs) return;
    this.#nextCareMs = sinceMs < REPLACE_ROTTEN_MS ? REPLACE_ROTTEN_MS : sinceMs + 10_000;
    const rotten = this.#nodes.filter((node) => nemesis.isRotten(node) && node.process?.alive);
    const master = this.#master;
    const target = this.#nodes.find((node) => node !== master && !nemesis.isRotten(node) && this.#has(node));
    for (const node of rotten) {
      if (node === master) {
        if (target) nemesis.handOver(master, target);
        else if (sinceMs > FORCE_FROM_ROTTEN_MS) this.#forceFrom(master);
      } else if (sinceMs < REPLACE_ROTTEN_MS) nemesis.restart(node);
      else nemesis.replaceRotten(node);
    }
  }

  /** A master whose disk cannot be read any more hands over to nobody: another node takes over with what it has. */
  #forceFrom(master: SimNode): void {
    const { watch, nemesis } = this.#simulation;
    const [next] = this.#nodes
      .filter((node) => node !== master && !nemesis.isRotten(node) && node.state === "running")
      .sort((a, b) => (watch.viewOf(b)?.log.length ?? 0) - (watch.viewOf(a)?.log.length ?? 0));
    if (!next) return;
    this.#marker = undefined;
    nemesis.promoteFor(next, true);
  }

  /** Where no node makes itself master, an operator must; as an operator would, of the node that has most. */
  #seekMaster(): void {
    const { world, nemesis, watch, plan, counts } = this.#simulation;
    this.#marker = undefined;
    if (world.nowMs < this.#nextPromotionMs || nemesis.isOperating) return;
    this.#nextPromotionMs = world.nowMs + 8000;
    const fit = this.#nodes
      .filter((node) => node.state === "running" && node.rooms?.store.clusterId !== undefined)
      .map((node) => ({ node, end: must(watch.viewOf(node)?.log.at(-1), "a running node has a log") }))
      .sort(
        (a, b) =>
          Number(nemesis.isRotten(a.node)) - Number(nemesis.isRotten(b.node)) ||
          b.end.epoch - a.end.epoch ||
          b.end.seq - a.end.seq,
      );
    // Force is for those seeds only in which an operator uses it anyway, and for votes that are gone: elsewhere it must
    // never be needed.
    const force = this.#promotions > 4 && (plan.faultWeights.forcePromote > 0 || this.#areVotesGone());
    // The best first; by force, too, it is not certain that one works out.
    const turn = force ? Math.max(0, this.#promotions - 5) : this.#promotions;
    const best = fit[turn % Math.max(1, fit.length)];
    this.#promotions++;
    if (best && nemesis.promoteFor(best.node, force)) counts.note("promotions to heal");
  }

  /** The master works, and can admit nobody: only by force it gets rid of voters that are gone. */
  #strip(master: SimNode): void {
    const { world, nemesis, counts } = this.#simulation;
    if (world.nowMs < this.#nextPromotionMs + 20_000 || nemesis.isOperating) return;
    this.#nextPromotionMs = world.nowMs;
    this.#marker = undefined;
    if (nemesis.promoteFor(master, true)) counts.note("promotions to heal");
  }

  /** The furthest end of all logs. */
  get #end(): LedgerRecord | undefined {
    const { watch } = this.#simulation;
    const ends = this.#nodes.map((node) => watch.viewOf(node)?.log.at(-1)).filter((end) => end !== undefined);
    return ends.sort((a, b) => b.epoch - a.epoch || b.seq - a.seq)[0];
  }

  /** Too many of those who decide have lost their disks for good. */
  #areVotesGone(): boolean {
    const { watch } = this.#simulation;
    const alive = new Map(this.#nodes.map((node) => [watch.viewOf(node)?.nodeId, node]));
    const end = this.#end;
    if (!end) return false;
    if (end.cluster.voters === "listed") {
      // A voter that never joined has no vote to give either.
      const voters = votersOf(end).map((voter) => {
        const node = alive.get(voter);
        return node?.rooms?.store.clusterId === undefined ? undefined : node;
      });
      const clean = voters.filter((node) => node?.rooms && !node.rooms.store.mustCatchUp);
      // Those that may have lost records are believed once all are there.
      return voters.includes(undefined) && clean.length <= voters.length / 2;
    }
    const promises = this.#nodes
      // Of a node that only waits for a master no core is known.
      .map((node) => node.rooms?.store.promised)
      .filter((promised) => promised !== undefined);
    const [newest] = promises.sort((a, b) => b.epoch - a.epoch);
    if (newest?.candidate === undefined) return false;
    // One that has lost records is behind whoever gave it the vote, and gets it no second time; one that has none cannot
    // become master, nor can anybody prove to have as much as it had.
    const holder = alive.get(newest.candidate);
    return holder?.rooms === undefined || holder.rooms.store.isEmpty || watch.hasLostWithPower(newest.candidate);
  }

  #writeMarker(master: SimNode): void {
    const { world, service, watch } = this.#simulation;
    const { process } = master;
    this.#writing = true;
    const patience = world.after(10_000, undefined, "audit", () => (this.#writing = false));
    world.after(0, process, "marker", () => {
      if (!master.rooms) return;
      const value = new TextEncoder().encode(`${world.nowMs}`);
      const wish = { kind: "write", commands: [{ kind: "set", key: MARKER, value }] } as const;
      const { store } = master.rooms;
      // The operator sees to it that there is room for it.
      const room = store.electorate.settings.limits ? store.changeLimits(NO_LIMITS) : Promise.resolve();
      const write = room.then(() => service.write(master, wish, { timeoutMs: 5000 }));
      void write.then(
        ({ position }) => {
          patience.cancel();
          this.#writing = false;
          this.#marker = watch.recordAt(master, position);
        },
        () => {
          patience.cancel();
          this.#writing = false;
        },
      );
    });
  }

  /** A node whose data is gone must be admitted again by an operator. */
  #bringBack(master: SimNode): void {
    const { world, nemesis, watch } = this.#simulation;
    if (world.nowMs < this.#beganMs + 8000) return;
    const end = watch.viewOf(master)?.log.at(-1);
    for (const node of this.#nodes) {
      // It may have had the marker from an earlier master, and be pushed to no more: keys that expire come after it.
      if (node === master || node.state !== "running" || watch.viewOf(node)?.log.at(-1) === end) continue;
      if (world.nowMs < (this.#nextAdditionMs.get(node) ?? 0)) continue;
      this.#nextAdditionMs.set(node, world.nowMs + 10_000);
      nemesis.add(node.address);
    }
  }

  #has(node: SimNode): boolean {
    const applied = this.#simulation.watch.appliedOn(node);
    return this.#marker !== undefined && applied !== undefined && isPartOf(this.#marker, applied);
  }

  #isWhole(): boolean {
    const master = this.#master;
    const marker = this.#marker;
    const { watch, followers } = this.#simulation;
    if (!master || !marker) return false;
    const end = watch.viewOf(master)?.log.at(-1);
    if (!end || !isPartOf(marker, end)) {
      this.#marker = undefined;
      return false;
    }
    const check = master.rooms?.store.stateCheck();
    return (
      this.#nodes.every(
        (node) =>
          node.state === "running" &&
          node.rooms?.store.caughtUp === true &&
          watch.viewOf(node)?.log.at(-1) === end &&
          node.rooms.store.appliedSeq === end.seq &&
          // One that differs finds out, and is given the master's state.
          check !== undefined &&
          node.rooms.store.stateCheck()?.checksum === check.checksum,
      ) && followers.every(({ place }) => place.record === end || place.seq === end.seq)
    );
  }

  #whatIsMissing(): string {
    const { watch, followers } = this.#simulation;
    const nodes = this.#nodes.map((node) => {
      const core = watch.coreOf(node);
      const view = watch.viewOf(node);
      const end = view?.log.at(-1);
      return `${node.name} (${node.state}, ${core?.role.kind ?? "no role"}, log to ${end ? show(end) : "?"}, applied ${node.rooms?.store.appliedSeq}, ${node.rooms?.store.status().notReadyReason})`;
    });
    const places = followers.map(({ place }) => `follower at ${place.seq}`);
    return `after ${HEALING_MS / 1000} s: ${[...nodes, ...places].join("; ")}; ${this.#marker ? "a write was answered" : "no write was answered"}`;
  }

  // ---- what all nodes hold ---------------------------------------------------------------------------------------------

  #expectState(node: SimNode): void {
    const { world, watch } = this.#simulation;
    const { store, engine } = node.mustRooms;
    const record = must(watch.appliedOn(node), "a whole node has applied what it has");
    const found = [...walk(engine)].sort();
    const expected = [...record.state].map(([key, entry]) => entryText(key, entry)).sort();
    if (found.join() !== expected.join()) {
      world.violate(
        "equal records, equal states",
        `${node.name} holds ${found.join(", ")} at ${show(record)}, where it is ${expected.join(", ")}`,
      );
    }
    const { start, end } = store.recordRange();
    const { produced } = record;
    // What was truncated is gone, also where the order to do so was lost with a mastership.
    const mayBeLater = watch.lossy.size > 0 && start > produced.start && start <= produced.end;
    if ((start !== produced.start && !mayBeLater) || end !== produced.end) {
      world.violate(
        "equal records, equal states",
        `the record log of ${node.name} goes from ${start} to ${end}, it should from ${produced.start} to ${produced.end}`,
      );
    }
    const first = mustCheck(this.#nodes[0]!.mustRooms.store);
    const own = mustCheck(store);
    if (own.seq !== first.seq || own.checksum !== first.checksum) {
      world.violate(
        "equal checksums at equal seqs",
        `${node.name} has ${own.checksum} at ${own.seq}, ${this.#nodes[0]!.name} ${first.checksum} at ${first.seq}`,
      );
    }
  }

  // ---- what clients were told ------------------------------------------------------------------------------------------

  /** Every acknowledged write is there, but for those that a mastership was allowed to lose. */
  #expectAcknowledged(): void {
    const { world, watch, service, counts } = this.#simulation;
    const end = must(watch.appliedOn(must(this.#master, "a whole cluster has a master")), "it has applied what it has");
    for (const { record, kept } of service.acknowledged) {
      if (isPartOf(record, end)) continue;
      counts.note("acknowledged writes that were lost");
      // What only the master kept is no more than its disk, and a failover, allow.
      if (kept) continue;
      const fork = forkOf(record, end);
      let allowed = false;
      for (let at = end.start; at && at.seq > fork.seq; at = at.prev?.start) if (watch.lossy.has(at)) allowed = true;
      if (allowed) continue;
      world.violate(
        "every acknowledged write is there",
        `${show(record)} was acknowledged, and is not part of ${show(end)}`,
      );
      return;
    }
  }

  #expectLinearizable(): void {
    const { world, watch, clients, counts } = this.#simulation;
    // From a mastership on that was allowed to lose, there is no one history any more; before it, there must be.
    const endMs = watch.firstLossyMs;
    for (const key of REGISTERS) {
      const operations = [...clients.flatMap(({ history }) => history), ...watch.unasked]
        .filter((operation) => operation.key === key)
        .flatMap((operation): RegisterOperation[] => {
          if (operation.invokedMs >= endMs) return [];
          if (operation.returnedMs < endMs || operation.returnedMs === Infinity) return [operation];
          // Its answer came from a history that may have been another one already.
          const { invokedMs, leaves, adds } = operation;
          if (leaves !== undefined) return [{ invokedMs, returnedMs: Infinity, leaves }];
          return adds === undefined ? [] : [{ invokedMs, returnedMs: Infinity, adds }];
        });
      const verdict = checkRegister(operations);
      counts.note("register operations judged", operations.length);
      if (verdict.linearizable) continue;
      const { longest, stuckAt } = verdict;
      world.violate(
        "what clients saw is linearizable",
        `key ${key}: nothing explains ${shown(stuckAt)} after ${shown(longest.slice(-8))}`,
      );
      return;
    }
  }
}

const shown = (what: unknown): string =>
  JSON.stringify(what, (_key, value: unknown) => (typeof value === "bigint" ? `${value}` : value));

/** A whole node has removed what was deleted. */
function mustCheck(store: { stateCheck(): StateCheck | undefined }): StateCheck {
  return must(store.stateCheck(), "the state of a whole node can be compared");
}

function* walk(engine: Engine): Generator<string> {
  const text = new TextDecoder();
  const entries = engine.walk(toSeq(Number.MAX_SAFE_INTEGER));
  for (let next = entries.next(); !next.done; next = entries.next()) {
    const { key, value } = next.value;
    yield entryText(text.decode(key), { ...next.value, value: text.decode(value) });
  }
}

function entryText(
  key: string,
  entry: Pick<ModelEntry, "value" | "createSeq" | "modSeq"> & { readonly expiresAtMs?: number | undefined },
): string {
  const { value, createSeq, modSeq, expiresAtMs } = entry;
  return `${key}=${value} @${createSeq}, ${modSeq} ${expiresAtMs ?? ""}`;
}
