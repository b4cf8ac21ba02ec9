/** The log of a model's node. A record's number stands for itself and for all before it, as the real chain value does. */
import { must } from "../../base/assert.js";
import { EpochHistory } from "../../base/epoch-history.js";
import type { EpochId } from "../../base/ids.js";
import { type Epoch, epoch as toEpoch, type LogMark, ORIGIN, type Seq, seq as toSeq } from "../../base/position.js";
import { type Electorate, NO_ELECTORATE } from "../core/electorate.js";
import type { LogView } from "../core/event.js";

export interface ModelRecord {
  readonly number: number;
  readonly epoch: Epoch;
  readonly epochId: EpochId;
  /** Of an epoch's first record. */
  readonly start: { readonly forced: boolean; readonly electorate: Electorate | undefined } | undefined;
}

const BYTES = 4;

/** All records that any node of a model has ever made. */
export class ModelRecords {
  readonly #all: ModelRecord[] = [];

  make(record: Omit<ModelRecord, "number">): ModelRecord {
    const made = { ...record, number: this.#all.length + 1 };
    this.#all.push(made);
    return made;
  }

  encode(records: readonly ModelRecord[]): Uint8Array {
    const bytes = new Uint8Array(records.length * BYTES);
    const view = new DataView(bytes.buffer);
    records.forEach(({ number }, i) => view.setUint32(i * BYTES, number));
    return bytes;
  }

  decode(bytes: Uint8Array): ModelRecord[] {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const records: ModelRecord[] = [];
    for (let at = 0; at < bytes.length; at += BYTES) {
      records.push(must(this.#all[view.getUint32(at) - 1], "a record that somebody made"));
    }
    return records;
  }
}

/** What outlives the process is `records` up to `synced` for certain, and up to any place after it perhaps. */
export class ModelLog {
  #records: ModelRecord[] = [];
  written = 0;
  synced = 0;
  /** Committed, and applied. */
  applied = 0;
  #view: LogView | undefined;

  get length(): number {
    return this.#records.length;
  }

  at(seq: number): ModelRecord | undefined {
    return this.#records[seq - 1];
  }

  /** 0 before the first record. */
  numberAt(seq: number): number {
    return seq === 0 ? 0 : must(this.at(seq), "a record of the log").number;
  }

  has(number: number): boolean {
    return this.#records.some((record) => record.number === number);
  }

  after(seq: number, count: number): ModelRecord[] {
    return this.#records.slice(seq, seq + count);
  }

  append(records: readonly ModelRecord[]): void {
    this.#records.push(...records);
    this.changed();
  }

  cutAfter(seq: number): void {
    this.#records.length = seq;
    this.written = Math.min(this.written, seq);
    this.synced = Math.min(this.synced, seq);
    this.applied = Math.min(this.applied, seq);
    this.changed();
  }

  changed(): void {
    this.#view = undefined;
  }

  mark(seq: number): LogMark {
    const record = this.at(seq);
    return record ? { epoch: record.epoch, seq: toSeq(seq), chain: record.number } : { ...ORIGIN, chain: 0 };
  }

  get electorate(): Electorate {
    return this.#records.findLast(({ start }) => start?.electorate)?.start?.electorate ?? NO_ELECTORATE;
  }

  /** `keptSeq`: the same view until something changes. */
  view(keptSeq: Seq): LogView {
    this.#view ??= {
      last: this.mark(this.length),
      writtenSeq: toSeq(this.written),
      keptSeq,
      appliedSeq: toSeq(this.applied),
      compactSeq: toSeq(0),
      floorSeq: toSeq(0),
      history: this.#history(),
      electorate: this.electorate,
    };
    return this.#view;
  }

  #history(): EpochHistory {
    const history = new EpochHistory();
    this.#records.forEach(({ epoch, epochId, start }, i) => {
      const firstSeq = toSeq(i + 1);
      if (start) history.push({ epoch: toEpoch(epoch), epochId, firstSeq, ...(start.forced && { forced: true }) });
    });
    return history;
  }
}
