/**
 * For tests: a file system in memory whose operations can be made to fail by their number, before they did anything, after
 * they did it, or half way; and which can stop for good at any operation, as a process that is killed does.
 */
import { type File, type FileSystem, FileSystemError } from "../../wal/file-system.js";
import type { MemoryFileSystem } from "../../wal/memory-file-system.js";

export interface Fault {
  /** The operation that fails: 0 is the next one. */
  readonly after: number;
  readonly code: "EIO" | "ENOSPC" | "EROFS";
  /** Whether the operation has done nothing, everything, or, of a write, a part, when its failure is told. */
  readonly done: "nothing" | "all" | "part";
}

const SECTOR_BYTES = 512;

/** Of a write that is cut short, about half: up to where a sector of the file ends, for less than one is not written. */
function wholeSectors(position: number, length: number): number {
  const middle = position + (length >>> 1);
  return Math.max(0, middle - (middle % SECTOR_BYTES) - position);
}

export class FaultyFileSystem implements FileSystem {
  readonly memory: MemoryFileSystem;
  /** Operations so far. */
  operations = 0;
  /** Failures told so far, of a full disk in `memory` too. */
  failures = 0;
  #faults = new Map<number, Fault>();
  #stop: { readonly at: number; readonly act: () => void } | undefined;
  #stopped = false;

  constructor(memory: MemoryFileSystem) {
    this.memory = memory;
  }

  /** Lets operations fail that are still to come. */
  inject(faults: readonly Fault[]): void {
    for (const fault of faults) this.#faults.set(this.operations + fault.after, fault);
  }

  /** Forgets the faults, and the end, that have not come up. */
  heal(): void {
    this.#faults.clear();
    if (!this.#stopped) this.#stop = undefined;
  }

  /** Calls `act` before the operation that is the `after`-th from now, and refuses that one and every later one. */
  stopAt(after: number, act: () => void): void {
    this.#stop = { at: this.operations + after, act };
  }

  /** Refuses everything from now on. */
  stop(): void {
    this.#stopped = true;
  }

  async open(path: string, mode: "read" | "write" | "create"): Promise<File> {
    const file = await this.#run(mode === "create", path, () => this.memory.open(path, mode));
    return {
      read: (into, position) => this.#run(false, path, () => file.read(into, position)),
      write: (bytes, position) =>
        this.#run(
          true,
          path,
          () => file.write(bytes, position),
          () => file.write(bytes.subarray(0, wholeSectors(position, bytes.length)), position),
        ),
      datasync: () =>
        this.#run(
          true,
          path,
          () => file.datasync(),
          () => undefined,
          () => {
            // What a failed sync had to bring to the disk is given up by the system, and counts as written.
            this.memory.failNext("datasync", "EIO", { path: new RegExp(`^${path.replaceAll(".", "\\.")}$`) });
            return file.datasync().catch(() => undefined);
          },
        ),
      truncate: (size) => this.#run(true, path, () => file.truncate(size)),
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  list(directory: string): Promise<string[]> {
    return this.#run(false, directory, () => this.memory.list(directory));
  }

  makeDirectory(path: string): Promise<void> {
    return this.#run(true, path, () => this.memory.makeDirectory(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#run(true, from, () => this.memory.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#run(true, path, () => this.memory.remove(path));
  }

  syncDirectory(path: string): Promise<void> {
    return this.#run(true, path, () => this.memory.syncDirectory(path));
  }

  lock(): ReturnType<FileSystem["lock"]> {
    return this.memory.lock();
  }

  async #run<T>(
    changes: boolean,
    path: string,
    act: () => Promise<T>,
    part: () => Promise<unknown> | undefined = () => undefined,
    nothing: () => Promise<unknown> | undefined = () => undefined,
  ): Promise<T> {
    const number = this.operations++;
    if (this.#stop && !this.#stopped && number >= this.#stop.at) {
      this.#stopped = true;
      this.#stop.act();
    }
    if (this.#stopped) throw new FileSystemError("EIO", `${path}: the process is no more`);
    const fault = this.#faults.get(number);
    // What changes nothing needs no room, and can be done on a file system that is read-only.
    if (fault && (changes || fault.code === "EIO")) {
      this.failures++;
      if (fault.done === "all") await act();
      else if (fault.done === "part") await part();
      else await nothing();
      throw new FileSystemError(
        fault.code,
        `operation ${number} on ${path} fails with ${fault.code}, as it was told to`,
      );
    }
    try {
      return await act();
    } catch (error) {
      if (error instanceof FileSystemError && error.code === "ENOSPC") this.failures++;
      throw error;
    }
  }
}
