/** Gathers records into batches: what is there at once goes together, and nothing waits for a batch to be full. */
import { encodeRecord } from "./record.js";

/** Records that a node takes in one Produce. */
const BATCH_RECORDS = 1024;
/** A batch ends with the record that brings it here: well below what any node takes in one message by default. */
const BATCH_BYTES = 256 * 1024;

export type Records = Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>;

export async function* recordBatches(records: Records): AsyncGenerator<Uint8Array<ArrayBuffer>[]> {
  const source = Symbol.asyncIterator in records ? records[Symbol.asyncIterator]() : records[Symbol.iterator]();
  let isDone = false;
  let pending: Promise<IteratorResult<Uint8Array | string>> | undefined;
  try {
    while (!isDone) {
      const batch: Uint8Array<ArrayBuffer>[] = [];
      let bytes = 0;
      let late: Promise<undefined> | undefined;
      while (batch.length < BATCH_RECORDS && bytes < BATCH_BYTES) {
        pending ??= Promise.resolve(source.next());
        // The first record is waited for, those behind it only if they are there already.
        const next = batch.length === 0 ? await pending : await Promise.race([pending, (late ??= nextTurn())]);
        if (!next) break;
        pending = undefined;
        isDone = next.done === true;
        if (next.done) break;
        const record = encodeRecord(next.value);
        batch.push(record);
        bytes += record.byteLength;
      }
      if (batch.length > 0) yield batch;
    }
  } finally {
    if (!isDone) {
      const ended = Promise.resolve(source.return?.());
      // A source that is asked to end while it waits for something ends when that comes, and nobody is left to tell.
      if (pending) for (const late of [pending, ended]) late.catch(() => undefined);
      else await ended;
    }
  }
}

function nextTurn(): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(undefined), 0);
  });
}
