/** Looks every so often whether records have become too old or too many, and has the master log a truncation. */
import type { Clock, Timer } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { EpochMs } from "../base/position.js";
import type { Extent } from "./extents.js";
import { retentionCut, type RetentionLimits } from "./retention.js";

export interface RetentionLoopOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: RetentionLimits;
  /** Whether this node is a master that takes writes: only that one truncates. */
  readonly isMaster: () => boolean;
  readonly extents: () => readonly Extent[];
  /** By the master's time, which the records carry. */
  readonly nowMs: () => EpochMs;
  /** Logs the truncation; resolves when it is committed. */
  readonly truncateBelow: (offset: number) => Promise<unknown>;
  /** How often it looks. Default 1000. */
  readonly intervalMs?: number;
}

export class RetentionLoop {
  readonly #options: RetentionLoopOptions;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: RetentionLoopOptions) {
    this.#options = options;
  }

  /** Begins to look; does nothing without a limit. */
  start(): void {
    const { ageMs, bytesMax } = this.#options.limits;
    if (ageMs > 0 || bytesMax > 0) this.#schedule();
  }

  /** Looks no more, and resolves when no truncation is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#running;
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.after(this.#options.intervalMs ?? 1000, () => {
      this.#running = this.#look().finally(() => {
        this.#running = undefined;
        this.#schedule();
      });
    });
  }

  /** What fails now is tried again at the next look: the records are only kept a little longer. */
  async #look(): Promise<void> {
    const { isMaster, extents, limits, nowMs, truncateBelow, logger } = this.#options;
    if (!isMaster()) return;
    const cut = retentionCut(extents(), limits, nowMs());
    if (cut === undefined) return;
    try {
      await truncateBelow(cut);
      logger.debug("old records of the record log were truncated", { below_offset: cut });
    } catch (error) {
      logger.warn("old records of the record log could not be truncated", {
        below_offset: cut,
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }
}
