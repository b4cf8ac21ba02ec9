/** Connect over Node's own `http` and `http2`. */
import http from "node:http";
import https from "node:https";
import { createTransport } from "@connectrpc/connect/protocol-connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { Http2Session } from "./http2-session.js";
import type { NodeTransport, TransportFactory } from "./transport.js";
import { wholeRequests } from "./whole-requests.js";

export interface NodeTransportOptions {
  /**
   * `1.1`, the default: a pool of connections, the cheapest for small calls, and one for each stream. `2`: one connection for as
   * many calls and streams as the node takes on one.
   */
  readonly httpVersion?: "1.1" | "2";
  /** Connections to one node over HTTP/1.1, without those of streams; calls beyond wait for one. Default 64. */
  readonly connectionsMax?: number;
  /** Certificates of the authorities that the nodes' certificates are signed by, as PEM. Default: those that Node knows. */
  readonly ca?: string | undefined;
  /** The client's own certificate, as PEM, where the nodes ask for one; with `key`. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** As the library has it: nodes say themselves what is too large. */
const WRITE_BYTES_MAX = 2 ** 32 - 1;
/** Below the 5 s after which Node's servers close an idle connection: a write sent into the closing is an unknown outcome. */
const IDLE_CONNECTION_MS = 4_000;

/** Makes transports over Node's own HTTP. */
export function nodeTransport(options: NodeTransportOptions = {}): TransportFactory {
  const { httpVersion = "1.1", connectionsMax = 64, ca, cert, key } = options;
  const tls = {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  };
  return (baseUrl, { readMaxBytes, interceptors = [] }): NodeTransport => {
    // No compression is asked for: on a node it costs more CPU than all the rest of a call.
    const common = { baseUrl, readMaxBytes, interceptors, acceptCompression: [] };
    if (httpVersion === "2") {
      const session = new Http2Session(baseUrl, tls);
      return {
        transport: createConnectTransport({ ...common, httpVersion, sessionManager: session }),
        isBinary: true,
        close: () => session.abort(),
      };
    }
    const agentOf = (maxSockets: number): http.Agent => {
      const keep = { keepAlive: true, maxSockets, timeout: IDLE_CONNECTION_MS };
      return baseUrl.startsWith("https:") ? new https.Agent({ ...keep, ...tls }) : new http.Agent(keep);
    };
    const [agent, streamAgent] = [agentOf(connectionsMax), agentOf(Infinity)];
    const calls = createTransport({
      ...common,
      httpClient: wholeRequests({ baseUrl, agent, readMaxBytes }),
      useBinaryFormat: true,
      sendCompression: null,
      compressMinBytes: 0,
      writeMaxBytes: WRITE_BYTES_MAX,
    });
    // A stream that stays open, such as a watch, keeps its connection: calls would wait for it without end.
    const streams = createConnectTransport({ ...common, httpVersion, nodeOptions: { agent: streamAgent } });
    return {
      transport: { unary: (...call) => calls.unary(...call), stream: (...call) => streams.stream(...call) },
      isBinary: true,
      close: () => {
        agent.destroy();
        streamAgent.destroy();
      },
    };
  };
}
