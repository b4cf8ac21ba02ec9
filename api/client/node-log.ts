/** What a node tells its operator, in plain types. */
import type { SlowLogResponse } from "../gen/cambium/v1/cluster_pb.js";
import { CambiumError } from "./cambium-error.js";
import { fromWire } from "./wire.js";

export type LogLevel = "debug" | "info" | "warn" | "error";

const LOG_LEVELS: readonly string[] = ["debug", "info", "warn", "error"] satisfies readonly LogLevel[];

/** A call that took long. Of what it carried there are sizes, and how its first key begins. */
export interface SlowCall {
  /** Such as `cambium.v1.KVStore/Set`. */
  readonly method: string;
  /** Milliseconds since 1970, by the node's clock. */
  readonly startedMs: number;
  readonly durationMs: number;
  /** `ok`, or the code of its error. */
  readonly code: string;
  readonly requestId: string;
  /** Empty when the connection was gone. */
  readonly callerAddress: string;
  /** The name of who called, as the node knows it; empty when the caller was refused. */
  readonly identity: string;
  /** Keys and ranges that the request names. */
  readonly keys: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** 64 characters at most; empty when there is no key. */
  readonly firstKey: string;
}

/** The calls of a node that were slow of late. */
export interface SlowLog {
  /** URL of the node. */
  readonly endpoint: string;
  /** The newest first, 128 at most. */
  readonly calls: readonly SlowCall[];
  /** What a call must take to be among them; 0: none is. */
  readonly thresholdMs: number;
  /** How many there were since the node started. */
  readonly total: number;
}

export function toSlowLog(endpoint: string, { calls, thresholdMs, total }: SlowLogResponse): SlowLog {
  return {
    endpoint,
    calls: calls.map((call) => ({
      method: call.method,
      startedMs: fromWire(call.startedMs, "started_ms"),
      durationMs: fromWire(call.durationMs, "duration_ms"),
      code: call.code,
      requestId: call.requestId,
      callerAddress: call.callerAddress,
      identity: call.identity,
      keys: fromWire(call.keys, "keys"),
      keyBytes: fromWire(call.keyBytes, "key_bytes"),
      valueBytes: fromWire(call.valueBytes, "value_bytes"),
      firstKey: call.firstKey,
    })),
    thresholdMs: fromWire(thresholdMs, "threshold_ms"),
    total: fromWire(total, "total"),
  };
}

export function toLogLevel(level: string, endpoint: string): LogLevel {
  if (LOG_LEVELS.includes(level)) return level as LogLevel;
  throw new CambiumError("internal", `the node names a level that this client does not know: ${level}`, { endpoint });
}
