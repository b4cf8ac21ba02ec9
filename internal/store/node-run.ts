/** What one run of a node may have lost when its machine ended before it did. */
import type { RecoveryReport } from "../wal/log.js";
import type { NodeRun } from "./node-file.js";

/**
 * Whether records may be gone that the run before had acknowledged: it did not sync them first, did not end in order, and the
 * machine has been started anew since, as far as anybody knows.
 */
export function mayHaveLost(
  before: NodeRun | undefined,
  now: NodeRun,
  { cleanShutdown }: Pick<RecoveryReport, "cleanShutdown">,
): boolean {
  if (!before || before.durability === "always" || cleanShutdown) return false;
  return before.bootId === undefined || before.bootId !== now.bootId;
}
