/** The writes of KVStore as callers see them, over a store that does what the test says. */
import { type ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Acknowledge } from "../../api/gen/cambium/v1/types_pb.js";
import { epochMs, seq } from "../base/position.js";
import type { WriteResult } from "../store/store.js";
import { callJson, startTestServer, type TestServer } from "./testing/test-server.js";

let running: TestServer;
beforeEach(async () => {
  running = await startTestServer();
});
afterEach(() => running.server.close());

const bytes = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text));
const client = () => createClient(KVStore, createConnectTransport({ baseUrl: running.url, httpVersion: "1.1" }));
const previous = { value: bytes("before"), createSeq: seq(3), modSeq: seq(4) };
const wirePrevious = { value: bytes("before"), createSeq: 3n, modSeq: 4n };
const about = { position: { epoch: 1n, seq: 2n }, token: new Uint8Array([1, 2, 3]), repeated: false };

/** What the next write answers. */
function answer(...results: WriteResult[]): void {
  running.store.answers.push({ results });
}

describe("the answer to", () => {
  test("a set has what it replaced, when that was asked for and there was something", async () => {
    answer({ existed: true, previous }, { existed: false });
    expect(await client().set({ key: "k", wantPrevious: true })).toMatchObject({ ...about, previous: wirePrevious });
    answer({ existed: false });
    expect((await client().set({ key: "k", wantPrevious: true })).previous).toBeUndefined();
    expect(running.store.writes[0]).toMatchObject([{ kind: "set", wantPrevious: true }]);
  });

  test("a delete says whether there was a key, and what it held", async () => {
    answer({ existed: true, previous });
    expect(await client().delete({ key: "k", wantPrevious: true })).toMatchObject({
      ...about,
      existed: true,
      previous: wirePrevious,
    });
    answer({ existed: false });
    expect(await client().delete({ key: "k" })).toMatchObject({ existed: false });
  });

  test("a deletion of a range has the number of keys, unless they were too many to count", async () => {
    answer({ existed: true, deleted: 0 });
    expect(await client().deleteRange({ prefix: "p" })).toMatchObject({ ...about, deleted: 0n });
    answer({ existed: true });
    expect((await client().deleteRange({ all: true })).deleted).toBeUndefined();
    expect(running.store.writes).toMatchObject([
      [{ kind: "delete-range", range: { start: bytes("p") } }],
      [{ kind: "delete-range", range: { start: bytes("") } }],
    ]);
  });

  test("a touch says whether there was a key", async () => {
    answer({ existed: true });
    expect(await client().touch({ key: "k", ttlMs: 5n })).toMatchObject({ ...about, existed: true });
    expect(running.store.writes[0]).toMatchObject([{ kind: "touch", ttlMs: 5 }]);
  });

  test("an increment has the sum, exactly, however large", async () => {
    for (const sum of [0n, 2n ** 63n - 1n, -(2n ** 63n)]) {
      answer({ existed: true, sum });
      expect(await client().increment({ key: "k" })).toMatchObject({ repeated: false, value: sum });
      answer({ existed: true, sum });
      const { json } = await callJson(running.port, "cambium.v1.KVStore/Increment", { key: "k", delta: "-1" });
      expect(json).toMatchObject({ value: String(sum) });
    }
  });

  test("a batch has a result for each operation", async () => {
    answer({ existed: true, previous }, { existed: false, sum: -5n }, { existed: true });
    const operation = { operation: { case: "delete" as const, value: { key: "k" } } };
    const { results } = await client().write({ operations: [operation] });
    expect(results).toMatchObject([{ existed: true, previous: wirePrevious }, { value: -5n }, { existed: true }]);
    expect(results.map(({ value }) => value)).toEqual([undefined, -5n, undefined]);
  });

  test("a transaction says which comparisons failed, and has the results of the list that was carried out", async () => {
    const request = {
      compares: [{ key: "c", target: { case: "exists" as const, value: true } }],
      then: [
        { operation: { case: "get" as const, value: { key: "a" } } },
        { operation: { case: "get" as const, value: { key: "b" } } },
        { operation: { case: "increment" as const, value: { key: "i" } } },
        { operation: { case: "set" as const, value: { key: "s" } } },
      ],
      else: [{ operation: { case: "delete" as const, value: { key: "d" } } }],
    };
    const { nowMs } = running.store;
    const entry = { value: bytes("v"), createSeq: seq(1), modSeq: seq(2), expiresAtMs: epochMs(nowMs + 70) };
    const results = [
      { existed: true, entry },
      { existed: false },
      { existed: true, sum: 8n },
      { existed: true, previous },
    ];
    running.store.answers.push({ succeeded: true, results });
    expect(await client().txn(request)).toMatchObject({
      ...about,
      succeeded: true,
      failedCompares: [],
      results: [
        {
          result: { case: "get", value: { exists: true, value: bytes("v"), createSeq: 1n, modSeq: 2n, ttlMs: 70n } },
        },
        { result: { case: "get", value: { exists: false } } },
        { result: { case: "value", value: 8n } },
        { result: { case: "write", value: { existed: true, previous: wirePrevious } } },
      ],
    });
    running.store.answers.push({ succeeded: false, failedCompares: [0], results: [{ existed: false }] });
    expect(await client().txn(request)).toMatchObject({
      succeeded: false,
      failedCompares: [0],
      results: [{ result: { case: "write", value: { existed: false } } }],
    });
    expect(running.store.txns[1]).toMatchObject({ compares: [{}], then: [{}, {}, {}, {}], else: [{ kind: "delete" }] });
  });
});

