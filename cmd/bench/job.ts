/** What the bench asks of its load generator, and what it hears back; both are JSON, since they travel between processes. */
import type { Operation, Protocol } from "./protocols.js";

/**
 * A closed loop: every caller sends its next request as soon as its last one is answered. Values have a hundred bytes, keys
 * sixteen.
 */
export interface LoadJob {
  readonly kind: "load";
  readonly protocol: Protocol;
  readonly operation: Operation;
  /** `host:port` */
  readonly address: string;
  /** The keys are the first so many (see `keyOf`), in turn; of very many, some thousands by chance. */
  readonly keyCount: number;
  readonly connections: number;
  /** Calls in flight on each connection; more than one over HTTP/2 only. */
  readonly streams: number;
  /** Time before the measurement begins. */
  readonly warmupMs: number;
  /** How long is measured; 0: until every key has had its request once. */
  readonly measureMs: number;
  /** It goes on until so many are answered, or it has taken five seconds longer than it should; absent: three of each caller, and a hundred. */
  readonly operationsMin?: number;
  /** How long a caller waits between an answer and its next request, so that the load is no more than the servers bear; absent: not at all. */
  readonly thinkMs?: number;
}

/** A set of one client, and then a small write and fdatasync on a file that is already as long as it will be; so many of each. */
export interface PairJob {
  readonly kind: "pair";
  readonly protocol: Protocol;
  readonly address: string;
  readonly directory: string;
  readonly bytes: number;
  readonly count: number;
}

/** Connections that stand there, each after one get of the first key; they replace those that stood before. */
export interface HoldJob {
  readonly kind: "hold";
  readonly protocol: Protocol;
  readonly address: string;
  readonly connections: number;
}

/** Watches of one key, which stand from then on. */
export interface WatchJob {
  readonly kind: "watch";
  readonly address: string;
  readonly key: string;
  readonly watches: number;
  readonly watchesAConnection: number;
}

/** Sets of the key that is watched, so many of them at a time that have not come to every watch. */
export interface TellJob {
  readonly kind: "tell";
  readonly window: number;
  readonly measureMs: number;
}

export type Job = LoadJob | PairJob | HoldJob | WatchJob | TellJob;

/** Of a TellJob an operation is one event at one watch. */
export interface LoadResult {
  readonly operations: number;
  readonly elapsedMs: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of the load generator itself while it measured. */
  readonly loaderCpuUs: number;
}

export interface PairResult {
  readonly setP50Us: number;
  readonly setP99Us: number;
  readonly syncP50Us: number;
  readonly syncP99Us: number;
}

/** What the load generator says. `measuring` and `measured` frame the measurement, so that the server's CPU time can be read there. */
export type Report =
  | { readonly kind: "measuring" }
  | { readonly kind: "measured"; readonly result: LoadResult }
  | { readonly kind: "paired"; readonly result: PairResult }
  /** What is to stand, stands. */
  | { readonly kind: "standing" }
  | { readonly kind: "failed"; readonly message: string };
