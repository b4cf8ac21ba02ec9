/** Reads that must see every write that was answered before they came. The master tells up to where, confirmed since. */
import { ReplicationError } from "./replication-error.js";
import type { Position, Seq } from "../base/position.js";
import type { CoreState } from "./core/state.js";
import { isServing, settledMaster } from "./core/view.js";
import type { Asker, PeerNetwork } from "./peer.js";
import { type Conditions, Waiters } from "./waiters.js";

export interface ReadsOptions {
  readonly state: CoreState;
  readonly network: PeerNetwork;
  readonly conditions: Conditions;
  /** Has this master's commit seq confirmed for all reads up to this one. */
  readonly confirm: (read: number) => void;
  readonly ownAddress: () => string;
  /** Where the master is, as far as this node knows. */
  readonly masterAddress: () => string | undefined;
}

export class Reads {
  readonly #options: ReadsOptions;
  /** By number. */
  readonly #waiting = new Waiters<Seq>();
  #count = 0;

  constructor(options: ReadsOptions) {
    this.#options = options;
  }

  /** What a read must see, wherever it is done. */
  async linearizableSeq(signal: AbortSignal): Promise<Seq> {
    signal.throwIfAborted();
    if (this.#options.state.role.kind === "master") return this.confirmedSeq(signal);
    const { epoch, seq } = await this.#askMaster(signal);
    // What this node has applied must be of that master's history, not of one that was lost.
    await this.#options.conditions.until(() => this.#settledEpoch >= epoch, signal);
    return seq;
  }

  /** The same, where this node is master. */
  confirmedSeq(signal: AbortSignal): Promise<Seq> {
    const read = ++this.#count;
    const confirmed = this.#waiting.wait(read, signal);
    this.#options.confirm(read);
    return confirmed;
  }

  confirmed({ read, seq }: { read: number; seq: Seq }): void {
    this.#waiting.resolve(read, seq);
  }

  /** The mastership has ended, or everything has. */
  end(error: ReplicationError): void {
    this.#waiting.reject(error);
  }

  /** Of the mastership whose committed history this node has: its own, or that of the master that it follows. */
  get #settledEpoch(): number {
    const { state } = this.#options;
    if (state.role.kind === "master") return isServing(state) ? state.role.epoch : 0;
    return settledMaster(state)?.epoch ?? 0;
  }

  async #askMaster(signal: AbortSignal): Promise<Position> {
    const { network, state, ownAddress, masterAddress } = this.#options;
    const { clusterId, self } = state;
    const asker: Asker = { ...(clusterId !== undefined && { clusterId }), nodeId: self };
    const address = masterAddress();
    if (address === undefined) {
      throw new ReplicationError("not_master", "this node follows no master, and knows of none");
    }
    try {
      return await network.readIndex(address, asker, signal);
    } catch (error) {
      const moved = error instanceof ReplicationError && error.code === "not_master" ? error.masterAddress : undefined;
      if (moved === undefined || moved === address || moved === ownAddress()) throw error;
      return network.readIndex(moved, asker, signal);
    }
  }
}
