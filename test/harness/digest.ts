/** What a data directory holds, so that a test can tell whether any of it has changed. */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

/** Not data: whose directory it is while a process runs, and room that is given back when the disk is full. */
const NO_DATA = new Set(["LOCK", "reserve"]);

/** Every file's name and digest. */
export async function digestOf(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || NO_DATA.has(entry.name)) continue;
    const name = path.join(entry.parentPath, entry.name);
    found[path.relative(directory, name)] = createHash("sha256")
      .update(await readFile(name))
      .digest("hex");
  }
  return found;
}
