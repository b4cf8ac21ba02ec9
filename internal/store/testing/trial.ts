/**
 * For tests: a store on a disk that fails, through any number of processes, held against a model of what its callers were
 * told. A process ends in order, by being killed, or with the power; the next one opens what is left.
 */
import { assert, must } from "../../base/assert.js";
import { FakeClock } from "../../base/clock.js";
import { epochId } from "../../base/ids.js";
import { epoch, seq as toSeq } from "../../base/position.js";
import type { Durability } from "../../wal/log.js";
import { MemoryFileSystem } from "../../wal/memory-file-system.js";
import { type Store, StoreError, type WriteCommand } from "../store.js";
import { type Fault, FaultyFileSystem } from "./faulty-file-system.js";
import { Model, type ModelChange, type ModelRecord, type ModelState } from "./model.js";
import { bytes, openStore, seededRandom, text } from "./stores.js";

export type Command =
  /** Keys by number; a length is that of a value to be set, none deletes. */
  | { readonly kind: "write"; readonly parts: readonly { readonly key: number; readonly length?: number }[] }
  | { readonly kind: "produce"; readonly lengths: readonly number[] }
  /** A thousandth of what may be there. */
  | { readonly kind: "truncate"; readonly permille: number }
  | { readonly kind: "snapshot" }
  | { readonly kind: "consume"; readonly permille: number };

/** How a process ends; with `power` goes, by chance, some of what was not synced. */
export type End = "close" | "kill" | "power";

export interface Step {
  /** All issued at once. */
  readonly commands: readonly Command[];
  /** Then the log is cut so far back, as a thousandth of what can be cut. */
  readonly cut?: number;
  readonly faults: readonly Fault[];
  /** Bytes that the disk has room for from now on; absent: as before. */
  readonly freeBytes?: number;
  /** The process ends before the operation of this number. */
  readonly stop?: { readonly after: number; readonly end: "kill" | "power" };
  /** What comes after the commands; "wait" lets time pass. */
  readonly ending: "nothing" | "wait" | End;
  /** Of the next process. */
  readonly faultsAtOpen: readonly Fault[];
  readonly seed: number;
}

export interface TrialOptions {
  readonly durability: Durability;
  readonly segmentBytesMax: number;
  readonly snapshotLogBytes: number;
  readonly snapshotsKept: number;
  readonly reserveBytes: number;
}

const KEYS = 6;
const SYNC_INTERVAL_MS = 1000;
/** Turns of the event loop within which everything in memory has its answer. */
const TURNS_MAX = 20_000;

export class Trial {
  readonly #options: TrialOptions;
  readonly #model = new Model();
  #disk = new FaultyFileSystem(new MemoryFileSystem());
  #freeBytes = Infinity;
  #clock = new FakeClock();
  #store: Store | undefined;
  #processes = 0;
  /** Set when the disk failed the present process. */
  #failed: Error | undefined;
  #dropped = false;
  /** What the process that was stopped leaves. */
  #remains: MemoryFileSystem | undefined;
  #values = 0;
  /** The highest start of the record log that was ever asked for. */
  #startAsked = 0;
  /** Answers that were no success, for those who want to know that faults come up at all. */
  readonly refusals = new Map<string, number>();

  private constructor(options: TrialOptions) {
    this.#options = options;
  }

  /** A new cluster's master, on a disk that does not fail yet. */
  static async start(options: TrialOptions): Promise<Trial> {
    const trial = new Trial(options);
    await trial.#open([]);
    return trial;
  }

