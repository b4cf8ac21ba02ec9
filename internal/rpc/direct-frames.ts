/**
 * The way past the protocol library for streams that tell many callers the same. The library passes each message of each
 * stream through half a dozen generators, and encodes it anew; a handler whose answer has begun may write finished frames
 * instead, the same bytes to everybody. The library writes what comes before and what ends the stream, an error too: it
 * asks the handler for its next message only once the network has taken the one before, so that neither gets in between.
 *
 * All protocols frame their messages alike, and all let a message be uncompressed in a stream that may have compressed ones.
 */
import { type ContextKey, createContextKey } from "@connectrpc/connect";

export interface DirectFrames {
  /**
   * Writes a frame, for which the network waits for nothing else. Undefined when more may be written at once, else a promise: it
   * resolves when the caller has taken enough, or has left. Throws when the caller's identity has ended.
   */
  write(frame: Uint8Array): Promise<void> | undefined;
}

/** Absent where a call did not come by a connection, or is no stream. */
export const framesKey: ContextKey<DirectFrames | undefined> = createContextKey<DirectFrames | undefined>(undefined);
