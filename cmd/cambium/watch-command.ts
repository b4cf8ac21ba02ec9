/** `watch`: changes as they come. */
import { type Command, Option } from "commander";
import type { ReadConsistency, UpdateEvent, WatchOptions } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { parsePlace } from "./read-options.js";
import { jsonValue, type OutputStream, type Terminal, write } from "./terminal.js";
import { onOneLine, shownValue } from "./text-line.js";
import { rangeOf } from "./updates-command.js";

interface WatchFlags extends GlobalOptions {
  readonly prefix?: string;
  readonly start?: string;
  readonly end?: string;
  readonly after?: Pick<ReadConsistency, "atLeast" | "atLeastSeq">;
  readonly previous?: true;
  readonly keysOnly?: true;
  readonly json?: true;
}

export function addWatchCommand(program: Command, terminal: Terminal): void {
  program
    .command("watch")
    .summary("follow the changes of a key, a prefix or all")
    .description(
      "Prints committed changes as they come, a line each: the seq, what happened (put, delete, expire, evict, delete-range), " +
        "the key, and the value, with tabs between. Of a delete-range: the first key, and the one before which it ends. It goes " +
        "on by itself when a node is lost, without a gap or a repetition, until it is interrupted.",
    )
    .argument("[key]", "only this key")
    .option("--prefix <prefix>", "only keys that begin so")
    .option("--start <key>", "only keys from this one on")
    .option("--end <key>", "only keys before this one")
    .addOption(
      new Option("--after <place>", "begin after this seq or token instead of now; 0: with the log").argParser(
        parsePlace,
      ),
    )
    .option("--previous", "show the value before the change, too")
    .option("-k, --keys-only", "leave the values out")
    .option("--json", "print a line of JSON each")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium watch greeting\n  $ cambium watch --prefix session: --previous\n" +
        "  $ cambium watch --after 120 --json | jq .key",
    )
    .action((key: string | undefined, _options, command: Command) => watch(key, command.optsWithGlobals(), terminal));
}

async function watch(key: string | undefined, options: WatchFlags, { stdout, signal }: Terminal): Promise<void> {
  const { prefix, start, end, previous = false, keysOnly = false, json = false } = options;
  const given = [key, prefix, start ?? end].filter((part) => part !== undefined);
  if (given.length > 1) throw new CliError("usage", "give a key, or --prefix, or --start and --end");
  const after = options.after?.atLeast ?? options.after?.atLeastSeq;
  const filter: WatchOptions = { key, prefix, start, end, after, wantPrevious: previous, keysOnly, signal };
  const lineOf = (event: UpdateEvent): string =>
    json ? jsonLine(event, keysOnly) : textLine(event, { keysOnly, previous, stdout });
  try {
    await withClient(options, async (client) => {
      for await (const { events } of client.watch(filter).batches()) {
        if (events.length > 0) await write(stdout, events.map((event) => `${lineOf(event)}\n`).join(""));
      }
    });
  } catch (error) {
    throw rangeOf(error, typeof after === "number" ? after : undefined) ?? error;
  }
}

function jsonLine({ value, previous, ...event }: UpdateEvent, keysOnly: boolean): string {
  const before = previous && jsonValue(previous);
  return JSON.stringify({
    ...event,
    ...(event.type === "put" && !keysOnly && jsonValue(value)),
    ...(before && ("value" in before ? { previous: before.value } : { previousBase64: before.valueBase64 })),
  });
}

function textLine(
  { type, key, value, position, rangeEnd, ...event }: UpdateEvent,
  shown: { readonly keysOnly: boolean; readonly previous: boolean; readonly stdout: OutputStream },
): string {
  const { keysOnly, previous, stdout } = shown;
  const parts = [String(position.seq), type, onOneLine(key)];
  if (type === "delete-range") parts.push(rangeEnd === undefined ? "" : onOneLine(rangeEnd));
  else if (!keysOnly) parts.push(type === "put" ? shownValue(value, stdout) : "");
  if (previous && type !== "delete-range") {
    const before = event.previous && shownValue(event.previous, stdout);
    parts.push(event.previousCompacted ? "(before: compacted)" : `(before: ${before ?? "absent"})`);
  }
  return parts.join("\t").trimEnd();
}
