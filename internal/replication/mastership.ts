/** A mastership of this node, from its epoch's first record to its end: when it serves, and what waits for it. */
import { AssertionError } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { AUDIT, type Logger } from "../base/logger.js";
import type { Epoch, Seq } from "../base/position.js";
import { StoreError } from "../store/store.js";
import type { Won } from "./core/candidacy.js";
import type { Happening } from "./core/event.js";
import type { CoreState } from "./core/state.js";
import { majoritySeq, peerAt, replicatedSeq } from "./core/view.js";
import type { ReplicationError } from "./replication-error.js";
import { Roster } from "./roster.js";
import type { ReplicatedStore } from "./store-port.js";
import { Waiters } from "./waiters.js";

export interface MastershipOptions {
  readonly state: CoreState;
  readonly store: ReplicatedStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly listed: readonly string[];
  readonly nodes: readonly string[];
  readonly dispatch: (happening: Happening) => void;
  /** Resolves once that is durable, or will be tried again. */
  readonly markCaughtUp: () => Promise<void>;
  /** The first record is committed and applied: this node takes writes. */
  readonly serves: () => void;
}

export class Mastership {
  readonly epoch: Epoch;
  /** Of the epoch's first record. */
  readonly firstSeq: Seq;
  readonly roster: Roster;
  /** Resolves once this node takes writes. */
  readonly serving: Promise<void>;
  readonly #options: MastershipOptions;
  readonly #applied = new Waiters();
  readonly #replicated = new Waiters();
  #ended: ReplicationError | undefined;

  constructor(won: Won, firstSeq: Seq, options: MastershipOptions) {
    const { state, store, clock, logger, listed, nodes, dispatch } = options;
    this.#options = options;
    this.epoch = won.promise.epoch;
    this.firstSeq = firstSeq;
    this.roster = new Roster({
      store,
      clock,
      logger,
      address: won.address,
      listed,
      nodes,
      firstSeq,
      majoritySeq: () => majoritySeq(state),
      dispatch,
      peerAt: (address) => peerAt(state, address, clock.monotonicMs()),
    });
    this.serving = this.#serve();
    this.serving.catch((error: unknown) => {
      if (error instanceof AssertionError) throw error;
    });
    tell(won, firstSeq, logger);
  }

  /** Resolves once all who count have acknowledged `seq`. Rejects with the signal's reason, and with that of the end. */
  async whenReplicated(seq: Seq, signal: AbortSignal): Promise<void> {
    const { state, dispatch } = this.#options;
    if (replicatedSeq(state) >= seq) return;
    const replicated = this.#replicated.wait(seq, signal);
    dispatch({ kind: "awaited", seq });
    await replicated;
  }

  applied(seq: Seq): void {
    this.#applied.resolve(seq);
  }

  /** Records from `firstSeq` on are not in the log after all. */
  dropped(firstSeq: Seq): void {
    const message = "the disk has no room for the first record of a mastership; free some and start the node again";
    this.#applied.reject(new StoreError("disk_full", message), firstSeq);
  }

  /** The disk has failed. */
  failed(error: Error): void {
    this.#applied.reject(error);
  }

  /** Something has happened. */
  tick(): void {
    this.roster.tick();
    if (!this.#replicated.isEmpty) this.#replicated.resolve(replicatedSeq(this.#options.state), undefined);
  }

  /** Whoever waits is told why it is over. */
  end(error: ReplicationError): void {
    this.#ended ??= error;
    this.roster.end(error);
    this.#applied.reject(error);
    this.#replicated.reject(error);
  }

  async #serve(): Promise<void> {
    const { store, logger, markCaughtUp, serves } = this.#options;
    if (store.appliedSeq < this.firstSeq) await this.#applied.wait(this.firstSeq);
    await markCaughtUp();
    if (this.#ended) throw this.#ended;
    logger.info("this node is master", { ...AUDIT, epoch: this.epoch, first_seq: this.firstSeq });
    serves();
    await this.roster.start();
  }
}

function tell({ promise, forced, unreached, knownLostRecords, stripped }: Won, firstSeq: Seq, logger: Logger): void {
  const { epoch, epochId } = promise;
  logger.info("a mastership begins", { ...AUDIT, epoch, epoch_id: epochId, first_seq: firstSeq, forced });
  if (unreached.length === 0 && knownLostRecords === 0) return;
  logger.warn("the mastership was forced; a master that is merely out of reach may still take writes", {
    unreached: unreached.join(", "),
    known_lost_records: knownLostRecords,
    without_vote: stripped.join(", "),
  });
}
