/** Watches in the hands of a test. */
import type { Watch, WatchBatch, WatchRequest } from "../../watch/watch-types.js";
import type { RpcWatches } from "../ports.js";

/** One that was opened, and gives what the test says. */
export class FakeWatch implements Watch {
  readonly request: WatchRequest;
  /** Batches that were asked for and given. */
  taken = 0;
  isEnded = false;
  #items: ({ readonly batch: WatchBatch } | { readonly error: unknown })[] = [];
  #wake: (() => void) | undefined;

  constructor(request: WatchRequest) {
    this.request = request;
    request.signal.addEventListener("abort", () => this.#end());
    if (request.signal.aborted) this.#end();
  }

  give(...batches: WatchBatch[]): this {
    for (const batch of batches) this.#items.push({ batch });
    this.#wake?.();
    return this;
  }

  fail(error: unknown): void {
    this.#items.push({ error });
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<WatchBatch, undefined>> {
    for (;;) {
      if (this.isEnded) return { done: true, value: undefined };
      const item = this.#items.shift();
      if (item && "error" in item) {
        this.#end();
        throw item.error;
      }
      if (item) {
        this.taken++;
        return { done: false, value: item.batch };
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(): void {
    this.isEnded = true;
    this.#wake?.();
  }
}

export class FakeWatches implements RpcWatches {
  readonly opened: FakeWatch[] = [];
  /** Thrown by the next calls instead of doing anything. */
  failure: Error | undefined;
  /** Told of each that is opened, before anybody reads it. */
  onOpen: (watch: FakeWatch) => void = () => undefined;

  open(request: WatchRequest): Watch {
    if (this.failure) throw this.failure;
    const watch = new FakeWatch(request);
    this.opened.push(watch);
    this.onOpen(watch);
    return watch;
  }

  get count(): number {
    return this.openCount;
  }

  /** Those that nobody has ended. */
  get openCount(): number {
    return this.opened.filter(({ isEnded }) => !isEnded).length;
  }
}
