/**
 * Which node a call goes to, and when it is tried again.
 *
 * A read may be repeated, so it moves on to the next endpoint as soon as one does not answer, and makes a bounded number
 * of rounds with growing, jittered pauses. A write that carries a number, under which the cluster remembers its answer, may
 * be repeated too: where it may have been done already, until its time is over, since only an answer tells. One without a
 * number is sent again only when it is certain that no node took it, because one refused it or the connection was never made.
 * Either way a mastership that changes hands is waited out. All tries together keep to the call's time.
 */
import { type CallOptions, type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { Cluster } from "../gen/cambium/v1/cluster_pb.js";
import { KVStore } from "../gen/cambium/v1/kvstore_pb.js";
import { Log } from "../gen/cambium/v1/log_pb.js";
import { CambiumError, detailsOf } from "./cambium-error.js";
import { endpointUrl } from "./endpoint.js";
import { toCambiumError } from "./error-map.js";
import { encodeKey } from "./message.js";
import { GatheredCalls, type KeyCalls } from "./gathered-calls.js";
import type { NodeTransport, TransportFactory } from "./transport.js";

/** The services of one node. */
export class Endpoint {
  readonly url: string;
  readonly store: Client<typeof KVStore>;
  /** Those of its calls that concern one key, gathered where that is wanted. */
  readonly keys: KeyCalls;
  readonly records: Client<typeof Log>;
  readonly cluster: Client<typeof Cluster>;
  /** Until then, by the monotonic clock, other endpoints are asked first. */
  avoidUntilMs = 0;
  readonly #node: NodeTransport;

  constructor(
    url: string,
    node: NodeTransport,
    {
      batch,
      readMaxBytes,
      assertOpen,
    }: Pick<EndpointPoolOptions, "batch" | "readMaxBytes"> & { assertOpen: () => void },
  ) {
    this.url = url;
    this.#node = node;
    const { transport } = node;
    this.store = createClient(KVStore, transport);
    const alone = callsAlone(this.store, node.getTransport ? createClient(KVStore, node.getTransport) : this.store);
    this.keys = batch && node.isBinary ? new GatheredCalls({ transport, alone, readMaxBytes, assertOpen }) : alone;
    this.records = createClient(Log, node.transport);
    this.cluster = createClient(Cluster, node.transport);
  }

  close(): void {
    this.#node.close?.();
  }
}

/** A request larger than this goes by POST: URLs are limited, by nodes and by what stands between. */
const GET_KEY_BYTES_MAX = 1024;

function callsAlone(store: Client<typeof KVStore>, storeByGet: Client<typeof KVStore>): KeyCalls {
  return {
    get: (request, options) => (fitsUrl(request.key ?? "") ? storeByGet : store).get(request, options),
    set: (request, options) => store.set(request, options),
    delete: (request, options) => store.delete(request, options),
    touch: (request, options) => store.touch(request, options),
    increment: (request, options) => store.increment(request, options),
  };
}

function fitsUrl(key: string): boolean {
  return 3 * key.length <= GET_KEY_BYTES_MAX || encodeKey(key).byteLength <= GET_KEY_BYTES_MAX;
}

export type Call<T> = (endpoint: Endpoint, options: CallOptions) => Promise<T>;

export interface PoolCallOptions {
  /** For the call with all its tries. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ReadCallOptions extends PoolCallOptions {
  /** Time that the node itself is asked to wait; it comes on top of `timeoutMs`. */
  readonly waitMs?: number;
  /** Whether another node, or this one later, may do better although the error says otherwise. */
  readonly retry?: (error: CambiumError) => boolean;
}

export interface WriteCallOptions extends PoolCallOptions {
  /** Whether doing it once more gives the first answer again. */
  readonly isRepeatable?: boolean;
}

export type StreamCall<T> = (endpoint: Endpoint, options: CallOptions) => AsyncIterable<T>;

export interface StreamCallOptions extends PoolCallOptions {
  /** Instead of `timeoutMs`, for finding a node again after a stream that had begun. Infinity: for as long as it takes. */
  readonly resumeMs?: number;
  /** As for a read. */
  readonly retry: (error: CambiumError) => boolean;
  /** Called when a stream that had begun has broken off, before the next one is opened; what it throws ends the matter. */
  readonly broke: (error: CambiumError) => void;
}

export interface EndpointPoolOptions {
  readonly endpoints: readonly string[];
  readonly transport: TransportFactory;
  readonly readMaxBytes: number;
  /** Whether the calls of a tick travel together. */
  readonly batch: boolean;
  readonly interceptors?: Interceptor[];
  /** Rounds over all endpoints that a read makes at most. */
  readonly readRounds: number;
  /** The same for a write, while it is certain that none has taken it. */
  readonly writeRounds: number;
  /** The first pause between two rounds; it doubles, and is jittered by half. */
  readonly retryDelayMs: number;
  /** How long an endpoint that did not answer is asked last. */
  readonly avoidMs: number;
}

/** Longest pause between two rounds. */
const RETRY_DELAY_MAX_MS = 2_000;
/** A try of a write that can be repeated takes half of the time that is left, so that a node which swallows it does not take all. */
const WRITE_TRY_MS_MIN = 1_000;
/** A stream on which nothing comes for so long is broken: nodes say something every 5 seconds. */
const STREAM_SILENCE_MS = 20_000;
/** Masters that were learned and are not among the endpoints; the oldest is forgotten. */
const LEARNED_ENDPOINTS_MAX = 256;
/** Timers of JavaScript fire at once above this. */
const TIMER_MAX_MS = 2_147_483_647;

export class EndpointPool {
  readonly #options: EndpointPoolOptions;
  /** In the caller's order of preference. */
  readonly #endpoints: readonly Endpoint[];
  readonly #learned = new Map<string, Endpoint>();
  /** Where the last write was taken, or NotMaster pointed to. */
  #master: Endpoint | undefined;
  #isClosed = false;
  /** Each ends a stream that is open. */
  readonly #streams = new Set<AbortController>();

  constructor(options: EndpointPoolOptions) {
    this.#options = options;
    const urls = new Set(options.endpoints.map((endpoint) => endpointUrl(endpoint)));
    if (urls.size === 0) throw new CambiumError("invalid_argument", "endpoints must name one node at least");
    this.#endpoints = [...urls].map((url) => this.#open(url));
  }

  /** The endpoints' URLs, in order of preference. */
  get urls(): readonly string[] {
    return this.#endpoints.map(({ url }) => url);
  }

  /** One try at one node, which need not be among the endpoints. `write`: whether it changes something. */
  async at<T>(endpoint: string, call: Call<T>, options: PoolCallOptions & { readonly write?: boolean }): Promise<T> {
    this.#assertOpen();
    const target = this.#get(endpointUrl(endpoint));
    return await this.#try(target, call, options.timeoutMs, options.write ?? false, options.signal);
  }

  /** A call without side effects, at whichever node answers. */
  async read<T>(call: Call<T>, options: ReadCallOptions): Promise<T> {
    const { signal, timeoutMs, waitMs = 0, retry } = options;
    const deadlineMs = performance.now() + timeoutMs;
    let before: CambiumError | undefined;
    for (let round = 1; ; round++) {
      const failures: CambiumError[] = [];
      const order = this.#readOrder();
      for (const [index, endpoint] of order.entries()) {
        this.#assertOpen();
        // A node that swallows requests must not eat the time that the others need.
        const shareMs = (deadlineMs - performance.now()) / (order.length - index);
        if (shareMs <= 0) break;
        try {
          const answer = await this.#try(endpoint, call, shareMs + waitMs, false, signal);
          endpoint.avoidUntilMs = 0;
          return answer;
        } catch (error) {
          if (!(error instanceof CambiumError)) throw error;
          if (isNodeFailure(error)) endpoint.avoidUntilMs = performance.now() + this.#options.avoidMs;
          // A node that lags is as good as any for other reads, and by and by for this one.
          else if (error.code !== "not_fresh_enough" && !retry?.(error)) throw error;
          failures.push(error);
        }
      }
      before = summary(failures, { before });
      const delayMs = this.#delayMs(round);
      if (round >= this.#options.readRounds || performance.now() + delayMs >= deadlineMs) throw before;
      await pause(delayMs, signal);
    }
  }

  /**
   * A stream without side effects, at whichever node answers; where it breaks off, another one goes on. `timeoutMs` is for
   * finding a node, each time anew: the first time in no more rounds than a read, later for as long as it takes.
   */
  async *stream<T>(call: StreamCall<T>, options: StreamCallOptions): AsyncGenerator<T, void, undefined> {
    const { timeoutMs, resumeMs = timeoutMs, retry, broke, signal } = options;
    let deadlineMs = performance.now() + timeoutMs;
    let roundsMax = this.#options.readRounds;
    let before: CambiumError | undefined;
    for (let round = 1; ; round++) {
      const failures: CambiumError[] = [];
      const order = this.#readOrder();
      for (const [index, endpoint] of order.entries()) {
        this.#assertOpen();
        // Where there is no end to the looking, a node that swallows the request must not be waited for that long.
        const shareMs = Math.min(timeoutMs, deadlineMs - performance.now()) / (order.length - index);
        if (shareMs <= 0) break;
        let hasBegun = false;
        try {
          for await (const message of this.#watched(endpoint, call, shareMs, signal)) {
            hasBegun = true;
            endpoint.avoidUntilMs = 0;
            yield message;
          }
          return;
        } catch (error) {
          if (!(error instanceof CambiumError)) throw error;
          if (isNodeFailure(error)) endpoint.avoidUntilMs = performance.now() + this.#options.avoidMs;
          else if (!retry(error)) throw error;
          failures.push(error);
          if (!hasBegun) continue;
          broke(error);
          round = 0;
          roundsMax = Number.POSITIVE_INFINITY;
          deadlineMs = performance.now() + resumeMs;
          break;
        }
      }
      before = summary(failures, { before });
      const delayMs = this.#delayMs(Math.max(1, round));
      if (round >= roundsMax || performance.now() + delayMs >= deadlineMs) throw before;
      await pause(delayMs, signal);
    }
  }

  /**
   * A call for the master, wherever it is, that is done once. While no node takes it (a master is about to be, another one
   * does not know yet that it is none any more) it is sent again, in rounds as for a read. One that is repeatable is also
   * sent again where it may have been done, until an answer tells or its time is over.
   */
  async write<T>(call: Call<T>, { signal, timeoutMs, isRepeatable = false }: WriteCallOptions): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    let unknown: CambiumError | undefined;
    let before: CambiumError | undefined;
    const asking = {
      deadlineMs,
      signal,
      isRefusal: isRepeatable ? isRepeatableWrite : isRefusedWrite,
      tryMs: (leftMs: number) => (isRepeatable ? Math.min(leftMs, Math.max(leftMs / 2, WRITE_TRY_MS_MIN)) : leftMs),
      failed: (error: CambiumError) => {
        // Where the write would be is told by few of its tries, and holds for all.
        if (error.outcomeUnknown && (error.position || !unknown?.position)) unknown = error;
      },
    };
    try {
      for (let round = 1; ; round++) {
        const outcome = await this.#askMaster(call, { ...asking, before });
        if ("answer" in outcome) return outcome.answer;
        before = outcome.error;
        const delayMs = this.#delayMs(round);
        const isLast = !unknown && round >= this.#options.writeRounds;
        if (isLast || performance.now() + delayMs >= deadlineMs) throw outcome.error;
        await pause(delayMs, signal);
      }
    } catch (error) {
      throw error instanceof CambiumError ? afterUnknown(error, unknown) : error;
    }
  }

  /** An operator's call for the master, wherever it is: each node is asked once, and what the master answers stands. */
  async command<T>(call: Call<T>, { signal, timeoutMs }: PoolCallOptions): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    const outcome = await this.#askMaster(call, { deadlineMs, signal, isRefusal: isElsewhere });
    if ("answer" in outcome) return outcome.answer;
    throw outcome.error;
  }

  /** One round. Throws whatever is no refusal. */
  async #askMaster<T>(
    call: Call<T>,
    {
      deadlineMs,
      signal,
      isRefusal,
      tryMs = (leftMs) => leftMs,
      failed,
      before,
    }: {
      readonly deadlineMs: number;
      readonly signal: AbortSignal | undefined;
      readonly isRefusal: (error: CambiumError) => boolean;
      /** How much of the time that is left one try may take. */
      readonly tryMs?: (leftMs: number) => number;
      /** Told of each error, before the next try. */
      readonly failed?: (error: CambiumError) => void;
      /** What the round before ended with. */
      readonly before?: CambiumError | undefined;
    },
  ): Promise<{ readonly answer: T } | { readonly error: CambiumError }> {
    const asked = new Set<Endpoint>();
    const failures: CambiumError[] = [];
    let target: Endpoint | undefined = this.#master ?? this.#endpoints[0];
    while (target) {
      this.#assertOpen();
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) break;
      asked.add(target);
      try {
        const answer = await this.#try(target, call, tryMs(leftMs), true, signal);
        this.#master = target;
        return { answer };
      } catch (error) {
        if (!(error instanceof CambiumError)) throw error;
        // Also where this call ends: the next one is to find the master where it is then.
        if (this.#master === target && (isRefusal(error) || isSilence(error))) this.#master = undefined;
        failed?.(error);
        if (!isRefusal(error)) throw error;
        failures.push(error);
        // Each node is asked once a round, so that two that name each other do not keep the call going.
        const hint = this.#hinted(error, target);
        if (hint && !asked.has(hint)) target = this.#master = hint;
        else target = this.#endpoints.find((endpoint) => !asked.has(endpoint));
      }
    }
    // What the master says, or that it cannot be reached, tells more than the replicas' pointing to it.
    const telling = ["outcome_unknown", "unavailable", "unreachable"] as const;
    return {
      error: summary(failures, {
        before,
        code: telling.find((code) => failures.some((failure) => failure.code === code)),
      }),
    };
  }

  close(): void {
    this.#isClosed = true;
    for (const stream of this.#streams) stream.abort();
    for (const endpoint of [...this.#endpoints, ...this.#learned.values()]) endpoint.close();
    this.#learned.clear();
  }

  async #try<T>(
    endpoint: Endpoint,
    call: Call<T>,
    timeoutMs: number,
    write: boolean,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const failed = { endpoint: endpoint.url, write, signal, timeoutMs };
    if (signal?.aborted) throw toCambiumError(signal.reason, { ...failed, write: false });
    try {
      return await call(endpoint, {
        ...(timeoutMs <= TIMER_MAX_MS && { timeoutMs: Math.max(1, Math.ceil(timeoutMs)) }),
        ...(signal && { signal }),
      });
    } catch (error) {
      throw toCambiumError(error, failed);
    }
  }

  /** A stream that ends with an error once nothing comes for too long, and that is ended with the iteration. */
  async *#watched<T>(
    endpoint: Endpoint,
    call: StreamCall<T>,
    firstMs: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<T, void, undefined> {
    const failed = { endpoint: endpoint.url, write: false, signal };
    if (signal?.aborted) throw toCambiumError(signal.reason, failed);
    const ending = new AbortController();
    const abort = (): void => ending.abort(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.#streams.add(ending);
    let silence: CambiumError | undefined;
    const watch = (ms: number): ReturnType<typeof setTimeout> =>
      setTimeout(
        () => {
          silence = new CambiumError("unreachable", `${endpoint.url} has said nothing for ${Math.ceil(ms)} ms`);
          ending.abort(silence);
        },
        Math.min(ms, TIMER_MAX_MS),
      );
    let timer = watch(firstMs);
    const messages = call(endpoint, { signal: ending.signal })[Symbol.asyncIterator]();
    try {
      for (let next = await messages.next(); next.done !== true; next = await messages.next()) {
        // However long the reader takes is not the node's silence.
        clearTimeout(timer);
        yield next.value;
        timer = watch(STREAM_SILENCE_MS);
      }
    } catch (error) {
      if (!signal?.aborted) this.#assertOpen();
      throw silence ?? toCambiumError(error, failed);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      this.#streams.delete(ending);
      // Before the iteration is ended, which does not tell the node by itself: it would go on sending to a reader that has left.
      ending.abort();
      // What it says to that is that it was aborted.
      await messages.return?.()?.catch(() => undefined);
    }
  }

  /** The caller's order, those that did not answer lately last. */
  #readOrder(): Endpoint[] {
    const nowMs = performance.now();
    const isAvoided = (endpoint: Endpoint): number => (endpoint.avoidUntilMs > nowMs ? 1 : 0);
    return this.#endpoints.toSorted((a, b) => isAvoided(a) - isAvoided(b));
  }

  #hinted(error: CambiumError, from: Endpoint): Endpoint | undefined {
    if (error.masterAddress === undefined) return undefined;
    try {
      return this.#get(endpointUrl(error.masterAddress, from.url.startsWith("https:") ? "https:" : "http:"));
    } catch (reason) {
      if (reason instanceof CambiumError) return undefined;
      throw reason;
    }
  }

  #get(url: string): Endpoint {
    const known = this.#endpoints.find((endpoint) => endpoint.url === url) ?? this.#learned.get(url);
    if (known) return known;
    const endpoint = this.#open(url);
    this.#learned.set(url, endpoint);
    if (this.#learned.size > LEARNED_ENDPOINTS_MAX) {
      const [oldestUrl, oldest] = this.#learned.entries().next().value!;
      this.#learned.delete(oldestUrl);
      oldest.close();
    }
    return endpoint;
  }

  #open(url: string): Endpoint {
    const { transport, readMaxBytes, interceptors, batch } = this.#options;
    const node = transport(url, { readMaxBytes, ...(interceptors && { interceptors }) });
    return new Endpoint(url, node, { batch, readMaxBytes, assertOpen: () => this.#assertOpen() });
  }

  #delayMs(round: number): number {
    const fullMs = Math.min(RETRY_DELAY_MAX_MS, this.#options.retryDelayMs * 2 ** (round - 1));
    return fullMs * (0.5 + Math.random() / 2);
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new CambiumError("canceled", "the client is closed");
  }
}

