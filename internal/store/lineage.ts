/** What history a node has, and the tokens that hold clients to it. */
import { EpochHistory, type EpochStart } from "../base/epoch-history.js";
import type { ClusterId } from "../base/ids.js";
import { type Epoch, type Position, type Seq, seq as toSeq } from "../base/position.js";
import type { LogRecord } from "../wal/record.js";
import { epochChangeOf } from "./change.js";
import { StoreError } from "./store-error.js";
import { decodeToken, encodeToken, NO_EPOCH_ID, tokenAtSeq, type TokenPlace } from "./token.js";

/** The mastership that a record begins, when it begins one. */
export function epochStartOf(record: LogRecord): EpochStart | undefined {
  const change = epochChangeOf(record.payload);
  if (!change) return undefined;
  const { epochId, forced } = change;
  return { epoch: record.epoch, epochId, firstSeq: record.seq, ...(forced && { forced }) };
}

export class Lineage {
  readonly clusterId: ClusterId;
  #history: EpochHistory;
  /** The token that was made last from scratch, and the mastership that it is of. */
  #made: { readonly start: EpochStart | undefined; readonly epoch: Epoch; readonly token: Uint8Array } | undefined;

  constructor(clusterId: ClusterId, starts: readonly EpochStart[]) {
    this.clusterId = clusterId;
    this.#history = new EpochHistory(starts);
  }

  /** Of all records that are or were in the log, applied or not. */
  get history(): EpochHistory {
    return this.#history;
  }

  /** Takes a history that a snapshot and the log after it tell in place of what the log alone told. */
  replace(starts: readonly EpochStart[]): void {
    this.#history = new EpochHistory(starts);
  }

  positionAt(seq: Seq): Position {
    return { epoch: this.history.epochAt(seq), seq };
  }

  tokenAt(position: Position): Uint8Array {
    const start = this.history.at(position.seq);
    const { epoch, seq } = position;
    if (this.#made && this.#made.start === start && this.#made.epoch === epoch)
      return tokenAtSeq(this.#made.token, seq);
    const epochId = start?.epochId ?? NO_EPOCH_ID;
    const token = encodeToken({ clusterId: this.clusterId, epochId, position });
    this.#made = { start, epoch, token };
    return token;
  }

  /** What a token says. Throws `StoreError`: `invalid_token`, and `lineage_lost` when it is of another cluster. */
  read(token: Uint8Array): TokenPlace {
    const place = decodeToken(token);
    if (place.clusterId === this.clusterId) return place;
    throw new StoreError(
      "lineage_lost",
      `the token is of cluster ${place.clusterId}, this node belongs to ${this.clusterId}; start again without a token`,
    );
  }

  /**
   * The record that a token stands for, in the history up to `lastSeq`; undefined when that does not have it, or not yet. Throws
   * `StoreError`: `lineage_lost`, `invalid_token`.
   */
  seqOf(token: Uint8Array, lastSeq: Seq): Seq | undefined {
    const place = this.read(token);
    return this.hasReached(place, lastSeq) ? place.position.seq : undefined;
  }

  /**
   * Whether a token's place is in the history that is committed up to `appliedSeq`. Where its epoch is not, it may be on its
   * way, until a newer one is seen to have won. Throws `StoreError`: `lineage_lost`, `invalid_token`.
   */
  hasReached({ epochId, position }: TokenPlace, appliedSeq: Seq): boolean {
    if (position.seq === 0) return true;
    const { starts } = this.#history;
    /** The committed mastership after `start`. */
    let next: EpochStart | undefined;
    for (let i = starts.length - 1; i >= 0; i--) {
      const start = starts[i]!;
      if (start.firstSeq > appliedSeq) continue;
      if (start.epoch > position.epoch) {
        next = start;
        continue;
      }
      if (start.epoch < position.epoch) break;
      if (start.epochId !== epochId) throw lostAt(described(position));
      if (position.seq < start.firstSeq) {
        throw new StoreError("invalid_token", "the token is damaged; give back a token exactly as it came");
      }
      if (next && position.seq >= next.firstSeq) {
        throw lostAt(described(position), { epoch: start.epoch, seq: toSeq(next.firstSeq - 1) });
      }
      return appliedSeq >= position.seq;
    }
    if (next) throw lostAt(described(position));
    return false;
  }
}

/** Somebody stands on what is no longer history. `fork`: the last place that both have in common, as far as it is known. */
export function lostAt(place: string, fork?: Position): StoreError {
  const common = fork ? `; what came up to ${described(fork)} still stands` : "";
  return new StoreError(
    "lineage_lost",
    `${place} was lost in a failover${common}; read anew, without a token`,
    fork && { fork },
  );
}

function described({ epoch, seq }: Position): string {
  return `epoch ${epoch}, seq ${seq}`;
}
