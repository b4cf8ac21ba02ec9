/**
 * Whatever is done to a log, and whatever befalls it, it equals a plain array: of all that was appended, cut where it was
 * cut, and after a power cut short of an end that was never synced.
 */
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { seq } from "../base/position.js";
import type { Durability } from "./log.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { appendText, openLog, SeededRandom, textsOf, until, type TestLog } from "./testing/logs.js";

vi.setConfig({ testTimeout: 60_000 });

interface Model {
  /** What was appended and not cut or dropped. */
  texts: string[];
  /** At least so many of them survive a power cut. */
  synced: number;
  applied: number;
}

/** A log that is open, and the file system that it stands on; both are others after a crash. */
class Subject {
  fileSystem: MemoryFileSystem;
  readonly durability: Durability;
  #open: TestLog | undefined;

  constructor(durability: Durability, atOnce: boolean) {
    this.durability = durability;
    this.fileSystem = new MemoryFileSystem({ atOnce });
  }

  get test(): TestLog {
    return this.#open!;
  }

  get log(): TestLog["log"] {
    return this.test.log;
  }

  async open(): Promise<void> {
    const { fileSystem, durability } = this;
    this.#open = await openLog({ fileSystem, durability, segmentBytesMax: 700, tailBytesMax: 300 });
  }

  /** All that is queued is written. */
  async written(): Promise<void> {
    await until(() => this.log.writtenSeq === this.log.lastSeq && this.test.listener.failures.length === 0);
  }

  /** The process is gone, and what it had open does nothing more. */
  async abandon(fileSystem: MemoryFileSystem): Promise<void> {
    await this.log.close();
    this.fileSystem = fileSystem;
    await this.open();
  }
}

type Command = fc.AsyncCommand<Model, Subject>;

async function expectEqual(model: Model, subject: Subject): Promise<void> {
  const { log } = subject;
  await subject.written();
  expect(log.lastSeq).toBe(model.texts.length);
  expect(await textsOf(log, 500)).toEqual(model.texts);
}

function command(name: string, run: (model: Model, subject: Subject) => Promise<void>): Command {
  return { check: () => true, run, toString: () => name };
}

const append = (texts: readonly string[]): Command =>
  command(`append ${JSON.stringify(texts)}`, async (model, { log }) => {
    for (const text of texts) {
      appendText(log, text);
      model.texts.push(text);
    }
  });

const write = command("write", async (_model, subject) => subject.written());

const flush = command("flush", async (model, { log }) => {
  await log.flush();
  model.synced = model.texts.length;
});

const apply = (share: number): Command =>
  command(`apply ${share}`, async (model, { log }) => {
    const applied = Math.floor(share * log.writtenSeq);
    log.setAppliedSeq(seq(applied));
    model.applied = Math.max(model.applied, applied);
  });

const wait = (ms: number): Command => command(`wait ${ms}`, async (_model, { test }) => test.clock.advance(ms));

let cuts = 0;
const cut = (share: number, save: boolean): Command =>
  command(`cut ${share}`, async (model, { log }) => {
    const last = Math.floor(share * log.lastSeq);
    const saveAs = save ? `diverged-${++cuts}.log` : undefined;
    await log.cutAfter(seq(last), saveAs);
    model.synced = Math.min(model.synced, last);
    model.applied = Math.min(model.applied, last);
    model.texts.length = last;
  });

const fillDisk = (room: number, texts: readonly string[]): Command =>
  command(`fill disk to ${room}`, async (model, subject) => {
    const { log, fileSystem, test } = subject;
    await subject.written();
    const used = fileSystem.paths().reduce((sum, path) => sum + fileSystem.bytes(path).length, 0);
    fileSystem.capacityBytes = used + room;
    const drops = test.listener.drops.length;
    for (const text of texts) appendText(log, text);
    await subject.written();
    fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
    if (test.listener.drops.length === drops) expect(log.lastSeq).toBe(model.texts.length + texts.length);
    model.texts.push(...texts.slice(0, log.lastSeq - model.texts.length));
  });

