/** `get`, `set`, `del`, `touch` and `incr`. */
import fs from "node:fs/promises";
import path from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { CambiumError, type CambiumClient, type Position, type PreviousEntry } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import {
  addAcknowledgeOption,
  addReadOptions,
  type ReadFlags,
  readConsistencyOf,
  type WriteFlags,
} from "./read-options.js";
import { jsonValue, type OutputStream, type Terminal, write, writeJson } from "./terminal.js";
import { shownValue } from "./text-line.js";
import { counted, parseDurationMs, wholeNumber } from "./units.js";
import { readStdin } from "./read-stdin.js";
import { readValueFile } from "./value-file.js";

/** Operations that a node takes in one write. */
const BATCH_KEYS_MAX = 1024;

export function addKeyCommands(program: Command, terminal: Terminal): void {
  addReadOptions(program.command("get"))
    .summary("print the value of a key")
    .description("Prints the value of a key, byte for byte. Exit code 1 when the key is absent.")
    .argument("<key>")
    .option("--json", "print value, seqs, remaining time, and the token for --at-least, as JSON")
    .option("-o, --out <file>", "write the value to a file")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium get greeting\n  $ cambium get logo.png --out logo.png\n" +
        "  $ cambium get balance --linearizable\n  $ cambium get greeting --max-staleness 2s",
    )
    .action((key: string, _options, command: Command) => get(key, command.optsWithGlobals(), terminal));
  addAcknowledgeOption(program.command("set"))
    .summary("write a key")
    .description("Writes a key. When it ends, the write is committed, unless --acknowledge says otherwise.")
    .argument("<key>")
    .argument("[value]", "the value as text; - reads it from stdin")
    .option("-f, --file <file>", "take the value from a file")
    .option("--ttl <duration>", "let the key expire after this time", parseDurationMs)
    .option("--keep-ttl", "keep the deadline that the key has")
    .option("--if-absent", "only when there is no such key")
    .addOption(ifSeqOption())
    .option("--previous", "print what was there before, too")
    .option("--json", "print the position of the write, and its token for --at-least, as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium set greeting hello\n  $ cambium set session:42 '{\"user\":7}' --ttl 30m\n" +
        "  $ cambium set logo.png --file logo.png\n  $ date | cambium set now -\n  $ cambium set number -- -1\n" +
        "  $ cambium set lock me --if-absent --ttl 30s\n  $ cambium set config '{}' --if-seq 42",
    )
    .action((key: string, value: string | undefined, _options, command: Command) =>
      set(key, value, command.optsWithGlobals(), terminal),
    );
  addAcknowledgeOption(program.command("del"))
    .summary("remove keys")
    .description(
      "Removes keys, up to 1024 of them at once, or all that begin with a prefix, however many. Removing an absent key is no " +
        "failure.",
    )
    .argument("[key...]")
    .option("--prefix <prefix>", "remove all keys that begin so, at once")
    .addOption(ifSeqOption())
    .option("--previous", "print what was there before, too; of one key")
    .option("--json", "print how many there were, the position, and its token for --at-least, as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium del greeting session:42\n  $ cambium del --prefix session:\n  $ cambium del lock --if-seq 42",
    )
    .action((keys: string[], _options, command: Command) => del(keys, command.optsWithGlobals(), terminal));
  addAcknowledgeOption(program.command("touch"))
    .summary("give a key another deadline")
    .description(
      "Lets a key expire after a time from now on, or never. Its value stays. Exit code 1 when the key is absent.",
    )
    .argument("<key>")
    .argument("<duration>", "such as 30m; none: it does not expire any more", parseDeadlineMs)
    .addOption(ifSeqOption())
    .option("--json", "print whether there was such a key, the position, and its token for --at-least, as JSON")
    .addHelpText("after", "\nExamples:\n  $ cambium touch session:42 30m\n  $ cambium touch session:42 none")
    .action((key: string, ttlMs: number, _options, command: Command) =>
      touch(key, ttlMs, command.optsWithGlobals(), terminal),
    );
  addAcknowledgeOption(program.command("incr"))
    .summary("add to a number")
    .description(
      "Adds to the number that a key holds as decimal text, 64 bits with a sign, and prints the sum. An absent key counts as 0.",
    )
    .argument("<key>")
    .option("-b, --by <number>", "what to add", parseInt64, 1n)
    .option("--initial <number>", "what an absent key counts as", parseInt64)
    .option("--min <number>", "the least that the sum may be", parseInt64)
    .option("--max <number>", "the most that the sum may be", parseInt64)
    .option("--ttl <duration>", "let a key that this makes expire after this time", parseDurationMs)
    .option("--json", "print the sum, the position, and its token for --at-least, as JSON; the sum as a text")
    .addHelpText("after", "\nExamples:\n  $ cambium incr visits\n  $ cambium incr stock --by -1 --min 0")
    .action((key: string, _options, command: Command) => increment(key, command.optsWithGlobals(), terminal));
}

