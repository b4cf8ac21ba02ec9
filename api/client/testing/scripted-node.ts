/**
 * A node that is a transport and nothing else: what becomes of a call is what its key says, whether it comes alone or in a batch, and
 * when the node answers is for the test to say.
 */
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import {
  type BatchOperation,
  BatchRequestSchema,
  BatchResponseSchema,
  type BatchResultSchema,
  KVStore,
} from "../../gen/cambium/v1/kvstore_pb.js";
import { ConditionFailedSchema, NotFreshEnoughSchema, OutcomeUnknownSchema } from "../../gen/cambium/v1/types_pb.js";
import type { NodeTransport } from "../transport.js";

/** `hangs`: it takes calls, and answers none. `breaks`: connections break. */
export type NodeState = "answers" | "hangs" | "breaks" | "overloaded" | "closing";

type Part = Exclude<BatchOperation["operation"], { readonly case: undefined }>;
type Result = NonNullable<MessageInitShape<typeof BatchResultSchema>["result"]>;

export interface SeenCall {
  /** One, unless it is a batch. */
  readonly parts: readonly Part[];
  readonly isBatch: boolean;
  readonly timeoutMs: number | undefined;
  /** Of a batch. */
  readonly noWaiting: boolean;
  readonly timeoutsMs: readonly number[];
  isAborted: boolean;
}

export class ScriptedNode {
  state: NodeState = "answers";
  knowsBatches = true;
  /** What came, in its order. */
  readonly calls: SeenCall[] = [];
  #seq = 0n;

  readonly transport = (): NodeTransport => ({
    transport: {
      unary: (method, signal, timeoutMs, _header, input) => this.#call(method, signal, timeoutMs, input),
      stream: () => Promise.reject(new Error("no streams here")),
    } satisfies Transport,
    isBinary: true,
  });

  async #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    const bytes = toBinary(method.input, create(method.input, input));
    const isBatch = method.name === KVStore.method.batch.name;
    const batch = isBatch ? fromBinary(BatchRequestSchema, bytes) : undefined;
    const alone = { case: method.localName, value: fromBinary(method.input, bytes) } as unknown as Part;
    const parts = batch?.operations.map(({ operation }) => operation as Part) ?? [alone];
    const seen: SeenCall = {
      parts,
      isBatch,
      timeoutMs,
      noWaiting: batch?.noWaiting ?? false,
      timeoutsMs: batch?.operations.map((operation) => operation.timeoutMs) ?? [],
      isAborted: false,
    };
    this.calls.push(seen);
    await this.#patience(seen, signal, timeoutMs);
    const answer = batch
      ? toBinary(
          BatchResponseSchema,
          create(BatchResponseSchema, { results: parts.map((part) => ({ result: this.#inBatch(part) })) }),
        )
      : this.#answerTo(alone);
    const message: MessageShape<O> =
      answer instanceof Uint8Array
        ? fromBinary(method.output, answer)
        : create(method.output, answer.value as MessageInitShape<O>);
    return { stream: false, service: method.parent, method, header: new Headers(), trailer: new Headers(), message };
  }

  /** Resolves when the node answers. Rejects as transports do. */
  #patience(seen: SeenCall, signal: AbortSignal | undefined, timeoutMs: number | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => {
        seen.isAborted = true;
        reject(new ConnectError("This operation was aborted", Code.Canceled));
      });
      switch (this.state) {
        case "answers":
          if (seen.isBatch && !this.knowsBatches) reject(new ConnectError("HTTP 404", Code.Unimplemented));
          // Not in the tick in which it is asked.
          else setImmediate(resolve);
          return;
        case "hangs":
          if (timeoutMs === undefined) return;
          setTimeout(() => reject(new ConnectError("the operation timed out", Code.DeadlineExceeded)), timeoutMs);
          return;
        case "breaks":
          reject(ConnectError.from(Object.assign(new Error("socket hang up"), { code: "ECONNRESET" }), Code.Aborted));
          return;
        case "overloaded":
          reject(new ConnectError("too many calls", Code.ResourceExhausted));
          return;
        case "closing":
          reject(new ConnectError("this node is shutting down", Code.Unavailable));
      }
    });
  }

  #inBatch(part: Part): Result {
    if (part.value.key.startsWith("large")) return { case: "leftOut", value: true };
    try {
      return this.#answerTo(part);
    } catch (error) {
      const { code, rawMessage: message, details } = ConnectError.from(error);
      const shown = details.map((detail) =>
        "desc" in detail
          ? { type: detail.desc.typeName, value: toBinary(detail.desc, create(detail.desc, detail.value)) }
          : { type: detail.type, value: new Uint8Array(detail.value) },
      );
      return { case: "error", value: { code: codeToString(code), message, details: shown } };
    }
  }

  /** Throws what the key says. */
  #answerTo({ case: kind, value: { key } }: Part): Exclude<Result, { readonly case: "error" | "leftOut" | undefined }> {
    const [word = ""] = key.split(":");
    const position = { epoch: 1n, seq: ++this.#seq };
    const token = new TextEncoder().encode(`seq ${position.seq}`);
    switch (word) {
      case "refused":
        throw new ConnectError("it has changed", Code.FailedPrecondition, undefined, [
          { desc: ConditionFailedSchema, value: { key, exists: true, modSeq: 7n } },
        ]);
      case "denied":
        throw new ConnectError("you may not", Code.PermissionDenied);
      case "broken":
        throw new ConnectError("this node found a mistake in itself", Code.Internal);
      case "stale":
        throw new ConnectError("this node lags", Code.Unavailable, undefined, [
          { desc: NotFreshEnoughSchema, value: { applied: { epoch: 1n, seq: 1n } } },
        ]);
      case "unknown":
        throw new ConnectError("no quorum in time", Code.Unavailable, undefined, [
          { desc: OutcomeUnknownSchema, value: { position: { epoch: 1n, seq: 5n } } },
        ]);
    }
    switch (kind) {
      case "get":
        return {
          case: "get",
          value: { exists: word !== "absent", value: new TextEncoder().encode(key), position, token },
        };
      case "set":
        return { case: "set", value: { position, token } };
      case "delete":
        return { case: "delete", value: { existed: word !== "absent", position, token } };
      case "touch":
        return { case: "touch", value: { existed: word !== "absent", position, token } };
      case "increment":
        return { case: "increment", value: { value: BigInt(key.length), position, token } };
    }
  }
}
