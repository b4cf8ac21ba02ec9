/**
 * Faults that are planted into production code, to see that the simulator finds them. Each breaks one promise, as a slip in
 * the code would; the code itself knows nothing of them. They come in where the simulation puts a node together (methods of
 * its parts are replaced) and through the shims (functions of the core are).
 */
import { epoch, epochMs, type Seq, seq } from "../../internal/base/position.js";
import { MapEngine } from "../../internal/engine/map-engine.js";
import type { Effect } from "../../internal/replication/core/effect.js";
import type { Event } from "../../internal/replication/core/event.js";
import type { CoreState } from "../../internal/replication/core/state.js";
import type { Replicator } from "../../internal/replication/replicator.js";
import type { EvaluationView } from "../../internal/store/evaluate.js";
import { Overlay } from "../../internal/store/overlay.js";
import type { Store, TxnOperation, WriteCommand, WriteOptions } from "../../internal/store/store.js";
import { recordEnd } from "../../internal/wal/record.js";
import type { Hooks, Step } from "./hooks.js";
import type { Alterations } from "./sim-node.js";

export interface Planted {
  readonly hooks?: Hooks;
  readonly alterations?: Alterations;
}

/** Gives an object another getter. */
function override<T extends object, K extends keyof T>(object: T, name: K, get: () => T[K]): void {
  Object.defineProperty(object, name, { get, configurable: true });
}

const stepped = (step: (real: Step, state: CoreState, event: Event) => Effect[]): Planted => ({ hooks: { step } });
const inStore = (store: (store: Store) => void): Planted => ({ alterations: { store } });
const inReplicator = (replicator: (replicator: Replicator, store: Store) => void): Planted => ({
  alterations: { replicator },
});

/** The effects of a step, with every ack that is among them changed. */
function withAcks(effects: readonly Effect[], matchSeq: (matchSeq: Seq) => Seq): Effect[] {
  return effects.map((effect) => {
    if (effect.kind !== "reply" || effect.message.kind !== "ack") return effect;
    const { message } = effect;
    return Object.assign({}, effect, { message: Object.assign({}, message, { matchSeq: matchSeq(message.matchSeq) }) });
  });
}

/** As if nothing were in flight. */
const withoutOverlay = (view: EvaluationView): EvaluationView => ({ ...view, overlay: new Overlay() });

function withoutCondition(command: WriteCommand): WriteCommand {
  if (!("condition" in command)) return command;
  const { condition: _, ...rest } = command;
  return rest;
}

