/** What a watch is asked for, what it gives, and how it ends. */
import type { Position, Seq } from "../base/position.js";
import type { KeyFilter, LogRange, UpdateEvent } from "../store/store.js";

export interface WatchRequest {
  /** Absent: all keys. */
  readonly filter?: KeyFilter;
  /**
   * Where to begin. `seq`: after this record; `token`: after its place, whose lineage is checked. Both may lie ahead of what this
   * node has applied: they are waited for, for `AHEAD_MS_MAX`.
   */
  readonly after: "now" | { readonly seq: Seq } | { readonly token: Uint8Array };
  /** Events have `previous` or `previousCompacted`. */
  readonly wantPrevious?: true;
  /** `value` is empty in all events. */
  readonly keysOnly?: true;
  /** Ends the watch without an error. */
  readonly signal: AbortSignal;
}

/**
 * A step of a watch. The first comes at once, without events, and says where the watch begins. Watches with equal filters and flags are
 * given the same object, so that what is made from it once (the bytes on the wire) may be kept for it in a `WeakMap`. Nothing in it
 * changes any more.
 */
export interface WatchBatch {
  /** Of whole records, in the order of the log; none in a batch that only says how far the log was read. */
  readonly events: readonly UpdateEvent[];
  /** Everything up to here has been given. */
  readonly position: Position;
  /** Of `position`; absent with `more`. */
  readonly token?: Uint8Array;
  /** The record after `position` has been given in part: the next batch goes on with it. */
  readonly more?: true;
}

/** Ends when its signal aborts or `return` is called; throws `WatchError` where it cannot go on. */
export interface Watch extends AsyncIterableIterator<WatchBatch, undefined> {
  return(): Promise<IteratorReturnResult<undefined>>;
}

/** What `WatchHub` is to those who serve clients. */
export interface Watches {
  /** Watches that are open. */
  readonly count: number;
  /**
   * Throws what is known at once: `WatchError` "too_many", "out_of_range", "lineage_lost", "ended"; `StoreError` "not_ready",
   * "closing", "invalid_token". The rest comes from the watch itself. Whoever opens a watch reads it, aborts its signal, or calls `return`.
   */
  open(request: WatchRequest): Watch;
}

export interface WatchLimits {
  /** Watches that may be open at once. */
  readonly watchesMax: number;
}

export type WatchErrorCode =
  /** The log does not hold the place to go on from (`range` tells what it holds), or will not for a while. */
  | "out_of_range"
  /** What was given, or the token, is of a history that is no more; `fork`: up to where it still stands, if that is known. */
  | "lineage_lost"
  /** The watcher took nothing for a minute, while there was something; `resume` says where to go on. */
  | "too_slow"
  /** This node closes, or takes over another's state; `resume` says where to go on, at another node or later. */
  | "ended"
  /** No more watches may be open (`limits.max_watches`). */
  | "too_many";

/** Everything up to here was given. */
export interface ResumePoint {
  readonly seq: Seq;
  readonly token: Uint8Array;
}

export class WatchError extends Error {
  override readonly name = "WatchError";
  readonly code: WatchErrorCode;
  /** With `out_of_range`. */
  readonly range?: LogRange;
  /** With `lineage_lost`. */
  readonly fork?: Position;
  /** With `too_slow` and `ended`; absent where the watch had not begun yet. */
  readonly resume?: ResumePoint;
  /** With `too_many`. */
  readonly watchesMax?: number;

  constructor(
    code: WatchErrorCode,
    message: string,
    options: ErrorOptions & { range?: LogRange; fork?: Position; resume?: ResumePoint; watchesMax?: number } = {},
  ) {
    super(message, options);
    this.code = code;
    if (options.range) this.range = options.range;
    if (options.fork) this.fork = options.fork;
    if (options.resume) this.resume = options.resume;
    if (options.watchesMax !== undefined) this.watchesMax = options.watchesMax;
  }
}
