import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { seq } from "../base/position.js";
import type { Store } from "../store/store.js";
import { beginSoleMastership, bytes, openStore, text } from "../store/testing/stores.js";
import { AHEAD_MS_MAX, PROGRESS_MS, UNATTENDED_MS_MAX, WatchHub } from "./watch-hub.js";
import { QUEUE_BYTES_MAX } from "./watch-state.js";
import type { Watch, WatchBatch, WatchRequest } from "./watch-types.js";

const { signal } = new AbortController();

interface Bench {
  readonly clock: FakeClock;
  readonly store: Store;
  readonly hub: WatchHub;
  readonly open: (request?: Partial<WatchRequest>) => Watch;
  readonly set: (key: string, value?: string | Uint8Array) => Promise<void>;
  readonly quiet: () => Promise<void>;
}

async function bench(
  options: { watchesMax?: number; segmentBytesMax?: number; heldBytesMax?: number } = {},
): Promise<Bench> {
  const { watchesMax = 20_000, segmentBytesMax = 1 << 20, heldBytesMax } = options;
  const clock = new FakeClock();
  const store = await openStore({ clock, segmentBytesMax, pendingBytesMax: 1 << 26 });
  await beginSoleMastership(store);
  const hub = new WatchHub({ store, clock, limits: { watchesMax }, ...(heldBytesMax && { heldBytesMax }) });
  return {
    clock,
    store,
    hub,
    open: (request = {}) => hub.open({ after: "now", signal, ...request }),
    set: async (key, value = "") => {
      await store.write([{ kind: "set", key: bytes(key), value: typeof value === "string" ? bytes(value) : value }]);
    },
    quiet: async () => {
      for (let i = 0; i < 10; i++) {
        await new Promise((resolve) => setImmediate(resolve));
        clock.advance(0);
      }
    },
  };
}

/** Takes what comes, into `batches`, until it ends. */
function reader(watch: Watch): { readonly batches: WatchBatch[]; readonly done: Promise<unknown> } {
  const batches: WatchBatch[] = [];
  const read = async (): Promise<unknown> => {
    try {
      for await (const batch of watch) batches.push(batch);
      return undefined;
    } catch (error) {
      return error;
    }
  };
  return { batches, done: read() };
}

const keysOf = (batches: readonly WatchBatch[]): string[] =>
  batches.flatMap(({ events }) => events.map(({ key }) => text(key)));

test("a watch says at once where it begins, then tells of what is written", async () => {
  const { store, open, set, quiet } = await bench();
  const { batches } = reader(open());
  await quiet();
  expect(batches).toMatchObject([{ events: [], position: store.readPoint().position, token: store.readPoint().token }]);
  await set("a");
  await set("b");
  await quiet();
  expect(keysOf(batches)).toEqual(["a", "b"]);
  expect(batches.at(-1)).toMatchObject({ position: store.readPoint().position, token: store.readPoint().token });
});

test("watches that ask for the same are given the same object", async () => {
  const { open, set, quiet } = await bench();
  const same = [0, 1, 2].map(() => reader(open({ filter: { key: bytes("a") }, keysOnly: true })));
  const other = reader(open({ filter: { key: bytes("a") } }));
  const previous = [0, 1].map(() => reader(open({ wantPrevious: true })));
  await quiet();
  await set("a", "1");
  await set("a", "2");
  await quiet();
  const [first, ...rest] = same.map(({ batches }) => batches.filter(({ events }) => events.length > 0));
  expect(first!.flatMap(({ events }) => events.map(({ value }) => text(value)))).toEqual(["", ""]);
  for (const batches of rest) batches.forEach((batch, i) => expect(batch).toBe(first![i]));
  expect(other.batches.flatMap(({ events }) => events.map(({ value }) => text(value)))).toEqual(["1", "2"]);
  const [one, two] = previous.map(({ batches }) => batches.filter(({ events }) => events.length > 0));
  one!.forEach((batch, i) => expect(batch).toBe(two![i]));
  expect(one!.flatMap(({ events }) => events.map((event) => event.previous && text(event.previous)))).toEqual([
    undefined,
    "1",
  ]);
});

test("where nothing happens, watches are told how far the log was read", async () => {
  const { clock, store, open, set, quiet } = await bench();
  const idle = [0, 1].map(() => reader(open({ filter: { key: bytes("mine") } })));
  await quiet();
  await set("other");
  await quiet();
  expect(idle[0]!.batches).toHaveLength(1);
  clock.advance(PROGRESS_MS);
  await quiet();
  expect(idle[0]!.batches).toHaveLength(2);
  expect(idle[0]!.batches[1]).toMatchObject({ events: [], ...placeOf(store) });
  expect(idle[1]!.batches[1]).toBe(idle[0]!.batches[1]);
});