/** Lets the log get some way into what it has to do, so that a crash meets it there. */
const drift = (steps: number): Command =>
  command(`drift ${steps}`, async () => {
    await new Promise((resolve) => setImmediate(resolve));
    for (let i = 0; i < steps; i++) await Promise.resolve();
  });

const compare = command("compare", expectEqual);

const reopen = command("close and open", async (model, subject) => {
  await subject.log.close();
  await subject.open();
  expect(subject.log.recovery).toMatchObject({ cleanShutdown: true, tornBytes: 0, syncedSeq: model.texts.length });
  expect(subject.log.recovery.appliedSeq).toBe(model.applied);
  model.synced = model.texts.length;
  await expectEqual(model, subject);
});

const kill = command("kill", async (model, subject) => {
  const { log } = subject;
  const { writtenSeq, syncedSeq } = log;
  await subject.abandon(subject.fileSystem.copy());
  const { recovery } = subject.log;
  // Every write() that had returned is there; a write in flight may be too, or be torn.
  expect(recovery.records).toBeGreaterThanOrEqual(writtenSeq);
  expect(recovery.syncedSeq).toBeLessThanOrEqual(Math.max(syncedSeq, recovery.records));
  model.texts.length = recovery.records;
  model.synced = recovery.records;
  model.applied = recovery.appliedSeq;
  await expectEqual(model, subject);
});

const cutPower = (seed: number, keepsSize: boolean, names: number): Command =>
  command(`cut power ${seed} ${keepsSize} ${names}`, async (model, subject) => {
    const random = new SeededRandom(seed);
    const syncedSeq = Math.max(model.synced, subject.log.syncedSeq);
    const image = subject.fileSystem.crash({
      sector: (_path, _sector, versions) => random.bytes(1)[0]! % (versions + 1),
      keepsSize: () => keepsSize,
      names: (changes) => Math.floor(names * changes),
    });
    await subject.abandon(image);
    const { recovery } = subject.log;
    expect(recovery.records).toBeGreaterThanOrEqual(syncedSeq);
    expect(recovery.appliedSeq).toBeLessThanOrEqual(Math.min(model.applied, recovery.records));
    model.texts.length = recovery.records;
    model.synced = recovery.records;
    model.applied = recovery.appliedSeq;
    await expectEqual(model, subject);
  });

const texts = fc.array(fc.string({ maxLength: 120 }), { minLength: 1, maxLength: 8 });
const share = fc.double({ min: 0, max: 1, noNaN: true });
const commands = fc.commands(
  [
    texts.map(append),
    texts.map(append),
    fc.constant(write),
    fc.constant(flush),
    share.map(apply),
    fc.integer({ min: 1, max: 300 }).map(wait),
    fc.tuple(share, fc.boolean()).map(([share, save]) => cut(share, save)),
    fc.tuple(fc.nat(400), texts).map(([room, texts]) => fillDisk(room, texts)),
    fc.nat(40).map(drift),
    fc.constant(compare),
    fc.constant(reopen),
    fc.constant(kill),
    fc.tuple(fc.nat(), fc.boolean(), share).map(([seed, keepsSize, names]) => cutPower(seed, keepsSize, names)),
  ],
  { maxCommands: 60, size: "+1" },
);

test.each<Durability>(["always", "interval", "os"])(
  "a log equals a plain array, whatever befalls it: %s",
  async (durability) => {
    await fc.assert(
      fc.asyncProperty(commands, fc.boolean(), async (commands, atOnce) => {
        const subject = new Subject(durability, atOnce);
        await subject.open();
        const model: Model = { texts: [], synced: 0, applied: 0 };
        await fc.asyncModelRun(() => ({ model, real: subject }), commands);
        await expectEqual(model, subject);
        expect(subject.test.listener.failures).toEqual([]);
        await subject.log.close();
      }),
      { numRuns: Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 100) },
    );
  },
);
