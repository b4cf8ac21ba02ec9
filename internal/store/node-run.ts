/** What one run of a node may have lost when its machine ended before it did. */
import type { Seq } from "../base/position.js";
import type { NodeFile, NodeRun } from "./node-file.js";
import type { StoreOptions } from "./store-types.js";

/**
 * Whether records may be gone that the run before had acknowledged: it did not sync them first, did not end in order, and the
 * machine has been started anew since, as far as anybody knows. The mark of an orderly close at the log's end does not tell: it may be
 * that of an earlier run, when all that came after it is gone.
 */
function mayHaveLost(before: NodeRun | undefined, now: NodeRun): boolean {
  if (!before || before.durability === "always" || before.isOver) return false;
  return before.bootId === undefined || before.bootId !== now.bootId;
}

/** Remembers what this run is, and what the one before may have lost. `syncedSeq`: of the log as it was found. */
export async function noteRun(
  node: NodeFile,
  { durability, bootId, logger }: Pick<StoreOptions, "durability" | "bootId" | "logger">,
  syncedSeq: Seq,
): Promise<void> {
  const { hasLog, run: before } = node.state;
  const run = { durability, ...(bootId !== undefined && { bootId }) };
  const hasLost = mayHaveLost(before, run);
  if (hasLost) {
    logger.warn(
      "the machine may have lost what was acknowledged and not synced; this node must catch up with a master",
      { durability: before?.durability, last_seq: syncedSeq },
    );
  }
  const isKnown = hasLog && before?.bootId === bootId && before?.durability === durability && !before.isOver;
  if (isKnown && !hasLost) return;
  await node.save({ hasLog: true, run, ...(hasLost && { mustCatchUp: true }) });
}
