import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkedFilter, checkedRange } from "./key-range.js";
import type { Limits } from "./limits.js";

const limits: Limits = { keyBytesMax: 64, valueBytesMax: 16, messageBytesMax: 1024 };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const rangeOf = (prefix: string) => checkedRange({ prefix, start: "", end: "" }, "", limits);
const textOf = (end: Uint8Array | undefined): string | undefined =>
  end && new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(end);

describe("the range of a prefix", () => {
  test("ends with the last character raised, and is a text whichever it is", () => {
    expect(textOf(rangeOf("a").end)).toBe("b");
    expect(textOf(rangeOf("\u007f").end)).toBe("\u0080");
    expect(textOf(rangeOf("xÿ").end)).toBe("xĀ");
    expect(textOf(rangeOf("x\ud7ff").end)).toBe("x\ue000");
    expect(textOf(rangeOf("x\uffff").end)).toBe("x\u{10000}");
    expect(textOf(rangeOf("x\u{10ffff}").end)).toBe("y");
    expect(rangeOf("\u{10ffff}\u{10ffff}").end).toBeUndefined();
  });

  test("holds exactly the keys that begin with it", () => {
    const character = fc.oneof(
      fc.constantFrom("a", "b", "\u007f", "\u0080", "ÿ", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\u{10000}"),
      fc.constantFrom("\u{10fffe}", "\u{10ffff}"),
    );
    const text = fc.array(character, { minLength: 1, maxLength: 4 }).map((characters) => characters.join(""));
    fc.assert(
      fc.property(text, text, (prefix, key) => {
        const { start, end } = rangeOf(prefix);
        const isInside = Buffer.compare(bytes(key), start) >= 0 && (!end || Buffer.compare(bytes(key), end) < 0);
        expect(isInside).toBe(key.startsWith(prefix));
      }),
    );
  });
});

describe("a filter", () => {
  const all = { key: "", prefix: "", start: "", end: "" };

  test("is one key, a range, or nothing where all keys are wanted", () => {
    expect(checkedFilter(all, "", limits)).toBeUndefined();
    expect(checkedFilter({ ...all, key: "k" }, "", limits)).toEqual({ key: bytes("k") });
    expect(checkedFilter({ ...all, start: "a", end: "b" }, "", limits)).toEqual({
      range: { start: bytes("a"), end: bytes("b") },
    });
    expect(checkedFilter({ ...all, end: "b" }, "", limits)).toEqual({ range: { start: bytes(""), end: bytes("b") } });
  });

  test("is one thing only, and the fields that contradict each other are named", () => {
    for (const other of [{ prefix: "p" }, { start: "s" }, { end: "e" }]) {
      expect(() => checkedFilter({ ...all, key: "k", ...other }, "watch.", limits)).toThrow(
        "watch.key is given together with prefix, start or end",
      );
    }
    expect(() => checkedFilter({ ...all, prefix: "p", end: "e" }, "watch.", limits)).toThrow(
      "watch.prefix is given together with start or end",
    );
    expect(() => checkedFilter({ ...all, start: "b", end: "a" }, "", limits)).toThrow("end lies before start");
  });
});
