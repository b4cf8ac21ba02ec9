/** When what was asked for at once is sent. */

/** Where the event loop says so itself, as in Node. Taken before a test can put its own clock in the place of the real one. */
const immediately = (globalThis as { readonly setImmediate?: (run: () => void) => unknown }).setImmediate;
/** Promises that may follow each other between the answer that a program has waited for and the call that it makes then. */
const PROMISES = 16;

/**
 * Calls `run` when everything that can be done now has been done, before any time passes: in Node when the events that are there have
 * been dealt with, elsewhere at the end of this one.
 */
export function atEndOfTick(run: () => void): void {
  if (immediately) immediately(run);
  else void afterPromises(run);
}

async function afterPromises(run: () => void): Promise<void> {
  for (let i = 0; i < PROMISES; i++) await Promise.resolve();
  run();
}
