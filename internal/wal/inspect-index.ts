/** Compares the index file of a segment with what the segment itself gives. */
import type { FileSystem } from "./file-system.js";
import { FileSystemError } from "./file-system.js";
import { reading } from "./files.js";
import { allZero } from "./bytes.js";
import { crc32 } from "../base/crc32.js";
import type { Finding } from "./inspect.js";
import { indexName } from "./segment-header.js";
import type { Segment } from "./segment.js";

const SECTOR_BYTES = 512;
const CRC_OFFSET = 4;
const CRC_START = 8;

/**
 * What is wrong with the index file of a sound segment. None is no damage, since the next start writes it; the last segment's is
 * written when the segment is sealed, and an older one may lie there until then (`mayDiffer`). An index file is not synced, so one that is
 * cut short or has sectors that were never written is what a crash leaves.
 */
export async function indexFinding(
  fileSystem: FileSystem,
  directory: string,
  segment: Segment,
  mayDiffer: boolean,
): Promise<Finding | undefined> {
  const file = `${directory}/${indexName(segment.firstSeq)}`;
  const expected = segment.indexBytes();
  const found = await readIfThere(fileSystem, file);
  if (!found || found.equals(expected)) return undefined;
  const sum = found.length >= CRC_START ? crc32(found.subarray(CRC_START)) : undefined;
  const isWhole = sum !== undefined && found.readUInt32LE(CRC_OFFSET) === sum;
  if (isWhole && mayDiffer) return undefined;
  const different = firstDifference(found, expected);
  const place = { file, offset: different, reason: "the index is not the segment's; the next start writes it anew" };
  if (isWhole) return { kind: "torn", ...place, expected: "an index of the segment", found: "one of other content" };
  const isUnfinished = found.length < expected.length || hasUnwrittenSector(found);
  return {
    kind: isUnfinished ? "torn" : "corrupt",
    ...place,
    expected: sum === undefined ? `${expected.length} bytes` : `CRC ${sum}`,
    found: sum === undefined ? `${found.length}` : `${found.readUInt32LE(CRC_OFFSET)}`,
  };
}

function firstDifference(a: Buffer, b: Buffer): number {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  return at;
}

function hasUnwrittenSector(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
    if (allZero(bytes, at, Math.min(bytes.length, at + SECTOR_BYTES))) return true;
  }
  return false;
}

async function readIfThere(fileSystem: FileSystem, path: string): Promise<Buffer | undefined> {
  try {
    return await reading(fileSystem, path, async (file) => {
      const bytes = Buffer.alloc(await file.size());
      return bytes.subarray(0, await file.read(bytes, 0));
    });
  } catch (error) {
    if (error instanceof FileSystemError && error.code === "ENOENT") return undefined;
    throw error;
  }
}
