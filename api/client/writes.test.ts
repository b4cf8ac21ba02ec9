import { createRouterTransport } from "@connectrpc/connect";
import { afterEach, describe, expect, expectTypeOf, test } from "vitest";
import { CambiumError } from "./cambium-error.js";
import { type CambiumClient, createClient } from "./client.js";
import type { ClientOptions } from "./options.js";
import type { Entry } from "./message.js";
import type { WriteResult } from "./operation.js";
import { FakeCluster } from "./testing/fake-cluster.js";

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});

function start(options: Partial<ClientOptions> = {}): { cluster: FakeCluster; kv: CambiumClient } {
  const cluster = new FakeCluster();
  const node = cluster.addNode();
  const kv = createClient({
    endpoints: ["fake:1"],
    transport: () => ({ transport: createRouterTransport(node.routes) }),
    retryDelayMs: 1,
    ...options,
  });
  closers.push(() => kv.close());
  return { cluster, kv };
}

async function failure(promise: Promise<unknown>): Promise<CambiumError> {
  const error: unknown = await promise.then(
    (value) => expect.fail(`expected an error, got ${String(value)}`),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CambiumError);
  return error as CambiumError;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("a condition", () => {
  test("lets a key be made only where it is absent, and says what is there", async () => {
    const { kv } = start();
    await kv.set("k", "1", { ifAbsent: true });
    expect(await failure(kv.set("k", "2", { ifAbsent: true }))).toMatchObject({
      code: "condition_failed",
      outcomeUnknown: false,
      condition: { key: "k", exists: true, modSeq: 2, operation: 0 },
    });
    expect(await failure(kv.set("k", "2", { ifSeq: 0 }))).toMatchObject({ code: "condition_failed" });
    expect(await kv.getText("k")).toBe("1");
  });

  test("by seq or by token lets a key be changed only as it was read", async () => {
    const { kv } = start();
    const first = await kv.set("k", "1");
    const second = await kv.set("k", "2", { ifSeq: first.position.seq });
    expect(await failure(kv.set("k", "3", { ifToken: first.token }))).toMatchObject({
      code: "condition_failed",
      condition: { modSeq: second.position.seq },
    });
    expect(await failure(kv.delete("k", { ifSeq: 1 }))).toMatchObject({ code: "condition_failed" });
    expect(await failure(kv.touch("k", 5, { ifSeq: 1 }))).toMatchObject({ code: "condition_failed" });
    await kv.touch("k", 5_000, { ifToken: second.token });
    expect(await failure(kv.delete("absent", { ifSeq: 7 }))).toMatchObject({ condition: { exists: false, modSeq: 0 } });
  });

  test("of one operation of a batch refuses the batch, and says whose it was", async () => {
    const { cluster, kv } = start();
    const batch = kv.write([
      { kind: "set", key: "a", value: "1" },
      { kind: "set", key: "b", value: "1", ifSeq: 9 },
    ]);
    expect(await failure(batch)).toMatchObject({ code: "condition_failed", condition: { key: "b", operation: 1 } });
    expect(cluster.stateAt(cluster.seq).size).toBe(0);
  });
});

test("a write gives back what was there before, where that is asked for", async () => {
  const { kv } = start();
  expect(await kv.set("k", "1", { wantPrevious: true })).not.toHaveProperty("previous");
  expect(await kv.set("k", "2", { wantPrevious: true })).toMatchObject({
    previous: { value: bytes("1"), createSeq: 2, modSeq: 2 },
  });
  expect(await kv.set("k", "3")).not.toHaveProperty("previous");
  expect(await kv.delete("k", { wantPrevious: true })).toMatchObject({
    existed: true,
    previous: { value: bytes("3"), createSeq: 2, modSeq: 4 },
  });
  const { results } = await kv.write([{ kind: "set", key: "k", value: "4", wantPrevious: true }]);
  expect(results).toEqual([{ existed: false }]);
});

test("a deadline is kept, replaced and taken away", async () => {
  const { kv } = start();
  await kv.set("k", "1", { ttlMs: 60_000 });
  await kv.set("k", "2", { keepTtl: true });
  expect(await kv.get("k")).toMatchObject({ ttlMs: 60_000 });
  expect(await kv.touch("k", 5_000)).toMatchObject({ existed: true });
  expect(await kv.get("k")).toMatchObject({ ttlMs: 5_000, value: bytes("2") });
  await kv.touch("k", 0);
  expect(await kv.get("k")).not.toHaveProperty("ttlMs");
  expect(await kv.touch("absent", 5_000)).toMatchObject({ existed: false });
});

describe("an increment", () => {
  test("counts exactly beyond 2^53, from where it is told to begin", async () => {
    const { kv } = start();
    expect((await kv.increment("visits")).value).toBe(1n);
    expect((await kv.increment("visits", -3)).value).toBe(-2n);
    expect((await kv.increment("large", 1n, { initial: 2n ** 62n, ttlMs: 500 })).value).toBe(2n ** 62n + 1n);
    expect(await kv.getText("large")).toBe("4611686018427387905");
    expect(await kv.get("large")).toMatchObject({ ttlMs: 500 });
    const { results } = await kv.write([{ kind: "increment", key: "visits", delta: 12 }]);
    expect(results).toEqual([{ existed: true, value: 10n }]);
  });

  test("says what holds no number, and which bounds it would pass", async () => {
    const { kv } = start();
    await kv.set("text", "x");
    expect(await failure(kv.increment("text"))).toMatchObject({
      code: "not_an_integer",
      counter: { key: "text", operation: 0 },
    });
    await kv.set("stock", "1");
    expect(await failure(kv.increment("stock", -2, { min: 0, max: 10n }))).toMatchObject({
      code: "out_of_bounds",
      outcomeUnknown: false,
      counter: { key: "stock", operation: 0, value: 1n, min: 0n, max: 10n },
    });
  });
});

test("a range is removed at once, all keys only where that is said", async () => {
  const { cluster, kv } = start();
  for (const key of ["a", "session:1", "session:2", "z"]) await kv.set(key, "v");
  const { seq } = cluster;
  expect(await kv.deleteRange({ prefix: "session:" })).toMatchObject({
    deleted: 2,
    position: { seq: Number(seq) + 1 },
  });
  expect(await kv.deleteRange({ start: "b", end: "c" })).toMatchObject({ deleted: 0 });
  for (const nothing of [{}, { prefix: "" }, { start: "", end: "" }, { prefix: "a", all: true }]) {
    expect(await failure(kv.deleteRange(nothing as never))).toMatchObject({ code: "invalid_argument" });
  }
  expect(await kv.deleteRange({ all: true })).toMatchObject({ deleted: 2 });
});

describe("a scan", () => {
  test("goes backwards, without values, and up to a limit, by pages", async () => {
    const { cluster, kv } = start();
    for (const key of ["a", "b", "c", "d", "e"]) await kv.set(key, "v");
    const keysOf = async (options: Parameters<CambiumClient["scan"]>[0]): Promise<string> => {
      let keys = "";
      for await (const entry of kv.scan(options)) keys += entry.key;
      return keys;
    };
    expect(await keysOf({ reverse: true, pageSize: 2 })).toBe("edcba");
    expect(await keysOf({ reverse: true, limit: 3, pageSize: 2, keysOnly: true })).toBe("edc");
    expect(await keysOf({ limit: 2 })).toBe("ab");
    expect(await keysOf({ limit: 0 })).toBe("");
    const asked = cluster.nodes[0]!.requests.length;
    for await (const _ of kv.scan({ pageSize: 1 })) break;
    expect(cluster.nodes[0]!.requests).toHaveLength(asked + 1);
  });

  test("counts without reading", async () => {
    const { kv } = start();
    for (const key of ["a", "session:1", "session:2"]) await kv.set(key, "v");
    expect(await kv.count()).toBe(3);
    expect(await kv.count({ prefix: "session:" })).toBe(2);
    expect(await kv.count({ start: "b", end: "c" })).toBe(0);
  });
});

describe("a transaction", () => {
  test("does one thing or another, and its results have the types of its operations", async () => {
    const { cluster, kv } = start();
    await kv.set("stock", "3");
    const order = kv
      .txn()
      .when("stock")
      .value("=", "3")
      .when("order")
      .isAbsent()
      .do({ kind: "set", key: "order", value: "1" }, { kind: "increment", key: "stock", delta: -1 })
      .otherwise({ kind: "get", key: "stock" });
    const { seq } = cluster;
    const receipt = await order.commit();
    expect(receipt).toMatchObject({ succeeded: true, failedCompares: [], position: { seq: Number(seq) + 1 } });
    if (receipt.succeeded) {
      expectTypeOf(receipt.results).toEqualTypeOf<readonly [WriteResult, bigint]>();
      expect(receipt.results).toEqual([{ existed: false }, 2n]);
    }
    const again = await order.commit();
    expect(again).toMatchObject({ succeeded: false, failedCompares: [0, 1] });
    if (!again.succeeded) {
      expectTypeOf(again.results).toEqualTypeOf<readonly [Entry | undefined]>();
      expect(again.results[0]).toMatchObject({ value: bytes("2"), modSeq: 3 });
    }
  });

  test("compares everything that a key has", async () => {
    const { kv } = start();
    await kv.set("k", "b");
    await kv.set("k", "c");
    const outcomes = [
      kv.txn().when("k").exists(),
      kv.txn().when("k").modSeq("=", 3),
      kv.txn().when("k").modSeq("<", 3),
      kv.txn().when("k").createSeq("<", 3),
      kv.txn().when("k").value(">", "b"),
      kv.txn().when("absent").value("!=", "b"),
      kv.txn().when("absent").value("<", "b"),
      kv.txn().compare({ key: "k", is: "!=", target: "exists", to: false }),
      kv.txn(),
    ].map(async (txn) => (await txn.commit()).succeeded);
    expect(await Promise.all(outcomes)).toEqual([true, true, false, true, true, true, false, true, true]);
  });

  test("is no thenable, sends nothing before its commit, and can be gone on with twice", async () => {
    const { cluster, kv } = start();
    const begun = await Promise.resolve(kv.txn().when("k").isAbsent());
    expect(begun).not.toHaveProperty("then");
    const [one, two] = [begun.do({ kind: "set", key: "a", value: "1" }), begun.do({ kind: "get", key: "a" })];
    expect(cluster.nodes[0]!.requests).toHaveLength(0);
    await one.commit();
    expect((await two.commit()).results).toMatchObject([{ value: bytes("1") }]);
  });

  test("is refused as a whole where a condition of an operation fails", async () => {
    const { cluster, kv } = start();
    const txn = kv.txn().do({ kind: "set", key: "a", value: "1" }, { kind: "delete", key: "b", ifSeq: 4 });
    expect(await failure(txn.commit())).toMatchObject({ code: "condition_failed", condition: { operation: 1 } });
    expect(cluster.seq).toBe(1n);
  });
});

test.each<[string, (kv: CambiumClient) => Promise<unknown>]>([
  ["two conditions", (kv) => kv.set("k", "v", { ifAbsent: true, ifSeq: 1 })],
  ["a seq and a token", (kv) => kv.delete("k", { ifSeq: 1, ifToken: new Uint8Array(1) })],
  ["an empty token", (kv) => kv.set("k", "v", { ifToken: new Uint8Array() })],
  ["a deadline that is new and kept", (kv) => kv.set("k", "v", { ttlMs: 1, keepTtl: true })],
  ["a negative deadline", (kv) => kv.touch("k", -1)],
  ["a number that was rounded", (kv) => kv.increment("k", 2 ** 53)],
  ["half a number", (kv) => kv.increment("k", 0.5)],
  ["a number of 65 bits", (kv) => kv.increment("k", 2n ** 63n)],
  [
    "another comparison",
    (kv) =>
      kv
        .txn()
        .when("k")
        .modSeq("<=" as "<", 1)
        .commit(),
  ],
  ["a lone surrogate in a comparison", (kv) => kv.txn().when("\ud800").exists().commit()],
  ["an operation of another kind", (kv) => kv.write([{ kind: "append", key: "k" } as never])],
  ["changes of an empty key", (kv) => kv.updates({ key: "" }).next()],
])("%s is refused before it is sent", async (_, call) => {
  const { cluster, kv } = start();
  expect(await failure(call(kv))).toMatchObject({ code: "invalid_argument" });
  expect(cluster.nodes[0]!.requests).toHaveLength(0);
});

test("updates can be of a key or a range, with what was there before", async () => {
  const { kv } = start();
  await kv.set("a", "1");
  await kv.set("b", "1");
  await kv.set("a", "2");
  await kv.deleteRange({ prefix: "a" });
  const read = async (options: Parameters<CambiumClient["updates"]>[0]): Promise<unknown[]> => {
    const events: unknown[] = [];
    for await (const page of kv.updates({ follow: false, ...options })) events.push(...page.events);
    return events;
  };
  expect(await read({ key: "a", wantPrevious: true })).toMatchObject([
    { type: "put", key: "a", value: bytes("1") },
    { type: "put", value: bytes("2"), previous: bytes("1") },
    { type: "delete", key: "a" },
  ]);
  expect(await read({ prefix: "b" })).toMatchObject([{ type: "put", key: "b" }]);
  const last = (await read({})).at(-1);
  expect(last).toMatchObject({ type: "delete-range", key: "a", rangeEnd: "b", position: { epoch: 1, seq: 5 } });
});
