/** A call that waits to be sent together with others, or was, and ends by itself when its caller leaves or its time is over. */
import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import type { Answers, Asked, Kind } from "./batch-codec.js";

export class GatheredCall {
  readonly asked: Asked;
  readonly #options: CallOptions;
  readonly #resolve: (answer: Answers[Kind] | Promise<Answers[Kind]>) => void;
  readonly #reject: (error: unknown) => void;
  /** By the monotonic clock; Infinity: it has no end. */
  readonly #deadlineMs: number;
  #isEnded = false;
  #onAbort: (() => void) | undefined;
  /** Told when it ends although nobody has answered it. */
  onLeave: (() => void) | undefined;

  constructor(
    asked: Asked,
    options: CallOptions,
    resolve: (answer: Answers[Kind] | Promise<Answers[Kind]>) => void,
    reject: (error: unknown) => void,
  ) {
    this.asked = asked;
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    const { signal, timeoutMs } = options;
    this.#deadlineMs = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs;
    if (!signal) return;
    this.#onAbort = () => this.#leave(signal.reason);
    if (signal.aborted) this.#onAbort();
    else signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** It has its answer, or will have none. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Whole milliseconds, one at least; Infinity: it has no end. */
  get leftMs(): number {
    return Math.max(1, Math.ceil(this.#deadlineMs - performance.now()));
  }

  /** What it takes of a batch, at most. */
  get bytesMax(): number {
    const { kind, request } = this.asked;
    const value = kind === "set" ? (request.value?.length ?? 0) : 0;
    const tokens = kind === "get" ? (request.consistency?.atLeast?.length ?? 0) : 0;
    return 256 + 3 * (request.key?.length ?? 0) + value + tokens;
  }

  answer(answer: Answers[Kind]): void {
    if (this.#end()) this.#resolve(answer);
  }

  fail(error: unknown): void {
    if (this.#end()) this.#reject(error);
  }

  /** Its time is over. As a transport says it. */
  expire(): void {
    this.#leave(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }

  /** Lets a call of its own go on with it. */
  giveTo(call: (options: CallOptions) => Promise<Answers[Kind]>): void {
    if (!this.#end()) return;
    const { leftMs } = this;
    this.#resolve(call({ ...this.#options, ...(leftMs < Infinity && { timeoutMs: leftMs }) }));
  }

  #leave(reason: unknown): void {
    if (!this.#end()) return;
    this.#reject(reason);
    this.onLeave?.();
  }

  #end(): boolean {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    if (this.#onAbort) this.#options.signal?.removeEventListener("abort", this.#onAbort);
    return true;
  }
}
