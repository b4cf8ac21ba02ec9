/** The files of this machine; the only place of the log room that touches `node:fs`. */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { assert } from "../base/assert.js";
import { SystemClock, type Clock } from "../base/clock.js";
import {
  lockDirectory,
  type LockHolder,
  lockHolder,
  type LockMachine,
  type ProcessIdentity,
} from "./directory-lock.js";
import { FileSystemError, type DirectoryLock, type File, type FileSystem } from "./file-system.js";

const FLAGS = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
} as const;

/** What lies in the data directory is nobody else's business. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

export class NodeFileSystem implements FileSystem {
  readonly root: string;
  readonly #clock: Clock;

  /** `root` is the data directory; it is made (0700) when it does not exist. The clock serves the lock alone. */
  constructor(root: string, clock: Clock = new SystemClock()) {
    this.root = path.resolve(root);
    this.#clock = clock;
  }

  open(name: string, mode: "read" | "write" | "create"): Promise<File> {
    const full = this.#resolve(name);
    return new Promise((resolve, reject) => {
      fs.open(full, FLAGS[mode], FILE_MODE, (error, descriptor) => {
        if (error) reject(asFileSystemError(error, `open ${full}`));
        else resolve(new NodeFile(full, descriptor));
      });
    });
  }

  async list(directory: string): Promise<string[]> {
    const full = this.#resolve(directory);
    try {
      const entries = await fs.promises.readdir(full, { withFileTypes: true });
      const names = entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name);
      return names.sort();
    } catch (error) {
      if (codeOf(error) === "ENOENT") return [];
      throw asFileSystemError(error, `list ${full}`);
    }
  }

  async makeDirectory(name: string): Promise<void> {
    const full = this.#resolve(name);
    await doing(`make the directory ${full}`, fs.promises.mkdir(full, { recursive: true, mode: DIRECTORY_MODE }));
  }

  rename(from: string, to: string): Promise<void> {
    const source = this.#resolve(from);
    return doing(`rename ${source}`, fs.promises.rename(source, this.#resolve(to)));
  }

  remove(name: string): Promise<void> {
    const full = this.#resolve(name);
    return doing(`remove ${full}`, fs.promises.unlink(full));
  }

  async syncDirectory(name: string): Promise<void> {
    const full = this.#resolve(name);
    const directory = await doing(`open ${full}`, fs.promises.open(full, "r"));
    try {
      await doing(`sync ${full}`, directory.sync());
    } finally {
      await directory.close();
    }
  }

  async lock(): Promise<DirectoryLock> {
    await this.makeDirectory("");
    return stayingAlive(() =>
      lockDirectory({
        machine: new NodeLockMachine((name) => this.#resolve(name)),
        clock: this.#clock,
        random: { bytes: (length) => randomBytes(length) },
        directory: this.root,
      }),
    );
  }

  freeBytes(): number | undefined {
    try {
      const { bavail, bsize } = fs.statfsSync(this.root);
      return bavail * bsize;
    } catch {
      // Not told, as on systems that have no such call.
      return undefined;
    }
  }

  /** Who holds the data directory, or left its lock behind. Changes nothing. */
  lockHolder(): Promise<LockHolder | undefined> {
    const machine = new NodeLockMachine((name) => this.#resolve(name));
    return stayingAlive(() => lockHolder({ machine, clock: this.#clock }));
  }

  #resolve(name: string): string {
    const full = path.join(this.root, name);
    const isInside =
      full === this.root || full === `${this.root}${path.sep}` || full.startsWith(`${this.root}${path.sep}`);
    assert(isInside, `${name} leads out of the data directory`);
    return full;
  }
}

/** The clock's timers let a process end, and one that waits for a lock has nothing else that keeps it. */
async function stayingAlive<T>(act: () => Promise<T>): Promise<T> {
  const alive = setInterval(() => {}, 1000);
  try {
    return await act();
  } finally {
    clearInterval(alive);
  }
}

/** A file descriptor. The callbacks of `node:fs` cost less than its file handles, and this is the log's hot path. */
class NodeFile implements File {
  readonly #path: string;
  readonly #descriptor: number;
  #isOpen = true;
  readonly atOnce = {
    write: (bytes: Uint8Array, position: number): number =>
      this.#callNow("write", () => fs.writeSync(this.#descriptor, bytes, 0, bytes.length, position)),
    datasync: (): void => this.#callNow("sync", () => fs.fdatasyncSync(this.#descriptor)),
  };

  constructor(path: string, descriptor: number) {
    this.#path = path;
    this.#descriptor = descriptor;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const read = await this.#call<number>("read", (done_) =>
        fs.read(this.#descriptor, into, done, into.length - done, position + done, done_),
      );
      if (read === 0) break;
      done += read;
    }
    return done;
  }

  write(bytes: Uint8Array, position: number): Promise<number> {
    return this.#call("write", (done) => fs.write(this.#descriptor, bytes, 0, bytes.length, position, done));
  }

  datasync(): Promise<void> {
    return this.#call("sync", (done) => fs.fdatasync(this.#descriptor, (error) => done(error, undefined)));
  }

  truncate(size: number): Promise<void> {
    return this.#call("truncate", (done) => fs.ftruncate(this.#descriptor, size, (error) => done(error, undefined)));
  }

  size(): Promise<number> {
    return this.#call("stat", (done) => fs.fstat(this.#descriptor, (error, stats) => done(error, stats?.size)));
  }

  async close(): Promise<void> {
    const closing = this.#call<void>("close", (done) =>
      fs.close(this.#descriptor, (error) => done(error ?? null, undefined)),
    );
    this.#isOpen = false;
    await closing;
  }

  #callNow<T>(doing: string, call: () => T): T {
    this.#assertOpen();
    try {
      return call();
    } catch (error) {
      throw asFileSystemError(error, `${doing} ${this.#path}`);
    }
  }

  #assertOpen(): void {
    // A descriptor that was closed may be another file's by now.
    assert(this.#isOpen, `${this.#path} is used after it was closed`);
  }

  #call<T>(doing: string, start: (done: (error: Error | null, value: T) => void) => void): Promise<T> {
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      start((error, value) => {
        if (error) reject(asFileSystemError(error, `${doing} ${this.#path}`));
        else resolve(value);
      });
    });
  }
}

