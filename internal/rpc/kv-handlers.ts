/** `KVStore`: checks a request, asks the store, and puts the answer in the words of the wire. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  BatchGetEntrySchema,
  type BatchGetResponse,
  BatchGetResponseSchema,
  type GetResponse,
  GetResponseSchema,
  GetUpdatesResponseSchema,
  type KVStore,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { fromWire64, seq, toWire64 } from "../base/position.js";
import { type BatchHandlerOptions, batchHandlers } from "./batch-handlers.js";
import { bytesOfEvent, eventToWire, positionToWire, stalenessToWire } from "./convert.js";
import { ANSWER_OVERHEAD_BYTES, ENTRY_OVERHEAD_BYTES, entryToWire } from "./entries.js";
import { checkedFilter } from "./key-range.js";
import {
  checkAtMost,
  checkCount,
  checkedKey,
  type Limits,
  UPDATES_DEFAULT,
  UPDATES_MAX,
  WAIT_MS_MAX,
} from "./limits.js";
import type { RpcStore } from "./ports.js";
import { RequestError } from "./request-error.js";
import { type ScanHandlerOptions, scanHandlers } from "./scan-handlers.js";
import { type WatchHandlerOptions, watchHandlers } from "./watch-handlers.js";
import { type WriteHandlerOptions, writeHandlers } from "./write-handlers.js";

type Entry = NonNullable<ReturnType<RpcStore["get"]>>;

export interface KvOptions extends ScanHandlerOptions, BatchHandlerOptions, WatchHandlerOptions {
  readonly store: Pick<RpcStore, "readPoint" | "get" | "updates" | "history"> &
    ScanHandlerOptions["store"] &
    WriteHandlerOptions["store"];
}

export function kvHandlers(options: KvOptions): ServiceImpl<typeof KVStore> {
  const { store, limits, reads, large } = options;
  const bytesAt = (key: Uint8Array): number => store.get(key)?.value.byteLength ?? 0;
  const getOne: ServiceImpl<typeof KVStore>["get"] = (request, context) => {
    const key = checkedKey(request.key, "key", limits);
    const wait = reads.admit(request.consistency, context.signal);
    const read = (): GetResponse | Promise<GetResponse> =>
      large.give(bytesAt(key), request, context, () => get(key, context, options));
    return wait ? wait.then(read) : read();
  };
  return {
    get: getOne,

    batchGet(request, context) {
      checkCount(request.keys.length, "keys");
      const keys = request.keys.map((key, index) => checkedKey(key, `keys[${index}]`, limits));
      const wait = reads.admit(request.consistency, context.signal);
      const read = (): BatchGetResponse | Promise<BatchGetResponse> => {
        const bytes = keys.reduce((sum, key) => sum + bytesAt(key), 0);
        return large.give(bytes, request, context, () => batchGet(keys, options));
      };
      return wait ? wait.then(read) : read();
    },

    ...scanHandlers(options),

    ...writeHandlers(options),

    ...batchHandlers(options, getOne),

    ...watchHandlers(options),

    async getUpdates(request, context) {
      checkAtMost(request.limit, UPDATES_MAX, "limit");
      checkAtMost(request.waitMs, WAIT_MS_MAX, "wait_ms");
      const filter = checkedFilter(request, "", limits);
      const page = await store.updates({
        after: seq(fromWire64(request.after, "after")),
        ...(request.afterToken.length > 0 && { afterToken: request.afterToken }),
        limit: request.limit === 0 ? UPDATES_DEFAULT : request.limit,
        maxBytes: limits.messageBytesMax - ANSWER_OVERHEAD_BYTES,
        waitMs: request.waitMs,
        ...(filter && { filter }),
        ...(request.wantPrevious && { wantPrevious: true }),
        signal: context.signal,
      });
      const bytes = page.events.reduce((sum, event) => sum + bytesOfEvent(event), 0);
      await large.turnFor(bytes, context);
      return create(GetUpdatesResponseSchema, {
        events: page.events.map(eventToWire),
        next: toWire64(page.next.seq),
        nextToken: page.nextToken,
        position: positionToWire(page.position),
      });
    },
  };
}

function get(key: Uint8Array, context: HandlerContext, { store, replicator }: KvOptions): GetResponse {
  const { position, nowMs, token } = store.readPoint();
  const entry = store.get(key);
  if (context.requestMethod === "GET") tagAnswer(context, store, entry);
  return create(GetResponseSchema, {
    ...entryToWire(entry, nowMs),
    position: positionToWire(position),
    ...stalenessToWire(replicator.stalenessMs()),
    token,
  });
}

function batchGet(keys: readonly Uint8Array[], { store, replicator, limits }: KvOptions): BatchGetResponse {
  const { position, nowMs, token } = store.readPoint();
  let bytes = ANSWER_OVERHEAD_BYTES;
  const entries = keys.map((key) => {
    const entry = store.get(key);
    bytes += ENTRY_OVERHEAD_BYTES + (entry?.value.byteLength ?? 0);
    // Refused before the value is copied, or else 1024 keys of the largest value would be held at once.
    if (bytes > limits.messageBytesMax) throw answerTooLarge(bytes, limits);
    return create(BatchGetEntrySchema, entryToWire(entry, nowMs));
  });
  return create(BatchGetResponseSchema, {
    entries,
    position: positionToWire(position),
    ...stalenessToWire(replicator.stalenessMs()),
    token,
  });
}

/**
 * Lets caches of HTTP keep the answer, and ask whether it is still right. The record that wrote the value names it: its
 * seq, and the mastership that gave out that seq, since after a failover the seq alone may stand for another write.
 */
function tagAnswer(context: HandlerContext, store: Pick<RpcStore, "history">, entry: Entry | undefined): void {
  context.responseHeader.set("cache-control", "no-cache");
  if (!entry) return;
  const mastership = store.history.at(entry.modSeq);
  context.responseHeader.set("etag", `W/"${mastership?.epochId ?? 0}-${entry.modSeq}"`);
}

function answerTooLarge(bytes: number, limits: Limits): RequestError {
  return new RequestError(
    "answer_too_large",
    `the answer would have at least ${bytes} bytes, a message may have ${limits.messageBytesMax} (limits.max_message_bytes); ask for fewer keys`,
    { passed: { limit: "limits.max_message_bytes", maximum: limits.messageBytesMax, actual: bytes } },
  );
}
