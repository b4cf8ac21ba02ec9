/** The simulator as `npm run simulate` starts it: a short run of it, and of what it must find. */
import { spawn } from "node:child_process";
import path from "node:path";
import { expect, test } from "vitest";

const root = path.join(import.meta.dirname, "..", "..");
/** A machine that is merely busy must not fail any of these. */
const PATIENCE_MS = 900_000;

interface Run {
  readonly code: number | null;
  readonly output: string;
}

function simulate(...args: readonly string[]): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path.join(root, "test", "simulate.mjs"), ...args], { cwd: root });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

test(
  "two hundred simulated clusters keep every rule, and meet with everything that is to happen",
  { timeout: PATIENCE_MS },
  async () => {
    const { code, output } = await simulate("--seeds", "200");
    expect(output).toContain("every rule was kept");
    expect(code).toBe(0);
  },
);

test("a seed that is run again takes the same way to the last event", { timeout: PATIENCE_MS }, async () => {
  const first = await simulate("--seed", "5");
  const second = await simulate("--seed", "5", "--verbose");
  const traceOf = ({ output }: Run): string | undefined => /^seed 5: .* trace [0-9a-f]{16}$/m.exec(output)?.[0];
  expect(traceOf(first)).toBeDefined();
  expect(traceOf(second)).toBe(traceOf(first));
});

test("faults that are planted into the production code are found", { timeout: PATIENCE_MS }, async () => {
  // Of each kind one that few seeds show; `npm run simulate -- --planted` looks for all.
  const names = [
    "does not sync the names of new files",
    "applies before it is committed",
    "counts copies of records of older epochs",
    "forgets its promise when it is started again",
    "goes by the replica's own high-water mark",
    "counts up without what is in flight",
    "makes a write again that another master has made",
    "promises an epoch to a candidate that is behind",
    "reads in a transaction after all its writes",
    "serves a snapshot that is half loaded",
    "shows a state that is being made anew",
  ];
  const { code, output } = await simulate(`--planted=${names.join(",")}`, "--seeds", "500");
  expect(output).toContain(`all ${names.length} planted faults were found`);
  expect(code).toBe(0);
});

test("what is no option is refused in words", { timeout: PATIENCE_MS }, async () => {
  const { code, output } = await simulate("--planted=something");
  expect(output).toContain('there is no planted fault "something"');
  expect(code).toBe(2);
});
