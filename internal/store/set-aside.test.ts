/** A node whose data cannot be trusted begins anew with that of others, if others have it; what was there is kept aside. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import { MapEngine } from "../engine/map-engine.js";
import type { Durability } from "../wal/log.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { ClusterChange, Store, WriteCommand } from "./store.js";
import { FaultyFileSystem } from "./testing/faulty-file-system.js";
import {
  applied,
  beginMastership,
  bytes,
  joinReplica,
  openStore,
  push,
  seededRandom,
  seq,
  text,
} from "./testing/stores.js";

const set = (key: string, value = "v"): WriteCommand => ({ kind: "set", key: bytes(key), value: bytes(value) });
const MAJORITY: ClusterChange = { kind: "settings", settings: { commit: "majority", voters: "listed" } };
const SMALL = { segmentBytesMax: 4096 };

async function master(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore({ ...SMALL, ...options });
  await beginMastership(store);
  return store;
}

async function fill(store: Store): Promise<void> {
  for (let i = 0; i < 60; i++) {
    await store.write([set(`key-${i % 7}`, `${i}:${"x".repeat(50)}`)]);
    await store.produce([bytes("x".repeat(50))]);
  }
}

async function follow(from: Store, to: Store): Promise<void> {
  await push(from, to);
  to.commit(to.last.seq);
  await applied(to, to.last.seq);
}

/** The disk of a replica with segments of every kind, closed in order. */
async function replicaDisk(from: Store): Promise<MemoryFileSystem> {
  const disk = new MemoryFileSystem();
  const replica = await joinReplica(from, { ...SMALL, fileSystem: disk });
  await follow(from, replica);
  await replica.markCaughtUp();
  await replica.createSnapshot();
  await fill(from);
  await follow(from, replica);
  await replica.close();
  return disk;
}

/** Flips a bit in the midst of the first file of a directory. */
async function rot(disk: MemoryFileSystem, directory: string): Promise<string> {
  const name = (await disk.list(directory)).find((found) => !found.endsWith(".index"));
  const path = `${directory}/${name}`;
  const content = disk.bytes(path);
  content[Math.floor(content.length / 2)]! ^= 4;
  disk.setBytes(path, content);
  return path;
}

