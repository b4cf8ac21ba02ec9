/** What one run of a node may have lost when its machine ended before it did. */
import type { NodeRun } from "./node-file.js";

/**
 * Whether records may be gone that the run before had acknowledged: it did not sync them first, did not end in order, and the
 * machine has been started anew since, as far as anybody knows. The mark of an orderly close at the log's end does not tell: it may be
 * that of an earlier run, when all that came after it is gone.
 */
export function mayHaveLost(before: NodeRun | undefined, now: NodeRun): boolean {
  if (!before || before.durability === "always" || before.isOver) return false;
  return before.bootId === undefined || before.bootId !== now.bootId;
}
