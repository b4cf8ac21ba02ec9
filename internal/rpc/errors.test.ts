import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { WatchEndedSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import {
  ConditionFailedSchema,
  LimitExceededSchema,
  LineageLostSchema,
  LogRangeSchema,
  NotAnIntegerSchema,
  NotMasterSchema,
  OffsetRangeSchema,
  OutcomeUnknownSchema,
  OutOfBoundsSchema,
  RetryTooOldSchema,
} from "../../api/gen/cambium/v1/types_pb.js";
import { AssertionError } from "../base/assert.js";
import { silentLogger } from "../base/logger.js";
import { epoch, seq, WireRangeError } from "../base/position.js";
import { IdentityError } from "../identity/identity-error.js";
import { ReplicationError, type ReplicationErrorCode } from "../replication/replicator.js";
import { StoreError, type StoreErrorCode, WalError, type WalErrorCode } from "../store/store.js";
import { WatchError } from "../watch/watch-types.js";
import { ErrorMap } from "./errors.js";
import { NodeClosingError, RequestError, type RequestErrorCode } from "./request-error.js";

function newMap(masterAddress: string | undefined = "node-1:8080") {
  const bugs: Error[] = [];
  const lines: string[] = [];
  const logger = { ...silentLogger, error: (message: string) => lines.push(message) };
  const map = new ErrorMap({ logger, masterAddress: () => masterAddress, onBug: (error) => bugs.push(error) });
  return {
    bugs,
    lines,
    of: (error: unknown, signal?: AbortSignal) => map.toConnectError(error, "Service/Method", signal),
  };
}

const storeCodes: Record<StoreErrorCode, Code> = {
  not_master: Code.FailedPrecondition,
  not_ready: Code.Unavailable,
  disk_full: Code.ResourceExhausted,
  not_ordered: Code.FailedPrecondition,
  storage_full: Code.ResourceExhausted,
  overloaded: Code.ResourceExhausted,
  outcome_unknown: Code.Unavailable,
  out_of_range: Code.OutOfRange,
  offset_out_of_range: Code.OutOfRange,
  lineage_lost: Code.Aborted,
  invalid_token: Code.InvalidArgument,
  condition_failed: Code.FailedPrecondition,
  not_an_integer: Code.FailedPrecondition,
  out_of_bounds: Code.FailedPrecondition,
  too_large: Code.ResourceExhausted,
  retry_too_old: Code.FailedPrecondition,
  retry_differs: Code.InvalidArgument,
  retries_full: Code.ResourceExhausted,
  closing: Code.Unavailable,
  failed: Code.Unavailable,
};

const replicationCodes: Record<ReplicationErrorCode, Code> = {
  not_master: Code.FailedPrecondition,
  foreign_cluster: Code.FailedPrecondition,
  unreachable: Code.Unavailable,
  refused: Code.FailedPrecondition,
  removed: Code.FailedPrecondition,
  not_found: Code.NotFound,
  is_voter: Code.FailedPrecondition,
  invalid_address: Code.InvalidArgument,
  no_majority: Code.FailedPrecondition,
  behind: Code.FailedPrecondition,
  not_caught_up: Code.FailedPrecondition,
  no_target: Code.FailedPrecondition,
  handover_failed: Code.Unavailable,
  timeout: Code.Unavailable,
  too_stale: Code.Unavailable,
  closing: Code.Unavailable,
};

const logCodes: Record<WalErrorCode, Code> = {
  corrupt: Code.Unavailable,
  newer_format: Code.Unavailable,
  foreign_cluster: Code.Unavailable,
  out_of_range: Code.Unavailable,
  mismatch: Code.Unavailable,
  disk_full: Code.ResourceExhausted,
  failed: Code.Unavailable,
  closed: Code.Unavailable,
  locked: Code.Unavailable,
  io: Code.Unavailable,
};

const requestCodes: Record<RequestErrorCode, Code> = {
  invalid: Code.InvalidArgument,
  limit: Code.InvalidArgument,
  offset_ahead: Code.OutOfRange,
  answer_too_large: Code.ResourceExhausted,
  not_found: Code.NotFound,
  exists: Code.AlreadyExists,
  unread: Code.ResourceExhausted,
  ended: Code.Aborted,
  unreached: Code.Unavailable,
  protocol: Code.FailedPrecondition,
};

describe("the error map", () => {
  test("gives a refused write its detail", () => {
    const { of } = newMap();
    const key = new TextEncoder().encode("kä");
    const failed = { key, exists: true, modSeq: seq(7), operation: 2 };
    expect(
      of(new StoreError("condition_failed", "why", { failedCondition: failed })).findDetails(ConditionFailedSchema),
    ).toMatchObject([{ key: "kä", exists: true, modSeq: 7n, operation: 2 }]);
    expect(
      of(new StoreError("not_an_integer", "why", { counter: { key, operation: 1 } })).findDetails(NotAnIntegerSchema),
    ).toMatchObject([{ key: "kä", operation: 1 }]);
    const counter = { key, operation: 0, value: -(2n ** 63n), min: -1n, max: 2n ** 63n - 1n };
    expect(of(new StoreError("out_of_bounds", "why", { counter })).findDetails(OutOfBoundsSchema)).toMatchObject([
      { key: "kä", value: counter.value, min: counter.min, max: counter.max },
    ]);
    expect(
      of(new StoreError("retry_too_old", "why", { oldestClientSeq: 9 })).findDetails(RetryTooOldSchema),
    ).toMatchObject([{ oldestClientSeq: 9n }]);
    for (const [code, limit] of [
      ["retries_full", "retries.max_bytes"],
      ["too_large", "limits.max_message_bytes"],
    ] as const) {
      const passed = { limit, maximum: 5, actual: 6 };
      expect(of(new StoreError(code, "why", { passed })).findDetails(LimitExceededSchema)).toMatchObject([
        { limit, maximum: 5n, actual: 6n },
      ]);
    }
  });

  test("tells of a watch that has ended where to go on", () => {
    const { of } = newMap();
    const resume = { seq: seq(9), token: new Uint8Array([1, 2]) };
    for (const [code, expected] of [
      ["too_slow", Code.ResourceExhausted],
      ["ended", Code.Unavailable],
    ] as const) {
      const error = of(new WatchError(code, "why", { resume }));
      expect(error).toMatchObject({ code: expected, rawMessage: "why" });
      expect(error.findDetails(WatchEndedSchema)).toMatchObject([{ seq: 9n, token: resume.token }]);
      expect(of(new WatchError(code, "why")).findDetails(WatchEndedSchema)).toEqual([]);
    }
    const range = { compactSeq: seq(3), appliedSeq: seq(8) };
    const gone = of(new WatchError("out_of_range", "why", { range }));
    expect(gone.code).toBe(Code.OutOfRange);
    expect(gone.findDetails(LogRangeSchema)).toMatchObject([{ compactSeq: 3n, appliedSeq: 8n }]);
    const lost = of(new WatchError("lineage_lost", "why", { fork: { epoch: epoch(1), seq: seq(4) } }));
    expect(lost.code).toBe(Code.Aborted);
    expect(lost.findDetails(LineageLostSchema)).toMatchObject([{ fork: { epoch: 1n, seq: 4n } }]);
    const full = of(new WatchError("too_many", "why", { watchesMax: 5 }));
    expect(full.code).toBe(Code.ResourceExhausted);
    expect(full.findDetails(LimitExceededSchema)).toMatchObject([{ limit: "limits.max_watches", maximum: 5n }]);
  });

  test("has a code for every error of the rooms, and keeps their sentences", () => {
    const { of } = newMap();
    for (const [code, expected] of Object.entries(storeCodes)) {
      expect(of(new StoreError(code as StoreErrorCode, "what to do"))).toMatchObject({
        code: expected,
        rawMessage: expect.stringContaining("what to do"),
      });
    }
    for (const [code, expected] of Object.entries(replicationCodes)) {
      expect(of(new ReplicationError(code as ReplicationErrorCode, "what to do"))).toMatchObject({
        code: expected,
        rawMessage: expect.stringContaining("what to do"),
      });
    }
    for (const [code, expected] of Object.entries(requestCodes)) {
      expect(of(new RequestError(code as RequestErrorCode, "what to do"))).toMatchObject({
        code: expected,
        rawMessage: "what to do",
      });
    }
    for (const [code, expected] of Object.entries(logCodes)) {
      expect(of(new WalError(code as WalErrorCode, "of the disk")).code).toBe(expected);
    }
    for (const code of ["no_credential", "bad_credential"] as const) {
      expect(of(new IdentityError(code, "why"))).toMatchObject({ code: Code.Unauthenticated, rawMessage: "why" });
    }
    for (const code of ["protected_mode", "unproven_peer", "not_allowed", "outside_prefixes"] as const) {
      expect(of(new IdentityError(code, "why"))).toMatchObject({ code: Code.PermissionDenied, rawMessage: "why" });
    }
    expect(of(new WireRangeError("after must be …")).code).toBe(Code.InvalidArgument);
    expect(of(new NodeClosingError()).code).toBe(Code.Unavailable);
  });

  test("tells where the master is, in words and as a detail, or that it is not known", () => {
    for (const error of [new StoreError("not_master", "a replica"), new ReplicationError("not_master", "a replica")]) {
      const known = newMap().of(error);
      expect(known.rawMessage).toBe("a replica; the master is at node-1:8080");
      expect(known.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: "node-1:8080" }]);
    }
    const map = new ErrorMap({ logger: silentLogger, masterAddress: () => undefined, onBug: () => undefined });
    const unknown = map.toConnectError(new StoreError("not_master", "a replica"), "m");
    expect(unknown.rawMessage).toBe("a replica; this node does not know at present where the master is");
    expect(unknown.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: "" }]);
  });

  test("carries the position of a write whose outcome is unknown, and the range of the log", () => {
    const { of } = newMap();
    const position = { epoch: epoch(2), seq: seq(9) };
    expect(of(new StoreError("outcome_unknown", "m", { position })).findDetails(OutcomeUnknownSchema)).toMatchObject([
      { position: { epoch: 2n, seq: 9n } },
    ]);
    const range = { compactSeq: seq(3), appliedSeq: seq(8) };
    expect(of(new StoreError("out_of_range", "m", { range })).findDetails(LogRangeSchema)).toMatchObject([
      { compactSeq: 3n, appliedSeq: 8n },
    ]);
    const offsets = { start: 3, end: 8 };
    for (const error of [
      new StoreError("offset_out_of_range", "m", { offsets }),
      new RequestError("offset_ahead", "m", { range: offsets }),
    ]) {
      expect(of(error).findDetails(OffsetRangeSchema)).toMatchObject([{ start: 3n, end: 8n }]);
    }
  });

  test("tells the caller nothing of a bug, and the operator everything", () => {
    const { of, bugs, lines } = newMap();
    const bug = new AssertionError("seq 7 follows seq 5");
    expect(of(bug)).toMatchObject({ code: Code.Internal, rawMessage: expect.not.stringContaining("seq") });
    expect(bugs).toEqual([bug]);
    expect(of(new TypeError("x is not a function")).code).toBe(Code.Internal);
    expect(of("a string").code).toBe(Code.Internal);
    expect(bugs).toHaveLength(1);
    expect(lines).toHaveLength(3);
  });

  test("takes an aborted call for what it is, and another error during the abort for itself", () => {
    const { of } = newMap();
    const controller = new AbortController();
    const gone = new Error("gone");
    controller.abort(gone);
    expect(of(gone, controller.signal).code).toBe(Code.Canceled);
    expect(of(new DOMException("aborted", "AbortError")).code).toBe(Code.Canceled);
    expect(of(new StoreError("disk_full", "m"), controller.signal).code).toBe(Code.ResourceExhausted);
    const late = new ConnectError("the operation timed out", Code.DeadlineExceeded);
    expect(of(late, controller.signal)).toBe(late);
  });
});
