/** A file system in memory, for tests. */
import type { DirectoryLock, File, FileSystem } from "./file-system.js";

const notBuilt = (): never => {
  throw new Error("MemoryFileSystem is not built yet");
};

export class MemoryFileSystem implements FileSystem {
  open(_path: string, _mode: "read" | "write" | "create"): Promise<File> {
    return notBuilt();
  }
  list(_directory: string): Promise<string[]> {
    return notBuilt();
  }
  makeDirectory(_path: string): Promise<void> {
    return notBuilt();
  }
  rename(_from: string, _to: string): Promise<void> {
    return notBuilt();
  }
  remove(_path: string): Promise<void> {
    return notBuilt();
  }
  syncDirectory(_path: string): Promise<void> {
    return notBuilt();
  }
  lock(): Promise<DirectoryLock> {
    return notBuilt();
  }
}
