/** What there is to tell, in the words of the rooms below. */

export interface Place {
  readonly epoch: number;
  readonly seq: number;
}

export interface FoundEntry {
  readonly value: Uint8Array;
  readonly createSeq: number;
  readonly modSeq: number;
  readonly expiresAtMs?: number;
}

interface Found {
  readonly point: { readonly position: Place; readonly nowMs: number; readonly token: Uint8Array };
  /** Undefined where this node cannot tell. */
  readonly stalenessMs: number | undefined;
}

export interface FoundOne extends Found {
  readonly entry: FoundEntry | undefined;
}

export interface FoundMany extends Found {
  /** In the order of the keys. */
  readonly entries: readonly (FoundEntry | undefined)[];
}

/** Of a write of one command. */
export interface Written {
  readonly position: Place;
  readonly token: Uint8Array;
  readonly repeated: boolean;
  readonly existed: boolean;
  /** Of an increment. */
  readonly sum?: bigint | undefined;
}
