/**
 * The calls that are made most, carried out without the protocol library: the same checks, the same domain calls and the same
 * counts as its handlers', around the framing of `fast-path`. Only what succeeds is answered here. A request of which anything
 * is unusual, or that is refused before it has changed anything, goes the long way untouched, which finds out by itself what
 * it is; a write that fails goes there with its failure.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { DescMessage, DescMethodUnary, Message, MessageShape } from "@bufbuild/protobuf";
import { type BatchRequest, KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Consistency } from "../../api/gen/cambium/v1/types_pb.js";
import { must } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { Access } from "../identity/access.js";
import type { Identity } from "../identity/role.js";
import type { WriteReceipt } from "../store/store.js";
import type { Adapter, Handed } from "./adapter.js";
import { AnswerRoom } from "./answer-room.js";
import type { BatchCounts } from "./batch-counts.js";
import { BatchReads } from "./batch-reads.js";
import { BatchResults } from "./batch-results.js";
import type { Call, CallLog } from "./call-log.js";
import type { CallContext } from "./caller.js";
import type { CallerConnection } from "./caller-connection.js";
import type { Written } from "./fast-path/answer.js";
import { BinaryAnswers } from "./fast-path/answer-binary.js";
import { JsonAnswers } from "./fast-path/answer-json.js";
import { readBinary } from "./fast-path/binary-reader.js";
import { type Form, unwrapped } from "./fast-path/form.js";
import { readJson } from "./fast-path/json-reader.js";
import { Shape } from "./fast-path/shape.js";
import type { FreshReads } from "./fresh-reads.js";
import { checkedBatchGet, type KeyReadOptions, readMany, readOne } from "./key-reads.js";
import {
  checkedDeleteOf,
  checkedIncrementOf,
  checkedSetOf,
  type KeyWriteOptions,
  type OneWrite,
  writeOne,
} from "./key-writes.js";
import { checkCount, checkedKeyUntilNext } from "./limits.js";
import { methodName } from "./method-name.js";
import { methodTable } from "./method-table.js";
import type { RpcStore } from "./ports.js";
import type { CallSpan } from "./tracing.js";
import type { UnderWay } from "./under-way.js";

/** A request, and the place of its answer, over either version of HTTP. */
export interface Exchange {
  readonly form: Form;
  readonly connection: CallerConnection;
  readonly authority: string;
  readonly authorization: string | undefined;
  readonly headers: IncomingHttpHeaders;
  /** The body, where all of it is there; it may be given back on the same tick. */
  takeBody(): Buffer | undefined;
  giveBack(body: Buffer): void;
  /** `text`: the bytes of a body, as latin1. */
  answer(requestId: string, text: string): void;
  /** Sends the request the long way, with its body. */
  handOver(handed: Handed): void;
}

export interface FastCallOptions extends KeyReadOptions, KeyWriteOptions {
  readonly store: KeyReadOptions["store"] & KeyWriteOptions["store"] & Pick<RpcStore, "endTurn">;
  readonly reads: Pick<FreshReads, "admit">;
  readonly access: Pick<Access, "checkRole" | "checkKeys">;
  readonly batchCounts: Pick<BatchCounts, "add">;
  readonly calls: CallLog;
  readonly adapter: Pick<Adapter, "identityFor">;
  readonly underWay: Pick<UnderWay, "hold" | "release">;
  readonly clock: Clock;
}

/** A method that may be carried out here. */
export interface FastMethod {
  readonly desc: DescMethodUnary;
  readonly name: string;
  readonly read: (body: Buffer, isJson: boolean) => Message | undefined;
  readonly work: Read | Write;
}

interface Read {
  readonly kind: "read";
  /** Undefined: not on this tick, or not here. Throws what the long way throws too. */
  readonly answer: (message: Message, form: Form, identity: Identity) => string | undefined;
}

interface Write {
  readonly kind: "write";
  /** Undefined: not here. Throws what the long way throws too. */
  readonly check: (message: Message) => OneWrite | undefined;
  readonly answer: (written: Written, form: Form) => string | undefined;
}

const ABORTED = AbortSignal.abort();
const endless = (): undefined => undefined;

export class FastCalls {
  readonly #options: FastCallOptions;
  readonly #binary = new BinaryAnswers();
  readonly #json = new JsonAnswers();
  readonly #results = new BatchResults();
  readonly #methods: ReadonlyMap<string, FastMethod>;

