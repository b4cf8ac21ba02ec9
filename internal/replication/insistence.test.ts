import { beforeEach, expect, test } from "vitest";
import { AssertionError } from "../base/assert.js";
import { FakeClock } from "../base/clock.js";
import { silentLogger } from "../base/logger.js";
import { Insistence } from "./insistence.js";

let clock: FakeClock;
let said: string[];
let died: unknown[];
let insistence: Insistence;
let tries: number;
let failure: Error | undefined;

beforeEach(() => {
  clock = new FakeClock();
  said = [];
  died = [];
  tries = 0;
  failure = new Error("no room");
  insistence = new Insistence({
    clock,
    logger: {
      ...silentLogger,
      error: (_, fields) => void said.push(`error ${String(fields?.["reason"])}`),
      info: () => void said.push("done"),
    },
    call: (act) => act().catch((error: unknown) => void died.push(error)),
  });
});

const act = async (): Promise<void> => {
  tries++;
  await Promise.resolve();
  if (failure) throw failure;
};
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("what works at once is done once, and nothing is said", async () => {
  failure = undefined;
  await insistence.insist("it", act);
  expect([tries, clock.pendingTimers, said]).toEqual([1, 0, []]);
  await insistence.insist("it", act);
  expect(tries).toBe(2);
});

test("what fails is tried again every second until it works, and each reason is said once", async () => {
  await insistence.insist("it", act);
  for (const reason of ["no room", "no room", "no disk"]) {
    failure = new Error(reason);
    clock.advance(1000);
    await turn();
  }
  failure = undefined;
  clock.advance(999);
  expect(tries).toBe(4);
  clock.advance(1);
  await turn();
  expect(tries).toBe(5);
  expect(said).toEqual(["error no room", "error no disk", "done"]);
  expect(clock.pendingTimers).toBe(0);
});

test("what is being tried is not tried twice over, but something else is", async () => {
  await insistence.insist("it", act);
  await insistence.insist("it", act);
  expect(tries).toBe(1);
  await insistence.insist("that", act);
  expect(tries).toBe(2);
});

test("a broken invariant is passed on, and not tried again", async () => {
  failure = new AssertionError("impossible");
  await insistence.insist("it", act);
  expect(died).toEqual([failure]);
  expect(clock.pendingTimers).toBe(0);
});

test("nothing is tried after the end, not even what fails during it", async () => {
  const trying = insistence.insist("it", act);
  insistence.close();
  await trying;
  await insistence.insist("that", act);
  clock.advance(10_000);
  expect([tries, clock.pendingTimers, said]).toEqual([1, 0, []]);
});
