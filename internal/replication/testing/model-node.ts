/**
 * A node of a model: the core with a disk of its own, whose every write and read ends when the model says so. It keeps the
 * driver's promises: one event at a time, answers first, a changed log before anything else, a flush at the end.
 */
import { assert, must } from "../../base/assert.js";
import { type ClusterId, epochId, nodeId, type NodeId } from "../../base/ids.js";
import { epoch as toEpoch, seq as toSeq } from "../../base/position.js";
import type { PromiseReply, PromiseRequest, SurveyReply } from "../core/ballot.js";
import type { Won } from "../core/candidacy.js";
import type { Effect, PromisedEpoch } from "../core/effect.js";
import type { Electorate } from "../core/electorate.js";
import type { Happening, Outcome, PeerSpec } from "../core/event.js";
import type { MasterMessage, ReplicaMessage } from "../core/message.js";
import { newReplicaRole } from "../core/replica.js";
import { type CoreState, EMPTY_LOG, newCoreState } from "../core/state.js";
import { nextDueMs, step } from "../core/step.js";
import { isServing, isUnclaimed } from "../core/view.js";
import { showEffect } from "./dialogue-show.js";
import { ModelLog, type ModelRecord, type ModelRecords } from "./model-log.js";

/** What a node asks of the others while it campaigns. */
export interface ModelCall {
  readonly campaign: number;
  readonly address: string;
  /** Absent: a survey. */
  readonly request: PromiseRequest | undefined;
}

/** What a node needs of the model around it. */
export interface ModelWorld {
  readonly nowMs: number;
  /** Absent where nobody reads it. */
  readonly trace: string[] | undefined;
  readonly records: ModelRecords;
  newClusterId(): ClusterId;
  call(process: ModelProcess, call: ModelCall): void;
  answered(process: ModelProcess, ask: number, reply: PromiseReply): void;
  connect(process: ModelProcess, connection: number, address: string): void;
  send(process: ModelProcess, connection: number, message: MasterMessage): void;
  disconnect(process: ModelProcess, connection: number): void;
  reply(process: ModelProcess, session: number, message: ReplicaMessage): void;
  closeSession(process: ModelProcess, session: number): void;
  committed(process: ModelProcess): void;
  assumed(process: ModelProcess): void;
  begun(process: ModelProcess, won: Won): void;
  confirmed(process: ModelProcess, read: number, seq: number): void;
}

const RESUMES_MS = 7500;

/** What a node finds again when it starts. */
export class ModelDisk {
  readonly log = new ModelLog();
  readonly nodeId: NodeId;
  readonly address: string;
  clusterId: ClusterId | undefined;
  promised: PromisedEpoch = { epoch: toEpoch(0) };
  role: "master" | "replica" = "replica";
  /** It may have lost what it acknowledged. */
  isUnclean = false;

  constructor(
    readonly name: string,
    readonly founds: boolean,
  ) {
    this.nodeId = nodeId(name.charCodeAt(0).toString(16).repeat(16));
    this.address = `${name}:1`;
  }
}

/** Work of the disk: first it is done, and then the core is told; the process may end in between. */
interface Work {
  readonly does: () => void;
  readonly tells: () => Happening;
}

export class ModelProcess {
  readonly state: CoreState;
  readonly campaigns = new Set<number>();
  readonly works: Work[] = [];
  /** Done, and not told. */
  readonly done: Work[] = [];
  isUp = true;
  reads = 0;
  asks = 0;
  readonly #answers: Happening[] = [];
  readonly #events: Happening[] = [];
  #running = false;
  #resumesAtMs: number;

  constructor(
    readonly disk: ModelDisk,
    readonly world: ModelWorld,
    readonly cluster: {
      readonly disks: readonly ModelDisk[];
      readonly founders: readonly string[];
      readonly isLax: boolean;
    },
    seed: number,
  ) {
    this.state = newCoreState({
      self: disk.nodeId,
      settings: { heartbeatIntervalMs: 1000, batchBytes: 12, windowBytes: 24 },
      clusterId: disk.clusterId,
      promised: disk.promised,
      log: { ...EMPTY_LOG, appliedSeq: toSeq(disk.log.applied) },
      role:
        disk.role === "replica"
          ? newReplicaRole()
          : { kind: "idle", why: "this node has not started yet", canFollow: false },
      seed,
    });
    disk.log.changed();
    this.#resumesAtMs = world.nowMs + RESUMES_MS;
    if (disk.role === "master") this.dispatch({ kind: "campaign", cause: "start", forced: false });
    else this.dispatch({ kind: "flush" });
  }

  get log(): ModelLog {
    return this.disk.log;
  }

  get isServing(): boolean {
    return this.isUp && isServing(this.state);
  }

