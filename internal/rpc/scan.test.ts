/** Scan as a caller sees it, over a real store in memory. */
import { toBinary } from "@bufbuild/protobuf";
import { ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore, type ScanResponse, ScanResponseSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { FakeClock } from "../base/clock.js";
import type { Store } from "../store/store.js";
import { beginSoleMastership, bytes, openStore } from "../store/testing/stores.js";
import { AcknowledgedWrites } from "./acknowledged.js";
import { JsonBytes, jsonOptionsWith } from "./json-bytes.js";
import { kvHandlers } from "./kv-handlers.js";
import { LargeAnswers } from "./large-answers.js";
import type { Limits } from "./limits.js";
import { ScanEncoder } from "./scan-encoder.js";
import { FakeWatches } from "./testing/fake-watches.js";
import { Turns } from "./turns.js";
import { WatchEncoder } from "./watch-encoder.js";

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const roomy: Limits = { keyBytesMax: 64, valueBytesMax: 1 << 20, messageBytesMax: 4 << 20 };

async function start(limits = roomy) {
  const clock = new FakeClock();
  const store = await openStore({ clock, pendingBytesMax: 64 << 20 });
  closers.push(() => store.close());
  await beginSoleMastership(store);
  const confirmed = (): Promise<never> => Promise.reject(new Error("nobody asks"));
  const replicator = {
    stalenessMs: () => 0,
    whenReplicated: () => Promise.resolve(),
    hasten: () => undefined,
    linearizableSeq: confirmed,
  };
  // Nothing is written, and nothing watched, in these tests.
  const transact = () => Promise.reject(new Error("no transactions here"));
  const jsonBytes = new JsonBytes();
  const json = { jsonBytes, jsonOptions: jsonOptionsWith(jsonBytes) };
  const handlers = kvHandlers({
    store: Object.assign(store, { transact }),
    watches: new FakeWatches(),
    encoder: new WatchEncoder(json),
    scanEncoder: new ScanEncoder(json),
    errors: { toConnectError: (error) => ConnectError.from(error) },
    clock,
    access: { checkRole: () => undefined, checkKeys: () => undefined },
    batchCounts: { add: () => undefined },
    replicator,
    limits,
    reads: { admit: () => undefined },
    large: new LargeAnswers({ turns: new Turns(2 ** 24), reads: { admit: () => undefined } }),
    writes: new AcknowledgedWrites({ replicator, clock, timeoutMs: 1000 }),
    forwarder: { hereOrForward: (_method, _request, _context, here) => here() },
  });
  const client = createClient(
    KVStore,
    createRouterTransport((router) => router.service(KVStore, handlers)),
  );
  return { clock, store, client };
}

type Client = Awaited<ReturnType<typeof start>>["client"];
type Request = Parameters<Client["scan"]>[0];

async function put(store: Store, keys: readonly string[], value = "v", ttlMs?: number): Promise<void> {
  await store.write(
    keys.map((key) => ({ kind: "set", key: bytes(key), value: bytes(value), ...(ttlMs !== undefined && { ttlMs }) })),
  );
}

async function pagesOf(client: Client, request: Request): Promise<ScanResponse[]> {
  const pages: ScanResponse[] = [];
  let pageToken: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  do {
    const page: ScanResponse = await client.scan({ ...request, pageToken });
    pages.push(page);
    pageToken = new Uint8Array(page.nextPageToken);
  } while (pageToken.length > 0);
  return pages;
}

async function streamOf(client: Client, scan: Request): Promise<ScanResponse[]> {
  const pages: ScanResponse[] = [];
  for await (const { page } of client.scanStream({ scan })) pages.push(page!);
  return pages;
}

const keysIn = (pages: readonly ScanResponse[]): string[] =>
  pages.flatMap(({ entries }) => entries.map(({ key }) => key));

describe("a scan", () => {
  test("gives entries with value, seqs, remaining time and size, and where it was read", async () => {
    const { store, client } = await start();
    await put(store, ["b"], "one");
    await put(store, ["a"], "four", 5000);
    await put(store, ["b"], "three");
    const { position, token } = store.readPoint();
    expect(await client.scan({})).toMatchObject({
      entries: [
        { key: "a", value: bytes("four"), createSeq: 3n, modSeq: 3n, ttlMs: 5000n, valueBytes: 4n },
        { key: "b", value: bytes("three"), createSeq: 2n, modSeq: 4n, valueBytes: 5n },
      ],
      nextPageToken: new Uint8Array(0),
      position: { epoch: BigInt(position.epoch), seq: BigInt(position.seq) },
      stalenessMs: 0n,
      token: new Uint8Array(token),
    });
  });

  test("leaves values out where only keys are asked for, and says how large they are", async () => {
    const { store, client } = await start();
    await put(store, ["a"], "four");
    const { entries } = await client.scan({ keysOnly: true });
    expect(entries).toMatchObject([{ key: "a", value: new Uint8Array(0), modSeq: 2n, valueBytes: 4n }]);
  });

  test("of a prefix ends with it, whatever its last byte", async () => {
    const { store, client } = await start();
    const keys = ["a", "a/", "a/1", "a0", "aé", "aéé", "aê", "a🌳", "a🌳x", "a🌴", "b", "\u007f", "\u007fx", "\u0080"];
    await put(store, keys);
    for (const prefix of ["a", "a/", "aé", "a🌳", "\u007f", "a🌳x", "zz"]) {
      const expected = keys.filter((key) => key.startsWith(prefix));
      expect(keysIn(await pagesOf(client, { prefix })).sort()).toEqual(expected.sort());
    }
  });

  test("of a range that is empty gives nothing", async () => {
    const { store, client } = await start();
    await put(store, ["a", "b"]);
    expect(keysIn(await pagesOf(client, { start: "a", end: "a" }))).toEqual([]);
    expect(keysIn(await pagesOf(client, { start: "c" }))).toEqual([]);
  });

  test("shows nothing overdue", async () => {
    const { clock, store, client } = await start();
    await put(store, ["a"], "v", 1000);
    await put(store, ["b"], "v", 1001);
    clock.advance(1000);
    expect((await client.scan({})).entries).toMatchObject([{ key: "b", ttlMs: 1n }]);
  });

  test("gives 1000 entries a page by default, more on request as far as one turn allows, and says where it goes on", async () => {
    const { store, client } = await start();
    for (let at = 0; at < 10_001; at += 1000) {
      await put(
        store,
        Array.from({ length: Math.min(1000, 10_001 - at) }, (_, i) => `key-${at + i}`),
        "",
      );
    }
    const { entries } = await client.scan({});
    expect(entries).toHaveLength(1000);
    const pages = await pagesOf(client, { limit: 10_000, keysOnly: true });
    expect(pages.map((page) => page.entries.length)).toEqual([4000, 4000, 2001]);
    // Exactly what is left makes the last page.
    expect(await pagesOf(client, { prefix: "key-1000", limit: 2, keysOnly: true })).toHaveLength(1);
  });

  test("shows between two pages what was written meanwhile, and each key once at most", async () => {
    const { store, client } = await start();
    await put(store, ["b", "d", "f", "h"]);
    const first = await client.scan({ limit: 2 });
    expect(first.entries.map(({ key }) => key)).toEqual(["b", "d"]);
    // What the token names may go.
    await store.write([{ kind: "delete", key: bytes("f") }]);
    await put(store, ["a", "b", "g"], "new");
    const second = await client.scan({ pageToken: new Uint8Array(first.nextPageToken) });
    expect(second.entries.map(({ key }) => key)).toEqual(["g", "h"]);
    expect(second.position!.seq).toBeGreaterThan(first.position!.seq);
  });

  test("goes on at another node that has the keys", async () => {
    const [one, other] = [await start(), await start()];
    for (const { store } of [one, other]) await put(store, ["a", "b", "c"]);
    const { nextPageToken } = await one.client.scan({ limit: 1 });
    const { entries } = await other.client.scan({ pageToken: new Uint8Array(nextPageToken) });
    expect(entries.map(({ key }) => key)).toEqual(["b", "c"]);
  });

  test("ends its pages before a message is full, with the largest keys there are", async () => {
    const limits = { keyBytesMax: 64, valueBytesMax: 1000, messageBytesMax: 4000 };
    const { store, client } = await start(limits);
    const keys = Array.from({ length: 60 }, (_, i) => `${i}`.padEnd(64, "k"));
    for (const [i, key] of keys.entries()) await put(store, [key], "x".repeat((i * 37) % 1000), 3_000_000_000_000);
    const pages = await pagesOf(client, {});
    expect(keysIn(pages)).toEqual(keys.toSorted());
    const sizes = pages.map((page) => toBinary(ScanResponseSchema, page).length);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(limits.messageBytesMax);
    // Not much is given away either.
    expect(sizes.reduce((sum, size) => sum + size, 0) / sizes.length).toBeGreaterThan(limits.messageBytesMax / 2);
    const small = await pagesOf(client, { maxBytes: 1500 });
    expect(keysIn(small)).toEqual(keys.toSorted());
    expect(small.every((page) => page.entries.length === 1 || toBinary(ScanResponseSchema, page).length <= 1500)).toBe(
      true,
    );
    // Without values far more of them fit.
    expect((await pagesOf(client, { keysOnly: true })).length).toBeLessThan(pages.length / 2);
  });

  test("gives an entry that is larger than a page by itself", async () => {
    const { store, client } = await start();
    await put(store, ["a", "b"], "x".repeat(2000));
    expect((await pagesOf(client, { maxBytes: 1 })).map(({ entries }) => entries.length)).toEqual([1, 1]);
    expect((await pagesOf(client, { maxBytes: 0xffff_ffff })).map(({ entries }) => entries.length)).toEqual([2]);
  });

  test("is what a sorted list of the keys says, for any keys, range and pages", async () => {
    const { store, client } = await start();
    const key = fc.oneof(
      fc.string({
        minLength: 1,
        maxLength: 3,
        unit: fc.constantFrom("\0", "a", "b", "/", "\u007f", "é", "\uffff", "🌳"),
      }),
      fc.string({ minLength: 1, maxLength: 8, unit: "grapheme" }),
    );
    const before = (a: string, b: string): boolean => Buffer.compare(bytes(a), bytes(b)) < 0;
    const range = fc.oneof(
      fc.record({ prefix: key }),
      fc.tuple(key, key).map(([a, b]) => (before(a, b) ? { start: a, end: b } : { start: b, end: a })),
      fc.record({ start: key }),
      fc.record({ end: key }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(key, { minLength: 1, maxLength: 30 }),
        fc.array(key, { maxLength: 5 }),
        range,
        fc.integer({ min: 1, max: 8 }),
        fc.boolean(),
        async (added, removed, asked: { prefix?: string; start?: string; end?: string }, limit, reverse) => {
          await put(store, added);
          const present = new Set(added);
          if (removed.length > 0) await store.write(removed.map((one) => ({ kind: "delete", key: bytes(one) })));
          for (const one of removed) present.delete(one);
          const { prefix = "", start = "", end } = asked;
          const expected = [...present]
            .filter((one) => one.startsWith(prefix) && !before(one, start) && (end === undefined || before(one, end)))
            .sort((a, b) => Buffer.compare(bytes(a), bytes(b)));
          if (reverse) expected.reverse();
          const pages = await pagesOf(client, { ...asked, limit, reverse });
          const streamed = await streamOf(client, { ...asked, maxBytes: 100, reverse });
          const { count } = await client.scan({ ...asked, countOnly: true, reverse });
          const [{ nextPageToken: second }] = pages as [ScanResponse];
          const rest = await client.scan({ ...asked, countOnly: true, reverse, pageToken: new Uint8Array(second) });
          // For the next run.
          await store.write(added.map((one) => ({ kind: "delete", key: bytes(one) })));
          expect(keysIn(pages)).toEqual(expected);
          expect(keysIn(streamed)).toEqual(expected);
          expect(count).toBe(BigInt(expected.length));
          if (second.length > 0) expect(rest.count).toBe(BigInt(expected.length - limit));
          expect(pages.every(({ entries }) => entries.length <= limit)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("a scan downwards", () => {
  test("goes on below the last key, whatever was written meanwhile", async () => {
    const { store, client } = await start();
    await put(store, ["b", "d", "f", "h"]);
    const first = await client.scan({ limit: 2, reverse: true });
    expect(first.entries.map(({ key }) => key)).toEqual(["h", "f"]);
    await store.write([{ kind: "delete", key: bytes("f") }]);
    await put(store, ["a", "e", "g"], "new");
    const second = await client.scan({ reverse: true, pageToken: new Uint8Array(first.nextPageToken) });
    expect(second.entries.map(({ key }) => key)).toEqual(["e", "d", "b", "a"]);
  });
});

describe("a count", () => {
  test("has the number of keys and where it was read, and no keys", async () => {
    const { store, client } = await start();
    await put(store, ["a", "b1", "b2", "c"]);
    const { position } = store.readPoint();
    expect(await client.scan({ countOnly: true, limit: 1, maxBytes: 1 })).toMatchObject({
      count: 4n,
      entries: [],
      nextPageToken: new Uint8Array(0),
      position: { seq: BigInt(position.seq) },
      stalenessMs: 0n,
    });
    expect((await client.scan({ countOnly: true, prefix: "b" })).count).toBe(2n);
    expect((await client.scan({ countOnly: true, prefix: "x" })).count).toBe(0n);
    expect((await client.scan({})).count).toBeUndefined();
  });
});

describe("a stream of pages", () => {
  test("ends after as many entries as were asked for, and its last page says where it goes on", async () => {
    const { store, client } = await start();
    for (let at = 0; at < 3000; at += 1000) {
      await put(
        store,
        Array.from({ length: 1000 }, (_, i) => `key-${at + i}`),
        "",
      );
    }
    const pages = await streamOf(client, { limit: 1500 });
    expect(pages.map(({ entries }) => entries.length)).toEqual([1000, 500]);
    const rest = await streamOf(client, { pageToken: new Uint8Array(pages[1]!.nextPageToken) });
    expect(keysIn(pages).length + keysIn(rest).length).toBe(3000);
    expect(new Set([...keysIn(pages), ...keysIn(rest)]).size).toBe(3000);
    expect(rest.at(-1)!.nextPageToken).toHaveLength(0);
  });

  test("has its pages small, or as large as was asked for", async () => {
    const { store, client } = await start();
    for (let i = 0; i < 8; i++) await put(store, [`key-${i}`], "x".repeat(100_000));
    expect((await streamOf(client, {})).map(({ entries }) => entries.length)).toEqual([2, 2, 2, 2]);
    expect((await streamOf(client, { maxBytes: 500_000 })).map(({ entries }) => entries.length)).toEqual([4, 4]);
  });

  test("of nothing is one page", async () => {
    const { client } = await start();
    expect(await streamOf(client, {})).toMatchObject([{ entries: [] }]);
  });

  test("reads no further than its caller", async () => {
    const { store, client } = await start();
    for (let i = 0; i < 20; i++) await put(store, [`key-${i}`], "x".repeat(200_000));
    const scan = store.scan.bind(store);
    let read = 0;
    store.scan = (request) => {
      read++;
      return scan(request);
    };
    for await (const { page } of client.scanStream({})) {
      expect(page!.entries).toHaveLength(1);
      expect(read).toBeLessThanOrEqual(2);
      break;
    }
  });
});
