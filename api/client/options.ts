/** What a client, and each of its calls, may be told. */
import type { ChangeFilter } from "./change-filter.js";
import type { Acknowledge, ReadConsistency } from "./consistency.js";
import type { TokenSource } from "./credential.js";
import type { Condition, IncrementOperation, SetCondition } from "./operation.js";
import type { KeyRange } from "./scan.js";
import type { TransportFactory } from "./transport.js";
import type { RetryIdentity } from "./write-numbers.js";

export interface ClientOptions {
  /** Nodes of one cluster, as `host:port` or URLs, in order of preference for reads. Any node will do: the master is found. */
  readonly endpoints: readonly string[];
  /** For a call with all its tries, unless the call says otherwise. Default 10,000. */
  readonly timeoutMs?: number;
  /**
   * Who this client is to the nodes, where they ask: a token, or what gives one for each call, so that it can be replaced. It
   * goes to every node of the cluster that is called; over plain `http` whoever can read the network reads it too.
   */
  readonly token?: TokenSource | undefined;
  /** How a node is reached. Default: Connect over `fetch`. */
  readonly transport?: TransportFactory;
  /** Bytes that an answer may have, decompressed. Default 8 MiB, twice what a node sends by default. */
  readonly readMaxBytes?: number;
  /** Rounds over all endpoints that a read makes at most while none answers. Default 4. */
  readonly readRounds?: number;
  /** The same for a write, while none takes it: a mastership that changes hands is waited out. Default 5. */
  readonly writeRounds?: number;
  /**
   * Whether a write that may have been done is sent again, under the number under which its answer is remembered, until its
   * time is over. Default true: under an id by chance. `false`: such a write fails with `outcomeUnknown` at once.
   */
  readonly retries?: boolean | RetryIdentity;
  /**
   * Whether reads see at least what this client has seen and written before, at whichever node (see `session`). Default
   * true. Where a failover has lost some of it, one read fails with `lineage_lost`, and the client begins anew.
   */
  readonly session?: boolean;
  /**
   * Whether all watches share one stream, and so one connection. Default: true over `fetch`, since browsers open few
   * connections to a node over HTTP/1.1; false over Node's own HTTP.
   */
  readonly sharedWatches?: boolean;
  /**
   * Whether calls that concern one key, and are made at the same time, travel to a node as one where they can; each is answered as
   * if it had travelled alone. Default true.
   */
  readonly batch?: boolean;
  /** The first pause between two rounds; it doubles up to 2 s, and is jittered. Default 100. */
  readonly retryDelayMs?: number;
  /** How long an endpoint that did not answer is asked last. Default 5,000. */
  readonly avoidMs?: number;
}

export interface CallOptions {
  /** Ends the call with `canceled`. */
  readonly signal?: AbortSignal | undefined;
  /** For the call with all its tries, instead of the client's. */
  readonly timeoutMs?: number | undefined;
}

export interface ReadOptions extends CallOptions, ReadConsistency {}

export interface WriteOptions extends CallOptions {
  /** When the write is answered. Default: once it is committed. */
  readonly acknowledge?: Acknowledge | undefined;
  /**
   * The number of this write, where the caller numbers them: the same one that was sent before under the same
   * `retries.clientId`, perhaps by a process that is no more, is answered as it was then. Default: the next number.
   */
  readonly clientSeq?: number | undefined;
}

export interface SetOptions extends WriteOptions, SetCondition {
  /** Milliseconds from now after which the key expires; absent: it does not. */
  readonly ttlMs?: number | undefined;
  /** The key keeps the deadline that it has. Not with `ttlMs`. */
  readonly keepTtl?: boolean | undefined;
  /** Whether the receipt has what the key was before. */
  readonly wantPrevious?: boolean | undefined;
}

export interface DeleteOptions extends WriteOptions, Condition {
  /** Whether the receipt has what the key was before. */
  readonly wantPrevious?: boolean | undefined;
}

export interface TouchOptions extends WriteOptions, Condition {}

export interface IncrementOptions extends WriteOptions, Omit<IncrementOperation, "kind" | "key" | "delta"> {}

export interface UpdatesOptions extends CallOptions, ChangeFilter {
  /** Whether events have the value before the change, or say that it is compacted. Default false. */
  readonly wantPrevious?: boolean | undefined;
  /** Changes of records after this seq; 0, the default: from the beginning of the log. */
  readonly after?: number;
  /** Instead of `after`: a token of an earlier answer. */
  readonly afterToken?: Uint8Array | undefined;
  /** Events a page, at least, where there are as many. Default: the node's. */
  readonly limit?: number;
  /** Whether to wait for what is yet to come. Default true; when false it ends where the node is up to date. */
  readonly follow?: boolean;
  /** How long the node keeps one call waiting while nothing changes. Default 30,000; at most 60,000. */
  readonly waitMs?: number;
}

export interface ScanOptions extends ReadOptions, KeyRange {
  /** Whether values are left out. Default false. */
  readonly keysOnly?: boolean | undefined;
  /** From the last key down. Default false. */
  readonly reverse?: boolean | undefined;
  /** Entries to read at most. Default: no end by number. */
  readonly limit?: number | undefined;
  /** Entries that a node is asked for at a time, at most 10,000. Default: the node's. */
  readonly pageSize?: number | undefined;
}

export interface ScanPageOptions extends ReadOptions, KeyRange {
  /** Whether values are left out. Default false. */
  readonly keysOnly?: boolean | undefined;
  /** From the last key down. Default false. */
  readonly reverse?: boolean | undefined;
  /** Entries at most, 10,000 or less. Default: the node's. */
  readonly limit?: number | undefined;
  /** `nextPageToken` of the page before, which had the same prefix or range. Absent: the first page. */
  readonly pageToken?: Uint8Array | undefined;
}

export interface ConsumeOptions extends CallOptions {
  /** The first record to read. Absent: the lowest that the node has. */
  readonly offset?: number | undefined;
  /** Records to read at most. Default: no end by number. */
  readonly limit?: number | undefined;
  /** Whether to wait for what is yet to come. Default true; when false it ends where the node's log ends. */
  readonly follow?: boolean;
}

export interface StatusOptions extends CallOptions {
  /** The node to ask, and no other. Default: whichever endpoint answers. */
  readonly endpoint?: string;
}

export interface PromoteOptions extends CallOptions {
  /** The node to make master. Default: the endpoint, where there is one only. */
  readonly endpoint?: string | undefined;
  /** Become master without a majority. What only unreachable nodes have is lost then; see `Cluster.Promote`. */
  readonly force?: boolean | undefined;
}

export interface TransferOptions extends CallOptions {
  /** The node to hand over to, named by either, or by both. Default: the connected member that has the most. */
  readonly nodeId?: string | undefined;
  readonly address?: string | undefined;
}
