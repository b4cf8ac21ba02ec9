/** `log produce`, `log consume`, `log truncate` and `log range`: the record log. */
import { addAbortSignal } from "node:stream";
import type { Command } from "commander";
import type { CambiumClient, ProducedRecord, ProduceReceipt } from "../../api/client/node.js";
import { CliError, sentenceOf } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { stdinLines } from "./stdin-lines.js";
import { jsonValue, type Terminal, write, writeJson } from "./terminal.js";
import { counted, wholeNumber } from "./units.js";
import { readValueFile } from "./value-file.js";

const offset = wholeNumber(0, Number.MAX_SAFE_INTEGER);

export function addLogCommand(program: Command, terminal: Terminal): void {
  const log = program
    .command("log")
    .summary("append to the record log, and read it")
    .description("Appends records to the record log, reads them by offset, and removes old ones.");
  log
    .command("produce")
    .summary("append records")
    .description(
      "Appends a record, or each line of stdin as one, without its line break. When it ends, they are committed.",
    )
    .argument("[record]", "the record as text; - appends each line of stdin")
    .option("-f, --file <file>", "append the content of a file, as one record")
    .option("--json", "print offset, number and position of what was committed as a line of JSON, batch by batch")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium log produce 'user 42 signed in'\n  $ tail -f access.log | cambium log produce -\n" +
        "  $ cambium log produce --file event.bin",
    )
    .action((record: string | undefined, _options, command: Command) =>
      produce(record, command.optsWithGlobals(), terminal),
    );
  log
    .command("consume")
    .summary("print records")
    .description("Prints records from an offset on, a line each.")
    .option("--offset <offset>", "the first record; without it: the oldest that is there", offset)
    .option("--follow", "wait for what is yet to come")
    .option("--limit <count>", "end after so many records", wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option("--json", "print offset, record, position and time as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium log consume --follow\n  $ cambium log consume --offset 120 --limit 10 --json | jq .record",
    )
    .action((_options, command: Command) => consume(command.optsWithGlobals(), terminal));
  log
    .command("truncate")
    .summary("remove old records")
    .description("Removes all records below an offset. Offsets are never given again.")
    .argument("<offset>", "the first record that stays", offset)
    .option("--json", "print the oldest offset that is there, and the position, as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium log truncate 1000")
    .action((below: number, _options, command: Command) => truncate(below, command.optsWithGlobals(), terminal));
  log
    .command("range")
    .summary("print which offsets there are")
    .description("Prints the oldest offset that a node has, and the one that comes next.")
    .option("--json", "print them as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium log range")
    .action((_options, command: Command) => range(command.optsWithGlobals(), terminal));
}

type JsonOption = GlobalOptions & { readonly json?: true };

async function produce(
  record: string | undefined,
  options: JsonOption & { readonly file?: string },
  terminal: Terminal,
): Promise<void> {
  if ((record === undefined) === (options.file === undefined)) {
    throw new CliError("usage", "give the record, or - for the lines of stdin, or --file FILE");
  }
  await withClient(options, async (client) => {
    if (record === "-") {
      await produceLines(client, options, terminal);
      return;
    }
    const bytes = options.file === undefined ? record! : await readValueFile(options.file);
    const receipt = await client.produce(bytes, { signal: terminal.signal });
    if (options.json) await writeReceipt(receipt, terminal);
    else await write(terminal.stdout, `produced at offset ${receipt.offset}\n`);
  });
}

async function produceLines(client: CambiumClient, options: JsonOption, terminal: Terminal): Promise<void> {
  const { stdin, stdout, signal } = terminal;
  addAbortSignal(signal, stdin);
  let produced = 0;
  let last: ProduceReceipt | undefined;
  try {
    for await (const receipt of client.produceMany(stdinLines(stdin), { signal })) {
      produced += receipt.count;
      last = receipt;
      if (options.json) await writeReceipt(receipt, terminal);
    }
  } catch (error) {
    if (!last || signal.aborted) throw error;
    // Whoever repeats this must know where to begin.
    const sentence = `produced ${counted(produced, "record")}, the last at offset ${endOf(last)}; then: ${sentenceOf(error)}`;
    throw new CliError("failed", sentence, { cause: error });
  }
  if (options.json) return;
  await write(
    stdout,
    last ? `produced ${counted(produced, "record")}, the last at offset ${endOf(last)}\n` : "nothing to produce\n",
  );
}

const endOf = ({ offset, count }: ProduceReceipt): number => offset + count - 1;

function writeReceipt({ offset, count, position }: ProduceReceipt, { stdout }: Terminal): Promise<void> {
  return writeJson(stdout, { offset, count, position });
}

async function consume(
  options: JsonOption & { readonly offset?: number; readonly follow?: true; readonly limit?: number },
  { stdout, signal }: Terminal,
): Promise<void> {
  const { follow, limit } = options;
  await withClient(options, async (client) => {
    for await (const record of client.consume({ offset: options.offset, limit, follow: follow === true, signal })) {
      await write(stdout, options.json ? toJsonLine(record) : Buffer.concat([record.record, LINE_BREAK]));
    }
  });
}

const LINE_BREAK = Buffer.from("\n");

function toJsonLine({ offset, record, position, timestampMs }: ProducedRecord): string {
  const value = jsonValue(record);
  const named = "value" in value ? { record: value.value } : { recordBase64: value.valueBase64 };
  return `${JSON.stringify({ offset, ...named, position, timestampMs })}\n`;
}

async function truncate(below: number, options: JsonOption, { stdout, signal }: Terminal): Promise<void> {
  const { start, position } = await withClient(options, (client) => client.truncateRecords(below, { signal }));
  await (options.json
    ? writeJson(stdout, { start, position })
    : write(stdout, `the record log begins at offset ${start}\n`));
}

async function range(options: JsonOption, { stdout, signal }: Terminal): Promise<void> {
  const { start, end } = await withClient(options, (client) => client.recordRange({ signal }));
  if (options.json) await writeJson(stdout, { start, end });
  else if (start === end) await write(stdout, `no records; the next offset is ${end}\n`);
  else await write(stdout, `${counted(end - start, "record")}, offsets ${start} to ${end - 1}\n`);
}
