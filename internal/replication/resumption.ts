/**
 * A node that is meant to be master, and has come to be a replica of nobody, tries again: what a new start of its process would
 * do at once is done after a while. There are two ways to get there:
 *
 * - Two nodes that found one cluster at once may each promise the other's epoch, and both be replicas then.
 * - A master that was asked for its promise ends its mastership first; then the disk may have no room for the promise.
 *
 * A campaign is safe at any time; whoever has been overtaken finds that out by its survey, and stays the replica that it is.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { RandomSource } from "../base/ids.js";

const PAUSE_MIN_MS = 5000;

export interface ResumptionOptions {
  readonly clock: Clock;
  readonly random: RandomSource;
  /** What this node's next start would do is to campaign. */
  readonly isMeantToBeMaster: () => boolean;
  /** Nobody pushes to this node, and nothing is under way that could change that. */
  readonly isUnclaimed: () => boolean;
  readonly campaign: () => void;
}

export class Resumption {
  readonly #options: ResumptionOptions;
  #timer: Timer | undefined;

  constructor(options: ResumptionOptions) {
    this.#options = options;
  }

  start(): void {
    const { clock, random, isMeantToBeMaster, isUnclaimed, campaign } = this.#options;
    const chance = (random.bytes(1)[0] ?? 0) / 255;
    this.#timer = clock.after(PAUSE_MIN_MS * (1 + chance), () => {
      if (isMeantToBeMaster() && isUnclaimed()) campaign();
      this.start();
    });
  }

  close(): void {
    this.#timer?.cancel();
  }
}
