/**
 * Makes a folder, and those above it that are missing. Node's own way (`recursive`) never ends where a file system has the
 * folder above and says all the same that it does not exist, as /proc does.
 */
import fs from "node:fs/promises";
import path from "node:path";

/** Resolves to the folders that were made, the uppermost first. Rejects with the system's error, which names the path. */
export async function makeFolder(folder: string, mode = 0o777): Promise<string[]> {
  const missing = await missingDownTo(path.resolve(folder));
  for (const name of missing) await fs.mkdir(name, { mode }).catch((error: unknown) => unlessFolder(name, error));
  return missing;
}

/** The folder, and those above it that are missing, from the top down; without itself where it is there. */
async function missingDownTo(folder: string): Promise<string[]> {
  const missing: string[] = [];
  for (let name = folder; name !== path.dirname(name); name = path.dirname(name)) {
    try {
      if ((await fs.stat(name)).isDirectory()) break;
      throw Object.assign(new Error(`${name} is there, and is not a folder`), { code: "ENOTDIR" });
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw error;
      missing.unshift(name);
    }
  }
  return missing;
}

/** Somebody else may have made it a moment ago. */
async function unlessFolder(name: string, error: unknown): Promise<void> {
  if (codeOf(error) !== "EEXIST" || !(await fs.stat(name)).isDirectory()) throw error;
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
