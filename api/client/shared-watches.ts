/**
 * Many watches over one stream, so that a browser's page over HTTP/1.1 keeps its connections for other calls. The stream is
 * opened with the first watch and closed with the last. Where it breaks off, another one is opened, and each watch is added to
 * it again, from its own token. A watch that is read too slowly is taken from the stream until it has been read: it holds up
 * nobody, and what waits for it is bounded.
 */
import type { WatchManyResponse, WatchStatus } from "../gen/cambium/v1/kvstore_pb.js";
import { CambiumError, type CambiumErrorCode } from "./cambium-error.js";
import type { Endpoint, EndpointPool } from "./endpoint-pool.js";
import { toCambiumError } from "./error-map.js";
import { neverEnding, type WatchBatch, type WatchCursor, type WatchSource } from "./watch.js";

/** What may wait for the reader of one watch. */
const UNREAD_BYTES_MAX = 1024 * 1024;
/** What an event takes besides its key and values, about. */
const EVENT_BYTES = 200;
/** Watches that a stream may begin with. */
const INITIAL_WATCHES_MAX = 128;
/** Tries to add a watch that no node has taken yet. */
const FIRST_TRIES_MAX = 5;
/** Tries to add one that has begun elsewhere, before another node is looked for. */
const TRIES_AT_NODE_MAX = 8;
const RETRY_DELAY_MAX_MS = 2_000;

export interface SharedWatchesOptions {
  readonly pool: EndpointPool;
  /** For one call, and for finding a node at the beginning. */
  readonly timeoutMs: number;
  /** The first pause before a watch is added again; it doubles, and is jittered. */
  readonly retryDelayMs: number;
}

/** The stream that is open. */
interface Stream {
  readonly endpoint: Endpoint;
  /** Given by the node in its first message. */
  id: Uint8Array | undefined;
  readonly signal: AbortSignal;
  /** Gives the stream up: another one is opened. */
  readonly giveUp: (reason: CambiumError) => void;
}

export class SharedWatches implements WatchSource {
  readonly #options: SharedWatchesOptions;
  readonly #watches = new Set<SharedWatch>();
  /** Those that are on the stream; each is there under another id every time, so that late messages find nobody. */
  readonly #byId = new Map<bigint, SharedWatch>();
  #nextId = 1n;
  #stream: Stream | undefined;
  /** Ends what goes on for the present watches. */
  #ending: AbortController | undefined;

  constructor(options: SharedWatchesOptions) {
    this.#options = options;
  }

  async *batches(cursor: WatchCursor): AsyncGenerator<WatchBatch, void, undefined> {
    const watch = new SharedWatch(cursor);
    this.#watches.add(watch);
    try {
      if (!this.#ending) void this.#run();
      else void this.#add(watch);
      for (;;) {
        const batch = await watch.next();
        if (watch.isPaused && watch.isEmpty) {
          watch.isPaused = false;
          void this.#add(watch);
        }
        yield batch;
      }
    } finally {
      watch.close();
      this.#watches.delete(watch);
      if (watch.id !== undefined) this.#takeOff(watch);
      if (this.#watches.size === 0) {
        this.#ending?.abort();
        this.#ending = undefined;
      }
    }
  }

  /** Keeps a stream open for as long as there are watches. */
  async #run(): Promise<void> {
    const ending = new AbortController();
    this.#ending = ending;
    const { pool, timeoutMs } = this.#options;
    try {
      const messages = pool.stream<WatchManyResponse>((endpoint, options) => this.#open(endpoint, options.signal!), {
        signal: ending.signal,
        timeoutMs,
        resumeMs: Number.POSITIVE_INFINITY,
        retry: ({ code }) => code === "watch_ended",
        broke: () => {},
      });
      for await (const message of messages) this.#receive(message);
    } catch (error) {
      if (ending.signal.aborted) return;
      // No node takes the stream at all.
      this.#ending = undefined;
      for (const watch of this.#watches) watch.fail(error);
    }
  }

