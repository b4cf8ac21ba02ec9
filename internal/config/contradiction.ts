/** Settings that are right each by itself and wrong together. */
import type { z } from "zod";
import { formatSize } from "./unit.js";

/** What a message needs besides the key and the value that it carries. */
const messageOverheadBytes = 64 * 1024;

/** All in bytes. */
interface Limits {
  readonly max_key_bytes: number;
  readonly max_value_bytes: number;
  readonly max_message_bytes: number;
  readonly max_pending_bytes: number;
}

interface Records {
  readonly retention_bytes: number;
  readonly max_file_size: number;
}

interface Replication {
  readonly replicas: readonly string[];
  readonly batch_bytes: number;
  readonly window_bytes: number;
}

export function checkLimits(limits: Limits, context: z.RefinementCtx): void {
  const [key, value, message, pending] = [
    formatSize(limits.max_key_bytes),
    formatSize(limits.max_value_bytes),
    formatSize(limits.max_message_bytes),
    formatSize(limits.max_pending_bytes),
  ];
  const smallest = limits.max_key_bytes + limits.max_value_bytes + messageOverheadBytes;
  if (limits.max_message_bytes < smallest) {
    complain(
      context,
      ["max_message_bytes"],
      [
        `is ${message}, which has no room for a key of ${key} and a value of ${value};`,
        `make it ${formatSize(smallest)} or more, or max_value_bytes less`,
      ],
    );
  }
  if (limits.max_pending_bytes < limits.max_message_bytes) {
    complain(
      context,
      ["max_pending_bytes"],
      [`is ${pending}, less than one message may have (max_message_bytes, ${message}); make it larger`],
    );
  }
}

export function checkRecords(records: Records, context: z.RefinementCtx): void {
  if (records.retention_bytes === 0 || records.retention_bytes >= records.max_file_size) return;
  const [bytes, file] = [formatSize(records.retention_bytes), formatSize(records.max_file_size)];
  complain(
    context,
    ["retention_bytes"],
    [`is ${bytes}, less than one file has (max_file_size, ${file}); make it larger, or the files smaller`],
  );
}

export function checkReplication(replication: Replication, context: z.RefinementCtx): void {
  if (replication.window_bytes < replication.batch_bytes) {
    const [batch, window] = [formatSize(replication.batch_bytes), formatSize(replication.window_bytes)];
    complain(
      context,
      ["window_bytes"],
      [`is ${window}, less than one batch has (batch_bytes, ${batch}); make it larger`],
    );
  }
  const seen = new Set<string>();
  replication.replicas.forEach((address, index) => {
    if (seen.has(address)) complain(context, ["replicas", index], [`names ${address} a second time; remove it`]);
    seen.add(address);
  });
}

function complain(context: z.RefinementCtx, path: PropertyKey[], sentences: readonly string[]): void {
  context.addIssue({ code: "custom", path, message: sentences.join(" ") });
}
