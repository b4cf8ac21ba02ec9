/** The data directory that the `wal` commands look at. */
import fs from "node:fs/promises";
import { type DirectoryInspection, inspectDirectory, NoDataError } from "../../internal/store/inspect.js";
import type { LockHolder } from "../../internal/wal/directory-lock.js";
import type { Finding } from "../../internal/wal/inspect.js";
import { NodeFileSystem } from "../../internal/wal/node-file-system.js";
import { CliError } from "./cli-error.js";

/** How long a place that a running node may be writing to is left alone before it is read again. */
const PAUSE_MS = 100;

/** Opens a directory to be looked at. Throws `CliError` "usage" when it is none. */
export async function openDirectory(directory: string): Promise<NodeFileSystem> {
  let isDirectory: boolean;
  try {
    isDirectory = (await fs.stat(directory)).isDirectory();
  } catch (error) {
    throw new CliError("usage", `${directory} cannot be looked at: ${(error as Error).message}`);
  }
  if (!isDirectory) throw new CliError("usage", `${directory} is not a directory`);
  return new NodeFileSystem(directory);
}

export interface InspectedDirectory extends DirectoryInspection {
  /** Who the lock names. */
  readonly holder?: LockHolder;
}

/** Reads all of a data directory. Throws `CliError` "usage" when it is not that of a node. */
export async function inspectDataDirectory(directory: string): Promise<InspectedDirectory> {
  const fileSystem = await openDirectory(directory);
  try {
    const inspection = await inspectDirectory({
      fileSystem,
      isHeld: async () => (await fileSystem.lockHolder())?.isAlive === true,
      pause: () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS)),
    });
    const holder = await fileSystem.lockHolder();
    return { ...inspection, ...(holder && { holder }) };
  } catch (error) {
    if (error instanceof NoDataError) throw new CliError("usage", `${directory}: ${error.message}`);
    throw error;
  }
}

/** - `sound`: nothing is wrong; `torn`: only what the next start repairs by itself; `corrupt`: anything else. */
export type Verdict = "sound" | "torn" | "corrupt";

export function verdictOf(findings: readonly Finding[]): Verdict {
  const kinds = new Set(findings.map(({ kind }) => kind));
  for (const harmless of ["in_flight", "given_up"] as const) kinds.delete(harmless);
  if (kinds.size === 0) return "sound";
  return kinds.size === 1 && kinds.has("torn") ? "torn" : "corrupt";
}

/** Such as `corrupt: wal/….wal at byte 80: the log is damaged; expected a frame, found other bytes`. */
export function findingLine({ kind, file, offset, expected, found, reason }: Finding): string {
  const place = offset === undefined ? file : `${file} at byte ${offset}`;
  const difference = [expected && `expected ${expected}`, found && `found ${found}`].filter(Boolean).join(", ");
  return `${kind.replace("_", " ")}: ${place}: ${reason}${difference ? `; ${difference}` : ""}`;
}