  get dueAtMs(): number {
    return Math.min(nextDueMs(this.state), this.#resumesAtMs);
  }

  /** What is due is done; a node that is meant to be master, and is a replica of nobody, tries again now and then. */
  flush(): void {
    if (this.#resumesAtMs <= this.world.nowMs) {
      this.#resumesAtMs = this.world.nowMs + RESUMES_MS;
      const isFounder = this.cluster.founders.length > 0 && this.log.length === 0 && this.disk.founds;
      if ((isFounder || this.disk.role === "master") && isUnclaimed(this.state)) {
        this.dispatch({ kind: "campaign", cause: "start", forced: false });
      }
    }
    this.dispatch({ kind: "flush" });
  }

  dispatch(happening: Happening): void {
    if (!this.isUp) return;
    this.#events.push(happening);
    if (this.#running) return;
    this.#running = true;
    this.#run();
    this.#events.push({ kind: "flush" });
    this.#run();
    this.#running = false;
  }

  survey(): SurveyReply {
    const { clusterId, self, promised, log } = this.state;
    return {
      ...(clusterId !== undefined && { clusterId }),
      nodeId: self,
      promised: {
        epoch: promised.epoch,
        ...(promised.candidate !== undefined && { candidate: promised.candidate }),
      },
      last: { epoch: log.last.epoch, seq: log.last.seq },
      isMaster: isServing(this.state),
      founds: clusterId === undefined && this.disk.founds,
      unclean: this.disk.isUnclean,
    };
  }

  // ---- the disk --------------------------------------------------------------------------------------------------------

  /** Whoever writes or syncs tells the core. */
  flushLog(change: () => void): void {
    change();
    this.log.changed();
    this.dispatch({ kind: "flush" });
  }

  /** The disk has no room for what is queued. */
  dropQueued(): void {
    const { log } = this;
    const firstSeq = toSeq(log.written + 1);
    log.cutAfter(log.written);
    this.dispatch({ kind: "dropped", firstSeq });
  }

  append(record: Omit<ModelRecord, "number">): void {
    this.log.append([this.world.records.make(record)]);
  }

  // ---- the driver ------------------------------------------------------------------------------------------------------

  #run(): void {
    for (;;) {
      this.#takeLog();
      const happening = this.#answers.shift() ?? this.#events.shift();
      if (!happening || !this.isUp) return;
      this.#step(happening);
    }
  }

  #takeLog(): void {
    const { log } = this;
    const view = log.view(toSeq(this.cluster.isLax ? log.written : log.synced));
    if (view !== this.state.log) this.#step({ kind: "log", log: view });
  }

