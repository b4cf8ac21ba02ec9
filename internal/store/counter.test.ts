import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { counterOf, counterText, INT64_MAX, INT64_MIN } from "./counter.js";

const of = (text: string): bigint | undefined => counterOf(Buffer.from(text, "latin1"));

describe("the text of a counter", () => {
  test("gives back every number of 64 bits", () => {
    const same = (n: bigint): void => {
      expect(counterOf(counterText(n))).toBe(n);
    };
    fc.assert(fc.property(fc.bigInt(INT64_MIN, INT64_MAX), same));
    for (const n of [INT64_MIN, INT64_MAX, 0n, -1n]) same(n);
  });

  const malformed = [
    "",
    " ",
    "-",
    "+1",
    "-0",
    "00",
    "01",
    "-01",
    " 1",
    "1 ",
    "1\n",
    "1\0",
    "1.0",
    "1e3",
    "0x10",
    "1_0",
    "१",
    "NaN",
  ];
  const tooLarge = [
    "9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999",
    "1".repeat(21),
    "1".repeat(1000),
  ];
  test.each([malformed, tooLarge].flat())("is not %j", (text) => {
    expect(of(text)).toBeUndefined();
  });

  test("is nothing but what it prints", () => {
    const digits = fc.string({ unit: fc.constantFrom("0", "1", "9", "-", "+", " ", "."), maxLength: 22 });
    fc.assert(
      fc.property(digits, (text) => {
        const counter = of(text);
        if (counter !== undefined) expect(counter.toString()).toBe(text);
      }),
    );
  });
});
