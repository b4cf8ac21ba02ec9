import { expect, test } from "vitest";
import { epoch, epochMs, type Position, type Seq, seq } from "../base/position.js";
import type { LoggedEvent } from "../store/store.js";
import type { Part, Places } from "./parts.js";
import { PreviousBatches } from "./previous-batches.js";

const at = (place: number): Position => ({ epoch: epoch(1), seq: seq(place) });
const places: Places = { positionAt: (place: Seq) => at(place), tokenAt: () => new Uint8Array(1) };

function partOf(eventCount: number): Part {
  const events = Array.from({ length: eventCount }, (_, i): LoggedEvent => {
    const key = new Uint8Array([i]);
    return { type: "put", key, value: key, position: at(9), timestampMs: epochMs(1), previousSeq: seq(i + 1) };
  });
  return { batch: { events, position: at(9), token: new Uint8Array(1) }, bytes: 100 };
}

test("however many batches are asked for, a few are made at a time, and others have their turns meanwhile", async () => {
  let [nowMs, turnMs, mostMs, finders, mostFinders] = [0, 0, 0, 0, 0];
  const turns: (() => void)[] = [];
  const batches = new PreviousBatches({
    places,
    nowMs: () => nowMs,
    turn: () => new Promise((resolve) => turns.push(resolve)),
    finder: () => {
      mostFinders = Math.max(mostFinders, ++finders);
      let left = 10;
      return {
        of: async () => {
          nowMs++;
          turnMs++;
          mostMs = Math.max(mostMs, turnMs);
          await Promise.resolve();
          if (--left === 0) finders--;
          return { previous: new Uint8Array([7]) };
        },
      };
    },
  });
  const made = Promise.all(Array.from({ length: 50 }, () => batches.complete(partOf(10), () => true)));
  let isDone = false;
  void made.then(() => (isDone = true));
  while (!isDone) {
    turnMs = 0;
    turns.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const complete of await made) {
    expect(complete!.batch.events.map(({ previous }) => previous?.[0])).toEqual(Array(10).fill(7));
  }
  expect(mostFinders).toBe(4);
  expect(mostMs).toBeLessThanOrEqual(6);
});

test("what nobody waits for any more is not looked up, and whoever asks after that gets it", async () => {
  let looks = 0;
  let isWaiting = true;
  const batches = new PreviousBatches({
    places,
    nowMs: () => 0,
    turn: () => Promise.resolve(),
    finder: () => ({
      of: () => {
        looks++;
        isWaiting = looks !== 3;
        return Promise.resolve({});
      },
    }),
  });
  const part = partOf(10);
  expect(await batches.complete(part, () => isWaiting)).toBeUndefined();
  expect(looks).toBe(3);
  expect((await batches.complete(part, () => true))?.batch.events).toHaveLength(10);
  const [left, stayed] = [batches.complete(partOf(5), () => false), batches.complete(part, () => true)];
  expect([await left, (await stayed)?.batch.events.length]).toEqual([undefined, 10]);
});
