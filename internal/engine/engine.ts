/**
 * The port of the engine: the committed state of one node, in memory. It is synchronous and deterministic: the same
 * operations in the same order give the same state on every node. It knows no clock, log or network; whoever calls it
 * says what time it is.
 *
 * Keys and values are bytes. The engine takes over no buffer that it is given (it copies), and what it hands out is valid
 * until the next call that changes anything (`apply`, `removeHidden`, `restore`, `clear`, `tidy` and their like): it may be the engine's own memory, which is then moved, written to, or
 * given back. Whoever reads is done with it, or has copied it, before anybody else can get a turn; and never writes to it.
 */
import type { EpochMs, Seq } from "../base/position.js";
import type { EntryRun } from "./entry-run.js";

/** An absolute change, as it stands in a record: it needs no condition and no clock to be carried out. */
export type Operation =
  | {
      readonly kind: "put";
      readonly key: Uint8Array;
      readonly value: Uint8Array;
      /** By the master's time; absent: never. */
      readonly expiresAtMs?: EpochMs;
    }
  | { readonly kind: "delete"; readonly key: Uint8Array }
  /** Removes a key whose time is over, as the record `modSeq` had left it; one that was changed since stays. */
  | { readonly kind: "expire"; readonly key: Uint8Array; readonly modSeq: Seq }
  /** Removes a key to make room, as the record `modSeq` had left it; one that was changed since stays. */
  | { readonly kind: "evict"; readonly key: Uint8Array; readonly modSeq: Seq }
  /**
   * Removes all keys of a range, as earlier records had left them; what its own record or a later one has written stays.
   * Without `end`: to the last key.
   */
  | { readonly kind: "delete-range"; readonly start: Uint8Array; readonly end?: Uint8Array };

/** The removal of a key as one record has left it. */
export type Removal = Extract<Operation, { readonly kind: "expire" | "evict" }>;

/** An operation on one key. */
export type KeyOperation = Exclude<Operation, { readonly kind: "delete-range" }>;

/** A key's present content. */
export interface Entry {
  readonly value: Uint8Array;
  /** The record that created the key. */
  readonly createSeq: Seq;
  /** The record that last changed it. */
  readonly modSeq: Seq;
  /** By the master's time; absent: never. */
  readonly expiresAtMs?: EpochMs;
}

/** A key together with its entry. */
export interface KeyedEntry extends Entry {
  readonly key: Uint8Array;
}

/** An entry of a walk. */
export interface WalkedEntry extends KeyedEntry {
  /** Its `entryChecksum`, as it was summed when the entry was written. */
  readonly checksum: number;
}

/** Where a key and its value lie, in bytes that hold much besides: a view for each would cost more than to carry it out. */
export interface KeyValueBytes {
  readonly keyIn: Uint8Array;
  readonly keyStart: number;
  readonly keyEnd: number;
  readonly valueIn: Uint8Array;
  readonly valueStart: number;
  readonly valueEnd: number;
  /** By the master's time; Infinity: never. */
  readonly deadlineMs: number;
  /** Where both lie in the same bytes: these, as numbers are read from them. */
  readonly view?: DataView | undefined;
}

/** An entry that lies in such bytes. */
export interface EntryBytes extends KeyValueBytes {
  readonly createSeq: Seq;
  readonly modSeq: Seq;
}

/** Keys from `start` on, up to `end` without it; by their bytes, unsigned. Without `end`: to the last key. */
export interface KeyRange {
  readonly start: Uint8Array;
  readonly end?: Uint8Array;
}

/** A key, as one record has left it. */
export interface KeyVersion {
  readonly key: Uint8Array;
  readonly modSeq: Seq;
}

/** How far a scan may go, however little it shows. It lowers `looks` as it goes. */
export interface ScanBudget {
  /** Entries that it may still look at. */
  looks: number;
  /** Set when that was too few: the `start` of a scan of the rest, or with `reverse` its `end`. Valid as the entries are. */
  stoppedAt?: Uint8Array;
}

/** Keys of a part of a range. */
export interface KeyCount {
  readonly count: number;
  /** The first key that was not counted, if the range goes on; a copy. */
  readonly next?: Uint8Array;
}

/** Which key goes when there is no room: the one not used for longest, the one used least, any, the one due soonest. */
export type EvictionPolicy = "lru" | "lfu" | "random" | "ttl";

/** What an entry counts for beside its key and value where memory is limited. */
export const ENTRY_OVERHEAD_BYTES = 64;

/** What a key counts for where memory is limited; the same in every engine, whatever it really takes. */
export function accountedBytesOf(keyLength: number, valueLength: number): number {
  return keyLength + valueLength + ENTRY_OVERHEAD_BYTES;
}

export interface Engine {
  /** Whether keys are kept in order. Where they are not, nobody calls `scan`. */
  readonly isOrdered: boolean;
  /**
   * Whether all that was deleted is removed. A deletion of a range takes effect at once, and costs little; its keys are hidden
   * then, and removed by `removeHidden`. As long as some are left, `entryCount`, `dataBytes`, `accountedBytes` and `checksum`
   * may count them, and are not the same on every node.
   */
  readonly isSettled: boolean;
  /** Keys held, those past their deadline included until they are removed. */
  readonly entryCount: number;
  /** Bytes of all keys and values held. */
  readonly dataBytes: number;
  /** The `accountedBytesOf` all entries. */
  readonly accountedBytes: number;
  /**
   * Of all entries: the sum, modulo 2^32, of the `entryChecksum` of each. Equal on every node that has applied the same
   * records, in whatever way it came to them.
   */
  readonly checksum: number;

