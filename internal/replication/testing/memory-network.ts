/**
 * A network in memory. Nothing moves until `deliver` is called, which moves one thing; so the test decides about time and
 * order. Each direction of a connection keeps its order, as a stream does; between connections there is none.
 */
import { must } from "../../base/assert.js";
import type { MasterMessage, ReplicaMessage } from "../core/message.js";
import type { Position } from "../../base/position.js";
import type {
  Asker,
  PeerConnection,
  PeerListener,
  PeerNetwork,
  PromiseReply,
  PromiseRequest,
  PushSession,
  RegisterReply,
  RegisterRequest,
  SurveyReply,
} from "../peer.js";
import { ReplicationError } from "../replication-error.js";

/** A node as the network sees it. */
export interface Host {
  acceptPush(send: (message: ReplicaMessage) => void, close: (reason: string) => void): PushSession;
  register(request: RegisterRequest): Promise<RegisterReply>;
  survey(asker: Asker): SurveyReply;
  requestPromise(request: PromiseRequest): Promise<PromiseReply>;
  readIndex(asker: Asker, signal: AbortSignal): Promise<Position>;
}

/** A question under way, and then its answer: each arrives when the test moves it. */
class Call<T> {
  readonly from: string;
  readonly to: string;
  readonly promise: Promise<T>;
  readonly #ask: (host: Host, signal: AbortSignal) => T | Promise<T>;
  readonly #gone = new AbortController();
  #settle: { readonly resolve: (answer: T) => void; readonly reject: (error: Error) => void } | undefined;
  #state: "asked" | "working" | "answered" | "ended" = "asked";
  #answer: (() => void) | undefined;

  constructor(from: string, to: string, signal: AbortSignal, ask: (host: Host, signal: AbortSignal) => T | Promise<T>) {
    this.from = from;
    this.to = to;
    this.#ask = ask;
    this.promise = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    const abort = (): void => this.#end(signal.reason as Error);
    signal.addEventListener("abort", abort);
    const leave = (): void => signal.removeEventListener("abort", abort);
    this.promise.then(leave, leave);
    if (signal.aborted) abort();
  }

  get ended(): boolean {
    return this.#state === "ended";
  }

  /** What is under way is lost, and the caller learns that, and no more. */
  sever(reason: string): void {
    this.#end(new ReplicationError("unreachable", reason));
  }

  move(host: Host | undefined): boolean {
    if (this.#state === "asked") {
      if (!host) this.sever(`nothing listens at ${this.to}`);
      else {
        this.#state = "working";
        void this.#work(host);
      }
      return true;
    }
    if (this.#state !== "answered") return false;
    this.#answer?.();
    this.#state = "ended";
    return true;
  }

  async #work(host: Host): Promise<void> {
    const settle = must(this.#settle, "it is set at once");
    try {
      const answer = await this.#ask(host, this.#gone.signal);
      this.#answer = () => settle.resolve(answer);
    } catch (error) {
      this.#answer = () => settle.reject(error as Error);
    }
    if (!this.ended) this.#state = "answered";
  }

  #end(error: Error): void {
    if (this.ended) return;
    this.#state = "ended";
    this.#settle?.reject(error);
    this.#gone.abort(error);
  }
}

/** One connection: two queues of what is under way. */
class Wire {
  readonly from: string;
  readonly to: string;
  readonly #listener: PeerListener;
  readonly #toReplica: MasterMessage[] = [];
  readonly #toMaster: ReplicaMessage[] = [];
  #session: PushSession | undefined;
  /** Why it ends; told once the messages before it have arrived. */
  #ending: string | undefined;
  #ended = false;

  constructor(from: string, to: string, listener: PeerListener) {
    this.from = from;
    this.to = to;
    this.#listener = listener;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get isOpen(): boolean {
    return this.#session !== undefined;
  }

