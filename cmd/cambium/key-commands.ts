/** `get`, `set` and `del`. */
import fs from "node:fs/promises";
import path from "node:path";
import { addAbortSignal } from "node:stream";
import type { Command } from "commander";
import type { Position } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { jsonValue, type Terminal, write, writeJson } from "./terminal.js";
import { counted, parseDurationMs } from "./units.js";
import { readValueFile, VALUE_BYTES_MAX } from "./value-file.js";

/** Operations that a node takes in one write. */
const BATCH_KEYS_MAX = 1024;

export function addKeyCommands(program: Command, terminal: Terminal): void {
  program
    .command("get")
    .summary("print the value of a key")
    .description("Prints the value of a key, byte for byte. Exit code 1 when the key is absent.")
    .argument("<key>")
    .option("--json", "print value, seqs and remaining time as JSON")
    .option("-o, --out <file>", "write the value to a file")
    .addHelpText("after", "\nExamples:\n  $ cambium get greeting\n  $ cambium get logo.png --out logo.png")
    .action((key: string, _options, command: Command) => get(key, command.optsWithGlobals(), terminal));
  program
    .command("set")
    .summary("write a key")
    .description("Writes a key. When it ends, the write is committed.")
    .argument("<key>")
    .argument("[value]", "the value as text; - reads it from stdin")
    .option("-f, --file <file>", "take the value from a file")
    .option("--ttl <duration>", "let the key expire after this time", parseDurationMs)
    .option("--json", "print the position of the write as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium set greeting hello\n  $ cambium set session:42 '{\"user\":7}' --ttl 30m\n" +
        "  $ cambium set logo.png --file logo.png\n  $ date | cambium set now -\n  $ cambium set number -- -1",
    )
    .action((key: string, value: string | undefined, _options, command: Command) =>
      set(key, value, command.optsWithGlobals(), terminal),
    );
  program
    .command("del")
    .summary("remove keys")
    .description("Removes keys, up to 1024 of them at once. Removing an absent key is no failure.")
    .argument("<key...>")
    .option("--json", "print how many there were, and the position, as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium del greeting session:42")
    .action((keys: string[], _options, command: Command) => del(keys, command.optsWithGlobals(), terminal));
}

async function get(
  key: string,
  options: GlobalOptions & { readonly json?: true; readonly out?: string },
  { stdout, signal }: Terminal,
): Promise<void> {
  if (options.json && options.out !== undefined) throw new CliError("usage", "give --json or --out, not both");
  const entry = await withClient(options, (client) => client.get(key, { signal }));
  if (options.json) {
    if (!entry) {
      await writeJson(stdout, { key, exists: false });
      throw new CliError("failed", "");
    }
    const { value, ...rest } = entry;
    await writeJson(stdout, { key, exists: true, ...jsonValue(value), ...rest });
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
  options: GlobalOptions & { readonly json?: true; readonly file?: string; readonly ttl?: number },
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
  const { position } = await withClient(options, (client) => client.set(key, bytes, { ttlMs: options.ttl, signal }));
  await (options.json ? writeJson(stdout, { position }) : write(stdout, `written at ${place(position)}\n`));
}

async function del(
  keys: readonly string[],
  options: GlobalOptions & { readonly json?: true },
  { stdout, signal }: Terminal,
): Promise<void> {
  if (keys.length > BATCH_KEYS_MAX) throw new CliError("usage", `${keys.length} keys are more than ${BATCH_KEYS_MAX}`);
  const { results, position } = await withClient(options, (client) =>
    client.write(
      keys.map((key) => ({ kind: "delete", key })),
      { signal },
    ),
  );
  const removed = results.filter(({ existed }) => existed).length;
  if (options.json) await writeJson(stdout, { removed, absent: keys.length - removed, position });
  else if (removed === 0)
    await write(stdout, `nothing to remove: ${keys.length === 1 ? "the key is" : "the keys are"} absent\n`);
  else await write(stdout, `removed ${counted(removed, "key")} at ${place(position)}\n`);
}

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
