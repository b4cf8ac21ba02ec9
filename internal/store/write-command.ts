/** What clients wish to change, with conditions and relative times still in it, and what they are told about it. */
import type { EpochMs, Seq } from "../base/position.js";
import type { KeyRange } from "../engine/engine.js";

/** What must hold of a key for the write to happen; at most one of them is given. */
export interface Condition {
  readonly ifAbsent?: true;
  /** The record that last changed the key; 0: the key is absent. */
  readonly ifSeq?: Seq;
  /** The same by the token of that record, whose lineage is checked. */
  readonly ifToken?: Uint8Array;
}

export interface SetCommand {
  readonly kind: "set";
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** From now; absent or 0: the key does not expire. */
  readonly ttlMs?: number;
  /** The key keeps the deadline that it has, and one that it creates has none. Not with `ttlMs`. */
  readonly keepTtl?: true;
  readonly condition?: Condition;
  readonly wantPrevious?: true;
}

export interface DeleteCommand {
  readonly kind: "delete";
  readonly key: Uint8Array;
  readonly condition?: Condition;
  readonly wantPrevious?: true;
}

/** Writes a key anew, its value as it is; one that is absent stays so. */
export interface TouchCommand {
  readonly kind: "touch";
  readonly key: Uint8Array;
  /** From now; 0: the key does not expire. */
  readonly ttlMs: number;
  readonly condition?: Condition;
}

/** Adds to a value that is a decimal number of 64 bits, signed. */
export interface IncrementCommand {
  readonly kind: "increment";
  readonly key: Uint8Array;
  readonly delta: bigint;
  /** What an absent key counts as. */
  readonly initial: bigint;
  /** The sum is neither below `min` nor above `max`; both are numbers of 64 bits. */
  readonly min: bigint;
  readonly max: bigint;
  /** Of a key that this creates, from now; 0: it does not expire. */
  readonly ttlMs: number;
}

/** Removes every key of a range. Alone in its write. */
export interface DeleteRangeCommand {
  readonly kind: "delete-range";
  readonly range: KeyRange;
}

/** A wish to change one key. */
export type KeyCommand = SetCommand | DeleteCommand | TouchCommand | IncrementCommand;

export type WriteCommand = KeyCommand | DeleteRangeCommand;

export type TxnOperation = KeyCommand | { readonly kind: "get"; readonly key: Uint8Array };

/**
 * Of an absent key the seqs are 0; its value is neither equal to any nor less or greater: only "not-equal" holds. Existence is
 * compared with "equal" and "not-equal" only.
 */
export interface Compare {
  readonly key: Uint8Array;
  /** How the key's is, compared with the one given. */
  readonly comparison: "equal" | "not-equal" | "less" | "greater";
  readonly target:
    | { readonly kind: "mod-seq" | "create-seq"; readonly seq: Seq }
    | { readonly kind: "exists"; readonly exists: boolean }
    /** By its bytes, unsigned. */
    | { readonly kind: "value"; readonly value: Uint8Array };
}

export interface Txn {
  /** All must hold for `then`; none: they hold. */
  readonly compares: readonly Compare[];
  readonly then: readonly TxnOperation[];
  readonly else: readonly TxnOperation[];
}

/** A key as it was before a write. */
export interface PreviousEntry {
  readonly value: Uint8Array;
  readonly createSeq: Seq;
  readonly modSeq: Seq;
}

/** A key as a transaction read it. */
export interface ReadEntry extends PreviousEntry {
  /** By the master's time; absent: never. */
  readonly expiresAtMs?: EpochMs;
}

/**
 * What one command found and did. What it shows of a key that this very record has changed before has the record's own seq.
 * Values may be shared with the writes in flight; nobody writes to them.
 */
export interface WriteResult {
  /** Whether the key existed before; of a range, whether there was any key. */
  readonly existed: boolean;
  /** When it was asked for, and the key existed. */
  readonly previous?: PreviousEntry;
  /** Of an increment. */
  readonly sum?: bigint;
  /** Of a range: the keys removed; absent when they were more than are counted. */
  readonly deleted?: number;
  /** Of a get, when the key existed. */
  readonly entry?: ReadEntry;
}
