/** Small acts on whole files that several parts of the log need. */
import { FileSystemError, type File, type FileSystem } from "./file-system.js";
import { SegmentFile } from "./segment-file.js";

/** Creates a file, in the place of one that a crash may have left. */
export async function createAnew(fileSystem: FileSystem, path: string): Promise<File> {
  await removeIfThere(fileSystem, path);
  return fileSystem.open(path, "create");
}

/** Creates a file, has it written, and syncs it and its name. What fails leaves no file behind. */
export async function createSynced(
  fileSystem: FileSystem,
  path: string,
  write: (file: SegmentFile) => Promise<void>,
): Promise<void> {
  const file = new SegmentFile(await fileSystem.open(path, "create"), 0, false);
  try {
    await write(file);
    await file.datasync();
  } catch (error) {
    await file.close();
    await fileSystem.remove(path);
    throw error;
  }
  await file.close();
  await fileSystem.syncDirectory(directoryOf(path));
}

export function directoryOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

export async function removeIfThere(fileSystem: FileSystem, path: string): Promise<void> {
  try {
    await fileSystem.remove(path);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof FileSystemError && error.code === "ENOENT";
}

/** Whether a file holds exactly these bytes. */
export async function holds(fileSystem: FileSystem, path: string, bytes: Buffer): Promise<boolean> {
  let file: File;
  try {
    file = await fileSystem.open(path, "read");
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
  try {
    if ((await file.size()) !== bytes.length) return false;
    const found = Buffer.alloc(bytes.length);
    return (await file.read(found, 0)) === bytes.length && found.equals(bytes);
  } finally {
    await file.close();
  }
}

/** Opens a file to read it, and closes it after. */
export async function reading<T>(fileSystem: FileSystem, path: string, use: (file: File) => Promise<T>): Promise<T> {
  const file = await fileSystem.open(path, "read");
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}