const data = (disk: MemoryFileSystem): string[] =>
  disk.paths().filter((path) => /^(wal|records|snapshots)\//.test(path) && !path.endsWith(".index"));

const asideOf = (disk: MemoryFileSystem): string[] => disk.paths().filter((path) => path.startsWith("set-aside-"));

describe("data that is set aside", () => {
  test("lies in a folder after the next start; the node is itself, empty, and must catch up", async () => {
    const store = await master();
    await fill(store);
    const disk = await replicaDisk(store);
    const replica = await openStore({ ...SMALL, fileSystem: disk });
    const self = [replica.nodeId, replica.clusterId, replica.promised];
    expect([replica.mustCatchUp, replica.status().setAside]).toEqual([false, ""]);
    await replica.setAside("its state differs");
    expect([replica.mustCatchUp, replica.caughtUp]).toEqual([true, false]);
    expect(() => replica.readPoint()).toThrow("its state differs");
    // Nothing that is still on its way makes it good again.
    await replica.markCaughtUp();
    expect(replica.mustCatchUp).toBe(true);
    await replica.close();
    const before = data(disk).map((path) => ({ path, content: disk.bytes(path) }));

    const anew = await openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
    expect([anew.nodeId, anew.clusterId, anew.promised]).toEqual(self);
    expect([anew.isEmpty, anew.mustCatchUp, anew.role, anew.status().ready]).toEqual([true, true, "replica", false]);
    const { setAside } = anew.status();
    expect(setAside).toMatch(new RegExp(`^set-aside-${anew.setAsideMs}`));
    for (const { path, content } of before) expect(disk.bytes(`${setAside}/${path}`).equals(content)).toBe(true);

    await follow(store, anew);
    await anew.markCaughtUp();
    expect([anew.mustCatchUp, anew.status().ready]).toEqual([false, true]);
    expect(anew.stateCheck()).toEqual(store.stateCheck());
    await anew.close();
    const later = await openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
    expect([later.mustCatchUp, later.status().setAside]).toEqual([false, setAside]);
    await later.close();
    for (const path of asideOf(disk)) await disk.remove(path);
    const cleaned = await openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
    expect(cleaned.status().setAside).toBe("");
    expect(cleaned.setAsideMs).toBeUndefined();
    await Promise.all([store.close(), cleaned.close()]);
  });

  test("twice in one millisecond lies in two folders", async () => {
    const store = await master();
    await fill(store);
    const disk = await replicaDisk(store);
    const folders = [];
    for (let i = 0; i < 2; i++) {
      const replica = await openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
      if (i === 1) await follow(store, replica);
      await replica.setAside("again");
      await replica.close();
      const anew = await openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
      folders.push(anew.status().setAside);
      await anew.close();
    }
    expect(folders).toEqual(["set-aside-1700000000000", "set-aside-1700000000000-2"]);
    await store.close();
  });

  test.each(["power", "kill"] as const)(
    "is all there, in one folder, wherever the %s ends the start that moves it",
    async (end) => {
      const store = await master();
      await fill(store);
      const source = await replicaDisk(store);
      const replica = await openStore({ ...SMALL, fileSystem: source });
      await replica.setAside("its state differs");
      await replica.close();
      const files = data(source);
      expect(files.length).toBeGreaterThan(8);
      for (let after = 0, ended = true; ended; after++) {
        ended = false;
        let disk = source.copy();
        const faulty = new FaultyFileSystem(disk);
        faulty.stopAt(after, () => {
          ended = true;
          disk =
            end === "kill"
              ? faulty.memory.copy()
              : faulty.memory.crash({ names: (changes) => (after * 7919) % (changes + 1) });
        });
        const first = openStore({ ...SMALL, fileSystem: faulty, engine: new MapEngine() });
        const opened = await first.catch(() => undefined);
        await opened?.close().catch(() => "its end came before");
        const anew = await openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
        expect([anew.isEmpty, anew.mustCatchUp]).toEqual([true, true]);
        const folder = anew.status().setAside;
        expect(asideOf(disk).filter((path) => !path.endsWith(".index"))).toEqual(
          files.map((path) => `${folder}/${path}`).sort(),
        );
        await anew.close();
      }
      await store.close();
    },
  );
});

describe("a start that finds damage", () => {
  const kinds = ["wal", "records", "snapshots"];

  test.each(kinds)("in %s sets it aside on a replica, says where, and waits for a master", async (directory) => {
    const store = await master();
    await fill(store);
    const disk = await replicaDisk(store);
    const path = await rot(disk, directory);
    const errors: string[] = [];
    const logger: Logger = {
      debug: () => undefined,
      info: () => undefined,
      warn: () => undefined,
      error: (message, fields) => errors.push(`${message} ${JSON.stringify(fields)}`),
    };
    const replica = await openStore({ ...SMALL, fileSystem: disk, logger });
    expect([replica.isEmpty, replica.mustCatchUp, replica.status().ready]).toEqual([true, true, false]);
    expect(disk.paths()).toContain(`${replica.status().setAside}/${path}`);
    expect(errors.join("\n")).toContain(replica.status().setAside);
    await follow(store, replica);
    await replica.markCaughtUp();
    expect(replica.stateCheck()).toEqual(store.stateCheck());
    await Promise.all([store.close(), replica.close()]);
  });

  test("does so where the record log is gone that a snapshot relies on, and where the log is", async () => {
    const store = await master();
    await fill(store);
    for (const directory of ["records", "wal"]) {
      const disk = await replicaDisk(store);
      for (const name of await disk.list(directory)) await disk.remove(`${directory}/${name}`);
      const replica = await openStore({ ...SMALL, fileSystem: disk });
      expect([replica.isEmpty, replica.mustCatchUp]).toEqual([true, true]);
      await replica.close();
    }
    await store.close();
  });

  test("does so where the state that a master sent has been damaged since it came", async () => {
    const store = await master();
    await fill(store);
    await store.createSnapshot();
    const disk = new MemoryFileSystem();
    const replica = await joinReplica(store, { fileSystem: disk });
    const transfer = await store.openTransfer(new AbortController().signal);
    await replica.stageTransfer(transfer.id, transfer.size);
    await replica.writeTransfer(0, await transfer.read(0, transfer.size));
    await replica.installTransfer();
    await replica.close();
    await rot(disk, "incoming");
    const anew = await openStore({ fileSystem: disk });
    expect([anew.isEmpty, anew.mustCatchUp, await disk.list("incoming")]).toEqual([true, true, []]);
    await Promise.all([store.close(), anew.close()]);
  });

  test.each(kinds)("in %s is refused by the master that alone has what it acknowledged", async (directory) => {
    const disk = new MemoryFileSystem();
    const store = await master({ fileSystem: disk });
    await fill(store);
    await store.createSnapshot();
    await fill(store);
    await store.close();
    await rot(disk, directory);
    const before = disk.paths();
    await expect(openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() })).rejects.toThrow(
      directory === "snapshots" ? "no snapshot of this node can be used" : "the log is damaged",
    );
    expect([disk.paths(), asideOf(disk)]).toEqual([before, []]);
  });

  test.each(kinds)("in %s makes a replica of a master whose writes a majority has", async (directory) => {
    const disk = new MemoryFileSystem();
    const store = await openStore({ ...SMALL, fileSystem: disk });
    await beginMastership(store, { changes: [MAJORITY] });
    await fill(store);
    await store.createSnapshot();
    await fill(store);
    await store.close();
    await rot(disk, directory);
    const anew = await openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
    expect([anew.isEmpty, anew.mustCatchUp, anew.role]).toEqual([true, true, "replica"]);
    await anew.close();
  });

  test.each<[string, boolean, (store: Store) => Promise<unknown>]>([
    [
      "is refused once it decides alone again",
      true,
      (store) => store.proposeSettings({ commit: "master", voters: "listed" }),
    ],
    [
      "is refused by one that has begun another mastership, until that is known to decide together",
      true,
      async (store) => {
        store.endMastership();
        await store.promise({ epoch: (store.promised.epoch + 1) as never, candidate: store.nodeId }, "master");
      },
    ],
    [
      "is not by one that decides together again",
      false,
      async (store) => {
        store.endMastership();
        await beginMastership(store);
      },
    ],
    [
      "is not by one that has stepped down",
      false,
      async (store) => {
        await store.proposeSettings({ commit: "master", voters: "listed" });
        store.endMastership();
        await store.saveRole("replica");
      },
    ],
  ])("of a master that decided together %s", async (_what, isRefused, act) => {
    const disk = new MemoryFileSystem();
    const store = await openStore({ ...SMALL, fileSystem: disk });
    await beginMastership(store, { changes: [MAJORITY] });
    await fill(store);
    await act(store);
    await store.close();
    await rot(disk, "wal");
    const opened = openStore({ ...SMALL, fileSystem: disk, engine: new MapEngine() });
    const outcome = await opened.then(
      async (anew) => {
        await anew.close();
        return "opened";
      },
      (error: unknown) => (error as { code?: string }).code,
    );
    expect(outcome).toBe(isRefused ? "corrupt" : "opened");
  });

  test("leaves it to the operator who asked for the end to be cut", async () => {
    const store = await master();
    await fill(store);
    const disk = await replicaDisk(store);
    await rot(disk, "snapshots");
    await expect(openStore({ ...SMALL, fileSystem: disk, recover: "truncate-tail" })).rejects.toThrow("no snapshot");
    expect(asideOf(disk)).toEqual([]);
    await store.close();
  });

  test("is none when the disk merely fails, and nothing is moved", async () => {
    const store = await master();
    await fill(store);
    const disk = await replicaDisk(store);
    disk.failNext("read", "EIO", { path: /^wal/ });
    await expect(openStore({ ...SMALL, fileSystem: disk })).rejects.toMatchObject({ code: "io" });
    expect(asideOf(disk)).toEqual([]);
    await store.close();
  });
});

