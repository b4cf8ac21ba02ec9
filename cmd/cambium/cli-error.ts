/** How a command ends when it does not end well, as one line for people and an exit code for scripts. */
import { CambiumError } from "../../api/client/node.js";

/**
 * - `usage`: the command makes no sense as it was given.
 * - `failed`: it made sense and could not be done. An empty message says nothing: the command has said it all already.
 * - `torn`: all is sound but for what the next start of the node repairs by itself.
 */
export type CliErrorCode = "usage" | "failed" | "torn";

export class CliError extends Error {
  override readonly name = "CliError";
  readonly code: CliErrorCode;

  constructor(code: CliErrorCode, message: string, options?: { cause: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_UNREACHABLE = 3;
export const EXIT_TORN = 4;
export const EXIT_INTERRUPTED = 130;

/** The exit code for what a command threw. An error of ours that only says more of another has the other's. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError && error.code === "usage") return EXIT_USAGE;
  if (error instanceof CliError && error.code === "torn") return EXIT_TORN;
  if (error instanceof CliError && error.cause !== undefined) return exitCodeOf(error.cause);
  if (error instanceof CambiumError && (error.code === "unreachable" || error.code === "unavailable")) {
    return EXIT_UNREACHABLE;
  }
  return EXIT_FAILED;
}

/** One line for people. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof CambiumError && error.code === "not_master" && error.masterAddress === undefined) {
    return `${error.message}; name a node that knows the master with --endpoints`;
  }
  return error.message.replaceAll(/\s*\n\s*/g, " ");
}

/** Whether the reader of a pipe has gone, which is no failure of ours. */
export function isBrokenPipe(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EPIPE";
}
