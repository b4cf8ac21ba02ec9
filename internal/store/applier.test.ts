/** What the loop that applies records does while the state is loaded. */
import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { epoch, epochMs, ORIGIN, type Seq, seq } from "../base/position.js";
import { MapEngine } from "../engine/map-engine.js";
import { encodeRecord, RECORD_HEADER_BYTES } from "../wal/record.js";
import { Applier, type RecordSource } from "./applier.js";
import { encodeChanges } from "./change.js";
import { Proposals } from "./proposals.js";
import { bytes } from "./testing/stores.js";

/** An engine whose keys take several turns to be put into order. */
class SlowEngine extends MapEngine {
  stepsLeft = 0;
  onOrdering: (() => void) | undefined;
  /** Some of the steps are done, and not the last. */
  get isOrdering(): boolean {
    return this.stepsLeft === 1 || this.stepsLeft === 2;
  }

  override clear(): void {
    expect(this.isOrdering, "cleared while keys are put into their order").toBe(false);
    super.clear();
  }

  /** Operations that were carried out by themselves. */
  single = 0;

  override apply(...operation: Parameters<MapEngine["apply"]>): void {
    this.single++;
    super.apply(...operation);
  }

  override applyPuts(...puts: Parameters<MapEngine["applyPuts"]>): void {
    const { single } = this;
    super.applyPuts(...puts);
    this.single = single;
  }

  override beginLoad(): void {
    super.beginLoad();
    this.stepsLeft = 3;
  }

  override endLoad(): boolean {
    if (this.stepsLeft === 0) return super.endLoad();
    this.onOrdering?.();
    this.stepsLeft--;
    return true;
  }
}

/** Records with one put each, all of them on the disk, or all of them in memory. */
function records(count: number, isInMemory: boolean): RecordSource {
  const all: Buffer[] = [];
  let chain = 0;
  for (let n = 1; n <= count; n++) {
    const change = { kind: "put", key: bytes(`key-${n}`), value: bytes("value"), previousSeq: seq(0) } as const;
    const payload = encodeChanges([change]);
    const record = Buffer.alloc(RECORD_HEADER_BYTES + payload.length);
    const head = { seq: seq(n), epoch: epoch(1), timestampMs: epochMs(n) };
    chain = encodeRecord(record, 0, head, chain, payload);
    all.push(record);
  }
  const after = (from: Seq): Buffer => Buffer.concat(all.slice(from));
  return {
    readTail: (afterSeq) => (isInMemory ? after(afterSeq) : undefined),
    read: (afterSeq) => Promise.resolve(after(afterSeq)),
    visit: async (afterSeq, _upToSeq, _bytesMax, show) => {
      await Promise.resolve();
      show(after(afterSeq));
    },
  };
}

function applierOn(engine: SlowEngine, onExpected: () => void = () => undefined): Applier {
  return new Applier({
    engine,
    proposals: new Proposals(),
    clock: new FakeClock(),
    restore: async () => {
      engine.clear();
      engine.beginLoad();
      await Promise.resolve();
      return ORIGIN;
    },
    onApplied: () => undefined,
    onMembersChanged: () => undefined,
    onSettingsChanged: () => undefined,
    onExpected,
    onSettled: () => undefined,
    applyRecords: () => undefined,
    onFailed: (error) => {
      throw error;
    },
  });
}

for (const isInMemory of [false, true]) {
  const where = isInMemory ? "in memory" : "on the disk";
  test(`what is committed while keys are put into their order is applied afterwards, when its records are ${where}`, async () => {
    const engine = new SlowEngine();
    const applier = applierOn(engine);
    await applier.attach(records(10, isInMemory));
    applier.commit(seq(4));
    await applier.settled();
    expect(applier.applied.seq).toBe(4);
    const ended = applier.endLoad();
    while (engine.stepsLeft > 1) await new Promise((resolve) => setImmediate(resolve));
    applier.commit(seq(7));
    expect(applier.applied.seq).toBe(4);
    await ended;
    await applier.settled();
    expect([applier.applied.seq, engine.stepsLeft, engine.entryCount]).toEqual([7, 0, 7]);
    applier.commit(seq(9));
    await applier.settled();
    expect(applier.applied.seq).toBe(9);
  });
}

