/** `node test/micro.mjs [vitest arguments]` sets the clone up and runs the micro-benchmarks. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import { orExit, prepare, root } from "../cmd/setup.mjs";

await orExit(() => {
  prepare();
  const vitest = path.join(root, "node_modules", "vitest", "vitest.mjs");
  const args = [vitest, "bench", "--run", "--config", "vitest.micro.config.ts", ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status ?? 1;
});
