/** What is remembered of writes: by whom, how much of it, and that it is the same however a node came by it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epochMs, seq } from "../base/position.js";
import type { RetriesChange } from "./change.js";
import {
  ANSWER_BYTES_A_CLIENT_MAX,
  ANSWER_OVERHEAD_BYTES,
  ANSWERS_A_CLIENT_MAX,
  CLIENT_OVERHEAD_BYTES,
  type Found,
  RetryTable,
} from "./retries.js";
import { bytes, text } from "./testing/stores.js";

const remember = (clientId: string, clientSeq: number, answer = `answer ${clientSeq}`): RetriesChange => ({
  kind: "remember",
  clientId,
  clientSeq,
  answer: bytes(answer),
});
const forget = (...clientIds: string[]): RetriesChange => ({ kind: "forget", clientIds });

/** A table after records, the first of which has seq 1 and the time 1000 ms. */
function tableOf(...changes: readonly RetriesChange[]): RetryTable {
  const table = new RetryTable();
  changes.forEach((change, i) => table.apply(change, seq(i + 1), epochMs((i + 1) * 1000)));
  return table;
}

const told = (found: Found | undefined): string =>
  found === undefined
    ? "new"
    : found.kind === "remembered"
      ? `${text(found.answer)} @${found.seq}`
      : `below ${found.floor}`;

const ids = (table: RetryTable): string[] => [...table.byLastUse()].map(({ id }) => id);

/** Everything that is replicated of a table, and the order that follows from it. */
const contentOf = (table: RetryTable): unknown => ({
  clients: [...table.walk()].toSorted((a, b) => (a.id < b.id ? -1 : 1)),
  order: ids(table),
  bytes: table.bytes,
  checksum: table.checksum,
});

describe("a write that made a record", () => {
  test("is remembered with its answer and its place, under the client's number", () => {
    const table = tableOf(remember("a", 1), remember("b", 1), remember("a", 7));
    expect(told(table.find("a", 1))).toBe("answer 1 @1");
    expect(told(table.find("b", 1))).toBe("answer 1 @2");
    expect(told(table.find("a", 7))).toBe("answer 7 @3");
    expect([told(table.find("a", 2)), told(table.find("a", 8)), told(table.find("c", 1))]).toEqual([
      "new",
      "new",
      "new",
    ]);
  });

  test("is found among the newest 128 of its client in whatever order they came, and below them is too old", () => {
    const changes = Array.from({ length: ANSWERS_A_CLIENT_MAX }, (_, i) => remember("a", ((i * 37) % 128) + 1));
    const table = tableOf(...changes);
    for (let clientSeq = 1; clientSeq <= 128; clientSeq++) {
      expect(told(table.find("a", clientSeq))).toContain(`answer ${clientSeq} @`);
    }
    table.apply(remember("a", 130), seq(129), epochMs(200_000));
    expect([told(table.find("a", 1)), told(table.find("a", 2))]).toEqual(["below 2", "answer 2 @46"]);
    expect([told(table.find("a", 129)), told(table.find("a", 130))]).toEqual(["new", "answer 130 @129"]);
  });

  test("whose answer is large leaves room for fewer, or for none", () => {
    const large = "x".repeat(ANSWER_BYTES_A_CLIENT_MAX / 2);
    const table = tableOf(remember("a", 1, large), remember("a", 2, large), remember("a", 3, large));
    expect([1, 2, 3].map((clientSeq) => table.find("a", clientSeq)?.kind)).toEqual([
      "too-old",
      "remembered",
      "remembered",
    ]);
    table.apply(remember("a", 4, "y".repeat(4 << 20)), seq(4), epochMs(5000));
    expect([2, 3, 4].map((clientSeq) => table.find("a", clientSeq)?.kind)).toEqual([
      "too-old",
      "too-old",
      "remembered",
    ]);
    expect(table.bytes).toBe(CLIENT_OVERHEAD_BYTES + 1 + ANSWER_OVERHEAD_BYTES + (4 << 20));
  });

  test("that is lower than all that fits is below the floor at once, and not executed again", () => {
    const large = "x".repeat(ANSWER_BYTES_A_CLIENT_MAX);
    const table = tableOf(remember("a", 5, large), remember("a", 4, large));
    expect([told(table.find("a", 4)), table.find("a", 5)?.kind]).toEqual(["below 5", "remembered"]);
    table.apply(remember("a", 3), seq(3), epochMs(4000));
    expect([told(table.find("a", 3)), table.find("a", 5)?.kind]).toEqual(["below 5", "remembered"]);
  });

  test("keeps its first answer should another be told of it", () => {
    const table = tableOf(remember("a", 1, "first"), remember("a", 1, "second"));
    expect(told(table.find("a", 1))).toBe("first @1");
  });

  test("keeps the bytes of its answer, whatever they are", () => {
    const answer = Uint8Array.from({ length: 256 }, (_, i) => i);
    const table = tableOf({ kind: "remember", clientId: "a", clientSeq: 1, answer });
    const found = table.find("a", 1);
    expect(found?.kind === "remembered" && [...found.answer]).toEqual([...answer]);
  });
});

