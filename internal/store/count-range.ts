/** How many keys a range has, as the writes in flight leave it. */
import { type EpochMs, epochMs, type Seq, seq as toSeq } from "../base/position.js";
import type { Engine, KeyRange } from "../engine/engine.js";
import { keyName, type Overlay } from "./overlay.js";

/** No more are counted, nor looked at: counting must not hold up the event loop. */
export const COUNTED_MAX = 10_000;
/** By the master's time: nothing is overdue then. */
const BEFORE_ALL_DEADLINES: EpochMs = epochMs(0);

export interface RangeCount {
  /** Absent: there may be more than `COUNTED_MAX`. */
  readonly count?: number;
  /** The highest seq in flight that the count depends on; 0: none. */
  readonly seenSeq: Seq;
}

/** The keys that at `nowMs` are not past their deadline. The engine keeps keys in order. */
export function countRange(
  range: KeyRange,
  { engine, overlay, nowMs }: { readonly engine: Engine; readonly overlay: Overlay; readonly nowMs: EpochMs },
): RangeCount {
  const isOverdue = ({ expiresAtMs }: { readonly expiresAtMs?: EpochMs | undefined }): boolean =>
    expiresAtMs !== undefined && expiresAtMs <= nowMs;
  let count = 0;
  let overdue = 0;
  let seenSeq = 0;
  for (const name of overlay.namesWithin(keyName(range.start), range.end && keyName(range.end))) {
    const inFlight = overlay.look(name)!;
    seenSeq = Math.max(seenSeq, inFlight.modSeq);
    if (inFlight.value && !isOverdue(inFlight)) count++;
    if (count > COUNTED_MAX) return { seenSeq: toSeq(seenSeq) };
  }
  // Overdue keys are hidden, but cost as much; whoever removes the range removes them with it.
  let scan = engine.scan(range, BEFORE_ALL_DEADLINES);
  for (let step = scan.next(); !step.done; step = scan.next()) {
    const entry = step.value;
    const name = keyName(entry.key);
    const removed = overlay.rangeOver(name);
    if (removed) {
      // What was written after the removal is in flight, and counted already.
      seenSeq = Math.max(seenSeq, removed.modSeq);
      if (removed.end === undefined) break;
      scan = engine.scan({ ...range, start: Buffer.from(removed.end, "latin1") }, BEFORE_ALL_DEADLINES);
    } else if (!overlay.look(name)) {
      if (isOverdue(entry)) overdue++;
      else count++;
      if (count > COUNTED_MAX || overdue > COUNTED_MAX) return { seenSeq: toSeq(seenSeq) };
    }
  }
  return { count, seenSeq: toSeq(seenSeq) };
}
