/**
 * For tests: what a store must hold, as plain maps and arrays, from the answers that its callers got. An acknowledged change is
 * there; a refused one is not; of those whose outcome nobody knows, the first ones are there and the rest are not.
 */

export type ModelChange =
  | { readonly kind: "set"; readonly key: string; readonly value: string }
  | { readonly kind: "delete"; readonly key: string }
  | { readonly kind: "produce"; readonly record: string }
  | { readonly kind: "truncate"; readonly below: number };

/** Changes that happen together. */
export interface ModelRecord {
  readonly changes: readonly ModelChange[];
  outcome: "pending" | "acknowledged" | "refused" | "unknown";
  /** Its place in the log, as far as somebody was told. */
  seq?: number;
  /** The place that it was given first. */
  firstSeq?: number;
  /** Survives the loss of power, in every mode. */
  synced?: true;
}

export interface ModelState {
  readonly entries: ReadonlyMap<string, string>;
  readonly start: number;
  readonly end: number;
  /** From `start` on. */
  readonly records: readonly string[];
}

export class Model {
  /** The record log begins here at least. */
  #startMin = 0;
  /** In the order in which the log has them. */
  #records: ModelRecord[] = [];

  add(changes: readonly ModelChange[]): ModelRecord {
    const record: ModelRecord = { changes, outcome: "pending" };
    this.#records.push(record);
    return record;
  }

  /**
   * The log has dropped everything from `firstSeq` on for lack of room. What makes things smaller is written again, behind
   * everything else, if there is room kept back for it.
   */
  drop(firstSeq: number, hasReserve: boolean): void {
    const isDropped = (record: ModelRecord): boolean =>
      record.outcome === "pending" && record.firstSeq !== undefined && record.firstSeq >= firstSeq;
    const dropped = this.#records.filter(isDropped);
    const isSmaller = ({ changes }: ModelRecord): boolean =>
      changes.every(({ kind }) => kind === "delete" || kind === "truncate");
    const again = hasReserve ? dropped.filter(isSmaller) : [];
    this.#records = [...this.#records.filter((record) => !dropped.includes(record)), ...again];
    for (const record of dropped) {
      delete record.firstSeq;
      if (!again.includes(record)) record.outcome = "refused";
    }
  }

  /** The process ends: whoever had no answer gets none. With the power goes what was not synced, if that may be lost. */
  crash(options: { readonly losesUnsynced: boolean }): void {
    for (const record of this.#records) {
      if (record.outcome === "pending") record.outcome = "unknown";
      if (options.losesUnsynced && !record.synced && record.outcome === "acknowledged") record.outcome = "unknown";
    }
  }

  /** The log is synced up to `seq`. */
  noteSynced(seq: number): void {
    const last = this.#records.findLastIndex((record) => record.seq !== undefined && record.seq <= seq);
    for (const record of this.#records.slice(0, last + 1)) record.synced = true;
  }

  /** Says, when it is called, that what is in the log now is synced. */
  syncPoint(): () => void {
    const records = [...this.#records];
    return () => {
      for (const record of records) record.synced = true;
    };
  }

  /** The record log's end after everything that may be there. */
  get endMax(): number {
    return this.#stateWith(Infinity).end;
  }

  /**
   * What was truncated may be gone from the disk although the power took the truncation; then the record log begins at
   * `start` all the same.
   */
  adoptStart(start: number): void {
    this.#startMin = Math.max(this.#startMin, start);
  }

  /** With the acknowledged records alone. */
  get state(): ModelState {
    return this.#stateWith(0);
  }

  /**
   * Places after which the log can be cut, oldest first. What the record log was truncated by may be gone from the disk, so
   * none lies before a truncation.
   */
  get cuts(): readonly number[] {
    const truncation = this.#records.findLastIndex(({ changes }) => changes.some(({ kind }) => kind === "truncate"));
    return this.#records
      .slice(truncation + 1)
      .flatMap(({ outcome, seq }) => (outcome === "acknowledged" && seq !== undefined ? [seq] : []));
  }

  /** The records after `seq` may go, from the last one on. Gives back a way to take that back. */
  doubtAfter(seq: number): () => void {
    const at = this.#records.findIndex((record) => record.seq === seq);
    const doubted = this.#records.slice(at + 1).filter(({ outcome }) => outcome === "acknowledged");
    for (const record of doubted) record.outcome = "unknown";
    return () => {
      for (const record of doubted) record.outcome = "acknowledged";
    };
  }

  cutAfter(seq: number): void {
    const at = this.#records.findIndex((record) => record.seq === seq);
    this.#records.splice(at + 1);
  }

  /** Every state that a store may have now, the one with the least first. */
  candidates(): ModelState[] {
    const unknown = this.#records.filter(({ outcome }) => outcome === "unknown").length;
    return Array.from({ length: unknown + 1 }, (_, known) => this.#stateWith(known));
  }

  /** The store has shown that the first `known` of the unknown ones are there, and no other. */
  settle(known: number): void {
    let left = known;
    this.#records = this.#records.filter((record) => {
      if (record.outcome === "unknown") record.outcome = left-- > 0 ? "acknowledged" : "refused";
      return record.outcome !== "refused";
    });
  }

  #stateWith(known: number): ModelState {
    const entries = new Map<string, string>();
    const records: string[] = [];
    let start = this.#startMin;
    let left = known;
    for (const { changes, outcome } of this.#records) {
      if (outcome === "refused" || outcome === "pending") continue;
      if (outcome === "unknown" && left-- <= 0) continue;
      for (const change of changes) {
        if (change.kind === "set") entries.set(change.key, change.value);
        else if (change.kind === "delete") entries.delete(change.key);
        else if (change.kind === "produce") records.push(change.record);
        else start = Math.max(start, change.below);
      }
    }
    return { entries, start, end: records.length, records: records.slice(start) };
  }
}
