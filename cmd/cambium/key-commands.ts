/** `get`, `set` and `del`. */
import fs from "node:fs/promises";
import path from "node:path";
import { addAbortSignal } from "node:stream";
import type { Command } from "commander";
import type { Position } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import {
  addAcknowledgeOption,
  addReadOptions,
  type ReadFlags,
  readConsistencyOf,
  type WriteFlags,
} from "./read-options.js";
import { jsonValue, type Terminal, write, writeJson } from "./terminal.js";
import { counted, parseDurationMs } from "./units.js";
import { readValueFile, VALUE_BYTES_MAX } from "./value-file.js";

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
    .option("--json", "print the position of the write, and its token for --at-least, as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium set greeting hello\n  $ cambium set session:42 '{\"user\":7}' --ttl 30m\n" +
        "  $ cambium set logo.png --file logo.png\n  $ date | cambium set now -\n  $ cambium set number -- -1",
    )
    .action((key: string, value: string | undefined, _options, command: Command) =>
      set(key, value, command.optsWithGlobals(), terminal),
    );
  addAcknowledgeOption(program.command("del"))
    .summary("remove keys")
    .description("Removes keys, up to 1024 of them at once. Removing an absent key is no failure.")
    .argument("<key...>")
    .option("--json", "print how many there were, the position, and its token for --at-least, as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium del greeting session:42")
    .action((keys: string[], _options, command: Command) => del(keys, command.optsWithGlobals(), terminal));
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
  options: GlobalOptions & WriteFlags & { readonly json?: true; readonly file?: string; readonly ttl?: number },
  { stdin, stdout, signal }: Terminal,
): Promise<void> {
  if ((value === undefined) === (options.file === undefined)) {
    throw new CliError("usage", "give the value, or - for stdin, or --file FILE");
  }
  const bytes =
    options.file !== undefined
      ? await readValueFile(options.file)
      : value === "-"
        ? await readAll(stdin, signal)
        : value!;
  const { acknowledge, ttl: ttlMs } = options;
  const { position, token } = await withClient(options, (client) =>
    client.set(key, bytes, { ttlMs, acknowledge, signal }),
  );
  if (options.json) await writeJson(stdout, { position, token: base64(token) });
  else await write(stdout, `written at ${place(position)}\n`);
}

async function del(
  keys: readonly string[],
  options: GlobalOptions & WriteFlags & { readonly json?: true },
  { stdout, signal }: Terminal,
): Promise<void> {
  if (keys.length > BATCH_KEYS_MAX) throw new CliError("usage", `${keys.length} keys are more than ${BATCH_KEYS_MAX}`);
  const { results, position, token } = await withClient(options, (client) =>
    client.write(
      keys.map((key) => ({ kind: "delete", key })),
      { acknowledge: options.acknowledge, signal },
    ),
  );
  const removed = results.filter(({ existed }) => existed).length;
  if (options.json) {
    await writeJson(stdout, { removed, absent: keys.length - removed, position, token: base64(token) });
  } else if (removed === 0)
    await write(stdout, `nothing to remove: ${keys.length === 1 ? "the key is" : "the keys are"} absent\n`);
  else await write(stdout, `removed ${counted(removed, "key")} at ${place(position)}\n`);
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

const place = ({ epoch, seq }: Position): string => `seq ${seq}, epoch ${epoch}`;

async function readAll(stdin: Terminal["stdin"], signal: AbortSignal): Promise<Uint8Array> {
  addAbortSignal(signal, stdin);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : (chunk as Uint8Array);
    length += bytes.byteLength;
    if (length > VALUE_BYTES_MAX) throw new CliError("failed", "stdin has more bytes than a value ever has");
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

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
