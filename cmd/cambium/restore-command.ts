/** `restore`: a node's data directory out of a backup; or only a look whether the backup is good. */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { SystemClock } from "../../internal/base/clock.js";
import { silentLogger } from "../../internal/base/logger.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import { BackupError, checkBackup, restoreBackup } from "../../internal/store/restore.js";
import { NodeFileSystem } from "../../internal/wal/node-file-system.js";
import { describeBackup, summaryJson, syncFolder } from "./backup-command.js";
import { CliError } from "./cli-error.js";
import { Progress } from "./progress.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatDuration } from "./units.js";

interface RestoreFlags {
  readonly data?: string;
  readonly check?: true;
  readonly keepClusterId?: true;
  readonly json?: true;
}

const READ_BYTES = 1024 * 1024;
/** As `records.max_file_size` is by default. */
const RECORD_SEGMENT_BYTES_MAX = 100_000_000;

export function addRestoreCommand(program: Command, terminal: Terminal): void {
  program
    .command("restore")
    .summary("make a node's data directory out of a backup")
    .description(
      "Makes the data directory of a master out of a file of `cambium backup`, on this machine; no node needs to run. The whole " +
        "file is checked before anything is written. Keys keep their seqs, values and deadlines, and the record log its offsets. " +
        "The node is the first of a new cluster, so that nothing of the old one is taken for a part of it: replicas " +
        "begin with empty directories. The directory must be empty, or not there.",
    )
    .argument("<file>", "a file of `cambium backup`")
    .option("-d, --data <dir>", "the directory to make: wal.directory of the node's configuration")
    .option(
      "--keep-cluster-id",
      "let the node belong to the cluster of the backup, which must have no other master any more",
    )
    .option(
      "--check",
      "only read the file and check it: exit code 0 when it is good, 1 with the damaged place when not",
    )
    .option("--json", "print what was found, or made, as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium restore monday.cambium --check\n  $ cambium restore monday.cambium --data /var/lib/cambium",
    )
    .action(async (file: string, _options, command: Command) => {
      const options = command.opts<RestoreFlags>();
      if ((options.data === undefined) === (options.check === undefined)) {
        throw new CliError("usage", "give --data with the directory to make, or --check to only check the file");
      }
      if (options.data === undefined) await check(file, options, terminal);
      else await restore(file, options.data, options, terminal);
    });
}

async function check(file: string, options: RestoreFlags, terminal: Terminal): Promise<void> {
  const { stdout, stderr } = terminal;
  const progress = new Progress({ stream: stderr, clock: new SystemClock(), label: "checking" });
  try {
    progress.total = { bytes: (await fs.stat(file)).size };
    const summary = await naming(file, () =>
      checkBackup(read(file, terminal.signal), { taken: (piece) => progress.add(0, piece.length) }),
    );
    progress.close();
    if (options.json) await writeJson(stdout, { file, ...summaryJson(summary) });
    else await write(stdout, `${file} is good: ${describeBackup(summary)}\n`);
  } finally {
    progress.close();
  }
}

async function restore(file: string, directory: string, options: RestoreFlags, terminal: Terminal): Promise<void> {
  const { stdout, stderr, signal } = terminal;
  const progress = new Progress({ stream: stderr, clock: new SystemClock(), label: "restoring" });
  try {
    await refuseContent(directory);
    const above = await missingAbove(directory);
    // Read twice: once to check it, and once to copy the record log.
    progress.total = { bytes: 2 * (await fs.stat(file)).size };
    const { backup, clusterId, nodeId, keys } = await naming(file, () =>
      restoreBackup({
        fileSystem: new NodeFileSystem(directory),
        clock: new SystemClock(),
        random: { bytes: (length) => new Uint8Array(randomBytes(length)) },
        logger: silentLogger,
        engine: new SlabEngine(),
        read: () => read(file, signal),
        keepClusterId: options.keepClusterId === true,
        recordSegmentBytesMax: RECORD_SEGMENT_BYTES_MAX,
        onProgress: (bytes) => progress.add(0, bytes),
      }),
    );
    // The directory's own name, and those of the ones that were made for it.
    for (const folder of above) await syncFolder(folder);
    progress.close();
    const elapsedMs = Math.round(progress.elapsedMs);
    if (options.json) {
      const made = { data: path.resolve(directory), clusterId, nodeId, keys };
      await writeJson(stdout, { ...made, backup: { file, ...summaryJson(backup) }, elapsedMs });
      return;
    }
    const { to, producedStart, producedEnd } = backup.state;
    const records = producedEnd - producedStart.offset;
    await write(
      stdout,
      `restored ${counted(keys, "key")} and ${counted(records, "record")} of the record log, as they were at epoch ${to.epoch}, ` +
        `seq ${to.seq}, into ${directory} in ${formatDuration(elapsedMs)}\n` +
        `node ${nodeId} of ${options.keepClusterId ? "the same" : "the new"} cluster ${clusterId}; start it with wal.directory: ${directory}\n`,
    );
  } finally {
    progress.close();
  }
}

async function* read(file: string, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  const handle = await fs.open(file, "r");
  try {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** Lets what is wrong with the file name the file. */
async function naming<T>(file: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof BackupError) throw new CliError("failed", `${file}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** The store looks at what it knows; a folder with anything else in it is not to be written into either. */
async function refuseContent(directory: string): Promise<void> {
  let names: string[];
  try {
    names = await fs.readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const [name] = names;
  if (name === undefined) return;
  throw new CliError(
    "failed",
    `${directory} is not empty, it has ${name}; a backup is restored into an empty directory only, name another one`,
  );
}

/** The folders whose names will be new or changed by making this one: from its parent up to the first that is there. */
async function missingAbove(directory: string): Promise<string[]> {
  const folders: string[] = [];
  for (let folder = path.dirname(path.resolve(directory)); ; folder = path.dirname(folder)) {
    folders.push(folder);
    try {
      await fs.access(folder);
      return folders;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
}
