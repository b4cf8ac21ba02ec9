/**
 * Calls that a program makes at the same time travel to a node as one, by `KVStore.Batch`, and each is answered as if it had
 * travelled alone: a call costs far more than what one key takes of it, here and at the node. Nothing waits for others to come: what was
 * asked for within one tick goes at its end, and a call that is the only one goes as it is.
 *
 * This stands below everything that makes a call what it is: which node it goes to, how often it is tried, what a session sees, which
 * error it ends with. So all of that is the same for a call that was gathered.
 */
import { type CallOptions, Code, ConnectError, type Transport } from "@connectrpc/connect";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import type { BatchError } from "../gen/cambium/v1/kvstore_pb.js";
import {
  type Answers,
  type Asked,
  batchMethod,
  type Kind,
  readResults,
  type Requests,
  type Told,
  writeBatch,
} from "./batch-codec.js";
import { atEndOfTick } from "./end-of-tick.js";
import { GatheredCall } from "./gathered-call.js";

/** The calls that can be gathered, each as the service has it. */
export type KeyCalls = {
  readonly [K in Kind]: (request: Requests[K], options: CallOptions) => Promise<Answers[K]>;
};

export interface GatheredCallsOptions {
  /** To the node; its messages are binary. */
  readonly transport: Transport;
  /** The same calls, each for itself. */
  readonly alone: KeyCalls;
  /** Bytes that an answer may have. */
  readonly readMaxBytes: number;
  /** Throws when no call may be made any more. */
  readonly assertOpen: () => void;
}

/** Operations of a batch. More than these go as several, so that a node answers the one while it is sent the next. */
const OPERATIONS_MAX = 64;
/** Bytes of a batch. No node can be set up to take less than 64 KiB. */
const BYTES_MAX = 48 * 1024;
/** A value from here on travels by a call of its own, so that nothing small waits for it. */
const LARGE_BYTES = 16 * 1024;
/** Of the answers of a batch; a value that does not fit is asked for alone. */
const ANSWER_BYTES_MAX = 256 * 1024;
/** A node that knew no batches is asked again after this time: it may be another version by then. */
const SINGLES_MS = 60_000;

/** Above the levels of reads. */
const FIRST_WRITE = 8;

/** Calls that may share a batch. */
interface Group {
  readonly calls: GatheredCall[];
  readonly noWaiting: boolean;
}

export class GatheredCalls implements KeyCalls {
  readonly #options: GatheredCallsOptions;
  /** What goes at the end of this tick. */
  #groups = new Map<number, Group>();
  #singlesUntilMs = 0;

  constructor(options: GatheredCallsOptions) {
    this.#options = options;
  }

  readonly get: KeyCalls["get"] = (request, options) => {
    // What is asked for together is answered together: so only what waits for the same.
    const { atLeast, atLeastSeq, maxStalenessMs, linearizable = false } = request.consistency ?? {};
    const isFresh = atLeast !== undefined || atLeastSeq !== undefined;
    const level = (isFresh ? 1 : 0) + (maxStalenessMs === undefined ? 0 : 2) + (linearizable ? 4 : 0);
    return this.#gather({ kind: "get", request }, options, level);
  };

  readonly set: KeyCalls["set"] = (request, options) =>
    request.wantPrevious || (request.value?.length ?? 0) >= LARGE_BYTES
      ? this.#options.alone.set(request, options)
      : this.#gather({ kind: "set", request }, options, FIRST_WRITE + (request.acknowledge ?? 0));

  readonly delete: KeyCalls["delete"] = (request, options) =>
    request.wantPrevious
      ? this.#options.alone.delete(request, options)
      : this.#gather({ kind: "delete", request }, options, FIRST_WRITE + (request.acknowledge ?? 0));

  readonly touch: KeyCalls["touch"] = (request, options) =>
    this.#gather({ kind: "touch", request }, options, FIRST_WRITE + (request.acknowledge ?? 0));

  readonly increment: KeyCalls["increment"] = (request, options) =>
    this.#gather({ kind: "increment", request }, options, FIRST_WRITE + (request.acknowledge ?? 0));

