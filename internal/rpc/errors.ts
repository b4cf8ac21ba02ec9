/**
 * The one place where errors become Connect codes. Every error of the rooms below has its code here, and its typed detail
 * where a program can act on it; the message is the room's own, which says what to do. What has no place here is a bug:
 * the caller gets a generic text, and the operator the whole story.
 */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { WatchEndedSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import {
  ConditionFailedSchema,
  LimitExceededSchema,
  LineageLostSchema,
  LogRangeSchema,
  NotAnIntegerSchema,
  NotFreshEnoughSchema,
  NotMasterSchema,
  OffsetRangeSchema,
  OutcomeUnknownSchema,
  OutOfBoundsSchema,
  RetryTooOldSchema,
} from "../../api/gen/cambium/v1/types_pb.js";
import { AssertionError, unreachable } from "../base/assert.js";
import type { Logger } from "../base/logger.js";
import { type Position, toWire64, WireRangeError } from "../base/position.js";
import { IdentityError } from "../identity/identity-error.js";
import { ReplicationError, type ReplicationErrorCode } from "../replication/replication-error.js";
import { type LogRange, type OffsetRange, StoreError, WalError, type WalErrorCode } from "../store/store.js";
import { WatchError } from "../watch/watch-types.js";
import { bytesToWire, keyToWire, positionToWire } from "./convert.js";
import { overloaded } from "./overload.js";
import { NodeClosingError, NotFreshError, type PassedLimit, RequestError } from "./request-error.js";

type Detail = NonNullable<ConstructorParameters<typeof ConnectError>[3]>[number];

export interface ErrorMapOptions {
  readonly logger: Logger;
  /** `host:port` of the master, as this node knows it. */
  readonly masterAddress: () => string | undefined;
  /** Called with what can only be a bug. The process is to end. */
  readonly onBug: (error: Error) => void;
  /** Told of each error that has a reason of its own, such as `storage_full`. */
  readonly count?: (reason: string) => void;
}

export class ErrorMap {
  readonly #options: ErrorMapOptions;

  constructor(options: ErrorMapOptions) {
    this.#options = options;
  }

  /** What the caller of `method` is told. `signal` and `requestId` are the call's own. */
  toConnectError(error: unknown, method: string, signal?: AbortSignal, requestId?: string): ConnectError {
    if (error instanceof Error && "code" in error && typeof error.code === "string") this.#options.count?.(error.code);
    // Only the library throws these here, about this very call; what another node answered is built anew before it gets here.
    if (error instanceof ConnectError) return error;
    if (error instanceof RequestError) return ofRequest(error);
    if (error instanceof NotFreshError) return ofNotFresh(error);
    if (error instanceof StoreError) return this.#ofStore(error);
    if (error instanceof WatchError) return ofWatch(error);
    if (error instanceof ReplicationError) return this.#ofReplication(error);
    if (error instanceof IdentityError) return ofIdentity(error);
    if (error instanceof WireRangeError) return refuse(Code.InvalidArgument, error.message);
    if (error instanceof NodeClosingError) return refuse(Code.Unavailable, error.message);
    if (error instanceof WalError) return this.#ofLog(error, method, requestId);
    if (isAbort(error, signal)) return refuse(Code.Canceled, "the caller ended the call");
    return this.#ofBug(error, method, requestId);
  }

  #ofStore(error: StoreError): ConnectError {
    const { code, message } = error;
    switch (code) {
      case "not_master":
        return this.#notMaster(message);
      case "not_ready":
      case "closing":
      case "failed":
        return refuse(Code.Unavailable, message);
      case "overloaded":
        return overloaded(message);
      case "disk_full":
        return refuse(Code.ResourceExhausted, message);
      case "not_ordered":
        return refuse(Code.FailedPrecondition, message);
      case "storage_full":
      case "too_large":
      case "retries_full":
        return refuse(Code.ResourceExhausted, message, error.passed && [limitDetail(error.passed)]);
      case "outcome_unknown":
        return refuse(Code.Unavailable, message, [
          { desc: OutcomeUnknownSchema, value: error.position ? { position: positionToWire(error.position) } : {} },
        ]);
      case "out_of_range":
        return refuse(Code.OutOfRange, message, error.range && [logRangeDetail(error.range)]);
      case "offset_out_of_range":
        return refuse(Code.OutOfRange, message, error.offsets && [offsetRangeDetail(error.offsets)]);
      case "lineage_lost":
        return refuse(Code.Aborted, message, [lineageDetail(error.fork)]);
      case "invalid_token":
      case "retry_differs":
        return refuse(Code.InvalidArgument, message);
      case "condition_failed":
      case "not_an_integer":
      case "out_of_bounds":
      case "retry_too_old":
        return refuse(Code.FailedPrecondition, message, refusedWriteDetails(error));
      default:
        return unreachable(code);
    }
  }

  #ofReplication(error: ReplicationError): ConnectError {
    const { code, message, masterAddress } = error;
    return code === "not_master" ? this.#notMaster(message, masterAddress) : refuse(codeOf(code), message);
  }

  /** The rooms below turn what they expect of the log into errors of their own; what is left concerns the operator. */
  #ofLog(error: WalError, method: string, requestId: string | undefined): ConnectError {
    this.#options.logger.error("a call failed on the log", {
      method,
      request_id: requestId,
      code: error.code,
      error: error.message,
    });
    return refuse(logCodeOf(error.code), "the log of this node could not be read; ask another node");
  }

  /** The rooms say why this node is not the master; where the master is, is added here, once for all of them. */
  #notMaster(message: string, address = this.#options.masterAddress()): ConnectError {
    const masterAddress = address ?? "";
    const where =
      masterAddress === ""
        ? "this node does not know at present where the master is"
        : `the master is at ${masterAddress}`;
    return refuse(Code.FailedPrecondition, `${message}; ${where}`, [
      { desc: NotMasterSchema, value: { masterAddress } },
    ]);
  }

  #ofBug(error: unknown, method: string, requestId: string | undefined): ConnectError {
    const story = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#options.logger.error("a call failed for a reason that is a bug", {
      method,
      request_id: requestId,
      error: story,
    });
    if (error instanceof AssertionError) this.#options.onBug(error);
    return refuse(Code.Internal, "this node found a mistake in itself; its log tells the operator more");
  }
}