describe("every write", () => {
  const set = { operation: { case: "set" as const, value: { key: "k" } } };
  const way = { clientId: "c", clientSeq: 7n, acknowledge: Acknowledge.MASTER };
  const txn = { then: [set] };

  const calls: [string, (w: Partial<typeof way>) => Promise<{ readonly repeated: boolean }>][] = [
    ["set", (w) => client().set({ key: "k", ...w })],
    ["delete", (w) => client().delete({ key: "k", ...w })],
    ["deleteRange", (w) => client().deleteRange({ all: true, ...w })],
    ["touch", (w) => client().touch({ key: "k", ...w })],
    ["increment", (w) => client().increment({ key: "k", ...w })],
    ["txn", (w) => client().txn({ ...txn, ...w })],
    ["write", (w) => client().write({ operations: [set], ...w })],
  ];

  test.each(calls)(
    "tells the store under which number to remember it, and says when it was made before: %s",
    async (_name, call) => {
      running.store.answers.push({ repeated: true });
      expect((await call(way)).repeated).toBe(true);
      expect(running.store.writeOptions[0]).toMatchObject({
        acknowledge: "kept",
        retry: { clientId: "c", clientSeq: 7 },
      });
      expect((await call({})).repeated).toBe(false);
      expect(running.store.writeOptions[1]?.retry).toBeUndefined();
    },
  );

  test.each(calls)(
    "is refused with half of what a retry needs, before anything is written: %s",
    async (_name, call) => {
      const refusal = (w: Partial<typeof way>) => call(w).catch((error: ConnectError) => error.rawMessage);
      expect(await refusal({ clientId: "c" })).toContain("client_id is given without client_seq");
      expect(await refusal({ clientSeq: 1n })).toContain("client_seq is given without client_id");
      expect(await refusal({ acknowledge: 9 as Acknowledge })).toContain("acknowledge is 9");
      expect([...running.store.writes, ...running.store.txns]).toEqual([]);
    },
  );

  test("tells the store how much of what is stored an answer may hold", async () => {
    await client().set({ key: "k", wantPrevious: true });
    const [options] = running.store.writeOptions;
    expect(options?.storedBytesMax).toBeLessThan(4 * 1024 * 1024);
    expect(options?.storedBytesMax).toBeGreaterThan(4 * 1024 * 1024 - 1024);
  });
});
