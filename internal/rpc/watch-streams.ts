/**
 * Streams that carry many watches each. A watch gives its next batch when the one before has been taken by the network, so that
 * a stream holds one batch a watch, however slowly its caller reads; the rest waits where the watch does.
 */
import { randomBytes } from "node:crypto";
import type { Identity } from "../identity/role.js";
import type { WatchBatch } from "../watch/watch-types.js";
import type { RpcWatches } from "./ports.js";
import { RequestError } from "./request-error.js";
import { type CheckedNamedWatch, STREAM_ID_BYTES } from "./watch-requests.js";

/** What a stream tells of one of its watches: a batch, or why the watch has ended. */
export type WatchNews = { readonly watchId: bigint } & ({ readonly batch: WatchBatch } | { readonly error: unknown });

export class WatchStreams {
  readonly #watches: RpcWatches;
  readonly #streams = new Map<string, WatchStream>();

  constructor(watches: RpcWatches) {
    this.#watches = watches;
  }

  /** Streams that are open. */
  get count(): number {
    return this.#streams.size;
  }

  /** Whoever opens a stream closes it. */
  open(owner: Identity | undefined): WatchStream {
    const id = randomBytes(STREAM_ID_BYTES);
    const name = id.toString("hex");
    const stream = new WatchStream({
      id: new Uint8Array(id),
      owner,
      watches: this.#watches,
      onClose: () => this.#streams.delete(name),
    });
    this.#streams.set(name, stream);
    return stream;
  }

  /**
   * The caller's stream of this name, in hexadecimal digits. Nobody learns that there is one of another caller's; those who need no
   * identity are all the same, and what they leave is as secret as its name.
   */
  of(caller: Identity | undefined, name: string): WatchStream {
    const stream = this.#streams.get(name);
    if (stream && stream.owner?.name === caller?.name) return stream;
    throw new RequestError(
      "not_found",
      "this node has no such stream of this caller's; it has ended, or another node has it: open a new one with WatchMany",
    );
  }
}

interface Running {
  readonly watchId: bigint;
  readonly end: AbortController;
}

interface Ready {
  readonly running: Running;
  readonly news: WatchNews;
  /** The watch may go on. */
  readonly taken: () => void;
}

export class WatchStream {
  readonly id: Uint8Array<ArrayBuffer>;
  readonly owner: Identity | undefined;
  readonly #watches: RpcWatches;
  readonly #onClose: () => void;
  readonly #running = new Map<bigint, Running>();
  /** At most one of each watch. */
  #ready: Ready[] = [];
  #wake: (() => void) | undefined;
  #isClosed = false;

  constructor(options: {
    readonly id: Uint8Array<ArrayBuffer>;
    readonly owner: Identity | undefined;
    readonly watches: RpcWatches;
    readonly onClose: () => void;
  }) {
    this.id = options.id;
    this.owner = options.owner;
    this.#watches = options.watches;
    this.#onClose = options.onClose;
  }

  /** Throws `RequestError` "exists", and what the opening of a watch throws; the watch is not there then. */
  add({ watchId, watch }: CheckedNamedWatch): void {
    if (this.#isClosed) throw new RequestError("not_found", "the stream has just ended; open a new one with WatchMany");
    if (this.#running.has(watchId)) {
      throw new RequestError(
        "exists",
        `the stream has a watch ${watchId} already; take it away with RemoveWatch, or choose another watch_id`,
      );
    }
    const running = { watchId, end: new AbortController() };
    const batches = this.#watches.open({ ...watch, signal: running.end.signal });
    this.#running.set(watchId, running);
    void this.#follow(running, batches);
  }

  /** The same; why a watch cannot be opened is told on the stream. */
  begin(named: CheckedNamedWatch): void {
    try {
      this.add(named);
    } catch (error) {
      const running = { watchId: named.watchId, end: new AbortController() };
      this.#running.set(named.watchId, running);
      void this.#offer(running, { watchId: named.watchId, error }).then(() => this.#forget(running));
    }
  }

  /** What the watch had still to tell is not told any more. */
  remove(watchId: bigint): void {
    const running = this.#running.get(watchId);
    if (!running) return;
    this.#forget(running);
    running.end.abort();
    const dropped = this.#ready.filter((ready) => ready.running === running);
    this.#ready = this.#ready.filter((ready) => ready.running !== running);
    for (const { taken } of dropped) taken();
  }

  /** Ends all watches. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const [running, ready] = [[...this.#running.values()], this.#ready];
    // All at once: one after the other, each would look through what the others have to tell.
    this.#running.clear();
    this.#ready = [];
    for (const { end } of running) end.abort();
    for (const { taken } of ready) taken();
    this.#wake?.();
    this.#onClose();
  }

  /** What the watches tell, by turns. Whoever iterates asks for the next once the network has taken the one before. Ends with `close`. */
  async *news(): AsyncGenerator<WatchNews> {
    while (!this.#isClosed) {
      const ready = this.#ready.shift();
      if (ready) {
        yield ready.news;
        ready.taken();
      } else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async #follow(running: Running, batches: AsyncIterable<WatchBatch>): Promise<void> {
    const { watchId } = running;
    try {
      for await (const batch of batches) await this.#offer(running, { watchId, batch });
    } catch (error) {
      await this.#offer(running, { watchId, error });
    } finally {
      this.#forget(running);
    }
  }

  /** Resolves when the network has taken it, or nobody wants it any more. */
  #offer(running: Running, news: WatchNews): Promise<void> {
    if (this.#running.get(running.watchId) !== running) return Promise.resolve();
    return new Promise((taken) => {
      this.#ready.push({ running, news, taken });
      this.#wake?.();
    });
  }

  /** From now on its id is free. */
  #forget(running: Running): void {
    if (this.#running.get(running.watchId) === running) this.#running.delete(running.watchId);
  }
}