  send(message: MasterMessage): void {
    if (!this.#ended && this.#ending === undefined) this.#toReplica.push(message);
  }

  /** The master's end closes. */
  close(): void {
    this.#ending ??= "closed by the master";
  }

  /** Both ends learn that the connection has broken; what is under way is lost. */
  sever(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#session?.closed();
    this.#listener.closed(reason);
  }

  /** Moves one thing; returns what, or undefined when nothing was under way. */
  move(host: Host | undefined, hear: (line: MasterMessage | ReplicaMessage, wire: Wire) => void): boolean {
    if (this.#ended) return false;
    if (!this.#session) {
      if (!host) this.sever("connection refused");
      else {
        this.#session = host.acceptPush(
          (message) => void this.#toMaster.push(message),
          (reason) => (this.#ending ??= reason),
        );
        this.#listener.opened();
      }
      return true;
    }
    const down = this.#toReplica.shift();
    if (down) {
      hear(down, this);
      this.#session.message(down);
      return true;
    }
    const up = this.#toMaster.shift();
    if (up) {
      hear(up, this);
      this.#listener.message(up);
      return true;
    }
    if (this.#ending === undefined) return false;
    this.sever(this.#ending);
    return true;
  }
}

export class MemoryNetwork {
  readonly #hosts = new Map<string, Host>();
  #wires: Wire[] = [];
  #calls: Call<unknown>[] = [];
  /** Addresses whose traffic goes nowhere, both ways, without anybody noticing. */
  readonly silent = new Set<string>();
  /** Told of each message as it arrives. */
  heard: (message: MasterMessage | ReplicaMessage, wire: { from: string; to: string }) => void = () => undefined;
  /** All `register` calls. */
  registrations = 0;

  add(address: string, host: Host): void {
    this.#hosts.set(address, host);
  }

  /** The node is gone; connections to and from it break. */
  remove(address: string): void {
    this.#hosts.delete(address);
    this.sever(address, "the node is gone");
  }

  sever(address: string, reason = "connection reset"): void {
    for (const wire of [...this.#wires, ...this.#calls]) {
      if (wire.from === address || wire.to === address) wire.sever(reason);
    }
  }

  /** Questions and answers between nodes that have not arrived. */
  get calls(): readonly { readonly from: string; readonly to: string }[] {
    return this.#calls.filter((call) => !call.ended);
  }

  get wires(): readonly { readonly from: string; readonly to: string; readonly isOpen: boolean }[] {
    return this.#wires.filter((wire) => !wire.ended);
  }

  /** Breaks one of the connections; `pick` chooses among so many. */
  severOne(pick: (count: number) => number): void {
    const open = [...this.#wires, ...this.#calls].filter((wire) => !wire.ended);
    if (open.length > 0) must(open[pick(open.length)], "picked among them").sever("connection reset");
  }

  /** Moves one thing on one connection, or one call; false when nothing can move. `pick` chooses where. */
  deliver(pick: (count: number) => number = () => 0): boolean {
    this.#wires = this.#wires.filter((wire) => !wire.ended);
    this.#calls = this.#calls.filter((call) => !call.ended);
    const moving = [...this.#wires, ...this.#calls].filter(({ from, to }) => this.#isWay(from, to));
    const first = moving.length === 0 ? 0 : pick(moving.length);
    for (let i = 0; i < moving.length; i++) {
      const wire = must(moving[(first + i) % moving.length], "one of them");
      if (wire.move(this.#hosts.get(wire.to), this.heard)) return true;
    }
    return false;
  }

  #isWay(from: string, to: string): boolean {
    return !this.silent.has(from) && !this.silent.has(to);
  }

  #call<T>(
    from: string,
    to: string,
    signal: AbortSignal,
    ask: (host: Host, signal: AbortSignal) => T | Promise<T>,
  ): Promise<T> {
    const call = new Call(from, to, signal, ask);
    this.#calls.push(call as Call<unknown>);
    return call.promise;
  }

  /** The network as the node at `from` sees it. */
  as(from: string): PeerNetwork {
    return {
      connect: (to: string, listener: PeerListener): PeerConnection => {
        const wire = new Wire(from, to, listener);
        this.#wires.push(wire);
        return { send: (message) => wire.send(message), bufferedBytes: 0, close: () => wire.close() };
      },
      register: (to, request, signal) => {
        this.registrations++;
        return this.#call(from, to, signal, (host) => host.register(request));
      },
      survey: (to, asker, signal) => this.#call(from, to, signal, (host) => host.survey(asker)),
      requestPromise: (to, request, signal) => this.#call(from, to, signal, (host) => host.requestPromise(request)),
      readIndex: (to, asker, signal) => this.#call(from, to, signal, (host, gone) => host.readIndex(asker, gone)),
    };
  }
}
