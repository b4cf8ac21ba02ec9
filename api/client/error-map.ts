/** The one place where what a transport threw becomes a `CambiumError`. */
import { Code, ConnectError } from "@connectrpc/connect";
import { WatchEndedSchema } from "../gen/cambium/v1/kvstore_pb.js";
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
} from "../gen/cambium/v1/types_pb.js";
import { CambiumError, type CambiumErrorCode, type CambiumErrorDetails } from "./cambium-error.js";
import type { Position } from "./wire.js";

/** What the translation needs to know of the call. */
export interface FailedCall {
  readonly endpoint: string;
  readonly write: boolean;
  readonly signal?: AbortSignal | undefined;
  /** What the node was given. */
  readonly timeoutMs?: number;
}

/** Translates whatever a transport threw. */
export function toCambiumError(reason: unknown, call: FailedCall): CambiumError {
  if (reason instanceof CambiumError) return reason;
  const { endpoint, write } = call;
  if (call.signal?.aborted) {
    const cause: unknown = call.signal.reason;
    return new CambiumError("canceled", "the call was canceled", { endpoint, outcomeUnknown: write, cause });
  }
  const error = ConnectError.from(reason);
  const network = networkFailure(error);
  if (network) return fromNetworkFailure(network, error, call);

  const message = wordsOf(error, call);
  const outcome = error.findDetails(OutcomeUnknownSchema)[0];
  if (outcome) {
    const position = outcome.position && placeOf(outcome.position);
    return new CambiumError("outcome_unknown", message, {
      endpoint,
      outcomeUnknown: true,
      ...(position && { position }),
      cause: error,
    });
  }
  const exceeded = error.findDetails(LimitExceededSchema)[0];
  if (exceeded) {
    const limit = {
      name: exceeded.limit,
      maximum: Number(exceeded.maximum),
      actual: Number(exceeded.actual),
    };
    return new CambiumError("limit_exceeded", message, { endpoint, limit, cause: error });
  }
  const notMaster = error.findDetails(NotMasterSchema)[0];
  if (notMaster) {
    const { masterAddress } = notMaster;
    return new CambiumError("not_master", message, { endpoint, ...(masterAddress && { masterAddress }), cause: error });
  }
  const refusal = refusalOf(error);
  if (refusal) return new CambiumError(refusal.code, message, { ...refusal.details, endpoint, cause: error });
  const logRange = error.findDetails(LogRangeSchema)[0];
  const range = logRange && {
    compactSeq: Number(logRange.compactSeq),
    appliedSeq: Number(logRange.appliedSeq),
  };
  const offsetRange = error.findDetails(OffsetRangeSchema)[0];
  const offsets = offsetRange && { start: Number(offsetRange.start), end: Number(offsetRange.end) };
  const lost = error.findDetails(LineageLostSchema)[0];
  const fork = lost?.fork && placeOf(lost.fork);
  const stale = error.findDetails(NotFreshEnoughSchema)[0];
  const freshness = stale && {
    applied: placeOf(stale.applied ?? { epoch: 0n, seq: 0n }),
    ...(stale.stalenessMs !== undefined && { stalenessMs: Number(stale.stalenessMs) }),
  };
  const code = stale && error.code === Code.Unavailable ? "not_fresh_enough" : CODES[error.code];
  return new CambiumError(code, message, {
    endpoint,
    ...(fork && { fork }),
    ...(freshness && { freshness }),
    outcomeUnknown: write && mayHaveRun(error),
    ...(range && { range }),
    ...(offsets && { offsets }),
    cause: error,
  });
}

/** The refusals that conditions, counters, retries and watches have. */
function refusalOf(
  error: ConnectError,
): { readonly code: CambiumErrorCode; readonly details: CambiumErrorDetails } | undefined {
  const failed = error.findDetails(ConditionFailedSchema)[0];
  if (failed) {
    const { key, exists, modSeq, operation } = failed;
    return { code: "condition_failed", details: { condition: { key, exists, modSeq: Number(modSeq), operation } } };
  }
  const odd = error.findDetails(NotAnIntegerSchema)[0];
  if (odd) return { code: "not_an_integer", details: { counter: { key: odd.key, operation: odd.operation } } };
  const outside = error.findDetails(OutOfBoundsSchema)[0];
  if (outside) {
    const { key, operation, value, min, max } = outside;
    return { code: "out_of_bounds", details: { counter: { key, operation, value, min, max } } };
  }
  const old = error.findDetails(RetryTooOldSchema)[0];
  if (old) {
    const oldestClientSeq = Number(old.oldestClientSeq);
    return { code: "retry_too_old", details: { oldestClientSeq, outcomeUnknown: true } };
  }
  const ended = error.findDetails(WatchEndedSchema)[0];
  if (ended) {
    return { code: "watch_ended", details: { resume: { token: ended.token, seq: Number(ended.seq) } } };
  }
  return undefined;
}