/** By name; made anew for each seed. */
export const plantedFaults: Readonly<Record<string, () => Planted>> = {
  "acknowledges what is written before it is synced": () =>
    inStore((store) => override(store, "keptSeq", () => store.writtenSeq)),

  "takes a disk's word for what is synced": () => ({
    alterations: { disk: (disk) => void (disk.unsynced = /^wal\/[^/]+$/) },
  }),

  "does not sync the names of new files": () => ({
    alterations: { disk: (disk) => void (disk.unsynced = /^(wal|records|snapshots)?$/) },
  }),

  "goes on after a sync that failed": () => ({
    alterations: { disk: (disk) => void (disk.hidesFailedSyncs = true) },
  }),

  "hears a master whose epoch is over": () =>
    stepped((real, state, event) => {
      if (event.kind === "pushed" && event.message.kind === "hello" && state.role.kind === "replica") {
        const { epoch, epochId, sender } = event.message;
        if (epoch < state.promised.epoch) state.promised = { epoch, epochId, candidate: sender };
      }
      return real(state, event);
    }),

  "takes a tail that was not matched for its master's": () =>
    stepped((real, state, event) => {
      if (event.kind !== "pushed" || event.message.kind !== "align") return real(state, event);
      return real(state, { ...event, message: { ...event.message, agreement: state.log.last } });
    }),

  "acknowledges what it has not written yet": () =>
    stepped((real, state, event) => withAcks(real(state, event), () => state.log.last.seq)),

  "applies before it is committed": () =>
    stepped((real, state, event) => {
      const effects = real(state, event);
      const { role, log } = state;
      if (role.kind === "replica" && event.kind === "appended") {
        effects.push({ kind: "commit", seq: log.writtenSeq });
      }
      return effects;
    }),

  "applies what the master has committed before it matches": () =>
    stepped((real, state, event) => {
      const effects = real(state, event);
      if (event.kind !== "pushed" || state.role.kind !== "replica") return effects;
      const { message } = event;
      if (message.kind !== "heartbeat" && message.kind !== "append") return effects;
      effects.push({ kind: "commit", seq: seq(Math.min(message.commitSeq, state.log.last.seq)) });
      return effects;
    }),

  "serves a snapshot that is half loaded": () => ({
    alterations: {
      engine: (engine) => {
        // What is left out is summed all the same, as by a load that loses it later.
        const elsewhere = new MapEngine();
        let entries = 0;
        engine.restoreAll = (run) => {
          let sum = 0;
          for (let at = 0; at < run.count; at++) {
            run.moveTo(at);
            sum += (++entries % 3 > 0 ? engine : elsewhere).restoreFrom(run);
          }
          return sum >>> 0;
        };
      },
    },
  }),

  "shows a state that is being made anew": () => ({ hooks: { showsWhatIsRebuilt: true } }),

  "cuts its log and keeps its state": () => ({ hooks: { keepsStateAtCut: true } }),

  "forgets its promise when it is started again": () =>
    inStore((store) => {
      const { promised } = store;
      override(store, "promised", () => ({ ...promised, epoch: epoch(Math.max(1, store.last.epoch)) }));
    }),

  "goes by the replica's own high-water mark": () => ({
    hooks: { agreementWith: (_real, log, peer) => seq(Math.min(log.writtenSeq, peer.lastSeq)) },
  }),

  "counts copies of records of older epochs": () => ({
    hooks: {
      committedSeq: (real, ballot) => {
        const committed = real({ ...ballot, firstSeq: seq(1) });
        return committed === undefined || committed === 0 ? undefined : committed;
      },
    },
  }),

  "takes half of the voters for a majority": () => ({
    hooks: {
      committedSeq: (real, ballot) => real({ ...ballot, othersMatchSeq: ballot.othersMatchSeq.slice(1) }),
    },
  }),

  "counts what it does not keep itself": () => ({
    hooks: {
      committedSeq: (real, ballot) =>
        real({ ...ballot, ownKeptSeq: seq(Math.max(ballot.ownKeptSeq, ...ballot.othersMatchSeq)) }),
    },
  }),

  "promises one epoch to two candidates": () => ({
    hooks: {
      objectionTo: (real, state, request) => {
        const objection = real(state, request);
        const again = objection?.refusal === "stale_epoch" && request.epoch === state.promised.epoch;
        return again && state.log.last.epoch < request.epoch ? undefined : objection;
      },
    },
  }),

  "promises an epoch to a candidate that is behind": () => ({
    hooks: {
      objectionTo: (real, state, request) => {
        const objection = real(state, request);
        return objection?.refusal === "behind" ? undefined : objection;
      },
      // And surveys say nothing of it.
      step: (real, state, event) => {
        if (event.kind !== "surveyed" || typeof event.answer === "string") return real(state, event);
        const { last } = state.log;
        return real(state, { ...event, answer: { ...event.answer, last: { epoch: last.epoch, seq: last.seq } } });
      },
    },
  }),

  "gives a vote away that it no longer has": () => ({
    hooks: {
      objectionTo: (real, state, request) => {
        const objection = real(state, request);
        return objection?.refusal === "no_vote" ? undefined : objection;
      },
      // And everybody looks like its newest holder.
      step: (real, state, event) => {
        if (event.kind !== "surveyed" || typeof event.answer === "string") return real(state, event);
        const { nodeId, promised } = event.answer;
        const newest = { epoch: epoch(promised.epoch + 1), candidate: nodeId };
        return real(state, { ...event, answer: { ...event.answer, promised: newest } });
      },
    },
  }),

  "votes as if it had lost nothing": () => inStore((store) => override(store, "mustCatchUp", () => false)),

  "skips changes of the voters": () =>
    inStore((store) => {
      const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(store), "electorate")!;
      let first: Store["electorate"] | undefined;
      override(store, "electorate", () => {
        const now = own.get!.call(store) as Store["electorate"];
        if (store.last.seq > 0) first ??= now;
        return first ?? now;
      });
    }),

  "answers a linearizable read without asking anybody": () =>
    inReplicator((replicator) => {
      const real = replicator.linearizableSeq.bind(replicator);
      const realIndex = replicator.readIndex.bind(replicator);
      const isMaster = (): boolean => replicator.masterAddress !== undefined && replicator.notServing() === "";
      replicator.linearizableSeq = (signal) =>
        isMaster() && replicator.commitSeq > 0 ? Promise.resolve(replicator.commitSeq) : real(signal);
      replicator.readIndex = realIndex;
    }),

  "answers a linearizable read on a replica by what it has": () =>
    inReplicator((replicator, store) => {
      replicator.linearizableSeq = () => Promise.resolve(store.appliedSeq);
    }),

  "does not wait for what a token has seen": () => ({
    alterations: {
      gate: (gate) => {
        const real = gate.admit.bind(gate);
        gate.admit = (consistency, signal) => (consistency?.atLeast ? undefined : real(consistency, signal));
      },
    },
  }),

  "takes its state for fresh": () =>
    inReplicator((replicator) => {
      replicator.stalenessMs = () => 0;
    }),

  "leaves a record out when it sends from the disk": () =>
    inStore((store) => {
      const real = store.readRecords.bind(store);
      store.readRecords = async (afterSeq, maxBytes) => {
        const records = await real(afterSeq, maxBytes);
        if (records.length === 0) return records;
        const buffer = Buffer.from(records.buffer, records.byteOffset, records.byteLength);
        const end = recordEnd(buffer, 0);
        return end < records.length ? records.subarray(end) : records;
      };
    }),

  "leaves an event out of a page of updates": () =>
    inStore((store) => {
      const real = store.updates.bind(store);
      store.updates = async (request) => {
        const page = await real(request);
        return page.events.length > 2 ? { ...page, events: page.events.slice(1) } : page;
      };
    }),

  "removes keys before their time": () => ({
    alterations: {
      engine: (engine) => {
        const real = engine.due.bind(engine);
        engine.due = (nowMs, countMax) => real(epochMs(nowMs + 1000), countMax);
      },
    },
  }),

  "removes keys that have been written anew": () => ({
    alterations: {
      engine: (engine) => {
        const real = engine.victim.bind(engine);
        engine.victim = (policy) => {
          const victim = real(policy);
          return victim && { ...victim, modSeq: seq(Math.max(1, victim.modSeq - 1)) };
        };
      },
    },
  }),

  "takes the store for empty when it makes room": () => ({
    alterations: { engine: (engine) => override(engine, "accountedBytes", () => 0) },
  }),

  "loses what it answered with a snapshot": () => ({ hooks: { restoresNoAnswers: true } }),

  "does not look for a write in flight": () => ({ hooks: { findsNothingInFlight: true } }),

  "judges conditions without what is in flight": () => ({
    hooks: {
      evaluate: (real, commands, view) => {
        const judged = real(commands, withoutOverlay(view));
        return judged.refusal ? judged : real(commands.map(withoutCondition), view);
      },
    },
  }),

  "counts up without what is in flight": () => ({
    hooks: {
      evaluate: (real, commands, view) => {
        const right = real(commands, view);
        if (commands.some(({ kind }) => kind !== "increment")) return right;
        const { changes, results } = real(commands, withoutOverlay(view));
        const [change, stale] = [right.changes[0], changes[0]];
        if (change?.kind !== "put" || stale?.kind !== "put") return right;
        return { ...right, results, changes: [{ ...change, value: stale.value }] };
      },
    },
  }),

  "answers by what is in flight before that is committed": () => ({
    hooks: { evaluate: (real, commands, view) => ({ ...real(commands, view), seenSeq: seq(0) }) },
  }),

  "compares by what is in flight before that is committed": () => ({
    hooks: { evaluateTxn: (real, txn, view) => ({ ...real(txn, view), seenSeq: seq(0) }) },
  }),

  "reads in a transaction after all its writes": () => ({
    hooks: {
      evaluateTxn: (real, txn, view) => {
        const orderOf = (operations: readonly TxnOperation[]): number[] => {
          const places = operations.map((_, i) => i);
          const reads = places.filter((i) => operations[i]?.kind === "get");
          return [...places.filter((i) => operations[i]?.kind !== "get"), ...reads];
        };
        const [then, others] = [orderOf(txn.then), orderOf(txn.else)];
        const moved = {
          compares: txn.compares,
          then: then.map((i) => txn.then[i]!),
          else: others.map((i) => txn.else[i]!),
        };
        const evaluation = real(moved, view);
        const order = evaluation.succeeded ? then : others;
        return { ...evaluation, results: evaluation.results.map((_, i) => evaluation.results[order.indexOf(i)]!) };
      },
    },
  }),

  "leaves a key behind when it removes a range": () => ({
    alterations: {
      engine: (engine) => {
        const real = engine.apply.bind(engine);
        engine.apply = (at, nowMs, operation) =>
          operation.kind === "delete-range"
            ? real(at, nowMs, { ...operation, start: Buffer.concat([operation.start, Buffer.from([0])]) })
            : real(at, nowMs, operation);
      },
    },
  }),

  "makes a write again that another master has made": () => {
    /** By write: the epoch in which it was sent first. */
    const epochs = new Map<string, number>();
    return inStore((store) => {
      const forgetful = (options: WriteOptions | undefined): WriteOptions | undefined => {
        if (!options?.retry) return options;
        const { retry, ...rest } = options;
        const name = `${retry.clientId} ${retry.clientSeq}`;
        const first = epochs.get(name) ?? store.last.epoch;
        epochs.set(name, first);
        return store.last.epoch > first ? rest : options;
      };
      const write = store.write.bind(store);
      store.write = (commands, options) => write(commands, forgetful(options));
      const transact = store.transact.bind(store);
      store.transact = (txn, options) => transact(txn, forgetful(options));
    });
  },

  "gives the value after for the value before": () => ({ hooks: { showsTheValueAfter: true } }),

  "tells who watches one key nothing of ranges": () => ({
    hooks: {
      clipped: (real, event, filter) =>
        event.type === "delete-range" && filter && "key" in filter ? undefined : real(event, filter),
    },
  }),

  "tells who watches a range of all that was removed": () => ({
    hooks: {
      clipped: (real, event, filter) =>
        event.type === "delete-range" && real(event, filter) ? event : real(event, filter),
    },
  }),

  "leaves out a key when it scans downwards": () =>
    inStore((store) => {
      const real = store.scan.bind(store);
      store.scan = (request) => {
        const page = real(request);
        return request.reverse && page.entries.length > 1 ? { ...page, entries: page.entries.slice(1) } : page;
      };
    }),

  "counts what is past its deadline": () => ({
    alterations: {
      engine: (engine) => {
        const real = engine.count.bind(engine);
        engine.count = (range, _nowMs, from, looksMax) => real(range, epochMs(0), from, looksMax);
      },
    },
  }),

  "skips an event when a watch goes from behind to live": () => ({
    alterations: {
      hub: (hub) => {
        const real = hub.join.bind(hub);
        hub.join = (watch, readSeq) => {
          const what = real(watch, readSeq);
          return what === "read" && real(watch, seq(readSeq + 1)) === "live" ? "live" : what;
        };
      },
    },
  }),

  "tells a watch an event twice": () => ({
    alterations: {
      hub: (hub) => {
        const real = hub.read.bind(hub);
        hub.read = (wanted, after, signal) => real(wanted, seq(Math.max(0, after - 1)), signal);
      },
    },
  }),

  "acknowledges a write before it is committed": () =>
    inStore((store) => {
      const real = store.write.bind(store);
      store.write = (commands, options) => real(commands, { ...options, acknowledge: "kept" });
    }),
};
