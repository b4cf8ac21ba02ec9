/** `export`: keys into a folder of files. */
import { type Command, Option } from "commander";
import { type CambiumClient, CambiumError } from "../../api/client/node.js";
import { SystemClock } from "../../internal/base/clock.js";
import { CliError, sentenceOf } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { ExportFolder } from "./export-folder.js";
import { exportKeys, listKeys } from "./exporter.js";
import { keyPathOptions } from "./key-path.js";
import { Progress } from "./progress.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatDuration, parseDurationMs, wholeNumber } from "./units.js";

interface ExportFlags extends GlobalOptions {
  readonly dir: string;
  readonly prefix?: string;
  readonly concurrency: number;
  readonly overwrite?: true;
  readonly retryFor: number;
  readonly json?: true;
}

export function addExportCommand(program: Command, terminal: Terminal): void {
  program
    .command("export")
    .summary("write keys into a folder, as files")
    .description(
      "Writes every key as a file under a folder, all read from one node: the first of the endpoints that is ready. Each " +
        "file holds the value at the moment it was read, and appears whole or not at all; a key that comes up meanwhile is " +
        "left out. A key that is no safe path is percent-encoded where it has to be (.. becomes %2E%2E, a leading / %2F); " +
        "where two keys want one place, as a and a/b do, one goes into a folder named %~ there. " +
        "`cambium import --decode` reads all of it back.",
    )
    .requiredOption("-d, --dir <folder>", "the folder; it is made, or must be empty")
    .option("-p, --prefix <prefix>", "only keys that begin so")
    .option("-c, --concurrency <n>", "files written at a time", wholeNumber(1, 64), 4)
    .option("--overwrite", "write into a folder that is not empty, replacing files")
    .addOption(
      new Option("--retry-for <duration>", "keep trying so long while the node is away")
        .default(30_000, "30s")
        .argParser(parseDurationMs),
    )
    .option("--json", "print the summary as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium export --dir backup\n  $ cambium export --dir www --prefix www/ --endpoints 127.0.0.1:8081",
    )
    .action((_options, command: Command) => runExport(command.optsWithGlobals(), terminal));
}

async function runExport(options: ExportFlags, terminal: Terminal): Promise<void> {
  const { stdout, stderr, signal } = terminal;
  const endpoint = await withClient(options, (client) => chooseNode(client, options.endpoints, signal));
  const folder = await ExportFolder.open(options.dir, { overwrite: options.overwrite === true });
  const progress = new Progress({ stream: stderr, clock: new SystemClock(), label: "listing keys" });
  const stored = { files: 0, bytes: 0 };
  const failed: { key: string; reason: string }[] = [];
  let gone = 0;
  let stopped: unknown;
  const retry = {
    retryForMs: options.retryFor,
    signal,
    failed: (error: Error): void => progress.note(`trying again: ${sentenceOf(error)}`),
  };
  try {
    await withClient({ ...options, endpoints: [endpoint] }, async (client) => {
      const source = { ...retry, reader: client, prefix: options.prefix ?? "" };
      const keys = await listKeys({ ...source, listed: (count, bytes) => progress.add(count, bytes) });
      const bytes = [...keys.values()].reduce((sum, size) => sum + size, 0);
      progress.begin("exporting", { files: keys.size, bytes });
      await exportKeys({
        ...source,
        sink: folder,
        keys,
        paths: keyPathOptions(terminal.platform),
        concurrency: options.concurrency,
        listener: {
          written: (_key, size) => {
            stored.files++;
            stored.bytes += size;
            progress.add(1, size);
          },
          gone: () => gone++,
          failed: (key, reason) => {
            failed.push({ key, reason });
            if (!options.json) progress.note(`failed ${JSON.stringify(key)}: ${reason}`);
          },
        },
      });
    });
  } catch (error) {
    stopped = error;
  } finally {
    progress.close();
    await folder.close();
  }
  const elapsedMs = Math.round(progress.elapsedMs);
  if (options.json) {
    const error = stopped === undefined ? {} : { error: sentenceOf(stopped) };
    await writeJson(stdout, { complete: stopped === undefined, endpoint, stored, gone, failed, elapsedMs, ...error });
  } else {
    const others = [
      gone > 0 ? `${counted(gone, "key")} gone meanwhile` : "",
      failed.length > 0 ? `${failed.length.toLocaleString("en-US")} failed` : "",
    ].filter((part) => part !== "");
    await write(
      stdout,
      `${[`wrote ${counted(stored.files, "file")} (${formatBytes(stored.bytes)}) from ${endpoint}`, ...others].join(", ")} ` +
        `in ${formatDuration(elapsedMs)}\n`,
    );
  }
  if (stopped !== undefined) throw stopped;
  if (failed.length > 0) throw new CliError("failed", `${counted(failed.length, "key")} could not be written`);
}

/** One node for all of it: the keys of one are not always those of another, which may lag. */
async function chooseNode(client: CambiumClient, endpoints: readonly string[], signal: AbortSignal): Promise<string> {
  let last: CambiumError | undefined;
  for (const endpoint of endpoints) {
    try {
      const { node } = await client.status({ endpoint, signal });
      if (node.ready) return endpoint;
      last = new CambiumError("unavailable", `${endpoint} is not ready: ${node.notReadyReason ?? "no reason given"}`);
    } catch (error) {
      if (!(error instanceof CambiumError) || error.code === "canceled") throw error;
      last = error;
    }
  }
  throw last ?? new CliError("usage", "--endpoints names no node");
}
