/** Writes that are held back while mastership is handed over: a queue with a limit, in the order in which they came. */
import type { Clock } from "../base/clock.js";
import { StoreError } from "./store-error.js";

/** What a write takes in memory beside its keys and values, about. */
const WAITER_BYTES = 256;

export class WritePause {
  readonly #clock: Clock;
  readonly #bytesMax: number;
  readonly #ends = new Set<(error?: Error) => void>();
  #bytes = 0;

  constructor(clock: Clock, bytesMax: number) {
    this.#clock = clock;
    this.#bytesMax = bytesMax;
  }

  /** Resolves when the pause has ended. Rejects with what it ends with; `overloaded`; `not_ready` at the deadline. */
  wait(byteLength: number, deadlineMs: number): Promise<void> {
    const bytes = byteLength + WAITER_BYTES;
    if (this.#ends.size > 0 && this.#bytes + bytes > this.#bytesMax) {
      return Promise.reject(
        new StoreError(
          "overloaded",
          `writes are held back while mastership is handed over, and ${this.#bytes} bytes of them wait, the limit (limits.max_pending_bytes) is ${this.#bytesMax}; nothing was changed, try again shortly`,
        ),
      );
    }
    this.#bytes += bytes;
    return new Promise((resolve, reject) => {
      const end = (error?: Error): void => {
        timer?.cancel();
        this.#ends.delete(end);
        this.#bytes -= bytes;
        if (error) reject(error);
        else resolve();
      };
      const expire = (): void => {
        const message = "mastership is being handed over, which takes longer than this write may; nothing was changed";
        end(new StoreError("not_ready", message));
      };
      const timer =
        deadlineMs === Infinity ? undefined : this.#clock.after(deadlineMs - this.#clock.monotonicMs(), expire);
      this.#ends.add(end);
    });
  }

  /** Lets all go on that wait, or, with an error, none. */
  end(error?: Error): void {
    for (const end of this.#ends) end(error);
  }
}
