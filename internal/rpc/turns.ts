/**
 * Large messages take the process's one thread for long: those of many calls together would keep every other caller waiting
 * until the last is done. Here they come one at a time, with whatever else there is to do in between, and by turns between
 * connections. A connection that does not take the answers it has gets no turn meanwhile: so its callers, and not this
 * node's memory, pay for that.
 */

/** A message from here on is large. */
export const LARGE_BYTES = 64 * 1024;
/** How often it is looked whether a connection has taken its answers. */
const LOOK_INTERVAL_MS = 20;

/** Whatever calls come by together. */
export interface Connection {
  /** Bytes of answers that the network has not taken yet. */
  readonly unsentBytes: number;
}

interface Waiter {
  readonly begin: () => void;
}

export class Turns {
  readonly #unsentBytesMax: number;
  /** Those who wait, by connection; the one that had its turn last is the last. */
  readonly #waiting = new Map<Connection, Set<Waiter>>();
  /** Somebody had a turn since the process has last looked for other work. */
  #isTaken = false;

  /** `unsentBytesMax`: of answers that a connection may leave unread before it has to wait with what is large. */
  constructor(unsentBytesMax: number) {
    this.#unsentBytesMax = unsentBytesMax;
  }

  /** Undefined when the work may be done in this tick; else a promise of the same. Rejects with the signal's reason. */
  take(connection: Connection, signal: AbortSignal): Promise<void> | undefined {
    if (!this.#isTaken && this.#waiting.size === 0 && this.#mayBegin(connection)) {
      this.#begin();
      return undefined;
    }
    return this.#wait(connection, signal);
  }

  #wait(connection: Connection, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        signal.removeEventListener("abort", abort);
        const queue = this.#waiting.get(connection);
        queue?.delete(waiter);
        if (queue?.size === 0) this.#waiting.delete(connection);
      };
      const abort = (): void => {
        leave();
        reject(signal.reason as Error);
      };
      const waiter: Waiter = {
        begin: () => {
          leave();
          resolve();
        },
      };
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      signal.addEventListener("abort", abort);
      const queue = this.#waiting.get(connection) ?? new Set();
      if (queue.size === 0) this.#waiting.set(connection, queue);
      queue.add(waiter);
      if (!this.#isTaken) this.#begin();
    });
  }

  #begin(): void {
    this.#isTaken = true;
    setImmediate(() => this.#next());
  }

  #next(): void {
    this.#isTaken = false;
    for (const [connection, queue] of this.#waiting) {
      if (!this.#mayBegin(connection)) continue;
      this.#waiting.delete(connection);
      this.#waiting.set(connection, queue);
      const [waiter] = queue;
      this.#begin();
      waiter?.begin();
      return;
    }
    if (this.#waiting.size === 0) return;
    this.#isTaken = true;
    setTimeout(() => this.#next(), LOOK_INTERVAL_MS).unref();
  }

  #mayBegin(connection: Connection): boolean {
    return connection.unsentBytes < this.#unsentBytesMax;
  }
}
