/** The committed events of the log, a page at a time. */
import type { EpochMs, Position, Seq } from "../base/position.js";
import type { KeyRange } from "../engine/engine.js";
import { decodeRecords, type LogRecord } from "../wal/record.js";
import { WalError } from "../wal/wal-error.js";
import { decodeChanges } from "./change.js";
import { lostAt } from "./lineage.js";
import { StoreError } from "./store-error.js";

export interface UpdatesRequest {
  /** Events of records with a higher seq are wanted. */
  readonly after: Seq;
  /** Instead of `after`; its lineage is checked. */
  readonly afterToken?: Uint8Array;
  /** Events to return at least, if there are as many; a record's events are never split. */
  readonly limit: number;
  /** The page ends before the record with which its events would pass this, unless it is the first. */
  readonly maxBytes: number;
  /** How long to wait for a first event. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** Absent: all keys. */
  readonly filter?: KeyFilter;
  /** Events have `previous` or `previousCompacted`. */
  readonly wantPrevious?: true;
}

/** The keys whose events are wanted: one, or those of a range. */
export type KeyFilter = { readonly key: Uint8Array } | { readonly range: KeyRange };

/** One change of one key, or the removal of a range. */
export interface UpdateEvent {
  readonly type: "put" | "delete" | "expire" | "evict" | "delete-range";
  /** Of a delete-range: the first key that it could remove. */
  readonly key: Uint8Array;
  /** Of a delete-range: where it ends, without this key; absent: after the last key. */
  readonly rangeEnd?: Uint8Array;
  /** Empty unless it is a put. */
  readonly value: Uint8Array;
  readonly position: Position;
  readonly timestampMs: EpochMs;
  readonly expiresAtMs?: EpochMs;
  /** The value before, where it was asked for, there was one, and the log holds it; never of a removed range. */
  readonly previous?: Uint8Array;
  /** There was a value before, it was asked for, and the log no longer holds it. */
  readonly previousCompacted?: true;
}

export interface UpdatesPage {
  readonly events: readonly UpdateEvent[];
  /** Where the next page begins. */
  readonly next: Position;
  readonly nextToken: Uint8Array;
  /** The node's applied position. */
  readonly position: Position;
}

/** What paging needs to know of a store. */
export interface UpdatesSource {
  /** Throws `StoreError` while the node serves no reads. */
  assertReadable(): void;
  compactSeq(): Seq;
  appliedSeq(): Seq;
  /** Where applied records were cut off, in the order in which it happened. */
  forks(): readonly Position[];
  positionAt(seq: Seq): Position;
  tokenAt(position: Position): Uint8Array;
  read(afterSeq: Seq, maxBytes: number): Uint8Array | Promise<Uint8Array>;
  /** Resolves when more was applied, some was cut off, or `waitMs` passed; rejects with the signal's reason. */
  nextApplied(waitMs: number, signal: AbortSignal): Promise<void>;
  monotonicMs(): number;
}

const READ_BYTES = 256 * 1024;
const NO_VALUE = new Uint8Array(0);
/** Bytes of an event on the wire beside its key and value, at most. */
export const EVENT_OVERHEAD_BYTES = 64;

/**
 * `hasReached` says whether the place to begin after is in the committed history, and throws `StoreError` when it never will be;
 * absent: nobody can tell, and the place counts as what this node has there.
 */
export async function readUpdates(options: {
  request: UpdatesRequest;
  source: UpdatesSource;
  hasReached?: () => boolean;
}): Promise<UpdatesPage> {
  const { request, source, hasReached = () => true } = options;
  let events: UpdateEvent[] = [];
  const deadlineMs = source.monotonicMs() + request.waitMs;
  let next = request.after;
  let cuts: CutWatch | undefined;
  for (;;) {
    // From the moment on at which the place is one of this node's own, a cut before it takes it away.
    if (!cuts && hasReached()) cuts = new CutWatch(source);
    const fork = cuts?.take();
    if (fork) {
      if (fork.seq < request.after) throw lostAt(`seq ${request.after}`, fork);
      // What was read since is no history any more, and nobody has seen it.
      events = [];
      next = request.after;
    }
    const leftMs = deadlineMs - source.monotonicMs();
    const isAhead = !cuts || next > source.appliedSeq();
    if (next < source.compactSeq() || (isAhead && leftMs <= 0)) throw outOfRange(next, source);
    if (!isAhead) next = await collect(events, next, { ...options, cuts });
    if (cuts?.isPending) continue;
    if (events.length > 0 || leftMs <= 0) break;
    await source.nextApplied(leftMs, request.signal);
  }
  // Meanwhile a cut may have begun, which makes the state anew.
  source.assertReadable();
  const position = source.positionAt(next);
  return {
    events,
    next: position,
    nextToken: source.tokenAt(position),
    position: source.positionAt(source.appliedSeq()),
  };
}

