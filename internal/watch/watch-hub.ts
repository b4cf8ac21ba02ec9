/**
 * Tells everybody who watches. One reader, the pump, follows the applied log and tells each record to the live watches that want it:
 * decoded once, and one batch for all that ask for the same. A watch that is not live reads the log itself, a page whenever
 * it is asked for more, so that it costs no memory; once it has read what the pump has told, it is live.
 */
import type { Clock } from "../base/clock.js";
import type { Seq } from "../base/position.js";
import { type EventRun, type LogFeed, type LoggedEvent, StoreError, WalError } from "../store/store.js";
import { DueList } from "./due-list.js";
import { HubWatch } from "./hub-watch.js";
import { HeldParts, type Part, PART_BYTES_MAX, partsOf, type Places } from "./parts.js";
import { PreviousBatches } from "./previous-batches.js";
import {
  type ResumePoint,
  type Watch,
  type WatchBatch,
  WatchError,
  type Watches,
  type WatchLimits,
  type WatchRequest,
} from "./watch-types.js";
import { copied, type Group, type Wanted, WatchIndex } from "./watch-index.js";

export type WatchedFeed = Pick<
  LogFeed,
  | "appliedSeq"
  | "compactSeq"
  | "forks"
  | "isRebuilding"
  | "stopped"
  | "assertReadable"
  | "positionAt"
  | "tokenAt"
  | "seqOf"
  | "hasReached"
  | "onMoved"
  | "turn"
  | "page"
  | "eventsAfter"
  | "previousValues"
>;

type Matched = Map<Group<HubWatch>, LoggedEvent[]>;

export interface WatchHubOptions {
  readonly store: { readonly feed: WatchedFeed };
  readonly clock: Clock;
  readonly limits: WatchLimits;
  /** Watches that are told something in one turn of the event loop; 100 when absent. */
  readonly toldAtOnce?: number;
  /** `HELD_BYTES_MAX` when absent. */
  readonly heldBytesMax?: number;
}

/** How often a watch to which nothing happens is told how far the log was read. */
export const PROGRESS_MS = 5000;
/** A watch that takes nothing for so long, while there is something, ends. */
export const UNATTENDED_MS_MAX = 60_000;
/** A place that this node has not applied is waited for so long. */
export const AHEAD_MS_MAX = 10_000;
/** Bytes of log that the pump reads in one turn. */
const SLICE_BYTES = 64 * 1024;
/** Watches that are told something in one turn: what their readers do then belongs to the same turn. */
const TOLD_AT_ONCE = 100;
/** Events that are given to groups, or to watches, in one turn. */
const EVENTS_AT_ONCE = 5000;
/** Watches that read pages at the same time. */
const READERS_MAX = 4;
const PAGE_EVENTS = 1000;
/** What all watches hold together, about: from there on live ones that nobody reads read the log instead, and pages are small. */
export const HELD_BYTES_MAX = 128 * 1024 * 1024;
const SMALL_PAGE = { limit: 16, maxBytes: 4096 };

export class WatchHub implements Watches {
  readonly #feed: WatchedFeed;
  readonly #clock: Clock;
  readonly #limits: WatchLimits;
  readonly #toldAtOnce: number;
  readonly #heldBytesMax: number;
  readonly #watches = new Set<HubWatch>();
  readonly #index = new WatchIndex<HubWatch>();
  /** Wait for the pump, or for the log to move. */
  #waiting = new Set<HubWatch>();
  /** Have something to learn, in this order. */
  readonly #toWake = new Set<HubWatch>();
  /** Live, and waiting for an event. */
  readonly #idle: DueList<HubWatch>;
  readonly #unattended: DueList<HubWatch>;
  readonly #ahead: DueList<HubWatch>;
  readonly #readerQueue: (() => void)[] = [];
  #readers = 0;
  #eventsGiven = 0;
  /** Live watches have been told everything up to here, but for those that are just being told. */
  #toldSeq = 0 as Seq;
  #isTelling = false;
  #isPumping = false;
  #isScheduled = false;
  #isWaking = false;
  /** Changes with every cut: what was read before may be no history any more. */
  #generation = 0;
  #forksSeen: number;
  #closed: Promise<void> | undefined;
  readonly #unlisten: () => void;
  #progress: WatchBatch | undefined;
  /** What waits for watches, and what is in their readers' hands. */
  readonly held = new HeldParts();
  readonly previous: PreviousBatches;
  readonly #places: Places;

