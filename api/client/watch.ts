/**
 * Watches: the committed changes of some keys as they come. A watch goes on by itself, at another node where one is lost, from
 * the token of the last whole record, so that no event is lost or comes twice. Only what nobody can go on from ends it.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WatchRequestSchema, WatchResponse } from "../gen/cambium/v1/kvstore_pb.js";
import { CambiumError } from "./cambium-error.js";
import { type ChangeFilter, changeFilter } from "./change-filter.js";
import type { TokenedAnswer } from "./consistency.js";
import type { EndpointPool } from "./endpoint-pool.js";
import { toUpdateEvent, type UpdateEvent } from "./message.js";
import { type Position, toPosition, toWire } from "./wire.js";

export interface WatchOptions extends ChangeFilter {
  /** Events of records after this seq, or after the place of this token. Default: from now on. 0: from the beginning of the log. */
  readonly after?: number | Uint8Array | undefined;
  /** Whether events have the value before the change, or say that it is compacted. Default false. */
  readonly wantPrevious?: boolean | undefined;
  /** Whether events come without values. Default false. */
  readonly keysOnly?: boolean | undefined;
  /** Ends the watch with `canceled`. */
  readonly signal?: AbortSignal | undefined;
  /** For finding a node at the beginning, instead of the client's. A watch that has begun looks for as long as it takes. */
  readonly timeoutMs?: number | undefined;
}

/** Whole records, in order. */
export interface WatchBatch {
  /** None where it only tells how far the log was read. */
  readonly events: readonly UpdateEvent[];
  /** Everything up to here has come. */
  readonly position: Position;
  /** `position` with its lineage, opaque: `after` of a watch that goes on from here. */
  readonly token: Uint8Array;
}

/** How a watch gets its batches. */
export interface WatchSource {
  batches(cursor: WatchCursor): AsyncGenerator<WatchBatch, void, undefined>;
}

/**
 * One watch, which begins when it is iterated, once. Leaving the loop ends it. It ends with `out_of_range` where the log no
 * longer holds the place to go on from (read the keys, then watch from the token of that), and with `lineage_lost` where
 * history that it has shown was lost in a failover.
 */
export class Watch implements AsyncIterable<UpdateEvent> {
  readonly #cursor: WatchCursor;
  readonly #source: WatchSource;
  #hasBegun = false;
  #position: Position | undefined;
  #token: Uint8Array | undefined;

  constructor(cursor: WatchCursor, source: WatchSource) {
    this.#cursor = cursor;
    this.#source = source;
  }

  /** Everything up to here has been taken out of the watch; undefined until it has begun. */
  get position(): Position | undefined {
    return this.#position;
  }

  /** `position` with its lineage: `after` of a watch that goes on where this one was left. */
  get token(): Uint8Array | undefined {
    return this.#token;
  }

  /** The events one by one. `position` moves on with the last one of a batch, once the next one is asked for. */
  async *[Symbol.asyncIterator](): AsyncGenerator<UpdateEvent, void, undefined> {
    for await (const { events } of this.batches()) yield* events;
  }

  /** The same by whole records; the first one comes at once, and tells from where on. Others without events tell the progress. */
  async *batches(): AsyncGenerator<WatchBatch, void, undefined> {
    if (this.#hasBegun) throw new CambiumError("invalid_argument", "a watch can be iterated once; make another one");
    this.#hasBegun = true;
    for await (const batch of this.#source.batches(this.#cursor)) {
      // Where there is nothing to be done with it, it is done already.
      if (batch.events.length === 0) this.#reached(batch);
      yield batch;
      this.#reached(batch);
    }
  }

  #reached({ position, token }: WatchBatch): void {
    this.#position = position;
    this.#token = token;
  }
}

/** Where a watch stands in what it has received, and how it asks for what comes next. */
export class WatchCursor {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly #filter: MessageInitShape<typeof WatchRequestSchema>;
  readonly #observe: (answer: TokenedAnswer) => void;
  #after: bigint | undefined;
  #token: Uint8Array | undefined;
  #hasBegun = false;
  /** The beginning of a record that goes on in the next message. */
  #part: UpdateEvent[] = [];

  /** `observe` is told of each place that is reached. Throws `CambiumError` `invalid_argument`. */
  constructor(options: WatchOptions, timeoutMs: number, observe: (answer: TokenedAnswer) => void = () => {}) {
    const { after, wantPrevious = false, keysOnly = false } = options;
    this.signal = options.signal;
    this.timeoutMs = timeoutMs;
    this.#filter = { ...changeFilter(options), wantPrevious, keysOnly };
    this.#observe = observe;
    if (typeof after === "number") this.#after = toWire(after, "after");
    else this.#token = after;
    if (this.#token?.byteLength === 0) {
      throw new CambiumError("invalid_argument", "after is an empty token; leave it out to watch from now on");
    }
  }

  /** Whether a node has said from where on it is. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** What to ask a node for next. Whatever came of a record that was not whole is asked for again. */
  request(): MessageInitShape<typeof WatchRequestSchema> {
    this.#part = [];
    if (this.#token) return { ...this.#filter, afterToken: this.#token };
    return { ...this.#filter, ...(this.#after !== undefined && { after: this.#after }) };
  }

  /** Takes in a message; undefined while its last record is not whole. */
  receive({ events, position, token, more }: WatchResponse): WatchBatch | undefined {
    this.#part.push(...events.map(toUpdateEvent));
    this.#hasBegun = true;
    if (more || token.byteLength === 0) return undefined;
    const batch = { events: this.#part, position: toPosition(position), token };
    this.#part = [];
    this.#token = token;
    this.#after = position?.seq;
    this.#observe({ position, token });
    return batch;
  }

  /** Whether it is worth asking again, here or elsewhere, although a node has said this. */
  mayGoOn({ code, range }: CambiumError): boolean {
    if (code === "watch_ended") return true;
    if (code !== "out_of_range" || !range) return false;
    // A node that lags behind the place will come to it. How far a token of elsewhere reaches nobody here knows.
    return this.#after === undefined ? !this.#hasBegun : BigInt(range.compactSeq) <= this.#after;
  }
}

/** Each watch on a stream of its own. */
export class SingleWatches implements WatchSource {
  readonly #pool: EndpointPool;

  constructor(pool: EndpointPool) {
    this.#pool = pool;
  }

  async *batches(cursor: WatchCursor): AsyncGenerator<WatchBatch, void, undefined> {
    const messages = this.#pool.stream<WatchResponse>(
      (endpoint, options) => neverEnding(endpoint.store.watch(cursor.request(), options)),
      {
        signal: cursor.signal,
        timeoutMs: cursor.timeoutMs,
        resumeMs: Number.POSITIVE_INFINITY,
        retry: (error) => cursor.mayGoOn(error),
        broke: () => {},
      },
    );
    for await (const message of messages) {
      const batch = cursor.receive(message);
      if (batch) yield batch;
    }
  }
}

/** A node ends a watch with an error that says why; one that just ends was cut off by something between. */
export async function* neverEnding<T>(messages: AsyncIterable<T>): AsyncGenerator<T, never, undefined> {
  yield* messages;
  throw new CambiumError("unavailable", "the stream ended without a reason");
}
