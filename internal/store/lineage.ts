/** What history a node has, and the tokens that hold clients to it. */
import { EpochHistory, type EpochStart } from "../base/epoch-history.js";
import type { ClusterId } from "../base/ids.js";
import type { Position, Seq } from "../base/position.js";
import type { LogRecord } from "../wal/record.js";
import { epochChangeOf } from "./change.js";
import { StoreError } from "./store-error.js";
import { decodeToken, encodeToken, NO_EPOCH_ID } from "./token.js";

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
    const epochId = this.history.at(position.seq)?.epochId ?? NO_EPOCH_ID;
    return encodeToken({ clusterId: this.clusterId, epochId, position });
  }

  /** The place that a token names. Throws `StoreError`: `invalid_token`, `lineage_lost`. */
  placeOf(token: Uint8Array): Position {
    const { clusterId, epochId, position } = decodeToken(token);
    if (clusterId !== this.clusterId) {
      throw new StoreError(
        "lineage_lost",
        `the token is of cluster ${clusterId}, this node belongs to ${this.clusterId}; start again without a token`,
      );
    }
    const own = this.history.at(position.seq);
    const known = position.seq === 0 || (own?.epoch === position.epoch && own.epochId === epochId);
    // A token of an epoch that this node has not heard of yet is merely ahead, until a newer epoch is seen to have won.
    const ahead = position.epoch > (this.history.last?.epoch ?? 0);
    if (known || ahead) return position;
    throw new StoreError(
      "lineage_lost",
      `the history of the token (epoch ${position.epoch}, seq ${position.seq}) was lost in a failover; start again without a token`,
    );
  }
}
