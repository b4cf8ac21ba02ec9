/** How a replica applies much at once: in slices, and others have their turns between them. */
import { expect, test } from "vitest";
import { applied, beginMastership, bytes, joinReplica, openStore, push, seq } from "./testing/stores.js";
import { SlabEngine } from "../engine/slab-engine.js";
import type { Store } from "./store.js";

const EVERYTHING = { start: bytes(""), limit: 1000, maxBytes: 1 << 20, keysOnly: true };

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A replica that keeps so many records, a megabyte of them where nothing is said, and knows of none that it is committed. */
async function replicaWithMuch({ count = 1000, valueBytes = 1000 } = {}): Promise<{
  readonly master: Store;
  readonly replica: Store;
}> {
  const master = await openStore();
  await beginMastership(master);
  const value = new Uint8Array(valueBytes);
  const writes = Array.from({ length: count }, (_, i) =>
    master.write([{ kind: "set", key: bytes(`key ${i}`), value }]),
  );
  await Promise.all(writes);
  const replica = await joinReplica(master);
  await push(master, replica);
  return { master, replica };
}

test("a megabyte of committed records is applied in several turns of the event loop, and all of it", async () => {
  const { master, replica } = await replicaWithMuch();
  replica.commit(replica.last.seq);
  const seen = new Set([replica.appliedSeq]);
  while (replica.appliedSeq < replica.last.seq) {
    await turn();
    seen.add(replica.appliedSeq);
  }
  expect(seen.size).toBeGreaterThanOrEqual(4);
  await replica.markCaughtUp();
  expect(replica.status().keys).toBe(1000);
  await replica.close();
  await master.close();
});

test("what is committed on the very tick at which the last slice is applied is applied too", async () => {
  const { master, replica } = await replicaWithMuch();
  const { last } = replica;
  replica.listen({
    applied: (at) => {
      if (at === last.seq - 1) queueMicrotask(() => replica.commit(last.seq));
    },
  });
  replica.commit(seq(last.seq - 1));
  await applied(replica, last.seq);
  expect(replica.appliedSeq).toBe(last.seq);
  await replica.close();
  await master.close();
});

test("nothing more is applied once the store is closed", async () => {
  const { master, replica } = await replicaWithMuch();
  replica.commit(replica.last.seq);
  const { appliedSeq } = replica;
  expect(appliedSeq).toBeLessThan(replica.last.seq);
  await replica.close();
  await turn();
  expect(replica.appliedSeq).toBe(appliedSeq);
  await master.close();
});

test("while more is committed in each turn than is applied, less is applied in it, and all of it in the end", async () => {
  const { master, replica } = await replicaWithMuch({ count: 40_000, valueBytes: 10 });
  const { last } = replica;
  let committed = 30_000;
  replica.commit(seq(committed));
  const sizes = { busy: [] as number[], quiet: [] as number[] };
  while (replica.appliedSeq < last.seq) {
    const isBusy = committed < 30_010;
    if (isBusy) replica.commit(seq(++committed));
    else if (committed < last.seq) replica.commit(seq((committed = last.seq)));
    const before = replica.appliedSeq;
    await turn();
    sizes[isBusy ? "busy" : "quiet"].push(replica.appliedSeq - before);
  }
  expect(Math.max(...sizes.busy.slice(1))).toBeLessThan(1000);
  expect(Math.max(...sizes.quiet)).toBeGreaterThan(1500);
  await replica.markCaughtUp();
  expect(replica.status().keys).toBe(40_000);
  await replica.close();
  await master.close();
});

/** Counts what is done to put keys into their order. */
class CountingEngine extends SlabEngine {
  steps = 0;

  override endLoad(): boolean {
    this.steps++;
    return super.endLoad();
  }
}

test("a replica puts its keys into their order once it has caught up, and not before, whatever it is sent meanwhile", async () => {
  const master = await openStore();
  await beginMastership(master);
  const write = async (from: number, to: number): Promise<void> => {
    const keys = Array.from({ length: to - from }, (_, i) =>
      bytes(`key ${String(((from + i) * 7) % 1000).padStart(3, "0")}`),
    );
    await Promise.all(keys.map((key) => master.write([{ kind: "set", key, value: key }])));
  };
  await write(0, 300);
  const engine = new CountingEngine();
  const replica = await joinReplica(master, { engine });
  await push(master, replica);
  replica.commit(replica.last.seq);
  await applied(replica, replica.last.seq);
  expect(engine.steps).toBe(0);
  expect(() => replica.scan(EVERYTHING)).toThrow(expect.objectContaining({ code: "not_ready" }));

  const caughtUp = replica.markCaughtUp();
  await write(300, 600);
  await push(master, replica);
  replica.commit(replica.last.seq);
  await caughtUp;
  await applied(replica, replica.last.seq);
  expect(engine.steps).toBeGreaterThan(0);
  await write(600, 700);
  await push(master, replica);
  replica.commit(replica.last.seq);
  await applied(replica, replica.last.seq);
  const keys = (store: Store): string[] =>
    [...store.scan(EVERYTHING).entries].map(({ key }) => Buffer.from(key).toString());
  expect(keys(replica)).toEqual(keys(master));
  expect(keys(replica)).toHaveLength(700);
  await replica.close();
  await master.close();
});