  constructor(options: FastCallOptions) {
    this.#options = options;
    const { limits } = options;
    const [binary, json] = [this.#binary, this.#json];
    const { get, batchGet, batch, set, delete: remove, increment } = KVStore.method;
    const methods = [
      fastRead(get, (message, { isJson, isGrpc }) => {
        const key = checkedKeyUntilNext(message.key, "key", limits);
        if (!this.#isFresh(message.consistency)) return undefined;
        const found = readOne(key, options);
        return isJson ? json.get(found) : binary.get(found, isGrpc);
      }),
      fastRead(batchGet, (message, { isJson, isGrpc }) => {
        const keys = checkedBatchGet(message, limits);
        if (!this.#isFresh(message.consistency)) return undefined;
        const found = readMany(keys, options);
        return isJson ? json.batchGet(found) : binary.batchGet(found, isGrpc);
      }),
      fastRead(
        batch,
        (message, { isJson, isGrpc }, identity) => (isJson ? undefined : this.#batchOfGets(message, isGrpc, identity)),
        // Of any other operation the long way reads all anew.
        new Set(["get"]),
      ),
      // An answer with the value before may be large.
      fastWrite(
        set,
        (message) => (message.wantPrevious ? undefined : checkedSetOf(message, limits)),
        (written, { isJson, isGrpc }) => (isJson ? json.set(written) : binary.set(written, isGrpc)),
      ),
      fastWrite(
        remove,
        (message) => (message.wantPrevious ? undefined : checkedDeleteOf(message, limits)),
        (written, { isJson, isGrpc }) => (isJson ? json.delete(written) : binary.delete(written, isGrpc)),
      ),
      fastWrite(
        increment,
        (message) => checkedIncrementOf(message, limits),
        (written, { isJson, isGrpc }) => (isJson ? json.increment(written) : binary.increment(written, isGrpc)),
      ),
    ];
    this.#methods = new Map(methods.map((method) => [`/${method.name}`, method]));
  }

  /** Undefined: calls of that path go the long way. */
  methodAt(path: string | undefined): FastMethod | undefined {
    return this.#methods.get(path ?? "");
  }

  /** All calls of this turn of the event loop are begun. */
  endTurn(): void {
    this.#options.store.endTurn();
  }

  /** Whether the call is, or will be, answered here; false: it goes the long way, as if nothing had been. */
  carryOut(method: FastMethod, exchange: Exchange): boolean {
    const { connection, authority, authorization } = exchange;
    const identity = this.#options.adapter.identityFor(method.name, connection, authority, authorization);
    const body = identity && exchange.takeBody();
    if (!body) return false;
    const isDone =
      method.work.kind === "read"
        ? this.#read(method, method.work, body, identity, exchange)
        : this.#write(method, method.work, body, identity, exchange);
    if (!isDone) exchange.giveBack(body);
    return isDone;
  }

  #read(method: FastMethod, work: Read, body: Buffer, identity: Identity, exchange: Exchange): boolean {
    const { calls, clock } = this.#options;
    const { form, connection } = exchange;
    const startedAtMs = clock.monotonicMs();
    let message: Message | undefined;
    let text: string | undefined;
    try {
      message = messageOf(method, body, form);
      if (!message) return false;
      this.#checkKeys(method, message, identity);
      text = work.answer(message, form, identity);
    } catch {
      // Nothing was changed: the long way meets the same, and tells of it.
      return false;
    }
    if (text === undefined) return false;
    const requestId = calls.requestIdOf(exchange.headers["x-request-id"]);
    const call = calls.begin(method.desc, requestId, connection.origin.address, exchange.headers, startedAtMs);
    call.identity = identity.name;
    call.message = message;
    exchange.answer(requestId, text);
    calls.end(method.desc, call, 0);
    return true;
  }

  #write(method: FastMethod, work: Write, body: Buffer, identity: Identity, exchange: Exchange): boolean {
    const { calls, clock, underWay } = this.#options;
    const { form, connection } = exchange;
    const startedAtMs = clock.monotonicMs();
    // What has come is a piece of a larger block, which a small write in flight would keep in memory.
    const own = Buffer.from(body);
    let message: Message | undefined;
    let write: OneWrite | undefined;
    try {
      message = messageOf(method, own, form);
      if (!message) return false;
      this.#checkKeys(method, message, identity);
      write = work.check(message);
    } catch {
      return false;
    }
    // To wait for other nodes takes a signal of the call's own.
    if (!write || write.way.acknowledge === "replicated" || !underWay.hold(connection, own.length)) return false;
    const requestId = calls.requestIdOf(exchange.headers["x-request-id"]);
    const call = calls.begin(method.desc, requestId, connection.origin.address, exchange.headers, startedAtMs);
    call.identity = identity.name;
    call.message = message;
    new WriteUnderWay(this.#options, { method, work, exchange, own, identity, call }).begin(write);
    return true;
  }

  #checkKeys({ name }: FastMethod, message: Message, identity: Identity): void {
    if (!identity.prefixes) return;
    const rule = must(methodTable.get(name), "every method is in the table");
    this.#options.access.checkKeys(name, identity, rule.reach(message));
  }

  /** Undefined also where any of them could not be served at once: how that is said the long way knows. */
  #batchOfGets(request: BatchRequest, isGrpc: boolean, identity: Identity): string | undefined {
    const { limits, access, batchCounts } = this.#options;
    checkCount(request.operations.length, "operations");
    if (!request.noWaiting || identity.prefixes) return undefined;
    access.checkRole(methodName(KVStore.method.get), identity);
    const room = new AnswerRoom(request, limits);
    const reads = new BatchReads(this.#options, room, ABORTED);
    const found: Uint8Array[] = [];
    for (const { operation } of request.operations) {
      const one = operation.case === "get" ? reads.read(operation.value) : undefined;
      if (!one) return undefined;
      found.push(this.#results.get(one.entry, one.place));
    }
    const text = this.#binary.batch(found, isGrpc);
    if (text !== undefined) for (const _ of found) batchCounts.add("get", "ok");
    return text;
  }

  /** Whether a read may be done on this tick. Throws as the gate does. */
  #isFresh(consistency: Consistency | undefined): boolean {
    if (!consistency) return true;
    const wait = this.#options.reads.admit(consistency, ABORTED);
    // It waits for nothing with that signal.
    wait?.catch(() => undefined);
    return wait === undefined;
  }
}

interface AboutWrite {
  readonly method: FastMethod;
  readonly work: Write;
  readonly exchange: Exchange;
  /** The body, in memory of its own. */
  readonly own: Buffer;
  readonly identity: Identity;
  readonly call: Call;
}

class WriteUnderWay implements CallContext {
  readonly timeoutMs: () => number | undefined;
  readonly #options: FastCallOptions;
  readonly #about: AboutWrite;

  constructor(options: FastCallOptions, about: AboutWrite) {
    this.#options = options;
    this.#about = about;
    const { timeoutMs } = about.exchange.form;
    this.timeoutMs =
      timeoutMs === undefined ? endless : () => timeoutMs - (options.clock.monotonicMs() - about.call.startedAtMs);
  }

  get signal(): AbortSignal {
    return this.#about.exchange.connection.gone;
  }

  get span(): CallSpan | undefined {
    return this.#about.call.span;
  }

  begin(write: OneWrite): void {
    try {
      writeOne(write, this, this.#options).then(this.#done, this.#failed);
    } catch (error) {
      this.#failed(error);
    }
  }

  readonly #done = ({ results, position, token, repeated }: WriteReceipt): void => {
    const { calls, underWay } = this.#options;
    const { method, work, exchange, own, call } = this.#about;
    const { existed, sum } = must(results[0], "a result for each command");
    const text = work.answer({ position, token, repeated: repeated === true, existed, sum }, exchange.form);
    call.outcome = 0;
    exchange.answer(call.requestId, must(text, "the answer to a write is small"));
    calls.end(method.desc, call, 0);
    underWay.release(exchange.connection, own.length);
  };

  readonly #failed = (error: unknown): void => {
    const { calls, underWay } = this.#options;
    const { method, exchange, own, identity, call } = this.#about;
    calls.forget(method.desc);
    underWay.release(exchange.connection, own.length);
    const { requestId, startedAtMs } = call;
    exchange.handOver({ body: own, failed: { error, requestId, startedAtMs, identity } });
  };
}

function messageOf(method: FastMethod, body: Buffer, { isGrpc, isJson }: Form): Message | undefined {
  const content = isGrpc ? unwrapped(body) : body;
  return content && method.read(content, isJson);
}

function fastRead<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodUnary<I, O>,
  answer: (message: MessageShape<I>, form: Form, identity: Identity) => string | undefined,
  branches?: ReadonlySet<string>,
): FastMethod {
  // What the reader makes is of the method's own schema.
  const given: Read["answer"] = (message, form, identity) => answer(message as MessageShape<I>, form, identity);
  return methodOf(desc, { kind: "read", answer: given }, branches);
}

function fastWrite<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodUnary<I, O>,
  check: (message: MessageShape<I>) => OneWrite | undefined,
  answer: Write["answer"],
): FastMethod {
  return methodOf(desc, { kind: "write", check: (message) => check(message as MessageShape<I>), answer });
}

function methodOf(desc: DescMethodUnary, work: Read | Write, branches?: ReadonlySet<string>): FastMethod {
  const shape = new Shape(desc.input, branches);
  const read = (body: Buffer, isJson: boolean): Message | undefined =>
    isJson ? readJson(shape, body) : readBinary(shape, body);
  return { desc, name: methodName(desc), read, work };
}
