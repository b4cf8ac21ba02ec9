/**
 * Tells torn from corrupt. A crash tears only what had not been synced, and leaves it short or with sectors that were
 * never written; anything else is damage.
 *
 * A disk writes sectors of 512 bytes whole or not at all, and what lies past the data of a segment is zero or not there. So
 * a frame that a crash interrupted either runs past the end of the file, or has a piece, between two 512-byte file
 * offsets, that is all zero.
 */
import { ByteWindow } from "./byte-window.js";
import { allZero } from "./bytes.js";
import type { File } from "./file-system.js";
import { decodeFrameHeader, FLAG_CLEAN_SHUTDOWN, FRAME_HEADER_BYTES, FRAME_MAGIC, frameSeed } from "./frame.js";

const SECTOR_BYTES = 512;
const CHUNK_BYTES = 1024 * 1024;

export interface BadFrame {
  readonly file: File;
  readonly fileEnd: number;
  /** Of the segment that it is in. */
  readonly saltCrc: number;
  readonly offset: number;
  /** Where it should end; undefined when its header is unreadable, so that only the header's own bytes can be judged. */
  readonly frameEnd: number | undefined;
  /** The first record that it held, or would have held. */
  readonly firstSeq: number;
}

/** Why a bad frame of the last segment cannot be the work of a crash; undefined when it is torn. */
export async function whyNotTorn(frame: BadFrame): Promise<string | undefined> {
  const proof = await laterProof(frame);
  if (proof !== undefined) return `the frame at byte ${proof} proves that this one was synced`;
  const end = frame.frameEnd ?? frame.offset + FRAME_HEADER_BYTES;
  if (frame.fileEnd < end || (await hasUnwrittenPiece(frame.file, frame.offset, end))) return undefined;
  return "all its sectors were written, so no crash left it so";
}

/** Offset of a sound frame header after the bad frame that says the bad one was synced. */
async function laterProof(frame: BadFrame): Promise<number | undefined> {
  const window = new ByteWindow(frame.file, frame.fileEnd, CHUNK_BYTES);
  // Where the bad frame ends is not to be believed, so that every byte after its beginning is tried.
  for (let from = frame.offset + 1; from + FRAME_HEADER_BYTES <= frame.fileEnd;) {
    await window.fill(from, FRAME_HEADER_BYTES);
    const available = window.available(from);
    if (available < FRAME_HEADER_BYTES) return undefined;
    const start = window.at(from);
    const lastStart = start + available - FRAME_HEADER_BYTES;
    for (let at = window.bytes.indexOf(FRAME_MAGIC, start); at >= 0 && at <= lastStart;) {
      const offset = from + (at - start);
      const header = decodeFrameHeader(window.bytes, at, frameSeed(frame.saltCrc, offset));
      if (header && (header.syncedSeq >= frame.firstSeq || (header.flags & FLAG_CLEAN_SHUTDOWN) !== 0)) return offset;
      at = window.bytes.indexOf(FRAME_MAGIC, at + 1);
    }
    from += available - FRAME_HEADER_BYTES + 1;
  }
  return undefined;
}

/** Whether one of the pieces of start..end between 512-byte file offsets is all zero. */
async function hasUnwrittenPiece(file: File, start: number, end: number): Promise<boolean> {
  const window = new ByteWindow(file, end, CHUNK_BYTES);
  for (let at = start; at < end;) {
    const pieceEnd = Math.min(end, at - (at % SECTOR_BYTES) + SECTOR_BYTES);
    await window.ensure(at, pieceEnd - at);
    if (allZero(window.bytes, window.at(at), window.at(pieceEnd))) return true;
    at = pieceEnd;
  }
  return false;
}
