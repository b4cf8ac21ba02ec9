/**
 * `node test/run.mjs [--prove] [vitest arguments]` sets the clone up and runs the tests with this very Node: all but the
 * long proofs, or with `--prove` the long proofs. The reporter of the configuration prints the closing line.
 */
import { spawnSync } from "node:child_process";
import path from "node:path";
import { orExit, prepare, root } from "../cmd/setup.mjs";

const args = process.argv.slice(2);
const prove = args[0] === "--prove";
if (prove) args.shift();

await orExit(() => {
  prepare();
  const vitest = path.join(root, "node_modules", "vitest", "vitest.mjs");
  const config = prove ? "vitest.prove.config.ts" : "vitest.config.ts";
  const run = spawnSync(process.execPath, [vitest, "run", "--config", config, ...args], {
    cwd: root,
    stdio: "inherit",
  });
  if (run.error) throw run.error;
  process.exitCode = run.status ?? 1;
});
