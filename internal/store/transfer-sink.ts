/**
 * The replica's end of a transfer: a master's whole state comes in as a file, at `incoming/<id>`, and goes on where it was
 * left after a lost connection or a restart. It counts for nothing until all of it has been checked.
 */
import { EpochHistory, type EpochStart, type HistoryEnd } from "../base/epoch-history.js";
import type { ClusterId, TransferId } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { removeIfThere } from "../wal/files.js";
import type { FileSystem } from "../wal/file-system.js";
import { checkBackup } from "./restore.js";
import { BackupError, type BackupSummary } from "./backup-reader.js";
import { StoreError } from "./store-error.js";

const DIRECTORY = "incoming";
const READ_BYTES = 256 * 1024;

/** What the file holds, as far as whoever installs it must know. */
export interface TransferContent {
  readonly summary: BackupSummary;
  /** The end of the history that the file continues. */
  readonly end: HistoryEnd;
}

export class TransferSink {
  readonly #fileSystem: FileSystem;
  readonly #logger: Logger;
  #file: { readonly id: TransferId; readonly size: number; received: number } | undefined;
  /** Acts go one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(fileSystem: FileSystem, logger: Logger) {
    this.#fileSystem = fileSystem;
    this.#logger = logger;
  }

  /** Goes on with a file of which some has come, or begins it; another one goes. Resolves to the bytes that are there. */
  begin(id: TransferId, size: number): Promise<number> {
    return this.#next(async () => {
      this.#file = undefined;
      await this.#fileSystem.makeDirectory(DIRECTORY);
      for (const name of await this.#fileSystem.list(DIRECTORY)) {
        if (name !== id) await this.#fileSystem.remove(`${DIRECTORY}/${name}`);
      }
      const received = await this.#stagedBytes(id);
      // Something else has this name: from its beginning, then.
      if (received !== undefined && received > size) await this.#fileSystem.remove(transferPath(id));
      if (received === undefined || received > size) {
        const file = await this.#fileSystem.open(transferPath(id), "create");
        await file.close();
      }
      this.#file = { id, size, received: received === undefined || received > size ? 0 : received };
      return this.#file.received;
    });
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#next(async () => {
      const staged = this.#file;
      if (!staged || offset !== staged.received) {
        // What should stand before could not be written.
        throw new StoreError("failed", `bytes at ${offset} came, but the file ends at ${staged?.received ?? 0}`);
      }
      const file = await this.#fileSystem.open(transferPath(staged.id), "write");
      try {
        for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at), offset + at);
        staged.received += bytes.length;
      } finally {
        await file.close();
      }
    });
  }

  /**
   * Reads the whole file, which is durable then. A string says what is damaged about it; then it is gone. The id is the
   * name under which `fileOf` finds it.
   */
  check(clusterId: ClusterId): Promise<(TransferContent & { readonly id: TransferId }) | string> {
    return this.#next(async () => {
      const staged = this.#file;
      if (!staged) throw new StoreError("failed", "there is no file to be checked");
      const path = transferPath(staged.id);
      const file = await this.#fileSystem.open(path, "write");
      try {
        await file.datasync();
      } finally {
        await file.close();
      }
      await this.#fileSystem.syncDirectory(DIRECTORY);
      await this.#fileSystem.syncDirectory("");
      try {
        return { id: staged.id, ...(await readTransfer(this.#fileSystem, staged.id, clusterId)) };
      } catch (error) {
        if (!(error instanceof BackupError)) throw error;
        this.#file = undefined;
        await this.#fileSystem.remove(path);
        this.#logger.warn("the state that the master sent is damaged, and is thrown away", { reason: error.message });
        return error.message;
      }
    });
  }

  /** Nothing is needed any more of what has come. A file that cannot be removed is only said to be there. */
  forget(): Promise<void> {
    return this.#next(async () => {
      this.#file = undefined;
      try {
        for (const name of await this.#fileSystem.list(DIRECTORY)) {
          await this.#fileSystem.remove(`${DIRECTORY}/${name}`);
        }
      } catch (error) {
        this.#logger.warn("what is left of a transfer cannot be removed", { reason: String(error) });
      }
    });
  }

  async #stagedBytes(id: TransferId): Promise<number | undefined> {
    if (!(await this.#fileSystem.list(DIRECTORY)).includes(id)) return undefined;
    const file = await this.#fileSystem.open(transferPath(id), "read");
    try {
      return await file.size();
    } finally {
      await file.close();
    }
  }

  #next<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#last.then(act);
    this.#last = done.catch(() => "whoever called is told");
    return done;
  }
}

/** Where the file of a transfer is staged. */
export const transferPath = (id: TransferId): string => `${DIRECTORY}/${id}`;

/** Reads a staged file to its end. Rejects with `BackupError` when it is not a whole state of the cluster. */
export async function readTransfer(
  fileSystem: FileSystem,
  id: TransferId,
  clusterId: ClusterId,
): Promise<TransferContent> {
  let epochs: readonly EpochStart[] = [];
  const visitor = { epochs: (starts: readonly EpochStart[]) => void (epochs = starts) };
  const summary = await checkBackup(transferBytes(fileSystem, id), { visitor });
  if (summary.header.clusterId !== clusterId) {
    throw new BackupError(0, `it is of cluster ${summary.header.clusterId}, this node belongs to ${clusterId}`);
  }
  return { summary, end: { history: new EpochHistory(epochs), lastSeq: summary.state.to.seq } };
}

/** The bytes of a staged file. */
export async function* transferBytes(fileSystem: FileSystem, id: TransferId): AsyncGenerator<Uint8Array> {
  const file = await fileSystem.open(transferPath(id), "read");
  try {
    for (let at = 0; ;) {
      const bytes = new Uint8Array(READ_BYTES);
      const count = await file.read(bytes, at);
      if (count === 0) return;
      at += count;
      yield bytes.subarray(0, count);
    }
  } finally {
    await file.close();
  }
}

/** Removes a staged file, if it is there. */
export async function removeTransfer(fileSystem: FileSystem, id: TransferId): Promise<void> {
  await removeIfThere(fileSystem, transferPath(id));
  await fileSystem.syncDirectory(DIRECTORY);
}
