/** Lines that a person pastes into a terminal. */
import { execFile } from "node:child_process";
import { symlink } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { childEnvironment, root } from "./programs.js";

const run = promisify(execFile);

/**
 * Runs a line in the repository's folder, and resolves to what it prints. Rejects when it fails. On a machine without
 * curl a small stand-in takes its place; `scratch` is a folder for it.
 */
export async function paste(line: string, scratch: string): Promise<string> {
  const PATH = `${process.env.PATH}${path.delimiter}${await standIns(scratch)}`;
  const { stdout } = await run("sh", ["-c", line], { cwd: root, env: childEnvironment({ PATH }) });
  return stdout;
}

/** A folder that comes last in the PATH, so that what the machine has goes first. */
async function standIns(scratch: string): Promise<string> {
  try {
    await symlink(path.join(root, "test", "harness", "curl.mjs"), path.join(scratch, "curl"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  return scratch;
}
