import { defineConfig } from "vitest/config";
import { alone } from "./test/alone.js";
import { ClosingReporter } from "./test/closing-reporter.js";
import { LongestFirst } from "./test/longest-first.js";

const unit = ["{api,cmd,internal}/**/*.test.ts", "test/{fixtures,harness,house,model,simulation}/**/*.test.ts"];

export default defineConfig({
  test: {
    // The machine to please has two cores.
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    // Against tests that hang; a machine that is merely busy must not fail any.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ["default", new ClosingReporter()],
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: unit,
          exclude: [...alone],
          isolate: false,
        },
      },
      {
        extends: true,
        test: { name: "unit alone", include: [...alone] },
      },
      {
        extends: true,
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          // These tests start the compiled programs.
          globalSetup: ["./test/build.mjs"],
        },
      },
    ],
  },
});
