/** Removes keys that are past their deadline, on a master. Until then they are hidden. */
import type { Engine } from "../engine/engine.js";
import type { Removal } from "./change.js";
import { DueRemovals, type DueRemovalsOptions } from "./due-removals.js";

export interface ExpirerOptions extends Pick<DueRemovalsOptions<Removal>, "clock" | "logger" | "nowMs" | "propose"> {
  readonly engine: Engine;
  /** Whether a write in flight touches a key: what becomes of it is not known yet. */
  readonly isInFlight: (key: Uint8Array) => boolean;
}

const KEYS_A_RECORD_MAX = 500;
const BYTES_A_RECORD_MAX = 128 * 1024;
/** With three, turns of the event loop came near ten milliseconds, and a million keys were gone no sooner. */
const RECORDS_MAX = 2;

export function expirerOf(options: ExpirerOptions): DueRemovals<Removal> {
  const { engine, nowMs, isInFlight } = options;
  const overdue = (recordsMax: number): Removal[][] | undefined => {
    const due = engine.due(nowMs(), KEYS_A_RECORD_MAX * recordsMax, BYTES_A_RECORD_MAX * recordsMax);
    // The engine looks at so many deadlines at a time; and what a deletion of a range hides it tells nobody.
    if (due.length === 0 && engine.isSettled) return undefined;
    const records: Removal[][] = [];
    let room = { keys: 0, bytes: 0 };
    for (const { key, modSeq } of due) {
      if (isInFlight(key)) continue;
      if (room.keys === 0 || room.bytes <= 0) {
        if (records.length === recordsMax) break;
        records.push([]);
        room = { keys: KEYS_A_RECORD_MAX, bytes: BYTES_A_RECORD_MAX };
      }
      records.at(-1)!.push({ kind: "expire", key, modSeq });
      room.keys--;
      room.bytes -= key.length;
    }
    return records;
  };
  return new DueRemovals({
    ...options,
    recordsMax: RECORDS_MAX,
    nextDueMs: () => engine.nextDueMs,
    overdue,
    complaint: "keys whose time is over cannot be removed now; they are hidden, and tried again",
  });
}
