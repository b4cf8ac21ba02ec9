/** The record log against a plain array, over whatever may happen to it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { openRecordLog, produce, type TestRecordLog, textsOf } from "./testing/record-logs.js";

type Step =
  | { readonly kind: "append"; readonly lengths: readonly number[] }
  | { readonly kind: "truncate" | "cut" | "read"; readonly at: number }
  | { readonly kind: "write" | "flush" | "reopen" | "crash" | "full" | "room" };

/** Places are drawn as parts of what is there. */
const at = fc.double({ min: 0, max: 1, noNaN: true });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      lengths: fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 12 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom("truncate" as const, "cut" as const, "read" as const), at }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom("write" as const, "flush" as const, "reopen" as const, "crash" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("full" as const, "room" as const) }) },
);

/** A record log, and what it must be. */
class Compared {
  #fileSystem = new MemoryFileSystem();
  #opened: TestRecordLog;
  /** Every record that was appended and not cut, by offset. */
  #texts: string[] = [];
  /** Chain values by end. */
  #chains = new Map<number, number>();
  #start = 0;
  #syncedEnd = 0;
  #made = 0;

  private constructor(fileSystem: MemoryFileSystem, opened: TestRecordLog) {
    this.#fileSystem = fileSystem;
    this.#opened = opened;
    this.#chains.set(0, opened.log.chain);
  }

  static async begin(): Promise<Compared> {
    const fileSystem = new MemoryFileSystem();
    return new Compared(fileSystem, await openRecordLog({ fileSystem, segmentBytesMax: 1024 }));
  }

  async take(step: Step): Promise<void> {
    const { log, clock } = this.#opened;
    switch (step.kind) {
      case "append":
        for (const length of step.lengths) {
          const text = `${this.#made++} ${"x".repeat(length)}`;
          produce(log, text);
          this.#texts.push(text);
          this.#chains.set(this.#texts.length, log.chain);
        }
        break;
      case "truncate":
        this.#start = this.#place(step.at);
        await log.truncateBelow(this.#start);
        break;
      case "cut": {
        // A cut may need room to write, and is final when it fails.
        if (this.#isFull) break;
        const end = this.#place(step.at);
        await log.cutAfter(end);
        this.#texts.length = end;
        this.#syncedEnd = Math.min(this.#syncedEnd, end);
        await this.#sayStart();
        break;
      }
      case "read": {
        const from = this.#place(step.at);
        const records = await log.read(from, 600, 5);
        expect(records.map(({ record }) => Buffer.from(record).toString())).toEqual(
          this.#texts.slice(from, from + records.length),
        );
        expect(records.length > 0).toBe(from < this.#texts.length);
        break;
      }
      case "write":
        if (!this.#isFull) await log.written();
        break;
      case "flush":
        if (this.#isFull) break;
        await log.flush();
        this.#syncedEnd = this.#texts.length;
        break;
      case "reopen":
        await this.#reopen(this.#fileSystem, log.close());
        break;
      case "crash":
        await this.#reopen(this.#fileSystem.crash(), undefined);
        await log.close();
        break;
      case "full":
        this.#fileSystem.capacityBytes = 0;
        break;
      case "room":
        this.#fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
        clock.advance(1000);
        break;
    }
    await this.#compare();
  }

  async end(): Promise<void> {
    await this.#opened.log.close();
    expect(this.#opened.failures).toEqual([]);
  }

  /** Whether something may wait in memory for the disk to have room. */
  get #isFull(): boolean {
    return this.#fileSystem.capacityBytes === 0 || this.#opened.log.blocked !== undefined;
  }

  #place(part: number): number {
    return this.#start + Math.round(part * (this.#texts.length - this.#start));
  }

  async #reopen(fileSystem: MemoryFileSystem, closed: Promise<void> | undefined): Promise<void> {
    const isWhole = closed !== undefined && !this.#isFull;
    await closed;
    const rest = fileSystem.copy();
    // A full disk may keep a log from being opened.
    rest.capacityBytes = Number.MAX_SAFE_INTEGER;
    this.#fileSystem = rest;
    this.#opened = await openRecordLog({ fileSystem: rest, segmentBytesMax: 1024, mustExist: true });
    const { log } = this.#opened;
    // What was not synced may be lost from the end on, and nothing else.
    expect(log.end).toBeGreaterThanOrEqual(isWhole ? this.#texts.length : this.#syncedEnd);
    expect(log.end).toBeLessThanOrEqual(this.#texts.length);
    this.#texts.length = log.end;
    this.#syncedEnd = log.end;
    await this.#sayStart();
  }

  /** As the store does, which knows it. */
  async #sayStart(): Promise<void> {
    const { log } = this.#opened;
    this.#start = Math.min(this.#start, this.#texts.length);
    expect(log.start).toBeLessThanOrEqual(this.#start);
    await log.truncateBelow(this.#start);
  }

  async #compare(): Promise<void> {
    const { log } = this.#opened;
    expect({ start: log.start, end: log.end }).toEqual({ start: this.#start, end: this.#texts.length });
    expect(log.chain).toBe(this.#chains.get(log.end));
    expect(await textsOf(log)).toEqual(this.#texts.slice(this.#start));
    const extents = log.extents();
    if (this.#start < log.end) {
      expect(extents[0]!.start).toBeLessThanOrEqual(this.#start);
      expect(extents[0]!.end).toBeGreaterThan(this.#start);
      expect(extents.at(-1)!.end).toBe(log.end);
    } else expect(extents).toEqual([]);
    for (const [index, extent] of extents.entries()) {
      expect(extent.end).toBeGreaterThan(extent.start);
      if (index > 0) expect(extent.start).toBe(extents[index - 1]!.end);
    }
  }
}

test("any sequence of appends, truncations, cuts, crashes and reopenings gives what a plain array would", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const compared = await Compared.begin();
      for (const next of steps) await compared.take(next);
      await compared.end();
    }),
    { numRuns: 100 },
  );
});
