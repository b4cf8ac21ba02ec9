/** The command line as a function: arguments and a terminal in, an exit code out. */
import { Command, CommanderError } from "commander";
import { VERSION } from "../version.js";
import { EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, exitCodeOf, isBrokenPipe, sentenceOf } from "./cli-error.js";
import { addGlobalOptions } from "./command-context.js";
import { addBackupCommand } from "./backup-command.js";
import { addExportCommand } from "./export-command.js";
import { addImportCommand } from "./import-command.js";
import { addKeyCommands } from "./key-commands.js";
import { addLogCommand } from "./log-command.js";
import { addLogLevelCommand } from "./log-level-command.js";
import { addMastershipCommands } from "./mastership-commands.js";
import { addMemberCommands } from "./member-commands.js";
import { addRestoreCommand } from "./restore-command.js";
import { addScanCommand } from "./scan-command.js";
import { addLimitsCommand } from "./limits-command.js";
import { addSnapshotCommand } from "./snapshot-command.js";
import { addSlowlogCommand } from "./slowlog-command.js";
import { addStatusCommand } from "./status-command.js";
import { colorsFor, type Terminal, write } from "./terminal.js";
import { addTxnCommand } from "./txn-command.js";
import { addTokenCommand } from "./token-command.js";
import { addUpdatesCommand } from "./updates-command.js";
import { addWatchCommand } from "./watch-command.js";
import { addWalCommand } from "./wal-command.js";

/**
 * Runs one command, given without the program's name. Never rejects. What went wrong is one line on stderr; with
 * CAMBIUM_DEBUG in the environment the whole error follows.
 */
export async function runCambium(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await createProgram(terminal).parseAsync([...args], { from: "user" });
    return EXIT_OK;
  } catch (error) {
    // Commander has said it already, help and version included.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    if (isBrokenPipe(error)) return EXIT_OK;
    await report(error, terminal);
    if (terminal.signal.aborted) return EXIT_INTERRUPTED;
    return exitCodeOf(error);
  }
}

function createProgram(terminal: Terminal): Command {
  const program = new Command("cambium")
    .description("Reads and writes a Cambium cluster, and looks after it.")
    .version(VERSION)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      writeErr: (text) => void terminal.stderr.write(text),
      outputError: (text, say) => say(`${usageSentence(text, terminal)}\n`),
      getOutHelpWidth: () => terminal.stdout.columns ?? 100,
      getErrHelpWidth: () => terminal.stderr.columns ?? 100,
      getOutHasColors: () => colorsFor(terminal.stdout, terminal).isColorSupported,
      getErrHasColors: () => colorsFor(terminal.stderr, terminal).isColorSupported,
    });
  addGlobalOptions(program, terminal);
  addKeyCommands(program, terminal);
  addTxnCommand(program, terminal);
  addScanCommand(program, terminal);
  addWatchCommand(program, terminal);
  addStatusCommand(program, terminal);
  addMastershipCommands(program, terminal);
  addMemberCommands(program, terminal);
  addUpdatesCommand(program, terminal);
  addLogCommand(program, terminal);
  addImportCommand(program, terminal);
  addExportCommand(program, terminal);
  addLimitsCommand(program, terminal);
  addSnapshotCommand(program, terminal);
  addBackupCommand(program, terminal);
  addRestoreCommand(program, terminal);
  addWalCommand(program, terminal);
  addTokenCommand(program, terminal);
  addSlowlogCommand(program, terminal);
  addLogLevelCommand(program, terminal);
  program.addHelpText(
    "after",
    "\nExamples:\n  $ cambium set greeting hello\n  $ cambium get greeting --endpoints 127.0.0.1:8081\n" +
      "  $ cambium status --endpoints 127.0.0.1:8080,127.0.0.1:8081\n\n" +
      "Exit codes: 0 done, 1 not done (an absent key included), 2 wrong usage, 3 no node answered, 130 interrupted.",
  );
  return program;
}

/** Commander's complaint in one line, its suggestion included. */
function usageSentence(text: string, terminal: Terminal): string {
  const sentence = text
    .replace(/^error: /, "")
    .replace(/\n\(Did you mean (.*?)\?\)/, "; did you mean $1?")
    .trim();
  return `${colorsFor(terminal.stderr, terminal).red("cambium:")} ${sentence} (cambium --help says more)`;
}

async function report(error: unknown, terminal: Terminal): Promise<void> {
  const { stderr, environment, signal } = terminal;
  try {
    const sentence = signal.aborted ? "interrupted" : sentenceOf(error);
    if (sentence !== "") await write(stderr, `${colorsFor(stderr, terminal).red("cambium:")} ${sentence}\n`);
    if (environment["CAMBIUM_DEBUG"]) await write(stderr, `${inspected(error)}\n`);
  } catch (failure) {
    // With stderr gone too there is nobody left to tell.
    if (!isBrokenPipe(failure)) throw failure;
  }
}

function inspected(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by ${inspected(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
