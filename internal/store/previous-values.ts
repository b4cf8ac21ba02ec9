/** The values that events replaced, looked up in the log by the record that had written them. */
import type { Seq } from "../base/position.js";
import { decodeRecords } from "../wal/record.js";
import { WalError } from "../wal/wal-error.js";
import { decodeChanges } from "./change.js";
import type { LoggedEvent, UpdateEvent } from "./update-events.js";

export interface PreviousSource {
  compactSeq(): Seq;
  /** The records after a place, one at least while there is one. */
  read(afterSeq: Seq, maxBytes: number): Uint8Array | Promise<Uint8Array>;
}

/** What is found of the value before: it, that the log no longer holds it, or that there was none. */
export type Previous = Pick<UpdateEvent, "previous" | "previousCompacted">;

const NONE: Previous = {};
const COMPACTED: Previous = { previousCompacted: true };

/** Holds one record at a time: what one record wrote is often replaced by one record. */
export class PreviousValues {
  readonly #source: PreviousSource;
  #seq: Seq | undefined;
  #values: ReadonlyMap<string, Uint8Array> = new Map();

  constructor(source: PreviousSource) {
    this.#source = source;
  }

  /** undefined: the log holds another history there by now. Rejects with `WalError` when it cannot be read. */
  async of({ key, previousSeq, replaced }: LoggedEvent): Promise<Previous | undefined> {
    if (replaced) return { previous: replaced };
    if (previousSeq === 0) return NONE;
    if (previousSeq <= this.#source.compactSeq()) return COMPACTED;
    if (this.#seq !== previousSeq) {
      try {
        if (!(await this.#load(previousSeq))) return undefined;
      } catch (error) {
        // Compaction may take it away while the read waits for the disk.
        if (error instanceof WalError && error.code === "out_of_range") return COMPACTED;
        throw error;
      }
    }
    const previous = this.#values.get(nameOf(key));
    return previous && { previous };
  }

  async #load(seq: Seq): Promise<boolean> {
    this.#seq = undefined;
    const read = this.#source.read((seq - 1) as Seq, 1);
    const [record] = decodeRecords(read instanceof Uint8Array ? read : await read);
    if (record?.seq !== seq) return false;
    const values = new Map<string, Uint8Array>();
    for (const change of decodeChanges(record.payload)) {
      if (change.kind === "put") values.set(nameOf(change.key), change.value);
      else if (change.kind === "delete") values.delete(nameOf(change.key));
    }
    this.#seq = seq;
    this.#values = values;
    return true;
  }
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}
