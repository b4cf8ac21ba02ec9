/**
 * Checks that stay on in production. A failed one is a bug in Cambium, never a caller's mistake: the process that meets
 * it drains and exits, because state that broke an invariant can no longer be trusted.
 */

/** A broken invariant. Nobody catches it to go on. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** States an invariant. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The value, which by an invariant is there. */
export function must<T>(value: T | null | undefined, message: string): T {
  if (value === null || value === undefined) throw new AssertionError(message);
  return value;
}

/** The end of an exhaustive switch: the compiler proves that nobody comes here. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable case: ${JSON.stringify(value)}`);
}
