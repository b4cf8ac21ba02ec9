/** What the bench asks of a process that measures one engine, and what it hears back, as JSON. */
import type { EvictionPolicy } from "../../internal/engine/engine.js";

export const engineKinds = ["map", "slab", "slab without order"] as const;
export type EngineKind = (typeof engineKinds)[number];

/** Whose evictions are compared: the engine's, by its policies, and those of the package `lru-cache`. */
export const evictors = ["lru", "lfu", "random", "ttl", "lru-cache"] as const satisfies readonly (
  EvictionPolicy | "lru-cache"
)[];
export type Evictor = (typeof evictors)[number];

interface Jobs {
  /** Every operation of one engine, filled with so many entries; `operations` of gets and of sets in a round. */
  readonly operations: { readonly engine: EngineKind; readonly entries: number; readonly operations: number };
  /** Overwrites with values of ever other sizes, and what memory is held then. */
  readonly churn: { readonly entries: number; readonly overwrites: number };
  /** So many keys of which the last `bits` bits of the hash are alike under a known seed. */
  readonly flood: { readonly keys: number; readonly bits: number };
  /** A cache of so many entries under requests of which a few keys have most. */
  readonly eviction: {
    readonly evictor: Evictor;
    readonly entriesMax: number;
    readonly keys: number;
    readonly requests: number;
  };
  /** So many keys of a store that fall due in one second. */
  readonly expiry: { readonly directory: string; readonly entries: number };
  /** A store that may hold so much, and gets so many times that written. */
  readonly limit: { readonly directory: string; readonly bytesMax: number; readonly times: number };
}
export type JobKind = keyof Jobs;
export type Job<Kind extends JobKind> = Jobs[Kind];
export type EngineJob = { readonly [Kind in JobKind]: { readonly kind: Kind } & Jobs[Kind] }[JobKind];

/** All times are of the main thread, where the system tells it: what others took of the processors does not count. */
export interface OperationsResult {
  /** Nanoseconds of each operation; of `scan` and `walk`, of each entry. */
  readonly fillNs: number;
  readonly getNs: number;
  readonly setNs: number;
  /** Absent: the engine does not keep keys in order. */
  readonly scanNs?: number;
  readonly walkNs: number;
  readonly armNs: number;
  readonly expireNs: number;
  readonly deleteNs: number;
  /** Resident memory that came with the entries, for each of them; and what of it is left when nine tenths, and all, are deleted. */
  readonly residentBytes: number;
  readonly residentBytesOfTenth: number;
  readonly residentBytesAfter: number;
  /** The longest of all turns of the event loop, each of which had a few hundred operations; and when it was. */
  readonly longestTurnMs: number;
  readonly longestTurnIn: string;
  readonly longestCollectionMs: number;
}

export interface ChurnResult {
  readonly overwriteNs: number;
  /** What the engine held for each byte that is accounted: at most, and in the end. */
  readonly heldMost: number;
  readonly heldAtEnd: number;
  /** Resident memory that came with the entries, for each byte that is accounted, in the end. */
  readonly residentAtEnd: number;
}

/** Of a search or a put. */
export interface FloodCost {
  readonly putNs: number;
  readonly getNs: number;
}

export interface FloodResult {
  /** Keys by chance. */
  readonly others: FloodCost;
  /** Keys that collide under a known seed, in an engine with a seed by chance; and in one with that seed. */
  readonly colliding: FloodCost;
  readonly collidingUnderTheirSeed: FloodCost;
}

export interface EvictionResult {
  /** Of the second half of the requests, how many found their key. */
  readonly hitRatio: number;
  readonly requestNs: number;
}

export interface ExpiryResult {
  /** From the last deadline until all keys were gone, by records of the log. */
  readonly lateMs: number;
  /** The longest run of the event loop in one turn meanwhile. */
  readonly longestTurnMs: number;
  /** The same for the engine alone, with nothing logged: all keys together. */
  readonly aloneMs: number;
  readonly aloneLongestTurnMs: number;
}

export interface LimitResult {
  readonly writes: number;
  readonly writtenBytes: number;
  /** What was accounted at most, after any write. */
  readonly accountedBytesMost: number;
  /** What the process took, at most and in the end, and before the first write. */
  readonly residentBytesBefore: number;
  readonly residentBytesMost: number;
  readonly residentBytesAtEnd: number;
}

export interface Results {
  readonly operations: OperationsResult;
  readonly churn: ChurnResult;
  readonly flood: FloodResult;
  readonly eviction: EvictionResult;
  readonly expiry: ExpiryResult;
  readonly limit: LimitResult;
}
