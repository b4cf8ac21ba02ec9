/**
 * The disk of one simulated machine. What is written and what is synced are kept apart (`MemoryFileSystem` does that), and
 * every operation takes its time as an event of the world, so that a process can die, and the power fail, between any two.
 */
import { assert } from "../../internal/base/assert.js";
import { type FileOperation, MemoryFileSystem } from "../../internal/wal/memory-file-system.js";
import { type DirectoryLock, type File, type FileSystem, FileSystemError } from "../../internal/wal/file-system.js";
import type { Random } from "./random.js";
import type { Process, World } from "./world.js";

const SECTOR_BYTES = 512;
/** A disk whose syncs take no longer can be waited for by the thread itself. */
const AT_ONCE_SYNC_MS_MAX = 0.5;

export interface DiskPace {
  /** Typical times in milliseconds. */
  readonly writeMs: number;
  readonly syncMs: number;
  /** Of reads, lists and opens; 0: at once, without an event of their own. */
  readonly readMs: number;
}

export class SimDisk {
  readonly #world: World;
  readonly random: Random;
  memory: MemoryFileSystem;
  pace: DiskPace;
  /** Multiplies all times: a disk that has become slow. */
  slowness = 1;
  /** One write in so many is short, on average; 0: none. */
  shortWrites = 0;
  #lockedBy: Process | undefined;
  #failures: { readonly operation: FileOperation; readonly path: RegExp; left: number }[] = [];
  /** Planted faults: what is synced in name only, and whether a sync that failed is said to have worked. */
  unsynced: RegExp | undefined;
  hidesFailedSyncs = false;
  /** How often a sync, a short write and so on came about. */
  readonly counts = { syncs: 0, shortWrites: 0, errors: 0, fullWrites: 0 };

  constructor(world: World, random: Random, pace: DiskPace) {
    this.#world = world;
    this.random = random;
    this.pace = pace;
    this.memory = this.#emptyMemory();
  }

