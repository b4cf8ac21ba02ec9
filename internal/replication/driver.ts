/**
 * Drives the pure core with a real store, network and clock: turns its effects into calls, and what comes back into
 * events. Nothing is decided here.
 *
 * Order: events are taken one at a time. What an effect brought about is told before what others sent meanwhile, and a
 * changed log before anything else. At the end of every tick in which something happened comes a flush.
 */
import { AssertionError } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import { EpochHistory } from "../base/epoch-history.js";
import type { Logger } from "../base/logger.js";
import type { Bid, Won } from "./core/candidacy.js";
import type { Effect } from "./core/effect.js";
import type { Electorate } from "./core/electorate.js";
import type { Batch, Event, Happening, LogView, Outcome } from "./core/event.js";
import type { MasterMessage, ReplicaMessage } from "./core/message.js";
import type { CoreState } from "./core/state.js";
import { nextDueMs, step } from "./core/step.js";
import { Insistence } from "./insistence.js";
import type { PeerConnection, PeerNetwork, PushSession } from "./peer.js";
import { isCorrupt } from "../store/store.js";
import type { EpochChange, LoggedState, ReplicatedStore, TransferFile } from "./store-port.js";

/** What the core reports, and the driver passes on. */
export type Report = Extract<
  Effect,
  {
    kind:
      | "answerPromise"
      | "stepDown"
      | "unsaved"
      | "begun"
      | "campaignFailed"
      | "confirmed"
      | "handedOver"
      | "met"
      | "transferring"
      | "streaming"
      | "refused"
      | "unreached"
      | "follow"
      | "orphaned"
      | "closeSession"
      | "restart";
  }
>;

export interface DriverOptions {
  readonly state: CoreState;
  readonly store: ReplicatedStore;
  readonly network: PeerNetwork;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once the effect's own work is done. It may dispatch. */
  readonly report: (report: Report) => void;
  /** What this node needs to know for a campaign. */
  readonly prepare: () => Bid;
  /** What the first record of an epoch says beside the epoch. */
  readonly firstChanges: (won: Won) => readonly EpochChange[];
  /** Whether a state of this node that differs from its master's is taken to be the wrong one. */
  readonly doubtsItself: (detail: string) => boolean;
  /** Called after every tick in which something happened. */
  readonly ticked: () => void;
}

interface Caller {
  readonly send: (message: ReplicaMessage) => void;
  readonly close: (reason: string) => void;
}

export class Driver {
  readonly #state: CoreState;
  readonly #store: ReplicatedStore;
  readonly #network: PeerNetwork;
  readonly #clock: Clock;
  readonly #options: DriverOptions;
  /** By campaign: what ends its calls. */
  readonly #campaigns = new Map<number, AbortController>();
  /** As the store had it last, in its words and in the core's. */
  #electorate: { readonly logged: LoggedState; readonly electorate: Electorate } | undefined;
  readonly #connections = new Map<number, PeerConnection>();
  /** By connection: what is being sent to it. */
  readonly #transfers = new Map<number, TransferFile>();
  readonly #callers = new Map<number, Caller>();
  #nextSession = 1;

  /** Answers to effects; taken before `#events`. */
  readonly #answers: Happening[] = [];
  readonly #events: Happening[] = [];
  #running = false;
  #flushScheduled = false;
  #timer: { readonly timer: Timer; readonly atMs: number } | undefined;
  /** Calls of the store that have not come back. */
  readonly #calls = new Set<Promise<void>>();
  readonly #insistence: Insistence;
  readonly #closing = new AbortController();
  #closed = false;

  constructor(options: DriverOptions) {
    const { state, store, network, clock, logger } = options;
    this.#insistence = new Insistence({ clock, logger, call: (act) => this.#call(act) });
    this.#options = options;
    this.#state = state;
    this.#store = store;
    this.#network = network;
    this.#clock = clock;
    // The log tells from within its write loop, which must not be held up: what follows from it waits for the tick's end.
    store.listen({
      written: () => this.#scheduleFlush(),
      kept: () => this.#scheduleFlush(),
      applied: () => this.#scheduleFlush(),
      dropped: (firstSeq) => this.#dispatchLater({ kind: "dropped", firstSeq }),
      failed: (error) =>
        this.#dispatchLater({ kind: "shutdown", reason: `the disk of this node failed: ${error.message}` }),
      stateDiffers: (detail) => {
        if (options.doubtsItself(detail)) this.#dispatchLater({ kind: "stateDiffers", detail });
      },
    });
  }

