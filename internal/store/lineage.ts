/** What history a node has, and the tokens that hold clients to it. */
import { must } from "../base/assert.js";
import { EpochHistory } from "../base/epoch-history.js";
import type { ClusterId } from "../base/ids.js";
import type { Epoch, Position, Seq } from "../base/position.js";
import { epochChangeOf } from "./change.js";
import { StoreError } from "./store-error.js";
import { decodeToken, encodeToken, NO_EPOCH_ID } from "./token.js";

export class Lineage {
  readonly clusterId: ClusterId;
  /** Of all records in the log, applied or not. */
  readonly history = new EpochHistory();

  constructor(clusterId: ClusterId) {
    this.clusterId = clusterId;
  }

  /** Takes note of a record that was appended, when it begins an epoch. */
  learn(record: { readonly seq: Seq; readonly epoch: Epoch; readonly payload: Uint8Array }): void {
    if (record.epoch <= (this.history.last?.epoch ?? 0)) return;
    const change = must(
      epochChangeOf(record.payload),
      `record ${record.seq} begins epoch ${record.epoch} without saying so`,
    );
    this.history.push({ epoch: record.epoch, epochId: change.epochId, firstSeq: record.seq });
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
