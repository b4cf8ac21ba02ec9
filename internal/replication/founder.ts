/**
 * A node that is to found a cluster with listed voters, or to go on with founding it, as long as there is no record. Two that
 * begin at once may each promise the other's epoch, and both be replicas then, of nobody: so it is tried again. That is
 * safe at any time, since nobody founds before every listed node has said that it has no record.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { RandomSource } from "../base/ids.js";

const PAUSE_MIN_MS = 5000;

export interface FounderOptions {
  readonly clock: Clock;
  readonly random: RandomSource;
  /** There is still no record. */
  readonly isEmpty: () => boolean;
  /** Nobody pushes to this node, and it wants nothing. */
  readonly isIdle: () => boolean;
  readonly campaign: () => void;
}

export class Founder {
  readonly #options: FounderOptions;
  #timer: Timer | undefined;

  constructor(options: FounderOptions) {
    this.#options = options;
  }

  start(): void {
    const { clock, random, isEmpty, isIdle, campaign } = this.#options;
    const chance = (random.bytes(1)[0] ?? 0) / 255;
    this.#timer = clock.after(PAUSE_MIN_MS * (1 + chance), () => {
      if (!isEmpty()) return;
      if (isIdle()) campaign();
      this.start();
    });
  }

  close(): void {
    this.#timer?.cancel();
  }
}
