/** Deletions of ranges: whole for every reader at once, and carried out a portion a turn. */
import { describe, expect, onTestFinished, test } from "vitest";
import { FakeClock, type Timer } from "../base/clock.js";
import { epochMs } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import { MapEngine } from "../engine/map-engine.js";
import { SlabEngine } from "../engine/slab-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Change } from "./change.js";
import { HiddenRemoval } from "./hidden-removal.js";
import { restOf, type ScanRequest, type Store } from "./store.js";
import { appendChanges } from "./testing/pushed.js";
import { applied, beginMastership, bytes, joinReplica, kept, openStore, push, seq, text } from "./testing/stores.js";

const at = epochMs(1000);
const KEYS = 5000;
const nameOf = (i: number): string => `${i % 2 === 0 ? "even" : "odd"}/${String(i).padStart(7, "0")}`;
const put = (key: string, value = "v"): Change => ({
  kind: "put",
  key: bytes(key),
  value: bytes(value),
  previousSeq: seq(0),
});
const deleteRange = (start: string, end?: string): Change => ({
  kind: "delete-range",
  start: bytes(start),
  ...(end !== undefined && { end: bytes(end) }),
});
const page = { start: bytes(""), limit: 10_000, maxBytes: 1 << 24, keysOnly: true };

/** One turn of the event loop a millisecond, as timers of machines have it. */
class TurnClock extends FakeClock {
  override after(delayMs: number, fire: () => void): Timer {
    return super.after(Math.max(1, delayMs), fire);
  }

  turn(): void {
    this.advance(1);
  }
}

interface Node {
  readonly store: Store;
  readonly clock: TurnClock;
  readonly engine: Engine;
  readonly fileSystem: MemoryFileSystem;
}

/** A replica that holds the keys, and a deletion of ranges may be pushed to. */
async function follow(master: Store, engine: Engine = new SlabEngine()): Promise<Node> {
  const [clock, fileSystem] = [new TurnClock(), new MemoryFileSystem()];
  const store = await joinReplica(master, { clock, fileSystem, engine, segmentBytesMax: 1 << 16 });
  onTestFinished(() => store.close());
  await push(master, store);
  await apply(
    store,
    Array.from({ length: KEYS }, (_, i) => [put(nameOf(i))]),
  );
  await store.markCaughtUp();
  return { store, clock, engine, fileSystem };
}

async function openMaster(): Promise<Store> {
  const store = await openStore();
  onTestFinished(() => store.close());
  await beginMastership(store);
  return store;
}

async function apply(store: Store, records: readonly (readonly Change[])[]): Promise<void> {
  appendChanges(store, records);
  await commitAll(store);
}

async function commitAll(store: Store): Promise<void> {
  await kept(store, store.last.seq);
  store.commit(store.last.seq);
  await applied(store, store.last.seq);
}

/** Gives the removal one turn after another until it is done; how many it took. */
function settle({ clock, engine }: Node): number {
  let turns = 0;
  for (; !engine.isSettled; turns++) clock.turn();
  return turns;
}

/** Of all pages, which are read on one tick. */
function namesOf(store: Store, reverse = false): string[] {
  const names: string[] = [];
  for (let rest: ScanRequest | undefined = { ...page, reverse }; rest;) {
    const found = store.scan(rest);
    names.push(...found.entries.map(({ key }) => text(key)));
    rest = restOf(rest, found);
  }
  return names;
}