function ifSeqOption(): Option {
  return new Option("--if-seq <seq>", "only when the key has not changed since (modSeq of get --json)").argParser(
    wholeNumber(0, Number.MAX_SAFE_INTEGER),
  );
}

function parseDeadlineMs(text: string): number {
  return text === "none" ? 0 : parseDurationMs(text);
}

function parseInt64(text: string): bigint {
  const value = /^-?\d{1,19}$/.test(text) ? BigInt(text) : undefined;
  if (value !== undefined && BigInt.asIntN(64, value) === value) return value;
  throw new InvalidArgumentError("Write a whole number of 64 bits, such as 12 or -3.");
}

async function get(
  key: string,
  options: GlobalOptions & ReadFlags & { readonly json?: true; readonly out?: string },
  { stdout, signal }: Terminal,
): Promise<void> {
  if (options.json && options.out !== undefined) throw new CliError("usage", "give --json or --out, not both");
  const entry = await withClient(options, (client) => client.get(key, { ...readConsistencyOf(options), signal }));
  if (options.json) {
    if (!entry) {
      await writeJson(stdout, { key, exists: false });
      throw new CliError("failed", "");
    }
    const { value, token, ...rest } = entry;
    await writeJson(stdout, { key, exists: true, ...jsonValue(value), ...rest, token: base64(token) });
    return;
  }
  if (!entry) throw new CliError("failed", `no such key: ${key}`);
  if (options.out !== undefined) {
    await replaceFile(options.out, entry.value);
    return;
  }
  await write(stdout, entry.value);
  // A prompt right behind the value helps nobody; into a pipe or a file go the bytes alone.
  if (stdout.isTTY && entry.value.at(-1) !== 0x0a) await write(stdout, "\n");
}

async function set(
  key: string,
  value: string | undefined,
  options: GlobalOptions & WriteFlags & SetFlags,
  { stdin, stdout, signal }: Terminal,
): Promise<void> {
  if ((value === undefined) === (options.file === undefined)) {
    throw new CliError("usage", "give the value, or - for stdin, or --file FILE");
  }
  if (options.ttl !== undefined && options.keepTtl) throw new CliError("usage", "give --ttl or --keep-ttl, not both");
  if (options.ifAbsent && options.ifSeq !== undefined) {
    throw new CliError("usage", "give --if-absent or --if-seq, not both");
  }
  const bytes =
    options.file !== undefined
      ? await readValueFile(options.file)
      : value === "-"
        ? await readStdin(stdin, signal)
        : value!;
  const { acknowledge, ttl: ttlMs, keepTtl, ifAbsent, ifSeq, previous: wantPrevious } = options;
  const receipt = await conditionally(options, (client) =>
    client.set(key, bytes, { ttlMs, keepTtl, ifAbsent, ifSeq, wantPrevious, acknowledge, signal }),
  );
  const { position, token, previous } = receipt;
  if (options.json) {
    await writeJson(stdout, { position, token: base64(token), ...(wantPrevious && jsonPrevious(previous)) });
    return;
  }
  await write(stdout, `written at ${place(position)}\n`);
  if (wantPrevious) await write(stdout, `${before(previous, stdout)}\n`);
}

interface SetFlags {
  readonly json?: true;
  readonly file?: string;
  readonly ttl?: number;
  readonly keepTtl?: true;
  readonly ifAbsent?: true;
  readonly ifSeq?: number;
  readonly previous?: true;
}

interface DeleteFlags {
  readonly json?: true;
  readonly prefix?: string;
  readonly ifSeq?: number;
  readonly previous?: true;
}

