/**
 * A few pure cores on a network that loses, repeats, delays and reorders, with disks that crashes cut short. What happens
 * next is chosen from outside, step by step, among all that can happen; `ModelTruth` holds every step against what must be.
 */
import { assert, must } from "../../base/assert.js";
import { type ClusterId, clusterId, epochId } from "../../base/ids.js";
import { epoch as toEpoch } from "../../base/position.js";
import type { PromiseReply, SurveyReply } from "../core/ballot.js";
import type { Won } from "../core/candidacy.js";
import type { MasterMessage, ReplicaMessage } from "../core/message.js";
import { type ModelRecord, ModelRecords } from "./model-log.js";
import { type ModelCall, ModelDisk, ModelProcess, type ModelWorld } from "./model-node.js";
import { type ModelCounts, ModelTruth } from "./model-truth.js";

export interface ModelOptions {
  /** The nodes' names. */
  readonly nodes: string;
  readonly voters: "listed" | "master";
  /** Nobody has a record yet; else the first node is, or was, master of epoch 1. */
  readonly isNew: boolean;
  /** What is written counts as kept: a loss of power takes more than a crash. */
  readonly isLax: boolean;
  /** Operators force masterships too. */
  readonly isForcing: boolean;
}

/** A whole number from 0 to below `limit`. */
export type Choose = (limit: number) => number;

/** A survey or a request for a promise, on its way there or back. */
interface InFlight {
  readonly from: ModelProcess;
  readonly call: ModelCall;
  /** Of the way back; a string says what went wrong. */
  answer: SurveyReply | PromiseReply | string | undefined;
  repeated: boolean;
}

interface Connection {
  readonly number: number;
  readonly master: ModelProcess;
  readonly address: string;
  /** Absent until it is open. */
  replica: ModelProcess | undefined;
  readonly session: number;
  readonly toReplica: MasterMessage[];
  readonly toMaster: ReplicaMessage[];
  /** Whether the end still believes in it. */
  masterEnd: boolean;
  replicaEnd: boolean;
}

interface Action {
  readonly weight: number;
  /** It need not happen: nobody waits for it. */
  readonly isFault?: true;
  /** What clients ask for: no fault, but nobody waits for it either. */
  readonly isLoad?: true;
  readonly does: () => void;
}

/** Some runs are wild, others are calm enough for much to be committed. */
const CALMS = [1, 4, 16, 64];

export class Model implements ModelWorld {
  readonly records = new ModelRecords();
  readonly truth: ModelTruth;
  nowMs = 1;
  readonly #options: ModelOptions;
  readonly #choose: Choose;
  readonly #disks: readonly ModelDisk[];
  readonly #processes = new Map<ModelDisk, ModelProcess>();
  /** What they send, and what is sent to them, waits. */
  readonly #isolated = new Set<string>();
  #calls: InFlight[] = [];
  #connections: Connection[] = [];
  /** By process and number: whom the answer to a request goes to. */
  readonly #asked = new Map<ModelProcess, Map<number, InFlight>>();
  #sessions = 0;
  readonly #calm: number;
  #clusters = 0;

