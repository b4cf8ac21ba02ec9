/** How much callers may have of a server at once, and how long they may take; what a single request may have is in `limits.ts`. */
export interface ServerLimits {
  /** More would take the files that the log needs; callers beyond are cut off at once. */
  readonly connectionsMax: number;
  /** Of one address, or of one network of IPv6. */
  readonly connectionsPerAddressMax: number;
  /** Calls at the same time on one connection of HTTP/2. */
  readonly streamsMax: number;
  /** Calls at the same time, over all connections; health and other nodes do not count. */
  readonly callsMax: number;
  /** Of requests that have come and are not dealt with, over all connections. */
  readonly arrivingBytesMax: number;
  /** Of answers that a connection may leave unread, before it waits with its further large calls. */
  readonly unreadBytesMax: number;
  /** For a handshake of TLS. */
  readonly handshakeTimeoutMs: number;
  /** For the head of a request, and for the first frame of HTTP/2. */
  readonly headersTimeoutMs: number;
  /** For a whole request to arrive; streams take what they take. */
  readonly requestTimeoutMs: number;
  /** For a connection with no call on it. */
  readonly idleTimeoutMs: number;
  /** For an answer of which nothing is taken. */
  readonly unreadTimeoutMs: number;
}

export const defaultServerLimits: ServerLimits = {
  connectionsMax: 10_000,
  connectionsPerAddressMax: 5000,
  streamsMax: 256,
  callsMax: 20_000,
  arrivingBytesMax: 256 * 1024 * 1024,
  unreadBytesMax: 16 * 1024 * 1024,
  handshakeTimeoutMs: 10_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  // Longer than the minute after which balancers and clients give up connections, so that they do it first.
  idleTimeoutMs: 65_000,
  unreadTimeoutMs: 60_000,
};

/** At the listener for nodes: many times what the nodes of a cluster need, and no more than they can do without. */
export const PEER_CONNECTIONS_MAX = 1000;
/** Nodes may share an address; no address may keep all others out. */
export const PEER_CONNECTIONS_PER_ADDRESS_MAX = 200;
