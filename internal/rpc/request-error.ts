import type { Position } from "../base/position.js";
import type { OffsetRange } from "../store/store.js";

export type RequestErrorCode =
  /** A field is malformed, or out of its range. */
  | "invalid"
  /** A limit of this node was passed; `passed` tells which. */
  | "limit"
  /** The record log ends before the offset that was asked for; `range` tells what there is. */
  | "offset_ahead"
  /** The answer would be larger than a message; `passed` tells the limit. */
  | "answer_too_large"
  /** What was asked for by name does not exist. */
  | "not_found"
  /** What was to be made is there already. */
  | "exists"
  /** The caller does not read what it is sent. */
  | "unread"
  /** A stream that this node ended for the reason in the message. */
  | "ended"
  /** A write was to be passed on to the master, which cannot be reached. */
  | "unreached"
  /** A node that speaks another protocol between nodes. */
  | "protocol";

/** A limit of the configuration, and what the request asked for. */
export interface PassedLimit {
  /** The configuration key. */
  readonly limit: string;
  readonly maximum: number;
  readonly actual: number;
}

/** What this node refuses a caller by itself, without asking the rooms below. Nothing was changed. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly code: RequestErrorCode;
  readonly passed?: PassedLimit;
  readonly range?: OffsetRange;

  constructor(
    code: RequestErrorCode,
    message: string,
    details: { readonly passed?: PassedLimit; readonly range?: OffsetRange } = {},
  ) {
    super(message);
    this.code = code;
    if (details.passed) this.passed = details.passed;
    if (details.range) this.range = details.range;
  }
}

/** A read that this node cannot serve as fresh as it was asked for. */
export class NotFreshError extends Error {
  override readonly name = "NotFreshError";
  readonly applied: Position;
  readonly stalenessMs?: number;
  /** Whether it was the call's own deadline that ended the waiting. */
  readonly isLate: boolean;

  constructor(
    message: string,
    details: { readonly applied: Position; readonly stalenessMs: number | undefined; readonly isLate: boolean },
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.applied = details.applied;
    if (details.stalenessMs !== undefined) this.stalenessMs = details.stalenessMs;
    this.isLate = details.isLate;
  }
}

/** Why calls that wait are ended when the node shuts down. */
export class NodeClosingError extends Error {
  override readonly name = "NodeClosingError";

  constructor() {
    super("this node is shutting down; ask another one");
  }
}