class NodeLockMachine implements LockMachine {
  readonly #resolve: (name: string) => string;

  constructor(resolve: (name: string) => string) {
    this.#resolve = resolve;
  }

  async identity(): Promise<ProcessIdentity> {
    const [bootId, pidNamespace, startTime] = await Promise.all([
      ifThere(fs.promises.readFile("/proc/sys/kernel/random/boot_id", "latin1")),
      ifThere(fs.promises.readlink("/proc/self/ns/pid")),
      this.startTimeOf(process.pid),
    ]);
    return {
      pid: process.pid,
      host: os.hostname(),
      ...(bootId === undefined ? {} : { bootId: bootId.trim() }),
      ...(pidNamespace === undefined ? {} : { pidNamespace }),
      ...(startTime === undefined ? {} : { startTime }),
    };
  }

  async startTimeOf(pid: number): Promise<string | undefined> {
    const stat = await ifThere(fs.promises.readFile(`/proc/${pid}/stat`, "latin1"));
    // "pid (name) state ppid …": the name may hold anything, so that fields are counted from its end. 22 is the start time.
    const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
    const isDead = fields?.[0] === "Z" || fields?.[0] === "X";
    return isDead ? undefined : fields?.[22 - 3];
  }

  async create(name: string, text: string): Promise<boolean> {
    const full = this.#resolve(name);
    return unless("EEXIST", `create ${full}`, fs.promises.writeFile(full, text, { flag: "wx", mode: FILE_MODE }));
  }

  async read(name: string): Promise<{ text: string; modifiedMs: number } | undefined> {
    const full = this.#resolve(name);
    try {
      const [text, stats] = await Promise.all([fs.promises.readFile(full, "utf8"), fs.promises.stat(full)]);
      return { text, modifiedMs: stats.mtimeMs };
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw asFileSystemError(error, `read ${full}`);
    }
  }

  touch(name: string): Promise<void> {
    const full = this.#resolve(name);
    const now = new Date();
    return doing(`touch ${full}`, fs.promises.utimes(full, now, now));
  }

  rename(from: string, to: string): Promise<boolean> {
    const source = this.#resolve(from);
    return unless("ENOENT", `rename ${source}`, fs.promises.rename(source, this.#resolve(to)));
  }

  link(from: string, to: string): Promise<boolean> {
    const target = this.#resolve(to);
    return unless("EEXIST", `link ${target}`, fs.promises.link(this.#resolve(from), target));
  }

  async remove(name: string): Promise<void> {
    const full = this.#resolve(name);
    await unless("ENOENT", `remove ${full}`, fs.promises.unlink(full));
  }
}

/** What a part of /proc says; undefined where there is none, or none that this process may see. */
async function ifThere(reading: Promise<string>): Promise<string | undefined> {
  try {
    return await reading;
  } catch {
    return undefined;
  }
}

/** False when the act fails with this code; other failures are thrown. */
async function unless(code: string, what: string, act: Promise<unknown>): Promise<boolean> {
  try {
    await act;
    return true;
  } catch (error) {
    if (codeOf(error) === code) return false;
    throw asFileSystemError(error, what);
  }
}

async function doing<T>(what: string, act: Promise<T>): Promise<T> {
  try {
    return await act;
  } catch (error) {
    throw asFileSystemError(error, what);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EIO";
}

/** What an operator can do about it. */
const ADVICE: Readonly<Record<string, string>> = {
  EACCES: "this user has no permission",
  EPERM: "this user has no permission",
  EDQUOT: "the disk quota is used up",
  EIO: "the disk reported an error",
  EISDIR: "it is a directory",
  EMFILE: "this process has too many files open; raise its limit (ulimit -n)",
  ENFILE: "the machine has too many files open",
  ENOENT: "it does not exist",
  ENOSPC: "no space is left on the device",
  ENOTDIR: "a part of the path is not a directory",
  EEXIST: "it exists already",
  EROFS: "the file system is read-only",
};

function asFileSystemError(error: unknown, what: string): FileSystemError {
  const code = codeOf(error);
  const reason = ADVICE[code] ?? (error instanceof Error ? error.message : String(error));
  return new FileSystemError(code, `cannot ${what}: ${reason} (${code})`, { cause: error });
}
