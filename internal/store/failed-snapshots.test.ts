/** What a snapshot, or a cut of the log, leaves behind when the disk fails in the middle of it. */
import { expect, test } from "vitest";
import { seq } from "../base/position.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Store } from "./store.js";
import { beginSoleMastership, bytes, openStore, text } from "./testing/stores.js";

async function soleMaster(fileSystem: MemoryFileSystem): Promise<Store> {
  const store = await openStore({ fileSystem, segmentBytesMax: 4096 });
  await beginSoleMastership(store);
  return store;
}

async function set(store: Store, value: string): Promise<number> {
  const { position } = await store.write([{ kind: "set", key: bytes("key"), value: bytes(value) }]);
  return position.seq;
}

const read = (store: Store): string => text(store.get(bytes("key"))!.value);

test("an old snapshot that is gone when the sync of the directory fails stands in the way of no later one", async () => {
  const fileSystem = new MemoryFileSystem();
  const store = await soleMaster(fileSystem);
  await set(store, "1");
  await store.createSnapshot();
  await set(store, "2");
  fileSystem.failNext("syncDirectory", "EIO", { path: /^snapshots$/, after: 1 });
  await expect(store.createSnapshot()).rejects.toThrow("EIO");
  await set(store, "3");
  await store.createSnapshot();
  expect(await fileSystem.list("snapshots")).toHaveLength(1);
  await store.close();
});

test("a snapshot whose name could not be synced does not come back after the log is cut before it", async () => {
  const fileSystem = new MemoryFileSystem();
  const store = await soleMaster(fileSystem);
  const first = await set(store, "kept");
  await set(store, "cut");
  fileSystem.failNext("syncDirectory", "EIO", { path: /^snapshots$/ });
  await expect(store.createSnapshot()).rejects.toThrow("EIO");
  store.endMastership();
  await store.cutAfter(seq(first));
  await beginSoleMastership(store);
  for (let i = 0; i < 10; i++) await set(store, "other");
  await store.close();
  const again = await soleMaster(fileSystem.copy());
  expect(read(again)).toBe("other");
  await again.close();
});

test("a store whose state cannot be built anew after a cut fails for good instead of showing half of it", async () => {
  const fileSystem = new MemoryFileSystem();
  const store = await soleMaster(fileSystem);
  const first = await set(store, "kept");
  await store.createSnapshot();
  await set(store, "cut");
  const failures: Error[] = [];
  store.listen({ failed: (error) => failures.push(error) });
  store.endMastership();
  fileSystem.failNext("open", "EIO", { path: /^snapshots\// });
  await expect(store.cutAfter(seq(first))).rejects.toMatchObject({ code: "EIO" });
  expect(failures).toHaveLength(1);
  await store.close();
  const again = await soleMaster(fileSystem.copy());
  expect(read(again)).toBe("kept");
  await again.close();
});
