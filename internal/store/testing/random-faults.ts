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

/** What such runs have found, by what went wrong. */
const metBefore: [TrialOptions, Step[], number][] = [
  // A truncation that waited for the reserve went on after the log had failed.
  [
    { durability: "interval", segmentBytesMax: 1024, snapshotLogBytes: 4096, snapshotsKept: 1, reserveBytes: 4096 },
    [
      {
        commands: [{ kind: "produce", lengths: [0, 0] }],
        cut: 0,
        faults: [],
        ending: "nothing",
        faultsAtOpen: [{ after: 0, code: "EIO", done: "nothing" }],
        seed: 0,
      },
      {
        commands: [{ kind: "truncate", permille: 500 }, { kind: "snapshot" }],
        faults: [{ after: 4, code: "EIO", done: "nothing" }],
        freeBytes: 1,
        ending: "nothing",
        faultsAtOpen: [{ after: 0, code: "EIO", done: "nothing" }],
        seed: 0,
      },
    ],
    0,
  ],
  // The removal of a snapshot was not synced when the next start relied on it, and the snapshot came back.
  [
    { durability: "always", segmentBytesMax: 1024, snapshotLogBytes: 4096, snapshotsKept: 1, reserveBytes: 0 },
    [
      {
        commands: [{ kind: "snapshot" }, { kind: "write", parts: [{ key: 0, length: 0 }] }],
        faults: [],
        stop: { after: 26, end: "kill" },
        ending: "nothing",
        faultsAtOpen: [],
        seed: 0,
      },
      {
        commands: [
          { kind: "write", parts: [{ key: 0, length: 73 }] },
          {
            kind: "write",
            parts: [
              { key: 0, length: 50 },
              { key: 0, length: 56 },
            ],
          },
          { kind: "produce", lengths: [55, 5, 55] },
          { kind: "snapshot" },
          {
            kind: "write",
            parts: [{ key: 0 }, { key: 0, length: 19 }, { key: 0, length: 59 }, { key: 0, length: 40 }],
          },
          {
            kind: "write",
            parts: [
              { key: 0, length: 23 },
              { key: 0, length: 45 },
              { key: 0, length: 51 },
              { key: 0, length: 57 },
            ],
          },
        ],
        cut: 0,
        faults: [{ after: 33, code: "EIO", done: "nothing" }],
        stop: { after: 36, end: "kill" },
        ending: "nothing",
        faultsAtOpen: [],
        seed: 0,
      },
      {
        commands: [{ kind: "produce", lengths: [0] }],
        faults: [{ after: 0, code: "EIO", done: "nothing" }],
        ending: "nothing",
        faultsAtOpen: [],
        seed: 0,
      },
    ],
    0,
  ],
];

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
    { numRuns: runs, examples: metBefore },
  );
  // A suite whose faults never come up would prove nothing.
  for (const code of ["disk_full", "outcome_unknown", "EIO"]) expect(refusals.get(code) ?? 0).toBeGreaterThan(0);
}
