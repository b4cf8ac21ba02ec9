/** Snapshots and backups, in plain types. */
import type { BackupHeader, BackupResponse, CreateSnapshotResponse } from "../gen/cambium/v1/cluster_pb.js";
import { CambiumError } from "./cambium-error.js";
import { fromWire, type Position, toPosition } from "./wire.js";

/** A snapshot that a node has written to its disk. */
export interface SnapshotReceipt {
  /** URL of the node. */
  readonly endpoint: string;
  /** Applied when the node began to walk over its state, and when it ended. */
  readonly fromSeq: number;
  readonly toSeq: number;
  /** Keys that it holds. */
  readonly entries: number;
  readonly bytes: number;
  readonly durationMs: number;
}

/** A backup on its way. */
export interface Backup {
  /** URL of the node that sends it. */
  readonly endpoint: string;
  /** 32 hexadecimal digits. */
  readonly clusterId: string;
  /** All that was committed up to here is in the backup, and mostly more. */
  readonly position: Position;
  readonly formatVersion: number;
  /** About how many bytes there will be. */
  readonly bytesEstimate: number;
  /**
   * The bytes of the file, in pieces. It is whole only when the iteration ends without an error; the node keeps what is not
   * read yet, so end the iteration if you do not want the rest.
   */
  readonly chunks: AsyncGenerator<Uint8Array, void, undefined>;
}

export function toSnapshotReceipt(endpoint: string, answer: CreateSnapshotResponse): SnapshotReceipt {
  return {
    endpoint,
    fromSeq: fromWire(answer.fromSeq, "from_seq"),
    toSeq: fromWire(answer.toSeq, "to_seq"),
    entries: fromWire(answer.entries, "entries"),
    bytes: fromWire(answer.bytes, "bytes"),
    durationMs: fromWire(answer.durationMs, "duration_ms"),
  };
}

export function toBackup(
  endpoint: string,
  header: BackupHeader | undefined,
  messages: AsyncGenerator<BackupResponse, void, undefined>,
): Backup {
  if (!header) throw new CambiumError("internal", "the node sent a backup without its header", { endpoint });
  return {
    endpoint,
    clusterId: header.clusterId,
    position: toPosition(header.position),
    formatVersion: header.formatVersion,
    bytesEstimate: fromWire(header.bytesEstimate, "bytes_estimate"),
    chunks: chunksOf(messages),
  };
}

async function* chunksOf(messages: AsyncIterable<BackupResponse>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const { chunk } of messages) if (chunk.byteLength > 0) yield chunk;
}
