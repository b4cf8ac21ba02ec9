/**
 * Files into keys: many small files travel as one atomic write, several writes are in flight, and memory holds no more than
 * those. A file counts as stored once the cluster has acknowledged its write, and `acknowledged` is called for exactly those.
 *
 * A write whose outcome is unknown is sent again, which is right as long as nobody else writes these keys meanwhile.
 */
import { CambiumError, type WriteOperation } from "../../api/client/node.js";
import { readRegularFile, tooLarge, type TreeEntry } from "./file-tree.js";
import { type RetryOptions, withRetries } from "./retry.js";

/** The part of the client that is needed. */
export interface Writer {
  write(operations: readonly WriteOperation[], options: { signal: AbortSignal }): Promise<unknown>;
}

export interface ImportOptions extends RetryOptions {
  readonly writer: Writer;
  readonly entries: AsyncIterable<TreeEntry>;
  /** The key of a file, by its path below the folder. */
  readonly keyOf: (name: string) => string;
  /** Writes in flight. */
  readonly concurrency: number;
  /** Larger files are skipped without being sent. */
  readonly valueBytesMax: number;
  readonly listener: ImportListener;
}

export interface ImportListener {
  acknowledged(files: readonly StoredFile[]): void;
  skipped(name: string, reason: string): void;
  failed(name: string, reason: string): void;
}

export interface StoredFile {
  readonly name: string;
  readonly key: string;
  readonly bytes: number;
}

type FileEntry = Extract<TreeEntry, { kind: "file" }>;
interface LoadedFile extends StoredFile {
  readonly value: Uint8Array;
}

/** Keys of a default node; a node with another limit answers for itself. */
const KEY_BYTES_MAX = 4096;
/** A write of so many bytes or files is full; one larger file makes a write of its own. */
const BATCH_BYTES = 512 * 1024;
const BATCH_FILES_MAX = 64;
/** Files of one write that are read at a time: with every write in flight, well below what a process may have open. */
const READERS = 4;

/**
 * Stores all files. Resolves when each is acknowledged, skipped or failed. Rejects with the first error that concerns the
 * cluster and not a file, once nothing is in flight; what was acknowledged until then stays.
 */
export async function importFiles(options: ImportOptions): Promise<void> {
  const { concurrency, signal } = options;
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  const batches = batchesOf(options);
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    try {
      for (let next = await batches.next(); !next.done && !stop.signal.aborted; next = await batches.next()) {
        const files = await load(next.value, options);
        if (files.length > 0) await store(files, { ...options, signal: stop.signal });
      }
    } catch (error) {
      // The others' errors are only that they were stopped.
      failure ??= { error };
      stop.abort(error);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  signal.removeEventListener("abort", onAbort);
  if (failure) throw failure.error;
  if (signal.aborted) throw new CambiumError("canceled", "the import was interrupted", { cause: signal.reason });
}

/** Groups files into writes by the sizes that the tree tells; skips what can be skipped without reading. */
async function* batchesOf({
  entries,
  keyOf,
  valueBytesMax,
  listener,
}: ImportOptions): AsyncGenerator<readonly FileEntry[], void, undefined> {
  let batch: FileEntry[] = [];
  let bytes = 0;
  for await (const entry of entries) {
    if (entry.kind !== "file") {
      listener[entry.kind](entry.name, entry.reason);
      continue;
    }
    const keyBytes = Buffer.byteLength(keyOf(entry.name));
    if (keyBytes > KEY_BYTES_MAX) {
      listener.skipped(entry.name, `its key's ${keyBytes} bytes are above the ${KEY_BYTES_MAX} that a key may have`);
      continue;
    }
    if (entry.sizeBytes > valueBytesMax) {
      listener.skipped(entry.name, tooLarge(entry.sizeBytes, valueBytesMax));
      continue;
    }
    const size = keyBytes + entry.sizeBytes;
    if (batch.length > 0 && (bytes + size > BATCH_BYTES || batch.length === BATCH_FILES_MAX)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(entry);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

/** Reads the files of a write, in their order; those that cannot be read are reported and left out. */
async function load(
  batch: readonly FileEntry[],
  { keyOf, valueBytesMax, listener }: ImportOptions,
): Promise<LoadedFile[]> {
  const loaded: (LoadedFile | undefined)[] = [];
  let next = 0;
  const reader = async (): Promise<void> => {
    for (let at = next++; at < batch.length; at = next++) {
      const { name, path } = batch[at]!;
      try {
        const read = await readRegularFile(path, valueBytesMax);
        if (read instanceof Uint8Array) loaded[at] = { name, key: keyOf(name), bytes: read.byteLength, value: read };
        else listener.skipped(name, read.reason);
      } catch (error) {
        listener.failed(name, (error as Error).message);
      }
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  return loaded.filter((file) => file !== undefined);
}

/** Writes files as one record. What a node refuses as a whole is tried in halves, until the file is found that it refuses. */
async function store(files: readonly LoadedFile[], options: ImportOptions): Promise<void> {
  const { writer, listener, signal } = options;
  const operations = files.map(({ key, value }): WriteOperation => ({ kind: "set", key, value }));
  try {
    await withRetries(() => writer.write(operations, { signal }), options);
  } catch (error) {
    if (!(error instanceof CambiumError) || (error.code !== "limit_exceeded" && error.code !== "invalid_argument")) {
      throw error;
    }
    if (files.length > 1) {
      const half = files.length >>> 1;
      await store(files.slice(0, half), options);
      await store(files.slice(half), options);
    } else if (error.code === "limit_exceeded") listener.skipped(files[0]!.name, error.message);
    else listener.failed(files[0]!.name, error.message);
    return;
  }
  listener.acknowledged(files);
}
