/** Forgets clients that have written nothing for so long that none of them will send a write again, on a master. */
import { DueRemovals, type DueRemovalsOptions } from "./due-removals.js";
import type { ClientVersion, RetryTable } from "./retries.js";
import { CLIENTS_A_RECORD_MAX, type RetryLimits, SPARED_MS } from "./retry-guard.js";

export interface ForgetterOptions extends Pick<
  DueRemovalsOptions<ClientVersion>,
  "clock" | "logger" | "nowMs" | "propose"
> {
  readonly table: RetryTable;
  readonly limits: RetryLimits;
  /** Whether something in flight concerns the client. */
  readonly isBusy: (clientId: string) => boolean;
}

const ANSWERS_A_RECORD_MAX = 20_000;

export function forgetterOf(options: ForgetterOptions): DueRemovals<ClientVersion> {
  const { table, limits, nowMs, isBusy } = options;
  // Only a limit that was lowered is passed: writes make the room that they need themselves.
  const patienceMs = (bytes: number): number => (bytes > limits.bytesMax ? SPARED_MS : limits.retentionMs);
  const overdue = (): ClientVersion[][] => {
    const clients: ClientVersion[] = [];
    let answers = 0;
    let freedBytes = 0;
    for (const { id, lastSeq, lastMs, answerCount, bytes } of table.byLastUse()) {
      if (lastMs + patienceMs(table.bytes - freedBytes) > nowMs()) break;
      if (clients.length === CLIENTS_A_RECORD_MAX || answers > ANSWERS_A_RECORD_MAX) break;
      if (isBusy(id)) continue;
      clients.push({ id, lastSeq });
      answers += answerCount;
      freedBytes += bytes;
    }
    return clients.length > 0 ? [clients] : [];
  };
  return new DueRemovals({
    ...options,
    recordsMax: 1,
    nextDueMs: () => (table.oldestMs ?? Infinity) + patienceMs(table.bytes),
    overdue,
    complaint: "clients that write no more cannot be forgotten now; it is tried again",
  });
}
