/** How long the main thread ran, by the system's own count: its time on a processor, without the wait for one. */
import { openSync, readSync } from "node:fs";

const text = Buffer.alloc(128);
const file = open();

/** Milliseconds; undefined where the system does not tell. */
export function threadRanMs(): number | undefined {
  if (file === undefined) return undefined;
  // The system brings its count up to date at its own ticks, which are some milliseconds apart, and when it is asked in this way.
  process.cpuUsage();
  const length = readSync(file, text, 0, text.length, 0);
  return Number(text.toString("latin1", 0, length).split(" ", 1)[0]) / 1e6;
}

function open(): number | undefined {
  try {
    return openSync(`/proc/self/task/${process.pid}/schedstat`, "r");
  } catch {
    return undefined;
  }
}
