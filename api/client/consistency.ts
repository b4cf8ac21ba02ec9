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

/** What an answer says of where it was given. */
export interface TokenedAnswer {
  readonly position?: { epoch: bigint; seq: bigint } | undefined;
  readonly token: Uint8Array;
}

/** What of a session goes with one read. */
export interface SessionRead {
  readonly token: Uint8Array | undefined;
  /** To be shown to the node that answers, before its answer counts. */
  readonly unproven: readonly Uint8Array[];
}

/**
 * The newest of what a session has seen and written. A write is taken by whichever master there is: after a failover its token
 * says nothing of what the session saw before, so that those tokens are kept until a node has shown that it still has them.
 */
export class SessionToken {
  #token: Uint8Array | undefined;
  /** Unknown of a token that somebody else has handed over. */
  #position: Position | undefined;
  /** Tokens of earlier masterships that nobody has vouched for since: one a failover, until the next read. */
  #unproven: readonly Uint8Array[] = [];

  /** `encoded`: of another session, or the token of an answer. */
  constructor(encoded?: Uint8Array) {
    if (!encoded || encoded.byteLength === 0) return;
    const [token, ...unproven] = decodeTokens(encoded);
    this.#token = token;
    this.#unproven = unproven;
  }

  /** All of it, for a session elsewhere. */
  get encoded(): Uint8Array | undefined {
    return this.#token && encodeTokens([this.#token, ...this.#unproven]);
  }

  beginRead(): SessionRead {
    return { token: this.#token, unproven: this.#unproven };
  }

  /** The node that answered the read had what this names. */
  proven(read: SessionRead): void {
    this.#unproven = this.#unproven.filter((token) => !read.unproven.includes(token));
  }

  /** Lets go of what a read carried, which was lost. */
  forget(read: SessionRead): void {
    this.#unproven = this.#unproven.filter((token) => !read.unproven.includes(token));
    if (this.#token !== read.token) return;
    this.#token = undefined;
    this.#position = undefined;
  }

  /** Takes in the answer of a write. */
  observeWrite(answer: TokenedAnswer): void {
    this.#observe(answer, undefined);
  }

  /** Takes in the answer of a read that carried `read`; undefined: one that asked for something else of its own. */
  observeRead(answer: TokenedAnswer, read: SessionRead | undefined): void {
    // It may be older than a token of which nobody here knows how new it is.
    if (!this.#position && this.#token && read?.token !== this.#token) return;
    this.#observe(answer, read?.token);
  }

  /** `carried`: the token that the answering node has shown to have. Answers of calls under way at once come in any order. */
  #observe(answer: TokenedAnswer, carried: Uint8Array | undefined): void {
    if (answer.token.byteLength === 0) return;
    const position = toPosition(answer.position);
    const known = this.#position;
    if (known && (position.epoch - known.epoch || position.seq - known.seq) <= 0) return;
    if (this.#token && carried !== this.#token && known?.epoch !== position.epoch) {
      this.#unproven = [...this.#unproven, this.#token];
    }
    this.#token = answer.token;
    this.#position = position;
  }
}

/** No token of a node begins so: its first byte is a version, and they begin with 1. */
const SEVERAL_TOKENS = 0;

/** One token is itself; several are a zero, and each with its length of two bytes before it. */
function encodeTokens(tokens: readonly Uint8Array[]): Uint8Array {
  const [only, ...more] = tokens;
  if (only && more.length === 0) return only;
  const lengths = tokens.map(({ byteLength }) => [byteLength >> 8, byteLength & 0xff]);
  return Uint8Array.from([SEVERAL_TOKENS, ...tokens.flatMap((token, at) => [...lengths[at]!, ...token])]);
}

function decodeTokens(encoded: Uint8Array): Uint8Array[] {
  if (encoded[0] !== SEVERAL_TOKENS) return [encoded];
  const tokens: Uint8Array[] = [];
  for (let at = 1; at < encoded.byteLength;) {
    const end = at + 2 + encoded[at]! * 256 + (encoded[at + 1] ?? 0);
    if (end > encoded.byteLength || end === at + 2) {
      throw new CambiumError("invalid_argument", "the session's token is damaged; give back sessionToken as it came");
    }
    tokens.push(encoded.subarray(at + 2, end));
    at = end;
  }
  return tokens;
}

/** What a request carries; nothing where nothing is asked for. */
export function consistencyOf(
  { atLeast, atLeastSeq, maxStalenessMs, linearizable }: ReadConsistency,
  session: SessionRead | undefined,
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
