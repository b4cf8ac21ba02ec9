import { expect, test } from "vitest";
import { ReadGate } from "./read-gate.js";

interface Step {
  readonly run: () => Promise<void>;
  readonly end: () => void;
}

/** An act that notes its beginning and end, and ends when it is told to. */
function step(name: string, notes: string[]): Step {
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  const run = async (): Promise<void> => {
    notes.push(`${name} begins`);
    await ended;
    notes.push(`${name} ends`);
  };
  return { run, end };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

test("reads go on side by side, an act waits for them, and later reads and acts wait for the act", async () => {
  const gate = new ReadGate();
  const notes: string[] = [];
  const [first, second, act, late, other] = ["read 1", "read 2", "act", "read 3", "act 2"].map((name) =>
    step(name, notes),
  );
  const all = [gate.pass(first!.run), gate.pass(second!.run), gate.alone(act!.run)];
  all.push(gate.pass(late!.run), gate.alone(other!.run));
  for (const { end } of [second!, first!, act!, late!, other!]) {
    await settle();
    end();
  }
  await Promise.all(all);
  expect(notes).toEqual([
    "read 1 begins",
    "read 2 begins",
    "read 2 ends",
    "read 1 ends",
    "act begins",
    "act ends",
    "read 3 begins",
    "read 3 ends",
    "act 2 begins",
    "act 2 ends",
  ]);
});

test("a read or an act that fails lets the others go on", async () => {
  const gate = new ReadGate();
  const fail = (): Promise<void> => Promise.reject(new Error("as told"));
  const failures = [gate.pass(fail), gate.alone(fail), gate.alone(fail), gate.pass(fail)];
  for (const failure of failures) await expect(failure).rejects.toThrow("as told");
  expect(await gate.alone(async () => 7)).toBe(7);
  expect(await gate.pass(async () => 8)).toBe(8);
});
