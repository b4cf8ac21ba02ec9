/** What the bench asks of a process that calls a node through a client library, and what it hears back, as JSON. */

export const clientKinds = ["stock-http1", "stock-http2", "single", "cambium", "cambium-http2"] as const;

/** The stock client of Connect over HTTP/1.1 or HTTP/2; ours with `batch: false`, as it is, and over HTTP/2. */
export type ClientKind = (typeof clientKinds)[number];

export interface ClientJob {
  readonly client: ClientKind;
  readonly operation: "get" | "set";
  /** `host:port` */
  readonly address: string;
  /** Each makes its next call as soon as it has its answer. */
  readonly callers: number;
  readonly warmupMs: number;
  readonly measureMs: number;
}

export interface ClientResult {
  readonly calls: number;
  readonly elapsedMs: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of the process, all threads. */
  readonly cpuUs: number;
}

export type ClientReport =
  | { readonly kind: "measuring" }
  | { readonly kind: "measured"; readonly result: ClientResult }
  | { readonly kind: "failed"; readonly message: string };
