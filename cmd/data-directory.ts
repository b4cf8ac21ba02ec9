/** The data directory, before anything is written to it. */
import { lstatSync, statSync, type Stats } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { makeFolder } from "./make-folder.js";

/** What keeps a path from being a data directory; the message is for the operator. */
export class DataDirectoryError extends Error {
  override readonly name = "DataDirectoryError";
}

const OTHERS = 0o077;

/**
 * Makes the directory where it is missing, for its owner alone, and sees to it that its name survives a power loss. Rejects
 * with `DataDirectoryError` when it cannot be made.
 */
export async function makeDataDirectory(directory: string): Promise<void> {
  try {
    const made = await makeFolder(directory, 0o700);
    // Windows syncs no folders.
    if (process.platform !== "win32") for (const folder of made) await syncFolder(path.dirname(folder));
  } catch (error) {
    const message = `wal.directory ${directory} cannot be made: ${(error as Error).message}`;
    throw new DataDirectoryError(message, { cause: error });
  }
}

/** A folder that may not be read, or a file system that does not sync folders, leaves it to the system. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await fs.open(folder, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (!["EACCES", "EPERM", "EINVAL"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/**
 * A sentence for the operator where others than its owner may look into the directory; undefined where all is well, or it
 * is not there yet. Throws `DataDirectoryError` when it is no directory.
 */
export function dataDirectoryWarning(directory: string): string | undefined {
  const found = statOf(directory);
  if (!found) return undefined;
  if (!found.isDirectory()) {
    throw new DataDirectoryError(
      `wal.directory ${directory} is ${kindOf(found)}, not a directory; name another path, or remove what is there`,
    );
  }
  // Windows has other permissions, and shows these as open.
  if (process.platform === "win32" || (found.mode & OTHERS) === 0) return undefined;
  const mode = (found.mode & 0o777).toString(8).padStart(4, "0");
  return (
    `others than its owner may enter the data directory ${directory} (mode ${mode}), which holds everything that is ` +
    `stored; close it with: chmod 700 ${quoted(directory)}`
  );
}

function statOf(directory: string): Stats | undefined {
  try {
    return statSync(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" && isLink(directory)) {
      const message = `wal.directory ${directory} is a link to what is not there; make that directory, or remove the link`;
      throw new DataDirectoryError(message, { cause: error });
    }
    // Whatever else is wrong with the path, opening it says better.
    return undefined;
  }
}

function isLink(directory: string): boolean {
  return lstatSync(directory, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

function kindOf(found: Stats): string {
  return found.isFile() ? "a file" : "a device or the like";
}

/** For a shell. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
