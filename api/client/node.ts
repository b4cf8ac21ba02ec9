/**
 * The client for Node: the same as `index.ts`, over Node's own HTTP with connections that are kept and counted. Faster than
 * `fetch`, and HTTP/2 without TLS where one connection has to do.
 */
import { CambiumClient } from "./client.js";
import type { ClientOptions } from "./options.js";
import { nodeTransport, type NodeTransportOptions } from "./node-transport.js";

export * from "./index.js";
export { nodeTransport, type NodeTransportOptions };

/** Makes a client. It connects with its first call. Throws `CambiumError` `invalid_argument` for bad options. */
export function createClient(options: ClientOptions & NodeTransportOptions): CambiumClient {
  const { transport = nodeTransport(options), sharedWatches = false } = options;
  return new CambiumClient({ ...options, transport, sharedWatches });
}
