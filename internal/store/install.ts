/**
 * Puts a master's whole state, which a transfer has brought, in the place of a node's own. `node.json` names the file from
 * before anything is touched until all is done, so that a crash anywhere in between does it all again.
 */
import type { Clock } from "../base/clock.js";
import type { RandomSource, TransferId } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import type { Engine } from "../engine/engine.js";
import type { FileSystem } from "../wal/file-system.js";
import { NodeFileError, type NodeFile } from "./node-file.js";
import { BackupError, buildState, loadBackup, type RestoreOptions } from "./restore.js";
import { removeTransfer, transferBytes } from "./transfer-sink.js";
import { removeAllIn } from "./transfer-source.js";

export interface InstallOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Empty, before and after. */
  readonly engine: Engine;
  readonly recordSegmentBytesMax: number;
}

/** Everything is durable when it resolves. Rejects with `NodeFileError`, `FileSystemError` and `WalError`. */
export async function installTransfer(node: NodeFile, id: TransferId, options: InstallOptions): Promise<void> {
  const { fileSystem, logger, engine } = options;
  logger.info("putting the state that the master sent in the place of this node's own", { id });
  const restore: RestoreOptions = { ...options, read: () => transferBytes(fileSystem, id), keepClusterId: true };
  try {
    // Nothing is removed before the file has been read to its end once more.
    const content = await loadBackup(restore);
    for (const directory of ["snapshots", "records", "wal"]) await removeAllIn(fileSystem, directory);
    await buildState(restore, content, content.summary.header.clusterId);
  } catch (error) {
    if (!(error instanceof BackupError)) throw error;
    throw new NodeFileError(
      `the state that the master sent cannot be used: ${error.message}; start over with an empty directory`,
      { cause: error },
    );
  } finally {
    engine.clear();
  }
  await node.save({ installing: undefined, hasLog: true });
  await removeTransfer(fileSystem, id);
}
