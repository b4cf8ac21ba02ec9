/** A file system through which nothing can be changed: for tools that look at the directory of a node, which may be running. */
import { FileSystemError, type DirectoryLock, type File, type FileSystem } from "./file-system.js";

/** Everything but reading rejects with the code EROFS, before it reaches the file system behind. */
export class ReadOnlyFileSystem implements FileSystem {
  readonly #behind: FileSystem;

  constructor(behind: FileSystem) {
    this.#behind = behind;
  }

  async open(path: string, mode: "read" | "write" | "create"): Promise<File> {
    if (mode !== "read") throw refusal(`open ${path} to write`);
    return new ReadOnlyFile(path, await this.#behind.open(path, "read"));
  }

  list(directory: string): Promise<string[]> {
    return this.#behind.list(directory);
  }

  makeDirectory(path: string): Promise<void> {
    return Promise.reject(refusal(`make the directory ${path}`));
  }

  rename(from: string, _to: string): Promise<void> {
    return Promise.reject(refusal(`rename ${from}`));
  }

  remove(path: string): Promise<void> {
    return Promise.reject(refusal(`remove ${path}`));
  }

  syncDirectory(path: string): Promise<void> {
    return Promise.reject(refusal(`sync ${path}`));
  }

  lock(): Promise<DirectoryLock> {
    return Promise.reject(refusal("lock the directory"));
  }

  freeBytes(): number | undefined {
    return this.#behind.freeBytes?.();
  }
}

class ReadOnlyFile implements File {
  readonly #path: string;
  readonly #behind: File;

  constructor(path: string, behind: File) {
    this.#path = path;
    this.#behind = behind;
  }

  read(into: Uint8Array, position: number): Promise<number> {
    return this.#behind.read(into, position);
  }

  write(_bytes: Uint8Array, _position: number): Promise<number> {
    return Promise.reject(refusal(`write ${this.#path}`));
  }

  datasync(): Promise<void> {
    return Promise.reject(refusal(`sync ${this.#path}`));
  }

  truncate(_size: number): Promise<void> {
    return Promise.reject(refusal(`truncate ${this.#path}`));
  }

  size(): Promise<number> {
    return this.#behind.size();
  }

  close(): Promise<void> {
    return this.#behind.close();
  }
}

function refusal(what: string): FileSystemError {
  return new FileSystemError("EROFS", `cannot ${what}: the directory is only looked at`);
}