function ofRequest(error: RequestError): ConnectError {
  const { code, message, passed, range } = error;
  switch (code) {
    case "invalid":
      return refuse(Code.InvalidArgument, message);
    case "limit":
      return refuse(Code.InvalidArgument, message, passed && [limitDetail(passed)]);
    case "answer_too_large":
      return refuse(Code.ResourceExhausted, message, passed && [limitDetail(passed)]);
    case "offset_ahead":
      return refuse(Code.OutOfRange, message, range && [offsetRangeDetail(range)]);
    case "not_found":
      return refuse(Code.NotFound, message);
    case "exists":
      return refuse(Code.AlreadyExists, message);
    case "unread":
      return refuse(Code.ResourceExhausted, message);
    case "ended":
      return refuse(Code.Aborted, message);
    case "unreached":
      return refuse(Code.Unavailable, message);
    case "protocol":
      return refuse(Code.FailedPrecondition, message);
    default:
      return unreachable(code);
  }
}

/** Of a write that the store's content refuses. */
function refusedWriteDetails({ code, failedCondition, counter, oldestClientSeq }: StoreError): Detail[] {
  if (failedCondition) {
    const { key, exists, modSeq, operation } = failedCondition;
    const value = { key: keyToWire(key), exists, modSeq: toWire64(modSeq), operation };
    return [{ desc: ConditionFailedSchema, value }];
  }
  if (counter) {
    const { operation, value = 0n, min = 0n, max = 0n } = counter;
    const key = keyToWire(counter.key);
    return code === "not_an_integer"
      ? [{ desc: NotAnIntegerSchema, value: { key, operation } }]
      : [{ desc: OutOfBoundsSchema, value: { key, value, min, max, operation } }];
  }
  if (oldestClientSeq === undefined) return [];
  return [{ desc: RetryTooOldSchema, value: { oldestClientSeq: toWire64(oldestClientSeq) } }];
}

