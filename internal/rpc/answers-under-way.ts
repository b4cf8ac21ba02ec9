/**
 * The answers that are under way on one connection, in a ring. A set or a map would have each of them carry a hash, and for an
 * object as large as Node's streams that costs as much as a small answer itself.
 */
import type { Outlet } from "./http-answer.js";

interface Link {
  readonly outlet: Outlet;
  before: Link;
  after: Link;
}

export class AnswersUnderWay implements Iterable<Outlet> {
  /** The ring's beginning and end, which is no answer. */
  readonly #ends: Link;

  constructor() {
    const ends = {} as Link;
    ends.before = ends.after = ends;
    this.#ends = ends;
  }

  get isEmpty(): boolean {
    return this.#ends.after === this.#ends;
  }

  /** Gives what takes it out again, and may be called more than once. */
  add(outlet: Outlet): () => void {
    const ends = this.#ends;
    const link: Link = { outlet, before: ends.before, after: ends };
    link.before.after = ends.before = link;
    return () => {
      link.before.after = link.after;
      link.after.before = link.before;
      // One that is out leads nowhere: an old one that is not collected yet would keep all that came after it from being so.
      link.before = link.after = link;
    };
  }

  /** Those of now, whatever becomes of them meanwhile. */
  [Symbol.iterator](): Iterator<Outlet> {
    const outlets: Outlet[] = [];
    for (let link = this.#ends.after; link !== this.#ends; link = link.after) outlets.push(link.outlet);
    return outlets.values();
  }
}