test("a load that is to end early ends before all is applied that is committed, and the rest is applied then", async () => {
  const engine = new SlowEngine();
  const applier = applierOn(engine);
  await applier.attach(records(10, false));
  applier.commit(seq(10));
  const ended = applier.endLoadEarly();
  const ordering = new Promise<number>((resolve) => {
    engine.onOrdering = () => resolve(applier.applied.seq);
  });
  expect(await ordering).toBe(0);
  await ended;
  expect(engine.stepsLeft).toBe(0);
  await applier.settled();
  expect([applier.applied.seq, engine.entryCount]).toEqual([10, 10]);
  await applier.endLoadEarly();
});

test("nothing counts as settled while a load ends early, since what is committed is applied after it", async () => {
  for (const isInMemory of [false, true]) {
    const engine = new SlowEngine();
    const applier = applierOn(engine);
    await applier.attach(records(10, isInMemory));
    applier.commit(seq(4));
    const ended = applier.endLoadEarly();
    const settled = applier.settled();
    applier.commit(seq(10));
    await settled;
    expect([applier.applied.seq, engine.entryCount, engine.stepsLeft]).toEqual([10, 10, 0]);
    await ended;
  }
});

test("a cut that comes while keys are put into their order waits until they are", async () => {
  const engine = new SlowEngine();
  const applier = applierOn(engine);
  await applier.attach(records(10, true));
  applier.commit(seq(7));
  await applier.settled();
  const ended = applier.endLoadEarly();
  while (!engine.isOrdering) await new Promise((resolve) => setImmediate(resolve));
  const cut = applier.cutAfter({ epoch: epoch(1), seq: seq(4) });
  await applier.endLoadEarly();
  await Promise.all([ended, cut]);
  expect([applier.applied.seq, engine.entryCount, engine.stepsLeft]).toEqual([4, 4, 0]);
});

test("a load that the end of the store interrupts is not said to have ended", async () => {
  const engine = new SlowEngine();
  const applier = applierOn(engine);
  await applier.attach(records(10, true));
  const ended = applier.endLoadEarly();
  applier.stop(new Error("the end"));
  await expect(ended).rejects.toThrow("the end");
});

test("records whose chain value is not that of their bytes are not applied", async () => {
  const engine = new SlowEngine();
  const source = records(3, false);
  let failure: Error | undefined;
  const applier = new Applier({
    engine,
    proposals: new Proposals(),
    clock: new FakeClock(),
    restore: () => Promise.resolve(ORIGIN),
    onApplied: () => undefined,
    onMembersChanged: () => undefined,
    onSettingsChanged: () => undefined,
    onExpected: () => undefined,
    onSettled: () => undefined,
    applyRecords: () => undefined,
    onFailed: (error) => (failure = error),
  });
  await applier.attach({
    ...source,
    visit: (afterSeq, upToSeq, bytesMax, show) =>
      source.visit(afterSeq, upToSeq, bytesMax, (found) => {
        found[found.length - 1]! ^= 1;
        show(found);
      }),
  });
  applier.commit(seq(3));
  await applier.settled();
  expect(failure?.message).toMatch(/not a run of records.*expected chain/);
  expect(applier.applied.seq).toBe(2);
});

test("a state that is to be compared is compared at exactly its seq, and what comes before it is applied many at a time", async () => {
  const engine = new SlowEngine();
  const compared: number[] = [];
  const applier = applierOn(engine, () => compared.push(applier.applied.seq, engine.entryCount));
  await applier.attach(records(10, true));
  await applier.endLoad();
  applier.expect({ seq: seq(8), checksum: 7 });
  applier.commit(seq(10));
  await applier.settled();
  expect(compared).toEqual([8, 8]);
  expect([applier.applied.seq, engine.entryCount, engine.single]).toEqual([10, 10, 1]);
});
