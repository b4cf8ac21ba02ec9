/** The calls that took long, of late: a ring, so that neither many of them nor large ones take more memory. */

/** A call that took long. Of what it carried it has sizes, and how its first key begins; never a value. */
export interface SlowCall {
  /** `package.Service/Method` */
  readonly method: string;
  /** By the wall clock. */
  readonly startedMs: number;
  readonly durationMs: number;
  /** `ok`, or the name of the error's code. */
  readonly code: string;
  readonly requestId: string;
  /** Empty when the connection was gone. */
  readonly callerAddress: string;
  /** The name of who called; empty when it was refused, or nobody in particular. */
  readonly identity: string;
  /** Keys and ranges that the request names. */
  readonly keys: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** `FIRST_KEY_CHARACTERS` of it at most; empty: there is none. */
  readonly firstKey: string;
}

export const SLOW_CALLS_MAX = 128;

export class SlowCalls {
  /** 0: none is slow. */
  readonly thresholdMs: number;
  readonly #ring: SlowCall[] = [];
  #total = 0;

  constructor(thresholdMs: number) {
    this.thresholdMs = thresholdMs;
  }

  /** How many there were. */
  get total(): number {
    return this.#total;
  }

  isSlow(durationMs: number): boolean {
    return this.thresholdMs > 0 && durationMs > this.thresholdMs;
  }

  add(call: SlowCall): void {
    this.#ring[this.#total % SLOW_CALLS_MAX] = call;
    this.#total++;
  }

  /** The newest first. */
  list(): SlowCall[] {
    const newest = this.#total % SLOW_CALLS_MAX;
    return [...this.#ring.slice(newest), ...this.#ring.slice(0, newest)].reverse();
  }
}