describe("a boot of the machine", () => {
  async function outcome(options: {
    durability: Durability;
    nextDurability?: Durability;
    boots: [string | undefined, string | undefined];
    end: "close" | "kill";
  }): Promise<boolean> {
    const store = await master();
    await fill(store);
    const disk = new MemoryFileSystem();
    const [firstBoot, secondBoot] = options.boots;
    const { durability, nextDurability = durability } = options;
    const boot = (id: string | undefined): { bootId?: string } => (id === undefined ? {} : { bootId: id });
    const replica = await joinReplica(store, { fileSystem: disk, durability, ...boot(firstBoot) });
    await follow(store, replica);
    await replica.markCaughtUp();
    expect(replica.mustCatchUp).toBe(false);
    const killed = disk.copy();
    await replica.close();
    const found = options.end === "kill" ? killed : disk.crash();
    const again = await openStore({ fileSystem: found, durability: nextDurability, ...boot(secondBoot) });
    const { mustCatchUp } = again;
    // What is kept is served all the same.
    expect(again.caughtUp).toBe(true);
    const killedAgain = found.copy();
    await again.close();
    // It stays so over restarts of the process, until the node has caught up.
    const third = await openStore({ fileSystem: killedAgain, durability: nextDurability, ...boot(secondBoot) });
    if (secondBoot !== undefined) expect(third.mustCatchUp).toBe(mustCatchUp);
    await third.markCaughtUp();
    expect(third.mustCatchUp).toBe(false);
    await Promise.all([store.close(), third.close()]);
    return mustCatchUp;
  }

  test.each(["interval", "os"] as const)(
    "after which what was not synced may be gone, under %s, is noticed",
    async (durability) => {
      expect(await outcome({ durability, boots: ["one", "two"], end: "kill" })).toBe(true);
      expect(await outcome({ durability, nextDurability: "always", boots: ["one", "two"], end: "kill" })).toBe(true);
      // Where nobody knows, it may have been one.
      expect(await outcome({ durability, boots: ["one", undefined], end: "kill" })).toBe(true);
      expect(await outcome({ durability, boots: [undefined, "two"], end: "kill" })).toBe(true);
      expect(await outcome({ durability, boots: [undefined, undefined], end: "kill" })).toBe(true);
    },
  );

  test.each(["interval", "os"] as const)(
    "counts although the log ends with the mark of an orderly close, when a later run under %s left nothing on the disk",
    async (durability) => {
      const store = await master();
      await fill(store);
      const disk = new MemoryFileSystem();
      const replica = await joinReplica(store, { fileSystem: disk, durability, bootId: "one" });
      await follow(store, replica);
      await replica.markCaughtUp();
      await replica.close();
      const clock = new FakeClock();
      const again = await openStore({ fileSystem: disk, durability, clock, bootId: "one" });
      await store.write([set("late")]);
      await follow(store, again);
      const { last } = again;
      // Nothing of it is synced, since no time passes.
      const lost = disk.crash();
      await again.close();
      const third = await openStore({ fileSystem: lost, durability, bootId: "two" });
      expect(third.last.seq).toBeLessThan(last.seq);
      expect(third.mustCatchUp).toBe(true);
      await Promise.all([store.close(), third.close()]);
    },
  );

  test("takes nothing from a log that was closed in order, or synced always, nor does the end of the process alone", async () => {
    expect(await outcome({ durability: "interval", boots: ["one", "two"], end: "close" })).toBe(false);
    expect(await outcome({ durability: "os", boots: ["one", "two"], end: "close" })).toBe(false);
    expect(await outcome({ durability: "interval", boots: ["one", "one"], end: "kill" })).toBe(false);
    expect(await outcome({ durability: "always", boots: ["one", "two"], end: "kill" })).toBe(false);
    expect(
      await outcome({ durability: "always", nextDurability: "interval", boots: ["one", "two"], end: "kill" }),
    ).toBe(false);
  });
});

