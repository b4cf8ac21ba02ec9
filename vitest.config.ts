import { defineConfig } from "vitest/config";
import { ClosingReporter } from "./test/closing-reporter.js";

export default defineConfig({
  test: {
    // The machine to please has two cores, and a process of its own keeps one test file's leak out of the next.
    pool: "forks",
    maxWorkers: 2,
    // Against tests that hang; a machine that is merely busy must not fail any.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ["default", new ClosingReporter()],
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["{api,cmd,internal}/**/*.test.ts", "test/{fixtures,harness,house,model,simulation}/**/*.test.ts"],
        },
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
