/**
 * Entries that lie one after another in some bytes, as many at a time as caches hold well: where each begins and ends, in columns.
 * It stands at one of them, and is that one then. Whoever takes in many entries so goes through them more than once, and no
 * object is made for any.
 */
import type { EpochMs, Seq } from "../base/position.js";
import type { EntryBytes, KeyValueBytes } from "./engine.js";

/** Entries of a run at most: the places of so many in an index are near at once. */
export const RUN_ENTRIES_MAX = 256;
const NOTHING = new Uint8Array(0);

export class EntryRun implements EntryBytes {
  readonly #keyStarts = new Int32Array(RUN_ENTRIES_MAX);
  readonly #keyEnds = new Int32Array(RUN_ENTRIES_MAX);
  readonly #valueStarts = new Int32Array(RUN_ENTRIES_MAX);
  readonly #valueEnds = new Int32Array(RUN_ENTRIES_MAX);
  readonly #createSeqs = new Float64Array(RUN_ENTRIES_MAX);
  readonly #modSeqs = new Float64Array(RUN_ENTRIES_MAX);
  readonly #deadlines = new Float64Array(RUN_ENTRIES_MAX);
  readonly #times = new Float64Array(RUN_ENTRIES_MAX);
  count = 0;
  keyIn: Uint8Array = NOTHING;
  valueIn: Uint8Array = NOTHING;
  view: DataView = new DataView(NOTHING.buffer);
  keyStart = 0;
  keyEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  deadlineMs = Infinity;
  createSeq = 0 as Seq;
  modSeq = 0 as Seq;
  /** When the record `modSeq` was written, by the master's time; where it is a put of the log. */
  timestampMs = 0 as EpochMs;

  get isFull(): boolean {
    return this.count === RUN_ENTRIES_MAX;
  }

  /** Begins anew, empty, in these bytes. */
  begin(bytes: Uint8Array): void {
    this.count = 0;
    if (this.keyIn === bytes) return;
    this.keyIn = this.valueIn = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Adds an entry of the same bytes; there must be room. */
  add(entry: KeyValueBytes, createSeq: Seq, modSeq: Seq, timestampMs: EpochMs): void {
    const at = this.count++;
    this.#keyStarts[at] = entry.keyStart;
    this.#keyEnds[at] = entry.keyEnd;
    this.#valueStarts[at] = entry.valueStart;
    this.#valueEnds[at] = entry.valueEnd;
    this.#createSeqs[at] = createSeq;
    this.#modSeqs[at] = modSeq;
    this.#deadlines[at] = entry.deadlineMs;
    this.#times[at] = timestampMs;
  }

  keyStartOf(at: number): number {
    return this.#keyStarts[at]!;
  }

  keyEndOf(at: number): number {
    return this.#keyEnds[at]!;
  }

  /** Goes to the entry that was added so many after the first. */
  moveTo(at: number): void {
    this.keyStart = this.#keyStarts[at]!;
    this.keyEnd = this.#keyEnds[at]!;
    this.valueStart = this.#valueStarts[at]!;
    this.valueEnd = this.#valueEnds[at]!;
    this.createSeq = this.#createSeqs[at]! as Seq;
    this.modSeq = this.#modSeqs[at]! as Seq;
    this.deadlineMs = this.#deadlines[at]!;
    this.timestampMs = this.#times[at]! as EpochMs;
  }
}
