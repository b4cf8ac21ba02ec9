/**
 * `npm run prove`: the long proofs, then all tests once more on each newer Node that users have. The Node binaries come
 * from npm and go into a temporary folder.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { orExit, prepare, root, SetupError } from "../cmd/setup.mjs";

const otherNodes = ["22.23.3", "24.21.0"];
const runner = path.join(root, "test", "run.mjs");

/** Runs the tests with a Node; whether they passed. */
function passes(title, node, args) {
  console.log(`\n== ${title}`);
  const startMs = performance.now();
  const run = spawnSync(node, [runner, ...args], { cwd: root, stdio: "inherit" });
  const minutes = ((performance.now() - startMs) / 60_000).toFixed(1);
  const passed = run.status === 0;
  results.push(`${passed ? "ok    " : "FAILED"}  ${title} (${minutes} min)`);
  return passed;
}

function installNode(version, folder) {
  const args = ["install", "--prefix", folder, "--no-save", "--loglevel=error", `node@${version}`];
  const npm = process.env.npm_execpath;
  const run = npm?.endsWith(".js")
    ? spawnSync(process.execPath, [npm, ...args], { cwd: folder, stdio: "inherit" })
    : spawnSync("npm", args, { cwd: folder, stdio: "inherit", shell: process.platform === "win32" });
  const name = process.platform === "win32" ? "node.exe" : "node";
  const node = path.join(folder, "node_modules", "node", "bin", name);
  const found = spawnSync(node, ["--version"], { encoding: "utf8" }).stdout?.trim();
  if (run.status !== 0 || found !== `v${version}`) {
    throw new SetupError(`Node ${version} could not be installed from npm: found ${found ?? "nothing"}`);
  }
  return node;
}

const results = [];
await orExit(() => {
  prepare();
  let passed = passes(`the long proofs on Node ${process.versions.node}`, process.execPath, ["--prove"]);
  for (const version of otherNodes) {
    const folder = mkdtempSync(path.join(os.tmpdir(), "cambium-node-"));
    try {
      const node = installNode(version, folder);
      passed = passes(`all tests on Node ${version}`, node, []) && passed;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  console.log(`\n${results.join("\n")}`);
  process.exitCode = passed ? 0 : 1;
});
