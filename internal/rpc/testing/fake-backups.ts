/** Snapshots and backups as simple as they can be, for tests of what stands before them. */
import { epoch, epochMs, seq } from "../../base/position.js";
import type { BackupStream, SnapshotSummary } from "../../store/store.js";
import type { RpcBackups } from "../ports.js";
import { CLUSTER } from "./fake-rooms.js";

export class FakeBackups implements RpcBackups {
  /** What a backup sends, a piece at a time; the first comes at once, the others wait for the gate. */
  pieces: Uint8Array[] = [Buffer.from("header"), Buffer.from("the rest")];
  gate: Promise<void> = Promise.resolve();
  /** Thrown by the next calls, and by backups after their first piece, instead of doing anything more. */
  failure: Error | undefined;
  /** Pieces that were asked for. */
  taken = 0;
  /** Called when a backup has ended, however it did. */
  onEnd: () => void = () => undefined;

  async createSnapshot(): Promise<SnapshotSummary> {
    if (this.failure) throw this.failure;
    const from = { seq: seq(5), epoch: epoch(1), chain: 7 };
    return {
      header: { clusterId: CLUSTER, from, fromTimestampMs: epochMs(0), salt: new Uint8Array(16) },
      end: { to: seq(9), entries: 3, members: 0, checksum: 0 },
      bytes: 1234,
    };
  }

  backup(): BackupStream {
    const position = { epoch: epoch(1), seq: seq(5) };
    return {
      header: { clusterId: CLUSTER, position, salt: new Uint8Array(16) },
      bytesEstimate: 99.5,
      bytes: this.#send(),
    };
  }

  async *#send(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (const [index, piece] of this.pieces.entries()) {
        if (index > 0) await this.gate;
        if (index > 0 && this.failure) throw this.failure;
        this.taken++;
        yield piece;
      }
    } finally {
      this.onEnd();
    }
  }
}