  async *#open(endpoint: Endpoint, signal: AbortSignal): AsyncGenerator<WatchManyResponse, void, undefined> {
    const closing = new AbortController();
    let givenUp: CambiumError | undefined;
    const giveUp = (reason: CambiumError): void => {
      givenUp ??= reason;
      closing.abort();
    };
    const close = (): void => closing.abort();
    signal.addEventListener("abort", close, { once: true });
    const stream: Stream = { endpoint, id: undefined, signal: closing.signal, giveUp };
    this.#stream = stream;
    this.#byId.clear();
    for (const watch of this.#watches) watch.id = undefined;
    try {
      // Those that some node has taken already. One that no node takes must not be in the way of the others.
      const known = [...this.#watches].filter(({ cursor, isPaused }) => cursor.hasBegun && !isPaused);
      const watches = known.slice(0, INITIAL_WATCHES_MAX).map((watch) => this.#name(watch));
      for await (const message of neverEnding(endpoint.store.watchMany({ watches }, { signal: closing.signal }))) {
        if (!stream.id) {
          stream.id = message.streamId;
          for (const watch of this.#watches) void this.#add(watch);
        }
        yield message;
      }
    } catch (error) {
      throw givenUp ?? error;
    } finally {
      signal.removeEventListener("abort", close);
      closing.abort();
      if (this.#stream === stream) this.#stream = undefined;
    }
  }

  #name(watch: SharedWatch): { watchId: bigint; watch: ReturnType<WatchCursor["request"]> } {
    const watchId = this.#nextId++;
    watch.id = watchId;
    this.#byId.set(watchId, watch);
    return { watchId, watch: watch.cursor.request() };
  }

  /** Puts a watch on the stream, unless it is there, or is not to be. */
  async #add(watch: SharedWatch): Promise<void> {
    const stream = this.#stream;
    if (!stream?.id || watch.id !== undefined || watch.isPaused || watch.isClosed) return;
    const named = this.#name(watch);
    const { timeoutMs } = this.#options;
    try {
      await stream.endpoint.store.addWatch({ streamId: stream.id, watch: named }, { timeoutMs });
      // It was taken off again before the node knew of it.
      if (watch.id !== named.watchId) this.#remove(stream, named.watchId);
    } catch (reason) {
      if (stream.signal.aborted) return;
      const error = toCambiumError(reason, { endpoint: stream.endpoint.url, write: false, timeoutMs });
      // Whether the node has it is not known, or it has not even the stream.
      if (!OF_ONE_WATCH.has(error.code)) stream.giveUp(lostStream(error));
      else if (watch.id === named.watchId) this.#ended(watch, error);
    }
  }

  #receive({ watchId, message }: WatchManyResponse): void {
    const watch = this.#byId.get(watchId);
    if (!watch) return;
    if (message.case === "ended") this.#ended(watch, toError(message.value, this.#stream?.endpoint.url ?? ""));
    if (message.case !== "response") return;
    try {
      watch.failures = 0;
      const batch = watch.cursor.receive(message.value);
      if (batch) watch.push(batch);
    } catch (error) {
      this.#takeOff(watch);
      watch.fail(error);
      return;
    }
    if (watch.unreadBytes <= UNREAD_BYTES_MAX) return;
    watch.isPaused = true;
    this.#takeOff(watch);
  }

  /** The node has ended one watch, or not taken it. */
  #ended(watch: SharedWatch, error: CambiumError): void {
    this.#byId.delete(watch.id!);
    watch.id = undefined;
    const mayGoOn = error.code === "unavailable" || watch.cursor.mayGoOn(error);
    watch.failures++;
    if (!mayGoOn || (!watch.cursor.hasBegun && watch.failures >= FIRST_TRIES_MAX)) {
      watch.fail(error);
      return;
    }
    if (watch.failures % TRIES_AT_NODE_MAX === 0) this.#stream?.giveUp(lostStream(error));
    const delayMs = Math.min(RETRY_DELAY_MAX_MS, this.#options.retryDelayMs * 2 ** (watch.failures - 1));
    watch.later(delayMs * (0.5 + Math.random() / 2), () => void this.#add(watch));
  }

  #takeOff(watch: SharedWatch): void {
    const id = watch.id!;
    this.#byId.delete(id);
    watch.id = undefined;
    if (this.#stream) this.#remove(this.#stream, id);
  }

  #remove(stream: Stream, watchId: bigint): void {
    const { timeoutMs } = this.#options;
    if (!stream.id) return;
    stream.endpoint.store.removeWatch({ streamId: stream.id, watchId }, { timeoutMs }).catch((reason: unknown) => {
      if (stream.signal.aborted) return;
      // Or else the node would go on sending what nobody wants.
      stream.giveUp(lostStream(toCambiumError(reason, { endpoint: stream.endpoint.url, write: false, timeoutMs })));
    });
  }
}

/** What the reader of one watch has not taken yet, and where the watch is. */
class SharedWatch {
  readonly cursor: WatchCursor;
  /** Of the stream that it is on. */
  id: bigint | undefined;
  /** Taken from the stream until its reader has come as far. */
  isPaused = false;
  /** How often it was ended or not taken since its last message. */
  failures = 0;
  unreadBytes = 0;
  readonly #unread: WatchBatch[] = [];
  #error: unknown;
  #isClosed = false;
  #wake = (): void => {};
  #delay: ReturnType<typeof setTimeout> | undefined;
  readonly #first: ReturnType<typeof setTimeout>;
  readonly #onAbort = (): void => {
    this.#unread.length = 0;
    const cause: unknown = this.cursor.signal?.reason;
    this.fail(new CambiumError("canceled", "the watch was canceled", { cause }));
  };