  /** No key falls due before this; Infinity when none has a deadline. */
  readonly nextDueMs: number;

  /** The entry of a key that at `nowMs` is not past its deadline. An entry is overdue from `expiresAtMs` on. Counts as a use of it. */
  get(key: Uint8Array, nowMs: EpochMs): Entry | undefined;
  /** The same for the key that `bytes` has from `start` up to `end`: one as it came from the wire, without a view made for it. */
  getIn(bytes: Uint8Array, start: number, end: number, nowMs: EpochMs): Entry | undefined;

  /**
   * Carries out one operation of the record `seq`, written at the master's time `timestampMs`. A key that was overdue at
   * that time counts as absent: a put creates it anew; but not if it is this very record that has written the key, or else
   * the record would leave something different when it is replayed. Operations come in the order of the log; one on a key
   * that a record after `seq` has changed does nothing, so that the log may be replayed over a state that was walked while
   * it changed.
   */
  apply(seq: Seq, timestampMs: EpochMs, operation: Operation): void;
  /** The same for a put that lies in other bytes. */
  applyPut(seq: Seq, timestampMs: EpochMs, put: KeyValueBytes): void;
  /** The same for many, one after another; the record of each is its mod seq. */
  applyPuts(puts: EntryRun): void;
  /** The same for removals of one record, one after another. Returns how many of them found their key as they say. */
  applyRemovals(seq: Seq, timestampMs: EpochMs, removals: readonly Removal[]): number;

  /**
   * Looks at up to `looksMax` entries that deletions of ranges may have hidden, and removes them; nothing that a reader sees is
   * changed. Returns whether there is more to do.
   */
  removeHidden(looksMax: number): boolean;

  /**
   * Goes through the entries while operations go on in between: every entry that `createdUpTo` or an earlier record
   * created, and that is there from beginning to end, comes once, as it is at that moment. What each step hands out is
   * valid until the next step or operation.
   */
  walk(createdUpTo: Seq): Iterator<WalkedEntry, undefined>;

  /**
   * Goes through the entries of a range by ascending keys, those left out that at `nowMs` are past their deadline. It, and
   * what it hands out, is valid until the next operation, scan, count or `due`. With `reverse`, by descending keys. Where much was
   * deleted or is overdue, it may have to pass over much; with a `budget` it stops there.
   */
  scan(range: KeyRange, nowMs: EpochMs, reverse?: boolean, budget?: ScanBudget): Iterator<KeyedEntry, undefined>;

  /**
   * Counts the keys that a scan would show, from `from` on, or from the range's beginning; it looks at up to `looksMax` entries,
   * and says where the rest begins.
   */
  count(range: KeyRange, nowMs: EpochMs, from: Uint8Array | undefined, looksMax: number): KeyCount;

  /**
   * Up to `countMax` keys that at `nowMs` are past their deadline, those due first before others, about: where there are more,
   * keys that are neighbours of the first may come with it. None comes behind the one with which all have `bytesMax` bytes; absent:
   * there is no limit. They stay until an operation removes them. While the engine is not settled there may be fewer than there
   * are. The keys are copies.
   */
  due(nowMs: EpochMs, countMax: number, bytesMax?: number): readonly KeyVersion[];

  /**
   * The `accountedBytesOf` each key, as long as it is as one record has left it; undefined where it is not any more. No use of
   * them.
   */
  bytesOfVersions(versions: readonly KeyVersion[]): readonly (number | undefined)[];

  /**
   * A key that could go to make room, or undefined when no key can. It stays until an operation removes it; where there is
   * another that could go, the next call names that one. `ttl` names only keys with a deadline. While the engine is not settled
   * it may find none though there is one. The key is a copy.
   */
  victim(policy: EvictionPolicy): (KeyVersion & { readonly accountedBytes: number }) | undefined;

  /**
   * Begins to load an empty engine: until `endLoad` has ended that, nobody calls `scan` or `count`, and entries come faster for it,
   * since their order is made for all at once.
   */
  beginLoad(): void;

  /**
   * Goes on making what `restoreAll` has put in since `beginLoad` known by its keys, for a millisecond, and returns whether there is more
   * to do. Whoever needs it earlier waits for all of it: this is for others to have their turn in between. Nothing is restored meanwhile.
   */
  indexRestored(): boolean;

  /**
   * Goes on ending what `beginLoad` began, for some milliseconds, and returns whether there is more to do. From the first call to
   * the last nothing is applied or restored, and what deletions of ranges have hidden stays. Nothing to do where no load was begun.
   */
  endLoad(): boolean;

  /** Puts an entry of a walk into this engine, which is settled, exactly as it was there. */
  restore(entry: KeyedEntry): void;
  /** The same for an entry that lies in other bytes. Returns its `entryChecksum`. */
  restoreFrom(entry: EntryBytes): number;
  /** The same for many, one after another. Returns the sum of their checksums, modulo 2^32. */
  restoreAll(entries: EntryRun): number;

  /** Forgets everything. */
  clear(): void;

  /**
   * Gives back a little of the memory that is not needed any more, in some microseconds, as operations do too: for when none
   * come. Returns whether there is more to do.
   */
  tidy(): boolean;
}
