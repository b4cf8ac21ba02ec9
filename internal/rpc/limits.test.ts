import { describe, expect, test } from "vitest";
import { checkedKey, type Limits } from "./limits.js";

const limits: Limits = { keyBytesMax: 8, valueBytesMax: 16, messageBytesMax: 1024 };

describe("a key", () => {
  test("of one byte to the limit is its UTF-8", () => {
    for (const key of ["a", "\u0000", "ääää", "🌱🌱", "__proto__".slice(0, 8)]) {
      expect(Buffer.from(checkedKey(key, "key", limits)).toString()).toBe(key);
    }
  });

  test("with half a surrogate pair is refused, whichever half and wherever it stands", () => {
    for (const key of ["\ud83c", "\udf31", "a\ud83c", "\udf31\ud83c", "\ud83cx\udf31"]) {
      expect(() => checkedKey(key, "key", limits)).toThrow("half a surrogate pair");
    }
  });

  test("beyond the limit is refused by its bytes, not by its characters", () => {
    expect(() => checkedKey("ääääa", "keys[3]", limits)).toThrow("keys[3] has 9 bytes, a key may have 8");
    expect(() => checkedKey("x".repeat(1_000_000), "key", limits)).toThrow("key has at least 1000000 bytes");
  });
});
