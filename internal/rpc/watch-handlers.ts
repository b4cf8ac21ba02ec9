/** Watches of `KVStore`, each on a stream of its own or many on one, for as long as their callers listen. */
import { create } from "@bufbuild/protobuf";
import { type ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import {
  type KVStore,
  type WatchManyRequest,
  type WatchManyResponse,
  WatchManyResponseSchema,
  WatchEndedSchema,
  type WatchRequest,
  type WatchResponse,
  type WatchStatus,
  WatchStatusSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { LineageLostSchema, LogRangeSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { type ResumePoint, WatchError } from "../watch/watch-types.js";
import { identityKey, jsonKey } from "./adapter.js";
import { COMPRESS_BYTES_MIN } from "./compression.js";
import { framesKey } from "./direct-frames.js";
import type { ErrorMap } from "./errors.js";
import type { LargeAnswers } from "./large-answers.js";
import type { Limits } from "./limits.js";
import type { RpcWatches } from "./ports.js";
import { NodeClosingError } from "./request-error.js";
import type { WatchEncoder } from "./watch-encoder.js";
import { checkedNamedWatch, checkedStreamId, checkedWatch, checkedWatches } from "./watch-requests.js";
import { WatchStreams } from "./watch-streams.js";

export interface WatchHandlerOptions {
  readonly watches: RpcWatches;
  readonly limits: Limits;
  readonly large: LargeAnswers;
  readonly encoder: WatchEncoder;
  readonly errors: Pick<ErrorMap, "toConnectError">;
}

type WatchMethods = "watch" | "watchMany" | "addWatch" | "removeWatch";

export function watchHandlers(options: WatchHandlerOptions): Pick<ServiceImpl<typeof KVStore>, WatchMethods> {
  const { limits } = options;
  const streams = new WatchStreams(options.watches);
  return {
    watch: (request, context) => watch(request, context, options),

    watchMany: (request, context) => watchMany(request, context, streams, options),

    addWatch(request, { values }) {
      const stream = streams.of(values.get(identityKey), checkedStreamId(request.streamId));
      stream.add(checkedNamedWatch(request.watch, "watch", limits));
      return {};
    },

    removeWatch(request, { values }) {
      streams.of(values.get(identityKey), checkedStreamId(request.streamId)).remove(request.watchId);
      return {};
    },
  };
}

async function* watch(
  request: WatchRequest,
  context: HandlerContext,
  { watches, limits, large, encoder }: WatchHandlerOptions,
): AsyncGenerator<WatchResponse> {
  const { signal, values } = context;
  const form = formOf(context);
  const frames = values.get(framesKey);
  let hasBegun = false;
  let given: ResumePoint | undefined;
  for await (const batch of watches.open({ ...checkedWatch(request, "", limits), signal })) {
    const bytes = encoder.bytesOf(batch);
    const turn = large.turnFor(bytes, context);
    if (turn) await turn;
    // Large ones the library may compress.
    const frame = frames && hasBegun && bytes < COMPRESS_BYTES_MIN && encoder.frame(batch, form);
    if (frame) {
      const taken = frames.write(frame);
      if (taken) await taken;
    } else yield encoder.encode(batch, form);
    hasBegun = true;
    if (batch.token) given = { seq: batch.position.seq, token: batch.token };
  }
  throw endOf(signal, given);
}

async function* watchMany(
  request: WatchManyRequest,
  context: HandlerContext,
  streams: WatchStreams,
  { limits, large, encoder, errors }: WatchHandlerOptions,
): AsyncGenerator<WatchManyResponse> {
  const { signal } = context;
  const watches = checkedWatches(request, limits);
  signal.throwIfAborted();
  const stream = streams.open(context.values.get(identityKey));
  // Also when nobody comes back for the next message, as after a caller has left.
  const close = (): void => stream.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    for (const named of watches) stream.begin(named);
    yield create(WatchManyResponseSchema, { streamId: stream.id });
    for await (const news of stream.news()) {
      const { watchId } = news;
      if ("batch" in news) {
        const turn = large.turnFor(encoder.bytesOf(news.batch), context);
        if (turn) await turn;
        const value = encoder.encode(news.batch, formOf(context));
        yield create(WatchManyResponseSchema, { watchId, message: { case: "response", value } });
      } else {
        const value = statusOf(errors.toConnectError(news.error, "cambium.v1.KVStore/WatchMany", signal));
        yield create(WatchManyResponseSchema, { watchId, message: { case: "ended", value } });
      }
    }
    throw endOf(signal, undefined);
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
}

const formOf = ({ values }: HandlerContext): "json" | "binary" => (values.get(jsonKey) ? "json" : "binary");

/** Why a stream is over whose watch ended without an error: its caller's signal was aborted. */
function endOf(signal: AbortSignal, given: ResumePoint | undefined): unknown {
  if (!(signal.reason instanceof NodeClosingError) || !given) return signal.reason;
  return new WatchError("ended", `${signal.reason.message}, from the token on`, { resume: given });
}

/** What a stream of its own would have ended with. */
function statusOf({ code, rawMessage, details }: ConnectError): WatchStatus {
  const status = create(WatchStatusSchema, { code: codeToString(code), message: rawMessage });
  for (const detail of details) {
    if (!("desc" in detail)) continue;
    const { desc, value } = detail;
    if (desc.typeName === LogRangeSchema.typeName) {
      status.detail = { case: "logRange", value: create(LogRangeSchema, value) };
    } else if (desc.typeName === LineageLostSchema.typeName) {
      status.detail = { case: "lineageLost", value: create(LineageLostSchema, value) };
    } else if (desc.typeName === WatchEndedSchema.typeName) {
      status.detail = { case: "watchEnded", value: create(WatchEndedSchema, value) };
    }
  }
  return status;
}