  constructor(cursor: WatchCursor) {
    this.cursor = cursor;
    const { signal, timeoutMs } = cursor;
    this.#first = setTimeout(
      () => {
        if (cursor.hasBegun) return;
        this.fail(new CambiumError("unavailable", `no node has taken the watch within ${Math.ceil(timeoutMs)} ms`));
      },
      Math.min(timeoutMs, TIMER_MAX_MS),
    );
    if (signal?.aborted) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** It takes no more messages. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  get isEmpty(): boolean {
    return this.#unread.length === 0;
  }

  push(batch: WatchBatch): void {
    // How far the log was read says the later one better.
    if (batch.events.length === 0 && this.#unread.at(-1)?.events.length === 0) this.#unread.pop();
    this.#unread.push(batch);
    this.unreadBytes += bytesOf(batch);
    this.#wake();
  }

  /** The reader gets this once it has read what came before. */
  fail(error: unknown): void {
    this.#isClosed = true;
    this.#error ??= error;
    this.#wake();
  }

  async next(): Promise<WatchBatch> {
    for (;;) {
      const batch = this.#unread.shift();
      if (batch) {
        this.unreadBytes -= bytesOf(batch);
        return batch;
      }
      if (this.#error !== undefined) throw this.#error;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  later(delayMs: number, run: () => void): void {
    clearTimeout(this.#delay);
    if (!this.#isClosed) this.#delay = setTimeout(run, delayMs);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#first);
    clearTimeout(this.#delay);
    this.cursor.signal?.removeEventListener("abort", this.#onAbort);
  }
}

/** Timers of JavaScript fire at once above this. */
const TIMER_MAX_MS = 2_147_483_647;

/** An event-less batch takes no room: two of them never wait behind each other. */
function bytesOf({ events }: WatchBatch): number {
  let bytes = 0;
  for (const { key, value, previous } of events) {
    bytes += EVENT_BYTES + key.length + value.byteLength + (previous?.byteLength ?? 0);
  }
  return bytes;
}

/** What AddWatch says of the watch, not of the stream. */
const OF_ONE_WATCH: ReadonlySet<CambiumErrorCode> = new Set([
  "out_of_range",
  "lineage_lost",
  "watch_ended",
  "invalid_argument",
  "limit_exceeded",
  "resource_exhausted",
  "permission_denied",
  "unauthenticated",
]);

function lostStream(cause: CambiumError): CambiumError {
  const { endpoint = "" } = cause;
  return new CambiumError("unavailable", `the stream of watches was given up: ${cause.message}`, { endpoint, cause });
}

const CODES: Readonly<Record<string, CambiumErrorCode>> = {
  out_of_range: "out_of_range",
  aborted: "lineage_lost",
  resource_exhausted: "resource_exhausted",
  unavailable: "unavailable",
  permission_denied: "permission_denied",
  invalid_argument: "invalid_argument",
};

/** The error that a stream of the watch's own would have ended with. */
function toError({ code, message, detail }: WatchStatus, endpoint: string): CambiumError {
  switch (detail.case) {
    case "logRange": {
      const { compactSeq, appliedSeq } = detail.value;
      const range = { compactSeq: Number(compactSeq), appliedSeq: Number(appliedSeq) };
      return new CambiumError("out_of_range", message, { endpoint, range });
    }
    case "lineageLost": {
      const { fork } = detail.value;
      const position = fork && { epoch: Number(fork.epoch), seq: Number(fork.seq) };
      return new CambiumError("lineage_lost", message, { endpoint, ...(position && { fork: position }) });
    }
    case "watchEnded": {
      const { token, seq } = detail.value;
      return new CambiumError("watch_ended", message, { endpoint, resume: { token, seq: Number(seq) } });
    }
    default:
      return new CambiumError(CODES[code] ?? "internal", message, { endpoint });
  }
}