  /** Takes in what has happened. When it returns, it has been dealt with, but for what waits for the tick's end. */
  dispatch(happening: Happening): void {
    if (this.#closed) return;
    this.#events.push(happening);
    this.#run();
    this.#scheduleFlush();
  }

  /** A master has connected. */
  accept(send: (message: ReplicaMessage) => void, close: (reason: string) => void): PushSession {
    const session = this.#nextSession++;
    this.#callers.set(session, { send, close });
    this.dispatch({ kind: "accepted", session });
    return {
      message: (message) => {
        if (this.#callers.has(session)) this.dispatch({ kind: "pushed", session, message });
      },
      closed: () => {
        if (this.#callers.delete(session)) this.dispatch({ kind: "left", session });
      },
    };
  }

  /** This node holds all that counts. Resolves once that is durable, or will be tried again. */
  markCaughtUp(): Promise<void> {
    return this.#insistence.insist("that it has caught up", () => this.#store.markCaughtUp());
  }

  /** Lets go of everybody, and waits for the store's calls under way. The last to be called. */
  async close(reason: string): Promise<void> {
    this.dispatch({ kind: "shutdown", reason });
    this.#closed = true;
    this.#timer?.timer.cancel();
    this.#insistence.close();
    // Callers whom the core does not know, since it turned them away or its role had ended.
    for (const { close } of this.#callers.values()) close(reason);
    this.#callers.clear();
    this.#transfers.clear();
    this.#closing.abort(new Error(reason));
    for (const campaign of this.#campaigns.values()) campaign.abort(new Error(reason));
    while (this.#calls.size > 0) await Promise.all(this.#calls);
  }

  // ---- events ----------------------------------------------------------------------------------------------------------

  #dispatchLater(happening: Happening): void {
    this.#events.push(happening);
    this.#scheduleFlush();
  }

  #scheduleFlush(): void {
    if (this.#flushScheduled || this.#closed) return;
    this.#flushScheduled = true;
    queueMicrotask(() => {
      this.#flushScheduled = false;
      if (this.#closed) return;
      this.#events.push({ kind: "flush" });
      this.#run();
      if (this.#closed) return;
      this.#options.ticked();
      this.#arm();
    });
  }

  #run(): void {
    // An effect's call has led back here: the loop below takes the event when its turn comes.
    if (this.#running) return;
    this.#running = true;
    try {
      for (;;) {
        this.#takeLog();
        const happening = this.#answers.shift() ?? this.#events.shift();
        if (!happening) return;
        this.#step(happening);
      }
    } catch (error) {
      this.#die(error);
    } finally {
      this.#running = false;
    }
  }

  #step(happening: Happening): void {
    const effects = step(this.#state, eventOf(happening, this.#clock.monotonicMs()));
    for (const effect of effects) this.#carryOut(effect);
  }

  /** A broken invariant must end the process, whoever's callback it came up in. */
  #die(error: unknown): void {
    this.#closed = true;
    this.#timer?.timer.cancel();
    queueMicrotask(() => {
      throw error;
    });
  }

  /** One timer, for whatever is due first. One that fires too early costs a flush; arming anew each time would cost more. */
  #arm(): void {
    if (this.#closed) return;
    const dueMs = nextDueMs(this.#state);
    if (this.#timer && this.#timer.atMs <= dueMs) return;
    this.#timer?.timer.cancel();
    this.#timer = undefined;
    if (dueMs === Infinity) return;
    // Timers count whole milliseconds, and would be early.
    const delayMs = Math.max(0, Math.ceil(dueMs - this.#clock.monotonicMs()));
    const timer = this.#clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#scheduleFlush();
    });
    this.#timer = { timer, atMs: dueMs };
  }

  #takeLog(): void {
    const { last, writtenSeq, keptSeq, appliedSeq, compactSeq, floorSeq, history } = this.#store;
    const known = this.#state.log;
    const sameHistory = haveSameEpochs(history, known.history);
    const electorate = this.#electorateNow();
    if (
      sameHistory &&
      electorate === known.electorate &&
      last.seq === known.last.seq &&
      last.chain === known.last.chain &&
      last.epoch === known.last.epoch &&
      writtenSeq === known.writtenSeq &&
      keptSeq === known.keptSeq &&
      appliedSeq === known.appliedSeq &&
      compactSeq === known.compactSeq &&
      floorSeq === known.floorSeq
    ) {
      return;
    }
    const log: LogView = {
      last,
      writtenSeq,
      keptSeq,
      appliedSeq,
      compactSeq,
      floorSeq,
      history: sameHistory ? known.history : new EpochHistory(history.starts),
      electorate,
    };
    this.#step({ kind: "log", log });
  }

  #electorateNow(): Electorate {
    const logged = this.#store.electorate;
    if (this.#electorate?.logged !== logged) this.#electorate = { logged, electorate: electorateOf(logged) };
    return this.#electorate.electorate;
  }

  // ---- effects ---------------------------------------------------------------------------------------------------------

  #carryOut(effect: Effect): void {
    const store = this.#store;
    switch (effect.kind) {
      case "commit":
        return store.commit(effect.seq);

      case "prepare":
        return void this.#answers.push({
          kind: "prepared",
          campaign: effect.campaign,
          bid: this.#options.prepare(),
        });
      case "survey":
        return this.#survey(effect);
      case "requestPromise":
        return this.#requestPromise(effect);
      case "endCalls":
        this.#campaigns.get(effect.campaign)?.abort(new Error("the campaign is over"));
        return void this.#campaigns.delete(effect.campaign);
      case "found":
        return this.#work(effect.operation, async () => ({ kind: "founded", clusterId: await store.foundCluster() }));
      case "assume":
        return this.#work(effect.operation, async () => {
          await store.promise(effect.promise, "master");
          return DONE;
        });
      case "saveRole":
        return this.#work(effect.operation, async () => {
          await store.saveRole("replica");
          return DONE;
        });
      case "beginEpoch":
        return void this.#answers.push(this.#beginEpoch(effect.won));

      case "connect":
        return this.#connect(effect);
      case "send":
        return this.#connections.get(effect.connection)?.send(withCheck(effect, store));
      case "disconnect": {
        const connection = this.#connections.get(effect.connection);
        this.#forget(effect.connection);
        return connection?.close();
      }
      case "readMark":
        return this.#read(effect, async ({ seq, connection }) => ({
          kind: "marked",
          connection,
          mark: await store.mark(seq),
        }));
      case "readTail": {
        const records = store.readTail(effect.afterSeq, effect.maxBytes);
        const batch = records && this.#batch(records);
        return void this.#answers.push({ kind: "tail", connection: effect.connection, batch });
      }
      case "readDisk":
        return this.#read(effect, async ({ connection, afterSeq, maxBytes }) => ({
          kind: "read",
          connection,
          batch: this.#batch(await store.readRecords(afterSeq, maxBytes)),
        }));

      case "openTransfer":
        return this.#openTransfer(effect);
      case "readTransfer":
        return this.#read(effect, async ({ connection, offset, maxBytes }) => {
          const file = this.#transfers.get(connection);
          if (!file) throw new Error("the connection is gone");
          return { kind: "transferRead", connection, bytes: await file.read(offset, maxBytes) };
        });
      case "spoilTransfer":
        return this.#transfers.get(effect.connection)?.spoil();

      case "reply":
        return this.#callers.get(effect.session)?.send(effect.message);
      case "closeSession": {
        const caller = this.#callers.get(effect.session);
        this.#callers.delete(effect.session);
        caller?.close(effect.reason);
        return this.#options.report(effect);
      }
      case "join":
        return this.#work(effect.operation, async () => {
          // A master without records that starts again goes on with founding its cluster; this one is another's.
          if (store.role === "master") await store.saveRole("replica");
          await store.joinCluster(effect.clusterId);
          return DONE;
        });
      case "promise":
        return this.#work(effect.operation, async () => {
          await store.promise(effect.promise, "replica");
          return DONE;
        });
      case "cut":
        return this.#workOnLog(effect.operation, async () => {
          await store.cutAfter(effect.seq);
          return DONE;
        });
      case "compare":
        return this.#workOnLog(effect.operation, async () => ({ kind: "mark", mark: await store.mark(effect.seq) }));
      case "stageTransfer":
        return this.#work(effect.operation, async () => ({
          kind: "staged",
          received: await store.stageTransfer(effect.id, effect.size),
        }));
      case "installTransfer":
        return this.#work(effect.operation, async () => {
          const { damage } = await store.installTransfer();
          return damage === undefined ? DONE : { kind: "damaged", detail: damage };
        });
      case "writeTransfer":
        return this.#writeTransfer(effect);
      case "append":
        return this.#append(effect);
      case "observeTime":
        return store.observeMasterTime(effect.masterTimeMs);
      case "caughtUp":
        return void this.markCaughtUp();
      case "expectState":
        return store.expectState(effect.check);
      case "setAside":
        return this.#setAside(effect.detail);

      case "answerPromise":
      case "stepDown":
      case "unsaved":
      case "begun":
      case "campaignFailed":
      case "confirmed":
      case "handedOver":
      case "met":
      case "transferring":
      case "streaming":
      case "refused":
      case "unreached":
      case "follow":
      case "orphaned":
      case "restart":
        return this.#options.report(effect);
    }
  }

  #survey({ campaign, address }: Extract<Effect, { kind: "survey" }>): void {
    const { clusterId, self } = this.#state;
    const asker = { ...(clusterId !== undefined && { clusterId }), nodeId: self };
    this.#ask(
      campaign,
      (signal) => this.#network.survey(address, asker, signal),
      (answer) => this.dispatch({ kind: "surveyed", campaign, address, answer }),
    );
  }

  #requestPromise({ campaign, address, request }: Extract<Effect, { kind: "requestPromise" }>): void {
    this.#ask(
      campaign,
      (signal) => this.#network.requestPromise(address, request, signal),
      (answer) => this.dispatch({ kind: "promised", campaign, address, epoch: request.epoch, answer }),
    );
  }

  /** Asks another node; what it answers, or why it does not, is told unless the campaign is over. */
  #ask<T>(campaign: number, ask: (signal: AbortSignal) => Promise<T>, tell: (answer: T | string) => void): void {
    const controller = this.#campaigns.get(campaign) ?? new AbortController();
    this.#campaigns.set(campaign, controller);
    const { signal } = controller;
    void this.#call(async () => {
      let answer: T | string;
      try {
        answer = await ask(signal);
      } catch (error) {
        answer = messageOf(error);
      }
      if (!signal.aborted) tell(answer);
    });
  }

  #beginEpoch(won: Won): Happening {
    const { epoch, epochId } = won.promise;
    const changes = this.#options.firstChanges(won);
    try {
      const firstSeq = this.#store.beginEpoch(epoch, epochId, { forced: won.forced, changes });
      const masterTimeOffsetMs = this.#store.masterTimeMs() - this.#clock.monotonicMs();
      return { kind: "begun", firstSeq, masterTimeOffsetMs };
    } catch (error) {
      return { kind: "unbegun", detail: messageOf(error) };
    }
  }

  #setAside(detail: string): void {
    void this.#insistence.insist("that its data is to be set aside", async () => {
      await this.#store.setAside(detail);
      this.#options.report({ kind: "restart" });
    });
  }

  #connect({ address, connection }: Extract<Effect, { kind: "connect" }>): void {
    this.#connections.set(
      connection,
      this.#network.connect(address, {
        opened: () => this.dispatch({ kind: "opened", connection }),
        message: (message) => this.dispatch({ kind: "answered", connection, message }),
        closed: (reason) => {
          this.#forget(connection);
          this.dispatch({ kind: "lost", connection, reason });
        },
      }),
    );
  }

  #forget(connection: number): void {
    this.#connections.delete(connection);
    this.#transfers.delete(connection);
  }

  #openTransfer(effect: Extract<Effect, { kind: "openTransfer" }>): void {
    this.#read(effect, async ({ connection }) => {
      const file = await this.#store.openTransfer(this.#closing.signal);
      if (this.#connections.has(connection)) this.#transfers.set(connection, file);
      return { kind: "transferOpened", connection, id: file.id, size: file.size };
    });
  }

  #writeTransfer({ session, offset, bytes }: Extract<Effect, { kind: "writeTransfer" }>): void {
    void this.#call(async () => {
      try {
        await this.#store.writeTransfer(offset, bytes);
      } catch (error) {
        this.dispatch({ kind: "transferUnwritten", session, detail: messageOf(error) });
        return;
      }
      this.dispatch({ kind: "transferWritten", session, bytes: bytes.length });
    });
  }

  #append({ session, records }: Extract<Effect, { kind: "append" }>): void {
    try {
      this.#store.appendRecords(records);
    } catch (error) {
      this.#answers.push({ kind: "unappended", session, detail: messageOf(error) });
      return;
    }
    this.#answers.push({ kind: "appended", session });
  }

  #batch(records: Uint8Array): Batch {
    return { records, end: this.#store.markAfter(records) };
  }

  /** A read for a connection, which may be gone when it comes back. */
  #read<E extends { readonly connection: number }>(effect: E, read: (effect: E) => Promise<Happening>): void {
    void this.#call(async () => {
      let happening: Happening;
      try {
        happening = await read(effect);
      } catch (error) {
        happening = { kind: "unreadable", connection: effect.connection, detail: messageOf(error) };
      }
      this.dispatch(happening);
    });
  }

  /** Work for a session: it ends in any case, and the core is told how. */
  #work(operation: number, work: () => Promise<Outcome>): void {
    void this.#call(async () => {
      let outcome: Outcome;
      try {
        outcome = await work();
      } catch (error) {
        outcome = { kind: "failed", detail: messageOf(error) };
      }
      this.dispatch({ kind: "finished", operation, outcome });
    });
  }

  /** The same for what reads a replica's log: where that is damaged, trying again is no use, and its master has all of it. */
  #workOnLog(operation: number, work: () => Promise<Outcome>): void {
    this.#work(operation, () =>
      work().catch((error: unknown) => {
        if (isCorrupt(error)) this.#dispatchLater({ kind: "stateDiffers", detail: error.message });
        throw error;
      }),
    );
  }

  #call(call: () => Promise<void>): Promise<void> {
    const called = call().catch((error: unknown) => this.#die(error));
    this.#calls.add(called);
    return called.then(() => void this.#calls.delete(called));
  }
}

