/**
 * A reader of watches, which goes from node to node and resumes by its token. Each batch is checked to be what the ledger has between
 * the place before and the one that it names: nothing left out, nothing twice, no other history without a word.
 */
import { type Watch as KeyWatch, type WatchBatch, WatchError } from "../../internal/watch/watch-types.js";
import { seq as toSeq } from "../../internal/base/position.js";
import { StoreError } from "../../internal/store/store.js";
import { eventView, type FollowerOptions } from "./follower.js";
import { isPartOf, type LedgerRecord } from "./ledger.js";
import { type EventView, eventsWanted } from "./service.js";
import type { SimNode } from "./sim-node.js";

interface Place {
  readonly token?: Uint8Array;
  readonly seq: number;
  readonly record: LedgerRecord;
}

export class WatchFollower {
  readonly #options: FollowerOptions;
  #place: Place;
  #stopped = false;
  batches = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#place = { seq: 0, record: options.watch.ledger.root };
  }

  start(): void {
    this.#again(0);
  }

  stop(): void {
    this.#stopped = true;
  }

  #again(pauseMs: number): void {
    const { world } = this.#options;
    if (!this.#stopped) world.after(pauseMs, undefined, "watch follower", () => this.#open());
  }

  #open(): void {
    const { world, random, nodes } = this.#options;
    if (this.#stopped) return;
    const node = random.pick(nodes());
    const { process, rooms } = node;
    if (!process?.alive || !rooms || node.state !== "running") return this.#again(50);
    let over = false;
    const finish = (act: () => void): void => {
      if (over) return;
      over = true;
      impatience.cancel();
      act();
    };
    const controller = new AbortController();
    const view = eventView(random);
    // It leaves after a while, or when the process is gone, of which nobody tells it.
    const impatience = world.after(random.pick([20, 300, 3000]), undefined, "watch follower leaves", () =>
      finish(() => {
        controller.abort();
        this.#again(random.delay(20));
      }),
    );
    world.after(0, process, "watch", () => {
      if (over) return;
      if (!node.rooms) return finish(() => this.#again(50));
      const { token, seq } = this.#place;
      let watch: KeyWatch;
      try {
        const after = token ? { token } : { seq: toSeq(seq) };
        watch = node.rooms.hub.open({ after, ...eventsWanted(view), signal: controller.signal });
      } catch (error) {
        return finish(() => this.#refused(error, node, true));
      }
      void this.#take(node, watch, view, () => over).then(
        () => finish(() => this.#again(10)),
        // The ledger learns of a mastership after the event that begins it, and this may be that event.
        (error: unknown) =>
          void world.after(0, undefined, "watch ends", () => finish(() => this.#refused(error, node, false))),
      );
    });
  }

  async #take(node: SimNode, watch: KeyWatch, view: EventView, isOver: () => boolean): Promise<void> {
    const { random, world, counts, watch: watched } = this.#options;
    for (;;) {
      const step = await watch.next();
      if (step.done || isOver() || !node.process?.alive) return;
      // What the ledger knows of the node is looked up after each event, and this may be in the midst of one.
      await new Promise<void>((resolve) => world.after(0, node.process, "batch", resolve));
      if (isOver()) return;
      const { position } = step.value;
      const applied = watched.appliedOn(node);
      if (!applied || applied.seq < position.seq || !watched.recordAt(node, position)) {
        counts.note("batches of watches that were cut off at once");
        return;
      }
      this.#received(node, view, step.value);
      // A slow reader, now and then.
      if (random.chance(0.2)) {
        await new Promise<void>((resolve) => world.after(random.pick([5, 200]), undefined, "slow reader", resolve));
        if (isOver()) return;
      }
    }
  }

  #received(node: SimNode, view: EventView, batch: WatchBatch): void {
    const { service } = this.#options;
    this.batches++;
    if (!batch.token) return this.#options.world.violate("a batch of small records is whole", node.name);
    const record = service.checkEvents(node, this.#place, view, batch.events, batch.position);
    if (record) this.#place = { token: batch.token, seq: batch.position.seq, record };
  }

  #refused(error: unknown, node: SimNode, isNew: boolean): void {
    const { counts, world, watch, random } = this.#options;
    if (!(error instanceof WatchError || error instanceof StoreError)) {
      if (!(error instanceof Error && error.name === "WalError")) world.uncaught(error);
      return this.#again(50);
    }
    const { record, seq } = this.#place;
    if (error.code === "lineage_lost") {
      counts.note("watches that lost their lineage");
      const applied = watch.appliedOn(node);
      // A watch that is open hears of a cut before the log is really cut.
      const stands = isNew && applied && isPartOf(record, applied);
      if (stands || (record.committed && watch.lossy.size === 0)) {
        world.violate(
          "lineage is lost only where it is",
          `${node.name} ends a watch at ${record.seq}: ${error.message}`,
        );
      }
      this.#place = { seq: 0, record: watch.ledger.root };
      return this.#again(10);
    }
    if (error.code === "out_of_range" && error.range && seq < error.range.compactSeq) {
      counts.note("watches that compaction had overtaken");
      const read = this.#options.service.readPoint(node);
      if (read) this.#place = read;
      return this.#again(10);
    }
    if (error instanceof WatchError && error.resume && error.resume.seq !== seq) {
      world.violate("a watch that ends says where to go on", `${node.name} says ${error.resume.seq}, it is ${seq}`);
    }
    this.#again(random.delay(50));
  }
}
