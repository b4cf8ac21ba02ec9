import { expect, test } from "vitest";
import { Model, type ModelOptions } from "../testing/model.js";
import { ModelCounts } from "../testing/model-truth.js";

/** More of them find more: `MODEL_RUNS=20000 npx vitest run internal/replication/core/model.test.ts`. */
const RUNS = Number(process.env["MODEL_RUNS"] ?? 12);
const FIRST_SEED = Number(process.env["MODEL_SEED"] ?? 1);
const STEPS = 1200;
const TRACE_LINES = 150;

/** Marsaglia's xorshift. */
function chooser(seed: number): (limit: number) => number {
  let x = (seed * 0x9e3779b1) >>> 0 || 1;
  return (limit) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x % limit;
  };
}

function run(options: ModelOptions, seed: number, counts: ModelCounts, trace?: string[]): void {
  const model = new Model(options, chooser(seed), counts, trace);
  for (let i = 0; i < STEPS; i++) model.step();
  model.heal();
}

function check(options: ModelOptions): ModelCounts {
  const counts = new ModelCounts();
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
    try {
      run(options, seed, counts);
    } catch (error) {
      const trace: string[] = [];
      expect(() => run(options, seed, new ModelCounts(), trace)).toThrow((error as Error).message);
      throw new Error(`${(error as Error).message}; seed ${seed}\n${trace.slice(-TRACE_LINES).join("\n")}`, {
        cause: error,
      });
    }
  }
  if (process.env["MODEL_RUNS"]) process.stdout.write(`${JSON.stringify(options)} ${JSON.stringify(counts)}\n`);
  return counts;
}

const options: ModelOptions = { nodes: "abc", voters: "listed", isNew: false, isLax: false, isForcing: false };

/** Every run ends well, and enough has happened in them. */
function expectTested(counts: ModelCounts): void {
  expect(counts.healed).toBe(RUNS);
  expect(counts.masterships).toBeGreaterThan(2 * RUNS);
  expect(counts.commits).toBeGreaterThan(5 * RUNS);
  expect(counts.reads).toBeGreaterThan(5 * RUNS);
}

test.each(["abc", "abcd", "abcde"])("a majority of %s loses nothing that it has committed", (nodes) => {
  const counts = check({ ...options, nodes });
  expectTested(counts);
  expect(counts.unclean).toBe(0);
});

test("listed nodes found one cluster", () => {
  expectTested(check({ ...options, isNew: true }));
});

test("what loss of power takes from a majority is lost only once all voters agree that nobody has it", () => {
  expectTested(check({ ...options, isLax: true }));
});

test.each([true, false])("one vote is never in two hands (founding: %s)", (isNew) => {
  expectTested(check({ ...options, voters: "master", isNew }));
});

test.each([
  ["abc", "listed"],
  ["abcde", "listed"],
  ["abc", "master"],
] as const)("what a forced mastership of %s has committed is undone by force only (voters: %s)", (nodes, voters) => {
  expectTested(check({ ...options, nodes, voters, isForcing: true }));
});
