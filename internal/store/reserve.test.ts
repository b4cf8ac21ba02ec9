import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Store } from "./store.js";
import { beginSoleMastership, bytes, openStore, text } from "./testing/stores.js";

const RESERVE_BYTES = 64 * 1024;

async function soleMaster(fileSystem: MemoryFileSystem, clock = new FakeClock()): Promise<Store> {
  const store = await openStore({ fileSystem, clock, segmentBytesMax: 1 << 20, reserveBytes: RESERVE_BYTES });
  await beginSoleMastership(store);
  await until(() => reserved(fileSystem) > 0);
  return store;
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let turn = 0; !isTrue() && turn < 10_000; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(isTrue()).toBe(true);
}

const reserved = (fileSystem: MemoryFileSystem): number =>
  fileSystem.paths().includes("reserve") ? fileSystem.bytes("reserve").length : 0;

const usedBytes = (fileSystem: MemoryFileSystem): number =>
  fileSystem.paths().reduce((sum, path) => sum + fileSystem.bytes(path).length, 0);

const set = (store: Store, key: string, length = 2000): Promise<unknown> =>
  store.write([{ kind: "set", key: bytes(key), value: bytes("x".repeat(length)) }]);
const remove = (store: Store, key: string): Promise<unknown> => store.write([{ kind: "delete", key: bytes(key) }]);

/** Fills the disk, what is preallocated included, until not even a deletion has room. */
async function fill(store: Store, fileSystem: MemoryFileSystem): Promise<void> {
  fileSystem.capacityBytes = usedBytes(fileSystem);
  for (const length of [2000, 1]) {
    const refused = async (): Promise<unknown> =>
      set(store, "filler", length).then(
        () => undefined,
        (error: unknown) => error,
      );
    let error = await refused();
    while (error === undefined) error = await refused();
    expect(error).toMatchObject({ code: "disk_full" });
  }
}

describe("on a full disk", () => {
  test("keys can be deleted, while nothing that grows is taken", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster(fileSystem);
    await Promise.all(Array.from({ length: 20 }, (_, i) => set(store, `key-${i}`, 10)));
    await fill(store, fileSystem);
    const deletions = Array.from({ length: 20 }, (_, i) => remove(store, `key-${i}`));
    await Promise.all(deletions);
    for (let i = 0; i < 20; i++) expect(store.get(bytes(`key-${i}`))).toBeUndefined();
    await expect(set(store, "more")).rejects.toMatchObject({ code: "disk_full" });
    await expect(store.produce([bytes("x".repeat(2000))])).rejects.toMatchObject({ code: "disk_full" });
    await store.close();
  });

  test("what was made before is remembered, also while what is kept back is lent", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster(fileSystem);
    const commands = [{ kind: "set", key: bytes("key"), value: bytes("x".repeat(10)) }] as const;
    const [record] = [bytes("x".repeat(10))];
    const as = (clientSeq: number) => ({ retry: { clientId: "me", clientSeq } });
    const first = await store.write(commands, as(1));
    const produced = await store.produce([record], as(2));
    await fill(store, fileSystem);
    const held = reserved(fileSystem);
    const deletions = Promise.all([remove(store, "key"), remove(store, "filler")]);
    await until(() => reserved(fileSystem) < held);
    const repeats = Promise.all([store.write(commands, as(1)), store.produce([record], as(2))]);
    const fresh = store.write(commands, as(3));
    await expect(fresh).rejects.toMatchObject({ code: "disk_full" });
    expect(await repeats).toEqual([
      { ...first, repeated: true },
      { ...produced, repeated: true },
    ]);
    await deletions;
    await store.close();
  });

  test("the record log can be truncated", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await soleMaster(fileSystem);
    await store.produce([bytes("1"), bytes("2")]);
    await fill(store, fileSystem);
    await store.truncateRecords(1);
    expect(store.recordRange()).toEqual({ start: 1, end: 2 });
    await store.close();
  });

  test("a start works, many times, and has everything", async () => {
    const fileSystem = new MemoryFileSystem();
    let store = await soleMaster(fileSystem);
    await set(store, "key", 10);
    await fill(store, fileSystem);
    for (let left = fileSystem, i = 0; i < 10; i++) {
      const { capacityBytes } = left;
      left = left.copy();
      left.capacityBytes = capacityBytes;
      store = await soleMaster(left);
      expect(text(store.get(bytes("key"))!.value)).toBe("x".repeat(10));
      await expect(set(store, "more", 100_000)).rejects.toMatchObject({ code: "disk_full" });
    }
    await store.close();
  });
});

test("what was used of the reserve is kept back again once there is room", async () => {
  const fileSystem = new MemoryFileSystem();
  const clock = new FakeClock();
  const store = await soleMaster(fileSystem, clock);
  expect(reserved(fileSystem)).toBe(RESERVE_BYTES);
  await set(store, "key", 10);
  await fill(store, fileSystem);
  await remove(store, "key");
  await until(() => reserved(fileSystem) > 0 && clock.pendingTimers > 0);
  expect(reserved(fileSystem)).toBeLessThan(RESERVE_BYTES);
  fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
  await set(store, "more");
  await until(() => {
    clock.advance(1000);
    return reserved(fileSystem) === RESERVE_BYTES;
  });
  await store.close();
});
