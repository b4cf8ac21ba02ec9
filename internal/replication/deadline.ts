/** A signal that ends with another one, or when a time is over by a clock of ours, so that tests decide about it. */
import type { Clock } from "../base/clock.js";

export interface Deadline {
  readonly signal: AbortSignal;
  /** Gives the timer back. */
  cancel(): void;
}

export function deadlineOf(
  clock: Clock,
  {
    ms,
    signal,
    error,
  }: { readonly ms: number; readonly signal?: AbortSignal | undefined; readonly error: () => Error },
): Deadline {
  const controller = new AbortController();
  const timer = clock.after(ms, () => controller.abort(error()));
  const abort = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", abort);
  if (signal?.aborted) abort();
  return {
    signal: controller.signal,
    cancel: () => {
      timer.cancel();
      signal?.removeEventListener("abort", abort);
    },
  };
}