function ofWatch(error: WatchError): ConnectError {
  const { code, message, range, fork, resume, watchesMax } = error;
  const ended = resume && {
    desc: WatchEndedSchema,
    value: { token: bytesToWire(resume.token), seq: toWire64(resume.seq) },
  };
  switch (code) {
    case "out_of_range":
      return refuse(Code.OutOfRange, message, range && [logRangeDetail(range)]);
    case "lineage_lost":
      return refuse(Code.Aborted, message, [lineageDetail(fork)]);
    case "too_slow":
      return refuse(Code.ResourceExhausted, message, ended && [ended]);
    case "ended":
      return refuse(Code.Unavailable, message, ended && [ended]);
    case "too_many": {
      const maximum = watchesMax ?? 0;
      return refuse(Code.ResourceExhausted, message, [
        limitDetail({ limit: "limits.max_watches", maximum, actual: maximum + 1 }),
      ]);
    }
    default:
      return unreachable(code);
  }
}

function ofNotFresh({ message, applied, stalenessMs, isLate }: NotFreshError): ConnectError {
  const value = create(NotFreshEnoughSchema, {
    applied: positionToWire(applied),
    ...(stalenessMs !== undefined && { stalenessMs: toWire64(Math.ceil(stalenessMs)) }),
  });
  return refuse(isLate ? Code.DeadlineExceeded : Code.Unavailable, message, [{ desc: NotFreshEnoughSchema, value }]);
}

function lineageDetail(fork: Position | undefined): Detail {
  return { desc: LineageLostSchema, value: fork ? { fork: positionToWire(fork) } : {} };
}

function ofIdentity(error: IdentityError): ConnectError {
  switch (error.code) {
    case "no_credential":
    case "bad_credential":
      return refuse(Code.Unauthenticated, error.message);
    case "protected_mode":
    case "unproven_peer":
    case "not_allowed":
    case "outside_prefixes":
      return refuse(Code.PermissionDenied, error.message);
    default:
      return unreachable(error.code);
  }
}

function codeOf(code: Exclude<ReplicationErrorCode, "not_master">): Code {
  switch (code) {
    case "foreign_cluster":
    case "refused":
    case "removed":
    case "is_voter":
    case "no_majority":
    case "behind":
    case "not_caught_up":
    case "no_target":
      return Code.FailedPrecondition;
    case "unreachable":
    case "handover_failed":
    case "timeout":
    case "too_stale":
    case "closing":
      return Code.Unavailable;
    case "not_found":
      return Code.NotFound;
    case "invalid_address":
      return Code.InvalidArgument;
    default:
      return unreachable(code);
  }
}

function logCodeOf(code: WalErrorCode): Code {
  switch (code) {
    case "disk_full":
      return Code.ResourceExhausted;
    case "corrupt":
    case "newer_format":
    case "foreign_cluster":
    case "out_of_range":
    case "mismatch":
    case "failed":
    case "closed":
    case "locked":
    case "io":
      return Code.Unavailable;
    default:
      return unreachable(code);
  }
}

/** The detail of a passed limit. */
export function limitDetail({ limit, maximum, actual }: PassedLimit): Detail {
  const value = create(LimitExceededSchema, { limit, maximum: toWire64(maximum), actual: toWire64(actual) });
  return { desc: LimitExceededSchema, value };
}

function logRangeDetail({ compactSeq, appliedSeq }: LogRange): Detail {
  return { desc: LogRangeSchema, value: { compactSeq: toWire64(compactSeq), appliedSeq: toWire64(appliedSeq) } };
}

function offsetRangeDetail({ start, end }: OffsetRange): Detail {
  return { desc: OffsetRangeSchema, value: { start: toWire64(start), end: toWire64(end) } };
}

function isAbort(error: unknown, signal: AbortSignal | undefined): boolean {
  return (
    (signal?.aborted === true && error === signal.reason) || (error instanceof Error && error.name === "AbortError")
  );
}

function refuse(code: Code, message: string, details?: Detail[]): ConnectError {
  return new ConnectError(message, code, undefined, details);
}
