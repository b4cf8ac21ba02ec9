/** The connections of a node, and what went over them. */
import type { Socket } from "node:net";
import type { Registry } from "../metrics/registry.js";

export interface ConnectionMetrics {
  accepted(): void;
  closed(socket: Socket): void;
  dropped(): void;
}

/** `open`: all that are; `sessions`: of HTTP/2, among them. */
export function connectionMetrics(
  registry: Registry,
  open: readonly (Iterable<Socket> & { readonly size: number })[],
  sessions: { readonly count: number },
): ConnectionMetrics {
  // Counted when a connection is closed; those of the others are added whenever somebody asks.
  let receivedBytes = 0;
  let sentBytes = 0;
  const sum = (closed: number, bytesOf: (socket: Socket) => number): number => {
    let bytes = closed;
    for (const sockets of open) for (const socket of sockets) bytes += bytesOf(socket);
    return bytes;
  };
  registry.gauge({ name: "cambium_connections", help: "Connections that are open." }, () =>
    open.reduce((count, { size }) => count + size, 0),
  );
  registry.gauge(
    { name: "cambium_connections_http2", help: "Connections of HTTP/2 among cambium_connections." },
    () => sessions.count,
  );
  const accepted = registry.counter({
    name: "cambium_connections_accepted_total",
    help: "Connections that were taken.",
  });
  const dropped = registry.counter({
    name: "cambium_connections_dropped_total",
    help: "Connections that were cut off at once, since there were too many.",
  });
  const type = "counter";
  registry.gauge(
    {
      name: "cambium_network_received_bytes_total",
      help: "Bytes that came over connections to this node; with TLS, as they were on the wire.",
      type,
    },
    () => sum(receivedBytes, ({ bytesRead }) => bytesRead),
  );
  registry.gauge(
    {
      name: "cambium_network_sent_bytes_total",
      help: "Bytes that went over connections to this node; with TLS, as they were on the wire.",
      type,
    },
    () => sum(sentBytes, ({ bytesWritten }) => bytesWritten),
  );
  return {
    accepted: () => accepted.increment(),
    closed: (socket) => {
      receivedBytes += socket.bytesRead;
      sentBytes += socket.bytesWritten;
    },
    dropped: () => dropped.increment(),
  };
}
