/** `import`: a folder of files into keys. */
import fs from "node:fs";
import { type Command, Option } from "commander";
import { SystemClock } from "../../internal/base/clock.js";
import { CliError, sentenceOf } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { walkFiles } from "./file-tree.js";
import { importFiles, type StoredFile } from "./importer.js";
import { decodePath } from "./key-path.js";
import { Progress } from "./progress.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatDuration, parseDurationMs, parseSizeBytes, wholeNumber } from "./units.js";

interface ImportFlags extends GlobalOptions {
  readonly dir: string;
  readonly prefix?: string;
  readonly concurrency: number;
  readonly maxValue: number;
  readonly decode?: true;
  readonly acked?: string;
  readonly retryFor: number;
  readonly json?: true;
}

export function addImportCommand(program: Command, terminal: Terminal): void {
  program
    .command("import")
    .summary("store the files of a folder")
    .description(
      "Stores every regular file under a folder: the key is its path below the folder, with / between the parts. Symbolic " +
        "links are not followed. What cannot be stored (links, names that are no UTF-8, too large files) is listed as " +
        "skipped. Many files go into one atomic write; a file counts once its write is acknowledged. Nobody else should " +
        "write these keys meanwhile: a write without an answer is sent again.",
    )
    .requiredOption("-d, --dir <folder>", "the folder")
    .option("-p, --prefix <prefix>", "put this before every key")
    .option("-c, --concurrency <n>", "writes in flight", wholeNumber(1, 256), 8)
    .addOption(
      new Option("--max-value <size>", "skip larger files; at most the cluster's limits.max_value_bytes")
        .default(1024 * 1024, "1MiB")
        .argParser(parseSizeBytes),
    )
    .option("--decode", "take names as `cambium export` wrote them: %2E%2E is ..")
    .option("--acked <file>", "write the key of every acknowledged file here, a JSON string a line, as it happens")
    .addOption(
      new Option("--retry-for <duration>", "keep trying so long while the cluster is away")
        .default(30_000, "30s")
        .argParser(parseDurationMs),
    )
    .option("--json", "print the summary as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium import --dir node_modules\n  $ cambium import --dir site --prefix www/ --concurrency 16",
    )
    .action((_options, command: Command) => runImport(command.optsWithGlobals(), terminal));
}

interface Refusal {
  readonly file: string;
  readonly reason: string;
}

async function runImport(options: ImportFlags, terminal: Terminal): Promise<void> {
  const { stdout, stderr, signal } = terminal;
  if (!fs.statSync(options.dir, { throwIfNoEntry: false })?.isDirectory()) {
    throw new CliError("failed", `${options.dir} is not a folder`);
  }
  const acked = options.acked === undefined ? undefined : fs.openSync(options.acked, "w");
  const progress = new Progress({ stream: stderr, clock: new SystemClock(), label: "importing" });
  const stored = { files: 0, bytes: 0 };
  const skipped: Refusal[] = [];
  const failed: Refusal[] = [];
  const acknowledged = (files: readonly StoredFile[]): void => {
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    stored.files += files.length;
    stored.bytes += bytes;
    progress.add(files.length, bytes);
    // Before anything else is known of these files: an audit must find each key that was acknowledged.
    if (acked !== undefined) fs.writeSync(acked, files.map(({ key }) => `${JSON.stringify(key)}\n`).join(""));
  };
  let stopped: unknown;
  try {
    if (progress.isTerminal)
      void total(options, signal).then(
        (known) => (progress.total = known),
        () => {},
      );
    await withClient(options, (client) =>
      importFiles({
        writer: client,
        entries: walkFiles(options.dir),
        keyOf: (name) => (options.prefix ?? "") + (options.decode ? decodePath(name) : name),
        concurrency: options.concurrency,
        valueBytesMax: options.maxValue,
        retryForMs: options.retryFor,
        signal,
        failed: (error) => progress.note(`trying again: ${sentenceOf(error)}`),
        listener: {
          acknowledged,
          skipped: (file, reason) => {
            skipped.push({ file, reason });
            if (!options.json) progress.note(`skipped ${file}: ${reason}`);
          },
          failed: (file, reason) => {
            failed.push({ file, reason });
            if (!options.json) progress.note(`failed ${file}: ${reason}`);
          },
        },
      }),
    );
  } catch (error) {
    stopped = error;
  } finally {
    progress.close();
    if (acked !== undefined) fs.closeSync(acked);
  }
  const elapsedMs = Math.round(progress.elapsedMs);
  if (options.json) {
    const error = stopped === undefined ? {} : { error: sentenceOf(stopped) };
    await writeJson(stdout, { complete: stopped === undefined, stored, skipped, failed, elapsedMs, ...error });
  } else {
    const rate = formatBytes((stored.bytes * 1000) / Math.max(1, elapsedMs));
    const others = [
      skipped.length > 0 ? `${skipped.length.toLocaleString("en-US")} skipped` : "",
      failed.length > 0 ? `${failed.length.toLocaleString("en-US")} failed` : "",
    ].filter((part) => part !== "");
    await write(
      stdout,
      `${[`stored ${counted(stored.files, "file")} (${formatBytes(stored.bytes)})`, ...others].join(", ")} ` +
        `in ${formatDuration(elapsedMs)} (${rate}/s)\n`,
    );
  }
  if (stopped !== undefined) {
    if (signal.aborted) throw stopped;
    throw new CliError(
      "failed",
      `the import stopped with ${counted(stored.files, "file")} stored: ${sentenceOf(stopped)}`,
      { cause: stopped },
    );
  }
  if (failed.length > 0) throw new CliError("failed", `${counted(failed.length, "file")} could not be stored`);
}

/** What there is to do: the folder walked once more, for the numbers only. */
async function total({ dir, maxValue }: ImportFlags, signal: AbortSignal): Promise<{ files: number; bytes: number }> {
  const sum = { files: 0, bytes: 0 };
  for await (const entry of walkFiles(dir)) {
    if (signal.aborted) break;
    if (entry.kind !== "file" || entry.sizeBytes > maxValue) continue;
    sum.files++;
    sum.bytes += entry.sizeBytes;
  }
  return sum;
}
