/**
 * A real Chromium, out of npm packages alone: nothing has to be installed on the machine. `CHROMIUM_PATH` names another
 * one; where the packaged one does not run (it is for 64-bit Linux), an installed Chrome is used.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { type Browser, chromium, type LaunchOptions } from "playwright-core";
import { root } from "./programs.js";

/** Web security stays on, of course: what these tests are about is whether another origin gets in. */
const args = ["--headless=shell", "--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage"];

/** Starts a browser, to which the given names mean this machine. The caller closes it. */
export async function launchBrowser({ names = [] }: { readonly names?: readonly string[] } = {}): Promise<Browser> {
  const rules = names.map((name) => `MAP ${name} 127.0.0.1`).join(",");
  const resolving = rules === "" ? [] : [`--host-resolver-rules=${rules}`];
  return chromium.launch({ args: [...args, ...resolving], ...(await executable()) });
}

async function executable(): Promise<LaunchOptions> {
  const chosen = process.env.CHROMIUM_PATH;
  if (chosen) return { executablePath: chosen };
  if (process.platform !== "linux" || process.arch !== "x64") return { channel: "chrome" };
  return unpacked();
}

/** Unpacks the packaged Chromium once a version, with the libraries that a bare machine lacks. */
async function unpacked(): Promise<LaunchOptions> {
  const modules = path.join(root, "node_modules");
  const description = await readFile(path.join(modules, "@sparticuz", "chromium", "package.json"), "utf8");
  const { version } = JSON.parse(description) as { version: string };
  const cache = path.join(modules, ".cache");
  const folder = path.join(cache, `chromium-${version}`);
  if (!existsSync(folder)) {
    await mkdir(cache, { recursive: true });
    const fresh = await mkdtemp(path.join(cache, "chromium-"));
    // The package unpacks into the temporary directory of its process, and its libraries only where it believes itself
    // at home; so it gets a process of its own.
    const script = "import('@sparticuz/chromium').then((module) => module.default.executablePath())";
    const env = { ...process.env, TMPDIR: fresh, AWS_EXECUTION_ENV: "AWS_Lambda_nodejs22.x" };
    await promisify(execFile)(process.execPath, ["-e", script], { cwd: root, env });
    await rename(fresh, folder).catch(async (error: NodeJS.ErrnoException) => {
      // Another test unpacked it in the meantime.
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      await rm(fresh, { recursive: true });
    });
  }
  const libraries = path.join(folder, "al2023", "lib");
  return { executablePath: path.join(folder, "chromium"), env: { ...process.env, LD_LIBRARY_PATH: libraries } };
}
