/**
 * Files in memory, for tests. They keep apart what is written and what is synced, so that a test can ask what a power cut
 * would leave; they can refuse, shorten and fail what they are asked for; and their bytes can be looked at and changed.
 */
import { assert, must } from "../base/assert.js";
import { FileSystemError, type DirectoryLock, type File, type FileSystem } from "./file-system.js";

const SECTOR_BYTES = 512;

/** What can be made to fail. */
export type FileOperation =
  "open" | "read" | "write" | "datasync" | "truncate" | "rename" | "remove" | "syncDirectory" | "list";

export interface MemoryFileSystemOptions {
  /** A write of more bytes writes only so many. */
  readonly writeBytesMax?: number;
  /** All files together hold no more; a write that would exceed it writes what fits, and the next is refused (ENOSPC). */
  readonly capacityBytes?: number;
  /** Its files can be written and synced while the thread stands still; `holdNext` has no say in that. */
  readonly atOnce?: boolean;
}

/** What a power cut leaves of what was not synced; without any of these, nothing. */
export interface CrashChoices {
  /**
   * Which content a 512-byte sector has: 0 is what was last synced, `versions` what was last written, and what lies
   * between are the writes between.
   */
  readonly sector?: (path: string, sector: number, versions: number) => number;
  /** Whether a file has the size that it was last given, instead of the one that was last synced. */
  readonly keepsSize?: (path: string) => boolean;
  /** How many of the names made, changed and removed since the last sync of their directory survive, in their order. */
  readonly names?: (changes: number) => number;
}

export class MemoryFileSystem implements FileSystem {
  writeBytesMax: number;
  capacityBytes: number;
  readonly atOnce: boolean;
  /** Called before every operation. */
  onOperation: ((operation: FileOperation, path: string) => void) | undefined;
  readonly #names = new Map<string, Inode>();
  /** Directories, and whether their names are on the disk. */
  readonly #directories = new Map<string, boolean>([["", true]]);
  /** Names as they are on the disk. */
  readonly #durableNames = new Map<string, Inode>();
  #nameChanges: NameChange[] = [];
  #failures: { operation: FileOperation; path: RegExp; code: string; left: number }[] = [];
  #holds: { operation: FileOperation; reach: () => void; released: Promise<void> }[] = [];
  #lock: DirectoryLock | undefined;

  constructor(options: MemoryFileSystemOptions = {}) {
    this.writeBytesMax = options.writeBytesMax ?? Number.MAX_SAFE_INTEGER;
    this.capacityBytes = options.capacityBytes ?? Number.MAX_SAFE_INTEGER;
    this.atOnce = options.atOnce ?? false;
  }

  /**
   * Lets an operation fail once, with the code of a system error: the next one on a path that matches, or one later, after
   * `after` others.
   */
  failNext(operation: FileOperation, code: string, options: { path?: RegExp; after?: number } = {}): void {
    this.#failures.push({ operation, code, path: options.path ?? /./, left: options.after ?? 0 });
  }

  /** Lets the next operation of this kind wait: `reached` resolves when it has come, `release` lets it go on. */
  holdNext(operation: FileOperation): { reached: Promise<void>; release: () => void } {
    let reach = (): void => {};
    let release = (): void => {};
    const reached = new Promise<void>((resolve) => (reach = resolve));
    const released = new Promise<void>((resolve) => (release = resolve));
    this.#holds.push({ operation, reach, released });
    return { reached, release };
  }

