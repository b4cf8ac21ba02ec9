/**
 * Unit tests that change or measure what all code of a process shares: each has a process to itself, while the others share
 * processes, which saves most of the time that they would take to load the same modules over and over.
 */
export const alone: readonly string[] = [
  // They measure the memory of the process.
  "internal/rpc/abuse.test.ts",
  "internal/rpc/bad-input.test.ts",
  "internal/rpc/hostile.test.ts",
  // They put other modules into the place of those that all have loaded.
  "internal/rpc/method-table-gap.test.ts",
  "internal/store/pushed-bytes.test.ts",
  // They put something into the place of timers, of Math, or of the methods of a class.
  "api/client/gathered-calls.test.ts",
  "api/client/late-pause.test.ts",
  "internal/rpc/fast-calls.test.ts",
];