/** Whether the node, not the request, is the trouble. */
function isNodeFailure({ code }: CambiumError): boolean {
  return code === "unavailable" || code === "unreachable" || code === "deadline_exceeded";
}

/** Whether another node may be the master that this one is not. */
function isElsewhere({ code }: CambiumError): boolean {
  return code === "not_master" || code === "unreachable";
}

/** Whether it is certain that the node has not done the write, and another one, or the same one later, may. */
function isRefusedWrite(error: CambiumError): boolean {
  return isElsewhere(error) || (error.code === "unavailable" && !error.outcomeUnknown);
}

/** Whether the same write may be sent again although it may have been done. */
function isRepeatableWrite(error: CambiumError): boolean {
  return isElsewhere(error) || error.code === "unavailable" || isSilence(error);
}

/** Whether nothing was heard of what became of the call. */
function isSilence({ code }: CambiumError): boolean {
  return code === "outcome_unknown" || code === "deadline_exceeded";
}

/** What only a master says that knows of no earlier try, and that holds for all tries: this write was not done. */
const DEFINITE: ReadonlySet<CambiumError["code"]> = new Set(["condition_failed", "not_an_integer", "out_of_bounds"]);

/** An error of a write, of which an earlier try may have been done. */
function afterUnknown(error: CambiumError, unknown: CambiumError | undefined): CambiumError {
  if (!unknown || DEFINITE.has(error.code)) return error;
  if (error.outcomeUnknown && (error.position || !unknown.position)) return error;
  const ownEnd = error.code === "canceled" || error.code === "deadline_exceeded";
  const said = error.message.includes(unknown.message) ? error.message : `${unknown.message}; then ${error.message}`;
  return new CambiumError(ownEnd ? error.code : "outcome_unknown", said, {
    ...(unknown.endpoint !== undefined && { endpoint: unknown.endpoint }),
    outcomeUnknown: true,
    ...(unknown.position && { position: unknown.position }),
    cause: error,
  });
}

