/** What each kind of write does, asks for and refuses. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { SlabEngine } from "../engine/slab-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { COUNTED_MAX } from "./count-range.js";
import { INT64_MAX, INT64_MIN } from "./counter.js";
import type { Condition, IncrementCommand, KeyCommand, SetCommand, Store, Txn, WriteCommand } from "./store.js";
import { beginMastership, bytes, epoch, kept, openStore, seq, text } from "./testing/stores.js";
import { encodeToken } from "./token.js";

type SetOptions = Partial<Omit<SetCommand, "kind" | "key" | "value">>;
const set = (key: string, value = "v", options: SetOptions = {}): SetCommand => ({
  kind: "set",
  key: bytes(key),
  value: bytes(value),
  ...options,
});
const del = (key: string, condition?: Condition): KeyCommand => ({
  kind: "delete",
  key: bytes(key),
  ...(condition && { condition }),
});
const touch = (key: string, ttlMs: number): KeyCommand => ({ kind: "touch", key: bytes(key), ttlMs });
const increment = (key: string, options: Partial<IncrementCommand> = {}): IncrementCommand => ({
  kind: "increment",
  key: bytes(key),
  delta: 1n,
  initial: 0n,
  min: INT64_MIN,
  max: INT64_MAX,
  ttlMs: 0,
  ...options,
});
const deleteRange = (start: string, end?: string): WriteCommand => ({
  kind: "delete-range",
  range: { start: bytes(start), ...(end !== undefined && { end: bytes(end) }) },
});
const read = (store: Store, key: string): string | undefined => {
  const entry = store.get(bytes(key));
  return entry && text(entry.value);
};
const keysOf = (store: Store): string[] =>
  store.scan({ start: bytes(""), limit: 1000, maxBytes: Infinity, keysOnly: true }).entries.map(({ key }) => text(key));
const failed = (code: string, more: object = {}): object => expect.objectContaining({ code, ...more }) as object;

async function master(options: Parameters<typeof openStore>[0] & { commits?: boolean } = {}): Promise<Store> {
  const store = await openStore(options);
  await beginMastership(store, options);
  return store;
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

async function commitAll(store: Store): Promise<void> {
  await kept(store, store.last.seq);
  store.commit(store.last.seq);
  await turn();
}

function watch(promise: Promise<unknown>): { readonly state: () => string } {
  let state = "pending";
  promise.then(
    () => (state = "resolved"),
    (error: unknown) => (state = error instanceof Error && "code" in error ? String(error.code) : String(error)),
  );
  return { state: () => state };
}

describe("a condition", () => {
  test("lets a write through when it holds, and else says how the key is, and changes nothing", async () => {
    const store = await master();
    const absent = { ifAbsent: true } as const;
    const { position } = await store.write([set("a", "1", { condition: absent })]);
    const is = { key: bytes("a"), exists: true, modSeq: position.seq, operation: 0 };
    await expect(store.write([set("a", "2", { condition: absent })])).rejects.toEqual(
      failed("condition_failed", { failedCondition: is }),
    );
    await expect(store.write([set("b"), del("a", { ifSeq: seq(1) })])).rejects.toEqual(
      failed("condition_failed", { failedCondition: { ...is, operation: 1 } }),
    );
    await expect(store.write([set("b", "v", { condition: { ifSeq: seq(9) } })])).rejects.toEqual(
      failed("condition_failed", { failedCondition: { key: bytes("b"), exists: false, modSeq: 0, operation: 0 } }),
    );
    expect([keysOf(store), store.last.seq]).toEqual([["a"], position.seq]);
    await store.write([set("b", "v", { condition: { ifSeq: seq(0) } })]);
    await store.write([set("a", "3", { condition: { ifSeq: position.seq } })]);
    expect(read(store, "a")).toBe("3");
    await store.close();
  });

  test("finds a key absent whose time is over, though it is still held", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, commits: false });
    const written = store.write([set("a", "1", { ttlMs: 10 })]);
    clock.advance(10);
    const anew = store.write([set("a", "2", { condition: { ifAbsent: true }, wantPrevious: true })]);
    await commitAll(store);
    await written;
    expect((await anew).results).toEqual([{ existed: false }]);
    expect(store.get(bytes("a"))?.createSeq).toBe(3);
    await store.close();
  });

  test("by a token holds for the record of that token, and not for a lost one of the same seq", async () => {
    const store = await master();
    const { token, position } = await store.write([set("a", "1")]);
    const byToken = (ifToken: Uint8Array): WriteCommand => set("a", "2", { condition: { ifToken } });
    const lost = encodeToken({ clusterId: store.clusterId!, epochId: "ee".repeat(8) as never, position });
    await expect(store.write([byToken(lost)])).rejects.toEqual(failed("lineage_lost"));
    const later = { epoch: epoch(7), seq: position.seq };
    const unknown = encodeToken({ clusterId: store.clusterId!, epochId: "ee".repeat(8) as never, position: later });
    await expect(store.write([byToken(unknown)])).rejects.toEqual(failed("condition_failed"));
    await expect(store.write([byToken(bytes("no token"))])).rejects.toEqual(failed("invalid_token"));
    const { token: next } = await store.write([byToken(token)]);
    await expect(store.write([byToken(token)])).rejects.toEqual(failed("condition_failed"));
    // Of a key that another record has changed since, the token of that record holds.
    store.endMastership();
    await beginMastership(store);
    await store.write([byToken(next)]);
    await store.close();
  });

  test("sees what is in flight, and its refusal waits until that is committed", async () => {
    const store = await master({ commits: false });
    const first = watch(store.write([set("a", "1")]));
    const second = watch(store.write([set("a", "2", { condition: { ifAbsent: true } })]));
    const third = watch(store.write([set("a", "3", { condition: { ifSeq: seq(2) } })]));
    await kept(store, 3);
    await turn();
    expect([first, second, third].map(({ state }) => state())).toEqual(["pending", "pending", "pending"]);
    store.commit(seq(2));
    await turn();
    expect([first, second, third].map(({ state }) => state())).toEqual(["resolved", "condition_failed", "pending"]);
    await commitAll(store);
    expect([third.state(), read(store, "a"), store.last.seq]).toEqual(["resolved", "3", 3]);
    await store.close();
  });

  test("is judged anew when what it saw came to nothing", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await master({ fileSystem, commits: false });
    fileSystem.failNext("write", "ENOSPC");
    const first = watch(store.write([set("a", "1")]));
    const second = store.write([set("a", "2", { condition: { ifAbsent: true } })]);
    const third = store.write([increment("a")]);
    const both = [watch(second), watch(third)];
    await turn();
    await turn();
    expect([first.state(), ...both.map(({ state }) => state())]).toEqual(["disk_full", "pending", "disk_full"]);
    await commitAll(store);
    expect([(await second).results, read(store, "a")]).toEqual([[{ existed: false }], "2"]);
    await store.close();
  });

  test("whose refusal rests on what a master leaves in flight is not answered with it", async () => {
    const store = await master({ commits: false });
    const first = watch(store.write([set("a", "1")]));
    const second = watch(store.write([set("a", "2", { condition: { ifAbsent: true } })]));
    await kept(store, 2);
    store.endMastership();
    await turn();
    expect([first.state(), second.state()]).toEqual(["outcome_unknown", "not_ready"]);
    await store.close();
  });

  test("whose refusal waits for too long ends at its deadline, and keeps nothing of it", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, commits: false });
    const first = watch(store.write([set("a", "1")]));
    const second = watch(store.write([set("a", "2", { condition: { ifAbsent: true } })], { timeoutMs: 50 }));
    await kept(store, 2);
    clock.advance(50);
    await turn();
    expect([first.state(), second.state()]).toEqual(["pending", "outcome_unknown"]);
    await commitAll(store);
    await store.close();
  });
});

describe("a set", () => {
  test("keeps the deadline that the key has when it is told to", async () => {
    const clock = new FakeClock();
    const store = await master({ clock });
    await store.write([set("a", "1", { ttlMs: 1000 }), set("b", "1", { keepTtl: true })]);
    const { expiresAtMs } = store.get(bytes("a"))!;
    clock.advance(500);
    await store.write([set("a", "2", { keepTtl: true }), set("b", "2", { keepTtl: true })]);
    expect(store.get(bytes("a"))).toMatchObject({ expiresAtMs, value: bytes("2") });
    expect(store.get(bytes("b"))?.expiresAtMs).toBeUndefined();
    await store.write([set("a", "3")]);
    expect(store.get(bytes("a"))?.expiresAtMs).toBeUndefined();
    await store.close();
  });

  test("and a delete give back what was there before, committed, in flight, or of the same record", async () => {
    const store = await master({ engine: new SlabEngine(), commits: false });
    const wantPrevious = true;
    const first = store.write([set("a", "1", { wantPrevious })]);
    await commitAll(store);
    const second = store.write([set("a", "2", { wantPrevious })]);
    const third = store.write([
      set("a", "3", { wantPrevious }),
      { kind: "delete", key: bytes("a"), wantPrevious },
      set("a", "4", { wantPrevious }),
      set("a", "5", { wantPrevious }),
    ]);
    await commitAll(store);
    expect((await first).results).toEqual([{ existed: false }]);
    const was = (value: string, createSeq: number, modSeq: number): object => ({
      existed: true,
      previous: { value: bytes(value), createSeq, modSeq },
    });
    expect((await second).results).toEqual([was("1", 2, 2)]);
    const results = [was("2", 2, 3), was("3", 2, 4), { existed: false }, was("4", 4, 4)];
    expect((await third).results).toEqual(results);
    await store.close();
  });
});

describe("a touch", () => {
  test("gives the key another deadline or none, and writes it anew with its value", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, engine: new SlabEngine() });
    await store.write([set("a", "1", { ttlMs: 100 })]);
    const { results, position } = await store.write([touch("a", 5000), touch("absent", 5000)]);
    expect(results).toEqual([{ existed: true }, { existed: false }]);
    const { value, modSeq, createSeq, expiresAtMs } = store.get(bytes("a"))!;
    expect([text(value), modSeq, createSeq, expiresAtMs]).toEqual(["1", position.seq, 2, clock.wallMs() + 5000]);
    await store.write([touch("a", 0)]);
    expect(store.get(bytes("a"))?.expiresAtMs).toBeUndefined();
    const { seq: last } = store.last;
    expect((await store.write([touch("absent", 1)])).position.seq).toBe(last);
    expect(store.last.seq).toBe(last);
    await store.close();
  });
});

describe("an increment", () => {
  test("adds to what the key holds, or counts as, and keeps its deadline", async () => {
    const clock = new FakeClock();
    const store = await master({ clock });
    const first = await store.write([increment("a", { initial: 5n, delta: -7n, ttlMs: 100 })]);
    expect([first.results, read(store, "a")]).toEqual([[{ existed: false, sum: -2n }], "-2"]);
    const { expiresAtMs } = store.get(bytes("a"))!;
    clock.advance(10);
    const more = await store.write([increment("a", { ttlMs: 9999 }), increment("a", { delta: 10n })]);
    expect(more.results.map(({ sum }) => sum)).toEqual([-1n, 9n]);
    expect([read(store, "a"), store.get(bytes("a"))?.expiresAtMs]).toEqual(["9", expiresAtMs]);
    await store.close();
  });

  test("by nothing reads what is there, and creates what is not", async () => {
    const store = await master();
    expect((await store.write([increment("a", { delta: 0n, initial: 3n })])).results[0]?.sum).toBe(3n);
    const { seq: last } = store.last;
    expect((await store.write([increment("a", { delta: 0n })])).results[0]?.sum).toBe(3n);
    expect([store.last.seq, read(store, "a")]).toEqual([last, "3"]);
    await store.close();
  });

  test("stops at its bounds and at 64 bits, and at what is no number, and changes nothing", async () => {
    const store = await master();
    await store.write([set("least", String(INT64_MIN)), set("most", String(INT64_MAX)), set("text", "1 ")]);
    const last = store.last.seq;
    await expect(store.write([increment("most")])).rejects.toEqual(
      failed("out_of_bounds", {
        counter: { key: bytes("most"), operation: 0, value: INT64_MAX, min: INT64_MIN, max: INT64_MAX },
      }),
    );
    await expect(store.write([increment("least", { delta: -1n })])).rejects.toEqual(failed("out_of_bounds"));
    await expect(store.write([increment("new", { min: 2n })])).rejects.toEqual(failed("out_of_bounds"));
    await expect(store.write([set("b"), increment("text")])).rejects.toEqual(
      failed("not_an_integer", { counter: { key: bytes("text"), operation: 1 } }),
    );
    expect([store.last.seq, keysOf(store)]).toEqual([last, ["least", "most", "text"]]);
    await store.write([increment("new", { min: 1n, max: 1n })]);
    await store.close();
  });
});

describe("the removal of a range", () => {
  test("removes its keys at one seq, in flight and committed, and counts them", async () => {
    const store = await master({ commits: false });
    const committed = store.write(["a", "b", "c", "d"].map((key) => set(key)));
    await commitAll(store);
    await committed;
    const writes = [
      store.write([set("bb"), set("x"), del("c")]),
      store.write([deleteRange("b", "d")]),
      store.write([set("b", "anew", { wantPrevious: true }), increment("bb", { delta: 1n })]),
      store.write([deleteRange("b", "c")]),
      store.write([deleteRange("b", "d")]),
      store.write([deleteRange("d", "b")]),
    ];
    await commitAll(store);
    const answers = await Promise.all(writes);
    expect(answers.map(({ position }) => position.seq)).toEqual([3, 4, 5, 6, 6, 2]);
    expect(answers.map(({ results }) => results.at(-1))).toEqual([
      { existed: true },
      { existed: true, deleted: 2 },
      { existed: false, sum: 1n },
      { existed: true, deleted: 2 },
      { existed: false, deleted: 0 },
      { existed: false, deleted: 0 },
    ]);
    expect(answers[2]?.results[0]).toEqual({ existed: false });
    expect(keysOf(store)).toEqual(["a", "d", "x"]);
    await store.close();
  });

  test("that finds nothing because of what is in flight waits for that", async () => {
    const store = await master({ commits: false });
    const committed = store.write([set("a")]);
    await commitAll(store);
    await committed;
    const first = watch(store.write([deleteRange("")]));
    const second = watch(store.write([deleteRange("")]));
    const third = watch(store.write([del("a")]));
    await kept(store, 3);
    await turn();
    expect([first, second, third].map(({ state }) => state())).toEqual(["pending", "pending", "pending"]);
    await commitAll(store);
    expect([first, second, third].map(({ state }) => state())).toEqual(["resolved", "resolved", "resolved"]);
    expect(store.last.seq).toBe(3);
    await store.close();
  });

  test("of more keys than are counted says so by leaving the number out", async () => {
    const store = await master({ engine: new SlabEngine(), pendingBytesMax: 1 << 24 });
    const keys = Array.from({ length: COUNTED_MAX + 1 }, (_, i) => `k${i}`);
    await store.write(keys.map((key) => set(key)));
    await store.write([del("k0")]);
    await store.write([set("k0")]);
    const all = await store.write([deleteRange("")]);
    expect([all.results, keysOf(store)]).toEqual([[{ existed: true }], []]);
    await store.write(keys.slice(1).map((key) => set(key)));
    expect((await store.write([deleteRange("k")])).results).toEqual([{ existed: true, deleted: COUNTED_MAX }]);
    await store.close();
  });

  test("is refused where no order of keys is kept", async () => {
    const store = await master({ engine: new SlabEngine({ isOrdered: false }) });
    await expect(store.write([deleteRange("")])).rejects.toEqual(failed("not_ordered"));
    await store.close();
  });

  test("stands alone in its write", async () => {
    const store = await master();
    await expect(store.write([set("a"), deleteRange("")])).rejects.toThrow("a range is removed alone");
    await store.close();
  });
});

describe("a transaction", () => {
  const txn = (part: Partial<Txn>): Txn => ({ compares: [], then: [], else: [], ...part });
  const exists = (key: string, is = true): Txn["compares"][number] => ({
    key: bytes(key),
    comparison: "equal",
    target: { kind: "exists", exists: is },
  });

  test("carries out one list or the other, as one record, and names the comparisons that failed", async () => {
    const store = await master();
    await store.write([set("a", "1")]);
    const yes = await store.transact(
      txn({ compares: [exists("a"), exists("b", false)], then: [set("b", "2"), del("a")], else: [set("x")] }),
    );
    expect(yes).toMatchObject({ succeeded: true, failedCompares: [], position: { seq: 3 } });
    const no = await store.transact(
      txn({ compares: [exists("b"), exists("a"), exists("c")], then: [set("x")], else: [set("c", "3")] }),
    );
    expect(no).toMatchObject({ succeeded: false, failedCompares: [1, 2], results: [{ existed: false }] });
    expect(keysOf(store)).toEqual(["b", "c"]);
    await store.close();
  });

  test("compares seqs and values, and of an absent key only that it differs from every value", async () => {
    const store = await master();
    await store.write([set("a", "m")]);
    await store.write([set("a", "m")]);
    const holds = async (key: string, comparison: string, target: object): Promise<boolean> => {
      const compare = { key: bytes(key), comparison, target } as Txn["compares"][number];
      return (await store.transact(txn({ compares: [compare] }))).succeeded;
    };
    const all = async (key: string, target: object): Promise<boolean[]> =>
      Promise.all(["equal", "not-equal", "less", "greater"].map((comparison) => holds(key, comparison, target)));
    const modSeq = (n: number): object => ({ kind: "mod-seq", seq: seq(n) });
    const createSeq = (n: number): object => ({ kind: "create-seq", seq: seq(n) });
    const value = (given: string): object => ({ kind: "value", value: bytes(given) });
    expect(await all("a", modSeq(3))).toEqual([true, false, false, false]);
    expect(await all("a", createSeq(3))).toEqual([false, true, true, false]);
    expect(await all("a", createSeq(1))).toEqual([false, true, false, true]);
    expect(await all("a", value("m"))).toEqual([true, false, false, false]);
    expect(await all("a", value("n"))).toEqual([false, true, true, false]);
    expect(await all("a", value(""))).toEqual([false, true, false, true]);
    expect(await all("b", modSeq(0))).toEqual([true, false, false, false]);
    expect(await all("b", createSeq(1))).toEqual([false, true, true, false]);
    expect(await all("b", value(""))).toEqual([false, true, false, false]);
    await store.close();
  });

  test("shows its own gets what the operations before them did", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, engine: new SlabEngine() });
    await store.write([set("a", "1")]);
    const get = (key: string) => ({ kind: "get", key: bytes(key) }) as const;
    const { results } = await store.transact(
      txn({ then: [get("a"), set("a", "2", { ttlMs: 10 }), get("a"), set("b"), get("b"), del("a"), get("a")] }),
    );
    expect(results.filter((_, i) => i % 2 === 0)).toEqual([
      { existed: true, entry: { value: bytes("1"), createSeq: 2, modSeq: 2 } },
      { existed: true, entry: { value: bytes("2"), createSeq: 2, modSeq: 3, expiresAtMs: clock.wallMs() + 10 } },
      { existed: true, entry: { value: bytes("v"), createSeq: 3, modSeq: 3 } },
      { existed: false },
    ]);
    await store.close();
  });

  test("that writes nothing tells a position at which what it read was so", async () => {
    const store = await master({ commits: false });
    const first = store.write([set("a", "1")]);
    const seen = store.transact(txn({ then: [{ kind: "get", key: bytes("a") }] }));
    const unseen = store.transact(txn({ then: [{ kind: "get", key: bytes("b") }] }));
    const last = store.write([set("a", "2"), set("b")]);
    await commitAll(store);
    await Promise.all([first, last]);
    expect([(await seen).position.seq, (await unseen).position.seq, store.appliedSeq]).toEqual([2, 1, 3]);
    expect((await seen).results[0]?.entry?.value).toEqual(bytes("1"));
    expect(store.reachToken((await seen).token, new AbortController().signal)).toBeUndefined();
    await store.close();
  });

  test("is refused as a whole by a condition of one of its operations", async () => {
    const store = await master();
    const then = [set("a"), set("b", "v", { condition: { ifSeq: seq(1) } })];
    await expect(store.transact(txn({ then }))).rejects.toEqual(
      failed("condition_failed", {
        failedCondition: { key: bytes("b"), exists: false, modSeq: 0, operation: 1 },
      }),
    );
    expect(keysOf(store)).toEqual([]);
    await store.close();
  });

  test("takes over no more of what is stored than one answer may hold", async () => {
    const store = await master({ pendingBytesMax: 1 << 24 });
    await store.write([set("a", "x".repeat(1000))]);
    const get = { kind: "get", key: bytes("a") } as const;
    const storedBytesMax = 2500;
    await store.transact(txn({ then: [get, touch("a", 0)] }), { storedBytesMax });
    const last = store.last.seq;
    const refused = failed("too_large", {
      passed: { limit: "limits.max_message_bytes", maximum: 2500, actual: 3000 },
    });
    await expect(store.transact(txn({ then: [get, get, get] }), { storedBytesMax })).rejects.toEqual(refused);
    const touches = [touch("a", 1), touch("a", 2), touch("a", 3)];
    await expect(store.write(touches, { storedBytesMax })).rejects.toEqual(refused);
    expect(store.last.seq).toBe(last);
    await store.close();
  });
});

test("what a write is judged by is the time of its record, also when the clock moves on meanwhile", async () => {
  const clock = new FakeClock();
  const store = await master({ clock });
  await store.write([set("a", "1", { ttlMs: 2 })]);
  const monotonicMs = clock.monotonicMs.bind(clock);
  let asked = 0;
  // Every look at the clock finds it later.
  clock.monotonicMs = () => monotonicMs() + ++asked * 0.4;
  const { results } = await store.write([set("a", "2", { wantPrevious: true })]);
  const { createSeq, modSeq } = store.get(bytes("a"))!;
  expect(createSeq).toBe(results[0]!.existed ? 2 : modSeq);
  await store.close();
});
