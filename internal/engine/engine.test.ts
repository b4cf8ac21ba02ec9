/** What every engine does. The suite runs against each implementation of the port. */
import { describe, expect, test } from "vitest";
import { epochMs, seq } from "../base/position.js";
import { accountedBytesOf, type Engine, type KeyedEntry, type Operation, type ScanBudget } from "./engine.js";
import { MapEngine } from "./map-engine.js";
import { SlabEngine } from "./slab-engine.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const at = epochMs(1000);

function put(engine: Engine, n: number, key: string, value: string, expiresAtMs?: number): void {
  engine.apply(seq(n), at, {
    kind: "put",
    key: bytes(key),
    value: bytes(value),
    ...(expiresAtMs !== undefined && { expiresAtMs: epochMs(expiresAtMs) }),
  });
}

function engineDelete(engine: Engine, n: number, key: string): void {
  engine.apply(seq(n), at, { kind: "delete", key: bytes(key) });
}

function* keysOf(entries: Iterator<KeyedEntry, undefined>): Generator<string> {
  for (let next = entries.next(); !next.done; next = entries.next()) yield Buffer.from(next.value.key).toString();
}

describe.each([
  ["MapEngine", () => new MapEngine()],
  ["SlabEngine", () => new SlabEngine()],
])("%s", (_name, create: () => Engine) => {
  test("a key that was put is read with its value and seqs", () => {
    const engine = create();
    put(engine, 7, "a", "one");
    expect(engine.get(bytes("a"), at)).toEqual({ value: bytes("one"), createSeq: 7, modSeq: 7 });
    expect(engine.get(bytes("b"), at)).toBeUndefined();
  });

  test("a second put keeps the create seq and moves the mod seq", () => {
    const engine = create();
    put(engine, 1, "a", "one");
    put(engine, 2, "a", "two");
    expect(engine.get(bytes("a"), at)).toEqual({ value: bytes("two"), createSeq: 1, modSeq: 2 });
  });

  test("a deleted key is absent, and a put after it creates it anew", () => {
    const engine = create();
    put(engine, 1, "a", "one");
    engine.apply(seq(2), at, { kind: "delete", key: bytes("a") });
    expect(engine.get(bytes("a"), at)).toBeUndefined();
    put(engine, 3, "a", "two");
    expect(engine.get(bytes("a"), at)?.createSeq).toBe(3);
  });

  test("deleting an absent key changes nothing", () => {
    const engine = create();
    engine.apply(seq(1), at, { kind: "delete", key: bytes("a") });
    expect([engine.entryCount, engine.dataBytes]).toEqual([0, 0]);
  });

  test("keys fall due in the order of their deadlines, and stay until they are removed", () => {
    const engine = create();
    expect(engine.nextDueMs).toBe(Infinity);
    put(engine, 1, "a", "one", 5000);
    put(engine, 2, "b", "two", 3000);
    put(engine, 3, "c", "three");
    put(engine, 4, "d", "four", 9000);
    const names = (nowMs: number, countMax = 10): string[] =>
      engine.due(epochMs(nowMs), countMax).map(({ key, modSeq }) => `${Buffer.from(key).toString()}@${modSeq}`);
    expect([names(2999), names(3000), names(5000), names(5000, 1)]).toEqual([[], ["b@2"], ["b@2", "a@1"], ["b@2"]]);
    expect(engine.nextDueMs).toBeLessThanOrEqual(3000);
    put(engine, 5, "b", "anew", 20_000);
    engineDelete(engine, 6, "d");
    expect(names(10_000)).toEqual(["a@1"]);
    engine.apply(seq(7), epochMs(10_000), { kind: "expire", key: bytes("a"), modSeq: seq(1) });
    expect([names(10_000), names(20_000), engine.entryCount]).toEqual([[], ["b@5"], 2]);
  });

  test("of keys that are due no more are told than have so many bytes, and one at least", () => {
    const engine = create();
    for (let n = 1; n <= 200; n++) put(engine, n, `key-${100 + n}`, "v", 5000);
    const count = (bytesMax: number): number => engine.due(epochMs(5000), 100, bytesMax).length;
    expect([count(1), count(7), count(8), count(70), count(10_000)]).toEqual([1, 1, 2, 10, 100]);
  });

  test.each(["expire", "evict"] as const)("an operation to %s leaves a key that was changed since", (kind) => {
    const engine = create();
    put(engine, 1, "a", "one", 5000);
    put(engine, 2, "a", "two", 5000);
    engine.apply(seq(3), epochMs(6000), { kind, key: bytes("a"), modSeq: seq(1) });
    expect(engine.entryCount).toBe(1);
    engine.apply(seq(4), epochMs(6000), { kind, key: bytes("a"), modSeq: seq(2) });
    engine.apply(seq(5), epochMs(6000), { kind, key: bytes("absent"), modSeq: seq(2) });
    expect([engine.entryCount, engine.dataBytes, engine.accountedBytes, engine.checksum]).toEqual([0, 0, 0, 0]);
  });

  test("removals of one record go together, and as many are told as found their key as they say", () => {
    const engine = create();
    for (let n = 0; n < 1000; n++) put(engine, n + 1, `key-${n}`, "value", 5000);
    put(engine, 1001, "key-7", "anew", 5000);
    const removals = Array.from({ length: 900 }, (_, n) => ({
      kind: "expire" as const,
      key: bytes(`key-${n}`),
      modSeq: seq(n + 1),
    }));
    const absent = { kind: "expire", key: bytes("absent"), modSeq: seq(1) } as const;
    expect(engine.applyRemovals(seq(1002), epochMs(6000), [...removals, absent, removals[0]!])).toBe(899);
    const left = [...keysOf(engine.walk(seq(2000)))].sort();
    expect(left).toEqual(["key-7", ...Array.from({ length: 100 }, (_, n) => `key-${900 + n}`)].sort());
    expect(engine.applyRemovals(seq(1003), epochMs(6000), [])).toBe(0);
  });

  test("a version of a key counts as long as no record has changed it", () => {
    const engine = create();
    put(engine, 1, "a", "one", 5000);
    const bytesOf = (key: string, n: number): number | undefined =>
      engine.bytesOfVersions([{ key: bytes(key), modSeq: seq(n) }])[0];
    expect([bytesOf("a", 1), bytesOf("a", 2), bytesOf("b", 1)]).toEqual([accountedBytesOf(1, 3), undefined, undefined]);
    put(engine, 2, "a", "four", 5000);
    expect([bytesOf("a", 1), bytesOf("a", 2)]).toEqual([undefined, accountedBytesOf(1, 4)]);
    engine.apply(seq(3), at, { kind: "delete-range", start: bytes("") });
    expect(bytesOf("a", 2)).toBeUndefined();
  });

  test("of many versions each is told what it counts for, in their order", () => {
    const engine = create();
    for (let n = 1; n <= 900; n++) put(engine, n, `key-${n}`, "v".repeat(n % 7), 5000);
    const versions = Array.from({ length: 900 }, (_, i) => ({
      key: bytes(`key-${i + 1}`),
      modSeq: seq(i % 3 ? i + 1 : 1000),
    }));
    expect(engine.bytesOfVersions(versions)).toEqual(
      versions.map(({ key, modSeq }) => (modSeq === 1000 ? undefined : accountedBytesOf(key.length, modSeq % 7))),
    );
    expect(engine.bytesOfVersions([])).toEqual([]);
  });

  test("where more is due than is asked for, each comes once, the soonest is among them, and nothing that is not due", () => {
    const engine = create();
    const keys = 3000;
    for (let n = 0; n < keys; n++) put(engine, n + 1, `key-${(n * 7919) % keys}`, "v", 5000 + (n % 1500));
    let removed = 0;
    for (let n = keys + 1; engine.nextDueMs <= 6000; n++) {
      const [soonest] = engine.due(epochMs(6000), 1);
      const due = engine.due(epochMs(6000), 200);
      if (due.length === 0) break;
      expect(new Set(due.map(({ key }) => Buffer.from(key).toString())).size).toBe(due.length);
      expect(due).toContainEqual(soonest);
      for (const { key } of due) expect(engine.get(key, epochMs(0))?.expiresAtMs).toBeLessThanOrEqual(6000);
      const removals = due.map(({ key, modSeq }) => ({ kind: "expire" as const, key, modSeq }));
      removed += engine.applyRemovals(seq(n), epochMs(6000), removals);
    }
    expect([removed, engine.entryCount]).toEqual([2002, 998]);
  });

  test("a key counts for its bytes and what an entry takes", () => {
    const engine = create();
    put(engine, 1, "abc", "four");
    expect(engine.accountedBytes).toBe(accountedBytesOf(3, 4));
    put(engine, 2, "abc", "seven..");
    put(engine, 3, "d", "");
    expect(engine.accountedBytes).toBe(accountedBytesOf(3, 7) + accountedBytesOf(1, 0));
  });

  test("each policy names another key that could go, until there is none", () => {
    for (const policy of ["lru", "lfu", "random", "ttl"] as const) {
      const engine = create();
      expect(engine.victim(policy)).toBeUndefined();
      for (let i = 1; i <= 50; i++)
        put(engine, i, `key-${i}`, "value", policy === "ttl" && i > 40 ? undefined : 5000 + i);
      const left = new Set<string>();
      let n = 50;
      for (;;) {
        const victim = engine.victim(policy);
        if (!victim) break;
        const name = Buffer.from(victim.key).toString();
        expect([left.has(name), victim.accountedBytes]).toEqual([false, accountedBytesOf(name.length, 5)]);
        left.add(name);
        engine.apply(seq(++n), at, { kind: "evict", key: victim.key, modSeq: victim.modSeq });
      }
      expect([policy, left.size, engine.entryCount]).toEqual([
        policy,
        policy === "ttl" ? 40 : 50,
        policy === "ttl" ? 10 : 0,
      ]);
    }
  });

  test("a key that is read or written is used, and of two the one goes that was not", () => {
    for (const policy of ["lru", "lfu"] as const) {
      const engine = create();
      put(engine, 1, "a", "1");
      put(engine, 2, "b", "2");
      for (let i = 0; i < 20; i++) engine.get(bytes("a"), at);
      expect(Buffer.from(engine.victim(policy)!.key).toString()).toBe("b");
    }
  });

  test("keys are scanned downwards too", () => {
    const engine = create();
    for (const [i, key] of ["b", "a", "d", "c", "e"].entries())
      put(engine, i + 1, key, "v", key === "c" ? 500 : undefined);
    const names = (start: string, end?: string): string =>
      [...keysOf(engine.scan({ start: bytes(start), ...(end && { end: bytes(end) }) }, at, true))].join("");
    expect([names(""), names("b", "e"), names("a", "a"), names("bb", "z"), names("f")]).toEqual([
      "edba",
      "db",
      "",
      "ed",
      "",
    ]);
  });

  test("a key is hidden from its deadline on, not a millisecond before", () => {
    const engine = create();
    put(engine, 1, "a", "one", 5000);
    expect(engine.get(bytes("a"), epochMs(4999))?.expiresAtMs).toBe(5000);
    expect(engine.get(bytes("a"), epochMs(5000))).toBeUndefined();
  });

  test("a put over an overdue key creates it anew, by the record's own time", () => {
    const engine = create();
    put(engine, 1, "a", "one", 500);
    put(engine, 2, "a", "two");
    expect(engine.get(bytes("a"), at)).toEqual({ value: bytes("two"), createSeq: 2, modSeq: 2 });
  });

  test("a put that was overdue from the start, replayed over what it left, leaves the same again", () => {
    const engine = create();
    put(engine, 1, "a", "one");
    put(engine, 2, "a", "two", 1000);
    const { checksum } = engine;
    put(engine, 2, "a", "two", 1000);
    expect(engine.checksum).toBe(checksum);
    // For every other record the key is absent.
    put(engine, 3, "a", "three");
    expect(engine.get(bytes("a"), at)?.createSeq).toBe(3);
  });

  test("counts of keys and bytes follow puts, overwrites and deletes", () => {
    const engine = create();
    put(engine, 1, "key", "12345");
    put(engine, 2, "other", "1");
    expect([engine.entryCount, engine.dataBytes]).toEqual([2, 3 + 5 + 5 + 1]);
    put(engine, 3, "key", "1");
    expect(engine.dataBytes).toBe(3 + 1 + 5 + 1);
    engine.apply(seq(4), at, { kind: "delete", key: bytes("other") });
    expect([engine.entryCount, engine.dataBytes]).toEqual([1, 4]);
    engine.clear();
    expect([engine.entryCount, engine.dataBytes]).toEqual([0, 0]);
  });

  describe("the checksum", () => {
    const after = (...puts: [n: number, key: string, value: string, expiresAtMs?: number][]): number => {
      const engine = create();
      for (const [n, key, value, expiresAtMs] of puts) put(engine, n, key, value, expiresAtMs);
      return engine.checksum;
    };

    test("is 0 of nothing, also of nothing that is left", () => {
      const engine = create();
      expect(engine.checksum).toBe(0);
      put(engine, 1, "a", "one", 500);
      put(engine, 2, "a", "two");
      put(engine, 3, "b", "three");
      expect(engine.checksum).not.toBe(0);
      engine.apply(seq(4), at, { kind: "delete", key: bytes("a") });
      engine.apply(seq(5), at, { kind: "delete", key: bytes("b") });
      expect(engine.checksum).toBe(0);
      put(engine, 6, "a", "one");
      engine.clear();
      expect(engine.checksum).toBe(0);
    });

    test("tells apart every part of an entry, and whose byte is whose", () => {
      const sums = [
        after([1, "a", "one"]),
        after([1, "b", "one"]),
        after([1, "a", "two"]),
        after([2, "a", "one"]),
        after([1, "a", "one", 5000]),
        after([1, "ao", "ne"]),
        after([1, "a", "x"], [2, "a", "one"]),
        after([1, "a", "one"], [2, "b", "one"]),
      ];
      expect(new Set(sums).size).toBe(sums.length);
    });

    test("is that of the entries, whatever was there before, and in whatever order they came", () => {
      const one = create();
      put(one, 1, "a", "old");
      put(one, 2, "b", "x", 500);
      engineDelete(one, 3, "a");
      put(one, 4, "b", "now", 9000);
      put(one, 5, "a", "new");
      const walked = create();
      const walk = one.walk(seq(5));
      const entries = [];
      for (let step = walk.next(); !step.done; step = walk.next()) {
        entries.push({ ...step.value, value: Buffer.from(step.value.value) });
      }
      for (const entry of entries.reverse()) walked.restore(entry);
      // In the place of one that is there already, too.
      walked.restore(entries[0]!);
      expect(walked.checksum).toBe(one.checksum);
      expect(one.checksum).toBe(after([5, "a", "new"], [4, "b", "now", 9000]));
    });
  });

  test("an operation on a key that a later record has changed does nothing", () => {
    const engine = create();
    put(engine, 5, "a", "new");
    put(engine, 4, "a", "old");
    engine.apply(seq(4), at, { kind: "delete", key: bytes("a") });
    expect(engine.get(bytes("a"), at)?.value).toEqual(bytes("new"));
    // Operations of one record share its seq, and each of them counts.
    put(engine, 5, "a", "newer");
    expect(engine.get(bytes("a"), at)?.value).toEqual(bytes("newer"));
  });

  test("a walk meets every entry that stays once, whatever is written in between, and comes to an end", () => {
    const engine = create();
    for (let i = 1; i <= 100; i++) put(engine, i, `key-${i}`, `value-${i}`);
    const met = new Map<string, number>();
    const walk = engine.walk(seq(100));
    let next = 101;
    for (let step = walk.next(); !step.done; step = walk.next()) {
      const key = new TextDecoder().decode(step.value.key);
      met.set(key, (met.get(key) ?? 0) + 1);
      // Each step deletes and recreates a key, overwrites another, and adds a new one: a walk that met those would not end.
      engine.apply(seq(next), at, { kind: "delete", key: bytes(`key-${(next % 50) + 1}`) });
      put(engine, next + 1, `key-${(next % 50) + 1}`, "again");
      put(engine, next + 2, `key-${51 + (next % 50)}`, "changed");
      put(engine, next + 3, `new-${next}`, "x");
      next += 4;
    }
    for (let i = 51; i <= 100; i++) expect(met.get(`key-${i}`)).toBe(1);
    expect([...met.keys()].every((key) => key.startsWith("key-"))).toBe(true);
  });

  test("what was walked during writes, with the log of the meantime replayed over it, is the state at the end", () => {
    const rounds = 300;
    let state = 7;
    const random = (below: number): number => (state = (state * 48_271) % 2_147_483_647) % below;
    const engine = create();
    const log: [number, Operation, number][] = [];
    let next = 1;
    const step = (): void => {
      const key = bytes(`key-${random(40)}`);
      // Time passes, and some of the deadlines with it.
      const timestamp = 1000 + next;
      const operation: Operation =
        random(3) === 0
          ? { kind: "delete", key }
          : {
              kind: "put",
              key,
              value: bytes(`value-${next}`),
              ...(random(2) === 0 && { expiresAtMs: epochMs(timestamp + random(60)) }),
            };
      engine.apply(seq(next), epochMs(timestamp), operation);
      log.push([next++, operation, timestamp]);
    };
    for (let i = 0; i < rounds; i++) step();
    const from = next - 1;
    const copy = create();
    const walk = engine.walk(seq(from));
    for (let entry = walk.next(); !entry.done; entry = walk.next()) {
      copy.restore(entry.value);
      for (let i = random(10); i > 0; i--) step();
    }
    for (const [n, operation, timestamp] of log) {
      if (n > from) copy.apply(seq(n), epochMs(timestamp), operation);
    }
    const content = (one: Engine): unknown => {
      const all = [];
      const entries = one.walk(seq(next));
      for (let entry = entries.next(); !entry.done; entry = entries.next()) {
        all.push({ ...entry.value, key: new TextDecoder().decode(entry.value.key) });
      }
      return all.sort((a, b) => (a.key < b.key ? -1 : 1));
    };
    expect(content(copy)).toEqual(content(engine));
    expect([copy.entryCount, copy.dataBytes]).toEqual([engine.entryCount, engine.dataBytes]);
    expect(copy.checksum).toBe(engine.checksum);
  });

  describe("a scan", () => {
    const keysOf = (engine: Engine, start: string, end?: string, nowMs = at): string[] => {
      const found: string[] = [];
      const scan = engine.scan({ start: bytes(start), ...(end !== undefined && { end: bytes(end) }) }, nowMs);
      for (let step = scan.next(); !step.done; step = scan.next()) found.push(new TextDecoder().decode(step.value.key));
      return found;
    };

    test("goes by the bytes of the keys, whatever the order of writing", () => {
      const engine = create();
      const keys = ["b", "a", "🌳", "z", "", "a/b", "a!", "\u0000", "é", "ab"];
      for (const [i, key] of keys.entries()) put(engine, i + 1, key, "v");
      expect(keysOf(engine, "")).toEqual(["", "\u0000", "a", "a!", "a/b", "ab", "b", "z", "é", "🌳"]);
    });

    test("begins with the start and stops before the end", () => {
      const engine = create();
      for (const [i, key] of ["d", "b", "a", "c"].entries()) put(engine, i + 1, key, "v");
      expect(keysOf(engine, "b", "d")).toEqual(["b", "c"]);
      expect(keysOf(engine, "bb", "cc")).toEqual(["c"]);
      expect(keysOf(engine, "e")).toEqual([]);
      expect(keysOf(engine, "b", "b")).toEqual([]);
      expect(keysOf(engine, "c", "b")).toEqual([]);
    });

    test("gives entries as a get does", () => {
      const engine = create();
      put(engine, 1, "a", "one");
      put(engine, 2, "a", "two", 9000);
      const entry = engine.scan({ start: bytes("") }, at).next().value;
      expect({ ...entry, key: new Uint8Array(entry!.key) }).toEqual({
        key: bytes("a"),
        value: bytes("two"),
        createSeq: 1,
        modSeq: 2,
        expiresAtMs: 9000,
      });
    });

    test("leaves out what is overdue, and what was deleted, overwritten or cleared once", () => {
      const engine = create();
      put(engine, 1, "a", "v", 500);
      put(engine, 2, "b", "v", 5000);
      put(engine, 3, "c", "v");
      put(engine, 4, "d", "v", 500);
      put(engine, 5, "d", "anew");
      put(engine, 6, "c", "again");
      expect(keysOf(engine, "")).toEqual(["b", "c", "d"]);
      expect(keysOf(engine, "", undefined, epochMs(5000))).toEqual(["c", "d"]);
      engine.apply(seq(7), at, { kind: "delete", key: bytes("c") });
      expect(keysOf(engine, "")).toEqual(["b", "d"]);
      engine.clear();
      expect(keysOf(engine, "")).toEqual([]);
    });

    test("meets what a walk restored", () => {
      const [engine, copy] = [create(), create()];
      for (let i = 1; i <= 2000; i++) put(engine, i, `key-${(i * 7919) % 2000}`, "v");
      const walk = engine.walk(seq(2000));
      for (let step = walk.next(); !step.done; step = walk.next()) copy.restore(step.value);
      expect(keysOf(copy, "")).toEqual(keysOf(engine, ""));
      expect(keysOf(copy, "")).toHaveLength(2000);
    });
  });

  describe("a deletion of a range", () => {
    const deleteRange = (engine: Engine, n: number, start: string, end?: string): void =>
      engine.apply(seq(n), at, {
        kind: "delete-range",
        start: bytes(start),
        ...(end !== undefined && { end: bytes(end) }),
      });
    /** More than a deletion removes at once. */
    const fill = (engine: Engine): void => {
      for (let i = 0; i < 300; i++) put(engine, i + 1, keyOf(i), "value", i % 2 === 0 ? 5000 : undefined);
    };
    const keyOf = (i: number): string => `${"abc"[i % 3]}/${String(i).padStart(3, "0")}`;
    const settle = (engine: Engine, looks = 7): void => {
      while (engine.removeHidden(looks));
      expect(engine.isSettled).toBe(true);
    };
    const namesOf = (engine: Engine, isReverse = false): string[] => [
      ...keysOf(engine.scan({ start: bytes("") }, at, isReverse)),
    ];

    test("takes all keys of the range away from every reader at once, and no others", () => {
      const engine = create();
      fill(engine);
      deleteRange(engine, 400, "b/", "b0");
      const expected = Array.from({ length: 300 }, (_, i) => keyOf(i)).filter((key) => !key.startsWith("b"));
      for (const isSettled of [false, true]) {
        if (isSettled) settle(engine);
        expect(namesOf(engine)).toEqual(expected.toSorted());
        expect(namesOf(engine, true)).toEqual(expected.toSorted().toReversed());
        expect([...keysOf(engine.walk(seq(400)))].sort()).toEqual(expected.toSorted());
        expect(engine.get(bytes("b/001"), at)).toBeUndefined();
        expect(engine.get(bytes("a/000"), at)?.modSeq).toBe(1);
        expect(engine.due(epochMs(6000), 300).filter(({ key }) => Buffer.from(key).toString().startsWith("b"))).toEqual(
          [],
        );
        expect(engine.count({ start: bytes("a"), end: bytes("c") }, at, undefined, 1000)).toEqual({ count: 100 });
      }
      expect(engine.entryCount).toBe(200);
    });

    test("leaves what its own record or a later one has written", () => {
      const engine = create();
      fill(engine);
      put(engine, 500, "a/000", "later");
      put(engine, 400, "a/003", "same");
      deleteRange(engine, 400, "", "b");
      for (const isSettled of [false, true]) {
        if (isSettled) settle(engine, 1);
        expect(namesOf(engine).filter((key) => key < "b")).toEqual(["a/000", "a/003"]);
      }
    });

    test("lets a key that is written after it be made anew", () => {
      const engine = create();
      fill(engine);
      deleteRange(engine, 400, "");
      put(engine, 401, "b/100", "anew");
      put(engine, 402, "b/100", "again");
      expect(engine.get(bytes("b/100"), at)).toEqual({ value: bytes("again"), createSeq: 401, modSeq: 402 });
      settle(engine);
      expect([namesOf(engine), engine.entryCount, engine.dataBytes]).toEqual([["b/100"], 1, 10]);
      const other = create();
      put(other, 401, "b/100", "anew");
      put(other, 402, "b/100", "again");
      expect(engine.checksum).toBe(other.checksum);
    });

    test("lets no operation find what it has hidden", () => {
      const engine = create();
      fill(engine);
      const victim = { kind: "evict", key: bytes("b/100"), modSeq: seq(101) } as const;
      deleteRange(engine, 400, "b/", "b0");
      engine.apply(seq(401), at, victim);
      engine.apply(seq(402), at, { ...victim, kind: "expire" });
      engine.apply(seq(403), at, { kind: "delete", key: victim.key });
      expect(engine.get(victim.key, at)).toBeUndefined();
      for (const policy of ["lru", "lfu", "random", "ttl"] as const) {
        for (let i = 0; i < 100; i++) {
          const found = engine.victim(policy);
          if (found) expect(Buffer.from(found.key).toString()).not.toMatch(/^b/);
        }
      }
      settle(engine);
      expect(engine.entryCount).toBe(200);
    });

    test("may come over others that are not carried out yet", () => {
      const engine = create();
      fill(engine);
      deleteRange(engine, 400, "a/100", "b/100");
      put(engine, 401, "a/120", "between");
      put(engine, 402, "b/001", "stays");
      deleteRange(engine, 403, "a/110", "b/");
      deleteRange(engine, 404, "c/200");
      deleteRange(engine, 405, "x", "y");
      deleteRange(engine, 406, "b", "a");
      const expected = Array.from({ length: 300 }, (_, i) => keyOf(i)).filter(
        (key) => (key < "a/100" || key >= "b/100" || key === "b/001") && key < "c/200",
      );
      expect(namesOf(engine)).toEqual(expected.toSorted());
      settle(engine, 3);
      expect([namesOf(engine), engine.entryCount]).toEqual([expected.toSorted(), expected.length]);
    });

    test("is forgotten with everything else", () => {
      const engine = create();
      fill(engine);
      deleteRange(engine, 400, "");
      engine.clear();
      expect([engine.isSettled, engine.entryCount]).toEqual([true, 0]);
      engine.restore({ key: bytes("a"), value: bytes("v"), createSeq: seq(1), modSeq: seq(1) });
      expect(namesOf(engine)).toEqual(["a"]);
    });
  });

  describe("a scan with a budget", () => {
    const budgeted = (engine: Engine, start: string, end: string | undefined, isReverse: boolean, looks: number) => {
      const budget: ScanBudget = { looks };
      const range = { start: bytes(start), ...(end !== undefined && { end: bytes(end) }) };
      const names = [...keysOf(engine.scan(range, at, isReverse, budget))];
      return [names.join(""), budget.stoppedAt && Buffer.from(budget.stoppedAt).toString()];
    };

    test("stops when it has looked at so many entries, shown or not, and says where to go on", () => {
      const engine = create();
      for (const [i, key] of ["a", "b", "c", "d", "e"].entries())
        put(engine, i + 1, key, "v", key < "d" ? 500 : undefined);
      expect(budgeted(engine, "", undefined, false, 2)).toEqual(["", "c"]);
      expect(budgeted(engine, "c", undefined, false, 2)).toEqual(["d", "e"]);
      expect(budgeted(engine, "c", "e", false, 2)).toEqual(["d", undefined]);
      expect(budgeted(engine, "e", undefined, false, 1)).toEqual(["e", undefined]);
      expect(budgeted(engine, "", undefined, true, 3)).toEqual(["ed", "c"]);
      expect(budgeted(engine, "", "c", true, 1)).toEqual(["", "b"]);
      expect(budgeted(engine, "", "b", true, 1)).toEqual(["", undefined]);
    });

    test("counts as many as a scan shows, in parts", () => {
      const engine = create();
      for (let i = 0; i < 100; i++) put(engine, i + 1, `key-${i + 100}`, "v", i % 10 === 0 ? 500 : undefined);
      const range = { start: bytes("key-120"), end: bytes("key-180") };
      for (const looks of [1, 7, 59, 60, 61, 1000]) {
        let total = 0;
        let from: Uint8Array | undefined;
        do {
          const { count, next } = engine.count(range, at, from, looks);
          expect(count).toBeLessThanOrEqual(looks);
          total += count;
          from = next;
        } while (from);
        expect(total).toBe(54);
      }
      expect(engine.count({ start: bytes("x") }, at, undefined, 10)).toEqual({ count: 0 });
      expect(engine.count({ start: bytes("x"), end: bytes("a") }, at, undefined, 10)).toEqual({ count: 0 });
      expect(engine.count({ start: bytes("") }, at, bytes("key-190"), 100)).toEqual({ count: 9 });
    });
  });

  // A Buffer's own slice is a view, not a copy.
  test.each([
    ["Uint8Array", bytes("one")],
    ["Buffer", Buffer.from("one")],
  ])("the engine keeps its own copy of a value that comes as a %s", (_type, value) => {
    const engine = create();
    engine.apply(seq(1), at, { kind: "put", key: bytes("a"), value });
    value.fill(0);
    expect(engine.get(bytes("a"), at)?.value).toEqual(bytes("one"));
  });

  test.each(["__proto__", "constructor", "toString", "\u0000", "../../x", "ключ", "🌳"])(
    "%j is a key like any other",
    (key) => {
      const engine = create();
      expect(engine.get(bytes(key), at)).toBeUndefined();
      put(engine, 1, key, "v");
      expect(engine.get(bytes(key), at)?.value).toEqual(bytes("v"));
    },
  );
});
