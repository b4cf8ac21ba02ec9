/** A backup as messages: small enough for every client, one at a time, and never silent for long. */
import { create } from "@bufbuild/protobuf";
import { type BackupResponse, BackupResponseSchema } from "../../api/gen/cambium/v1/cluster_pb.js";
import type { Clock } from "../base/clock.js";
import { toWire64 } from "../base/position.js";
import { BACKUP_FORMAT, type BackupStream } from "../store/store.js";
import { positionToWire } from "./convert.js";

const CHUNK_BYTES_MAX = 256 * 1024;
/** How often a stream that waits for the snapshot says that it is still there. */
export const PROGRESS_MS = 5000;

export async function* backupMessages(options: {
  readonly stream: BackupStream;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): AsyncGenerator<BackupResponse> {
  const { stream, clock, signal } = options;
  const { header, bytesEstimate, bytes } = stream;
  // Also when nobody comes back for the next message, as after a caller has left.
  const release = (): void => void bytes.return(undefined).catch(() => undefined);
  signal.addEventListener("abort", release, { once: true });
  try {
    yield create(BackupResponseSchema, {
      header: {
        clusterId: header.clusterId,
        position: positionToWire(header.position),
        formatVersion: BACKUP_FORMAT,
        bytesEstimate: toWire64(Math.round(bytesEstimate)),
      },
    });
    for (;;) {
      const next = bytes.next();
      while (!(await settlesWithin(next, { ms: PROGRESS_MS, clock, signal }))) yield create(BackupResponseSchema);
      const { done, value } = await next;
      if (done) return;
      // As even as possible: a piece is mostly a little larger than a message may be.
      const parts = Math.ceil(value.length / CHUNK_BYTES_MAX);
      const size = Math.ceil(value.length / parts);
      for (let at = 0; at < value.length; at += size) {
        const chunk = value.subarray(at, at + size);
        yield create(BackupResponseSchema, {
          // Not a copy: what the stream hands out stays as it is.
          chunk: new Uint8Array(chunk.buffer as ArrayBuffer, chunk.byteOffset, chunk.byteLength),
        });
        signal.throwIfAborted();
      }
    }
  } finally {
    signal.removeEventListener("abort", release);
    // Not awaited: a snapshot that is being taken ends when it is done.
    release();
  }
}

/** Whether a promise settles, either way, in the given time. Rejects with the signal's reason. */
function settlesWithin(
  promise: Promise<unknown>,
  { ms, clock, signal }: { readonly ms: number; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const end = (act: () => void): void => {
      timer.cancel();
      signal.removeEventListener("abort", aborted);
      act();
    };
    const aborted = (): void => end(() => reject(signal.reason as Error));
    const timer = clock.after(ms, () => end(() => resolve(false)));
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
    const settled = (): void => end(() => resolve(true));
    promise.then(settled, settled);
  });
}
