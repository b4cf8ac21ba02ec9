import fc from "fast-check";
import { expect, test } from "vitest";
import { SortedKeys } from "./sorted-keys.js";

type Step =
  | { readonly kind: "add" | "delete"; readonly key: string }
  /** Enough of them at once to split chunks, and to join them again. */
  | { readonly kind: "add many" | "delete many"; readonly first: number; readonly count: number };

// Few different keys, so that steps meet; with the bytes that an order of signed or of encoded characters would misplace.
const key = fc.oneof(
  fc.integer({ min: 0, max: 3000 }).map(numbered),
  fc.array(fc.constantFrom("\0", "a", "\x7f", "\x80", "ÿ"), { maxLength: 3 }).map((characters) => characters.join("")),
);
const run = { first: fc.integer({ min: 0, max: 3000 }), count: fc.integer({ min: 1, max: 1500 }) };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom("add" as const, "delete" as const), key }),
  fc.record({ kind: fc.constantFrom("add many" as const, "delete many" as const), ...run }),
);

function numbered(n: number): string {
  return `key-${String(n).padStart(5, "0")}`;
}

test("keys come in the order of a sorted array, whatever was added and deleted before", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.array(key, { minLength: 1, maxLength: 5 }), (steps, starts) => {
      const keys = new SortedKeys();
      const model = new Set<string>();
      const add = (one: string): void => void (keys.add(one), model.add(one));
      const remove = (one: string): void => void (keys.delete(one), model.delete(one));
      for (const one of steps) {
        if ("key" in one) {
          if (one.kind === "add") add(one.key);
          else remove(one.key);
        } else {
          // Not in their order, as keys come in life.
          for (let i = 0; i < one.count; i++) {
            const name = numbered(one.first + ((i * 7919) % one.count));
            if (one.kind === "add many") add(name);
            else remove(name);
          }
        }
      }
      const sorted = [...model].sort((a, b) => (a < b ? -1 : 1));
      expect([...keys.from("")]).toEqual(sorted);
      expect([...keys.downFrom()]).toEqual(sorted.toReversed());
      for (const start of starts) {
        expect([...keys.from(start)]).toEqual(sorted.filter((one) => one >= start));
        expect([...keys.downFrom(start)]).toEqual(sorted.filter((one) => one < start).reverse());
      }
    }),
    { numRuns: 100 },
  );
});

test("no keys are left after a clear", () => {
  const keys = new SortedKeys();
  for (let i = 0; i < 2000; i++) keys.add(numbered(i));
  keys.clear();
  expect([...keys.from("")]).toEqual([]);
  keys.add("a");
  expect([...keys.from("")]).toEqual(["a"]);
});
