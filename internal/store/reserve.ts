/**
 * Room on the disk that nothing grows into: a file of zeros, given up when something must be written although the disk is full.
 * A deletion gets the larger part of it, the next start of the process the whole. Best effort: others may take what is given up.
 */
import { assert } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import { type FileSystem, FileSystemError } from "../wal/file-system.js";

const FILE = "reserve";
const STEP_BYTES = 16 * 1024;
/** The part that only a start gets. */
const START_PART = 1 / 4;
/** How often it is tried to make a reserve whole that is not. */
const RETRY_MS = 10_000;

const ZEROS = Buffer.alloc(STEP_BYTES);

export interface ReserveOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly logger: Logger;
  /** 0: none. */
  readonly bytes: number;
}

export class Reserve {
  readonly #options: ReserveOptions;
  /** Acts on the file, one after another. */
  #turn: Promise<void> = Promise.resolve();
  #borrowers = 0;
  #heldBytes = 0;
  #retry: Timer | undefined;
  #closed = false;

  constructor(options: ReserveOptions) {
    this.#options = options;
  }

  get exists(): boolean {
    return this.#options.bytes > 0;
  }

  /** Whether somebody needs what was given up; others should leave it alone. */
  get isLent(): boolean {
    return this.#borrowers > 0;
  }

  /** Bytes that are kept back now. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Gives up what the run before kept back, for the start of this one. Rejects with `FileSystemError`. */
  release(): Promise<void> {
    return this.#inTurn(async () => {
      const { fileSystem } = this.#options;
      if (!(await fileSystem.list("")).includes(FILE)) return;
      await fileSystem.remove(FILE);
      await fileSystem.syncDirectory("");
    });
  }

  /** Keeps back as much as there is room for, up to the whole. What fails costs a line in the log of events. */
  hold(): Promise<void> {
    if (this.#options.bytes === 0 || this.isLent || this.#closed) return this.#turn;
    return this.#inTurn(() => this.#hold());
  }

  /** Gives the reserve up while `act` goes on, as far as the disk lets it. */
  async lend<T>(act: () => Promise<T>): Promise<T> {
    this.#borrowers++;
    try {
      await this.#inTurn(() => this.#warned(() => this.#shrink()));
      return await act();
    } finally {
      this.#borrowers--;
      void this.hold();
    }
  }

  /** Leaves the file as it is, for the next run. */
  close(): Promise<void> {
    this.#closed = true;
    this.#retry?.cancel();
    return this.#turn;
  }

  #inTurn(act: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #shrink(): Promise<void> {
    const keptBytes = Math.floor(this.#options.bytes * START_PART);
    if (this.#heldBytes <= keptBytes) return;
    const file = await this.#options.fileSystem.open(FILE, "write");
    try {
      await file.truncate(keptBytes);
      this.#heldBytes = keptBytes;
      // The room is there for others once this is on the disk.
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  async #hold(): Promise<void> {
    if (this.isLent || this.#closed || this.#heldBytes === this.#options.bytes) return;
    this.#retry?.cancel();
    await this.#warned(() => this.#fill());
    if (this.#heldBytes < this.#options.bytes)
      this.#retry = this.#options.clock.after(RETRY_MS, () => void this.hold());
  }

  async #warned(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      assert(error instanceof FileSystemError, `only the file system refuses a reserve: ${String(error)}`);
      this.#options.logger.warn("the room that is reserved on the disk could not be changed", {
        reason: error.message,
      });
    }
  }

  async #fill(): Promise<void> {
    const { fileSystem, bytes } = this.#options;
    const isThere = (await fileSystem.list("")).includes(FILE);
    const file = await fileSystem.open(FILE, isThere ? "write" : "create");
    try {
      for (let at = this.#heldBytes; at < bytes; this.#heldBytes = at) {
        const written = await writeIfRoom(() => file.write(ZEROS.subarray(0, Math.min(STEP_BYTES, bytes - at)), at));
        if (written === 0) break;
        at += written;
      }
      await file.datasync();
    } finally {
      await file.close();
    }
  }
}

async function writeIfRoom(write: () => Promise<number>): Promise<number> {
  try {
    return await write();
  } catch (error) {
    if (error instanceof FileSystemError && (error.code === "ENOSPC" || error.code === "EDQUOT")) return 0;
    throw error;
  }
}
