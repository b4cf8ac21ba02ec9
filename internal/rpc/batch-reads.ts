/** The gets of one batch that wait for nothing: all of them are done in the tick in which it begins, and so stand at one place. */
import type { GetRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Consistency } from "../../api/gen/cambium/v1/types_pb.js";
import type { AnswerRoom } from "./answer-room.js";
import type { ReadPlace } from "./batch-results.js";
import type { FreshReads } from "./fresh-reads.js";
import type { Entry, KeyReadOptions } from "./key-reads.js";
import { checkedKeyUntilNext } from "./limits.js";
import { LARGE_BYTES } from "./turns.js";

export interface BatchReadOptions extends KeyReadOptions {
  readonly reads: Pick<FreshReads, "admit">;
}

export class BatchReads {
  readonly #options: BatchReadOptions;
  readonly #room: Pick<AnswerRoom, "take">;
  /** Ends a wait that a get would begin, within this tick. */
  readonly #signal: AbortSignal;
  #place: ReadPlace | undefined;
  /** A token that this node has reached. */
  #admitted: Uint8Array | undefined;

  constructor(options: BatchReadOptions, room: Pick<AnswerRoom, "take">, signal: AbortSignal) {
    this.#options = options;
    this.#room = room;
    this.#signal = signal;
  }

  /** What is there, until the tick ends; undefined: it would have to wait, is large, or has no room left. Throws as a get does. */
  read({ key, consistency }: GetRequest): { readonly entry: Entry | undefined; readonly place: ReadPlace } | undefined {
    const { store, limits } = this.#options;
    const checked = checkedKeyUntilNext(key, "key", limits);
    if (!this.#admits(consistency)) return undefined;
    const place = this.#readPlace();
    const entry = store.get(checked);
    const bytes = entry?.value.byteLength ?? 0;
    return bytes > LARGE_BYTES || !this.#room.take(bytes) ? undefined : { entry, place };
  }

  /** Whether a read may be done at once. Throws as reads do. */
  #admits(consistency: Consistency | undefined): boolean {
    if (!consistency) return true;
    const { atLeast, atLeastSeq, maxStalenessMs, linearizable } = consistency;
    const isToken = atLeast.length > 0 && atLeastSeq === 0n && maxStalenessMs === undefined && !linearizable;
    // Those of one caller mostly ask for the same, and nothing has changed since.
    if (isToken && this.#admitted && Buffer.compare(atLeast, this.#admitted) === 0) return true;
    const wait = this.#options.reads.admit(consistency, this.#signal);
    // It is ended within this tick, and says so to nobody.
    wait?.catch(() => undefined);
    if (!wait && isToken) this.#admitted = atLeast;
    return !wait;
  }

  #readPlace(): ReadPlace {
    const { store, replicator } = this.#options;
    return (this.#place ??= { ...store.readPoint(), stalenessMs: replicator.stalenessMs() });
  }
}
