/**
 * Which keys a node has. The API has no listing of keys yet, so it is worked out from the log: every change from the
 * beginning up to what the node had applied at the start is read, and the keys that were left over are kept, without values.
 */
import { CambiumError, type UpdatesOptions, type UpdatesPage } from "../../api/client/node.js";

/** The part of the client that is needed. */
export interface UpdatesReader {
  updates(options: UpdatesOptions): AsyncIterable<UpdatesPage>;
}

/** Keys with the size of their value when it was last seen. */
export type CollectedKeys = Map<string, number>;

export interface CollectOptions {
  readonly reader: UpdatesReader;
  /** Only keys that begin so. */
  readonly prefix: string;
  readonly signal: AbortSignal;
  /** Told of every page: records read, and how many there are. */
  readonly progress?: (read: number, total: number) => void;
}

/** Throws `CambiumError`; `out_of_range` when the node's log no longer reaches back to the beginning. */
export async function collectKeys(options: CollectOptions): Promise<CollectedKeys> {
  const { reader, prefix, signal, progress } = options;
  const keys: CollectedKeys = new Map();
  let target: number | undefined;
  try {
    for await (const page of reader.updates({ after: 0, limit: 10_000, follow: false, signal })) {
      // Writes go on; without a fixed end a busy node would never be read to it.
      target ??= page.position.seq;
      for (const { type, key, value } of page.events) {
        if (!key.startsWith(prefix)) continue;
        if (type === "put") keys.set(key, value.byteLength);
        else keys.delete(key);
      }
      progress?.(Math.min(page.next, target), target);
      if (page.next >= target) break;
    }
  } catch (error) {
    if (!(error instanceof CambiumError) || error.code !== "out_of_range" || !error.range) throw error;
    throw new CambiumError(
      "out_of_range",
      `the node's log begins at seq ${error.range.compactSeq + 1}, so its keys cannot be listed from the log`,
      { range: error.range, cause: error },
    );
  }
  return keys;
}