describe("clients", () => {
  test("are told by how long ago they wrote, and forgotten as if they had never been", () => {
    const table = tableOf(remember("a", 1), remember("b", 1), remember("c", 1), remember("a", 2));
    expect([ids(table), table.oldestMs]).toEqual([["b", "c", "a"], 2000]);
    table.apply(forget("c", "a", "unknown"), seq(5), epochMs(6000));
    expect([ids(table), told(table.find("a", 1)), told(table.find("b", 1))]).toEqual([["b"], "new", "answer 1 @2"]);
    table.apply(forget("b"), seq(6), epochMs(7000));
    expect([table.bytes, table.checksum, table.clientCount, table.oldestMs]).toEqual([0, 0, 0, undefined]);
  });
});

describe("the checksum", () => {
  test("does not go by the order in which clients came, and by everything else", () => {
    const base = tableOf(remember("a", 1), remember("b", 1)).checksum;
    const other = new RetryTable();
    other.apply(remember("b", 1), seq(2), epochMs(2000));
    other.apply(remember("a", 1), seq(1), epochMs(1000));
    expect(other.checksum).toBe(base);
    const different = [
      tableOf(remember("a", 1)),
      tableOf(remember("b", 1), remember("a", 1)),
      tableOf(remember("a", 1), remember("b", 2)),
      tableOf(remember("a", 1), remember("c", 1)),
      tableOf(remember("a", 1), remember("b", 1, "another answer")),
      tableOf(remember("a", 1), remember("b", 1), remember("b", 2)),
    ].map(({ checksum }) => checksum);
    expect(new Set([base, ...different]).size).toBe(different.length + 1);
  });
});

const anyChange = fc.oneof(
  { weight: 9, arbitrary: fc.tuple(fc.constantFrom("a", "b", "c", "d"), fc.integer({ min: 1, max: 400 })) },
  { weight: 1, arbitrary: fc.constantFrom("a", "b", "c", "d") },
);

describe("a walk over the table", () => {
  test("with what came since its beginning applied over it is the table again", () => {
    fc.assert(
      fc.property(
        fc.array(anyChange, { maxLength: 600 }),
        fc.array(anyChange, { minLength: 1, maxLength: 60 }),
        fc.infiniteStream(fc.boolean()),
        (before, during, walks) => {
          const all = [...before, ...during].map((change, i) =>
            typeof change === "string" ? forget(change) : remember(change[0], change[1], `answer ${change[1]} of ${i}`),
          );
          const table = tableOf(...all.slice(0, before.length));
          const other = new RetryTable();
          const walk = table.walk();
          let at = before.length;
          const next = (): void => table.apply(all[at]!, seq(++at), epochMs(at * 1000));
          for (let step = walk.next(); !step.done; step = walk.next()) {
            other.restore(step.value);
            while (at < all.length && walks.next().value) next();
          }
          while (at < all.length) next();
          for (let i = before.length; i < all.length; i++) other.apply(all[i]!, seq(i + 1), epochMs((i + 1) * 1000));
          expect(contentOf(other)).toEqual(contentOf(table));
        },
      ),
    );
  });
});
