import { defineConfig } from "vitest/config";
import { ClosingReporter } from "./test/closing-reporter.js";

/** The long proofs: one after another, so that each has the machine to itself. */
export default defineConfig({
  test: {
    pool: "forks",
    maxWorkers: 1,
    fileParallelism: false,
    reporters: ["verbose", new ClosingReporter()],
    include: ["test/prove/**/*.test.ts"],
    globalSetup: ["./test/build.mjs"],
    testTimeout: 1_800_000,
    hookTimeout: 300_000,
  },
});
