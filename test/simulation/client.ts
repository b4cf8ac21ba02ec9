/**
 * A client: one operation after another, against nodes that chance picks, over a network that loses requests and answers.
 * It keeps what it asked and what it was told, with the times, and knows nothing of what goes on inside the nodes.
 */
import { ReplicationError } from "../../internal/replication/replication-error.js";
import type { ReadConsistency } from "../../internal/replication/read-gate.js";
import { StoreError } from "../../internal/store/store.js";
import type { Counts } from "./counts.js";
import type { ModelRange } from "./ledger.js";
import type { RegisterOperation } from "./linearizability.js";
import type { Random } from "./random.js";
import type { Service, WriteOptions } from "./service.js";
import type { SimNode } from "./sim-node.js";
import {
  described,
  EXPIRING_KEYS,
  hasChanged,
  type KeyEffect,
  refused,
  REGISTERS,
  type Seen,
  WishMaker,
  type WishKind,
} from "./wishes.js";
import type { Wish } from "./oracle.js";
import type { World } from "./world.js";

/** What was asked of a key, and what came of it. */
export interface KeyOperation extends RegisterOperation {
  readonly client: number;
  readonly key: string;
  readonly what: string;
}

export type OperationKind =
  | WishKind
  | "getLocal"
  | "getAtLeast"
  | "getBounded"
  | "getLinearizable"
  | "scan"
  | "count"
  | "produce"
  | "consume"
  | "truncate";

export interface ClientOptions {
  readonly index: number;
  readonly world: World;
  readonly random: Random;
  readonly service: Service;
  readonly counts: Counts;
  readonly nodes: () => readonly SimNode[];
  readonly weights: Readonly<Record<OperationKind, number>>;
  readonly operations: number;
  /** Typical pause between two operations. */
  readonly pauseMs: number;
  /** Typical time on the way to a node. */
  readonly delayMs: number;
  /** The part of requests, and of answers, that get lost. */
  readonly loss: number;
  /** How long the client waits for an answer. */
  readonly patienceMs: number;
  readonly writeTimeoutMs: number;
  readonly valueBytesMax: number;
  /** The part of writes that may be sent again. */
  readonly retrying: number;
}

/** How often a write that may be sent again is. */
const SENT_AGAIN = { answered: 0.1, refused: 0.3, unknown: 0.9 } as const;

type Outcome<T> =
  | { readonly kind: "answered"; readonly value: T }
  /** It was refused, and nothing was changed. */
  | { readonly kind: "refused"; readonly error: Error }
  /** It may have happened, or may yet. */
  | { readonly kind: "unknown"; readonly error: Error | undefined };

