/** `backup`: everything that is replicated, as one checked file. */
import fs from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import type { Backup } from "../../api/client/node.js";
import { SystemClock } from "../../internal/base/clock.js";
import { BackupError, type BackupSummary, checkBackup } from "../../internal/store/restore.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { Progress } from "./progress.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatDuration } from "./units.js";

interface BackupFlags extends GlobalOptions {
  readonly force?: true;
  readonly json?: true;
}

export function addBackupCommand(program: Command, terminal: Terminal): void {
  program
    .command("backup")
    .summary("write everything into one checked file")
    .description(
      "Writes everything that is replicated, keys and the record log, into one file: consistent, checked while it is written, " +
        "and from a node that goes on meanwhile, the first of the endpoints that answers. It is FILE.partial until it is whole " +
        "and on the disk. `cambium restore` makes a node out of it, and `cambium restore --check` reads it once more.",
    )
    .argument("<file>", "the file to write")
    .option("--force", "write over a file that is there")
    .option("--json", "print what was written as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium backup monday.cambium\n  $ cambium backup monday.cambium --endpoints 127.0.0.1:8081 --json",
    )
    .action((file: string, _options, command: Command) => backup(file, command.optsWithGlobals(), terminal));
}

async function backup(file: string, options: BackupFlags, terminal: Terminal): Promise<void> {
  const { stdout, stderr, signal } = terminal;
  await refuseExisting(file, options);
  const progress = new Progress({ stream: stderr, clock: new SystemClock(), label: WAITING, total: { bytes: 0 } });
  try {
    const { summary, endpoint } = await withClient(options, async (client) => {
      const stream = await client.backup({ signal });
      progress.begin(WAITING, { bytes: stream.bytesEstimate });
      const written = await writeChecked(file, { stream, force: options.force === true, progress });
      return { summary: written, endpoint: stream.endpoint };
    });
    progress.close();
    const elapsedMs = Math.round(progress.elapsedMs);
    if (options.json) await writeJson(stdout, { file, endpoint, ...summaryJson(summary), elapsedMs });
    else {
      const what = describeBackup(summary);
      await write(stdout, `backed up ${what}, from ${endpoint} to ${file} in ${formatDuration(elapsedMs)}\n`);
    }
  } finally {
    progress.close();
  }
}

/** Such as `12 keys and 3 records of the record log, at epoch 1, seq 20 (4 KiB)`. */
export function describeBackup({ state, end, bytes }: BackupSummary): string {
  const { to, keys } = state;
  const records = counted(end.producedRecords, "record");
  return `${counted(keys, "key")} and ${records} of the record log, at epoch ${to.epoch}, seq ${to.seq} (${formatBytes(bytes)})`;
}

/** What a script may want to know of a backup. */
export function summaryJson({ header, state, end, bytes }: BackupSummary): object {
  const { to, keys, producedStart, producedEnd } = state;
  return {
    clusterId: header.clusterId,
    position: { epoch: to.epoch, seq: to.seq },
    keys,
    records: { start: producedStart.offset, end: producedEnd, count: end.producedRecords },
    bytes,
  };
}

/** Writes the bytes of a backup as they come, checking them; the file has its name, durably, once it is known to be good. */
async function writeChecked(
  file: string,
  { stream, force, progress }: { stream: Backup; force: boolean; progress: Progress },
): Promise<BackupSummary> {
  const partial = `${file}.partial`;
  const handle = await openPartial(partial, force);
  try {
    let bytes = 0;
    const summary = await checkBackup(stream.chunks, {
      taken: async (piece) => {
        for (let at = 0; at < piece.length;) at += (await handle.write(piece, at)).bytesWritten;
        bytes += piece.length;
        // The first piece is there before the node has anything to send.
        if (bytes > FIRST_BYTES) showProgress(progress, bytes, stream.bytesEstimate);
      },
    });
    await handle.sync();
    await handle.close();
    await refuseExisting(file, { force });
    await fs.rename(partial, file);
    await syncFolder(path.dirname(path.resolve(file)));
    return summary;
  } catch (error) {
    await stream.chunks.return(undefined);
    await handle.close();
    await fs.rm(partial, { force: true });
    if (!(error instanceof BackupError)) throw error;
    throw new CliError("failed", `${stream.endpoint} sent something else than a backup: ${error.message}`, {
      cause: error,
    });
  }
}

/** Of the header. */
const FIRST_BYTES = 64;
const WAITING = "waiting for the node's snapshot";

function showProgress(progress: Progress, bytes: number, estimate: number): void {
  // The node's guess may be too low.
  progress.begin("backing up", { bytes: Math.max(estimate, bytes) });
  progress.add(0, bytes);
}

async function refuseExisting(file: string, { force }: { readonly force?: boolean }): Promise<void> {
  if (force || !(await exists(file))) return;
  throw new CliError("failed", `${file} is there already; name another file, or give --force to write over it`);
}

async function exists(file: string): Promise<boolean> {
  try {
    await fs.lstat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function openPartial(partial: string, force: boolean): Promise<fs.FileHandle> {
  try {
    // It holds all that the cluster does: nobody else's business.
    return await fs.open(partial, force ? "w" : "wx", 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw new CliError(
      "failed",
      `${partial} is there already: another backup is writing it, or one was killed; remove it, or give --force`,
      { cause: error },
    );
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await fs.open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
