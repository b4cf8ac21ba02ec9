/** Patience with a cluster that is away for a while: a master that restarts, a full queue, a cut cable. */
import { CambiumError, type CambiumErrorCode } from "../../api/client/node.js";

const AWAY: ReadonlySet<CambiumErrorCode> = new Set(["unavailable", "unreachable", "deadline_exceeded"]);
const BUSY: ReadonlySet<CambiumErrorCode> = new Set(["not_master", "outcome_unknown", "resource_exhausted"]);

/** What keeps a read from being answered, and goes away by itself. */
export const isPassingRead = ({ code }: CambiumError): boolean => AWAY.has(code);

/** The same for a write that may be done twice. */
export const isPassingWrite = ({ code }: CambiumError): boolean => AWAY.has(code) || BUSY.has(code);

const FIRST_DELAY_MS = 100;
const DELAY_MAX_MS = 2_000;

export interface RetryOptions {
  /** Default: `isPassingWrite`. */
  readonly isPassing?: (error: CambiumError) => boolean;
  /** How long after the first failure it is tried again. */
  readonly retryForMs: number;
  readonly signal: AbortSignal;
  /** Told of each failure that is followed by another try. */
  readonly failed?: (error: CambiumError) => void;
  /** Waits between two tries. Default: on the machine's clock. */
  readonly pause?: (delayMs: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Makes a call that may be repeated without harm, until it succeeds or has failed for too long. Throws its last error, and
 * at once whatever does not pass by itself.
 */
export async function withRetries<T>(call: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { retryForMs, signal, failed, isPassing = isPassingWrite, pause = sleep } = options;
  let deadlineMs: number | undefined;
  for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(DELAY_MAX_MS, delayMs * 2)) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof CambiumError) || !isPassing(error) || signal.aborted) throw error;
      deadlineMs ??= performance.now() + retryForMs;
      if (performance.now() + delayMs > deadlineMs) throw error;
      failed?.(error);
      await pause(delayMs * (0.5 + Math.random() / 2), signal);
    }
  }
}

/** Ends early, in peace, when the signal fires: the next call then says so. The timer keeps the process alive. */
function sleep(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener("abort", done, { once: true });
  });
}
