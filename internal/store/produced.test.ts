import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Store } from "./store.js";
import { beginSoleMastership, bytes, openStore, text } from "./testing/stores.js";

async function soleMaster(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore({ segmentBytesMax: 4096, ...options });
  await beginSoleMastership(store);
  return store;
}

async function all(store: Store, from = 0): Promise<string[]> {
  const found: string[] = [];
  for (let offset = from; ;) {
    const { records } = await store.consume(offset, 1 << 20, 100);
    if (records.length === 0) return found;
    for (const record of records) {
      expect(record.offset).toBe(offset++);
      found.push(text(record.record));
    }
  }
}

async function produceMany(store: Store, count: number, from = 0): Promise<string[]> {
  const produced = Array.from({ length: count }, (_, i) => `record-${from + i}-${"x".repeat(50)}`);
  for (const record of produced) await store.produce([bytes(record)]);
  return produced;
}

describe("the record log of a store", () => {
  test("gives dense offsets, also to what is in flight, and can be consumed at once", async () => {
    const store = await soleMaster();
    const receipts = await Promise.all([
      store.produce([bytes("a")]),
      store.produce([bytes("b"), bytes("c")]),
      store.produce([bytes("d")]),
    ]);
    expect(receipts.map((receipt) => receipt.firstOffset)).toEqual([0, 1, 3]);
    expect(await all(store)).toEqual(["a", "b", "c", "d"]);
    expect(store.recordRange()).toEqual({ start: 0, end: 4 });
    await store.close();
  });

  test("outlives the compaction of the log, a restart, and both together", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem });
    const first = await produceMany(store, 100);
    await store.createSnapshot();
    expect(store.compactSeq).toBeGreaterThan(90);
    const second = await produceMany(store, 20, 100);
    await store.close();
    const again = await soleMaster({ fileSystem });
    expect(await all(again)).toEqual([...first, ...second]);
    expect((await again.produce([bytes("next")])).firstOffset).toBe(120);
    await again.close();
  });

  test("is whole after a power cut that lost what it had not synced", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem });
    const first = await produceMany(store, 50);
    await store.createSnapshot();
    const second = await produceMany(store, 50, 50);
    const remains = fileSystem.crash();
    await store.close();
    const again = await soleMaster({ fileSystem: remains });
    expect(await all(again)).toEqual([...first, ...second]);
    await again.close();
  });

  test("truncated below an offset begins there, for good", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem });
    const produced = await produceMany(store, 100);
    await store.truncateRecords(60);
    expect(store.recordRange()).toEqual({ start: 60, end: 100 });
    await expect(store.consume(59, 1 << 20, 10)).rejects.toMatchObject({
      code: "offset_out_of_range",
      offsets: { start: 60, end: 100 },
    });
    await expect(store.truncateRecords(101)).rejects.toMatchObject({ code: "offset_out_of_range" });
    expect(await all(store, 60)).toEqual(produced.slice(60));
    const remains = fileSystem.crash();
    await store.close();
    // The snapshotless log brings everything again, and the truncation with it.
    const again = await soleMaster({ fileSystem: remains });
    expect(again.recordRange()).toEqual({ start: 60, end: 100 });
    expect(await all(again, 60)).toEqual(produced.slice(60));
    await again.close();
  });

  test("leaves the disk once it is truncated and a snapshot no longer relies on it", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem });
    await produceMany(store, 200);
    const bytesOf = (): number =>
      fileSystem
        .paths()
        .filter((path) => path.startsWith("records/"))
        .reduce((sum, path) => sum + fileSystem.bytes(path).length, 0);
    // The record log writes in its own turn of the event loop, which a store in memory does not leave it by itself.
    await new Promise((resolve) => setImmediate(resolve));
    const before = bytesOf();
    expect(before).toBeGreaterThan(20_000);
    await store.truncateRecords(200);
    expect(bytesOf()).toBeGreaterThan(before / 2);
    await store.createSnapshot();
    expect(bytesOf()).toBeLessThan(before / 4);
    // A power cut right after must find what the snapshot relies on.
    const remains = fileSystem.crash();
    await store.close();
    const again = await soleMaster({ fileSystem: remains });
    expect(again.recordRange()).toEqual({ start: 200, end: 200 });
    expect((await again.produce([bytes("next")])).firstOffset).toBe(200);
    await again.close();
  });

  test("is waited for, up to the time given", async () => {
    const clock = new FakeClock();
    const store = await soleMaster({ clock });
    const { signal } = new AbortController();
    const waiting = store.nextProduced(0, 10_000, signal);
    await store.produce([bytes("a")]);
    await waiting;
    expect(store.recordRange().end).toBe(1);
    await store.close();
  });

  test("whose end a snapshot relies on, and that lost it, stops the start", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster({ fileSystem });
    await produceMany(store, 20);
    await store.createSnapshot();
    await store.close();
    for (const name of await fileSystem.list("records")) await fileSystem.remove(`records/${name}`);
    await expect(openStore({ fileSystem, segmentBytesMax: 4096 })).rejects.toThrow("the record log ends at offset 0");
  });
});
