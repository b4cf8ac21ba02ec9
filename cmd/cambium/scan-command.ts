/** `scan`: keys in their order. */
import type { Command } from "commander";
import type { ScannedEntry } from "../../api/client/node.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { addReadOptions, type ReadFlags, readConsistencyOf } from "./read-options.js";
import { jsonValue, type OutputStream, type Terminal, write } from "./terminal.js";
import { formatBytes, wholeNumber } from "./units.js";

interface ScanFlags extends GlobalOptions, ReadFlags {
  readonly limit?: number;
  readonly keysOnly?: true;
  readonly json?: true;
}

/** Entries that a node is asked for at a time. */
const PAGE_ENTRIES = 1000;
/** Characters of a value that a terminal shows. */
const SHOWN_CHARACTERS_MAX = 200;

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
    .option("-k, --keys-only", "leave the values out")
    .option("--json", "print a line of JSON each")
    .addHelpText("after", "\nExamples:\n  $ cambium scan session: --limit 20\n  $ cambium scan --keys-only | wc -l")
    .action((prefix: string, _options, command: Command) => scan(prefix, command.optsWithGlobals(), terminal));
}

async function scan(prefix: string, options: ScanFlags, { stdout, signal }: Terminal): Promise<void> {
  const { limit = Infinity, keysOnly = false, json = false } = options;
  const lineOf = (entry: ScannedEntry): string =>
    json ? jsonLine(entry, keysOnly) : keysOnly ? onOneLine(entry.key) : textLine(entry, stdout);
  // Of every page, for each may come from another node.
  const fresh = readConsistencyOf(options);
  await withClient(options, async (client) => {
    let left = limit;
    let pageToken: Uint8Array | undefined;
    do {
      const limitOfPage = Math.min(left, PAGE_ENTRIES);
      const page = await client.scanPage({ ...fresh, prefix, keysOnly, limit: limitOfPage, pageToken, signal });
      if (page.entries.length > 0) await write(stdout, page.entries.map((entry) => `${lineOf(entry)}\n`).join(""));
      left -= page.entries.length;
      pageToken = page.nextPageToken;
    } while (pageToken && left > 0);
  });
}

function jsonLine({ key, value, valueBytes, createSeq, modSeq, ttlMs }: ScannedEntry, keysOnly: boolean): string {
  return JSON.stringify({ key, ...(!keysOnly && jsonValue(value)), valueBytes, createSeq, modSeq, ttlMs });
}

function textLine({ key, value }: ScannedEntry, { isTTY }: OutputStream): string {
  const read = jsonValue(value);
  if ("valueBase64" in read) return `${onOneLine(key)}\t(${formatBytes(value.byteLength)})`;
  const text = read.value;
  const shown =
    isTTY && text.length > SHOWN_CHARACTERS_MAX
      ? `${onOneLine(text.slice(0, SHOWN_CHARACTERS_MAX))}… (${formatBytes(value.byteLength)})`
      : onOneLine(text);
  return `${onOneLine(key)}\t${shown}`;
}

/** As it is, unless a terminal would take it for more than text, or a reader for what is written here as JSON. */
function onOneLine(text: string): string {
  return /[\p{Cc}\u2028\u2029]|^"/u.test(text) ? JSON.stringify(text) : text;
}
