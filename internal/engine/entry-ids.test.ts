import fc from "fast-check";
import { expect, test } from "vitest";
import { CHUNK_IDS, EntryIds } from "./entry-ids.js";

/** Locations begin with the second region. */
const locationFor = (n: number): number => (1 << 21) + n;

function idsOf(ids: EntryIds): number[] {
  const found: number[] = [];
  for (let id = ids.nextFrom(0, ids.end); id < ids.end; id = ids.nextFrom(id + 1, ids.end)) found.push(id);
  return found;
}

test("ids lead to their locations, and are met in their order, whatever was given back before", () => {
  const step = fc.record({ isTaking: fc.boolean(), count: fc.integer({ min: 1, max: 300 }), at: fc.nat(1000) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const ids = new EntryIds();
      const model = new Map<number, number>();
      let next = 0;
      for (const { isTaking, count, at } of steps) {
        if (isTaking) {
          for (let i = 0; i < count; i++) {
            const location = locationFor(next++);
            const id = ids.take(location);
            if (model.has(id)) expect(id).toBe("new");
            model.set(id, location);
          }
        } else {
          for (const id of [...model.keys()].slice(at, at + count)) {
            ids.give(id);
            model.delete(id);
          }
        }
      }
      expect(idsOf(ids)).toEqual([...model.keys()].sort((a, b) => a - b));
      for (const [id, location] of model) if (ids.locationOf(id) !== location) expect(id).toBe("at its location");
    }),
  );
});

test("chunks of which no id is left take no memory, and serve again", () => {
  const ids = new EntryIds();
  const taken = Array.from({ length: 5 * CHUNK_IDS }, (_, n) => ids.take(locationFor(n)));
  expect(ids.bytesTotal).toBe(5 * CHUNK_IDS * 4);
  for (const id of taken) if (id !== taken[3 * CHUNK_IDS]) ids.give(id);
  expect(idsOf(ids)).toEqual([taken[3 * CHUNK_IDS]]);
  expect(ids.bytesTotal).toBeLessThanOrEqual(2 * CHUNK_IDS * 4);
  for (let n = 0; n < 5 * CHUNK_IDS; n++) ids.take(locationFor(n));
  expect(idsOf(ids)).toHaveLength(5 * CHUNK_IDS + 1);
  expect(ids.end).toBe(7 * CHUNK_IDS);
  ids.clear();
  expect(idsOf(ids)).toEqual([]);
});

test("ids are met in a round, from any place on", () => {
  const ids = new EntryIds();
  expect(ids.nextAround(0)).toBe(0);
  const [a, b, c] = [1, 2, 3].map((n) => ids.take(locationFor(n))) as [number, number, number];
  ids.give(b);
  expect([ids.nextAround(0), ids.nextAround(a + 1), ids.nextAround(c + 1)]).toEqual([a, c, a]);
  expect([ids.isThere(a), ids.isThere(b), ids.isThere(c + 99), ids.isThere(7)]).toEqual([true, false, false, false]);
});

test("an id is moved, and may be given back once", () => {
  const ids = new EntryIds();
  const id = ids.take(locationFor(1));
  ids.move(id, -7);
  expect(ids.locationOf(id)).toBe(-7);
  ids.give(id);
  expect(() => ids.give(id)).toThrow("given back once");
});
