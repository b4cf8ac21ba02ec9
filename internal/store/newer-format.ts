/** What a newer version has written is told before anything of the directory is touched, and before anything is called damaged. */
import { reading } from "../wal/files.js";
import type { FileSystem } from "../wal/file-system.js";
import { decodeSegmentHeader, firstSeqOfName, FORMAT_VERSION, SEGMENT_HEADER_BYTES } from "../wal/segment-header.js";
import { translated, WalError } from "../wal/wal-error.js";
import { FormatError, NewerFormatError } from "./byte-codec.js";
import { decodeHeader, SNAPSHOT_HEADER_BYTES } from "./snapshot-format.js";
import { isSnapshotName, newerSnapshot, SNAPSHOT_DIRECTORY } from "./snapshots.js";

/** `node.json` is judged where it is read. Rejects with `WalError` "newer_format", and "io" where something cannot be read. */
export async function refuseNewerFormats(fileSystem: FileSystem): Promise<void> {
  try {
    for (const directory of ["wal", "records"]) {
      for (const name of await fileSystem.list(directory)) {
        if (firstSeqOfName(name) !== undefined) await checkSegment(fileSystem, `${directory}/${name}`);
      }
    }
    for (const name of await fileSystem.list(SNAPSHOT_DIRECTORY)) {
      if (isSnapshotName(name)) await checkSnapshot(fileSystem, `${SNAPSHOT_DIRECTORY}/${name}`);
    }
  } catch (error) {
    throw translated(error, "looking for what a newer version has written");
  }
}

async function checkSegment(fileSystem: FileSystem, file: string): Promise<void> {
  const bytes = await beginningOf(fileSystem, file, SEGMENT_HEADER_BYTES);
  const decoded = bytes && decodeSegmentHeader(bytes);
  if (decoded?.kind !== "newer") return;
  throw new WalError("newer_format", "the log was written by a newer Cambium: start that one, or a later one", {
    file,
    offset: 8,
    expected: `format version ${FORMAT_VERSION} or lower`,
    found: `${decoded.version}`,
  });
}

async function checkSnapshot(fileSystem: FileSystem, file: string): Promise<void> {
  const bytes = await beginningOf(fileSystem, file, SNAPSHOT_HEADER_BYTES);
  if (!bytes) return;
  try {
    decodeHeader(bytes);
  } catch (error) {
    if (error instanceof NewerFormatError) throw newerSnapshot(file, error);
    // Whoever reads it says so.
    if (!(error instanceof FormatError)) throw error;
  }
}

/** Undefined where the file is shorter. */
function beginningOf(fileSystem: FileSystem, path: string, length: number): Promise<Buffer | undefined> {
  return reading(fileSystem, path, async (file) => {
    const bytes = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const read = await file.read(bytes.subarray(done), done);
      if (read === 0) return undefined;
      done += read;
    }
    return bytes;
  });
}
