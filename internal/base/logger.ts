/** What a room says to the operator. One line an event: a fixed sentence, and the numbers as fields. */

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** Says nothing; for tests, and for tools that report in other ways. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