  #step(happening: Happening): void {
    const { trace, nowMs } = this.world;
    const effects = step(this.state, { ...happening, nowMs });
    if (trace && (effects.length > 0 || happening.kind !== "flush")) {
      const what = JSON.stringify(happening, (key, value: unknown) => (key === "records" ? "…" : value));
      trace.push(`${Math.floor(nowMs)} ${this.disk.name} ${what} => ${effects.map(showEffect).join("; ")}`);
    }
    for (const effect of effects) this.#carryOut(effect);
  }

  #work(operation: number, does: () => void, outcome: () => Outcome = () => ({ kind: "done" })): void {
    this.works.push({ does, tells: () => ({ kind: "finished", operation, outcome: outcome() }) });
  }

  #promise(promise: PromisedEpoch, role: "master" | "replica"): void {
    const before = this.disk.promised;
    assert(promise.epoch >= before.epoch, `epoch ${promise.epoch} is below the promised ${before.epoch}`);
    assert(
      promise.epoch > before.epoch || before.epochId === undefined || before.epochId === promise.epochId,
      `epoch ${promise.epoch} was promised before`,
    );
    this.disk.promised = promise;
    this.disk.role = role;
    this.world.assumed(this);
  }

  #carryOut(effect: Effect): void {
    const { disk, log, world } = this;
    switch (effect.kind) {
      case "commit":
        assert(effect.seq <= log.length, "what is committed is in the log");
        log.applied = effect.seq;
        log.changed();
        return world.committed(this);
      case "answerPromise":
        return world.answered(this, effect.ask, effect.reply);
      case "saveRole":
        return this.#work(effect.operation, () => (disk.role = "replica"));
      case "prepare": {
        const epochIdOfBid = epochId(
          (Math.floor(world.nowMs) * 256 + disk.name.charCodeAt(0)).toString(16).padStart(16, "0"),
        );
        const others = this.cluster.disks.filter((other) => other !== disk).map(({ address }) => address);
        const bid = {
          epochId: epochIdOfBid,
          address: disk.address,
          addresses: others,
          founders: log.length === 0 ? this.cluster.founders : [],
          unclean: disk.isUnclean,
        };
        this.campaigns.add(effect.campaign);
        return void this.#answers.push({ kind: "prepared", campaign: effect.campaign, bid });
      }
      case "survey":
        return world.call(this, { campaign: effect.campaign, address: effect.address, request: undefined });
      case "requestPromise":
        return world.call(this, effect);
      case "endCalls":
        return void this.campaigns.delete(effect.campaign);
      case "found": {
        const founded = world.newClusterId();
        return this.#work(
          effect.operation,
          () => (disk.clusterId = founded),
          () => ({ kind: "founded", clusterId: founded }),
        );
      }
      case "join":
        return this.#work(effect.operation, () => (disk.clusterId = effect.clusterId));
      case "promise":
        return this.#work(effect.operation, () => this.#promise(effect.promise, "replica"));
      case "assume":
        return this.#work(effect.operation, () => this.#promise(effect.promise, "master"));
      case "beginEpoch": {
        const { promise, forced } = effect.won;
        const { epoch, epochId } = promise;
        this.append({ epoch, epochId, start: { forced, electorate: this.#firstElectorate(effect.won) } });
        const firstSeq = toSeq(log.length);
        return void this.#answers.push({ kind: "begun", firstSeq, masterTimeOffsetMs: 0 });
      }
      case "begun":
        world.begun(this, effect.won);
        return void this.#events.push({ kind: "peers", peers: this.#peers(), removed: new Set() });
      case "confirmed":
        return world.confirmed(this, effect.read, effect.seq);
      case "connect":
        return world.connect(this, effect.connection, effect.address);
      case "send":
        return world.send(this, effect.connection, effect.message);
      case "disconnect":
        return world.disconnect(this, effect.connection);
      case "readMark": {
        const { connection, seq } = effect;
        return void this.works.push({
          does: () => undefined,
          tells: () =>
            seq <= log.length
              ? { kind: "marked", connection, mark: log.mark(seq) }
              : { kind: "unreadable", connection, detail: "it was cut" },
        });
      }
      case "readTail": {
        const { connection, afterSeq, maxBytes } = effect;
        const records = log.after(afterSeq, Math.min(Math.max(1, maxBytes / 4), log.written - afterSeq));
        const end = log.mark(afterSeq + records.length);
        return void this.#answers.push({
          kind: "tail",
          connection,
          batch: { records: world.records.encode(records), end },
        });
      }
      case "reply":
        return world.reply(this, effect.session, effect.message);
      case "closeSession":
        return world.closeSession(this, effect.session);
      case "compare":
        return this.#work(
          effect.operation,
          () => undefined,
          () => ({ kind: "mark", mark: log.mark(effect.seq) }),
        );
      case "cut":
        return this.#work(effect.operation, () => log.cutAfter(effect.seq));
      case "append":
        log.append(world.records.decode(effect.records));
        return void this.#answers.push({ kind: "appended", session: effect.session });
      case "caughtUp":
        return void this.works.push({
          does: () => (disk.isUnclean = false),
          tells: () => ({ kind: "flush" }),
        });
      case "stepDown":
      case "unsaved":
      case "campaignFailed":
      case "handedOver":
      case "met":
      case "streaming":
      case "refused":
      case "unreached":
      case "follow":
      case "orphaned":
      case "observeTime":
      case "expectState":
        return;
      case "readDisk":
      case "openTransfer":
      case "readTransfer":
      case "spoilTransfer":
      case "transferring":
      case "stageTransfer":
      case "writeTransfer":
      case "installTransfer":
      case "setAside":
      case "restart":
        throw new Error(`the model has no ${effect.kind}`);
    }
  }

  #firstElectorate({ founders, stripped }: Won): Electorate | undefined {
    if (founders) return { commit: "majority", mode: "listed", voters: founders };
    const { electorate } = this.log;
    if (electorate.mode === "master") return undefined;
    const voters = electorate.voters.filter(({ nodeId }) => !stripped.includes(nodeId));
    const { nodeId: self, address } = this.disk;
    const withSelf = voters.some(({ nodeId }) => nodeId === self) ? voters : [...voters, { nodeId: self, address }];
    return { ...electorate, voters: withSelf };
  }

  #peers(): PeerSpec[] {
    const { electorate } = this.log;
    return this.cluster.disks
      .filter((other) => other !== this.disk)
      .map(({ nodeId, address }) => {
        const voter = electorate.voters.some((voter) => voter.nodeId === nodeId);
        return { address, member: { nodeId, voter }, invited: false };
      });
  }

  /** One piece of the disk's work, which is done at once. */
  work(index: number): void {
    const [work] = this.works.splice(index, 1);
    must(work, "there is work").does();
    this.done.push(must(work, "there is work"));
  }

  tell(): void {
    this.dispatch(must(this.done.shift(), "work was done").tells());
  }
}
