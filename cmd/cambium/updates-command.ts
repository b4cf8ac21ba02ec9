/** `updates`: the log's changes as lines of JSON. */
import type { Command } from "commander";
import type { UpdateEvent } from "../../api/client/node.js";
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
  await withClient(options, async (client) => {
    for await (const page of client.updates({ after: options.after, follow: options.follow === true, signal })) {
      if (page.events.length > 0) await write(stdout, page.events.map(toLine).join(""));
    }
  });
}

function toLine({ value, ...event }: UpdateEvent): string {
  return `${JSON.stringify({ ...event, ...(event.type === "put" && jsonValue(value)) })}\n`;
}
