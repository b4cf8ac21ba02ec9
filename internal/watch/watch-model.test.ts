/** Watches against the log itself: whatever happens in between, what they were given is what the log says, in order, each event once. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { type Seq, seq } from "../base/position.js";
import { MapEngine } from "../engine/map-engine.js";
import { clipped, type KeyFilter, type Store, type UpdateEvent } from "../store/store.js";
import { beginMastership, bytes, joinReplica, openStore, push, seededRandom, text } from "../store/testing/stores.js";
import { WatchHub } from "./watch-hub.js";
import { type Watch, type WatchBatch, WatchError, type WatchRequest } from "./watch-types.js";

const KEYS = ["a", "ab", "b", "ba", "c"];
const never = new AbortController().signal;

type Step =
  | { readonly do: "write"; readonly keys: readonly string[]; readonly size: number; readonly ttlMs?: number }
  | { readonly do: "delete"; readonly key: string }
  | { readonly do: "delete-range"; readonly start: string; readonly end: string }
  | { readonly do: "pass"; readonly ms: number }
  | { readonly do: "compact" }
  | { readonly do: "stand-by" }
  | { readonly do: "cut" }
  | { readonly do: "open"; readonly how: OpenHow }
  | { readonly do: "take"; readonly watch: number; readonly count: number }
  | { readonly do: "leave"; readonly watch: number };

interface OpenHow {
  readonly filter?: { readonly key: string } | { readonly start: string; readonly end?: string };
  readonly from: "now" | "beginning" | "resume by token" | "resume by seq";
  readonly wantPrevious: boolean;
  readonly keysOnly: boolean;
  /** Takes whatever comes at once, or only when it is told to. */
  readonly eager: boolean;
  readonly which: number;
}

