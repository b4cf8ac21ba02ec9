import fc from "fast-check";
import { expect, test } from "vitest";
import { type KeyPart, liesWithin } from "./key-reach.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test("no keys lie within any prefixes, and all keys within none", () => {
  expect(liesWithin("none", [])).toBe(true);
  expect(liesWithin("all", [bytes("a")])).toBe(false);
});

test("every part must lie within one prefix by itself", () => {
  const parts: KeyPart[] = [
    { kind: "key", key: "a/1" },
    { kind: "prefix", prefix: "b/x" },
  ];
  expect(liesWithin(parts, [bytes("a/"), bytes("b/")])).toBe(true);
  expect(liesWithin(parts, [bytes("a/")])).toBe(false);
  expect(liesWithin([{ kind: "range", start: "a/1", end: "b/1" }], [bytes("a/"), bytes("b/")])).toBe(false);
});

test("a range lies within a prefix only if each key that it could hold does", () => {
  // Of few letters, so that they often begin alike; the order of UTF-8 is that of the store.
  const letters = ["a", "b", "é", "\u{10ffff}", "\uffff"];
  const text = (minLength: number) =>
    fc.array(fc.constantFrom(...letters), { minLength, maxLength: 4 }).map((all) => all.join(""));
  const compare = (left: string, right: string): number => Buffer.compare(bytes(left), bytes(right));
  fc.assert(
    fc.property(text(0), text(0), text(1), text(1), (start, end, prefix, key) => {
      if (!liesWithin([{ kind: "range", start, end }], [bytes(prefix)])) return;
      const isInRange = compare(start, key) <= 0 && (end === "" || compare(key, end) < 0);
      if (isInRange) expect(key.startsWith(prefix)).toBe(true);
    }),
    { numRuns: 3000 },
  );
  expect(liesWithin([{ kind: "range", start: "a", end: "b" }], [bytes("a")])).toBe(true);
  expect(liesWithin([{ kind: "range", start: "a", end: "b\0" }], [bytes("a")])).toBe(false);
  expect(liesWithin([{ kind: "range", start: "a", end: "" }], [bytes("a")])).toBe(false);
  expect(liesWithin([{ kind: "range", start: "", end: "a" }], [bytes("a")])).toBe(false);
});