test("one that reads nothing holds a bounded part of what it missed, and reads the rest from the log", async () => {
  const { hub, open, set, quiet } = await bench();
  const watch = open();
  await watch.next();
  const waiting = watch.next();
  await quiet();
  const value = new Uint8Array(100_000);
  await set("0", value);
  const first = await waiting;
  const wanted: string[] = [];
  let mostBytes = 0;
  for (let i = 1; i <= 40; i++) {
    await set(`${i}`, value);
    wanted.push(`${i}`);
    await quiet();
    mostBytes = Math.max(mostBytes, hub.queuedBytes);
  }
  expect(keysOf([first.value!])).toEqual(["0"]);
  expect(mostBytes).toBeGreaterThan(QUEUE_BYTES_MAX / 2);
  expect(mostBytes).toBeLessThanOrEqual(QUEUE_BYTES_MAX);
  // What was more than that is forgotten, not kept for later.
  expect(hub.queuedBytes).toBeLessThan(QUEUE_BYTES_MAX / 2);
  const { batches } = reader(watch);
  await quiet();
  expect(keysOf(batches)).toEqual(wanted);
});

test("one that takes nothing for a minute, while there is something, ends and says where to go on", async () => {
  const { clock, hub, open, set, quiet } = await bench();
  const lazy = open();
  const first = await lazy.next();
  const behind = open({ after: { seq: seq(0) } });
  await behind.next();
  clock.advance(2 * UNATTENDED_MS_MAX);
  expect(hub.count).toBe(1);
  await expect(behind.next()).rejects.toMatchObject({ code: "too_slow", resume: { seq: 0 } });
  await set("a");
  await quiet();
  clock.advance(2 * UNATTENDED_MS_MAX);
  expect(hub.count).toBe(0);
  const { position, token } = first.value!;
  await expect(lazy.next()).rejects.toMatchObject({ code: "too_slow", resume: { seq: position.seq, token } });
  expect(await lazy.next()).toEqual({ done: true, value: undefined });
  const again = reader(open({ after: { token: token! } }));
  await quiet();
  expect(keysOf(again.batches)).toEqual(["a"]);
});

test("one that waits is never too slow, however long nothing happens", async () => {
  const { clock, open, set, quiet } = await bench();
  const { batches } = reader(open());
  for (let i = 0; i < 50; i++) {
    clock.advance(PROGRESS_MS);
    await quiet();
  }
  await set("a");
  await quiet();
  expect(keysOf(batches)).toEqual(["a"]);
});

test("a place ahead of what is applied is waited for, but not for ever", async () => {
  const { clock, store, open, set, quiet } = await bench();
  const { seq: now } = store.readPoint().position;
  const soon = reader(open({ after: { seq: seq(now + 1) } }));
  const never = reader(open({ after: { seq: seq(now + 100) } }));
  await quiet();
  await set("a");
  await set("b");
  await quiet();
  expect(keysOf(soon.batches)).toEqual(["b"]);
  clock.advance(AHEAD_MS_MAX);
  expect(await never.done).toMatchObject({ code: "out_of_range", range: { compactSeq: 0, appliedSeq: now + 2 } });
  expect(never.batches).toEqual([]);
});

test("what compaction has taken is out of range, when a watch begins and when it comes back for it", async () => {
  const { clock, store, open, set, quiet } = await bench({ segmentBytesMax: 60_000 });
  const late = open({ after: { seq: seq(0) } });
  await late.next();
  for (let i = 0; i < 20; i++) await set("a", new Uint8Array(20_000));
  await store.createSnapshot();
  await quiet();
  const { compactSeq } = store;
  expect(compactSeq).toBeGreaterThan(0);
  expect(() => open({ after: { seq: seq(compactSeq - 1) } })).toThrow(
    expect.objectContaining({ code: "out_of_range", range: { compactSeq, appliedSeq: store.appliedSeq } }) as Error,
  );
  await expect(late.next()).rejects.toMatchObject({ code: "out_of_range", range: { compactSeq } });
  clock.advance(0);
});

test("no more watches than the limit are open, and each that ends makes room", async () => {
  const { hub, open } = await bench({ watchesMax: 2 });
  const one = open();
  const controller = new AbortController();
  const two = open({ signal: controller.signal });
  expect(() => open()).toThrow(expect.objectContaining({ code: "too_many", watchesMax: 2 }) as Error);
  await one.return?.();
  expect(await one.next()).toEqual({ done: true, value: undefined });
  open();
  await two.next();
  const waiting = two.next();
  controller.abort();
  expect(await waiting).toEqual({ done: true, value: undefined });
  expect(hub.count).toBe(1);
});