  #gather<K extends Kind>(
    asked: Extract<Asked, { readonly kind: K }>,
    options: CallOptions,
    level: number,
  ): Promise<Answers[K]> {
    return new Promise((resolve, reject) => {
      // Its answer is of the kind of the question, which the batch is held to.
      const call = new GatheredCall(asked, options, resolve as (answer: unknown) => void, reject);
      if (call.isEnded) return;
      const { timeoutMs } = options;
      // Times that differ much would let what is short wait for what is long.
      const place = level * 64 + (timeoutMs === undefined ? 63 : Math.floor(Math.log2(timeoutMs)));
      if (this.#groups.size === 0) atEndOfTick(() => this.#send());
      const group = this.#groups.get(place);
      if (group) group.calls.push(call);
      // Linearizable reads all wait for the same; other reads are not to wait for each other.
      else this.#groups.set(place, { calls: [call], noWaiting: level < 4 });
    });
  }

  /** Sends everything that was gathered. */
  #send(): void {
    const groups = this.#groups;
    this.#groups = new Map();
    for (const { calls, noWaiting } of groups.values()) {
      const wanted = calls.filter(({ isEnded }) => !isEnded);
      try {
        this.#options.assertOpen();
        const knowsBatches = performance.now() >= this.#singlesUntilMs;
        for (const these of knowsBatches ? divided(wanted) : [wanted]) {
          if (these.length > 1 && knowsBatches) void this.#sendTogether(these, noWaiting);
          else for (const call of these) this.#sendAlone(call);
        }
      } catch (error) {
        for (const call of wanted) call.fail(error);
      }
    }
  }

  #sendAlone(call: GatheredCall): void {
    const { asked } = call;
    call.giveTo((options) => callAlone(this.#options.alone, asked, options));
  }

  async #sendTogether(calls: readonly GatheredCall[], noWaiting: boolean): Promise<void> {
    const leftMs = calls.map((call) => call.leftMs);
    const longestMs = Math.max(...leftMs);
    const ending = new AbortController();
    let awaited = calls.length;
    for (const call of calls) {
      call.onLeave = () => {
        if (--awaited === 0) ending.abort();
      };
    }
    const timers = endShorter(calls, leftMs, longestMs);
    const maxBytes = Math.min(ANSWER_BYTES_MAX, this.#options.readMaxBytes >>> 1);
    const operations = calls.map(({ asked }, at) => ({
      asked,
      ...(leftMs[at]! < longestMs && { timeoutMs: leftMs[at]! }),
    }));
    try {
      const { message } = await this.#options.transport.unary(
        batchMethod,
        ending.signal,
        longestMs === Infinity ? undefined : longestMs,
        undefined,
        writeBatch(operations, { maxBytes, noWaiting }),
      );
      const results = readResults(message);
      if (results.length !== calls.length) {
        const text = `the node was asked for ${calls.length} operations, and answered ${results.length}`;
        throw new ConnectError(text, Code.Internal);
      }
      for (const [at, call] of calls.entries()) this.#settle(call, results[at]!);
    } catch (error) {
      this.#failed(calls, ConnectError.from(error));
    } finally {
      for (const timer of timers) clearTimeout(timer);
    }
  }

  #settle(call: GatheredCall, told: Told): void {
    if (call.isEnded) return;
    if (told.kind === "left-out") this.#sendAlone(call);
    else if (told.kind === "error") call.fail(errorOf(told.error));
    else if (told.kind === call.asked.kind) call.answer(told.answer);
    else call.fail(new ConnectError(`the node answered a ${call.asked.kind} with a ${told.kind}`, Code.Internal));
  }

  /** The batch as a whole has failed: so has each of its calls, unless the node is one that knows no batches. */
  #failed(calls: readonly GatheredCall[], error: ConnectError): void {
    const isUnknown = error.code === Code.Unimplemented;
    if (isUnknown) this.#singlesUntilMs = performance.now() + SINGLES_MS;
    for (const call of calls) {
      if (isUnknown) this.#sendAlone(call);
      else call.fail(error);
    }
  }
}

function callAlone(alone: KeyCalls, { kind, request }: Asked, options: CallOptions): Promise<Answers[Kind]> {
  switch (kind) {
    case "get":
      return alone.get(request, options);
    case "set":
      return alone.set(request, options);
    case "delete":
      return alone.delete(request, options);
    case "touch":
      return alone.touch(request, options);
    case "increment":
      return alone.increment(request, options);
  }
}

/** In the same order, as many pieces as are needed. */
function divided(calls: readonly GatheredCall[]): GatheredCall[][] {
  const pieces: GatheredCall[][] = [];
  let bytes = Infinity;
  for (const call of calls) {
    const own = call.bytesMax;
    if (bytes + own > BYTES_MAX || pieces.at(-1)!.length >= OPERATIONS_MAX) {
      pieces.push([]);
      bytes = 0;
    }
    pieces.at(-1)!.push(call);
    bytes += own;
  }
  return pieces;
}

/** Ends calls at their own time, whose batch goes on for longer. The longest have the time of the batch. */
function endShorter(
  calls: readonly GatheredCall[],
  leftMs: readonly number[],
  longestMs: number,
): ReturnType<typeof setTimeout>[] {
  const byTime = new Map<number, GatheredCall[]>();
  for (const [at, call] of calls.entries()) {
    const ms = leftMs[at]!;
    if (ms >= longestMs) continue;
    const others = byTime.get(ms);
    if (others) others.push(call);
    else byTime.set(ms, [call]);
  }
  return Array.from(byTime, ([ms, late]) =>
    setTimeout(() => {
      for (const call of late) call.expire();
    }, ms),
  );
}

/** As the transport would have made it of an answer. */
function errorOf({ code, message, details }: BatchError): ConnectError {
  const error = new ConnectError(message, codeFromString(code) ?? Code.Unknown);
  error.details = details.map(({ type, value }) => ({ type, value }));
  return error;
}