  constructor({ store, clock, limits, toldAtOnce = TOLD_AT_ONCE, heldBytesMax = HELD_BYTES_MAX }: WatchHubOptions) {
    this.#toldAtOnce = toldAtOnce;
    this.#heldBytesMax = heldBytesMax;
    this.#feed = store.feed;
    this.#clock = clock;
    this.#limits = limits;
    this.#forksSeen = this.#feed.forks.length;
    const list = (delayMs: number, onDue: (watch: HubWatch) => void): DueList<HubWatch> =>
      new DueList({ clock, delayMs, countMax: toldAtOnce, onDue });
    this.#idle = list(PROGRESS_MS, (watch) => watch.wake(true));
    this.#unattended = list(UNATTENDED_MS_MAX, (watch) => this.#judge(watch));
    this.#ahead = list(AHEAD_MS_MAX, (watch) => watch.giveUpWaiting());
    this.#places = {
      positionAt: (seq) => this.#feed.positionAt(seq),
      tokenAt: (position) => this.#feed.tokenAt(position),
    };
    this.previous = new PreviousBatches({
      finder: () => this.#feed.previousValues(),
      places: this.#places,
      turn: () => this.#feed.turn(),
      nowMs: () => clock.monotonicMs(),
    });
    this.#unlisten = this.#feed.onMoved(() => this.#look());
  }

  get count(): number {
    return this.#watches.size;
  }

  /** Bytes that wait for watches, those counted once for each that several wait for. */
  get queuedBytes(): number {
    let bytes = 0;
    for (const watch of this.#watches) bytes += watch.queuedBytes;
    return bytes;
  }

  /** Whether watches hold as much as they may together. */
  get isFull(): boolean {
    return this.held.bytes >= this.#heldBytesMax;
  }

  /** Events that watches were given, each counted for every watch. */
  get eventsGiven(): number {
    return this.#eventsGiven;
  }

  get generation(): number {
    return this.#generation;
  }

  get nowMs(): number {
    return this.#clock.monotonicMs();
  }

  open(request: WatchRequest): Watch {
    request.signal.throwIfAborted();
    if (this.#closed) throw endedError(undefined);
    this.#feed.assertReadable();
    const { watchesMax } = this.#limits;
    if (this.#watches.size >= watchesMax) {
      throw new WatchError(
        "too_many",
        `${watchesMax} watches are open on this node, and more may not be; see limits.max_watches`,
        {
          watchesMax,
        },
      );
    }
    const watch = new HubWatch(this, request);
    this.#watches.add(watch);
    this.#unattended.add(watch);
    return watch;
  }

  /** Ends all watches; resolves when each that waits has been told. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#endAll();
    return this.#closed;
  }

  // ---- for the watches -------------------------------------------------------------------------------------------------

  /** Where a request begins; undefined: ahead of what is applied. Throws `WatchError`, `StoreError`. */
  beginOf({ after }: WatchRequest): ResumePoint | undefined {
    const feed = this.#feed;
    feed.assertReadable();
    try {
      if (after === "now") return this.#placeAt(feed.appliedSeq);
      if ("token" in after) return feed.hasReached(after.token) ? this.#checked(feed.seqOf(after.token)) : undefined;
      return after.seq <= feed.appliedSeq ? this.#checked(after.seq) : undefined;
    } catch (error) {
      throw asWatchError(error);
    }
  }

  /** A place that lies ahead has not come. */
  notHere(): WatchError {
    const range = { compactSeq: this.#feed.compactSeq, appliedSeq: this.#feed.appliedSeq };
    return new WatchError(
      "out_of_range",
      `this node has applied up to seq ${range.appliedSeq}, and the place to watch from lies beyond, or it is of a mastership that this node does not know of; wait, or ask another node`,
      { range },
    );
  }

  /** Lets a watch that has read everything be told of the rest, or says what it must do for that. */
  join(watch: HubWatch, readSeq: Seq): "live" | "read" | "wait" {
    if (this.#feed.isRebuilding) return "wait";
    this.#feed.assertReadable();
    if (this.#index.memberCount === 0 && !this.#isTelling) this.#toldSeq = this.#feed.appliedSeq;
    if (readSeq < this.#toldSeq) return "read";
    if (readSeq > this.#toldSeq || this.#isTelling) return "wait";
    this.#index.add(watch, watch.wanted);
    return "live";
  }

  /** It is no longer live. */
  leave(watch: HubWatch): void {
    this.#index.delete(watch, watch.wanted);
  }

  /** Is woken when the log moves, or the pump has told what it had. */
  wait(watch: HubWatch): void {
    this.#waiting.add(watch);
  }

  waitAhead(watch: HubWatch): void {
    this.#waiting.add(watch);
    if (!this.#ahead.has(watch)) this.#ahead.add(watch);
  }

  waitLive(watch: HubWatch): void {
    this.#idle.add(watch);
  }

  /** It waits for nothing any more. */
  stopWaiting(watch: HubWatch): void {
    this.#waiting.delete(watch);
    this.#idle.delete(watch);
  }

  begun(watch: HubWatch): void {
    this.#ahead.delete(watch);
  }

  setAttended(watch: HubWatch, isAttended: boolean): void {
    if (isAttended) this.#unattended.delete(watch);
    else this.#unattended.add(watch);
  }

  forget(watch: HubWatch): void {
    this.#watches.delete(watch);
    this.#waiting.delete(watch);
    this.#toWake.delete(watch);
    this.#idle.delete(watch);
    this.#unattended.delete(watch);
    this.#ahead.delete(watch);
    this.leave(watch);
  }

  /** What a watch that is behind has to be given next, and how far that was read; undefined: look again. Rejects with `WatchError`. */
  async read(wanted: Wanted, after: Seq, signal: AbortSignal): Promise<{ parts: Part[]; next: Seq } | undefined> {
    const upTo = this.#toldSeq;
    const generation = this.#generation;
    await this.#readerTurn();
    try {
      if (this.#closed || generation !== this.#generation) return undefined;
      const size = this.isFull ? SMALL_PAGE : { limit: PAGE_EVENTS, maxBytes: PART_BYTES_MAX };
      const limits = { after, upTo, ...size };
      const run = await this.#feed.page({ ...limits, ...(wanted.filter && { filter: wanted.filter }) }, signal);
      if (!run || generation !== this.#generation) return undefined;
      // The log gives nothing although there should be some: this node is about to find out why.
      if (run.next === after) await this.#turn();
      this.#eventsGiven += run.events.length;
      // Copies: the few that a filter lets through must not hold on to all that was read for them.
      const events = run.events.map((event) => copied(wanted.keysOnly ? withoutValue(event) : event));
      return { parts: partsOf(events, run.next, this.#places), next: run.next };
    } catch (error) {
      if (generation !== this.#generation) return undefined;
      throw asWatchError(error);
    } finally {
      const next = this.#readerQueue.shift();
      if (next) next();
      else this.#readers--;
    }
  }

  /** Says how far live watches have been told, one object for all of them. */
  progress(): WatchBatch {
    if (this.#progress?.position.seq !== this.#toldSeq) this.#progress = this.progressAt(this.#toldSeq);
    return this.#progress;
  }

  progressAt(seq: Seq): WatchBatch {
    const { token } = this.#placeAt(seq);
    return { events: [], position: this.#feed.positionAt(seq), token };
  }

  /** Nothing can be read: of a cut it will be over, of anything else not. */
  get isRebuilding(): boolean {
    return this.#feed.isRebuilding;
  }

  // ---- inside ----------------------------------------------------------------------------------------------------------

  #look(): void {
    const forks = this.#feed.forks;
    if (forks.length > this.#forksSeen) this.#cut(forks.slice(this.#forksSeen));
    if (this.#feed.stopped) void this.close();
    if (this.#isScheduled || this.#isPumping || (this.#waiting.size === 0 && this.#index.memberCount === 0)) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      void this.#pump();
    });
  }

  /** Tells everything that is applied, then lets those who waited for that look. */
  async #pump(): Promise<void> {
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#index.memberCount > 0 && !this.#feed.isRebuilding && this.#toldSeq < this.#feed.appliedSeq) {
        const generation = this.#generation;
        const slice = this.#feed.eventsAfter(this.#toldSeq, SLICE_BYTES);
        const run = slice instanceof Promise ? await slice : slice;
        if (generation !== this.#generation) continue;
        if (run.next === this.#toldSeq) break;
        await this.#tell(run, generation);
        // Also while there is always more: who has caught up gets in between.
        this.#release();
        if (this.#toldSeq < this.#feed.appliedSeq) await this.#turn();
      }
    } catch (error) {
      // Each reads on for itself, and finds out.
      if (!(error instanceof StoreError || error instanceof WalError)) throw error;
      this.#disband();
    } finally {
      this.#isPumping = false;
      this.#release();
    }
  }

  /** Gives a run to the live watches that want some of it, so many at a turn; unless it is cut off meanwhile. */
  async #tell({ events, next }: EventRun, generation: number): Promise<void> {
    this.#isTelling = true;
    try {
      const matching = this.#matched(events, generation);
      const matched = matching instanceof Promise ? await matching : matching;
      if (!matched) return;
      let [told, given] = [0, 0];
      for (const [group, wanted] of matched) {
        const parts = partsOf(wanted, next, this.#places);
        for (const watch of group.members) {
          watch.tell(parts, next);
          this.#eventsGiven += wanted.length;
          given += wanted.length;
          if (++told % this.#toldAtOnce > 0 && given < EVENTS_AT_ONCE) continue;
          given = 0;
          await this.#turn();
          if (generation !== this.#generation) return;
        }
        // What falls due early is not held until the last has been told.
        matched.delete(group);
      }
      this.#toldSeq = next;
    } finally {
      this.#isTelling = false;
    }
  }

  /** What each group wants of the events; undefined: some was cut off meanwhile. Mostly it takes one turn, and no waiting. */
  #matched(events: readonly LoggedEvent[], generation: number): Matched | Promise<Matched | undefined> {
    const matched: Matched = new Map();
    let count = 0;
    for (const [i, event] of events.entries()) {
      count += this.#index.match(event, matched);
      // The log's memory is not to be relied on in later turns.
      if (count >= EVENTS_AT_ONCE) return this.#matchedOn(events.slice(i + 1).map(copied), matched, generation);
    }
    return matched;
  }

  async #matchedOn(events: readonly LoggedEvent[], matched: Matched, generation: number): Promise<Matched | undefined> {
    let count = EVENTS_AT_ONCE;
    for (const event of events) {
      if (count >= EVENTS_AT_ONCE) {
        count = 0;
        await this.#turn();
        if (generation !== this.#generation) return undefined;
      }
      count += this.#index.match(event, matched);
    }
    return matched;
  }

  /** Applied records were cut off: what has seen some of them ends, the others read on from where they stand. */
  #cut(forks: readonly { readonly seq: Seq }[]): void {
    const deepest = this.#feed.forks
      .slice(this.#forksSeen)
      .reduce((lowest, fork) => (fork.seq < lowest.seq ? fork : lowest));
    this.#forksSeen += forks.length;
    this.#generation++;
    for (const watch of this.#watches) {
      watch.cut(deepest, this.#toldSeq);
      this.#toWake.add(watch);
    }
    this.#wakeLater();
  }

  /** No watch is live any more. */
  #disband(): void {
    for (const watch of this.#index.members()) {
      watch.fallBehind(this.#toldSeq);
      this.#toWake.add(watch);
    }
    this.#wakeLater();
  }

  #release(): void {
    if (this.#waiting.size === 0) return;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const watch of waiting) this.#toWake.add(watch);
    this.#wakeLater();
  }

  /** A hundred in this turn, the others later. */
  #wakeLater(): void {
    if (this.#isWaking) return;
    this.#isWaking = true;
    void this.#wakeAll();
  }

  async #wakeAll(): Promise<void> {
    let woken = 0;
    for (const watch of this.#toWake) {
      this.#toWake.delete(watch);
      watch.wake();
      if (++woken % this.#toldAtOnce === 0) await this.#turn();
    }
    this.#isWaking = false;
  }

  async #endAll(): Promise<void> {
    this.#unlisten();
    for (const watch of this.#watches) watch.end(endedError(watch.resume));
    // All that wait have been told now; their readers go on in this turn.
    this.#idle.clear();
    this.#unattended.clear();
    this.#ahead.clear();
    await Promise.resolve();
  }

  /** A minute has gone by without anybody asking for more. */
  #judge(watch: HubWatch): void {
    if (!watch.hasMore(this.#feed.appliedSeq)) {
      this.#unattended.add(watch);
      return;
    }
    const message =
      "this watch took nothing for a minute, while there was something to take; go on from where it ended";
    watch.end(new WatchError("too_slow", message, watch.resume && { resume: watch.resume }));
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => void this.#clock.after(0, resolve));
  }

  async #readerTurn(): Promise<void> {
    if (this.#readers < READERS_MAX) this.#readers++;
    else await new Promise<void>((resolve) => this.#readerQueue.push(resolve));
  }

  #checked(seq: Seq): ResumePoint {
    if (seq >= this.#feed.compactSeq) return this.#placeAt(seq);
    const range = { compactSeq: this.#feed.compactSeq, appliedSeq: this.#feed.appliedSeq };
    const message = `the log of this node begins after seq ${range.compactSeq}; read the keys, then watch from there`;
    throw new WatchError("out_of_range", message, { range });
  }

  #placeAt(seq: Seq): ResumePoint {
    return { seq, token: this.#feed.tokenAt(this.#feed.positionAt(seq)) };
  }
}

function withoutValue(event: LoggedEvent): LoggedEvent {
  return event.value.length > 0 ? { ...event, value: NO_VALUE } : event;
}

const NO_VALUE = new Uint8Array(0);

export function endedError(resume: ResumePoint | undefined): WatchError {
  const message = "this node shuts down, or takes over the state of another; go on at another node, or later";
  return new WatchError("ended", message, resume && { resume });
}

/** What the log refuses, in the words of watches; anything else as it is. */
function asWatchError(error: unknown): unknown {
  if (!(error instanceof StoreError)) return error;
  const { code, message, range, fork } = error;
  if (code === "out_of_range") return new WatchError(code, message, { cause: error, ...(range && { range }) });
  if (code === "lineage_lost") return new WatchError(code, message, { cause: error, ...(fork && { fork }) });
  return error;
}
