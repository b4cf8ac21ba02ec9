/** One watch of a hub: what its reader holds. It works only when it is asked for more. */
import { assert } from "../base/assert.js";
import type { Position, Seq } from "../base/position.js";
import { StoreError } from "../store/store.js";
import type { Part } from "./parts.js";
import { type ResumePoint, type Watch, type WatchBatch, WatchError, type WatchRequest } from "./watch-types.js";
import { endedError, PROGRESS_MS, type WatchHub } from "./watch-hub.js";
import type { Wanted } from "./watch-index.js";
import { WatchState } from "./watch-state.js";

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };

export class HubWatch implements Watch {
  readonly wanted: Wanted;
  readonly #hub: WatchHub;
  readonly #request: WatchRequest;
  readonly #abort = (): void => this.end(undefined);
  /** undefined: the place to begin lies ahead. */
  #state: WatchState | undefined;
  #hasBegun = false;
  #wake: (() => void) | undefined;
  #isProgressDue = false;
  #lastMs: number;
  #hasEnded = false;
  /** Is thrown once. */
  #error: unknown;
  /** The call of `next` that is under way: one after the other. */
  #calls: Promise<unknown> = Promise.resolve();

  constructor(hub: WatchHub, request: WatchRequest) {
    this.#hub = hub;
    this.#request = request;
    const { filter, wantPrevious, keysOnly } = request;
    this.wanted = { ...(filter && { filter }), ...(wantPrevious && { wantPrevious }), ...(keysOnly && { keysOnly }) };
    this.#lastMs = hub.nowMs;
    const begin = hub.beginOf(request);
    this.#state = begin && new WatchState(begin, hub.held);
    request.signal.addEventListener("abort", this.#abort, { once: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<WatchBatch, undefined>> {
    const call = this.#calls.then(() => this.#step());
    this.#calls = call.catch(() => undefined);
    return call;
  }

  return(): Promise<IteratorReturnResult<undefined>> {
    this.end(undefined);
    return Promise.resolve(DONE);
  }

  get queuedBytes(): number {
    return this.#state?.queuedBytes ?? 0;
  }

  /** Where its reader can go on; undefined: it has not begun. */
  get resume(): ResumePoint | undefined {
    return this.#state?.given;
  }

  /** Whether there is something to take. Of one that is behind only the log itself could say whether its filter lets it through. */
  hasMore(appliedSeq: Seq): boolean {
    const state = this.#state;
    if (!state) return false;
    return !this.#hasBegun || state.head !== undefined || (!state.isLive && state.readSeq < appliedSeq);
  }

  tell(parts: readonly Part[], next: Seq): void {
    const state = this.#state;
    if (!state?.isLive) return;
    const isFirst = state.head === undefined;
    if (!state.tell(parts, next)) this.#hub.leave(this);
    // All watches together hold too much, and nobody waits for this one: it finds it in the log.
    else if (!this.#wake && this.#hub.isFull) this.fallBehind(next);
    if (this.#wake) this.wake();
    // What nobody waits for begins to wait now.
    else if (isFirst) this.#hub.setAttended(this, false);
  }

  fallBehind(toldSeq: Seq): void {
    this.#state?.fallBehind(toldSeq);
    this.#hub.leave(this);
  }

  cut(fork: Position, toldSeq: Seq): void {
    const state = this.#state;
    if (!state) return;
    const stands = state.cut(fork, toldSeq);
    this.#hub.leave(this);
    if (stands) return;
    const common = `what came up to epoch ${fork.epoch}, seq ${fork.seq} still stands`;
    const message = `what this watch was given was lost in a failover; ${common}; read anew`;
    this.end(new WatchError("lineage_lost", message, { fork }), false);
  }

  giveUpWaiting(): void {
    if (!this.#state) this.end(this.#hub.notHere());
  }

  wake(isProgressDue = false): void {
    this.#isProgressDue ||= isProgressDue;
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** It gives nothing more; `error` is thrown where it is asked next. Without `wakes`, its hub does that. */
  end(error: unknown, wakes = true): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#error = error;
    this.#request.signal.removeEventListener("abort", this.#abort);
    this.#state?.drop();
    this.#hub.forget(this);
    if (wakes) this.wake();
  }

  async #step(): Promise<IteratorResult<WatchBatch, undefined>> {
    this.#hub.setAttended(this, true);
    this.#state?.takeBack();
    try {
      const batch = await this.#nextBatch();
      if (!batch) return DONE;
      this.#lastMs = this.#hub.nowMs;
      return { done: false, value: batch };
    } catch (error) {
      this.end(undefined);
      // What this node has is not shown any more: it closes, or is about to be made anew.
      const isOver = error instanceof StoreError && (error.code === "not_ready" || error.code === "closing");
      throw isOver ? endedError(this.resume) : error;
    } finally {
      if (!this.#hasEnded) this.#hub.setAttended(this, false);
    }
  }

  /** undefined: it has ended. */
  async #nextBatch(): Promise<WatchBatch | undefined> {
    for (;;) {
      if (this.#hasEnded) {
        const error = this.#error;
        this.#error = undefined;
        if (error !== undefined) throw error;
        return undefined;
      }
      const isProgressDue = this.#isProgressDue || this.#hub.nowMs - this.#lastMs >= PROGRESS_MS;
      this.#isProgressDue = false;
      const state = this.#state ?? this.#begin();
      if (!state) {
        await this.#sleep(() => this.#hub.waitAhead(this));
        continue;
      }
      if (this.#hub.isRebuilding) {
        await this.#sleep(() => this.#hub.wait(this));
        continue;
      }
      if (!this.#hasBegun) {
        this.#hasBegun = true;
        return this.#tellOfPlace(state, state.given.seq);
      }
      const { head } = state;
      if (head) {
        const batch = await this.#give(state, head);
        if (batch) return batch;
        continue;
      }
      if (isProgressDue) return this.#progress(state);
      await this.#advance(state);
    }
  }

  #begin(): WatchState | undefined {
    const begin = this.#hub.isRebuilding ? undefined : this.#hub.beginOf(this.#request);
    if (!begin) return undefined;
    this.#hub.begun(this);
    this.#state = new WatchState(begin, this.#hub.held);
    return this.#state;
  }

  /** undefined: something has happened meanwhile. */
  async #give(state: WatchState, part: Part): Promise<WatchBatch | undefined> {
    if (!this.wanted.wantPrevious) {
      state.gave(part.batch);
      return part.batch;
    }
    const { generation } = this.#hub;
    const complete = await this.#meanwhile(() => this.#hub.previous.complete(part, () => !this.#hasEnded));
    if (!complete) {
      assert(
        this.#hasEnded || generation !== this.#hub.generation,
        "the log holds what was replaced, unless it is cut",
      );
      return undefined;
    }
    // It may have been too much for this watch meanwhile.
    if (state.head !== part) return undefined;
    state.gave(complete.batch, complete.rest);
    return complete.batch;
  }

  #progress(state: WatchState): WatchBatch {
    const shared = state.isLive ? this.#hub.progress() : undefined;
    // Nothing goes back: while others are being told, it may be ahead of them.
    if (shared && shared.position.seq >= state.readSeq) {
      state.told(shared);
      return shared;
    }
    return this.#tellOfPlace(state, state.readSeq);
  }

