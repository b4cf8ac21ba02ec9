/** What every engine does. The suite runs against each implementation of the port. */
import { describe, expect, test } from "vitest";
import { epochMs, seq } from "../base/position.js";
import type { Engine } from "./engine.js";
import { MapEngine } from "./map-engine.js";

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

describe.each([["MapEngine", () => new MapEngine()]])("%s", (_name, create: () => Engine) => {
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

  test("the engine keeps its own copy of a value", () => {
    const engine = create();
    const value = bytes("one");
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
