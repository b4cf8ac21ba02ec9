import { expect, onTestFinished, test } from "vitest";
import type { Store } from "./store.js";
import { beginSoleMastership, bytes, openStore, text } from "./testing/stores.js";

const all = { start: bytes(""), limit: 100, maxBytes: 1 << 20, keysOnly: false };

async function open(): Promise<Store> {
  const store = await openStore();
  onTestFinished(() => store.close());
  return store;
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
