/** Resolves in the next turn of the event loop, after others had theirs. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
