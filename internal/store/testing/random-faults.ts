/**
 * For tests: the store against a disk that fails in every way, at any operation, through any number of crashes. What was
 * acknowledged is there, what was refused is not, every write happened as a whole or not at all, and no value is ever wrong.
 */
import fc from "fast-check";
import { expect } from "vitest";
import type { Fault } from "./faulty-file-system.js";
import { type Command, type Step, Trial, type TrialOptions } from "./trial.js";

const length = fc.oneof({ weight: 4, arbitrary: fc.nat(60) }, { weight: 1, arbitrary: fc.nat(1500) });

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      parts: fc.array(fc.record({ key: fc.nat(5), length }, { requiredKeys: ["key"] }), { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("produce" as const),
      lengths: fc.array(length, { minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("truncate" as const), permille: fc.nat(1000) }) },
  { weight: 2, arbitrary: fc.constant({ kind: "snapshot" as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("consume" as const), permille: fc.nat(1000) }) },
);

const fault: fc.Arbitrary<Fault> = fc.record({
  after: fc.nat(40),
  code: fc.constantFrom("EIO", "ENOSPC", "EROFS"),
  done: fc.constantFrom("nothing", "all", "part"),
});

const step: fc.Arbitrary<Step> = fc.record(
  {
    commands: fc.array(command, { maxLength: 6 }),
    cut: fc.nat(999),
    faults: fc.oneof(
      { weight: 2, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.array(fault, { minLength: 1, maxLength: 2 }) },
    ),
    freeBytes: fc.oneof(fc.constant(Infinity), fc.nat(300), fc.nat(5000)),
    stop: fc.record({ after: fc.nat(60), end: fc.constantFrom("kill" as const, "power" as const) }),
    ending: fc.constantFrom("nothing", "nothing", "nothing", "wait", "close", "kill", "power"),
    faultsAtOpen: fc.oneof(
      { weight: 2, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.array(fault, { minLength: 1, maxLength: 2 }) },
    ),
    seed: fc.nat(),
  },
  { requiredKeys: ["commands", "faults", "ending", "faultsAtOpen", "seed"] },
);

const options: fc.Arbitrary<TrialOptions> = fc.record({
  durability: fc.constantFrom("always", "always", "interval", "os"),
  segmentBytesMax: fc.constantFrom(1024, 4096),
  snapshotLogBytes: fc.constantFrom(4096, Infinity),
  snapshotsKept: fc.constantFrom(1, 2),
  reserveBytes: fc.constantFrom(0, 4096),
});

/** Holds so many random lives of a store against what its callers were told. */
export async function proveRandomFaults(runs: number): Promise<void> {
  const refusals = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(options, fc.array(step, { maxLength: 12 }), fc.nat(), async (options, steps, seed) => {
      const trial = await Trial.start(options);
      for (const step of steps) await trial.run(step);
      await trial.finish(seed);
      for (const [code, times] of trial.refusals) refusals.set(code, (refusals.get(code) ?? 0) + times);
    }),
    { numRuns: runs },
  );
  // A suite whose faults never come up would prove nothing.
  for (const code of ["disk_full", "outcome_unknown", "EIO"]) expect(refusals.get(code) ?? 0).toBeGreaterThan(0);
}
