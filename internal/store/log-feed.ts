/** The committed events of a store's log, for those who follow them: by pages, or record by record as they are applied. */
import type { Clock } from "../base/clock.js";
import type { Position, Seq } from "../base/position.js";
import { decodeRecords } from "../wal/record.js";
import { WalError } from "../wal/wal-error.js";
import type { Applier } from "./applier.js";
import type { DataDirectory } from "./data-directory.js";
import { fillPage, LogPage, type PageLimits } from "./log-pages.js";
import { PreviousValues } from "./previous-values.js";
import { eventsOf, type LoggedEvent } from "./update-events.js";
import {
  CutWatch,
  outOfRange,
  readUpdates,
  type UpdatesPage,
  type UpdatesRequest,
  type UpdatesSource,
} from "./updates.js";

export interface LogFeedOptions {
  readonly applier: Applier;
  readonly clock: Clock;
  /** Throws `StoreError` "not_ready" and "closing" while nothing may be shown. */
  readonly compactSeq: () => Seq;
  readonly readable: () => Pick<DataDirectory, "log" | "lineage">;
}

/** A stretch of the log: the events of whole records, in their order. */
export interface EventRun {
  readonly events: readonly LoggedEvent[];
  /** Everything up to here is in it. */
  readonly next: Seq;
}

/** All of it throws, or rejects with, `StoreError` "not_ready" and "closing" while nothing may be shown. */
export class LogFeed {
  readonly #options: LogFeedOptions;
  readonly #turns: (() => void)[] = [];
  #isTurning = false;

  constructor(options: LogFeedOptions) {
    this.#options = options;
  }

  get appliedSeq(): Seq {
    return this.#options.applier.applied.seq;
  }

  get compactSeq(): Seq {
    return this.#options.compactSeq();
  }

  /** Where applied records were cut off, in the order in which it happened. */
  get forks(): readonly Position[] {
    return this.#options.applier.forks;
  }

  /** Applied records were cut off, and the state before them is being made anew: nothing may be shown until it moves again. */
  get isRebuilding(): boolean {
    return this.#options.applier.isRebuilding;
  }

  /** Why nothing will be applied any more. */
  get stopped(): Error | undefined {
    return this.#options.applier.stopReason;
  }

  assertReadable(): void {
    this.#options.readable();
  }

  positionAt(seq: Seq): Position {
    return this.#options.readable().lineage.positionAt(seq);
  }

  tokenAt(position: Position): Uint8Array {
    return this.#options.readable().lineage.tokenAt(position);
  }

  /** The seq of a token's place. Throws `StoreError`: `invalid_token`, `lineage_lost`. */
  seqOf(token: Uint8Array): Seq {
    return this.#options.readable().lineage.read(token).position.seq;
  }

  /** Whether a token's place is applied here; see `Lineage.hasReached`. Throws `StoreError`: `invalid_token`, `lineage_lost`. */
  hasReached(token: Uint8Array): boolean {
    const { lineage } = this.#options.readable();
    return lineage.hasReached(lineage.read(token), this.appliedSeq);
  }

  /** Calls back whenever more was applied, some was cut off, the state before a cut is there again, and at the end; synchronously. */
  onMoved(callback: () => void): () => void {
    return this.#options.applier.onMoved(callback);
  }

  /** Resolves on a later turn of the event loop, a turn for each that waits. */
  turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#turns.push(resolve);
      this.#turnLater();
    });
  }

  /** A page of what a client asks for; see `Store.updates`. */
  async updates(request: UpdatesRequest): Promise<UpdatesPage> {
    const { lineage } = this.#options.readable();
    const place = request.afterToken && lineage.read(request.afterToken);
    return readUpdates({
      request: place ? { ...request, after: place.position.seq } : request,
      source: this.#source(),
      ...(place && { hasReached: () => lineage.hasReached(place, this.appliedSeq) }),
    });
  }

  /**
   * The applied events of a page, as far as there are some; `limits.wantPrevious` is not for here. undefined: some of the log was cut off
   * meanwhile. Rejects with `StoreError` "out_of_range", `WalError`, and the signal's reason.
   */
  async page(limits: Omit<PageLimits, "wantPrevious">, signal: AbortSignal): Promise<EventRun | undefined> {
    const source = this.#source();
    const cuts = new CutWatch(source);
    if (limits.after < source.compactSeq()) throw outOfRange(limits.after, source);
    const page = new LogPage(limits);
    try {
      await fillPage(page, { limits, source, signal, isCut: () => cuts.isPending });
    } catch (error) {
      if (error instanceof WalError && error.code === "out_of_range") throw outOfRange(page.next, source);
      throw error;
    }
    return cuts.isPending ? undefined : { events: page.events, next: page.next };
  }

  /** The events of the applied records after a place, all of them, up to about `maxBytes` of log. A promise where the disk has to be read. */
  eventsAfter(after: Seq, maxBytes: number): EventRun | Promise<EventRun> {
    // The end is taken before the read: a cut meanwhile must not let records through that were never applied.
    const end = this.appliedSeq;
    const { log } = this.#options.readable();
    const records = log.readTail(after, maxBytes);
    return records ? runOf(records, after, end) : log.read(after, maxBytes).then((read) => runOf(read, after, end));
  }

  /** Looks up what the events of one watch replaced. */
  previousValues(): PreviousValues {
    return new PreviousValues(this.#source());
  }

  #source(): UpdatesSource {
    const { applier, clock, readable } = this.#options;
    const { log, lineage } = readable();
    return {
      assertReadable: () => void readable(),
      compactSeq: () => log.compactSeq,
      appliedSeq: () => applier.applied.seq,
      forks: () => applier.forks,
      positionAt: (seq) => lineage.positionAt(seq),
      tokenAt: (position) => lineage.tokenAt(position),
      read: (afterSeq, maxBytes) => log.readTail(afterSeq, maxBytes) ?? log.read(afterSeq, maxBytes),
      nextApplied: (waitMs, signal) => applier.nextApplied(waitMs, signal),
      monotonicMs: () => clock.monotonicMs(),
      turn: () => this.turn(),
    };
  }

  #turnLater(): void {
    if (this.#isTurning) return;
    this.#isTurning = true;
    this.#options.clock.after(0, () => {
      this.#isTurning = false;
      this.#turns.shift()?.();
      if (this.#turns.length > 0) this.#turnLater();
    });
  }
}

function runOf(records: Uint8Array, after: Seq, end: Seq): EventRun {
  const events: LoggedEvent[] = [];
  let next = after;
  for (const record of decodeRecords(records)) {
    if (record.seq > end) break;
    for (const event of eventsOf(record)) events.push(event);
    next = record.seq;
  }
  return { events, next };
}