  constructor(
    options: ModelOptions,
    choose: Choose,
    counts: ModelCounts,
    readonly trace: string[] | undefined,
  ) {
    this.#options = options;
    this.#choose = choose;
    this.#calm = must(CALMS[choose(CALMS.length)], "there are that many");
    this.truth = new ModelTruth(counts);
    const isListed = options.voters === "listed";
    this.#disks = options.nodes.split("").map((name, i) => new ModelDisk(name, isListed || i === 0));
    if (options.isNew) {
      for (const disk of this.#disks) disk.role = disk.founds ? "master" : "replica";
    } else this.#foundAll();
    for (const disk of this.#disks) this.#start(disk);
  }

  #foundAll(): void {
    const epoch = toEpoch(1);
    const id = epochId("1".repeat(16));
    const voters = this.#disks.map(({ nodeId, address }) => ({ nodeId, address }));
    const electorate =
      this.#options.voters === "listed" ? ({ commit: "majority", mode: "listed", voters } as const) : undefined;
    const first = this.records.make({ epoch, epochId: id, start: { forced: false, electorate } });
    for (const [i, disk] of this.#disks.entries()) {
      disk.clusterId = this.#clusterNamed(1);
      disk.promised = { epoch, candidate: must(this.#disks[0], "there are nodes").nodeId, epochId: id };
      disk.role = i === 0 ? "master" : "replica";
      disk.log.append([first]);
      disk.log.written = disk.log.synced = 1;
    }
  }

  newClusterId(): ClusterId {
    return this.#clusterNamed(2 + this.#clusters++);
  }

  #clusterNamed(number: number): ClusterId {
    return clusterId(number.toString(16).padStart(32, "0"));
  }

  #start(disk: ModelDisk): void {
    const founders = this.#options.voters === "listed" ? this.#disks.map(({ address }) => address) : [];
    const cluster = { disks: this.#disks, founders, isLax: this.#options.isLax };
    this.#processes.set(disk, new ModelProcess(disk, this, cluster, this.nowMs + disk.name.charCodeAt(0) * 7919));
  }

  get #up(): ModelProcess[] {
    return [...this.#processes.values()].filter(({ isUp }) => isUp);
  }

  #processAt(address: string): ModelProcess | undefined {
    return this.#up.find(({ disk }) => disk.address === address);
  }

  // ---- what nodes do ---------------------------------------------------------------------------------------------------

  call(from: ModelProcess, call: ModelCall): void {
    from.campaigns.add(call.campaign);
    this.#calls.push({ from, call, answer: undefined, repeated: false });
  }

  answered(process: ModelProcess, ask: number, reply: PromiseReply): void {
    const call = this.#asked.get(process)?.get(ask);
    this.#asked.get(process)?.delete(ask);
    if (call) this.#calls.push({ ...call, answer: reply });
  }

  connect(master: ModelProcess, number: number, address: string): void {
    this.#connections.push({
      number,
      master,
      address,
      replica: undefined,
      session: ++this.#sessions,
      toReplica: [],
      toMaster: [],
      masterEnd: true,
      replicaEnd: false,
    });
  }

  send(master: ModelProcess, number: number, message: MasterMessage): void {
    this.#of(master, number)?.toReplica.push(message);
  }

  disconnect(master: ModelProcess, number: number): void {
    const connection = this.#of(master, number);
    if (connection) connection.masterEnd = false;
  }

  reply(replica: ModelProcess, session: number, message: ReplicaMessage): void {
    this.#with(replica, session)?.toMaster.push(message);
  }

  closeSession(replica: ModelProcess, session: number): void {
    const connection = this.#with(replica, session);
    if (connection) connection.replicaEnd = false;
  }

  committed(process: ModelProcess): void {
    this.truth.committed(process, this.nowMs);
  }

  assumed(): void {
    if (this.#options.voters === "master") this.truth.onlyOneHolds(this.#disks);
  }

  begun(process: ModelProcess, won: Won): void {
    this.truth.begun(process, won);
  }

  confirmed(process: ModelProcess, read: number, seq: number): void {
    this.truth.confirmed(process, read, seq);
  }

  #of(master: ModelProcess, number: number): Connection | undefined {
    return this.#connections.find(
      (connection) => connection.master === master && connection.number === number && connection.masterEnd,
    );
  }

  #with(replica: ModelProcess, session: number): Connection | undefined {
    return this.#connections.find(
      (connection) => connection.replica === replica && connection.session === session && connection.replicaEnd,
    );
  }

  // ---- what can happen -------------------------------------------------------------------------------------------------

  /** One thing that can happen happens. */
  step(): void {
    this.nowMs++;
    const actions = this.#actions().map(({ weight, isFault, does }) => ({
      weight: isFault ? weight : weight * this.#calm,
      does,
    }));
    const total = actions.reduce((sum, { weight }) => sum + weight, 0);
    let choice = this.#choose(total);
    for (const { weight, does } of actions) {
      choice -= weight;
      if (choice >= 0) continue;
      does();
      break;
    }
    this.#look();
  }

  #look(): void {
    for (const process of this.#up) this.truth.shownAge(process, this.nowMs);
  }

  #actions(): Action[] {
    const actions = [...this.#ofCalls(), ...this.#ofConnections(), ...this.#ofDisks(), ...this.#ofPeople()];
    for (const process of this.#up) {
      if (process.dueAtMs <= this.nowMs) actions.push({ weight: 40, does: () => process.flush() });
    }
    actions.push({ weight: 6, isLoad: true, does: () => (this.nowMs += 100) });
    actions.push({ weight: 8, isFault: true, does: () => (this.nowMs += 1000) });
    actions.push({ weight: 3, isFault: true, does: () => (this.nowMs += 5000) });
    return actions;
  }

  #canReach(a: string, b: string): boolean {
    return !this.#isolated.has(a) && !this.#isolated.has(b);
  }

  #ofCalls(): Action[] {
    return this.#calls.flatMap((call): Action[] => {
      const done = (): void => {
        this.#calls = this.#calls.filter((other) => other !== call);
      };
      const lose = (): void => {
        done();
        if (call.answer === undefined || typeof call.answer !== "string") {
          this.#calls.push({ ...call, answer: "the connection has ended" });
        }
      };
      const repeat = (): void => {
        call.repeated = true;
        this.#calls.push({ ...call });
      };
      const deliver = (): void => {
        done();
        if (call.answer === undefined) this.#ask(call);
        else this.#answer(call, call.answer);
      };
      // That something went wrong, a node finds out by itself.
      const isNear = typeof call.answer === "string" || this.#canReach(call.from.disk.address, call.call.address);
      return [
        ...(isNear ? [{ weight: 40, does: deliver }] : []),
        { weight: 3, isFault: true, does: lose },
        ...(call.repeated ? [] : [{ weight: 3, isFault: true, does: repeat } as const]),
      ];
    });
  }

  #ask(inFlight: InFlight): void {
    const { call } = inFlight;
    const target = this.#processAt(call.address);
    if (!target) {
      this.#calls.push({ ...inFlight, answer: "connection refused" });
    } else if (call.request) {
      const ask = ++target.asks;
      const asked = this.#asked.get(target) ?? new Map<number, InFlight>();
      this.#asked.set(target, asked.set(ask, inFlight));
      target.dispatch({ kind: "promiseAsked", ask, request: call.request, unclean: target.disk.isUnclean });
    } else this.#calls.push({ ...inFlight, answer: target.survey() });
  }

  #answer({ from, call }: InFlight, answer: SurveyReply | PromiseReply | string): void {
    const { campaign, address, request } = call;
    if (!from.isUp || !from.campaigns.has(campaign)) return;
    if (request) {
      const { epoch } = request;
      from.dispatch({ kind: "promised", campaign, address, epoch, answer: answer as PromiseReply | string });
    } else from.dispatch({ kind: "surveyed", campaign, address, answer: answer as SurveyReply | string });
  }

  #ofConnections(): Action[] {
    this.#connections = this.#connections.filter(({ masterEnd, replicaEnd }) => masterEnd || replicaEnd);
    return this.#connections.flatMap((connection): Action[] => {
      const { master, number, session, toReplica, toMaster } = connection;
      const lose = (): void => {
        const { replica, replicaEnd } = connection;
        connection.masterEnd = connection.replicaEnd = false;
        if (replicaEnd) replica?.dispatch({ kind: "left", session });
        master.dispatch({ kind: "lost", connection: number, reason: "reset" });
      };
      const { replica } = connection;
      if (!this.#canReach(master.disk.address, connection.address)) {
        return [{ weight: 2, isFault: true, does: lose }];
      }
      if (!replica) {
        return [
          { weight: 40, does: () => this.#open(connection) },
          { weight: 3, isFault: true, does: lose },
        ];
      }
      const actions: Action[] = [{ weight: 2, isFault: true, does: lose }];
      if (connection.replicaEnd && toReplica.length > 0) {
        const message = must(toReplica[0], "a message");
        const does = (): void => {
          toReplica.shift();
          replica.dispatch({ kind: "pushed", session, message });
        };
        actions.push({ weight: 40, does });
      } else if (connection.replicaEnd && !connection.masterEnd) {
        const does = (): void => {
          connection.replicaEnd = false;
          replica.dispatch({ kind: "left", session });
        };
        actions.push({ weight: 20, does });
      }
      if (connection.masterEnd && toMaster.length > 0) {
        const message = must(toMaster[0], "a message");
        const does = (): void => {
          toMaster.shift();
          master.dispatch({ kind: "answered", connection: number, message });
        };
        actions.push({ weight: 40, does });
      } else if (connection.masterEnd && !connection.replicaEnd) {
        const does = (): void => {
          connection.masterEnd = false;
          master.dispatch({ kind: "lost", connection: number, reason: "closed" });
        };
        actions.push({ weight: 20, does });
      }
      return actions;
    });
  }

  #open(connection: Connection): void {
    const { master, number, session } = connection;
    const replica = this.#processAt(connection.address);
    if (!replica) {
      connection.masterEnd = false;
      return master.dispatch({ kind: "lost", connection: number, reason: "connection refused" });
    }
    connection.replica = replica;
    connection.replicaEnd = true;
    replica.dispatch({ kind: "accepted", session });
    master.dispatch({ kind: "opened", connection: number });
  }

  #ofDisks(): Action[] {
    return this.#up.flatMap((process): Action[] => {
      const { log, works, done } = process;
      const actions: Action[] = [];
      if (works.length > 0) {
        const does = (): void => process.work(works.length > 1 ? this.#choose(works.length) : 0);
        actions.push({ weight: 40, does });
      }
      if (done.length > 0) actions.push({ weight: 40, does: () => process.tell() });
      if (log.written < log.length) {
        actions.push({ weight: 30, does: () => process.flushLog(() => (log.written = log.length)) });
        actions.push({ weight: 1, isFault: true, does: () => process.dropQueued() });
      }
      if (log.synced < log.written) {
        // Nobody waits for the disk where what is written counts as kept.
        const weight = this.#options.isLax ? 1 : 30;
        actions.push({ weight, does: () => process.flushLog(() => (log.synced = log.written)) });
      }
      return actions;
    });
  }

  #ofPeople(): Action[] {
    const actions: Action[] = [];
    for (const disk of this.#disks) {
      const process = must(this.#processes.get(disk), "a node has run");
      if (!process.isUp) {
        actions.push({ weight: 10, does: () => this.#start(disk) });
        continue;
      }
      actions.push({ weight: 2, isFault: true, does: () => this.#crash(process) });
      const isolate = (): void => void (this.#isolated.delete(disk.address) || this.#isolated.add(disk.address));
      actions.push({ weight: this.#isolated.has(disk.address) ? 4 : 1, isFault: true, does: isolate });
      const { role } = process.state;
      if (role.kind === "replica" || role.kind === "idle") {
        actions.push({ weight: 3, isFault: true, does: () => this.promote(process, false) });
      }
      if (this.#options.isForcing) actions.push({ weight: 1, isFault: true, does: () => this.promote(process, true) });
      if (role.kind !== "master") continue;
      const { epoch, epochId, byConnection } = role;
      actions.push({ weight: 3, isLoad: true, does: () => this.#read(process) });
      const address = [...byConnection.values()][this.#choose(8)]?.address;
      if (address !== undefined) {
        actions.push({ weight: 3, isFault: true, does: () => process.dispatch({ kind: "handOver", address }) });
      }
      if (!process.isServing) continue;
      const record: Omit<ModelRecord, "number"> = { epoch, epochId, start: undefined };
      const does = (): void => process.flushLog(() => process.append(record));
      actions.push({ weight: 6, isLoad: true, does });
    }
    return actions;
  }

  #read(process: ModelProcess): void {
    const read = ++process.reads;
    this.truth.asked(process, read);
    process.dispatch({ kind: "confirm", read });
  }

  promote(process: ModelProcess, forced: boolean): void {
    if (forced) this.truth.fork();
    process.dispatch({ kind: "campaign", cause: "promoted", forced });
  }

  #crash(process: ModelProcess): void {
    const { disk } = process;
    const { log } = disk;
    this.truth.counts.crashes++;
    this.trace?.push(`${this.nowMs} ${disk.name} crashes`);
    process.isUp = false;
    process.works.length = process.done.length = 0;
    const isPowerLoss = this.#options.isLax && this.#choose(2) === 0;
    const safe = this.#options.isLax && !isPowerLoss ? log.written : log.synced;
    log.cutAfter(safe + this.#choose(log.length - safe + 1));
    log.written = log.synced = log.length;
    log.changed();
    if (isPowerLoss) disk.isUnclean = true;
    for (const [, call] of this.#asked.get(process) ?? []) this.#calls.push({ ...call, answer: "the node is gone" });
    this.#asked.delete(process);
    for (const connection of this.#connections) {
      if (connection.master === process) connection.masterEnd = false;
      if (connection.replica === process) connection.replicaEnd = false;
    }
  }

  // ---- the end ---------------------------------------------------------------------------------------------------------

  /** Nothing fails any more, and whatever can happen does, one after the other. */
  #settle(ms: number): void {
    const until = this.nowMs + ms;
    for (let i = 0; this.nowMs < until; i++) {
      assert(i < 100_000, "the model comes to no rest");
      const action = this.#actions().find(({ isFault, isLoad }) => !isFault && !isLoad);
      if (action) action.does();
      else {
        const due = Math.min(until, ...this.#up.map(({ dueAtMs }) => dueAtMs));
        this.nowMs = Math.max(this.nowMs + 1, due);
      }
      this.#look();
    }
  }

  /** Once nothing fails any more, an operator can make one of the nodes the master, and all become equal to it. */
  heal(): void {
    this.#isolated.clear();
    const serving = (): ModelProcess[] => this.#up.filter(({ isServing }) => isServing);
    // Two masters of one epoch stop only once they hear of each other.
    for (let tries = 0; tries < 3; tries++) {
      this.#settle(30_000);
      for (const isForced of this.truth.isForked ? [false, true] : [false]) {
        for (const process of this.#up) {
          if (serving().length > 0) break;
          if (process.log.length > 0) this.promote(process, isForced);
          this.#settle(30_000);
        }
      }
    }
    const [master, second] = serving();
    assert(master && !second, `one node serves in the end, and not ${serving().length}`);
    for (const { log, disk, state } of this.#up) {
      const isEqual = log.length === master.log.length && log.numberAt(log.length) === master.log.numberAt(log.length);
      assert(isEqual, `node ${disk.name} has the master's log in the end (${state.role.kind})`);
      assert(log.applied === log.length, `node ${disk.name} has applied all that it has in the end`);
    }
    this.truth.counts.healed++;
  }
}