describe("the removal of what is hidden", () => {
  test("takes a turn for each thousand keys, and ends", () => {
    const [clock, engine] = [new TurnClock(), new SlabEngine()];
    const entries = 200_000;
    for (let i = 0; i < entries; i++) {
      engine.apply(seq(i + 1), at, { kind: "put", key: bytes(nameOf(i)), value: bytes("v") });
    }
    let settled = 0;
    const removal = new HiddenRemoval({ engine, clock, onSettled: () => settled++ });
    removal.look();
    expect([clock.pendingTimers, settled]).toEqual([0, 0]);
    engine.apply(seq(entries + 1), at, { kind: "delete-range", start: bytes("") });
    let turns = 0;
    for (let before = engine.entryCount; before > 0; before = engine.entryCount, turns++) {
      // More that is applied meanwhile asks again, and does not make a turn longer.
      removal.look();
      removal.look();
      expect(clock.pendingTimers).toBe(1);
      clock.turn();
      expect(before - engine.entryCount).toBeLessThanOrEqual(1500);
    }
    expect(turns).toBeLessThanOrEqual(201);
    expect([settled, engine.isSettled, clock.pendingTimers]).toEqual([1, true, 0]);
  });

  test("is done with the records where little is hidden, and stops when it is told to", () => {
    const [clock, engine] = [new TurnClock(), new SlabEngine()];
    let settled = 0;
    const removal = new HiddenRemoval({ engine, clock, onSettled: () => settled++ });
    for (const [count, isDone] of [
      [400, true],
      [2000, false],
    ] as const) {
      for (let i = 0; i < count; i++) {
        engine.apply(seq(i + 1), at, { kind: "put", key: bytes(nameOf(i)), value: bytes("v") });
      }
      engine.apply(seq(count + 1), at, { kind: "delete-range", start: bytes("") });
      removal.look();
      expect([settled, engine.isSettled, clock.pendingTimers]).toEqual([1, isDone, isDone ? 0 : 1]);
    }
    removal.stop();
    clock.advance(1000);
    expect(engine.isSettled).toBe(false);
  });
});

