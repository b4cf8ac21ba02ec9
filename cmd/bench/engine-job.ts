/** What the bench asks of a process that measures one engine, and what it hears back, as JSON. */

export const engineKinds = ["map", "slab", "slab without order"] as const;
export type EngineKind = (typeof engineKinds)[number];

export interface EngineJob {
  readonly engine: EngineKind;
  readonly entries: number;
}

/** All times are of the main thread, where the system tells it: what others took of the processors does not count. */
export interface EngineResult {
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

export type EngineReport =
  { readonly kind: "done"; readonly result: EngineResult } | { readonly kind: "failed"; readonly message: string };
