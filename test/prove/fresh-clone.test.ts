/** The two commands of the README on a clone that has nothing but what is committed, and the package as npm would ship it. */
import { execFile, spawn, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { childEnvironment, root } from "../harness/programs.js";
import { until } from "../harness/until.js";

const run = promisify(execFile);

let folder: string;
let clone: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  clone = path.join(folder, "clone");
  await run("git", ["clone", "--quiet", "--no-hardlinks", root, clone]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** npm as a newcomer runs it, who has set nothing up. */
function environment(): NodeJS.ProcessEnv {
  const own = Object.entries(childEnvironment());
  return Object.fromEntries(own.filter(([name]) => !/^(npm_|VITEST|NODE_ENV|INIT_CWD)/.test(name)));
}

async function npm(cwd: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await run("npm", args, { cwd, env: environment(), maxBuffer: 1 << 24 });
  return `${stdout}\n${stderr}`;
}

test("npm test sets a clone up by itself and ends in one plain line", async () => {
  const output = await npm(clone, "test", "--", "test/house", "internal/base");
  expect(output).toContain("installing the packages");
  expect(output).toContain("compiling");
  expect(output).toMatch(/^[1-9]\d* passed, 0 failed, 0 skipped$/m);
  expect(output).not.toMatch(/deprecated|vulnerab|EBADENGINE/i);
});

test("what is set up stays set up", async () => {
  const output = await npm(clone, "test", "--", "test/house");
  expect(output).not.toContain("installing");
  expect(output).not.toContain("compiling");
});

test("npm start shows its screen, and ctrl-C ends it with exit code 0", async () => {
  // In a process group of its own, as a terminal would have it: ctrl-C reaches npm and all that it started.
  const options: SpawnOptions = { cwd: clone, env: environment(), detached: true, stdio: ["ignore", "pipe", "pipe"] };
  const child = spawn("npm", ["start", "--", "--base-port", "0"], options);
  let output = "";
  child.stdout!.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr!.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const closed = once(child, "close");
  try {
    await until("the screen", () => output.includes("Ctrl-C stops") || child.exitCode !== null, 120_000);
  } finally {
    process.kill(-child.pid!, "SIGINT");
  }
  expect(await closed, output).toEqual([0, null]);
  expect(output).toContain("Stopped.");
});

test("the packed package brings its three programs and its client", async () => {
  await npm(clone, "pack", "--pack-destination", folder);
  const user = path.join(folder, "user");
  await mkdir(user);
  await writeFile(path.join(user, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await npm(user, "install", "--omit=dev", path.join(folder, "cambium-0.1.0.tgz"));
  for (const program of ["cambium", "cambium-master", "cambium-replica"]) {
    const { stdout } = await run(path.join(user, "node_modules", ".bin", program), ["--version"]);
    expect(stdout).toBe("0.1.0\n");
  }
  const script = "import('cambium/client').then(({ createClient }) => console.log(typeof createClient))";
  const { stdout } = await run(process.execPath, ["-e", script], { cwd: user });
  expect(stdout).toBe("function\n");
});