export class Client {
  readonly #options: ClientOptions;
  readonly #told: KeyOperation[] = [];
  /** Writes that have no answer yet. */
  #asked: readonly KeyOperation[] = [];
  done = 0;
  answered = 0;
  /** Where the master was last. */
  #master: SimNode | undefined;
  /** What this client has seen or written last. */
  #token: Uint8Array | undefined;
  #values = 0;
  /** What the client calls itself: another name now and then, as a program that is started anew. */
  #names = 0;
  #clientSeq = 0;
  readonly #seen = new Map<string, Seen>();
  readonly #wishes: WishMaker;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#wishes = new WishMaker(options.random, () => this.#value(), this.#seen);
  }

  /** Of registers, with their times. What has no answer yet may have happened. */
  get history(): readonly KeyOperation[] {
    return [...this.#told, ...this.#asked];
  }

  get isDone(): boolean {
    return this.done >= this.#options.operations;
  }

  start(): void {
    this.#pause();
  }

  #pause(): void {
    const { world, random, pauseMs } = this.#options;
    // Now in bursts, now with long pauses, for some things happen only when nobody writes.
    const pause = random.chance(0.3) ? 0.1 : random.chance(0.95) ? random.delay(pauseMs) : random.delay(pauseMs) * 20;
    world.after(pause, undefined, "client", () => this.#next());
  }

  #next(): void {
    if (this.isDone) return;
    this.done++;
    const kind = this.#options.random.weighted(this.#options.weights);
    this.#options.counts.note(`client ${kind}`);
    switch (kind) {
      case "getLocal":
        return this.#get({});
      case "getAtLeast":
        return this.#get(this.#token ? { atLeast: this.#token } : {});
      case "getBounded":
        return this.#get({ maxStalenessMs: this.#options.random.pick([0, 50, 300, 2000]) });
      case "getLinearizable":
        return this.#get({ linearizable: true });
      case "scan":
        return this.#scan();
      case "count":
        return this.#count();
      case "produce":
        return this.#produce();
      case "consume":
        return this.#consume();
      case "truncate":
        return this.#truncate();
      default:
        return this.#write(this.#wishes.make(kind));
    }
  }

  // ---- operations ------------------------------------------------------------------------------------------------------

  /** Never the same twice. */
  #value(): string {
    const { index, random, valueBytesMax } = this.#options;
    const name = `${index}-${++this.#values}`;
    return random.chance(0.2) ? name.padEnd(random.between(name.length, valueBytesMax), ".") : name;
  }

  #write(wish: Wish): void {
    const { service, world, random, writeTimeoutMs } = this.#options;
    const invokedMs = world.nowMs;
    const acknowledge = random.chance(0.1) ? "kept" : "committed";
    const options: WriteOptions = { acknowledge, timeoutMs: writeTimeoutMs, ...this.#retry() };
    const hoped = this.#timed(this.#wishes.hoped(wish), invokedMs, Infinity);
    this.#asked = hoped;
    this.#callAgain(
      options,
      `write ${described(wish)}`,
      (node, signal) => service.write(node, wish, options, signal),
      (outcome, wasSentAgain) => {
        this.#asked = [];
        const { nowMs } = world;
        if (outcome.kind === "refused") {
          if (outcome.error instanceof StoreError)
            this.#told.push(...this.#timed(refused(wish, outcome.error), invokedMs, nowMs));
        } else if (outcome.kind === "unknown" || acknowledge === "kept") {
          // What only the master keeps may still be lost: for the register it may have happened, no more.
          this.#told.push(...hoped);
        } else {
          const { value } = outcome;
          const effects = this.#wishes.told(wish, value);
          this.#told.push(...this.#timed(effects, invokedMs, nowMs));
          // Nothing remembers what changed nothing: what is still on its way may change something.
          const hasMadeRecord = hasChanged(wish, value);
          if (wasSentAgain && !hasMadeRecord) this.#told.push(...hoped);
          this.#token = value.token;
          if (hasMadeRecord) this.#remember(effects, value.position.seq, value.token);
        }
      },
    );
  }

  #timed(effects: readonly KeyEffect[], invokedMs: number, returnedMs: number): readonly KeyOperation[] {
    return effects.map((effect) => ({ client: this.#options.index, ...effect, invokedMs, returnedMs }));
  }

  /** What a record of this client has left. */
  #remember(effects: readonly KeyEffect[], modSeq: number, token: Uint8Array): void {
    for (const { key, leaves } of effects) {
      if (typeof leaves === "string") this.#seen.set(key, { value: leaves, modSeq, token });
      else if (leaves === null) this.#seen.delete(key);
    }
  }

  #get(consistency: ReadConsistency): void {
    const { service, world, index, random } = this.#options;
    const invokedMs = world.nowMs;
    const key = random.chance(0.1) ? random.pick(EXPIRING_KEYS) : random.pick(REGISTERS);
    this.#call(
      this.#any(),
      `get ${key} ${Object.keys(consistency).join()}`,
      (node, signal) => service.get(node, key, consistency, signal),
      (outcome) => {
        if (outcome.kind !== "answered") return;
        const { value, modSeq, point } = outcome.value;
        if (value !== null) this.#seen.set(key, { value, modSeq });
        // What was seen once is to be seen from now on.
        this.#token = point.token;
        if (consistency.linearizable !== true || EXPIRING_KEYS.includes(key)) return;
        this.#told.push({ client: index, key, what: "get", invokedMs, returnedMs: world.nowMs, found: value });
      },
    );
  }

  #scan(): void {
    const { service, random } = this.#options;
    const consistency = random.chance(0.3) ? { linearizable: true } : {};
    const request = { ...this.#range(), limit: random.between(1, 10), reverse: random.chance(0.4) };
    this.#call(
      this.#any(),
      "scan",
      (node, signal) => service.scan(node, request, consistency, signal),
      () => undefined,
    );
  }

  #count(): void {
    const { service, random } = this.#options;
    const consistency = random.chance(0.3) ? { linearizable: true } : {};
    const range = this.#range();
    this.#call(
      this.#any(),
      "count",
      (node, signal) => service.count(node, range, consistency, signal),
      () => undefined,
    );
  }

  #range(): ModelRange {
    const { random } = this.#options;
    const start = random.pick(["", "", "b", "d", "n"]);
    return { start, end: random.pick([undefined, undefined, "e", "o", "y"].filter((end) => !end || end > start)) };
  }

  #produce(): void {
    const { service, random, writeTimeoutMs } = this.#options;
    const payloads = Array.from({ length: random.between(1, 3) }, () => this.#value());
    const options: WriteOptions = { timeoutMs: writeTimeoutMs, ...this.#retry() };
    this.#callAgain(
      options,
      "produce",
      (node) => service.produce(node, payloads, options),
      (outcome) => {
        if (outcome.kind === "answered") this.#token = outcome.value.token;
      },
    );
  }

  /** With what a write may be sent again, or without. */
  #retry(): Pick<WriteOptions, "retry"> {
    const { random, retrying, index } = this.#options;
    if (!random.chance(retrying)) return {};
    if (this.#names === 0 || random.chance(0.05)) {
      this.#names++;
      this.#clientSeq = 0;
    }
    return { retry: { clientId: `${index}.${this.#names}`, clientSeq: ++this.#clientSeq } };
  }

  /** Sends a write; where it may be sent again, does so after an outcome that is not known, and now and then after any other. */
  #callAgain<T>(
    { retry }: WriteOptions,
    what: string,
    act: (node: SimNode, signal: AbortSignal) => Promise<T>,
    told: (outcome: Outcome<T>, wasSentAgain: boolean) => void,
  ): void {
    const { random, counts, delayMs } = this.#options;
    let left = retry ? 6 : 0;
    let wasSentAgain = false;
    let mayHaveHappened = false;
    const copy = (): void => {
      wasSentAgain = true;
      mayHaveHappened = true;
      counts.note("copies of writes");
      this.#copy(act);
    };
    const send = (node: SimNode): void => {
      this.#call(node, what, act, (outcome) => {
        const again = left > 0 && random.chance(SENT_AGAIN[outcome.kind]);
        if (outcome.kind === "unknown") mayHaveHappened = true;
        if (again) {
          left--;
          wasSentAgain = true;
          counts.note("writes sent again");
          // An answer is an answer, whatever becomes of the next try.
          if (outcome.kind === "answered") copy();
          else {
            this.#options.world.after(random.delay(delayMs), undefined, "client sends again", () =>
              send(this.#masterOrAny()),
            );
            return "goes on";
          }
        }
        const isUnknown = outcome.kind === "refused" && mayHaveHappened;
        told(isUnknown ? { kind: "unknown", error: outcome.error } : outcome, wasSentAgain);
        return undefined;
      });
      if (left > 0 && random.chance(0.1)) copy();
    };
    send(this.#masterOrAny());
  }

  /** The same once more, by chance to any node, and nobody waits for the answer. */
  #copy<T>(act: (node: SimNode, signal: AbortSignal) => Promise<T>): void {
    const { world, random, delayMs } = this.#options;
    const node = this.#masterOrAny();
    world.after(random.delay(delayMs) * random.pick([1, 10]), undefined, "copy", () => {
      const { process } = node;
      if (!node.powered || !process?.alive || !node.rooms || node.state !== "running") return;
      world.after(0, process, "copy", () => {
        if (!node.rooms) return;
        void Promise.resolve()
          .then(() => act(node, new AbortController().signal))
          .catch((error: unknown) => void this.#judged(error));
      });
    });
  }

  #consume(): void {
    const { service, random } = this.#options;
    const node = this.#any();
    this.#call(
      node,
      "consume",
      (at) => {
        const { start, end } = at.mustRooms.store.recordRange();
        return service.consume(at, random.between(start, end), random.between(1, 5));
      },
      () => undefined,
    );
  }

  #truncate(): void {
    const { service, random } = this.#options;
    this.#call(
      this.#masterOrAny(),
      "truncate",
      (node) => {
        const { start, end } = node.mustRooms.store.recordRange();
        return service.truncate(node, random.between(start, end));
      },
      () => undefined,
    );
  }

  // ---- calls -----------------------------------------------------------------------------------------------------------

  #any(): SimNode {
    return this.#options.random.pick(this.#options.nodes());
  }

  #masterOrAny(): SimNode {
    const { random } = this.#options;
    return this.#master && random.chance(0.85) ? this.#master : this.#any();
  }

  #call<T>(
    node: SimNode,
    what: string,
    act: (node: SimNode, signal: AbortSignal) => Promise<T>,
    told: (outcome: Outcome<T>) => "goes on" | undefined | void,
  ): void {
    const { world, random, delayMs, loss, patienceMs, index } = this.#options;
    const abort = new AbortController();
    let over = false;
    let sent = false;
    const finish = (outcome: Outcome<T>): void => {
      if (over) return;
      over = true;
      impatience.cancel();
      world.trace(
        () =>
          `client ${index}: ${what} at ${node.name}: ${outcome.kind}${"error" in outcome && outcome.error ? ` (${outcome.error.message})` : ""}`,
      );
      this.#options.counts.note(`operations ${outcome.kind}`);
      if (outcome.kind === "answered") {
        this.answered++;
        if (what.startsWith("write")) this.#master = node;
      } else this.#learnMaster(outcome.error);
      if (told(outcome) !== "goes on") this.#pause();
    };
    const impatience = world.after(patienceMs, undefined, "client gives up", () => {
      finish({ kind: "unknown", error: new Error("no answer") });
      const { process } = node;
      if (sent && process)
        world.after(random.delay(delayMs), process, "client has gone", () => abort.abort(new Error("gone")));
    });
    if (random.chance(loss)) return;
    world.after(random.delay(delayMs), undefined, "request", () => {
      const { process } = node;
      if (!node.powered) return;
      if (!process?.alive || !node.rooms || node.state !== "running") {
        world.after(random.delay(delayMs), undefined, "refused", () =>
          finish({ kind: "refused", error: new Error("connection refused") }),
        );
        return;
      }
      const answer = (outcome: Outcome<T>): void => {
        if (!process.alive || random.chance(loss)) return;
        world.after(random.delay(delayMs), undefined, "answer", () => finish(outcome));
      };
      world.after(0, process, "request", () => {
        sent = true;
        if (!node.rooms) return answer({ kind: "refused", error: new Error("connection refused") });
        void Promise.resolve()
          .then(() => act(node, abort.signal))
          .then(
            (value) => answer({ kind: "answered", value }),
            (error: unknown) => answer(this.#judged(error)),
          );
      });
    });
  }

  /** What an error says about whether the operation happened. */
  #judged<T>(error: unknown): Outcome<T> {
    if (error instanceof StoreError) {
      this.#options.counts.note(`refused with ${error.code}`);
      if (error.code === "retry_differs" || error.code === "retry_too_old") {
        this.#options.world.violate("a client's own writes are told apart", error.message);
      }
      if (error.code === "outcome_unknown") return { kind: "unknown", error };
      return { kind: "refused", error };
    }
    if (error instanceof ReplicationError) {
      this.#options.counts.note(`refused with ${error.code}`);
      return { kind: "refused", error };
    }
    if (error instanceof Error && (error.name === "WalError" || error.message === "gone"))
      return { kind: "unknown", error };
    // Anything else is no answer that a caller should ever get.
    this.#options.world.uncaught(error);
    return { kind: "unknown", error: undefined };
  }

  #learnMaster(error: Error | undefined): void {
    if (!error) return;
    this.#master = undefined;
    const { nodes, random } = this.#options;
    const known = nodes()
      .map((node) => node.rooms?.replicator.masterAddress)
      .filter((address) => address !== undefined);
    if (known.length > 0) {
      const address = random.pick(known);
      this.#master = nodes().find((node) => node.address === address);
    }
  }
}