/** Adds the events after `from` until the page is full, all is read, or some was cut off; gives the last seq that is in it. */
async function collect(
  events: UpdateEvent[],
  from: Seq,
  options: { request: UpdatesRequest; source: UpdatesSource; cuts: CutWatch | undefined },
): Promise<Seq> {
  const { request, source, cuts } = options;
  let at = from;
  let bytes = 0;
  while (at < source.appliedSeq()) {
    request.signal.throwIfAborted();
    // The end is taken before the read: a cut meanwhile must not let records through that were never applied.
    const end = source.appliedSeq();
    const records = await readAfter(at, source);
    // The log has been cut, or this node is about to find out what it still has.
    if (cuts?.isPending || records.length === 0) return at;
    for (const record of decodeRecords(records)) {
      if (record.seq > end) break;
      const added = eventsOf(record);
      const addedBytes = added.reduce(
        (sum, event) => sum + event.key.length + event.value.length + EVENT_OVERHEAD_BYTES,
        0,
      );
      if (events.length > 0 && bytes + addedBytes > request.maxBytes) return at;
      events.push(...added);
      bytes += addedBytes;
      at = record.seq;
      if (events.length >= request.limit) return at;
    }
  }
  return at;
}

/** Notices that applied records are cut off, from its making on. */
class CutWatch {
  readonly #source: UpdatesSource;
  #seen: number;

  constructor(source: UpdatesSource) {
    this.#source = source;
    this.#seen = source.forks().length;
  }

  get isPending(): boolean {
    return this.#source.forks().length > this.#seen;
  }

  /** The deepest cut since the last call; undefined: there was none. */
  take(): Position | undefined {
    const forks = this.#source.forks();
    const cut = forks.slice(this.#seen);
    this.#seen = forks.length;
    return cut.length === 0 ? undefined : cut.reduce((deepest, fork) => (fork.seq < deepest.seq ? fork : deepest));
  }
}

/** The records after `at`; compaction may take them away while the read waits for the disk. */
async function readAfter(at: Seq, source: UpdatesSource): Promise<Uint8Array> {
  try {
    return await source.read(at, READ_BYTES);
  } catch (error) {
    if (error instanceof WalError && error.code === "out_of_range") throw outOfRange(at, source);
    throw error;
  }
}

function eventsOf(record: LogRecord): UpdateEvent[] {
  const events: UpdateEvent[] = [];
  const about = { position: { epoch: record.epoch, seq: record.seq }, timestampMs: record.timestampMs };
  for (const change of decodeChanges(record.payload)) {
    if (change.kind === "put") {
      const { key, value, expiresAtMs } = change;
      events.push({ type: "put", key, value, ...about, ...(expiresAtMs !== undefined && { expiresAtMs }) });
    } else if (change.kind === "delete" || change.kind === "expire" || change.kind === "evict") {
      events.push({ type: change.kind, key: change.key, value: NO_VALUE, ...about });
    }
  }
  return events;
}

function outOfRange(after: Seq, source: UpdatesSource): StoreError {
  const range = { compactSeq: source.compactSeq(), appliedSeq: source.appliedSeq() };
  return new StoreError(
    "out_of_range",
    after < range.compactSeq
      ? `the log of this node begins after seq ${range.compactSeq}; read the keys, then follow from there`
      : after > range.appliedSeq
        ? `this node has applied up to seq ${range.appliedSeq}, seq ${after} lies beyond; wait, or ask another node`
        : `this node does not know of the mastership that the token is from yet; wait, or ask another node`,
    { range },
  );
}
