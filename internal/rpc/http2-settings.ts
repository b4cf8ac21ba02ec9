/** How HTTP/2 is set up at both ends: windows wide enough for a fast network, bounds on what one connection may hold. */
import type { ClientSessionOptions, ServerOptions } from "node:http2";

/** Of one stream: what the other end may send before we have read. The default, 64 KiB, stalls on every round trip. */
const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
/** Of all streams of a connection together. */
export const CONNECTION_WINDOW_BYTES = 32 * 1024 * 1024;
const HEADER_LIST_BYTES_MAX = 32 * 1024;
/** Of one frame of data that we take. A batch of log in frames of 16 KiB, the default, is four times as many events to the reader. */
const FRAME_BYTES_MAX = 1024 * 1024;

export const clientOptions: ClientSessionOptions = {
  settings: {
    initialWindowSize: STREAM_WINDOW_BYTES,
    maxHeaderListSize: HEADER_LIST_BYTES_MAX,
    enablePush: false,
  },
  // Megabytes. Node takes no answer on a connection where more than this waits to be sent; what may wait is bounded elsewhere.
  maxSessionMemory: 4096,
};

/** `streamsMax`: calls at the same time on one connection. */
export const serverOptionsOf = (streamsMax: number): ServerOptions => ({
  settings: {
    initialWindowSize: STREAM_WINDOW_BYTES,
    maxHeaderListSize: HEADER_LIST_BYTES_MAX,
    maxConcurrentStreams: streamsMax,
    maxFrameSize: FRAME_BYTES_MAX,
  },
  maxHeaderListPairs: 128,
  // Megabytes that one connection may hold in queues and headers before new streams are refused.
  maxSessionMemory: 64,
});
