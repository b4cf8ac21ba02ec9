/**
 * Keys into files. The keys are listed first, since where one goes depends on the others; then they are read once more with
 * their values, and each becomes one file. Every file holds the value as it was when its page was read; a key that was
 * deleted or expired since it was listed leaves no file, and one that came since is not exported.
 */
import { CambiumError, type ScannedEntry } from "../../api/client/node.js";
import { encodeKey, type KeyPathOptions, planPaths } from "./key-path.js";
import { pagesOf, type Reader } from "./page-reader.js";
import type { RetryOptions } from "./retry.js";

/** Where the files go. */
export interface FileSink {
  write(file: string, bytes: Uint8Array): Promise<void>;
}

/** Keys in their order, with the size of their value when they were listed. */
export type ListedKeys = ReadonlyMap<string, number>;

export interface ListOptions extends RetryOptions {
  readonly reader: Reader;
  /** Only keys that begin so. */
  readonly prefix: string;
  /** Told after every page. */
  readonly listed?: (keys: number, bytes: number) => void;
}

export interface ExportOptions extends RetryOptions {
  readonly reader: Reader;
  readonly sink: FileSink;
  /** As `listKeys` gave them. */
  readonly keys: ListedKeys;
  /** With which they were listed. */
  readonly prefix: string;
  readonly paths: KeyPathOptions;
  /** Files that are written at a time. */
  readonly concurrency: number;
  readonly listener: ExportListener;
}

export interface ExportListener {
  written(key: string, bytes: number): void;
  /** The key was gone when its value was read. */
  gone(key: string): void;
  failed(key: string, reason: string): void;
}

/** The keys of a node. Throws `CambiumError`. */
export async function listKeys(options: ListOptions): Promise<ListedKeys> {
  const keys = new Map<string, number>();
  for await (const { entries } of pagesOf({ ...options, keysOnly: true })) {
    for (const { key, valueBytes } of entries) keys.set(key, valueBytes);
    options.listed?.(
      entries.length,
      entries.reduce((sum, { valueBytes }) => sum + valueBytes, 0),
    );
  }
  return keys;
}

/**
 * Writes all keys. Resolves when each is written, gone or failed. Rejects with the first error that concerns the cluster
 * and not a file, once nothing is in flight; what was written until then stays.
 */
export async function exportKeys(options: ExportOptions): Promise<void> {
  const { keys, paths, signal, listener } = options;
  const moved = planPaths(keys, paths);
  const pathOf = (key: string): string => moved.get(key) ?? encodeKey(key, paths);
  const left = new Set(keys.keys());
  const unreadable = (key: string, reason: string): void => {
    if (left.delete(key)) listener.failed(key, reason);
  };
  for await (const { entries } of pagesOf({ ...options, keysOnly: false, unreadable })) {
    await writeFiles(
      entries.filter(({ key }) => left.delete(key)),
      pathOf,
      options,
    );
    if (signal.aborted) throw new CambiumError("canceled", "the export was interrupted", { cause: signal.reason });
  }
  for (const key of left) listener.gone(key);
}

async function writeFiles(
  entries: readonly ScannedEntry[],
  pathOf: (key: string) => string,
  { sink, concurrency, signal, listener }: ExportOptions,
): Promise<void> {
  const remaining = entries.values();
  const worker = async (): Promise<void> => {
    for (const { key, value } of remaining) {
      if (signal.aborted) return;
      try {
        await sink.write(pathOf(key), value);
        listener.written(key, value.byteLength);
      } catch (error) {
        listener.failed(key, (error as Error).message);
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}
