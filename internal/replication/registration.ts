/**
 * A replica that knows where its master is, and asks it to push: at start until a master has aligned with it, and again
 * whenever none has pushed for a while.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import type { PeerNetwork, RegisterRequest } from "./peer.js";

const PAUSE_MIN_MS = 200;
const PAUSE_MAX_MS = 5000;
/** A master that has lost the connection mostly comes back by itself. */
const GRACE_MS = 1000;
const CALL_MS = 5000;

export interface RegistrationOptions {
  readonly network: PeerNetwork;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly masterAddress: string;
  readonly request: () => RegisterRequest;
  readonly random: RandomSource;
}

export class Registration {
  readonly #options: RegistrationOptions;
  /** Whether nobody pushes, so that there is something to ask for. */
  #wanted = false;
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

  /** A master pushes: there is nothing to ask for. */
  followed(): void {
    this.#wanted = false;
    this.#attempts = 0;
    this.#complaint = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Nobody pushes any more. */
  orphaned(): void {
    this.#wanted = true;
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
    const { network, clock, logger, masterAddress, request, random } = this.#options;
    const call = new AbortController();
    this.#call = call;
    const deadline = clock.after(CALL_MS, () => call.abort(new Error(`no answer within ${CALL_MS} ms`)));
    try {
      const { masterNodeId, epoch } = await network.register(masterAddress, request(), call.signal);
      logger.debug("registered with the master", { address: masterAddress, master: masterNodeId, epoch });
      this.#complaint = undefined;
    } catch (error) {
      const complaint = error instanceof Error ? error.message : String(error);
      if (complaint !== this.#complaint && !this.#closed) {
        logger.warn("the master does not take this replica; trying on", { address: masterAddress, reason: complaint });
      }
      this.#complaint = complaint;
    } finally {
      deadline.cancel();
      this.#call = undefined;
    }
    const pauseMs = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(this.#attempts++, 16));
    const chance = (random.bytes(1)[0] ?? 0) / 255;
    if (this.#wanted) this.#schedule(pauseMs * (0.5 + chance / 2));
  }
}
