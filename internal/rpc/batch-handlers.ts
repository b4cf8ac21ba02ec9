/**
 * `KVStore.Batch`: operations that have nothing to do with each other but that they came together. Each goes the way that a call of
 * its own would go, and what it ends with, well or badly, becomes its result.
 */
import { setMaxListeners } from "node:events";
import { create, type DescMethod, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import {
  type BatchErrorSchema,
  type BatchOperation,
  type BatchRequest,
  BatchRequestSchema,
  type BatchResponseSchema,
  type GetRequest,
  KVStore,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { Access } from "../identity/access.js";
import { IdentityError } from "../identity/identity-error.js";
import type { Identity } from "../identity/role.js";
import { identityKey, jsonKey } from "./adapter.js";
import { AnswerRoom } from "./answer-room.js";
import type { BatchCounts } from "./batch-counts.js";
import { type BatchReadOptions, BatchReads } from "./batch-reads.js";
import { BatchResults, responseOf, type Result } from "./batch-results.js";
import { callKey, codeName } from "./call-log.js";
import { positionToWire, stalenessToWire } from "./convert.js";
import type { ErrorMap } from "./errors.js";
import { entryToWire } from "./entries.js";
import { checkCount } from "./limits.js";
import { methodName } from "./method-name.js";
import { type MethodRule, methodTable } from "./method-table.js";
import { RequestError } from "./request-error.js";
import { isNotMaster } from "./write-forwarder.js";
import { type WriteHandlerOptions, writeHandlers } from "./write-handlers.js";

export interface BatchHandlerOptions extends WriteHandlerOptions, BatchReadOptions {
  readonly store: WriteHandlerOptions["store"] & BatchReadOptions["store"];
  readonly clock: Clock;
  readonly access: Pick<Access, "checkRole" | "checkKeys">;
  readonly errors: Pick<ErrorMap, "toConnectError">;
  readonly batchCounts: Pick<BatchCounts, "add">;
}

type Handlers = Pick<ServiceImpl<typeof KVStore>, "get" | "set" | "delete" | "touch" | "increment">;
type Part = Exclude<BatchOperation["operation"], { readonly case: undefined }>;
export type PartKind = Part["case"];
/** What became of an operation: bytes, unless the answer is to be JSON. */
interface Ended {
  readonly result: Result | Uint8Array;
  /** For the metrics; undefined: it was not carried out. */
  readonly code: string | undefined;
}
type Outcome =
  | Ended
  /** A write that only the master takes; nothing was changed. */
  | { readonly part: Part; readonly notMaster: unknown };

/** What a call of its own would be called, and held to. */
const callOf = {
  get: callTo(KVStore.method.get),
  set: callTo(KVStore.method.set),
  delete: callTo(KVStore.method.delete),
  touch: callTo(KVStore.method.touch),
  increment: callTo(KVStore.method.increment),
} satisfies Readonly<Record<PartKind, unknown>>;

/** Nobody is told of it, and one that is made anew gathers its stack each time. */
const UNWANTED = new Error("the read would have had to wait");

export function batchHandlers(
  options: BatchHandlerOptions,
  get: Handlers["get"],
): Pick<ServiceImpl<typeof KVStore>, "batch"> {
  const passingOn: Handlers = { get, ...writeHandlers(options) };
  const here = { ...options, forwarder: { hereOrForward: (...[, , , write]) => write() } satisfies Forwarder };
  const stayingHere: Handlers = { get, ...writeHandlers(here) };
  return {
    async batch(request, context) {
      checkCount(request.operations.length, "operations");
      return new Batch(request, context, options, { stayingHere, passingOn }).carryOut();
    },
  };
}

type Forwarder = WriteHandlerOptions["forwarder"];

function callTo(method: DescMethod): { readonly name: string; readonly rule: MethodRule | undefined } {
  const name = methodName(method);
  return { name, rule: methodTable.get(name) };
}

class Batch {
  readonly #request: BatchRequest;
  readonly #context: HandlerContext;
  readonly #options: BatchHandlerOptions;
  readonly #handlers: { readonly stayingHere: Handlers; readonly passingOn: Handlers };
  readonly #room: AnswerRoom;
  readonly #reads: BatchReads;
  readonly #identity: Identity | undefined;
  /** Ends reads that turn out to wait, where none is to. */
  readonly #unwanted = new AbortController();
  readonly #atOnce: HandlerContext;
  readonly #isJson: boolean;
  readonly #results = new BatchResults();
  #isWriteLeftOut = false;

  constructor(
    request: BatchRequest,
    context: HandlerContext,
    options: BatchHandlerOptions,
    handlers: { readonly stayingHere: Handlers; readonly passingOn: Handlers },
  ) {
    this.#request = request;
    this.#context = context;
    this.#identity = context.values.get(identityKey);
    this.#isJson = context.values.get(jsonKey);
    this.#atOnce = { ...context, signal: this.#unwanted.signal };
    this.#options = options;
    this.#handlers = handlers;
    // Every operation may listen to them.
    setMaxListeners(0, context.signal, this.#unwanted.signal);
    this.#room = new AnswerRoom(request, options.limits);
    this.#reads = new BatchReads(options, this.#room, this.#unwanted.signal);
  }

  async carryOut(): Promise<MessageInitShape<typeof BatchResponseSchema>> {
    const { operations } = this.#request;
    const begun = operations.map((operation, index) => this.#begin(operation, index));
    this.#unwanted.abort(UNWANTED);
    const passedOn = this.#passOn(begun);
    const results: (Result | Uint8Array)[] = [];
    for (const [index, each] of begun.entries()) {
      const outcome = each instanceof Promise ? await each : each;
      const ended = "result" in outcome ? outcome : (await passedOn).get(index);
      assert(ended, "a write that is for the master has been passed on, or been refused");
      results.push(ended.result);
      const kind = operations[index]?.operation.case;
      if (kind) this.#options.batchCounts.add(kind, ended.code);
    }
    // All of it is sent in one go.
    await this.#options.large.turnFor(this.#room.usedBytes, this.#context);
    return this.#isJson ? { results: results as Result[] } : responseOf(results as Uint8Array[]);
  }

  /** In this very tick: what comes later in the batch is to come later in the log too. */
  #begin({ operation: part, timeoutMs }: BatchOperation, index: number): Outcome | Promise<Outcome> {
    if (part.case === undefined) {
      const text = `operations[${index}] is empty; give it a get, a set, a delete, a touch or an increment`;
      return this.#ended(errorOf(this.#told(new RequestError("invalid", text), "cambium.v1.KVStore/Batch")));
    }
    if (!this.#hasRoomFor(part)) return this.#leftOut();
    const isAtOnce = part.case === "get" && this.#request.noWaiting;
    const { context, end } = isAtOnce ? { context: this.#atOnce, end: undefined } : this.#withTime(timeoutMs);
    const ended = (outcome: Outcome): Outcome => {
      end?.();
      return outcome;
    };
    try {
      this.#check(part);
      if (isAtOnce) return this.#readAtOnce(part.value);
      const answer = answerOf(part, this.#handlers.stayingHere, context);
      if (!(answer instanceof Promise)) return ended(this.#kept(answer));
      return answer.then(
        (result) => ended(this.#kept(result)),
        (error: unknown) => ended(this.#failed(part, error, context)),
      );
    } catch (error) {
      return ended(this.#failed(part, error, context));
    }
  }

  /** What each call of its own is held to before its handler is asked. */
  #check(part: Part): void {
    const { name, rule } = callOf[part.case];
    const { access } = this.#options;
    const identity = this.#identity;
    if (!identity || !rule) throw new IdentityError("not_allowed", `nobody may call ${name}`);
    access.checkRole(name, identity);
    if (identity.prefixes) access.checkKeys(name, identity, rule.reach(part.value));
  }

  /** How large the answer to a read is shows when it is there; that of a write must have its room before. */
  #hasRoomFor(part: Part): boolean {
    if (part.case === "get") return !this.#room.isGone;
    const wantsPrevious = (part.case === "set" || part.case === "delete") && part.value.wantPrevious;
    const bytes = wantsPrevious ? this.#options.limits.valueBytesMax : 0;
    if (this.#isWriteLeftOut || !this.#room.take(bytes)) this.#isWriteLeftOut = true;
    return !this.#isWriteLeftOut;
  }

  #kept(result: Result): Outcome {
    const answer = result.result;
    const isRead = answer?.case === "get";
    if (!isRead || this.#room.take(answer.value.value?.byteLength ?? 0)) return this.#ended(result);
    return this.#leftOut();
  }

  /** The same as a get of its own, for many of them in a row, of which none waits. */
  #readAtOnce(request: GetRequest): Outcome {
    const found = this.#reads.read(request);
    if (!found) return this.#leftOut();
    const { entry, place } = found;
    if (!this.#isJson) return { result: this.#results.get(entry, place), code: "ok" };
    const value = {
      ...entryToWire(entry, place.nowMs),
      position: positionToWire(place.position),
      ...stalenessToWire(place.stalenessMs),
      token: place.token,
    };
    return { result: { result: { case: "get", value } }, code: "ok" };
  }

  #ended(result: Result): Ended {
    return { result: this.#isJson ? result : this.#results.of(result), code: codeOf(result) };
  }

  #leftOut(): Ended {
    return this.#ended({ result: { case: "leftOut", value: true } });
  }

  #failed(part: Part, error: unknown, { signal }: HandlerContext): Outcome {
    if (part.case !== "get" && isNotMaster(error)) return { part, notMaster: error };
    return this.#ended(errorOf(this.#told(error, callOf[part.case].name, signal)));
  }

  #told(error: unknown, method: string, signal = this.#context.signal): ConnectError {
    const call = this.#context.values.get(callKey);
    if (call && error instanceof IdentityError) call.refused = error;
    return this.#options.errors.toConnectError(error, method, signal, call?.requestId);
  }

  /** The writes that are for the master, passed on together where they may be; what became of them, by their places. */
  async #passOn(begun: readonly (Outcome | Promise<Outcome>)[]): Promise<ReadonlyMap<number, Ended>> {
    const places: number[] = [];
    const parts: Part[] = [];
    const refusals: unknown[] = [];
    for (const [index, { operation }] of this.#request.operations.entries()) {
      // A read that waits holds up no write.
      if (operation.case === undefined || operation.case === "get") continue;
      const outcome = await begun[index]!;
      if ("result" in outcome) continue;
      places.push(index);
      parts.push(outcome.part);
      refusals.push(outcome.notMaster);
    }
    if (parts.length === 0) return new Map();
    const operations = places.map((index) => this.#request.operations[index]!);
    const request = create(BatchRequestSchema, { operations, maxBytes: this.#request.maxBytes });
    let results: readonly Result[];
    try {
      const { forwarder } = this.#options;
      const refuse = (): Promise<never> => Promise.reject(refusals[0]);
      const answer = await forwarder.hereOrForward(KVStore.method.batch, request, this.#context, refuse);
      results = answer.results ?? [];
      assert(results.length === parts.length, "a batch is answered with a result for each operation");
    } catch (error) {
      if (error instanceof ConnectError && error.code === Code.Unimplemented) {
        results = await Promise.all(parts.map((part) => this.#passOnAlone(part)));
      } else {
        // Where it was not passed on each is refused for itself, and else the same befell all.
        const reasons = error === refusals[0] ? refusals : refusals.map(() => error);
        results = reasons.map((reason, at) => errorOf(this.#told(reason, callOf[parts[at]!.case].name)));
      }
    }
    return new Map(places.map((place, at) => [place, this.#ended(results[at]!)]));
  }

  /** To a master that is older than this node. */
  async #passOnAlone(part: Part): Promise<Result> {
    try {
      return await answerOf(part, this.#handlers.passingOn, this.#context);
    } catch (error) {
      return errorOf(this.#told(error, callOf[part.case].name));
    }
  }

  /** The context of an operation, whose time may be over before that of the batch. */
  #withTime(timeoutMs: number): { readonly context: HandlerContext; readonly end?: () => void } {
    const context = this.#context;
    const leftMs = context.timeoutMs();
    if (timeoutMs === 0 || (leftMs !== undefined && leftMs <= timeoutMs)) return { context };
    const { clock } = this.#options;
    const ending = new AbortController();
    const beganMs = clock.monotonicMs();
    // As the library says it of a call.
    const late = (): void => ending.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
    const timer = clock.after(timeoutMs, late);
    const abort = (): void => ending.abort(context.signal.reason);
    context.signal.addEventListener("abort", abort);
    return {
      context: {
        ...context,
        signal: ending.signal,
        timeoutMs: () => timeoutMs - (clock.monotonicMs() - beganMs),
      },
      end: () => {
        timer.cancel();
        context.signal.removeEventListener("abort", abort);
      },
    };
  }
}

/** Throws, or rejects, as the handler of the operation's own method does. */
function answerOf(part: Part, handlers: Handlers, context: HandlerContext): Result | Promise<Result> {
  switch (part.case) {
    case "get":
      return after(handlers.get(part.value, context), (value) => ({ result: { case: "get", value } }));
    case "set":
      return after(handlers.set(part.value, context), (value) => ({ result: { case: "set", value } }));
    case "delete":
      return after(handlers.delete(part.value, context), (value) => ({ result: { case: "delete", value } }));
    case "touch":
      return after(handlers.touch(part.value, context), (value) => ({ result: { case: "touch", value } }));
    case "increment":
      return after(handlers.increment(part.value, context), (value) => ({ result: { case: "increment", value } }));
  }
}

function after<T, R>(value: T | Promise<T>, then: (value: T) => R): R | Promise<R> {
  return value instanceof Promise ? value.then(then) : then(value);
}

function errorOf(error: ConnectError): Result {
  const details = error.details.map((detail) =>
    "type" in detail
      ? { type: detail.type, value: new Uint8Array(detail.value) }
      : { type: detail.desc.typeName, value: toBinary(detail.desc, create(detail.desc, detail.value)) },
  );
  const value: MessageInitShape<typeof BatchErrorSchema> = {
    code: codeName(error.code),
    message: error.rawMessage,
    details,
  };
  return { result: { case: "error", value } };
}

/** Of a result, for the metrics; undefined of an operation that was not carried out. */
function codeOf({ result }: Result): string | undefined {
  if (result?.case === "error") return result.value.code ?? "unknown";
  return result?.case === "leftOut" ? undefined : "ok";
}