async function del(
  keys: readonly string[],
  options: GlobalOptions & WriteFlags & DeleteFlags,
  { stdout, signal }: Terminal,
): Promise<void> {
  const { acknowledge, prefix, ifSeq, previous: wantPrevious } = options;
  if (keys.length > 0 === (prefix !== undefined)) throw new CliError("usage", "give keys, or --prefix, not both");
  if (keys.length > BATCH_KEYS_MAX) throw new CliError("usage", `${keys.length} keys are more than ${BATCH_KEYS_MAX}`);
  if (keys.length !== 1 && (ifSeq !== undefined || wantPrevious)) {
    throw new CliError("usage", "--if-seq and --previous are for one key");
  }
  if (prefix === "") throw new CliError("usage", "--prefix is empty: that would be all keys");
  if (prefix !== undefined) {
    const receipt = await withClient(options, (client) => client.deleteRange({ prefix }, { acknowledge, signal }));
    const { deleted, position, token } = receipt;
    if (options.json) await writeJson(stdout, { removed: deleted ?? null, position, token: base64(token) });
    else if (deleted === 0) await write(stdout, "nothing to remove: no key begins so\n");
    else {
      const removed = deleted === undefined ? "more than 10,000 keys" : counted(deleted, "key");
      await write(stdout, `removed ${removed} at ${place(position)}\n`);
    }
    return;
  }
  const { results, position, token } = await conditionally(options, (client) =>
    client.write(
      keys.map((key) => ({ kind: "delete", key, ifSeq, wantPrevious })),
      { acknowledge, signal },
    ),
  );
  const removed = results.filter(({ existed }) => existed).length;
  const [first] = results;
  if (options.json) {
    await writeJson(stdout, {
      removed,
      absent: keys.length - removed,
      position,
      token: base64(token),
      ...(wantPrevious && jsonPrevious(first?.previous)),
    });
    return;
  }
  await (removed === 0
    ? write(stdout, `nothing to remove: ${keys.length === 1 ? "the key is" : "the keys are"} absent\n`)
    : write(stdout, `removed ${counted(removed, "key")} at ${place(position)}\n`));
  if (wantPrevious) await write(stdout, `${before(first?.previous, stdout)}\n`);
}

async function touch(
  key: string,
  ttlMs: number,
  options: GlobalOptions & WriteFlags & { readonly json?: true; readonly ifSeq?: number },
  { stdout, signal }: Terminal,
): Promise<void> {
  const { acknowledge, ifSeq } = options;
  const { existed, position, token } = await conditionally(options, (client) =>
    client.touch(key, ttlMs, { ifSeq, acknowledge, signal }),
  );
  if (options.json) await writeJson(stdout, { existed, position, token: base64(token) });
  else if (existed) await write(stdout, `written at ${place(position)}\n`);
  if (!existed) throw new CliError("failed", options.json ? "" : `no such key: ${key}`);
}

interface IncrementFlags {
  readonly by: bigint;
  readonly initial?: bigint;
  readonly min?: bigint;
  readonly max?: bigint;
  readonly ttl?: number;
  readonly json?: true;
}

async function increment(
  key: string,
  options: GlobalOptions & WriteFlags & IncrementFlags,
  { stdout, signal }: Terminal,
): Promise<void> {
  const { by, initial, min, max, ttl: ttlMs, acknowledge } = options;
  const { value, position, token } = await withClient(options, (client) =>
    client.increment(key, by, { initial, min, max, ttlMs, acknowledge, signal }),
  );
  // As a text, since most that reads JSON rounds numbers beyond 2^53.
  if (options.json) await writeJson(stdout, { value: String(value), position, token: base64(token) });
  else await write(stdout, `${value}\n`);
}

/** A write with a condition; where it does not hold, says what the key is. */
async function conditionally<T>(options: GlobalOptions, use: (client: CambiumClient) => Promise<T>): Promise<T> {
  try {
    return await withClient(options, use);
  } catch (error) {
    if (!(error instanceof CambiumError) || !error.condition) throw error;
    const { key, exists, modSeq } = error.condition;
    const state = exists ? `${key} was last changed at seq ${modSeq}` : `there is no key ${key}`;
    throw new CliError("failed", `nothing was changed: ${state}`, { cause: error });
  }
}

function before(previous: PreviousEntry | undefined, stdout: OutputStream): string {
  return previous ? `before, at seq ${previous.modSeq}: ${shownValue(previous.value, stdout)}` : "before: absent";
}

function jsonPrevious(previous: PreviousEntry | undefined): object {
  if (!previous) return { previous: null };
  const { value, createSeq, modSeq } = previous;
  return { previous: { ...jsonValue(value), createSeq, modSeq } };
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

const place = ({ epoch, seq }: Position): string => `seq ${seq}, epoch ${epoch}`;

/** The file has the old content or the new, never a part. */
async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
  const scratch = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.tmp`);
  try {
    await fs.writeFile(scratch, bytes);
    await fs.rename(scratch, file);
  } catch (error) {
    await fs.rm(scratch, { force: true });
    throw error;
  }
}
