import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Store } from "./store.js";
import { beginSoleMastership, bytes, openStore, seq } from "./testing/stores.js";

const VALUE_BYTES = 1000;

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

interface Subject {
  readonly store: Store;
  readonly clock: FakeClock;
  readonly fileSystem: MemoryFileSystem;
}

async function soleMaster(logBytes: number): Promise<Subject> {
  const clock = new FakeClock();
  const fileSystem = new MemoryFileSystem();
  const store = await openStore({ fileSystem, clock, snapshots: { intervalMs: 0, logBytes, keep: 1 } });
  await beginSoleMastership(store);
  return { store, clock, fileSystem };
}

async function overwrite({ store }: Subject, keys: number): Promise<void> {
  const value = bytes("x".repeat(VALUE_BYTES));
  for (let key = 0; key < keys; key++) await store.write([{ kind: "set", key: bytes(`key-${key}`), value }]);
}

const snapshots = async ({ fileSystem }: Subject): Promise<string[]> => fileSystem.list("snapshots");

describe("after a second without writes", () => {
  test("a snapshot is taken when the log has grown by less than would be enough at any time", async () => {
    const subject = await soleMaster(64 * 1024);
    await overwrite(subject, 20);
    subject.clock.advance(500);
    await turns(50);
    expect(await snapshots(subject)).toEqual([]);
    // Writes go on, and the wait begins anew.
    await overwrite(subject, 1);
    subject.clock.advance(999);
    await turns(50);
    expect(await snapshots(subject)).toEqual([]);
    subject.clock.advance(1);
    await turns(50);
    expect(await snapshots(subject)).toHaveLength(1);
    expect(subject.store.status().walBytes).toBeLessThan(VALUE_BYTES);
    await subject.store.close();
  });

  test("none is taken when it has grown by little, or by less than a quarter of the last one", async () => {
    const subject = await soleMaster(64 * 1024);
    await overwrite(subject, 10);
    subject.clock.advance(10_000);
    await turns(50);
    expect(await snapshots(subject)).toEqual([]);
    await overwrite(subject, 200);
    subject.clock.advance(10_000);
    await turns(50);
    const [first] = await snapshots(subject);
    await overwrite(subject, 30);
    subject.clock.advance(10_000);
    await turns(50);
    expect(await snapshots(subject)).toEqual([first]);
    await subject.store.close();
  });

  test("one is taken when most of what the last one holds has been deleted, however few bytes of log that took", async () => {
    const subject = await soleMaster(64 * 1024);
    await overwrite(subject, 100);
    subject.clock.advance(10_000);
    await turns(50);
    const [first] = await snapshots(subject);
    for (let key = 0; key < 40; key++) await subject.store.write([{ kind: "delete", key: bytes(`key-${key}`) }]);
    subject.clock.advance(10_000);
    await turns(50);
    expect(await snapshots(subject)).toEqual([first]);
    for (let key = 40; key < 60; key++) await subject.store.write([{ kind: "delete", key: bytes(`key-${key}`) }]);
    subject.clock.advance(10_000);
    await turns(50);
    expect(await snapshots(subject)).not.toEqual([first]);
    expect(await snapshots(subject)).toHaveLength(1);
    await subject.store.close();
  });

  test("none is taken where growth alone takes none", async () => {
    const subject = await soleMaster(Infinity);
    await overwrite(subject, 200);
    subject.clock.advance(10_000);
    await turns(50);
    expect(await snapshots(subject)).toEqual([]);
    await subject.store.close();
  });
});

test("a snapshot that is asked for while the log is cut waits for that, and is of what is left", async () => {
  const clock = new FakeClock();
  const fileSystem = new MemoryFileSystem();
  const store = await openStore({ fileSystem, clock, snapshots: { intervalMs: 60_000, logBytes: Infinity, keep: 1 } });
  await beginSoleMastership(store);
  for (let i = 0; i < 9; i++) await store.write([{ kind: "set", key: bytes(`key-${i}`), value: bytes("v") }]);
  store.endMastership();
  const rename = fileSystem.holdNext("rename");
  const cut = store.cutAfter(seq(5));
  await rename.reached;
  const taken = store.createSnapshot();
  clock.advance(60_000);
  await turns(20);
  rename.release();
  await cut;
  expect((await taken).end).toMatchObject({ to: 5, entries: 4 });
  await store.close();
});