  #tellOfPlace(state: WatchState, seq: Seq): WatchBatch {
    const batch = this.#hub.progressAt(seq);
    state.told(batch);
    return batch;
  }

  /** Reads on, goes live, or waits. */
  async #advance(state: WatchState): Promise<void> {
    if (state.isLive) {
      await this.#sleep(() => this.#hub.waitLive(this));
      return;
    }
    const what = this.#hub.join(this, state.readSeq);
    if (what === "live") state.goLive();
    else if (what === "wait") await this.#sleep(() => this.#hub.wait(this));
    else {
      const page = await this.#meanwhile(() => this.#hub.read(this.wanted, state.readSeq, this.#request.signal));
      if (page) state.read(page.parts, page.next);
    }
  }

  /** undefined also when the watch has ended, or the log was cut, before it was there: then it is worth nothing, nor is an error. */
  async #meanwhile<Result>(work: () => Promise<Result | undefined>): Promise<Result | undefined> {
    const generation = this.#hub.generation;
    const isVain = (): boolean => this.#hasEnded || generation !== this.#hub.generation;
    try {
      const result = await work();
      return isVain() ? undefined : result;
    } catch (error) {
      if (isVain()) return undefined;
      throw error;
    }
  }

  /** Until it is woken. */
  async #sleep(begin: () => void): Promise<void> {
    const woken = new Promise<void>((resolve) => (this.#wake = resolve));
    begin();
    await woken;
    this.#hub.stopWaiting(this);
  }
}