/** Those that every write brings about are spelled out: what is made of any object is made slowly. */
function eventOf(happening: Happening, nowMs: number): Event {
  if (happening.kind === "flush") return { kind: "flush", nowMs };
  if (happening.kind === "log") return { kind: "log", log: happening.log, nowMs };
  return { ...happening, nowMs };
}

const DONE: Outcome = { kind: "done" };

/** A message as it goes out, with the checksum of the state at this moment where one is to go with it, and there is one. */
function withCheck(
  { message, withCheck: isWanted }: Extract<Effect, { kind: "send" }>,
  store: ReplicatedStore,
): MasterMessage {
  const check = isWanted && message.kind === "heartbeat" ? store.stateCheck() : undefined;
  return check && message.kind === "heartbeat" ? { ...message, check } : message;
}

/** Who decides, in the core's words. */
export function electorateOf({ settings, members }: LoggedState): Electorate {
  const voters = members.filter(({ voter, removed }) => voter && !removed);
  return {
    commit: settings.commit,
    mode: settings.voters,
    voters: settings.voters === "listed" ? voters.map(({ nodeId, address }) => ({ nodeId, address })) : [],
  };
}

function haveSameEpochs(a: EpochHistory, b: EpochHistory): boolean {
  return (
    a.starts.length === b.starts.length && a.last?.epochId === b.last?.epochId && a.last?.firstSeq === b.last?.firstSeq
  );
}

/** What an operating error says. A broken invariant is no operating error, and goes on. */
function messageOf(error: unknown): string {
  if (error instanceof AssertionError) throw error;
  return error instanceof Error ? error.message : String(error);
}
