/** What a room says to the operator. One line an event: a fixed sentence, and the numbers as fields. */

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** How much a line matters, rising. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** The least important lines that are written; may be changed while the program runs. */
export interface LogControl {
  level: LogLevel;
}

/**
 * What marks a line as one of the audit: who may do what, who belongs to the cluster, who leads it, and how it is set has changed, or somebody
 * has asked for that. They are written whatever the level is.
 */
export const AUDIT = { audit: true } as const;

/** Says nothing; for tests, and for tools that report in other ways. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
