/**
 * What can go wrong in a call, as one class with a code that a program can switch on. Everything that a node says in its
 * typed details stands here as plain fields; nobody has to know Connect to handle an error. Absence is never an error.
 */
import type { Position } from "./wire.js";

/**
 * - `invalid_argument`: a field is empty, malformed or contradictory; the message names it.
 * - `limit_exceeded`: a limit of the node was passed; `limit` has its name and numbers. Nothing was changed.
 * - `resource_exhausted`: disk full, or too many calls in flight. Nothing was changed; later it may work.
 * - `not_master`: no node that could be asked takes writes; `masterAddress` says where the master was last known.
 * - `failed_precondition`: the cluster is not in the state that the call needs.
 * - `condition_failed`: the condition of a write does not hold; `condition` says what the key is. Nothing was changed.
 * - `not_an_integer`: the key to be incremented holds no number; `counter` names it. Nothing was changed.
 * - `out_of_bounds`: the increment would pass its bounds; `counter` has them. Nothing was changed.
 * - `retry_too_old`: a write was sent again after its answer was forgotten; whether it was done is not known.
 * - `watch_ended`: the node ended a watch, and none took it up again; `resume` says where to go on.
 * - `not_found`: no such member.
 * - `out_of_range`: the log does not hold the place; `range`, or `offsets` for the record log, says what it holds.
 * - `lineage_lost`: the given token, or what was read before, belongs to a history that a failover has lost; `fork` is the
 *   last place that it has in common with the one there is.
 * - `not_fresh_enough`: no node that could be asked is as fresh as the read asks for; `freshness` says how fresh it is.
 * - `outcome_unknown`: the write may or may not have been done. Read before you repeat it.
 * - `unavailable`: the node answers, and cannot serve at present.
 * - `unreachable`: no answer; nothing was done.
 * - `deadline_exceeded`, `canceled`: the call's own time or signal ended it.
 * - `permission_denied`, `unauthenticated`, `unimplemented`: the node refuses the caller, or does not know the method.
 * - `internal`: a fault of the node, of something between, or of the client.
 */
export type CambiumErrorCode =
  | "invalid_argument"
  | "limit_exceeded"
  | "resource_exhausted"
  | "not_master"
  | "failed_precondition"
  | "condition_failed"
  | "not_an_integer"
  | "out_of_bounds"
  | "retry_too_old"
  | "watch_ended"
  | "not_found"
  | "out_of_range"
  | "lineage_lost"
  | "not_fresh_enough"
  | "outcome_unknown"
  | "unavailable"
  | "unreachable"
  | "deadline_exceeded"
  | "canceled"
  | "permission_denied"
  | "unauthenticated"
  | "unimplemented"
  | "internal";

/** What a code brings with it. */
export interface CambiumErrorDetails {
  /** The endpoint that was asked, as a URL. */
  readonly endpoint?: string;
  /** Whether the call was a write that may have been done, or may yet be. */
  readonly outcomeUnknown?: boolean;
  /** With `not_master`: `host:port` of the master; absent when the node knows none. */
  readonly masterAddress?: string;
  /** With `limit_exceeded`: the configuration key of the limit, its value, and what was asked for. */
  readonly limit?: { readonly name: string; readonly maximum: number; readonly actual: number };
  /** With `outcome_unknown`, where the node said so: the place that the write has in that node's log. */
  readonly position?: Position;
  /** With `out_of_range`: the log can be read from `compactSeq` + 1 to `appliedSeq`. */
  readonly range?: { readonly compactSeq: number; readonly appliedSeq: number };
  /** With `out_of_range` of the record log: it has the offsets from `start` up to, but without, `end`. */
  readonly offsets?: { readonly start: number; readonly end: number };
  /** With `lineage_lost`, where the node could tell: the last position of the lost history that is still there. */
  readonly fork?: Position;
  /** With `not_fresh_enough`, and with `deadline_exceeded` of such a read: what the node has applied, and how old that may be. */
  readonly freshness?: { readonly applied: Position; readonly stalenessMs?: number };
  /**
   * With `condition_failed`: whether the key exists, and the seq of the record that last changed it (0 when it is absent). Of a
   * write with several operations: which one, from 0 on.
   */
  readonly condition?: {
    readonly key: string;
    readonly exists: boolean;
    readonly modSeq: number;
    readonly operation: number;
  };
  /** With `not_an_integer` and `out_of_bounds`: the key and the operation, and of the latter what it holds and its bounds. */
  readonly counter?: {
    readonly key: string;
    readonly operation: number;
    readonly value?: bigint;
    readonly min?: bigint;
    readonly max?: bigint;
  };
  /** With `retry_too_old`: the lowest `clientSeq` that can be sent. */
  readonly oldestClientSeq?: number;
  /** With `watch_ended`: everything up to here was sent. */
  readonly resume?: { readonly token: Uint8Array; readonly seq: number };
  readonly cause?: unknown;
}

/** An operating error of a call. `cause` is the ConnectError, or what the transport threw. */
export class CambiumError extends Error {
  override readonly name = "CambiumError";
  readonly code: CambiumErrorCode;
  readonly endpoint: string | undefined;
  /** Whether the call was a write that may have been done, or may yet be. When false, nothing was changed. */
  readonly outcomeUnknown: boolean;
  readonly masterAddress: string | undefined;
  readonly limit: CambiumErrorDetails["limit"];
  readonly position: Position | undefined;
  readonly range: CambiumErrorDetails["range"];
  readonly offsets: CambiumErrorDetails["offsets"];
  readonly fork: Position | undefined;
  readonly freshness: CambiumErrorDetails["freshness"];
  readonly condition: CambiumErrorDetails["condition"];
  readonly counter: CambiumErrorDetails["counter"];
  readonly oldestClientSeq: number | undefined;
  readonly resume: CambiumErrorDetails["resume"];

  constructor(code: CambiumErrorCode, message: string, details: CambiumErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.endpoint = details.endpoint;
    this.outcomeUnknown = details.outcomeUnknown ?? false;
    this.masterAddress = details.masterAddress;
    this.limit = details.limit;
    this.position = details.position;
    this.range = details.range;
    this.offsets = details.offsets;
    this.fork = details.fork;
    this.freshness = details.freshness;
    this.condition = details.condition;
    this.counter = details.counter;
    this.oldestClientSeq = details.oldestClientSeq;
    this.resume = details.resume;
  }
}

/** What the node said with an error, for one that tells more of it. */
export function detailsOf(error: CambiumError): CambiumErrorDetails {
  const { masterAddress, limit, position, range, offsets, fork, freshness, condition, counter, resume } = error;
  const { oldestClientSeq } = error;
  const said = { masterAddress, limit, position, range, offsets, fork, freshness, condition, counter, resume };
  return Object.fromEntries(Object.entries({ ...said, oldestClientSeq }).filter(([, detail]) => detail !== undefined));
}