  /** All paths, sorted. */
  paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** A copy of a file's bytes as they are read now. */
  bytes(path: string): Buffer {
    return Buffer.from(this.#inode(path).content());
  }

  /** Gives a file other bytes, synced; makes it when it is not there. */
  setBytes(path: string, bytes: Uint8Array): void {
    const inode = this.#names.get(path) ?? new Inode();
    inode.replace(bytes);
    this.#names.set(path, inode);
    this.#durableNames.set(path, inode);
    this.#addDirectory(directoryOf(path), true);
  }

  /** Another file system with the same files, synced and not: what the next process finds when this one is killed. */
  copy(): MemoryFileSystem {
    const copy = new MemoryFileSystem(this);
    const copies = new Map<Inode, Inode>();
    const copied = (inode: Inode): Inode => {
      const known = copies.get(inode) ?? inode.copy();
      copies.set(inode, known);
      return known;
    };
    for (const [directory, durable] of this.#directories) copy.#directories.set(directory, durable);
    for (const [path, inode] of this.#names) copy.#names.set(path, copied(inode));
    for (const [path, inode] of this.#durableNames) copy.#durableNames.set(path, copied(inode));
    copy.#nameChanges = this.#nameChanges.map(({ set, ...change }) => ({
      ...change,
      ...(set ? { set: { path: set.path, inode: copied(set.inode) } } : {}),
    }));
    return copy;
  }

  /** Another file system with what is on the disk after the power was cut; all of it synced. */
  crash(choices: CrashChoices = {}): MemoryFileSystem {
    const names = new Map(this.#durableNames);
    const kept = choices.names?.(this.#nameChanges.length) ?? 0;
    for (const change of this.#nameChanges.slice(0, kept)) applyName(names, change);
    const after = new MemoryFileSystem({ atOnce: this.atOnce });
    const keepsAllNames = choices.names !== undefined && kept === this.#nameChanges.length;
    for (const [path, inode] of names) {
      if (keepsAllNames || this.#isDurable(directoryOf(path))) after.setBytes(path, inode.afterCrash(path, choices));
    }
    return after;
  }

  async open(path: string, mode: "read" | "write" | "create"): Promise<File> {
    await this.#before("open", path);
    let inode = this.#names.get(path);
    if (mode === "create") {
      if (inode) throw new FileSystemError("EEXIST", `cannot create ${path}: it exists`);
      if (!this.#directories.has(directoryOf(path))) {
        throw new FileSystemError("ENOENT", `cannot create ${path}: its directory does not exist`);
      }
      inode = new Inode();
      this.#changeName({ directory: directoryOf(path), set: { path, inode } });
    }
    if (!inode) throw new FileSystemError("ENOENT", `cannot open ${path}: it does not exist`);
    return this.#file(path, inode, mode !== "read");
  }

  async list(directory: string): Promise<string[]> {
    await this.#before("list", directory);
    const prefix = isRoot(directory) ? "" : `${directory}/`;
    const names = this.paths()
      .filter((path) => path.startsWith(prefix))
      .map((path) => path.slice(prefix.length));
    return names.filter((name) => !name.includes("/"));
  }

  async makeDirectory(path: string): Promise<void> {
    this.#addDirectory(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#before("rename", from);
    const inode = this.#inode(from);
    if (directoryOf(from) === directoryOf(to)) {
      this.#changeName({ directory: directoryOf(to), remove: from, set: { path: to, inode } });
      return;
    }
    if (!this.#directories.has(directoryOf(to))) {
      throw new FileSystemError("ENOENT", `cannot rename ${from} to ${to}: its directory does not exist`);
    }
    // Each directory is synced for itself; the new name comes to the disk first, or not at all.
    this.#changeName({ directory: directoryOf(to), set: { path: to, inode } });
    this.#changeName({ directory: directoryOf(from), remove: from });
  }

  async remove(path: string): Promise<void> {
    await this.#before("remove", path);
    this.#inode(path);
    this.#changeName({ directory: directoryOf(path), remove: path });
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#before("syncDirectory", path);
    const isHere = (change: NameChange): boolean => change.directory === (isRoot(path) ? "" : path);
    for (const change of this.#nameChanges) if (isHere(change)) applyName(this.#durableNames, change);
    this.#nameChanges = this.#nameChanges.filter((change) => !isHere(change));
    for (const directory of this.#directories.keys()) {
      if (directoryOf(directory) === (isRoot(path) ? "" : path)) this.#directories.set(directory, true);
    }
  }

  async lock(): Promise<DirectoryLock> {
    if (this.#lock) throw new FileSystemError("ELOCKED", "the data directory is in use");
    const lock: DirectoryLock = {
      lost: new Promise(() => {}),
      release: async () => {
        if (this.#lock === lock) this.#lock = undefined;
      },
    };
    this.#lock = lock;
    return lock;
  }

  #file(path: string, inode: Inode, writable: boolean): File {
    let isOpen = true;
    const used = (operation: FileOperation): Promise<void> => {
      assert(isOpen, `${path} is used after it was closed`);
      return this.#before(operation, path);
    };
    const write = (bytes: Uint8Array, position: number): number => {
      // What overwrites needs no room.
      const room = Math.max(0, this.capacityBytes - this.#usedBytes()) + Math.max(0, inode.size - position);
      const length = Math.min(bytes.length, this.writeBytesMax, room);
      if (length === 0 && bytes.length > 0) throw new FileSystemError("ENOSPC", `cannot write ${path}: no space left`);
      inode.write(bytes.subarray(0, length), position);
      return length;
    };
    const usedAtOnce = (operation: FileOperation): void => {
      assert(isOpen, `${path} is used after it was closed`);
      this.onOperation?.(operation, path);
      this.#failIfTold(operation, path);
    };
    const atOnce = {
      write: (bytes: Uint8Array, position: number): number => {
        assert(writable, `${path} is open for reading`);
        usedAtOnce("write");
        return write(bytes, position);
      },
      datasync: (): void => {
        try {
          usedAtOnce("datasync");
        } catch (error) {
          inode.failSync();
          throw error;
        }
        inode.sync();
      },
    };
    return {
      ...(this.atOnce && { atOnce }),
      read: async (into, position) => {
        await used("read");
        return inode.read(into, position);
      },
      write: async (bytes, position) => {
        assert(writable, `${path} is open for reading`);
        await used("write");
        return write(bytes, position);
      },
      datasync: async () => {
        try {
          await used("datasync");
        } catch (error) {
          inode.failSync();
          throw error;
        }
        inode.sync();
      },
      truncate: async (size) => {
        assert(writable, `${path} is open for reading`);
        await used("truncate");
        inode.truncate(size);
      },
      size: async () => inode.size,
      close: async () => {
        isOpen = false;
      },
    };
  }

  #usedBytes(): number {
    let sum = 0;
    for (const inode of this.#names.values()) sum += inode.size;
    return sum;
  }

  /** What a test has in store for an operation that takes its time. */
  async #before(operation: FileOperation, path: string): Promise<void> {
    this.onOperation?.(operation, path);
    const hold = this.#holds.find((hold) => hold.operation === operation);
    if (hold) {
      this.#holds = this.#holds.filter((other) => other !== hold);
      hold.reach();
      await hold.released;
    }
    this.#failIfTold(operation, path);
  }

  #failIfTold(operation: FileOperation, path: string): void {
    for (const failure of this.#failures) {
      if (failure.operation !== operation || !failure.path.test(path)) continue;
      if (failure.left-- > 0) continue;
      this.#failures = this.#failures.filter((other) => other !== failure);
      throw new FileSystemError(failure.code, `${operation} of ${path} failed with ${failure.code}, as it was told to`);
    }
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (!inode) throw new FileSystemError("ENOENT", `${path} does not exist`);
    return inode;
  }

  #changeName(change: NameChange): void {
    applyName(this.#names, change);
    this.#nameChanges.push(change);
  }

  #addDirectory(path: string, durable = false): void {
    for (const directory of withParents(path)) {
      if (!this.#directories.get(directory)) this.#directories.set(directory, durable);
    }
  }

  /** Whether a directory would be there after a power cut, and those that it lies in. */
  #isDurable(path: string): boolean {
    return withParents(path).every((directory) => this.#directories.get(directory));
  }
}

/** A directory and those that it lies in. */
function withParents(path: string): string[] {
  const parts = path.split("/");
  return parts.map((_, i) => parts.slice(0, i + 1).join("/"));
}

interface NameChange {
  readonly directory: string;
  readonly remove?: string;
  readonly set?: { readonly path: string; readonly inode: Inode };
}

function applyName(names: Map<string, Inode>, change: NameChange): void {
  if (change.remove !== undefined) names.delete(change.remove);
  if (change.set) names.set(change.set.path, change.set.inode);
}

/** The bytes of a file, as they are read, and as the disk has them. */
class Inode {
  size = 0;
  #bytes = Buffer.alloc(0);
  #durable = Buffer.alloc(0);
  #durableSize = 0;
  /** What each sector has held since the last sync, oldest first. */
  #versions = new Map<number, Buffer[]>();

  content(): Buffer {
    return this.#bytes.subarray(0, this.size);
  }

  replace(bytes: Uint8Array): void {
    this.truncate(0);
    this.write(bytes, 0);
    this.sync();
  }

  read(into: Uint8Array, position: number): number {
    const length = Math.max(0, Math.min(into.length, this.size - position));
    into.set(this.#bytes.subarray(position, position + length));
    return length;
  }

  write(bytes: Uint8Array, position: number): void {
    this.#reserve(position + bytes.length);
    this.#bytes.set(bytes, position);
    this.size = Math.max(this.size, position + bytes.length);
    this.#noteVersions(position, position + bytes.length);
  }

  truncate(size: number): void {
    this.#reserve(size);
    const oldSize = this.size;
    this.#bytes.fill(0, Math.min(size, oldSize));
    this.size = size;
    this.#noteVersions(Math.min(size, oldSize), oldSize);
  }

  sync(): void {
    if (this.#durable.length < this.size) this.#durable = grown(this.#durable, this.size);
    for (const [sector, versions] of this.#versions) versions.at(-1)!.copy(this.#durable, sector * SECTOR_BYTES);
    this.#durableSize = this.size;
    this.#versions.clear();
  }

  /**
   * As Linux does it: what could not be written counts as written. It is read as before, and no later sync writes it.
   */
  failSync(): void {
    this.#versions.clear();
  }

  copy(): Inode {
    const copy = new Inode();
    copy.size = this.size;
    copy.#bytes = Buffer.from(this.#bytes);
    copy.#durable = Buffer.from(this.#durable);
    copy.#durableSize = this.#durableSize;
    // A version is never changed once it is noted.
    for (const [sector, versions] of this.#versions) copy.#versions.set(sector, [...versions]);
    return copy;
  }

  afterCrash(path: string, choices: CrashChoices): Buffer {
    const size = choices.keepsSize?.(path) ? this.size : this.#durableSize;
    const bytes = Buffer.alloc(size);
    this.#durable.copy(bytes, 0, 0, this.#durableSize);
    for (const [sector, versions] of this.#versions) {
      const chosen = choices.sector?.(path, sector, versions.length) ?? 0;
      assert(
        chosen >= 0 && chosen <= versions.length,
        `sector ${sector} has ${versions.length} versions, not ${chosen}`,
      );
      const start = sector * SECTOR_BYTES;
      if (chosen > 0 && start < size) must(versions[chosen - 1], "the version is there").copy(bytes, start);
    }
    return bytes;
  }

  #reserve(size: number): void {
    if (size > this.#bytes.length) this.#bytes = grown(this.#bytes, size);
  }

  /** Notes what the sectors of start..end hold now. */
  #noteVersions(start: number, end: number): void {
    for (let sector = Math.floor(start / SECTOR_BYTES); sector * SECTOR_BYTES < end; sector++) {
      const version = Buffer.alloc(SECTOR_BYTES);
      this.#bytes.copy(version, 0, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
      const versions = this.#versions.get(sector);
      if (versions) versions.push(version);
      else this.#versions.set(sector, [version]);
    }
  }
}

function grown(bytes: Buffer, size: number): Buffer<ArrayBuffer> {
  const larger = Buffer.alloc(Math.max(size, bytes.length * 2));
  bytes.copy(larger);
  return larger;
}

function directoryOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

/** The data directory itself has two names. */
function isRoot(path: string): boolean {
  return path === "" || path === ".";
}
