/** The operator's log: JSON lines for machines, readable lines on a terminal. */
import { pino } from "pino";
import { PinoPretty } from "pino-pretty";
import type { LogControl, LogFields, Logger, LogLevel } from "../internal/base/logger.js";

export interface LoggerOptions {
  readonly level: LogLevel;
  /** `auto`: pretty when standard output is a terminal. */
  readonly format: "json" | "pretty" | "auto";
}

/** The program's log, and how much of it is written. */
export type ProgramLogger = Logger & LogControl;

/** Writes to standard output, synchronously: the last lines before an exit are the ones that matter. */
export function createLogger(options: LoggerOptions): ProgramLogger {
  let { level } = options;
  let isRead = true;
  const pretty = options.format === "pretty" || (options.format === "auto" && process.stdout.isTTY);
  const destination = pretty
    ? PinoPretty({ ignore: "pid,hostname", translateTime: "SYS:HH:MM:ss.l", sync: true })
    : pino.destination({ fd: 1, sync: true });
  const sink = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
  // Whoever may change the level must not be able to hide that.
  const audit = sink.child({}, { level: "debug" });
  destination.on("error", (error: NodeJS.ErrnoException) => {
    // Whoever read the log has gone. A node does not stop for that; without the reader, lines would gather in memory.
    if (error.code !== "EPIPE") throw error;
    isRead = false;
    sink.level = audit.level = "silent";
  });
  const at =
    (of: LogLevel) =>
    (message: string, fields: LogFields = {}): void =>
      (fields["audit"] === true ? audit : sink)[of](fields, message);
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    get level() {
      return level;
    },
    set level(next) {
      level = next;
      if (isRead) sink.level = next;
    },
  };
}
