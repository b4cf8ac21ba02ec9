/**
 * The numbers under which a cluster remembers the answers of this client's writes, so that a write can be sent again without
 * being done again. A cluster remembers the newest 128 of a client: a write that would leave one that is still unanswered
 * behind by so many waits until that one is answered.
 */
import { CambiumError } from "./cambium-error.js";
import { toWire } from "./wire.js";

/** Safe retries under an id that outlives the process. */
export interface RetryIdentity {
  /** Up to 64 bytes. No other client may have it. */
  readonly clientId: string;
  /** The number of the first write: above all that were sent under this id before. */
  readonly nextSeq: number;
}

/** What a request carries; nothing where writes are not to be repeated. */
export interface WriteNumber {
  readonly clientId?: string;
  readonly clientSeq?: bigint;
}

export interface NumberedCall {
  /** The caller's own number, instead of the next one. */
  readonly clientSeq?: number | undefined;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Newest writes of a client whose answers a cluster remembers. */
const REMEMBERED_WRITES = 128;
const CLIENT_ID_BYTES_MAX = 64;

export class WriteNumbers {
  #clientId: string | undefined;
  #next: number;
  readonly #unanswered = new Set<number>();
  /** None that is unanswered is below it. */
  #floor: number;
  /** Writes that wait for room, in their order. */
  readonly #waiting = new Set<() => void>();

  /** `identity` absent: a new id by chance. Throws `CambiumError` `invalid_argument`. */
  constructor(identity?: RetryIdentity) {
    this.#clientId = identity?.clientId;
    this.#next = identity?.nextSeq ?? 1;
    this.#floor = this.#next;
    if (!identity) return;
    const bytes = new TextEncoder().encode(identity.clientId).byteLength;
    if (bytes === 0 || bytes > CLIENT_ID_BYTES_MAX || /\p{Surrogate}/u.test(identity.clientId)) {
      throw new CambiumError("invalid_argument", `retries.clientId must be 1 to ${CLIENT_ID_BYTES_MAX} bytes of UTF-8`);
    }
    if (toWire(identity.nextSeq, "retries.nextSeq") === 0n) {
      throw new CambiumError("invalid_argument", "retries.nextSeq must be 1 or more");
    }
  }

  /** Gives a write its number, and holds it for unanswered until `write` settles. Writes begin in the order of their calls. */
  async run<T>(call: NumberedCall, write: (number: WriteNumber, timeoutMs: number) => Promise<T>): Promise<T> {
    const beganMs = performance.now();
    const clientSeq = call.clientSeq === undefined ? await this.#take(call) : this.#claim(call.clientSeq);
    try {
      const leftMs = call.timeoutMs - (performance.now() - beganMs);
      return await write({ clientId: (this.#clientId ??= randomId()), clientSeq: BigInt(clientSeq) }, leftMs);
    } finally {
      this.#unanswered.delete(clientSeq);
      this.#wake();
    }
  }

  #claim(clientSeq: number): number {
    if (toWire(clientSeq, "clientSeq") === 0n)
      throw new CambiumError("invalid_argument", "clientSeq must be 1 or more");
    if (this.#unanswered.has(clientSeq)) {
      throw new CambiumError("invalid_argument", `a write with clientSeq ${clientSeq} is under way already`);
    }
    this.#unanswered.add(clientSeq);
    this.#floor = Math.min(this.#floor, clientSeq);
    this.#next = Math.max(this.#next, clientSeq + 1);
    return clientSeq;
  }

  #take(call: NumberedCall): number | Promise<number> {
    return this.#isFull() || this.#waiting.size > 0 ? this.#room(call) : this.#claim(this.#next);
  }

  #isFull(): boolean {
    if (this.#next - this.#floor < REMEMBERED_WRITES) return false;
    // Looked for only now and then: with every write it would cost more than the write.
    this.#floor = Math.min(this.#next, ...this.#unanswered);
    return this.#next - this.#floor >= REMEMBERED_WRITES;
  }

  /** Gives those that wait their numbers, as long as there is room. */
  #wake(): void {
    for (const go of this.#waiting) {
      if (this.#isFull()) return;
      go();
    }
  }

  #room({ timeoutMs, signal }: NumberedCall): Promise<number> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        this.#waiting.delete(go);
      };
      const go = (): void => {
        leave();
        resolve(this.#claim(this.#next));
      };
      const onAbort = (): void => {
        leave();
        reject(new CambiumError("canceled", "the call was canceled", { cause: signal?.reason }));
      };
      const timer = setTimeout(
        () => {
          leave();
          reject(
            new CambiumError("deadline_exceeded", "the call's time was over while earlier writes were unanswered"),
          );
        },
        Math.min(timeoutMs, TIMER_MAX_MS),
      );
      this.#waiting.add(go);
      if (signal?.aborted) onAbort();
      else signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}

/** Timers of JavaScript fire at once above this. */
const TIMER_MAX_MS = 2_147_483_647;

function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
