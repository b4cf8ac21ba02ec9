/** `log-level`: how much a node tells. */
import { Argument, type Command } from "commander";
import type { LogLevel } from "../../api/client/node.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { type Terminal, write } from "./terminal.js";

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

export function addLogLevelCommand(program: Command, terminal: Terminal): void {
  program
    .command("log-level")
    .summary("change how much a node writes to its log")
    .description(
      "Changes which lines the first endpoint that answers writes to its log, until it ends; at its next start log.level of the " +
        "configuration counts again.",
    )
    .addArgument(new Argument("<level>", "the least important lines that are written").choices(LEVELS))
    .addHelpText("after", "\nExample:\n  $ cambium log-level debug --endpoints 127.0.0.1:8081")
    .action((level: LogLevel, _options, command: Command) => logLevel(level, command.optsWithGlobals(), terminal));
}

async function logLevel(level: LogLevel, options: GlobalOptions, { stdout, signal }: Terminal): Promise<void> {
  const { timeout: timeoutMs } = options;
  const { endpoint, levelBefore } = await withClient(options, (client) =>
    client.setLogLevel(level, { signal, timeoutMs }),
  );
  await write(stdout, `${endpoint} writes lines from ${level} on; before: ${levelBefore}\n`);
}
