/** `scan`: keys in their order. */
import type { Command } from "commander";
import type { ScannedEntry } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { addReadOptions, type ReadFlags, readConsistencyOf } from "./read-options.js";
import { jsonValue, type OutputStream, type Terminal, write, writeJson } from "./terminal.js";
import { onOneLine, shownValue } from "./text-line.js";
import { wholeNumber } from "./units.js";

interface ScanFlags extends GlobalOptions, ReadFlags {
  readonly limit?: number;
  readonly start?: string;
  readonly end?: string;
  readonly reverse?: true;
  readonly keysOnly?: true;
  readonly count?: true;
  readonly json?: true;
}

/** Entries that a node is asked for at a time. */
const PAGE_ENTRIES = 1000;

export function addScanCommand(program: Command, terminal: Terminal): void {
  addReadOptions(program.command("scan"))
    .summary("list keys in their order")
    .description(
      "Lists the keys that begin with a prefix, or all, by the order of their bytes, a line each: the key, a tab, and the " +
        "value. What would break the line is written as a JSON string, and bytes that are no text by their number. A terminal " +
        "shows the beginning of long values only; --json has all of it exactly.",
    )
    .argument("[prefix]", "only keys that begin so", "")
    .option("--limit <count>", "entries to list at most", wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option("--start <key>", "only keys from this one on")
    .option("--end <key>", "only keys before this one")
    .option("-r, --reverse", "from the last key down")
    .option("-k, --keys-only", "leave the values out")
    .option("-c, --count", "print the number of keys instead")
    .option("--json", "print a line of JSON each")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium scan session: --limit 20\n  $ cambium scan --keys-only --reverse\n" +
        "  $ cambium scan --start 2026-01 --end 2026-02\n  $ cambium scan session: --count",
    )
    .action((prefix: string, _options, command: Command) => scan(prefix, command.optsWithGlobals(), terminal));
}

async function scan(prefix: string, options: ScanFlags, { stdout, signal }: Terminal): Promise<void> {
  const { limit = Infinity, keysOnly = false, json = false, start, end, reverse } = options;
  if (prefix !== "" && (start !== undefined || end !== undefined)) {
    throw new CliError("usage", "give a prefix, or --start and --end, not both");
  }
  if (options.count) {
    const range = { prefix, start, end, ...readConsistencyOf(options), signal };
    const count = await withClient(options, (client) => client.count(range));
    await (json ? writeJson(stdout, { count }) : write(stdout, `${count}\n`));
    return;
  }
  const lineOf = (entry: ScannedEntry): string =>
    json ? jsonLine(entry, keysOnly) : keysOnly ? onOneLine(entry.key) : textLine(entry, stdout);
  // Of every page, for each may come from another node.
  const fresh = readConsistencyOf(options);
  await withClient(options, async (client) => {
    let left = limit;
    let pageToken: Uint8Array | undefined;
    do {
      const limitOfPage = Math.min(left, PAGE_ENTRIES);
      const page = await client.scanPage({
        ...fresh,
        prefix,
        start,
        end,
        reverse,
        keysOnly,
        limit: limitOfPage,
        pageToken,
        signal,
      });
      if (page.entries.length > 0) await write(stdout, page.entries.map((entry) => `${lineOf(entry)}\n`).join(""));
      left -= page.entries.length;
      pageToken = page.nextPageToken;
    } while (pageToken && left > 0);
  });
}

function jsonLine({ key, value, valueBytes, createSeq, modSeq, ttlMs }: ScannedEntry, keysOnly: boolean): string {
  return JSON.stringify({ key, ...(!keysOnly && jsonValue(value)), valueBytes, createSeq, modSeq, ttlMs });
}

function textLine({ key, value }: ScannedEntry, stdout: OutputStream): string {
  return `${onOneLine(key)}\t${shownValue(value, stdout)}`;
}
