/**
 * Makes a fresh clone ready to run, with nothing but Node and npm on the machine: checks Node's version, installs the
 * locked packages when they are missing or not the locked ones, and compiles when a source has changed. Says in one line
 * what it does, and nothing when there is nothing to do. Plain JavaScript without a dependency, since it runs before
 * any is there.
 *
 * As a program (`npm run build`) it always compiles.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The folder that holds package.json. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

const dist = path.join(root, "dist");
const stamp = path.join(dist, ".sources");

/** Something a person must mend; its message is all that they need to see. */
export class SetupError extends Error {}

/** Everything that a program of the repository needs before it starts. */
export function prepare() {
  checkNode();
  install();
  build();
}

/** Runs `work`, and ends the process with 1 and one plain message where it throws a SetupError. */
export async function orExit(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`cambium: ${error.message}`);
    process.exit(1);
  }
}

/** Refuses a Node older than package.json's `engines.node`, which has the form `>=MAJOR.MINOR`. */
export function checkNode(version = process.versions.node) {
  const wanted = readJson("package.json").engines.node;
  const [, major, minor] = /^>=(\d+)\.(\d+)$/.exec(wanted);
  const [ownMajor, ownMinor] = version.split(".").map(Number);
  if (ownMajor > Number(major) || (ownMajor === Number(major) && ownMinor >= Number(minor))) return;
  throw new SetupError(`this needs Node ${major}.${minor} or newer, and this is Node ${version}: https://nodejs.org`);
}

/** Brings node_modules to what package-lock.json says. */
export function install() {
  if (isInstalled()) return;
  console.error("cambium: installing the packages (npm ci), which takes a minute the first time");
  // npm tells its own path to the scripts that it runs; without it, it is found on the PATH.
  const npm = process.env.npm_execpath;
  const args = ["ci", "--include=dev", "--loglevel=error"];
  const run = npm?.endsWith(".js")
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ["ignore", 2, 2] })
    : spawnSync("npm", args, { cwd: root, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
  if (run.error) throw new SetupError(`npm could not be started (${run.error.message}): it comes with Node`);
  if (run.status !== 0) {
    throw new SetupError("npm ci failed, for the reason above. Mend it, or check the network, and run this again");
  }
}

/** Whether npm's own record of what it installed has every locked package at its locked version. */
function isInstalled() {
  const record = path.join("node_modules", ".package-lock.json");
  if (!existsSync(path.join(root, record))) return false;
  const locked = readJson("package-lock.json").packages;
  const installed = readJson(record).packages;
  return Object.entries(locked).every(([folder, wanted]) => {
    if (folder === "") return true;
    const present = installed[folder];
    // The packages for other systems are not here, and rightly so.
    if (!present) return wanted.optional === true || wanted.devOptional === true || wanted.peer === true;
    return present.version === wanted.version && existsSync(path.join(root, folder, "package.json"));
  });
}

/** Compiles the sources to dist/ when they are not the ones that it was compiled from, or when told to. */
export function build({ always = false } = {}) {
  const sources = hashOfSources();
  if (!always && existsSync(stamp) && readFileSync(stamp, "utf8") === sources) return;
  console.error("cambium: compiling");
  // Into a folder of its own first, so that nothing stale stays, and a failed compilation leaves the last one whole.
  const fresh = path.join(root, `dist.${process.pid}.tmp`);
  try {
    const tsc = path.join(root, "node_modules", "typescript", "bin", "tsc");
    const args = [tsc, "-p", "tsconfig.build.json", "--outDir", fresh];
    const run = spawnSync(process.execPath, args, { cwd: root, stdio: ["ignore", 2, 2] });
    if (run.status !== 0) throw new SetupError("the sources do not compile: see above");
    for (const file of Object.values(readJson("package.json").bin)) {
      const program = path.join(fresh, path.relative("dist", file));
      if (!existsSync(program)) throw new SetupError(`package.json names the program ${file}, which has no source`);
      chmodSync(program, 0o755);
    }
    writeFileSync(path.join(fresh, path.basename(stamp)), sources);
    rmSync(dist, { recursive: true, force: true });
    renameSync(fresh, dist);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

function hashOfSources() {
  const hash = createHash("sha256");
  const add = (file) =>
    hash
      .update(file)
      .update("\0")
      .update(readFileSync(path.join(root, file)))
      .update("\0");
  for (const file of ["tsconfig.json", "tsconfig.build.json", "package.json"]) add(file);
  for (const folder of ["api", "cmd", "internal"]) {
    const files = readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" });
    for (const file of files.sort()) {
      if (file.endsWith(".ts") && !/\.(test|bench)\.ts$/.test(file)) add(path.join(folder, file));
    }
  }
  return hash.digest("hex");
}

function readJson(file) {
  return JSON.parse(readFileSync(path.join(root, file), "utf8"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await orExit(() => {
    checkNode();
    install();
    build({ always: true });
  });
}
