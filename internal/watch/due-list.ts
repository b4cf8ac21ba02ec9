/** Things that fall due a fixed time after they were added, a few at a turn, with one timer for all. */
import type { Clock, Timer } from "../base/clock.js";

export interface DueListOptions<Thing> {
  readonly clock: Clock;
  readonly delayMs: number;
  /** Of one turn of the event loop. */
  readonly countMax: number;
  /** Its thing is out of the list, and may be added again. */
  readonly onDue: (thing: Thing) => void;
}

export class DueList<Thing> {
  readonly #options: DueListOptions<Thing>;
  /** Since when; the first added come first, since all wait equally long. */
  readonly #things = new Map<Thing, number>();
  #timer: Timer | undefined;

  constructor(options: DueListOptions<Thing>) {
    this.#options = options;
  }

  /** Its time begins now, also where it is there already. */
  add(thing: Thing): void {
    this.#things.delete(thing);
    this.#things.set(thing, this.#options.clock.monotonicMs());
    if (!this.#timer) this.#wait(this.#options.delayMs);
  }

  delete(thing: Thing): void {
    this.#things.delete(thing);
  }

  has(thing: Thing): boolean {
    return this.#things.has(thing);
  }

  clear(): void {
    this.#things.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #wait(delayMs: number): void {
    this.#timer = this.#options.clock.after(delayMs, () => this.#look());
  }

  #look(): void {
    const { clock, delayMs, countMax, onDue } = this.#options;
    const nowMs = clock.monotonicMs();
    const due: Thing[] = [];
    let waitMs: number | undefined;
    for (const [thing, sinceMs] of this.#things) {
      const leftMs = due.length < countMax ? sinceMs + delayMs - nowMs : 0;
      if (leftMs > 0 || due.length === countMax) {
        waitMs = leftMs;
        break;
      }
      due.push(thing);
    }
    this.#timer = undefined;
    if (waitMs !== undefined) this.#wait(waitMs);
    for (const thing of due) this.#things.delete(thing);
    for (const thing of due) onDue(thing);
  }
}
