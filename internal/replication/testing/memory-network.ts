/**
 * A network in memory. Nothing moves until `deliver` is called, which moves one thing; so the test decides about time and
 * order. Each direction of a connection keeps its order, as a stream does; between connections there is none.
 */
import { must } from "../../base/assert.js";
import type { MasterMessage, ReplicaMessage } from "../core/message.js";
import type {
  PeerConnection,
  PeerListener,
  PeerNetwork,
  PushSession,
  RegisterReply,
  RegisterRequest,
} from "../peer.js";

/** A node as the network sees it. */
export interface Host {
  acceptPush(send: (message: ReplicaMessage) => void, close: (reason: string) => void): PushSession;
  register(request: RegisterRequest): Promise<RegisterReply>;
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
    for (const wire of this.#wires) if (wire.from === address || wire.to === address) wire.sever(reason);
  }

  get wires(): readonly { readonly from: string; readonly to: string; readonly isOpen: boolean }[] {
    return this.#wires.filter((wire) => !wire.ended);
  }

  /** Breaks one of the connections; `pick` chooses among so many. */
  severOne(pick: (count: number) => number): void {
    const open = this.#wires.filter((wire) => !wire.ended);
    if (open.length > 0) must(open[pick(open.length)], "picked among them").sever("connection reset");
  }

  /** Moves one thing on one connection; false when nothing can move. `pick` chooses where. */
  deliver(pick: (count: number) => number = () => 0): boolean {
    this.#wires = this.#wires.filter((wire) => !wire.ended);
    const moving = this.#wires.filter(({ from, to }) => !this.silent.has(from) && !this.silent.has(to));
    const first = moving.length === 0 ? 0 : pick(moving.length);
    for (let i = 0; i < moving.length; i++) {
      const wire = must(moving[(first + i) % moving.length], "one of them");
      if (wire.move(this.#hosts.get(wire.to), this.heard)) return true;
    }
    return false;
  }

  /** The network as the node at `from` sees it. */
  as(from: string): PeerNetwork {
    return {
      connect: (to: string, listener: PeerListener): PeerConnection => {
        const wire = new Wire(from, to, listener);
        this.#wires.push(wire);
        return { send: (message) => wire.send(message), bufferedBytes: 0, close: () => wire.close() };
      },
      register: async (to, request, signal): Promise<RegisterReply> => {
        this.registrations++;
        await Promise.resolve();
        if (this.silent.has(to) || this.silent.has(from)) {
          return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
        }
        const host = this.#hosts.get(to);
        if (!host) throw new Error(`nothing listens at ${to}`);
        return host.register(request);
      },
    };
  }
}
