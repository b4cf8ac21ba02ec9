/**
 * Messages on their way out of this process: one side adds them at once, the other takes them as fast as the network
 * does. It holds at most so many bytes; what is added beyond that fails the stream, since the other side has stopped reading.
 */
export interface OutgoingOptions<T> {
  readonly bytesMax: number;
  readonly sizeOf: (item: T) => number;
  /** Made when `bytesMax` is passed. */
  readonly overflow: () => Error;
  /** Everything that was added has been taken, and the network has asked for more. */
  readonly drained?: () => void;
}

type End = { readonly kind: "end" } | { readonly kind: "error"; readonly error: unknown };

export class Outgoing<T> implements AsyncIterable<T> {
  readonly #options: OutgoingOptions<T>;
  readonly #items: T[] = [];
  #bytes = 0;
  /** Of the item that was taken last; it counts until the next one is asked for. */
  #takenBytes = 0;
  #end: End | undefined;
  #wake: (() => void) | undefined;

  constructor(options: OutgoingOptions<T>) {
    this.#options = options;
  }

  /** Bytes added that the network has not taken yet. */
  get bufferedBytes(): number {
    return this.#bytes;
  }

  /** After `end` or `fail` it does nothing. */
  add(item: T): void {
    if (this.#end) return;
    this.#items.push(item);
    this.#bytes += this.#options.sizeOf(item);
    if (this.#bytes > this.#options.bytesMax) this.fail(this.#options.overflow());
    this.#wake?.();
  }

  /** The stream ends after what was added. */
  end(): void {
    this.#end ??= { kind: "end" };
    this.#wake?.();
  }

  /** The stream ends with an error, after what was added unless that is too much. */
  fail(error: unknown): void {
    this.#end ??= { kind: "error", error };
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      // Whoever iterates asks for the next item once the network has taken the one before.
      this.#bytes -= this.#takenBytes;
      const hadTaken = this.#takenBytes > 0;
      this.#takenBytes = 0;
      if (hadTaken && this.#bytes === 0) this.#options.drained?.();
      const item = this.#items.shift();
      if (item !== undefined) {
        this.#takenBytes = this.#options.sizeOf(item);
        yield item;
        continue;
      }
      if (this.#end?.kind === "end") return;
      if (this.#end?.kind === "error") throw this.#end.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
