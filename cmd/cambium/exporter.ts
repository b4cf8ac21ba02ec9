/**
 * Keys into files: values are read in batches of bounded size, several at a time, and each becomes one file. Every file
 * holds the value as it was when its batch was read; a key that was deleted or expired since it was listed leaves no file.
 */
import { CambiumError, type Entry } from "../../api/client/node.js";
import type { CollectedKeys } from "./key-collector.js";
import { encodeKey, type KeyPathOptions, planPaths } from "./key-path.js";
import { isPassingRead, type RetryOptions, withRetries } from "./retry.js";

/** The part of the client that is needed. */
export interface Reader {
  batchGet(keys: readonly string[], options: { signal: AbortSignal }): Promise<Map<string, Entry>>;
}

/** Where the files go. */
export interface FileSink {
  write(file: string, bytes: Uint8Array): Promise<void>;
}

export interface ExportOptions extends RetryOptions {
  readonly reader: Reader;
  readonly sink: FileSink;
  readonly keys: CollectedKeys;
  readonly paths: KeyPathOptions;
  /** Batches in flight. */
  readonly concurrency: number;
  readonly listener: ExportListener;
}

export interface ExportListener {
  written(key: string, bytes: number): void;
  /** The key was gone when its value was read. */
  gone(key: string): void;
  failed(key: string, reason: string): void;
}

/** A batch whose values had so many bytes when they were listed is full; a larger value makes a batch of its own. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_KEYS_MAX = 256;

/**
 * Writes all keys. Resolves when each is written, gone or failed. Rejects with the first error that concerns the cluster
 * and not a file, once nothing is in flight; what was written until then stays.
 */
export async function exportKeys(options: ExportOptions): Promise<void> {
  const { keys, paths, concurrency, signal } = options;
  const moved = planPaths(keys, paths);
  const pathOf = (key: string): string => moved.get(key) ?? encodeKey(key, paths);
  const batches = batchesOf(keys);
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (let next = batches.next(); !next.done && !failure && !signal.aborted; next = batches.next()) {
      try {
        await exportBatch(next.value, pathOf, options);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  if (failure) throw failure.error;
  if (signal.aborted) throw new CambiumError("canceled", "the export was interrupted", { cause: signal.reason });
}

function* batchesOf(keys: CollectedKeys): Generator<readonly string[], void, undefined> {
  let batch: string[] = [];
  let bytes = 0;
  for (const [key, valueBytes] of keys) {
    const size = Buffer.byteLength(key) + valueBytes;
    if (batch.length > 0 && (bytes + size > BATCH_BYTES || batch.length === BATCH_KEYS_MAX)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(key);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

/** Reads a batch and writes its files; what is larger by now than an answer may be goes in halves. */
async function exportBatch(
  keys: readonly string[],
  pathOf: (key: string) => string,
  options: ExportOptions,
): Promise<void> {
  const { reader, sink, listener, signal } = options;
  let entries: Map<string, Entry>;
  try {
    entries = await withRetries(() => reader.batchGet(keys, { signal }), { ...options, isPassing: isPassingRead });
  } catch (error) {
    if (!(error instanceof CambiumError) || !isTooLarge(error)) throw error;
    if (keys.length > 1) {
      const half = keys.length >>> 1;
      await exportBatch(keys.slice(0, half), pathOf, options);
      await exportBatch(keys.slice(half), pathOf, options);
    } else listener.failed(keys[0]!, error.message);
    return;
  }
  for (const key of keys) {
    const entry = entries.get(key);
    if (!entry) {
      listener.gone(key);
      continue;
    }
    try {
      await sink.write(pathOf(key), entry.value);
      listener.written(key, entry.value.byteLength);
    } catch (error) {
      listener.failed(key, (error as Error).message);
    }
  }
}

function isTooLarge({ code }: CambiumError): boolean {
  return code === "limit_exceeded" || code === "resource_exhausted";
}
