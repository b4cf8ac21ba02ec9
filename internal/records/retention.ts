/** Which records are kept: a rule without a clock or a disk. The master applies it, and logs what follows from it. */
import type { EpochMs } from "../base/position.js";
import type { Extent } from "./extents.js";

export interface RetentionLimits {
  /** Records older than this go. 0: no record goes for its age. */
  readonly ageMs: number;
  /** Bytes of records that are kept at most, headers included. 0: no record goes for the size of the log. */
  readonly bytesMax: number;
}

/**
 * The offset below which records go; undefined when all stay. Whole extents go, oldest first: those whose newest record is too
 * old, and those by which the log has more bytes than it may. The newest extent stays whatever its bytes are.
 */
export function retentionCut(extents: readonly Extent[], limits: RetentionLimits, nowMs: EpochMs): number | undefined {
  let bytes = extents.reduce((sum, extent) => sum + extent.bytes, 0);
  let cut: number | undefined;
  for (const [index, extent] of extents.entries()) {
    const tooOld = limits.ageMs > 0 && extent.newestMs < nowMs - limits.ageMs;
    const tooMuch = limits.bytesMax > 0 && bytes > limits.bytesMax && index < extents.length - 1;
    if (!tooOld && !tooMuch) break;
    bytes -= extent.bytes;
    cut = extent.end;
  }
  return cut;
}
