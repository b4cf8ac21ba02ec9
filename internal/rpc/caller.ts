/** What a handler knows of the caller's time and patience. */
import type { HandlerContext } from "@connectrpc/connect";
import { NodeClosingError } from "./request-error.js";
import type { CallSpan } from "./tracing.js";

/** What of a call the work for it may ask. */
export interface CallContext extends Pick<HandlerContext, "signal" | "timeoutMs"> {
  /** Of a call that came through the protocol library. */
  readonly values?: HandlerContext["values"];
  /** Of one that did not. */
  readonly span?: CallSpan | undefined;
}

/** What is kept of a deadline for the answer to get back, at most. */
const MARGIN_MS_MAX = 100;

/**
 * How long work for a call may take: `limitMs`, or a little less than what the caller still waits where that is shorter, so
 * that it hears what became of the work. Throws the reason of the call's signal when the caller waits no longer.
 */
export function timeFor(context: CallContext, limitMs: number): number {
  context.signal.throwIfAborted();
  const leftMs = context.timeoutMs();
  if (leftMs === undefined) return limitMs;
  // Whole, for the deadline of gRPC knows no fractions.
  return Math.max(1, Math.floor(Math.min(limitMs, leftMs - Math.min(MARGIN_MS_MAX, leftMs / 10))));
}

/**
 * Calls `work` with a signal that is aborted when the caller leaves or its time is over. Not when this node begins to shut
 * down, as the call's own is: what has begun to change something goes on then, or its caller would not know what became of it.
 */
export async function whileWanted<T>(
  { signal }: Pick<CallContext, "signal">,
  work: (wanted: AbortSignal) => Promise<T>,
): Promise<T> {
  const wanted = new AbortController();
  const abort = (): void => {
    if (!(signal.reason instanceof NodeClosingError)) wanted.abort(signal.reason);
  };
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    return await work(wanted.signal);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