  #emptyMemory(): MemoryFileSystem {
    return new MemoryFileSystem({ atOnce: this.pace.syncMs <= AT_ONCE_SYNC_MS_MAX });
  }

  /** The disk as a process sees it. */
  as(process: Process): FileSystem {
    return new ProcessFileSystem(this.#world, this, process);
  }

  /** Bytes of all files. */
  get usedBytes(): number {
    return this.memory.paths().reduce((sum, path) => sum + this.memory.bytes(path).length, 0);
  }

  get isFull(): boolean {
    return this.memory.capacityBytes < Number.MAX_SAFE_INTEGER;
  }

  fillUp(roomBytes: number): void {
    this.memory.capacityBytes = this.usedBytes + roomBytes;
  }

  makeRoom(): void {
    this.memory.capacityBytes = Number.MAX_SAFE_INTEGER;
  }

  /** An operation on a path that matches fails once (EIO), after so many others of its kind. */
  failLater(operation: FileOperation, after: number, path = /./): void {
    this.#failures.push({ operation, path, left: after });
  }

  /** Nothing is in store for it any more. */
  mend(): void {
    this.#failures = [];
    this.shortWrites = 0;
    this.slowness = 1;
    this.makeRoom();
  }

  /** Called before each operation that can fail. */
  mayFail(operation: FileOperation, path: string): void {
    if (this.#failures.length === 0) return;
    const failing = this.#failures.find((failure) => failure.operation === operation && failure.path.test(path));
    if (!failing || failing.left-- > 0) return;
    this.#failures = this.#failures.filter((failure) => failure !== failing);
    this.memory.failNext(operation, "EIO", { path: /./ });
  }

  /**
   * How much of a write is done. What stops a write short, no room or a deadly signal, stops it between blocks; so a power cut
   * after it leaves no sector that a write has half filled.
   */
  takes(bytes: Uint8Array, position: number): Uint8Array {
    const first = SECTOR_BYTES - (position % SECTOR_BYTES);
    if (this.shortWrites === 0 || first >= bytes.length || this.random.below(this.shortWrites) > 0) return bytes;
    this.counts.shortWrites++;
    const more = this.random.below(Math.ceil((bytes.length - first) / SECTOR_BYTES));
    return bytes.subarray(0, first + more * SECTOR_BYTES);
  }

  /** The power is cut: of what was not synced, chance decides what is left. */
  cutPower(): void {
    const { random } = this;
    const { capacityBytes } = this.memory;
    // Sometimes nothing of it, sometimes all, mostly some.
    const mood = random.below(4);
    this.memory = this.memory.crash({
      sector: (_path, _sector, versions) => (mood === 0 ? 0 : mood === 1 ? versions : random.below(versions + 1)),
      keepsSize: () => mood === 1 || (mood > 1 && random.chance(0.5)),
      names: (changes) => (mood === 0 ? 0 : mood === 1 ? changes : random.below(changes + 1)),
    });
    this.memory.capacityBytes = capacityBytes;
  }

  wipe(): void {
    this.memory = this.#emptyMemory();
  }

  /** Another bit somewhere in a file that matches; the path and the place, or undefined when there is none with a byte. */
  rot(pattern: RegExp): { path: string; at: number } | undefined {
    const paths = this.memory.paths().filter((path) => pattern.test(path) && this.memory.bytes(path).length > 0);
    if (paths.length === 0) return undefined;
    const path = this.random.pick(paths);
    const bytes = this.memory.bytes(path);
    const at = this.random.below(bytes.length);
    bytes[at]! ^= 1 << this.random.below(8);
    this.memory.setBytes(path, bytes);
    return { path, at };
  }

  takeLock(process: Process): DirectoryLock {
    if (this.#lockedBy?.alive) throw new FileSystemError("ELOCKED", "the data directory is in use");
    this.#lockedBy = process;
    return {
      lost: new Promise(() => {}),
      release: () => {
        if (this.#lockedBy === process) this.#lockedBy = undefined;
        return Promise.resolve();
      },
    };
  }
}

class ProcessFileSystem implements FileSystem {
  readonly #world: World;
  readonly #disk: SimDisk;
  readonly #process: Process;

  constructor(world: World, disk: SimDisk, process: Process) {
    this.#world = world;
    this.#disk = disk;
    this.#process = process;
  }

  async open(path: string, mode: "read" | "write" | "create"): Promise<File> {
    await this.#wait("open", mode === "create" ? this.#disk.pace.writeMs : this.#disk.pace.readMs);
    return this.#file(path, await this.#disk.memory.open(path, mode));
  }

  async list(directory: string): Promise<string[]> {
    await this.#wait("list", this.#disk.pace.readMs);
    return this.#disk.memory.list(directory);
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#wait("makeDirectory", this.#disk.pace.writeMs);
    await this.#disk.memory.makeDirectory(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#wait("rename", this.#disk.pace.writeMs);
    await this.#disk.memory.rename(from, to);
  }

  async remove(path: string): Promise<void> {
    await this.#wait("remove", this.#disk.pace.writeMs);
    await this.#disk.memory.remove(path);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#wait("syncDirectory", this.#disk.pace.syncMs);
    if (this.#disk.unsynced?.test(path)) return;
    await this.#counted(this.#disk.memory.syncDirectory(path));
  }

  async lock(): Promise<DirectoryLock> {
    await this.#wait("lock", this.#disk.pace.writeMs);
    return this.#disk.takeLock(this.#process);
  }

  #file(path: string, file: File): File {
    const disk = this.#disk;
    const { atOnce } = file;
    return {
      ...(atOnce && { atOnce: this.#atOnce(path, atOnce) }),
      read: async (into, position) => {
        await this.#wait("read", disk.pace.readMs);
        disk.mayFail("read", path);
        return this.#counted(file.read(into, position));
      },
      write: async (bytes, position) => {
        await this.#wait("write", disk.pace.writeMs);
        disk.mayFail("write", path);
        return this.#counted(file.write(disk.takes(bytes, position), position));
      },
      datasync: async () => {
        await this.#wait("datasync", disk.pace.syncMs);
        disk.counts.syncs++;
        if (disk.unsynced?.test(path)) return;
        disk.mayFail("datasync", path);
        const synced = this.#counted(file.datasync());
        await (disk.hidesFailedSyncs ? synced.catch(() => undefined) : synced);
      },
      truncate: async (size) => {
        await this.#wait("truncate", disk.pace.writeMs);
        await this.#counted(file.truncate(size));
      },
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  /** What takes no time of the world, since the process stands still meanwhile. */
  #atOnce(path: string, file: Required<File>["atOnce"]): Required<File>["atOnce"] {
    const disk = this.#disk;
    const assertAlive = (): void => assert(this.#process.alive, `a process that is dead uses ${path}`);
    return {
      write: (bytes, position) => {
        assertAlive();
        disk.mayFail("write", path);
        return this.#countedNow(() => file.write(disk.takes(bytes, position), position));
      },
      datasync: () => {
        assertAlive();
        disk.counts.syncs++;
        if (disk.unsynced?.test(path)) return;
        disk.mayFail("datasync", path);
        try {
          this.#countedNow(() => file.datasync());
        } catch (error) {
          if (!disk.hidesFailedSyncs) throw error;
        }
      },
    };
  }

  #countedNow<T>(operation: () => T): T {
    try {
      return operation();
    } catch (error) {
      this.#count(error);
      throw error;
    }
  }

  async #counted<T>(operation: Promise<T>): Promise<T> {
    try {
      return await operation;
    } catch (error) {
      this.#count(error);
      throw error;
    }
  }

  #count(error: unknown): void {
    if (!(error instanceof FileSystemError)) return;
    if (error.code === "ENOSPC") this.#disk.counts.fullWrites++;
    else if (error.code === "EIO") this.#disk.counts.errors++;
  }

  /** Resolves in an event of its own. In a process that is dead it never does. */
  #wait(what: string, typicalMs: number): Promise<void> | undefined {
    if (!this.#process.alive) return new Promise(() => {});
    if (typicalMs === 0) return undefined;
    const delayMs = this.#disk.random.delay(typicalMs) * this.#disk.slowness;
    return new Promise((resolve) => void this.#world.after(delayMs, this.#process, what, resolve));
  }
}