describe("a deletion of a range", () => {
  test("is seen as a whole by every reader at once, and so is what is written meanwhile", async () => {
    const node = await follow(await openMaster());
    const { store, clock, engine } = node;
    await apply(store, [[deleteRange("even/", "even0")]]);
    expect(engine.isSettled).toBe(false);
    const odd = Array.from({ length: KEYS }, (_, i) => nameOf(i)).filter((name) => name.startsWith("odd"));
    for (let turn = 0; turn < 2; turn++) {
      expect(namesOf(store)).toEqual(odd);
      expect(namesOf(store, true)).toEqual(odd.toReversed());
      expect(store.get(bytes("even/0000004"))).toBeUndefined();
      expect(store.stateCheck()).toBeUndefined();
      clock.turn();
    }
    await apply(store, [[put("even/0000004", "anew")], [deleteRange("odd/")]]);
    expect(engine.isSettled).toBe(false);
    expect(namesOf(store)).toEqual(["even/0000004"]);
    expect(store.get(bytes("even/0000004"))?.createSeq).toBe(store.appliedSeq - 1);
    settle(node);
    expect([namesOf(store), store.status().keys]).toEqual([["even/0000004"], 1]);
  });

  test("leaves the same everywhere, whatever was written while it was carried out", async () => {
    const master = await openMaster();
    const nodes = [await follow(master), await follow(master), await follow(master, new MapEngine())];
    const records: Change[][] = [];
    for (let i = 0; i < 40; i++) {
      records.push([put(nameOf(i * 7)), put(nameOf(i * 100 + 1), `value ${i}`)]);
      records.push([i % 3 === 0 ? deleteRange(nameOf(i * 50), nameOf(i * 50 + 2000)) : put(nameOf(i * 50 + 10))]);
    }
    for (const [n, node] of nodes.entries()) {
      for (const [i, record] of records.entries()) {
        await apply(node.store, [record]);
        if (i % (n + 2) === 0) node.clock.turn();
      }
      settle(node);
    }
    const [first, ...others] = nodes.map(({ store }) => store.stateCheck());
    expect(first).toBeDefined();
    expect(others).toEqual([first, first]);
  });

  test("hides nothing that a snapshot would show, and a node that starts with one goes on", async () => {
    const master = await openMaster();
    const node = await follow(master);
    const { store, engine, fileSystem } = node;
    await apply(store, [[deleteRange("even/")], [put("even/0000004", "anew")]]);
    expect(engine.isSettled).toBe(false);
    await store.createSnapshot();
    await apply(store, [[deleteRange("even/0000002", "odd/0000100")], [put("x")]]);
    await kept(store, store.last.seq);
    const killed = await openStore({
      fileSystem: fileSystem.copy(),
      engine: new MapEngine(),
      initialRole: "replica",
      segmentBytesMax: 1 << 16,
    });
    await commitAll(killed);
    expect(namesOf(killed)).toEqual(["x"]);
    settle(node);
    expect(killed.stateCheck()).toEqual(store.stateCheck());
    await killed.close();
  });

  test("is forgotten where history is cut before it", async () => {
    const master = await openMaster();
    const node = await follow(master);
    const { store, engine, clock } = node;
    const before = store.stateCheck();
    await apply(store, [[deleteRange("")]]);
    expect(engine.isSettled).toBe(false);
    await kept(store, store.last.seq);
    await store.cutAfter(seq(store.last.seq - 1));
    expect(engine.isSettled).toBe(true);
    expect(namesOf(store)).toHaveLength(KEYS);
    clock.turn();
    expect(store.stateCheck()).toEqual(before);
    await apply(store, [[deleteRange("odd/")]]);
    settle(node);
    expect(store.status().keys).toBe(KEYS / 2);
  });

  test("waits no longer for its turns once the store closes", async () => {
    const { store, engine, clock } = await follow(await openMaster());
    await apply(store, [[deleteRange("")]]);
    await store.close();
    const { entryCount } = engine;
    clock.advance(1000);
    expect([engine.isSettled, engine.entryCount]).toEqual([false, entryCount]);
  });

  test("lets no state be compared before it is carried out, and then that of the seq that it is", async () => {
    const node = await follow(await openMaster());
    const { store } = node;
    const told: string[] = [];
    store.listen({ stateDiffers: (detail) => told.push(detail) });
    appendChanges(store, [[deleteRange("")]]);
    store.expectState({ seq: store.last.seq, checksum: 7 });
    await commitAll(store);
    store.expectState({ seq: store.last.seq, checksum: 7 });
    expect(told).toEqual([]);
    settle(node);
    store.expectState({ seq: store.appliedSeq, checksum: 7 });
    expect(told).toHaveLength(1);
  });

  test("is compared at its very seq where it is small", async () => {
    const { store } = await follow(await openMaster());
    const told: string[] = [];
    store.listen({ stateDiffers: (detail) => told.push(detail) });
    appendChanges(store, [[deleteRange("even/0000000", "even/0000200")], [put("x")]]);
    store.expectState({ seq: seq(store.last.seq - 1), checksum: 7 });
    await commitAll(store);
    expect(told).toHaveLength(1);
  });

  test("is counted by no backup, which waits until it is carried out", async () => {
    const node = await follow(await openMaster());
    const { store } = node;
    await apply(store, [[deleteRange("even/", "even0")]]);
    const pieces: Uint8Array[] = [];
    const read = (async () => {
      for await (const piece of store.backup().bytes) pieces.push(piece);
    })();
    while (!node.engine.isSettled) {
      await new Promise((resolve) => setImmediate(resolve));
      node.clock.turn();
    }
    await read;
    const { loadBackup } = await import("./restore.js");
    const engine = new SlabEngine();
    await loadBackup({ engine, read: () => pieces } as unknown as Parameters<typeof loadBackup>[0]);
    expect([engine.isSettled, engine.entryCount]).toEqual([true, KEYS / 2]);
  });

  test("makes room under a limit by itself: nothing else is evicted for what it has not removed yet", async () => {
    const node = await follow(await openMaster());
    const { store, engine } = node;
    const limits = { entriesMax: 4000, bytesMax: 0, policy: "lru" as const };
    await apply(store, [[deleteRange("even/", "even0")]]);
    await beginMastership(store, {
      changes: [{ kind: "settings", settings: { commit: "master", voters: "master", limits } }],
    });
    const write = (): Promise<unknown> => store.write([{ kind: "set", key: bytes("new"), value: bytes("v") }]);
    expect(engine.entryCount).toBeGreaterThan(4000);
    await expect(write()).rejects.toMatchObject({ code: "overloaded" });
    settle(node);
    await write();
    expect(store.status().keys).toBe(KEYS / 2 + 1);
  });
});
