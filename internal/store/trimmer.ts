/** Brings what a master stores under limits that were lowered, by records of evictions, one at a time. */
import type { Logger } from "../base/logger.js";
import type { Removal } from "./change.js";
import { StoreError } from "./store-error.js";

export interface TrimmerOptions {
  readonly logger: Logger;
  /** One record's worth of what goes; none when nothing has to, or nothing may. */
  readonly excess: () => readonly Removal[];
  /** Writes one record; resolves when it is applied. Rejects with `StoreError`. */
  readonly propose: (changes: readonly Removal[]) => Promise<unknown>;
}

export class Trimmer {
  readonly #options: TrimmerOptions;
  #isActive = false;
  #isRunning = false;

  constructor(options: TrimmerOptions) {
    this.#options = options;
  }

  /** This node takes writes now, or the limits have changed since. */
  start(): void {
    this.#isActive = true;
    if (!this.#isRunning) void this.#run();
  }

  stop(): void {
    this.#isActive = false;
  }

  async #run(): Promise<void> {
    const { excess, propose, logger } = this.#options;
    this.#isRunning = true;
    let evicted = 0;
    try {
      while (this.#isActive) {
        const changes = excess();
        if (changes.length === 0) break;
        await propose(changes);
        evicted += changes.length;
      }
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      // The writes that need room go on with it, each for itself.
      logger.warn("the store holds more than its limits allow, and eviction was interrupted", {
        reason: error.message,
      });
    } finally {
      this.#isRunning = false;
    }
    if (evicted > 0) logger.info("keys were evicted for limits that were lowered", { keys: evicted });
  }
}
