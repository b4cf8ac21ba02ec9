/** How fresh a read must be, when a write is answered, and sessions, which carry what was seen from answers into reads. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Acknowledge as WireAcknowledge, type ConsistencySchema } from "../gen/cambium/v1/types_pb.js";
import { CambiumError } from "./cambium-error.js";
import { type Position, toPosition, toWire } from "./wire.js";

/** How fresh a read must be. All that is given must hold; without any of it a node answers from what it has. */
export interface ReadConsistency {
  /** A token of any answer of the cluster: the read sees what that answer saw or wrote. Instead of the session's own. */
  readonly atLeast?: Uint8Array | undefined;
  /** The same by a plain seq, without a check of the history that it belongs to. */
  readonly atLeastSeq?: number | undefined;
  /** The answer is at most this old. */
  readonly maxStalenessMs?: number | undefined;
  /** The read sees every write that was answered before it was sent, to whomever. */
  readonly linearizable?: boolean | undefined;
}

/**
 * When a write is answered: once the master keeps it (it may still be lost in a failover, and reads do not see it yet), once
 * it is committed, or once every voter that is connected keeps it too.
 */
export type Acknowledge = "master" | "committed" | "all";

/** The newest of what a session has seen and written. */
export class SessionToken {
  #token: Uint8Array | undefined;
  /** Unknown of a token that somebody else has handed over. */
  #position: Position | undefined;

  constructor(token?: Uint8Array) {
    if (token && token.byteLength > 0) this.#token = token;
  }

  get token(): Uint8Array | undefined {
    return this.#token;
  }

  /**
   * Takes in an answer. Answers of calls that were under way at once come in any order. `isNewer`: it is that of a write, or
   * of a read that carried this token, and so not older than a token whose position is not known.
   */
  observe(
    answer: { readonly position?: { epoch: bigint; seq: bigint } | undefined; readonly token: Uint8Array },
    isNewer = true,
  ): void {
    if (answer.token.byteLength === 0) return;
    const position = toPosition(answer.position);
    const known = this.#position;
    const isOlder = known
      ? (position.epoch - known.epoch || position.seq - known.seq) <= 0
      : this.#token !== undefined && !isNewer;
    if (isOlder) return;
    this.#token = answer.token;
    this.#position = position;
  }
}

/** What a request carries; nothing where nothing is asked for. */
export function consistencyOf(
  { atLeast, atLeastSeq, maxStalenessMs, linearizable }: ReadConsistency,
  session: SessionToken | undefined,
): { readonly consistency?: MessageInitShape<typeof ConsistencySchema> } {
  const token = atLeast ?? session?.token;
  if (token === undefined && atLeastSeq === undefined && maxStalenessMs === undefined && !linearizable) return {};
  if (atLeast?.byteLength === 0) throw new CambiumError("invalid_argument", "atLeast is empty; leave it out instead");
  return {
    consistency: {
      ...(token && { atLeast: token }),
      ...(atLeastSeq !== undefined && { atLeastSeq: toWire(atLeastSeq, "atLeastSeq") }),
      ...(maxStalenessMs !== undefined && { maxStalenessMs: toWire(maxStalenessMs, "maxStalenessMs") }),
      ...(linearizable && { linearizable }),
    },
  };
}

/** What a request carries; nothing for what nodes do anyway. */
export function acknowledgeOf(acknowledge: Acknowledge | undefined): { readonly acknowledge?: WireAcknowledge } {
  switch (acknowledge) {
    case undefined:
    case "committed":
      return {};
    case "master":
      return { acknowledge: WireAcknowledge.MASTER };
    case "all":
      return { acknowledge: WireAcknowledge.ALL };
    default:
      throw new CambiumError(
        "invalid_argument",
        `acknowledge must be master, committed or all, not ${JSON.stringify(acknowledge)}`,
      );
  }
}
