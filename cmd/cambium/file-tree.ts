/** The regular files under a folder, in byte order of their paths. Symbolic links are never followed. */
import { isUtf8 } from "node:buffer";
import { constants, type Dirent } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";

export type TreeEntry =
  | { readonly kind: "file"; readonly name: string; readonly path: Buffer; readonly sizeBytes: number }
  /** Something that is not a file, or has no name that could be a key. */
  | { readonly kind: "skipped"; readonly name: string; readonly reason: string }
  /** A file or folder that could not be looked at. */
  | { readonly kind: "failed"; readonly name: string; readonly reason: string };

/**
 * Walks a folder. `name` is the path below it with `/` between its parts; where a name is no UTF-8 it is only for people.
 * Holds one listing a level. Throws the system's error when the folder itself cannot be read.
 */
export async function* walkFiles(root: string): AsyncGenerator<TreeEntry, void, undefined> {
  yield* walk(Buffer.from(path.resolve(root)), "", await list(Buffer.from(root)));
}

async function* walk(
  folder: Buffer,
  folderName: string,
  entries: readonly Dirent<Buffer>[],
): AsyncGenerator<TreeEntry, void, undefined> {
  for (const entry of entries) {
    const name = folderName + entry.name.toString();
    const place = Buffer.concat([folder, Buffer.from(path.sep), entry.name]);
    if (!isUtf8(entry.name)) {
      yield { kind: "skipped", name, reason: "its name is no valid UTF-8" };
    } else if (entry.isDirectory()) {
      let inner: readonly Dirent<Buffer>[];
      try {
        inner = await list(place);
      } catch (error) {
        yield { kind: "failed", name, reason: (error as Error).message };
        continue;
      }
      yield* walk(place, `${name}/`, inner);
    } else if (entry.isFile()) {
      let sizeBytes: number;
      try {
        sizeBytes = (await fs.lstat(place)).size;
      } catch (error) {
        yield { kind: "failed", name, reason: (error as Error).message };
        continue;
      }
      yield { kind: "file", name, path: place, sizeBytes };
    } else {
      yield { kind: "skipped", name, reason: kindOf(entry) };
    }
  }
}

async function list(folder: Buffer): Promise<Dirent<Buffer>[]> {
  const entries = await fs.readdir(folder, { withFileTypes: true, encoding: "buffer" });
  return entries.toSorted((a, b) => Buffer.compare(a.name, b.name));
}

function kindOf(entry: Dirent<Buffer>): string {
  if (entry.isSymbolicLink()) return "a symbolic link";
  if (entry.isSocket()) return "a socket";
  if (entry.isFIFO()) return "a pipe";
  return "not a regular file";
}

/**
 * The bytes of a file, if it still is a regular file of at most `bytesMax`; otherwise why not. Throws the system's error
 * when it cannot be read.
 */
export async function readRegularFile(
  place: Buffer,
  bytesMax: number,
): Promise<Uint8Array | { readonly reason: string }> {
  // The file may have been replaced since it was listed: by a link, or by a pipe that would never open.
  const handle = await fs.open(place, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) return { reason: "not a regular file" };
    if (stat.size > bytesMax) return { reason: tooLarge(stat.size, bytesMax) };
    const bytes = Buffer.alloc(stat.size);
    let length = 0;
    while (length < bytes.length) {
      const { bytesRead } = await handle.read(bytes, length, bytes.length - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return bytes.subarray(0, length);
  } finally {
    await handle.close();
  }
}

export function tooLarge(bytes: number, bytesMax: number): string {
  return `its ${bytes} bytes are above the ${bytesMax} that a value may have`;
}
