/** What the bench asks of its load generator, and what it hears back; both are JSON, since they travel between processes. */

/**
 * Connect's unary calls over HTTP/1.1, or gRPC over HTTP/2; both carry binary protobuf messages. Or Redis' own protocol: a
 * message is its commands as they are sent, and `expected` the whole answer.
 */
export type Protocol = "connect" | "grpc" | "redis";

/** A closed loop: every caller sends its next request as soon as its last one is answered. */
export interface LoadJob {
  readonly kind: "load";
  readonly protocol: Protocol;
  /** `host:port` */
  readonly address: string;
  readonly path: string;
  /** The messages to send, in turn, as base64. */
  readonly messages: readonly string[];
  /** Bytes that every answer must contain, as base64; empty: any answer that is no error. */
  readonly expected: string;
  readonly connections: number;
  /** Calls in flight on each connection; more than one with gRPC only. */
  readonly streams: number;
  /** Time before the measurement begins. */
  readonly warmupMs: number;
  /** How long is measured; 0: until every message has been sent once. */
  readonly measureMs: number;
  /** How long a caller waits between an answer and its next request, so that the load is no more than the servers bear; absent: not at all. */
  readonly thinkMs?: number;
}

/** Appends and fdatasync, one after the other, on a file that is already as long as it will be. */
export interface SyncJob {
  readonly kind: "sync";
  readonly directory: string;
  readonly bytes: number;
  readonly count: number;
}

export type Job = LoadJob | SyncJob;

export interface LoadResult {
  readonly operations: number;
  readonly elapsedMs: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of the load generator itself while it measured. */
  readonly loaderCpuUs: number;
}

export interface SyncResult {
  readonly p50Us: number;
  readonly p99Us: number;
}

/** What the load generator says. `measuring` and `measured` frame the measurement, so that the server's CPU time can be read there. */
export type Report =
  | { readonly kind: "measuring" }
  | { readonly kind: "measured"; readonly result: LoadResult }
  | { readonly kind: "synced"; readonly result: SyncResult }
  | { readonly kind: "failed"; readonly message: string };
