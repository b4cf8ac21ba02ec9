/** The store's side of the record log: what of it is committed, and how it is brought to where a snapshot left it. */
import { assert } from "../base/assert.js";
import type { EpochId } from "../base/ids.js";
import type { EpochMs, Position } from "../base/position.js";
import { type OffsetRange, type ProducedRecord, type RecordLog, RecordLogError } from "../records/record-log.js";
import type { RecordsChange } from "./change.js";
import type { RecordsMark } from "./snapshot-format.js";
import { SnapshotError } from "./snapshots.js";
import { StoreError } from "./store-error.js";

/** A page of the record log. */
export interface ConsumedPage extends OffsetRange {
  /** From the offset that was asked for on; none at the end. */
  readonly records: readonly ProducedRecord[];
}

export class Produced {
  readonly #log: RecordLog;
  /** Up to where the record log must stay on the disk, for the snapshots that rely on it. */
  readonly #neededEnd: () => number;
  readonly #onFailed: (error: Error) => void;
  /**
   * The start as the log says it, which is the same on every node. The record log itself may begin behind it: a truncation is
   * carried out for good, and after a start or a cut it may lie ahead again.
   */
  #toldStart = 0;

  constructor(options: { log: RecordLog; neededEnd: () => number; onFailed: (error: Error) => void }) {
    this.#log = options.log;
    this.#neededEnd = options.neededEnd;
    this.#onFailed = options.onFailed;
  }

  get range(): OffsetRange {
    return { start: this.#log.start, end: this.#log.end };
  }

  /** Bytes that the disk has had no room for yet. */
  get unwrittenBytes(): number {
    return this.#log.unwrittenBytes;
  }

  /** What every node has that has applied the same. */
  mark(): RecordsMark {
    return { start: this.#toldStart, end: this.#log.end, chain: this.#log.chain };
  }

  apply(change: RecordsChange, at: { position: Position; epochId: EpochId; timestampMs: EpochMs }): void {
    if (change.kind === "produce") {
      const { position, epochId, timestampMs } = at;
      const { offset, record } = change;
      this.#log.append({ offset, seq: position.seq, epoch: position.epoch, epochId, timestampMs, record });
    } else {
      this.#toldStart = Math.max(this.#toldStart, change.below);
      this.#log.truncateBelow(change.below, this.#neededEnd()).catch(this.#onFailed);
    }
  }

  /**
   * Cuts the record log to where a snapshot left it, or to nothing: the store's log brings what follows. Rejects with
   * `SnapshotError` when the snapshot relies on what is not there.
   */
  async restore(mark: RecordsMark = { start: 0, end: 0, chain: 0 }): Promise<void> {
    assert(mark.end >= mark.start, "a record log ends behind its start");
    await this.#log.cutAfter(mark.end);
    const { end, chain } = this.#log;
    if (end !== mark.end || (end > 0 && chain !== mark.chain)) {
      throw new SnapshotError(
        `the record log ends at offset ${end} with chain value ${chain}; the snapshot relies on ${mark.end} and ${mark.chain}; restore the directory, or start over with an empty one`,
      );
    }
    this.#toldStart = mark.start;
    await this.#log.truncateBelow(mark.start, this.#neededEnd());
  }

  /** Removes from the disk what is truncated and no snapshot relies on. */
  compact(): Promise<void> {
    return this.#log.truncateBelow(this.#log.start, this.#neededEnd());
  }

  /** Rejects with `StoreError`: `offset_out_of_range`, `closing`. */
  async consume(offset: number, maxBytes: number, maxRecords: number): Promise<ConsumedPage> {
    try {
      const records = await this.#log.read(offset, maxBytes, maxRecords);
      return { records, ...this.range };
    } catch (error) {
      throw translated(error);
    }
  }
}

function translated(error: unknown): unknown {
  if (!(error instanceof RecordLogError)) return error;
  switch (error.code) {
    case "out_of_range":
      return new StoreError("offset_out_of_range", error.message, { ...(error.range && { offsets: error.range }) });
    case "disk_full":
      return new StoreError("disk_full", error.message, { cause: error });
    case "closed":
      return new StoreError("closing", "this node is shutting down; ask another one", { cause: error });
  }
}