const key = fc.constantFrom(...KEYS);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("write" as const),
      keys: fc.array(key, { minLength: 1, maxLength: 3 }),
      size: fc.constantFrom(1, 10, 40_000),
      ttlMs: fc.constantFrom(undefined, undefined, 50),
    }) as fc.Arbitrary<Step>,
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("delete" as const), key }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("delete-range" as const), start: key, end: key }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(0, 60, 6000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("compact" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("stand-by" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cut" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("open" as const),
      how: fc.record({
        filter: fc.option(
          fc.oneof(
            fc.record({ key }),
            fc.record({ start: key, end: fc.constantFrom("b", "bb", "z") }),
            fc.record({ start: key }),
          ),
          { nil: undefined },
        ),
        from: fc.constantFrom("now", "beginning", "resume by token", "resume by seq"),
        wantPrevious: fc.boolean(),
        keysOnly: fc.boolean(),
        eager: fc.boolean(),
        which: fc.nat(20),
      }) as fc.Arbitrary<OpenHow>,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("take" as const),
      watch: fc.nat(20),
      count: fc.integer({ min: 1, max: 5 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("leave" as const), watch: fc.nat(20) }) },
);

/** What the log says, as one event. */
interface Known {
  readonly event: UpdateEvent;
  /** Before the event, as all events before it have left the key. */
  readonly before: string | undefined;
  readonly beforeSeq: number;
}

/** One reader, and all that it was given. */
class Reader {
  readonly how: OpenHow;
  readonly filter: KeyFilter | undefined;
  readonly batches: WatchBatch[] = [];
  readonly watch: Watch;
  error: unknown;
  ended = false;
  isTaking = false;
  /** It was given what was cut off since, and how many batches that had been: it must not be given more, but hear of it. */
  lostAfter: number | undefined;

  constructor(how: OpenHow, filter: KeyFilter | undefined, watch: Watch) {
    this.how = how;
    this.filter = filter;
    this.watch = watch;
    if (how.eager) void this.take(Infinity);
  }

  async take(count: number): Promise<void> {
    if (this.isTaking) return;
    this.isTaking = true;
    try {
      for (let i = 0; i < count; i++) {
        const next = await this.watch.next();
        if (next.done) {
          this.ended = true;
          return;
        }
        this.batches.push(next.value);
      }
    } catch (error) {
      this.error = error;
      this.ended = true;
    } finally {
      this.isTaking = false;
    }
  }

  get shownSeq(): number {
    return Math.max(this.batches.at(-1)?.position.seq ?? 0, this.batches.at(-1)?.events.at(-1)?.position.seq ?? 0);
  }

  get place(): WatchBatch | undefined {
    return this.batches.findLast(({ token }) => token !== undefined);
  }
}

class World {
  readonly clock = new FakeClock();
  readonly readers: Reader[] = [];
  #master!: Store;
  #standBy!: Store;
  #replica!: Store;
  hub!: WatchHub;
  #counter = 0;
  /** The log of the replica as it was shown, and of what was cut off, what it was. */
  readonly #known: Known[] = [];
  #knownSeq = 0;
  #deepestCut = Infinity;
  #random = 10;

  async begin(): Promise<void> {
    this.#master = await openStore({ clock: this.clock, engine: new MapEngine(), segmentBytesMax: 60_000 });
    await beginMastership(this.#master);
    this.#replica = await this.#join();
    this.#standBy = await this.#join();
    await this.follow();
    await this.#replica.markCaughtUp();
    this.hub = new WatchHub({ store: this.#replica, clock: this.clock, limits: { watchesMax: 100 }, toldAtOnce: 1 });
  }

  #join(): Promise<Store> {
    const options = { clock: this.clock, random: seededRandom(this.#random++), segmentBytesMax: 60_000 };
    return joinReplica(this.#master, options);
  }

  async quiet(): Promise<void> {
    for (let i = 0; i < 12; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      this.clock.advance(0);
    }
  }

  /** The replica gets what the master has, and what it says is noted. */
  async follow(): Promise<void> {
    await push(this.#master, this.#replica);
    this.#replica.commit(this.#replica.last.seq);
    await this.quiet();
    if (!this.#replica.caughtUp) return;
    const { events } = await this.#replica.updates({
      after: seq(Math.max(this.#knownSeq, this.#replica.compactSeq)),
      limit: 100_000,
      maxBytes: 1 << 26,
      waitMs: 0,
      signal: never,
    });
    for (const event of events) this.#know(event);
    this.#knownSeq = this.#replica.appliedSeq;
  }

  #know(event: UpdateEvent): void {
    let before: Known | undefined;
    for (const known of this.#known) {
      if (clipped(known.event, { key: event.key })) before = known;
    }
    const isThere = event.type !== "delete-range" && before?.event.type === "put";
    this.#known.push({
      event,
      before: isThere ? text(before!.event.value) : undefined,
      beforeSeq: isThere ? before!.event.position.seq : 0,
    });
  }

  async carryOut(what: Step): Promise<void> {
    switch (what.do) {
      case "write": {
        const { keys, size, ttlMs } = what;
        const value = (): Uint8Array => bytes(`${this.#counter++}`.padEnd(size, "."));
        await this.#write(
          keys.map((name) => {
            const command = { kind: "set" as const, key: bytes(name), value: value() };
            return ttlMs === undefined ? command : Object.assign(command, { ttlMs });
          }),
        );
        break;
      }
      case "delete":
        await this.#write([{ kind: "delete", key: bytes(what.key) }]);
        break;
      case "delete-range":
        await this.#write([{ kind: "delete-range", range: { start: bytes(what.start), end: bytes(what.end) } }]);
        break;
      case "pass":
        this.clock.advance(what.ms);
        await this.quiet();
        await this.follow();
        break;
      case "compact":
        await this.#replica.createSnapshot();
        break;
      case "stand-by":
        await push(this.#master, this.#standBy);
        break;
      case "cut":
        await this.#cut();
        break;
      case "open":
        this.#open(what.how);
        break;
      case "take": {
        const reader = this.readers[what.watch % Math.max(1, this.readers.length)];
        void reader?.take(what.count);
        break;
      }
      case "leave": {
        const reader = this.readers[what.watch % Math.max(1, this.readers.length)];
        await reader?.watch.return();
        break;
      }
    }
    await this.quiet();
  }

  async #write(commands: Parameters<Store["write"]>[0]): Promise<void> {
    await this.#master.write(commands);
    await this.follow();
  }

  /** The stand-by becomes master, without what it lacks. */
  async #cut(): Promise<void> {
    await this.follow();
    const fork = this.#standBy.last.seq;
    if (fork === 0 || fork < this.#replica.floorSeq || fork < this.#replica.compactSeq) return;
    const before = this.#master;
    this.#master = this.#standBy;
    this.#master.commit(fork);
    await this.#master.markCaughtUp();
    const epoch = Math.max(before.last.epoch, this.#master.last.epoch) + 1;
    await beginMastership(this.#master, { epoch, forced: true });
    if (this.#replica.appliedSeq > fork) {
      this.#deepestCut = Math.min(this.#deepestCut, fork);
      // Who has been given more of it must hear so.
      const kept = this.#known.filter(({ event }) => event.position.seq <= fork);
      this.#known.splice(0, this.#known.length, ...kept);
      this.#knownSeq = Math.min(this.#knownSeq, fork);
    }
    for (const reader of this.readers) if (reader.shownSeq > fork) reader.lostAfter ??= reader.batches.length;
    await this.#replica.cutAfter(fork);
    await this.follow();
    this.#standBy = await this.#join();
    await push(this.#master, this.#standBy);
    await before.close();
  }

  #open(how: OpenHow): void {
    const filter = how.filter && filterOf(how.filter);
    const other = this.readers[how.which % Math.max(1, this.readers.length)];
    const place = other?.place;
    let after: WatchRequest["after"] = "now";
    if (how.from === "beginning") after = { seq: seq(0) };
    else if (place && how.from === "resume by token") after = { token: place.token! };
    else if (place && how.from === "resume by seq") after = { seq: place.position.seq };
    const flags = {
      ...(how.wantPrevious && { wantPrevious: true as const }),
      ...(how.keysOnly && { keysOnly: true as const }),
    };
    try {
      const watch = this.hub.open({ after, signal: never, ...(filter && { filter }), ...flags });
      this.readers.push(new Reader(how, filter, watch));
    } catch (error) {
      expect(error).toBeInstanceOf(WatchError);
      if (!(error instanceof WatchError)) throw error;
      if (error.code === "out_of_range") {
        expect("seq" in (after as object) ? (after as { seq: Seq }).seq : place!.position.seq).toBeLessThan(
          this.#replica.compactSeq,
        );
      } else expect([error.code, this.#deepestCut < Infinity]).toEqual(["lineage_lost", true]);
    }
  }

  /** All that were given something were given the right things. */
  check(isOver: boolean): void {
    for (const reader of this.readers) this.#checkOne(reader, isOver);
  }

  #checkOne({ how, filter, batches, error, ended, isTaking, lostAfter }: Reader, isOver: boolean): void {
    const [first] = batches;
    if (error !== undefined && !(error instanceof WatchError)) throw error;
    if (!first) return;
    if (lostAfter !== undefined) {
      expect(batches.length).toBe(lostAfter);
      // It has not asked since, or had ended before.
      if (error?.code !== "lineage_lost") {
        expect(isTaking).toBe(false);
        return;
      }
    }
    expect(first.events).toEqual([]);
    const given = batches.flatMap(({ events }) => events);
    const last = batches.at(-1)!;
    let upTo = (given.at(-1)?.position.seq ?? 0) > last.position.seq ? Infinity : last.position.seq;
    let shown = given;
    if (error?.code === "lineage_lost") {
      // What came up to the fork still stands; and there must have been more than that.
      const fork = error.fork!.seq;
      expect(Math.max(last.position.seq, given.at(-1)?.position.seq ?? 0)).toBeGreaterThan(fork);
      shown = given.filter(({ position }) => position.seq <= fork);
      upTo = fork;
    }
    if (error?.code === "out_of_range") expect(error.range!.compactSeq).toBeGreaterThan(last.position.seq);
    const wanted = this.#known.flatMap((known) => {
      const { position } = known.event;
      if (position.seq <= first.position.seq || position.seq > upTo) return [];
      const event = clipped(known.event, filter);
      return event ? [{ ...known, event }] : [];
    });
    const expected = wanted.map(({ event }) => brief(event, how));
    const briefly = shown.map((event) => brief(event, how));
    // The last record may have been given in part.
    expect(briefly).toEqual(last.more ? expected.slice(0, briefly.length) : expected);
    for (const [i, event] of shown.entries()) this.#checkPrevious(event, wanted[i]!, how);
    // Places never go back, and say truly what came before.
    let at = 0;
    for (const batch of batches) {
      expect(batch.position.seq).toBeGreaterThanOrEqual(at);
      expect(batch.token === undefined).toBe(batch.more === true);
      at = batch.position.seq;
    }
    if (isOver && how.eager && !ended && isTaking) {
      expect([given.length, expected.length]).toEqual([
        given.length,
        this.#known.filter(({ event }) => event.position.seq > first.position.seq && clipped(event, filter)).length,
      ]);
    }
  }

  #checkPrevious(event: UpdateEvent, known: Known, how: OpenHow): void {
    if (!how.wantPrevious || known.event.type === "delete-range" || event.timestampMs === undefined) {
      if (!how.wantPrevious) expect([event.previous, event.previousCompacted]).toEqual([undefined, undefined]);
      return;
    }
    // A delete that a removed range became knows nothing of before.
    if (event.type === "delete" && event.previous === undefined && !event.previousCompacted) return;
    if (event.previousCompacted) expect(known.beforeSeq).toBeLessThanOrEqual(this.#replica.compactSeq);
    else expect(event.previous && text(event.previous)).toBe(known.before);
  }

  async end(): Promise<void> {
    await this.quiet();
    await this.quiet();
    this.check(true);
    await this.hub.close();
    await this.quiet();
    for (const { ended, isTaking } of this.readers) if (isTaking) expect(ended).toBe(true);
    expect(this.hub.count).toBe(0);
    await Promise.all([this.#replica.close(), this.#standBy.close(), this.#master.close()]);
  }
}

function filterOf(filter: NonNullable<OpenHow["filter"]>): KeyFilter {
  if ("key" in filter) return { key: bytes(filter.key) };
  return { range: { start: bytes(filter.start), ...(filter.end !== undefined && { end: bytes(filter.end) }) } };
}

function brief({ type, key: name, rangeEnd, value, position }: UpdateEvent, how: OpenHow): unknown[] {
  const shown = how.keysOnly ? "" : text(value).replace(/\.+$/, (dots) => `+${dots.length}`);
  return [position.epoch, position.seq, type, text(name), rangeEnd && text(rangeEnd), shown];
}

test("whatever happens, a watch is given what the log says, in order, each event once, or is told what is gone", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const world = new World();
      await world.begin();
      for (const what of steps) {
        await world.carryOut(what);
        world.check(false);
      }
      await world.end();
    }),
    { numRuns: 150 },
  );
});