test("records that diverged are counted as long as their files are there", async () => {
  const disk = new MemoryFileSystem();
  const clock = new FakeClock();
  const store = await master();
  const replica = await joinReplica(store, { fileSystem: disk, clock });
  for (let i = 0; i < 5; i++) await store.write([set(`key-${i}`)]);
  await follow(store, replica);
  expect(replica.status().divergedRecords).toBe(0);
  await replica.cutAfter(seq(4));
  expect(replica.status().divergedRecords).toBe(2);
  clock.advance(1);
  await replica.cutAfter(seq(3));
  expect(replica.status().divergedRecords).toBe(3);
  await replica.close();
  const again = await openStore({ fileSystem: disk });
  expect(again.status().divergedRecords).toBe(3);
  await Promise.all([store.close(), again.close()]);
});

test("the status tells what is free on the disk, where the system does", async () => {
  const disk = new MemoryFileSystem();
  const store = await master({ fileSystem: disk });
  expect(store.status().diskFreeBytes).toBeUndefined();
  Object.assign(disk, { freeBytes: () => 12_345 });
  expect(store.status().diskFreeBytes).toBe(12_345);
  await store.close();
});

test("what a replica serves after it began anew is what the master has", async () => {
  const store = await master();
  await fill(store);
  const disk = await replicaDisk(store);
  await rot(disk, "wal");
  const replica = await openStore({ ...SMALL, fileSystem: disk, random: seededRandom(5) });
  await follow(store, replica);
  await replica.markCaughtUp();
  expect(text(replica.get(bytes("key-3"))!.value)).toBe(text(store.get(bytes("key-3"))!.value));
  await Promise.all([store.close(), replica.close()]);
});
