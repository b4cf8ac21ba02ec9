import { describe, expect, onTestFinished, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { SlabEngine } from "../engine/slab-engine.js";
import { restOf, type ScanPage, type ScanRequest, type Store } from "./store.js";
import { beginSoleMastership, bytes, openStore, text } from "./testing/stores.js";

const all = { start: bytes(""), limit: 100, maxBytes: 1 << 20, keysOnly: false };

async function open(): Promise<Store> {
  const store = await openStore();
  onTestFinished(() => store.close());
  return store;
}

async function openWith(keys: readonly string[], clock = new FakeClock()): Promise<Store> {
  const store = await openStore({ clock });
  onTestFinished(() => store.close());
  await beginSoleMastership(store);
  await store.write(keys.map((key) => ({ kind: "set", key: bytes(key), value: bytes("v") })));
  return store;
}

/** Resolves when all that could go on without the clock has. */
function drained(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test("a scan sees what is committed, at the read point of its tick", async () => {
  const store = await open();
  await beginSoleMastership(store);
  await store.write([{ kind: "set", key: bytes("b"), value: bytes("2") }]);
  await store.write([{ kind: "set", key: bytes("a"), value: bytes("1") }]);
  const inFlight = store.write([{ kind: "set", key: bytes("c"), value: bytes("3") }]);
  const page = store.scan(all);
  expect(page.entries.map(({ key, value }) => text(key) + text(value))).toEqual(["a1", "b2"]);
  expect(page.next).toBeUndefined();
  expect(page.point).toEqual(store.readPoint());
  await inFlight;
  expect(store.scan(all).entries).toHaveLength(3);
});

test("a page ends where its entries are enough, and says which key is next", async () => {
  const store = await open();
  await beginSoleMastership(store);
  await store.write(["a", "b", "c"].map((key) => ({ kind: "set", key: bytes(key), value: new Uint8Array(100) })));
  const keysOf = (request: Partial<typeof all>): [string, string | undefined] => {
    const { entries, next } = store.scan({ ...all, ...request });
    return [entries.map(({ key }) => text(key)).join(""), next && text(next)];
  };
  expect(keysOf({ limit: 2 })).toEqual(["ab", "c"]);
  expect(keysOf({ limit: 3 })).toEqual(["abc", undefined]);
  expect(keysOf({ maxBytes: 2 * (1 + 100 + 64) })).toEqual(["ab", "c"]);
  expect(keysOf({ maxBytes: 2 * (1 + 100 + 64) - 1 })).toEqual(["a", "b"]);
  expect(keysOf({ maxBytes: 3 * (1 + 64), keysOnly: true })).toEqual(["abc", undefined]);
  // A page gets on, however little room it has.
  expect(keysOf({ maxBytes: -1 })).toEqual(["a", "b"]);
});

test("a node that has never caught up lists nothing", async () => {
  const store = await open();
  expect(() => store.scan(all)).toThrow(expect.objectContaining({ code: "not_ready" }));
});

describe("a scan downwards", () => {
  test("shows the same keys from the last to the first, page by page", async () => {
    const store = await openWith(["a", "b", "c", "d", "e"]);
    const pagesOf = (request: Partial<ScanRequest>): string[] => {
      const found: string[] = [];
      for (let rest: ScanRequest | undefined = { ...all, reverse: true, ...request }; rest;) {
        const page = store.scan(rest);
        found.push(page.entries.map(({ key }) => text(key)).join(""));
        rest = restOf(rest, page);
      }
      return found;
    };
    expect(pagesOf({})).toEqual(["edcba"]);
    expect(pagesOf({ limit: 2 })).toEqual(["ed", "cb", "a"]);
    expect(pagesOf({ limit: 1, start: bytes("b"), end: bytes("d") })).toEqual(["c", "b"]);
    expect(pagesOf({ limit: 2, start: bytes("b"), end: bytes("d") })).toEqual(["cb"]);
    expect(pagesOf({ maxBytes: -1, start: bytes("d") })).toEqual(["e", "d"]);
    expect(pagesOf({ limit: 2, reverse: false })).toEqual(["ab", "cd", "e"]);
  });
});

test.each([false, true])(
  "a page passes over only so many keys that it does not show (reverse: %s)",
  async (reverse) => {
    const clock = new FakeClock();
    const engine = new SlabEngine();
    const store = await openStore({ clock, engine });
    onTestFinished(() => store.close());
    await beginSoleMastership(store);
    const names = Array.from({ length: 25_000 }, (_, i) => String(i).padStart(5, "0"));
    for (let at = 0; at < names.length; at += 1000) {
      const keys = names.slice(at, at + 1000).filter((name) => name !== "12345");
      await store.write(keys.map((key) => ({ kind: "set", key: bytes(key), value: bytes("v"), ttlMs: 1000 })));
    }
    await store.write([{ kind: "set", key: bytes("12345"), value: bytes("v") }]);
    expect(store.scan({ ...all, reverse, limit: 10_000 }).entries).toHaveLength(10_000);
    // They are overdue, and removed by records that come on later ticks.
    clock.advance(1000);
    const counts: number[] = [];
    const found: string[] = [];
    for (let rest: ScanRequest | undefined = { ...all, reverse, limit: 5 }; rest;) {
      const page = store.scan(rest);
      found.push(...page.entries.map(({ key }) => text(key)));
      counts.push(page.entries.length);
      rest = restOf(rest, page);
    }
    expect([found, counts]).toEqual([["12345"], [0, 0, 1, 0, 0]]);
  },
);

test("pages come one a turn, each made of what it shows on its own tick", async () => {
  const clock = new FakeClock();
  const store = await openWith(["a", "b", "c", "d", "e"], clock);
  const read = (page: ScanPage): string => page.entries.map(({ key, value }) => text(key) + text(value)).join(" ");
  const { signal } = new AbortController();
  const pages = store.scanPages({ ...all, limit: 2 }, read, signal);
  expect((await pages.next()).value).toBe("av bv");
  await store.write([{ kind: "set", key: bytes("c"), value: bytes("later") }]);
  const second = pages.next();
  await drained();
  expect(clock.pendingTimers).toBeGreaterThan(0);
  clock.advance(0);
  expect((await second).value).toBe("clater dv");
  const third = pages.next();
  await drained();
  clock.advance(0);
  expect((await third).value).toBe("ev");
  expect((await pages.next()).done).toBe(true);
});

test("pages that come one after another are small, whatever was asked for", async () => {
  const clock = new FakeClock();
  const store = await openWith(
    Array.from({ length: 4500 }, (_, i) => String(i).padStart(5, "0")),
    clock,
  );
  const { signal } = new AbortController();
  const pages = store.scanPages({ ...all, limit: 10_000 }, ({ entries }) => entries.length, signal);
  const counts: number[] = [];
  for (let next = pages.next(); ; next = pages.next()) {
    await drained();
    clock.advance(0);
    const page = await next;
    if (page.done) break;
    counts.push(page.value);
  }
  expect(counts).toEqual([2000, 2000, 500]);
});

test("pages end when nobody wants them any more", async () => {
  const store = await openWith(["a", "b", "c"]);
  const controller = new AbortController();
  const pages = store.scanPages({ ...all, limit: 1 }, () => undefined, controller.signal);
  await pages.next();
  const next = pages.next();
  await drained();
  controller.abort(new Error("enough"));
  await expect(next).rejects.toThrow("enough");
});

test("keys are counted in turns, none of which looks at more than some thousands", async () => {
  const clock = new FakeClock();
  const store = await openStore({ clock, engine: new SlabEngine() });
  onTestFinished(() => store.close());
  await beginSoleMastership(store);
  const names = Array.from({ length: 12_000 }, (_, i) => `key-${String(i).padStart(5, "0")}`);
  for (let at = 0; at < names.length; at += 1000) {
    await store.write(names.slice(at, at + 1000).map((key) => ({ kind: "set", key: bytes(key), value: bytes("v") })));
  }
  const { signal } = new AbortController();
  const counting = store.count({ start: bytes("") }, undefined, signal);
  await drained();
  // The first five thousand are counted, and the last that are counted later.
  await store.write([{ kind: "delete", key: bytes("key-00001") }]);
  await store.write([{ kind: "delete", key: bytes("key-11999") }]);
  clock.advance(0);
  await drained();
  clock.advance(0);
  const { count, point } = await counting;
  expect([count, point.position]).toEqual([11_999, store.readPoint().position]);
  expect((await store.count({ start: bytes("key-1"), end: bytes("key-10010") }, undefined, signal)).count).toBe(10);
  expect((await store.count({ start: bytes("") }, bytes("key-11990"), signal)).count).toBe(9);
  await expect(store.count({ start: bytes("") }, undefined, AbortSignal.abort(new Error("no")))).rejects.toThrow("no");
});

test("a node without an order of keys neither lists nor counts", async () => {
  const store = await openStore({ engine: new SlabEngine({ isOrdered: false }) });
  onTestFinished(() => store.close());
  await beginSoleMastership(store);
  expect(() => store.scan(all)).toThrow(expect.objectContaining({ code: "not_ordered" }));
  await expect(store.count(all, undefined, new AbortController().signal)).rejects.toMatchObject({
    code: "not_ordered",
  });
});
