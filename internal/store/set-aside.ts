/**
 * Data that cannot be trusted is moved into a folder of the data directory, where people may look at it, and the node begins
 * anew, with what others have. `node.json` names the folder from before anything is moved until all is, so that a crash
 * anywhere in between is gone on from.
 */
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { FileSystem } from "../wal/file-system.js";
import { isCorrupt } from "../wal/wal-error.js";
import { BackupError } from "./backup-reader.js";
import { type NodeFile, NodeFileError, type NodeState } from "./node-file.js";
import { SnapshotError } from "./snapshots.js";
import { removeTransfer } from "./transfer-sink.js";

const DIRECTORIES = ["wal", "records", "snapshots"];
const REASON_LENGTH_MAX = 2000;

/** What of a data directory is damaged, when that is why it could not be opened. */
export function damageOf(error: unknown): string | undefined {
  const isDamage =
    error instanceof SnapshotError ||
    isCorrupt(error) ||
    // What a master sent was whole when it was checked.
    (error instanceof NodeFileError && error.cause instanceof BackupError);
  return isDamage ? error.message : undefined;
}

/**
 * Whether others have what this node has acknowledged, so that it may begin anew by itself. Not where it was the last master
 * and decided alone; nor where nobody else can be known.
 */
export function mayBeginAnew({ clusterId, role, masterCommit }: NodeState): boolean {
  return clusterId !== undefined && (role === "replica" || masterCommit === "majority");
}

/** Durable when it resolves: the next start carries it out. Until then this node neither serves nor votes. */
export async function planSetAside(
  node: NodeFile,
  { fileSystem, clock, reason }: { fileSystem: FileSystem; clock: Clock; reason: string },
): Promise<void> {
  assert(node.state.clusterId, "a node has data from the moment on at which it belongs to a cluster");
  if (node.state.settingAside) return;
  const name = `set-aside-${clock.wallMs()}`;
  let folder = name;
  for (let number = 2; await isUsed(fileSystem, folder); number++) folder = `${name}-${number}`;
  await node.save({
    settingAside: { folder, reason: reason.slice(0, REASON_LENGTH_MAX) },
    role: "replica",
    caughtUp: false,
    mustCatchUp: true,
  });
}

/** Does what was planned, or what is left of it. The node then has an empty directory, and is itself. */
export async function carryOutSetAside(node: NodeFile, fileSystem: FileSystem, logger: Logger): Promise<void> {
  const { settingAside } = node.state;
  if (!settingAside) return;
  const { folder, reason } = settingAside;
  // What others send from now on has nothing to do with what was there.
  if (node.state.installing) await removeTransfer(fileSystem, node.state.installing);
  for (const directory of DIRECTORIES) await moveAll(fileSystem, directory, `${folder}/${directory}`);
  await node.save({
    settingAside: undefined,
    setAside: folder,
    installing: undefined,
    hasLog: false,
    masterCommit: undefined,
  });
  logger.error("the data of this node is set aside, and is fetched from the master again", { folder, reason });
}

/** When a folder was made, by its name. */
export function setAsideMsOf(folder: string): number | undefined {
  const ms = /^set-aside-(\d+)/.exec(folder)?.[1];
  return ms === undefined ? undefined : Number(ms);
}

/** The folder, when there is anything in it. */
export async function setAsideFolder(node: NodeFile, fileSystem: FileSystem): Promise<string> {
  const { setAside } = node.state;
  return setAside !== undefined && (await isUsed(fileSystem, setAside)) ? setAside : "";
}

async function isUsed(fileSystem: FileSystem, folder: string): Promise<boolean> {
  for (const directory of DIRECTORIES) {
    if ((await fileSystem.list(`${folder}/${directory}`)).length > 0) return true;
  }
  return false;
}

async function moveAll(fileSystem: FileSystem, from: string, to: string): Promise<void> {
  const names = await fileSystem.list(from);
  if (names.length === 0) return;
  await fileSystem.makeDirectory(to);
  // The folder's own names come to the disk before anything relies on them.
  await fileSystem.syncDirectory(to.slice(0, to.lastIndexOf("/")));
  await fileSystem.syncDirectory("");
  for (const name of names) await fileSystem.rename(`${from}/${name}`, `${to}/${name}`);
  await fileSystem.syncDirectory(to);
  await fileSystem.syncDirectory(from);
}
