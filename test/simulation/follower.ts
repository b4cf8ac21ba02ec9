/**
 * A reader of GetUpdates, which goes from node to node and resumes by its token. Each page is checked where it is given;
 * here it is checked that the pages join: nothing left out, nothing twice, no other history without a word.
 */
import { StoreError } from "../../internal/store/store.js";
import type { Counts } from "./counts.js";
import { isPartOf, type LedgerRecord } from "./ledger.js";
import type { Random } from "./random.js";
import type { EventView, Service } from "./service.js";
import type { SimNode } from "./sim-node.js";
import type { Watch } from "./watch.js";
import type { World } from "./world.js";

export interface FollowerOptions {
  readonly index: number;
  readonly world: World;
  readonly watch: Watch;
  readonly random: Random;
  readonly service: Service;
  readonly counts: Counts;
  readonly nodes: () => readonly SimNode[];
  readonly delayMs: number;
  readonly loss: number;
}

/** Another one for each call: the places of a log are the same for all. */
export function eventView(random: Random): EventView {
  const flags = { wantPrevious: random.chance(0.4), keysOnly: random.chance(0.2) };
  switch (random.below(3)) {
    case 0:
      return { ...flags, key: random.pick(["a", "b", "e", "n", "x"]) };
    case 1: {
      const start = random.pick(["", "b", "d"]);
      const end = random.pick([undefined, "e", "n", "z"]);
      return { ...flags, range: { start, end } };
    }
    default:
      return flags;
  }
}

interface Place {
  readonly token?: Uint8Array;
  readonly seq: number;
  readonly record?: LedgerRecord;
}

export class Follower {
  readonly #options: FollowerOptions;
  #place: Place;
  #stopped = false;
  pages = 0;
  events = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#place = { seq: 0, record: options.watch.ledger.root };
  }

  /** Up to where everything has come. */
  get place(): Place {
    return this.#place;
  }

  start(): void {
    this.#again(0);
  }

  stop(): void {
    this.#stopped = true;
  }

  #again(pauseMs: number): void {
    const { world } = this.#options;
    if (!this.#stopped) world.after(pauseMs, undefined, "follower", () => this.#ask());
  }

  #ask(): void {
    const { world, random, nodes, delayMs, loss } = this.#options;
    if (this.#stopped) return;
    const node = random.pick(nodes());
    let over = false;
    const finish = (act: () => void): void => {
      if (over) return;
      over = true;
      impatience.cancel();
      act();
    };
    const impatience = world.after(3000, undefined, "follower gives up", () => finish(() => this.#again(10)));
    if (random.chance(loss)) return;
    const place = this.#place;
    const view = eventView(random);
    const limit = random.between(1, 20);
    const waitMs = random.pick([0, 50, 500]);
    world.after(random.delay(delayMs), undefined, "request", () => {
      const { process } = node;
      if (!process?.alive || !node.rooms || node.state !== "running") return finish(() => this.#again(50));
      const answer = (act: () => void): void => {
        if (!process.alive || random.chance(loss)) return;
        world.after(random.delay(delayMs), undefined, "answer", () => finish(act));
      };
      world.after(0, process, "request", () => {
        if (!node.rooms) return answer(() => this.#again(50));
        void this.#options.service.updates(node, place, view, limit, waitMs, new AbortController().signal).then(
          ({ record, nextToken, events }) =>
            answer(() => {
              this.#place = { token: nextToken, seq: record.seq, record };
              this.pages++;
              this.events += events.length;
              this.#again(random.delay(20));
            }),
          (error: unknown) => answer(() => this.#refused(error, node, place)),
        );
      });
    });
  }

  #refused(error: unknown, node: SimNode, place: Place): void {
    const { counts, world, watch, random } = this.#options;
    if (!(error instanceof StoreError)) {
      if (!(error instanceof Error && error.name === "WalError")) world.uncaught(error);
      return this.#again(50);
    }
    if (error.code === "lineage_lost") {
      counts.note("followers that lost their lineage");
      const { record } = place;
      // A reader whose place is still part of the state must not be sent away.
      const applied = watch.appliedOn(node);
      if (record && applied && isPartOf(record, applied)) {
        world.violate(
          "lineage is lost only where it is",
          `${node.name} refuses a token of ${record.seq}: ${error.message}`,
        );
      }
      if (record?.committed && watch.lossy.size === 0) {
        world.violate(
          "lineage is lost only where it is",
          `${node.name} says so of committed seq ${record.seq}: ${error.message}`,
        );
      }
      this.#place = { seq: 0, record: watch.ledger.root };
      return this.#again(10);
    }
    if (error.code === "out_of_range" && error.range && place.seq < error.range.compactSeq) {
      counts.note("followers that compaction had overtaken");
      // As the answer says: read the keys, and follow from there.
      const read = this.#options.service.readPoint(node);
      if (read) this.#place = read;
      return this.#again(10);
    }
    this.#again(random.delay(50));
  }
}
