import { defineConfig } from "vitest/config";

/** The micro-benchmarks, which stand beside what they measure: one file after another, so that each has a processor to itself. */
export default defineConfig({
  test: {
    pool: "forks",
    maxWorkers: 1,
    fileParallelism: false,
    benchmark: { include: ["{api,cmd,internal}/**/*.bench.ts"] },
  },
});
