/**
 * The lock of a data directory: a file that names its holder. Made only where there is none, so that of two processes
 * one gets it. What a dead process left is taken over: at once where the holder's processes can be seen (same boot of the
 * machine, same pid namespace), and otherwise (another container, another machine over a shared disk) after it has not
 * been refreshed for three times as long as a living holder takes.
 */
import { idFromBytes, type RandomSource } from "../base/ids.js";
import type { Clock, Timer } from "../base/clock.js";
import { FileSystemError, type DirectoryLock } from "./file-system.js";

const LOCK_FILE = "LOCK";
const REFRESH_MS = 2000;
const WATCH_MS = 3 * REFRESH_MS;
const LOOK_MS = 500;
const ATTEMPTS_MAX = 5;

/** A process, as far as it can be told from all others that ever were. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** Of the machine since it was started; undefined where there is no /proc. */
  readonly bootId?: string;
  /** The set of processes that its pid belongs to. */
  readonly pidNamespace?: string;
  /** In ticks since the boot: tells a process from a later one of the same pid. */
  readonly startTime?: string;
}

/** What the lock needs of the machine. Paths are inside the data directory. */
export interface LockMachine {
  identity(): Promise<ProcessIdentity>;
  /** Start time of a living process; undefined when there is none of this pid. */
  startTimeOf(pid: number): Promise<string | undefined>;
  /** Makes a file; false when there is one. */
  create(path: string, text: string): Promise<boolean>;
  /** Undefined when there is no such file. */
  read(path: string): Promise<{ text: string; modifiedMs: number } | undefined>;
  /** Sets the time of its last change to now. */
  touch(path: string): Promise<void>;
  /** False when `from` is gone. */
  rename(from: string, to: string): Promise<boolean>;
  /** Gives a file a second name; false when that is taken. */
  link(from: string, to: string): Promise<boolean>;
  remove(path: string): Promise<void>;
}

interface LockContent extends ProcessIdentity {
  /** Drawn anew with each lock. */
  readonly nonce: string;
}

export interface DirectoryLockOptions {
  readonly machine: LockMachine;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** For messages. */
  readonly directory: string;
}

/** Rejects with `FileSystemError` "ELOCKED" while another process holds the directory. */
export async function lockDirectory(options: DirectoryLockOptions): Promise<DirectoryLock> {
  const { machine } = options;
  const content: LockContent = { ...(await machine.identity()), nonce: idFromBytes(options.random.bytes(8)) };
  const text = `${JSON.stringify(content)}\n`;
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    if (await machine.create(LOCK_FILE, text)) return new HeldLock(options, text);
    const seen = await machine.read(LOCK_FILE);
    // Released since then.
    if (!seen) continue;
    if (await isHolderAlive(options, content, seen)) throw inUse(options, seen.text);
    await removeStale(options, content, seen.text);
  }
  throw inUse(options, (await machine.read(LOCK_FILE))?.text ?? "");
}

/** Who is named in the lock of a data directory. */
export interface LockHolder {
  readonly pid: number;
  readonly host: string;
  /** Whether it still lives. Telling that of a process on another machine takes some seconds. */
  readonly isAlive: boolean;
}

/** Looks at the lock of a data directory without touching it; undefined when there is none, or none that can be read. */
export async function lockHolder(
  options: Pick<DirectoryLockOptions, "machine" | "clock">,
): Promise<LockHolder | undefined> {
  const seen = await options.machine.read(LOCK_FILE);
  const holder = seen && parse(seen.text);
  if (!holder) return undefined;
  const isAlive = await isHolderAlive(options, await options.machine.identity(), seen);
  return { pid: holder.pid, host: holder.host, isAlive };
}

/** Whether the holder of a lock still lives. */
async function isHolderAlive(
  options: Pick<DirectoryLockOptions, "machine" | "clock">,
  own: ProcessIdentity,
  seen: { text: string; modifiedMs: number },
): Promise<boolean> {
  const holder = parse(seen.text);
  const isVisible =
    own.bootId !== undefined &&
    own.pidNamespace !== undefined &&
    holder?.bootId === own.bootId &&
    holder.pidNamespace === own.pidNamespace &&
    holder.startTime !== undefined;
  if (isVisible) return (await options.machine.startTimeOf(holder.pid)) === holder.startTime;

  for (let waitedMs = 0; waitedMs < WATCH_MS; waitedMs += LOOK_MS) {
    await new Promise<void>((resolve) => options.clock.after(LOOK_MS, resolve));
    const now = await options.machine.read(LOCK_FILE);
    if (!now) return false;
    // A clock of another machine may stand anywhere: that the time moves is what counts.
    if (now.text !== seen.text || now.modifiedMs !== seen.modifiedMs) return true;
  }
  return false;
}

/** Removes a lock that was seen to be stale, and only that. */
async function removeStale(options: DirectoryLockOptions, own: LockContent, staleText: string): Promise<void> {
  const { machine } = options;
  const aside = `${LOCK_FILE}.${own.nonce}`;
  if (!(await machine.rename(LOCK_FILE, aside))) return;
  // Another process may have taken the stale lock over in between, and then this is its lock: it gets it back.
  if ((await machine.read(aside))?.text !== staleText) await machine.link(aside, LOCK_FILE);
  await machine.remove(aside);
}

function inUse(options: DirectoryLockOptions, text: string): FileSystemError {
  const holder = parse(text);
  const who = holder ? `process ${holder.pid} on ${holder.host}` : "another process";
  return new FileSystemError(
    "ELOCKED",
    `${options.directory} is in use by ${who}: stop that process, or choose another directory`,
  );
}

function parse(text: string): LockContent | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isContent = typeof value === "object" && value !== null && "pid" in value && typeof value.pid === "number";
    return isContent ? (value as LockContent) : undefined;
  } catch {
    // Half-written by a process that died, or being written right now: whoever asks goes on to watch it.
    return undefined;
  }
}

class HeldLock implements DirectoryLock {
  readonly #options: DirectoryLockOptions;
  readonly #text: string;
  readonly lost: Promise<FileSystemError>;
  #tellLost: (error: FileSystemError) => void = () => {};
  #timer: Timer | undefined;
  #refreshing: Promise<void> = Promise.resolve();
  #released = false;

  constructor(options: DirectoryLockOptions, text: string) {
    this.#options = options;
    this.#text = text;
    this.lost = new Promise((resolve) => (this.#tellLost = resolve));
    this.#arm();
  }

  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    this.#timer?.cancel();
    await this.#refreshing;
    if (await this.#isOurs()) await this.#options.machine.remove(LOCK_FILE);
  }

  #arm(): void {
    this.#timer = this.#options.clock.after(REFRESH_MS, () => {
      this.#refreshing = this.#refresh();
    });
  }

  async #refresh(): Promise<void> {
    try {
      if (!(await this.#isOurs())) {
        const message = `${this.#options.directory} was taken over by another process while this one stood still`;
        return this.#tellLost(new FileSystemError("ELOCKED", message));
      }
      await this.#options.machine.touch(LOCK_FILE);
    } catch (error) {
      // A disk that cannot be read for a moment has not taken the lock away; the next turn sees whether another process has.
      if (!(error instanceof FileSystemError)) throw error;
    }
    if (!this.#released) this.#arm();
  }

  async #isOurs(): Promise<boolean> {
    return (await this.#options.machine.read(LOCK_FILE))?.text === this.#text;
  }
}
