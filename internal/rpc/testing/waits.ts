/** Waits that a test ends, and that end by themselves when their signal is aborted. */
export class Waits<T> {
  readonly #open = new Set<{ readonly resolve: (value: T) => void; readonly reject: (error: unknown) => void }>();

  /** Those that have not ended. */
  get count(): number {
    return this.#open.size;
  }

  add(signal: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      signal.throwIfAborted();
      const leave = (): void => {
        this.#open.delete(wait);
        signal.removeEventListener("abort", abort);
      };
      const wait = {
        resolve: (value: T): void => {
          leave();
          resolve(value);
        },
        reject: (error: unknown): void => {
          leave();
          reject(error);
        },
      };
      const abort = (): void => wait.reject(signal.reason);
      this.#open.add(wait);
      signal.addEventListener("abort", abort);
    });
  }

  release(value: T): void {
    for (const { resolve } of this.#open) resolve(value);
  }

  fail(error: unknown): void {
    for (const { reject } of this.#open) reject(error);
  }
}
