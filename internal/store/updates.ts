/** The committed events of the log, a page at a time. */
import type { Position, Seq } from "../base/position.js";
import { WalError } from "../wal/wal-error.js";
import { lostAt } from "./lineage.js";
import { fillPage, LogPage, type PageSource } from "./log-pages.js";
import { StoreError } from "./store-error.js";
import type { KeyFilter, UpdateEvent } from "./update-events.js";

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

export interface UpdatesPage {
  readonly events: readonly UpdateEvent[];
  /** Where the next page begins. */
  readonly next: Position;
  readonly nextToken: Uint8Array;
  /** The node's applied position. */
  readonly position: Position;
}

/** What paging needs to know of a store. */
export interface UpdatesSource extends PageSource {
  /** Throws `StoreError` while the node serves no reads. */
  assertReadable(): void;
  /** Where applied records were cut off, in the order in which it happened. */
  forks(): readonly Position[];
  positionAt(seq: Seq): Position;
  tokenAt(position: Position): Uint8Array;
  /** Resolves when more was applied, some was cut off, or `waitMs` passed; rejects with the signal's reason. */
  nextApplied(waitMs: number, signal: AbortSignal): Promise<void>;
}

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
  let page = new LogPage(request);
  const deadlineMs = source.monotonicMs() + request.waitMs;
  let cuts: CutWatch | undefined;
  for (;;) {
    // From the moment on at which the place is one of this node's own, a cut before it takes it away.
    if (!cuts && hasReached()) cuts = new CutWatch(source);
    const fork = cuts?.take();
    if (fork) {
      if (fork.seq < request.after) throw lostAt(`seq ${request.after}`, fork);
      // What was read since is no history any more, and nobody has seen it.
      page = new LogPage(request);
    }
    const leftMs = deadlineMs - source.monotonicMs();
    const isAhead = !cuts || page.next > source.appliedSeq();
    if (page.next < source.compactSeq() || (isAhead && leftMs <= 0)) throw outOfRange(page.next, source);
    if (cuts && !isAhead) {
      const watched = cuts;
      const filling = fillPage(page, {
        limits: request,
        source,
        signal: request.signal,
        isCut: () => watched.isPending,
      });
      await translated(filling, page, source);
    }
    if (cuts?.isPending) continue;
    if (page.events.length > 0 || page.isFull || leftMs <= 0) break;
    await source.nextApplied(leftMs, request.signal);
  }
  // Meanwhile a cut may have begun, which makes the state anew.
  source.assertReadable();
  const position = source.positionAt(page.next);
  return {
    events: page.events,
    next: position,
    nextToken: source.tokenAt(position),
    position: source.positionAt(source.appliedSeq()),
  };
}

/** Notices that applied records are cut off, from its making on. */
export class CutWatch {
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

/** Compaction may take away what a page still waits for. */
async function translated(filling: Promise<void>, page: LogPage, source: UpdatesSource): Promise<void> {
  try {
    await filling;
  } catch (error) {
    if (error instanceof WalError && error.code === "out_of_range") throw outOfRange(page.next, source);
    throw error;
  }
}

export function outOfRange(after: Seq, source: Pick<UpdatesSource, "compactSeq" | "appliedSeq">): StoreError {
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
