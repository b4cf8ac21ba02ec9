/**
 * `npm run simulate -- --seeds N` bundles the simulator (`test/simulation`) with the production code that it runs, and starts
 * it. A few imports of production code are led to `test/simulation/shims`, through which the simulation looks into the core and
 * plants faults; production code itself knows nothing of it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { checkNode, install, orExit, root } from "../cmd/setup.mjs";

const simulation = path.join(root, "test", "simulation");

/** Leads the imports of a shimmed module to its shim, but for those of the shim itself. */
const shims = {
  name: "shims",
  setup(build) {
    const shimmed = new Map([
      ["internal/replication/core/step.js", "step.ts"],
      ["internal/replication/core/commit.js", "commit.ts"],
      ["internal/replication/core/voting.js", "voting.ts"],
      ["internal/replication/core/history.js", "history.ts"],
      ["internal/store/applier.js", "applier.ts"],
      ["internal/store/evaluate.js", "evaluate.ts"],
      ["internal/store/previous-values.js", "previous-values.ts"],
      ["internal/store/retries.js", "retries.ts"],
      ["internal/store/retries-in-flight.js", "retries-in-flight.ts"],
      ["internal/store/update-events.js", "update-events.ts"],
    ]);
    build.onResolve({ filter: /^\.\.?\// }, ({ path: specifier, resolveDir }) => {
      const target = path.relative(root, path.join(resolveDir, specifier)).split(path.sep).join("/");
      const shim = shimmed.get(target);
      if (!shim || resolveDir === path.join(simulation, "shims")) return undefined;
      return { path: path.join(simulation, "shims", shim) };
    });
  },
};

await orExit(async () => {
  checkNode();
  install();
  const { build } = await import("esbuild");
  const folder = mkdtempSync(path.join(os.tmpdir(), "cambium-simulate-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const bundle = path.join(folder, "simulate.mjs");
  await build({
    entryPoints: [path.join(simulation, "main.ts")],
    outfile: bundle,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    logLevel: "warning",
    plugins: [shims],
  });
  const { main } = await import(pathToFileURL(bundle).href);
  process.exitCode = await main(process.argv.slice(2), bundle);
});
