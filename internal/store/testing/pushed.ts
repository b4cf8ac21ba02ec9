/** For tests: records as a master pushes them, of whatever changes. */
import { seq as toSeq } from "../../base/position.js";
import { encodeRecord, RECORD_HEADER_BYTES } from "../../wal/record.js";
import { type Change, encodeChanges } from "../change.js";
import type { Store } from "../store.js";

/** Appends a record for each list of changes to a replica's log, at the master's time as the replica knows it. Committed is none of it. */
export function appendChanges(replica: Store, records: readonly (readonly Change[])[]): void {
  const payloads = records.map((changes) => encodeChanges(changes));
  const bytes = Buffer.alloc(payloads.reduce((sum, { length }) => sum + RECORD_HEADER_BYTES + length, 0));
  const timestampMs = replica.masterTimeMs();
  const { epoch } = replica.last;
  let { seq, chain } = replica.last;
  let at = 0;
  for (const payload of payloads) {
    seq = toSeq(seq + 1);
    chain = encodeRecord(bytes, at, { seq, epoch, timestampMs }, chain, payload);
    at += RECORD_HEADER_BYTES + payload.length;
  }
  replica.appendRecords(bytes);
}