  async run(step: Step): Promise<void> {
    if (step.freeBytes !== undefined) this.#setFree(step.freeBytes);
    await this.#serve();
    const { stop } = step;
    if (stop) this.#disk.stopAt(stop.after, () => this.#end(stop.end, step.seed));
    this.#disk.inject(step.faults);
    await Promise.all(step.commands.map((command) => this.#issue(command)));
    if (step.cut !== undefined) await this.#cut(step.cut);
    if (step.ending === "wait") await this.#wait();
    if (step.ending === "close") await this.#close();
    else if (step.ending === "kill" || step.ending === "power") this.#end(step.ending, step.seed);
    if (this.#failed && !this.#remains) this.#end(step.seed % 2 === 0 ? "power" : "kill", step.seed);
    this.#disk.heal();
    if (this.#remains) await this.#restart(step.faultsAtOpen);
    else await this.#audit();
  }

  /** Heals the disk; then everything must work again, and be there after one more of every end. */
  async finish(seed: number): Promise<void> {
    this.#setFree(Infinity);
    this.#disk.heal();
    for (const end of ["power", "close", "kill"] as const) {
      await this.#wait();
      await this.#serve();
      assert(this.#isServing, `the healed store serves; its failure: ${this.#failed?.message}`);
      const commands: Command[] = [
        { kind: "write", parts: [{ key: 0, length: 10 }, { key: 1 }] },
        { kind: "produce", lengths: [10, 20] },
        { kind: "snapshot" },
      ];
      for (const command of commands) {
        const refused = await this.#issue(command);
        if (refused) throw new Error(`a healed disk, and a ${command.kind} fails`, { cause: refused });
      }
      await this.#audit();
      if (end === "close") await this.#close();
      else this.#end(end, seed);
      await this.#restart([]);
    }
    await this.#close();
  }

  get #isServing(): boolean {
    return this.#store?.isServingMaster === true && !this.#failed;
  }

  // ---- what is done to it --------------------------------------------------------------------------------------------

  /** Resolves to why it was refused. */
  async #issue(command: Command): Promise<Error | undefined> {
    const store = must(this.#store, "a store is open");
    if (!this.#isServing && command.kind !== "consume") return new Error("the store takes no writes");
    switch (command.kind) {
      case "write": {
        const changes = command.parts.map(({ key, length }): ModelChange => {
          const name = `key-${key % KEYS}`;
          return length === undefined
            ? { kind: "delete", key: name }
            : { kind: "set", key: name, value: this.#value(length) };
        });
        const commands = changes.map((change): WriteCommand => {
          assert(change.kind === "set" || change.kind === "delete", "a write sets and deletes");
          return change.kind === "set"
            ? { kind: "set", key: bytes(change.key), value: bytes(change.value) }
            : { kind: "delete", key: bytes(change.key) };
        });
        const record = this.#model.add(changes);
        return this.#answered(
          record,
          store
            .write(commands)
            .then(({ position, results }) =>
              changes.some((change, i) => change.kind === "set" || results[i]!.existed) ? position.seq : undefined,
            ),
        );
      }
      case "produce": {
        const records = command.lengths.map((length) => this.#value(length));
        const record = this.#model.add(records.map((record) => ({ kind: "produce", record })));
        return this.#answered(
          record,
          store.produce(records.map(bytes)).then(({ position }) => position.seq),
        );
      }
      case "truncate": {
        // With what is in flight, which may be refused; then the offset may lie beyond the end, and is refused too.
        const below = Math.floor((this.#model.endMax * command.permille) / 1000);
        this.#startAsked = Math.max(this.#startAsked, below);
        const record = this.#model.add([{ kind: "truncate", below }]);
        return this.#answered(
          record,
          store.truncateRecords(below).then(() => undefined),
        );
      }
      case "snapshot": {
        const snapshot = store.createSnapshot().then(({ end }) => {
          if (!this.#remains) this.#model.noteSynced(end.to);
        });
        return this.#settled(snapshot);
      }
      case "consume": {
        const { start, end } = store.recordRange();
        const from = start + Math.floor(((end - start) * command.permille) / 1000);
        let found: Awaited<ReturnType<Store["consume"]>> | undefined;
        const refused = await this.#settled(store.consume(from, 500, 10).then((page) => (found = page)));
        const { records, start: first } = this.#model.candidates().at(-1)!;
        for (const { offset, record } of found?.records ?? []) {
          // What was produced meanwhile is not in the model yet.
          const expected = offset >= first ? records[offset - first] : undefined;
          if (expected !== undefined) same(text(record), expected, `the record at offset ${offset}`);
        }
        return refused;
      }
    }
  }

  /** `seq`: of the record that the write became, if it is known to have become one. */
  async #answered(record: ModelRecord, seq: Promise<number | undefined>): Promise<Error | undefined> {
    // What is proposed is in the log's queue by now.
    record.firstSeq = must(this.#store, "a store is open").last.seq;
    // At once, and not only when this process has had its turns: what happens in memory takes none.
    const noted = seq.then(
      (found) => this.#note(record, undefined, found),
      (error: unknown) => this.#note(record, error as Error, undefined),
    );
    noted.catch(() => undefined);
    const refused = await this.#settled(seq);
    await noted;
    return refused;
  }

  #note(record: ModelRecord, refused: Error | undefined, known: number | undefined): void {
    // After the end of its process no answer reaches anybody.
    if (record.outcome !== "pending") return;
    if (!refused) {
      record.outcome = "acknowledged";
      if (known !== undefined) record.seq = known;
    } else if (refused instanceof StoreError && refused.code === "outcome_unknown" && refused.position) {
      record.outcome = "unknown";
    } else {
      assert(
        refused instanceof StoreError,
        `a write is refused by a StoreError, not ${refused.name}: ${refused.message}`,
      );
      assert(
        // Without a position: it changed nothing, and what its answer rested on was refused.
        ["disk_full", "failed", "not_ready", "offset_out_of_range", "outcome_unknown"].includes(refused.code),
        `a write is refused with ${refused.code}`,
      );
      record.outcome = "refused";
    }
  }

  async #cut(permille: number): Promise<void> {
    const store = must(this.#store, "a store is open");
    if (!this.#isServing || this.#remains) return;
    // Further back, the state could not be built anew from what this node has.
    const floor = this.#isCompacted ? this.#snapshotsEnd() : 0;
    const places = this.#model.cuts.filter((seq) => seq >= floor && seq >= store.compactSeq);
    const at = places[Math.floor((places.length * permille) / 1000)];
    if (at === undefined) return;
    store.endMastership();
    const restore = this.#model.doubtAfter(at);
    const refused = await this.#settled(store.cutAfter(toSeq(at)));
    if (this.#remains) return;
    if (!refused) this.#model.cutAfter(at);
    else if (!this.#failed) restore();
    this.#disk.heal();
    await this.#serve();
  }

  /** Whether some of the log, or of the record log, is gone. */
  get #isCompacted(): boolean {
    const paths = this.#disk.memory.paths();
    return ["wal", "records"].some((log) => !paths.includes(`${log}/${"1".padStart(20, "0")}.wal`));
  }

  #snapshotsEnd(): number {
    const ends = this.#disk.memory.paths().map((path) => /^snapshots\/\d+-(\d+)\.snapshot$/.exec(path)?.[1] ?? 0);
    return Math.max(0, ...ends.map(Number));
  }

  /** Lets enough time pass for everything that the store does by itself. */
  async #wait(): Promise<void> {
    const { failures } = this.#disk;
    const noteSynced = this.#model.syncPoint();
    for (let i = 0; i < 3; i++) {
      this.#clock.advance(61_000);
      await this.#idle();
    }
    if (this.#options.durability === "os") return;
    if (this.#disk.failures === failures && !this.#failed && !this.#remains) noteSynced();
  }

  #setFree(bytes: number): void {
    this.#freeBytes = bytes;
    const { memory } = this.#disk;
    const used = memory.paths().reduce((sum, path) => sum + memory.bytes(path).length, 0);
    memory.capacityBytes = bytes === Infinity ? Number.MAX_SAFE_INTEGER : used + bytes;
  }

  // ---- processes -----------------------------------------------------------------------------------------------------

  async #close(): Promise<void> {
    const store = must(this.#store, "a store is open");
    const noteSynced = this.#model.syncPoint();
    const refused = await this.#settled(store.close());
    if (this.#remains) return;
    if (!refused && !this.#failed) noteSynced();
    this.#model.crash({ losesUnsynced: false });
    this.#remains = this.#disk.memory.copy();
  }

  /** The process ends here and now. */
  #end(end: "kill" | "power", seed: number): void {
    if (this.#remains) return;
    const { memory } = this.#disk;
    if (end === "kill") {
      this.#model.crash({ losesUnsynced: false });
      this.#remains = memory.copy();
    } else {
      this.#model.crash({ losesUnsynced: this.#options.durability !== "always" });
      const chance = seededRandom(seed);
      const below = (limit: number): number => new DataView(chance.bytes(4).buffer).getUint32(0) % limit;
      this.#remains = memory.crash({
        sector: (_path, _sector, versions) => below(versions + 1),
        keepsSize: () => below(2) === 0,
        names: (changes) => below(changes + 1),
      });
    }
    this.#disk.stop();
  }

  async #restart(faults: readonly Fault[]): Promise<void> {
    await this.#idle();
    this.#disk = new FaultyFileSystem(must(this.#remains, "something is left"));
    await this.#open(faults);
    if (this.#isServing) await this.#audit();
  }

  async #open(faults: readonly Fault[]): Promise<void> {
    for (let given = faults; ; given = []) {
      this.#remains = undefined;
      this.#failed = undefined;
      this.#store = undefined;
      this.#setFree(this.#freeBytes);
      this.#clock = new FakeClock(1_700_000_000_000 + this.#processes++ * 10_000_000);
      this.#disk.inject(given);
      const { failures } = this.#disk;
      const refused = await this.#settled(this.#openStore());
      if (!refused) {
        await this.#serve();
        this.#disk.heal();
        await this.#serve();
        if (!this.#failed) return;
        this.#model.crash({ losesUnsynced: false });
      } else {
        assert(this.#disk.failures > failures, `a store opens on a disk that does not fail; it said: ${refused.stack}`);
        assert(
          refused.name === "FileSystemError" || (refused.name === "WalError" && !/damaged/.test(refused.message)),
          `a failing disk is not mistaken for damage: ${refused.stack}`,
        );
        if (given.length === 0) this.#freeBytes = Infinity;
      }
      this.#disk.stop();
      this.#disk = new FaultyFileSystem(this.#disk.memory.copy());
    }
  }

  async #openStore(): Promise<void> {
    const { durability, segmentBytesMax, snapshotLogBytes, snapshotsKept, reserveBytes } = this.#options;
    const disk = this.#disk;
    const store = await openStore({
      fileSystem: disk,
      clock: this.#clock,
      random: seededRandom(this.#processes),
      durability,
      syncIntervalMs: SYNC_INTERVAL_MS,
      segmentBytesMax,
      reserveBytes,
      snapshots: { intervalMs: 0, logBytes: snapshotLogBytes, keep: snapshotsKept },
    });
    store.listen({
      kept: (kept) => store.commit(kept),
      dropped: (firstSeq) => {
        this.#dropped = true;
        if (this.#disk === disk && !this.#remains) this.#model.drop(firstSeq, reserveBytes > 0);
      },
      failed: (error) => {
        if (this.#disk === disk) this.#failed = error;
      },
    });
    this.#store = store;
  }

  /** Makes the store the sole master, as far as the disk lets it. */
  async #serve(): Promise<void> {
    const store = must(this.#store, "a store is open");
    if (this.#isServing || this.#failed || this.#remains) return;
    await this.#settled(this.#beginMastership(store));
    // It may serve although a full disk could not take down that it has caught up.
    if (!this.#isServing) return;
    this.#settle();
    await this.#audit();
  }

  async #beginMastership(store: Store): Promise<void> {
    if (!store.clusterId) await store.foundCluster();
    const next = epoch(Math.max(store.promised.epoch, store.last.epoch) + 1);
    const id = epochId(next.toString(16).padStart(16, "0"));
    await store.promise({ epoch: next, candidate: store.nodeId, epochId: id });
    this.#dropped = false;
    store.beginEpoch(next, id);
    await this.#turns("an epoch begins", () => store.isServingMaster || this.#dropped || this.#failed !== undefined);
    if (store.isServingMaster) await store.markCaughtUp();
  }

  // ---- what must be true ---------------------------------------------------------------------------------------------

  /** Finds out which of the writes without an answer are there. */
  #settle(): void {
    const found = JSON.stringify(this.#visibleEntries());
    const range = must(this.#store, "a store is open").recordRange();
    const find = (): number =>
      this.#model
        .candidates()
        .findIndex(
          (state) => JSON.stringify(sorted(state)) === found && state.end === range.end && state.start === range.start,
        );
    let known = find();
    if (known < 0 && this.#options.durability !== "always" && range.start <= this.#startAsked) {
      this.#model.adoptStart(range.start);
      known = find();
    }
    if (known < 0) {
      const { state } = this.#model;
      throw new Error(
        `what is there after a restart is none of what may be there: ${found} and offsets ${range.start} to ${range.end}, instead of at least ${JSON.stringify(sorted(state))} and ${state.start} to ${state.end}`,
      );
    }
    this.#model.settle(known);
  }

  async #audit(): Promise<void> {
    const store = must(this.#store, "a store is open");
    if (!this.#isServing || this.#remains) return;
    const { state } = this.#model;
    same(JSON.stringify(this.#visibleEntries()), JSON.stringify(sorted(state)), "the keys");
    same(store.status().keys, state.entries.size, "the number of keys");
    const range = store.recordRange();
    same(`${range.start} to ${range.end}`, `${state.start} to ${state.end}`, "the record log's range");
    for (let offset = range.start; offset < range.end;) {
      const { records } = await store.consume(offset, 4096, 100);
      assert(records.length > 0, `offset ${offset} can be consumed`);
      for (const { offset: at, record } of records) {
        same(at, offset, "the next offset");
        same(text(record), must(state.records[offset - state.start], "the model has it"), `the record at ${offset}`);
        offset++;
      }
    }
  }

  #visibleEntries(): [string, string][] {
    const store = must(this.#store, "a store is open");
    const found: [string, string][] = [];
    for (let key = 0; key < KEYS; key++) {
      const entry = store.get(bytes(`key-${key}`));
      if (entry) found.push([`key-${key}`, text(entry.value)]);
    }
    return found;
  }

  #value(length: number): string {
    return `${++this.#values}:`.padEnd(length, "x");
  }

  // ---- waiting -------------------------------------------------------------------------------------------------------

  /** Resolves to the error of a rejection; what never settles is a bug. */
  async #settled(promise: Promise<unknown>): Promise<Error | undefined> {
    let outcome: { readonly error?: Error } | undefined;
    promise.then(
      () => (outcome = {}),
      (error: unknown) => (outcome = { error: error instanceof Error ? error : new Error(String(error)) }),
    );
    await this.#turns("an answer comes", () => outcome !== undefined);
    const { error } = must(outcome, "it settled");
    if (error) {
      if (error.name === "AssertionError") throw error;
      const code = "code" in error ? String(error.code) : error.name;
      this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
    }
    return error;
  }

  async #turns(what: string, isTrue: () => boolean): Promise<void> {
    for (let turn = 0; !isTrue(); turn++) {
      assert(turn < TURNS_MAX, `${what}, but it never did`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Resolves once nothing goes on any more. */
  async #idle(): Promise<void> {
    let quiet = 0;
    let { operations } = this.#disk;
    await this.#turns("the store comes to rest", () => {
      quiet = this.#disk.operations === operations ? quiet + 1 : 0;
      ({ operations } = this.#disk);
      return quiet > 10;
    });
  }
}

function sorted({ entries }: ModelState): [string, string][] {
  return [...entries].sort(([a], [b]) => (a < b ? -1 : 1));
}

function same<T>(found: T, expected: T, what: string): void {
  if (found !== expected) throw new Error(`${what}: found ${String(found)}, expected ${String(expected)}`);
}