test("a node that closes ends its watches, and says where to go on", async () => {
  const { store, hub, open, quiet } = await bench();
  const { batches, done } = reader(open());
  await quiet();
  const { position, token } = batches[0]!;
  await store.close();
  expect(await done).toMatchObject({ code: "ended", resume: { seq: position.seq, token } });
  await hub.close();
  expect(() => open()).toThrow(expect.objectContaining({ code: "ended" }) as Error);
});

test("a record larger than a batch goes through several, and only the last of them has a token", async () => {
  const { store, open, set, quiet } = await bench();
  for (const wantPrevious of [false, true]) {
    const { batches } = reader(open(wantPrevious ? { wantPrevious } : {}));
    await quiet();
    const value = new Uint8Array(100_000);
    const commands = ["a", "b", "c", "d", "e"].map((key) => ({ kind: "set" as const, key: bytes(key), value }));
    await store.write(commands);
    await set("f");
    await quiet();
    expect(keysOf(batches)).toEqual(["a", "b", "c", "d", "e", "f"]);
    const ofRecord = batches.filter(({ events }) => events.some(({ key }) => text(key) !== "f"));
    expect(ofRecord.map(({ more }) => more === true)).toEqual([...ofRecord.slice(1).map(() => true), false]);
    expect(ofRecord.map(({ token }) => token === undefined)).toEqual([...ofRecord.slice(1).map(() => true), false]);
    expect(ofRecord.length).toBe(wantPrevious ? 5 : 3);
  }
});

test("ten thousand watches of one key are told a hundred at a turn", async () => {
  const { clock, open, set } = await bench();
  const watches = Array.from({ length: 10_000 }, () => open({ filter: { key: bytes("a") } }));
  await Promise.all(watches.map((watch) => watch.next()));
  let told = 0;
  const waiting = watches.map((watch) => watch.next().then(() => told++));
  for (let i = 0; i < 300; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(0);
  }
  expect(told).toBe(0);
  await set("a");
  let most = 0;
  for (let before = told; told < watches.length; before = told) {
    await new Promise((resolve) => setImmediate(resolve));
    most = Math.max(most, told - before);
    clock.advance(0);
  }
  await Promise.all(waiting);
  expect(most).toBeLessThanOrEqual(200);
});

function placeOf(store: Store): Pick<WatchBatch, "position" | "token"> {
  const { position, token } = store.readPoint();
  return { position, token };
}

test("a record that many ranges share is told by turns, whole, and those who come meanwhile get all of it too", async () => {
  const { clock, store, hub, open, quiet } = await bench();
  const readers = Array.from({ length: 300 }, (_, i) =>
    reader(open({ filter: { range: { start: bytes(`k${String(i).padStart(4, "0")}`) } } })),
  );
  await quiet();
  const keys = Array.from({ length: 100 }, (_, i) => `z${String(i).padStart(3, "0")}`);
  await store.write(keys.map((key) => ({ kind: "set", key: bytes(key), value: bytes("1") })));
  for (let i = 0; i < 20; i++) await Promise.resolve();
  // Nobody has it yet: what they share is far more than one turn's work.
  expect(readers.flatMap(({ batches }) => keysOf(batches))).toEqual([]);
  const late = reader(open({ after: { seq: seq(1) } }));
  for (let i = 0; i < 30; i++) await quiet();
  for (const { batches } of readers) expect(keysOf(batches)).toEqual(keys);
  expect(keysOf(late.batches)).toEqual(keys);
  await hub.close();
  clock.advance(0);
});

test("watches that nobody reads hold no more than is allowed to all of them, and lose nothing by that", async () => {
  const heldBytesMax = 100_000;
  const { hub, open, set, quiet } = await bench({ heldBytesMax });
  const watches = Array.from({ length: 40 }, (_, i) => open({ filter: { range: { start: bytes(`a${i}`) } } }));
  for (const watch of watches) await watch.next();
  // Each asks once more, and then not: it is live, and has been given something.
  const second = watches.map((watch) => watch.next());
  await quiet();
  const keys = Array.from({ length: 60 }, (_, i) => `z${String(i).padStart(2, "0")}`);
  for (const key of keys) {
    await set(key, "x".repeat(500));
    await quiet();
    expect(hub.held.bytes).toBeLessThan(heldBytesMax + 40 * 1000);
  }
  for (const [i, watch] of watches.entries()) {
    const first = await second[i]!;
    const rest = reader(watch);
    for (let turn = 0; turn < 20; turn++) await quiet();
    expect([...keysOf([first.value!]), ...keysOf(rest.batches)]).toEqual(keys);
  }
  await hub.close();
  expect(hub.held.bytes).toBe(0);
});