/** One error for all the tries of a round; the one of the round `before` stands where no time was left to ask anybody. */
function summary(
  failures: readonly CambiumError[],
  { before, code }: { readonly before?: CambiumError | undefined; readonly code?: CambiumError["code"] | undefined },
): CambiumError {
  const last = failures.at(-1);
  if (!last && before) return before;
  if (!last) return new CambiumError("deadline_exceeded", "the call's time was over before a node could be asked");
  if (failures.length === 1) return last;
  const said = failures.findLast((failure) => failure.code === (code ?? last.code)) ?? last;
  const masterAddress = said.masterAddress ?? failures.findLast((failure) => failure.masterAddress)?.masterAddress;
  return new CambiumError(said.code, messageOf(failures), {
    ...detailsOf(said),
    ...(masterAddress !== undefined && { masterAddress }),
    cause: said,
  });
}

/** Each message once, with the nodes that said it where it does not name them itself. */
function messageOf(failures: readonly CambiumError[]): string {
  const nodes = new Map<string, string[]>();
  for (const { message, endpoint = "" } of failures) {
    const node = endpoint.replace(/^https?:\/\//, "");
    const named = nodes.get(message) ?? [];
    if (node !== "" && !message.includes(node) && !named.includes(node)) named.push(node);
    nodes.set(message, named);
  }
  return [...nodes].map(([message, by]) => (by.length > 0 ? `${by.join(", ")}: ${message}` : message)).join("; ");
}

/** Waits; ends with `canceled` as soon as the signal fires. */
function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(new CambiumError("canceled", "the call was canceled", { cause: signal?.reason }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, delayMs);
    if (signal?.aborted) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
  });
}