function wordsOf({ rawMessage }: ConnectError, { endpoint, write, timeoutMs }: FailedCall): string {
  const node = endpoint.replace(/^https?:\/\//, "");
  // The library's own words for its timer, which name nobody.
  if (rawMessage === "the operation timed out") {
    const within = timeoutMs === undefined ? "the call's time" : `${Math.ceil(timeoutMs)} ms`;
    return `${node} did not answer within ${within}${write ? "; the write may or may not have been done" : ""}`;
  }
  return rawMessage || `${node} gave no reason`;
}

/** A place in an error only informs: one that no number holds exactly is rounded, rather than to hide the error. */
function placeOf({ epoch, seq }: { readonly epoch: bigint; readonly seq: bigint }): Position {
  return { epoch: Number(epoch), seq: Number(seq) };
}

const CODES: Readonly<Record<Code, CambiumErrorCode>> = {
  [Code.Canceled]: "canceled",
  [Code.Unknown]: "internal",
  [Code.InvalidArgument]: "invalid_argument",
  [Code.DeadlineExceeded]: "deadline_exceeded",
  [Code.NotFound]: "not_found",
  [Code.AlreadyExists]: "failed_precondition",
  [Code.PermissionDenied]: "permission_denied",
  [Code.ResourceExhausted]: "resource_exhausted",
  [Code.FailedPrecondition]: "failed_precondition",
  [Code.Aborted]: "lineage_lost",
  [Code.OutOfRange]: "out_of_range",
  [Code.Unimplemented]: "unimplemented",
  [Code.Internal]: "internal",
  [Code.Unavailable]: "unavailable",
  [Code.DataLoss]: "internal",
  [Code.Unauthenticated]: "unauthenticated",
};

/** Whether a write that failed so may have been done. A node that refuses says so by one of the other codes. */
function mayHaveRun(error: ConnectError): boolean {
  switch (error.code) {
    case Code.Unknown:
    case Code.Internal:
    case Code.DataLoss:
    case Code.DeadlineExceeded:
    case Code.Canceled:
      return true;
    case Code.Unavailable:
      // A bare HTTP status comes from a proxy, which may have passed the write on; a node's own words are a refusal.
      return error.rawMessage.startsWith("HTTP ");
    default:
      return false;
  }
}

interface NetworkFailure {
  readonly reason: string;
  /** It is certain that no byte of the request was taken by a node. */
  readonly neverSent: boolean;
}

function fromNetworkFailure(failure: NetworkFailure, cause: ConnectError, call: FailedCall): CambiumError {
  const { endpoint } = call;
  const node = endpoint.replace(/^http:\/\//, "");
  if (call.write && !failure.neverSent) {
    const message = `the connection to ${node} broke before it answered (${failure.reason}); the write may or may not have been done`;
    return new CambiumError("outcome_unknown", message, { endpoint, outcomeUnknown: true, cause });
  }
  return new CambiumError("unreachable", `${node} cannot be reached: ${failure.reason}`, { endpoint, cause });
}

const NEVER_SENT = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
  "ERR_HTTP2_GOAWAY_SESSION",
  "ERR_HTTP2_INVALID_SESSION",
]);
/** These come from established connections too, so only the failed system call tells. */
const MAYBE_CONNECTED = new Set(["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ECONNRESET"]);

/**
 * Tells a failure of the network from an answer: answers have no cause; Node's system errors have a code in the chain of
 * causes, and fetch throws a TypeError. The Connect code does not tell, since a reset connection is ABORTED there.
 */
function networkFailure(error: ConnectError): NetworkFailure | undefined {
  const chain = causes(error);
  for (const cause of chain) {
    const code = stringField(cause, "code");
    if (code === undefined) continue;
    const connecting = stringField(cause, "syscall") === "connect" && MAYBE_CONNECTED.has(code);
    return { reason: cause.message || code, neverSent: NEVER_SENT.has(code) || connecting };
  }
  const fetchFailure = chain.find((cause) => cause instanceof TypeError);
  if (fetchFailure) return { reason: fetchFailure.message, neverSent: false };
  // connect-node makes these itself when the peer resets the HTTP/2 stream; they have no cause.
  if (error.rawMessage.startsWith("http/2 stream closed with error code")) {
    return { reason: error.rawMessage, neverSent: error.rawMessage.includes("REFUSED_STREAM") };
  }
  return undefined;
}

function causes(error: ConnectError): Error[] {
  const chain: Error[] = [];
  for (let cause = error.cause; cause instanceof Error && !chain.includes(cause); cause = cause.cause) {
    chain.push(cause);
  }
  return chain;
}

function stringField(error: Error, field: string): string | undefined {
  const value: unknown = Reflect.get(error, field);
  return typeof value === "string" ? value : undefined;
}
