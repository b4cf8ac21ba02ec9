/** Connect over Node's own `http` and `http2`. */
import http from "node:http";
import https from "node:https";
import { createConnectTransport } from "@connectrpc/connect-node";
import { Http2Session } from "./http2-session.js";
import type { NodeTransport, TransportFactory } from "./transport.js";

export interface NodeTransportOptions {
  /** `1.1`, the default: a pool of connections, the cheapest for small calls. `2`: one connection for all calls. */
  readonly httpVersion?: "1.1" | "2";
  /** Connections to one node over HTTP/1.1; calls beyond wait for one. Default 64. */
  readonly connectionsMax?: number;
}

/** Below the 5 s after which Node's servers close an idle connection: a write sent into the closing is an unknown outcome. */
const IDLE_CONNECTION_MS = 4_000;

/** Makes transports over Node's own HTTP. */
export function nodeTransport(options: NodeTransportOptions = {}): TransportFactory {
  const { httpVersion = "1.1", connectionsMax = 64 } = options;
  return (baseUrl, { readMaxBytes }): NodeTransport => {
    // No compression is asked for: on a node it costs more CPU than all the rest of a call.
    const common = { baseUrl, readMaxBytes, acceptCompression: [] };
    if (httpVersion === "2") {
      const session = new Http2Session(baseUrl);
      return {
        transport: createConnectTransport({ ...common, httpVersion, sessionManager: session }),
        close: () => session.abort(),
      };
    }
    const { Agent } = baseUrl.startsWith("https:") ? https : http;
    const agent = new Agent({ keepAlive: true, maxSockets: connectionsMax, timeout: IDLE_CONNECTION_MS });
    return {
      transport: createConnectTransport({ ...common, httpVersion, nodeOptions: { agent } }),
      close: () => agent.destroy(),
    };
  };
}
