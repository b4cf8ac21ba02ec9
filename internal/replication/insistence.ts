/**
 * What must be written down sooner or later, whatever the disk says at the moment: a full disk is no bug of this process,
 * and what it could not take is tried again until there is room.
 */
import { AssertionError } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import type { Logger } from "../base/logger.js";

const AGAIN_MS = 1000;

export interface InsistenceOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Carries out one try, and sees to what it rejects with. */
  readonly call: (act: () => Promise<void>) => Promise<void>;
}

export class Insistence {
  readonly #options: InsistenceOptions;
  /** By what is wanted: the pause before the next try, once one has failed. */
  readonly #wanted = new Map<string, Timer | undefined>();
  #closed = false;

  constructor(options: InsistenceOptions) {
    this.#options = options;
  }

  /**
   * Does what is wanted, and tries on until it is done; one and the same thing is done once at a time. Resolves once the
   * first try has ended.
   */
  async insist(wanted: string, act: () => Promise<void>): Promise<void> {
    if (this.#closed || this.#wanted.has(wanted)) return;
    await this.#call(wanted, act, undefined);
  }

  /** Nothing is tried any more. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#wanted.values()) timer?.cancel();
    this.#wanted.clear();
  }

  #call(wanted: string, act: () => Promise<void>, complaint: string | undefined): Promise<void> {
    this.#wanted.set(wanted, undefined);
    return this.#options.call(() => this.#try(wanted, act, complaint));
  }

  async #try(wanted: string, act: () => Promise<void>, complaint: string | undefined): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      await act();
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      if (this.#closed) return;
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== complaint) logger.error("the disk of this node took no note; trying on", { wanted, reason });
      this.#wanted.set(
        wanted,
        clock.after(AGAIN_MS, () => void this.#call(wanted, act, reason)),
      );
      return;
    }
    this.#wanted.delete(wanted);
    if (complaint !== undefined) logger.info("the disk of this node has taken note after all", { wanted });
  }
}
