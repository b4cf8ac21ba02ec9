/** `updates`: the log's changes as lines of JSON. */
import type { Command } from "commander";
import { CambiumError, type UpdateEvent } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { jsonValue, type Terminal, write } from "./terminal.js";
import { wholeNumber } from "./units.js";

export function addUpdatesCommand(program: Command, terminal: Terminal): void {
  program
    .command("updates")
    .summary("print the changes of the log")
    .description("Prints committed changes, oldest first, a line of JSON each.")
    .option("--after <seq>", "begin after this place in the log", wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .option("--follow", "wait for what is yet to come")
    .addHelpText("after", "\nExamples:\n  $ cambium updates\n  $ cambium updates --after 120 --follow | jq .key")
    .action((_options, command: Command) => updates(command.optsWithGlobals(), terminal));
}

async function updates(
  options: GlobalOptions & { readonly after: number; readonly follow?: true },
  { stdout, signal }: Terminal,
): Promise<void> {
  try {
    await withClient(options, async (client) => {
      for await (const page of client.updates({ after: options.after, follow: options.follow === true, signal })) {
        if (page.events.length > 0) await write(stdout, page.events.map(toLine).join(""));
      }
    });
  } catch (error) {
    throw rangeOf(error, options.after) ?? error;
  }
}

/** Says what the log has, and how to go on there. */
export function rangeOf(error: unknown, after: number | undefined): CliError | undefined {
  if (!(error instanceof CambiumError) || error.code !== "out_of_range" || !error.range) return undefined;
  const { compactSeq, appliedSeq } = error.range;
  const message =
    after !== undefined && after > appliedSeq
      ? `the log of that node ends at seq ${appliedSeq}; ask another node, or give --after ${appliedSeq}`
      : `the log no longer has the changes up to seq ${compactSeq}; go on with --after ${compactSeq} (scan lists what there is)`;
  return new CliError("failed", message, { cause: error });
}

function toLine({ value, ...event }: UpdateEvent): string {
  return `${JSON.stringify({ ...event, ...(event.type === "put" && jsonValue(value)) })}\n`;
}
