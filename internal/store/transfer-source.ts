/**
 * The master's end of a transfer: the whole state as one file that does not change, for replicas which lack what the log no
 * longer holds. It is a backup, written once and shared by all who need one; the log from its end on is pinned for as long
 * as it is there. It goes when nobody has read it for ten minutes, when somebody found it damaged, and with the process.
 */
import type { Clock, Timer } from "../base/clock.js";
import { idFromBytes, type TransferId, transferId } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { createAnew, removeIfThere } from "../wal/files.js";
import type { FileSystem } from "../wal/file-system.js";
import type { BackupStream } from "./backup.js";
import { checkBackup } from "./restore.js";
import { type Pin, PIN_IDLE_MS, type Pins } from "./pins.js";
import { closingError, StoreError } from "./store-error.js";

/** The whole state as a file, being sent. */
export interface TransferFile {
  readonly id: TransferId;
  /** In bytes. */
  readonly size: number;
  /** From 1 to `maxBytes` bytes. Rejects when the file is gone; then a new one is to be opened. */
  read(offset: number, maxBytes: number): Promise<Uint8Array>;
  /** Somebody found the file damaged: nobody gets it any more. */
  spoil(): void;
}

export interface TransferSourceOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pins: Pins;
  readonly backup: () => BackupStream;
}

const DIRECTORY = "transfers";

interface Spool {
  readonly id: TransferId;
  readonly path: string;
  readonly size: number;
  readonly pin: Pin;
  timer: Timer | undefined;
}

export class TransferSource {
  readonly #options: TransferSourceOptions;
  #current: Spool | undefined;
  #writing: Promise<Spool> | undefined;
  /** Removals, one after the other. */
  #removing: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(options: TransferSourceOptions) {
    this.#options = options;
  }

  /** Removes what the process before left: its pins ended with it. */
  static async open(options: TransferSourceOptions): Promise<TransferSource> {
    await removeAllIn(options.fileSystem, DIRECTORY);
    return new TransferSource(options);
  }

  /**
   * The file that is there, or a new one, once it is whole. Rejects as a backup does, with `FileSystemError`, with
   * `BackupError` when this node's own files are damaged, and with the signal's reason.
   */
  async file(signal: AbortSignal): Promise<TransferFile> {
    signal.throwIfAborted();
    const spool = this.#usable() ?? (await this.#written(signal));
    this.#touch(spool);
    return {
      id: spool.id,
      size: spool.size,
      read: (offset, maxBytes) => this.#read(spool, offset, maxBytes),
      spoil: () => this.#retire(spool),
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing?.catch(() => "whoever asked for it is told");
    if (this.#current) this.#retire(this.#current);
    await this.#removing;
  }

  /** The present file, if what follows on it is still in the log. */
  #usable(): Spool | undefined {
    const spool = this.#current;
    if (!spool) return undefined;
    try {
      spool.pin.touch();
      return spool;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#retire(spool);
      return undefined;
    }
  }

  /** One is written at a time; it goes on when who asked for it is gone, since others need one too. */
  #written(signal: AbortSignal): Promise<Spool> {
    this.#writing ??= this.#write().finally(() => (this.#writing = undefined));
    const writing = this.#writing;
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal.reason as Error);
      signal.addEventListener("abort", abort, { once: true });
      writing.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
    });
  }

  async #write(): Promise<Spool> {
    if (this.#closed) throw closingError();
    const { fileSystem, pins, backup, clock, logger } = this.#options;
    const startMs = clock.monotonicMs();
    const { header, bytes } = backup();
    const id = transferId(idFromBytes(header.salt));
    const path = `${DIRECTORY}/${id}`;
    await fileSystem.makeDirectory(DIRECTORY);
    const file = await createAnew(fileSystem, path);
    let pin: Pin | undefined;
    try {
      let size = 0;
      const pinEnd = ({ to }: { to: { seq: Pin["places"]["logSeq"] } }): void => {
        pin = pins.take({ logSeq: to.seq, recordOffset: Number.POSITIVE_INFINITY, snapshot: "" });
      };
      await checkBackup(bytes, {
        visitor: { state: pinEnd },
        taken: async (piece) => {
          if (this.#closed) throw closingError();
          pin?.touch();
          for (let at = 0; at < piece.length;) {
            const written = await file.write(piece.subarray(at), size);
            at += written;
            size += written;
          }
        },
      });
      if (!pin) throw new StoreError("failed", "the state to be sent has no end");
      this.#current = { id, path, size, pin, timer: undefined };
      logger.info("the whole state is ready for replicas that lack it", {
        id,
        bytes: size,
        to_seq: pin.places.logSeq,
        duration_ms: Math.round(clock.monotonicMs() - startMs),
      });
      return this.#current;
    } catch (error) {
      pin?.release();
      await removeIfThere(fileSystem, path);
      throw error;
    } finally {
      await file.close();
    }
  }

  async #read(spool: Spool, offset: number, maxBytes: number): Promise<Uint8Array> {
    this.#touch(spool);
    const file = await this.#options.fileSystem.open(spool.path, "read");
    try {
      const bytes = new Uint8Array(Math.min(maxBytes, spool.size - offset));
      let filled = 0;
      while (filled < bytes.length) {
        const count = await file.read(bytes.subarray(filled), offset + filled);
        if (count === 0) throw new StoreError("failed", `${spool.path} ends at byte ${offset + filled}, too early`);
        filled += count;
      }
      return bytes;
    } finally {
      await file.close();
    }
  }

  /** Throws `StoreError` once the file, or the log behind it, is gone. */
  #touch(spool: Spool): void {
    spool.pin.touch();
    spool.timer?.cancel();
    spool.timer = this.#options.clock.after(PIN_IDLE_MS, () => this.#retire(spool));
  }

  #retire(spool: Spool): void {
    const { fileSystem, logger } = this.#options;
    spool.timer?.cancel();
    spool.pin.release();
    if (this.#current !== spool) return;
    this.#current = undefined;
    this.#removing = this.#removing
      .then(() => removeIfThere(fileSystem, spool.path))
      .catch((error: unknown) => {
        logger.warn("a file is left over, and goes at the next start", { file: spool.path, reason: String(error) });
      });
  }
}

export async function removeAllIn(fileSystem: FileSystem, directory: string): Promise<void> {
  const names = await fileSystem.list(directory);
  for (const name of names) await fileSystem.remove(`${directory}/${name}`);
  if (names.length > 0) await fileSystem.syncDirectory(directory);
}
