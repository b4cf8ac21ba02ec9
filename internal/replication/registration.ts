/**
 * A replica asks its master to push to it: at start until a master has aligned with it, and again whenever none has pushed
 * for a while. It knows its master from the configuration, from the one that pushed last, or from an answer of a node that
 * is none any more.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import type { PeerNetwork, RegisterRequest } from "./peer.js";
import { ReplicationError } from "./replication-error.js";

const PAUSE_MIN_MS = 200;
const PAUSE_MAX_MS = 5000;
/** A master that has lost the connection mostly comes back by itself. */
const GRACE_MS = 1000;
const CALL_MS = 5000;

export interface RegistrationOptions {
  readonly network: PeerNetwork;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the configuration. */
  readonly masterAddress: string | undefined;
  readonly request: () => RegisterRequest;
  readonly random: RandomSource;
}

export class Registration {
  readonly #options: RegistrationOptions;
  /** Whether nobody pushes, so that there is something to ask for. */
  #wanted = false;
  /** Where the master was last heard to be. Forgotten when it does not answer there. */
  #hint: string | undefined;
  /** Calls since somebody pushed last. */
  #attempts = 0;
  #timer: Timer | undefined;
  #call: AbortController | undefined;
  #finished: Promise<void> = Promise.resolve();
  /** The complaint that was logged last; the same one is not logged again. */
  #complaint: string | undefined;
  #closed = false;

  constructor(options: RegistrationOptions) {
    this.#options = options;
  }

  /** Nobody has pushed yet. */
  start(): void {
    this.#wanted = true;
    this.#schedule(0);
  }

  /** A master pushes, whose address is given, or this node is one: there is nothing to ask for. */
  followed(masterAddress?: string): void {
    this.#wanted = false;
    this.#hint = masterAddress;
    this.#attempts = 0;
    this.#complaint = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Nobody pushes any more. `masterAddress`: where a master is, or is about to be. */
  orphaned(masterAddress?: string): void {
    this.#wanted = true;
    this.#hint = masterAddress ?? this.#hint;
    this.#schedule(GRACE_MS);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#call?.abort(new Error("the node shuts down"));
    await this.#finished;
  }

  #schedule(delayMs: number): void {
    // A call that is under way schedules the next one when it ends.
    if (this.#closed || this.#call || this.#timer) return;
    this.#timer = this.#options.clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#finished = this.#register();
    });
  }

  async #register(): Promise<void> {
    const { network, clock, logger, request, random } = this.#options;
    const address = this.#hint ?? this.#options.masterAddress;
    // Whoever is a member is pushed to without asking.
    if (address === undefined) return;
    const call = new AbortController();
    this.#call = call;
    const deadline = clock.after(CALL_MS, () => call.abort(new Error(`no answer within ${CALL_MS} ms`)));
    try {
      const { masterNodeId, epoch } = await network.register(address, request(), call.signal);
      logger.debug("registered with the master", { address, master: masterNodeId, epoch });
      this.#complaint = undefined;
    } catch (error) {
      this.#failed(address, error);
    } finally {
      deadline.cancel();
      this.#call = undefined;
    }
    const pauseMs = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(this.#attempts++, 16));
    const chance = (random.bytes(1)[0] ?? 0) / 255;
    if (this.#wanted) this.#schedule(pauseMs * (0.5 + chance / 2));
  }

  #failed(address: string, error: unknown): void {
    const complaint = error instanceof Error ? error.message : String(error);
    if (complaint !== this.#complaint && !this.#closed) {
      this.#options.logger.warn("the master does not take this replica; trying on", { address, reason: complaint });
    }
    this.#complaint = complaint;
    const moved = error instanceof ReplicationError && error.code === "not_master" ? error.masterAddress : undefined;
    this.#hint = moved === address || moved === this.#options.request().address ? undefined : moved;
  }
}
