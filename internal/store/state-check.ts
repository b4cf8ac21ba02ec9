/** The checksum of everything that is replicated, by which nodes at the same seq find out whether they are the same. */
import { crc32 } from "../base/crc32.js";
import type { Engine } from "../engine/engine.js";
import { ByteWriter } from "./byte-codec.js";
import { encodeChanges } from "./change.js";
import type { ClusterState } from "./cluster-state.js";
import type { RetryTable } from "./retries.js";
import type { RecordsMark } from "./snapshot-format.js";

const BYTES = 64;

/** Cheap: what is large keeps sums of its own. Unsigned 32 bits. */
export function stateChecksum(state: {
  readonly engine: Pick<Engine, "entryCount" | "dataBytes" | "checksum">;
  readonly cluster: Pick<ClusterState, "settings" | "members">;
  readonly retries: Pick<RetryTable, "clientCount" | "bytes" | "checksum">;
  readonly records: RecordsMark;
}): number {
  const { engine, cluster, retries, records } = state;
  // The order in which members came is no part of the state.
  let members = 0;
  for (const member of cluster.members) members = (members + crc32(encodeChanges([{ kind: "member", member }]))) >>> 0;
  const writer = new ByteWriter(Buffer.alloc(BYTES));
  writer.uint64(engine.entryCount);
  writer.uint64(engine.dataBytes);
  writer.uint32(engine.checksum);
  writer.uint64(records.start);
  writer.uint64(records.end);
  writer.uint32(records.chain);
  writer.uint32(members);
  writer.uint64(retries.clientCount);
  writer.uint64(retries.bytes);
  writer.uint32(retries.checksum);
  return crc32(encodeChanges([{ kind: "settings", settings: cluster.settings }]), crc32(writer.bytes));
}
