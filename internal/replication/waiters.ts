/** Those who wait for something to come true. */

interface Waiter<T> {
  readonly upTo: number;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/** Each waits for a number, a seq mostly, to be reached. */
export class Waiters<T = void> {
  #waiting: Waiter<T>[] = [];

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Rejects with the signal's reason. */
  wait(upTo: number, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const leave = (): void => signal?.removeEventListener("abort", abort);
      const waiter: Waiter<T> = {
        upTo,
        resolve: (value) => {
          leave();
          resolve(value);
        },
        reject: (error) => {
          leave();
          reject(error);
        },
      };
      const abort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        waiter.reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", abort);
      this.#waiting.push(waiter);
    });
  }

  /** It has come to `upTo`. */
  resolve(upTo: number, value: T): void {
    if (!this.#waiting.some((waiter) => waiter.upTo <= upTo)) return;
    const reached = this.#waiting.filter((waiter) => waiter.upTo <= upTo);
    this.#waiting = this.#waiting.filter((waiter) => waiter.upTo > upTo);
    for (const waiter of reached) waiter.resolve(value);
  }

  /** It never will, from `from` on. */
  reject(error: Error, from = 0): void {
    const lost = this.#waiting.filter((waiter) => waiter.upTo >= from);
    this.#waiting = this.#waiting.filter((waiter) => waiter.upTo < from);
    for (const waiter of lost) waiter.reject(error);
  }
}

/** Each waits for a condition of its own, which is looked at whenever something has happened. */
export class Conditions {
  readonly #waiting = new Set<{ readonly look: () => void; readonly reject: (error: Error) => void }>();
  #ended: Error | undefined;

  /** Resolves once `holds` does. Rejects with what `holds` throws, with the signal's reason, and with that of the end. */
  until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const end = (error?: Error): void => {
        this.#waiting.delete(waiter);
        signal.removeEventListener("abort", abort);
        if (error) reject(error);
        else resolve();
      };
      const waiter = {
        look: () => {
          try {
            if (holds()) end();
          } catch (error) {
            end(error as Error);
          }
        },
        reject: end,
      };
      const abort = (): void => end(signal.reason as Error);
      signal.addEventListener("abort", abort);
      this.#waiting.add(waiter);
      if (signal.aborted) abort();
      else waiter.look();
    });
  }

  look(): void {
    for (const waiter of this.#waiting) waiter.look();
  }

  /** Nothing happens any more. */
  end(error: Error): void {
    this.#ended ??= error;
    for (const waiter of this.#waiting) waiter.reject(error);
  }
}
