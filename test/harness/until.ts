/** Waits for something that a test can only ask about. */
import { setTimeout as pause } from "node:timers/promises";

/**
 * Asks until the answer is neither false nor undefined, and resolves to it. An error counts as "not yet". Rejects after
 * `timeoutMs`, naming what it waited for and the last error.
 */
export async function until<T>(
  what: string,
  ask: () => Promise<T | false | undefined> | T | false | undefined,
  timeoutMs = 30_000,
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    let cause: unknown;
    try {
      const answer = await ask();
      if (answer !== false && answer !== undefined) return answer;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`, { cause });
    await pause(20);
  }
}
