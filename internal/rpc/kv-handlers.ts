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
import { ANSWER_OVERHEAD_BYTES, entryToWire } from "./entries.js";
import { checkedFilter } from "./key-range.js";
import {
  checkedBatchGet,
  checkedGet,
  type Entry,
  type FoundMany,
  type FoundOne,
  readMany,
  readOne,
} from "./key-reads.js";
import { checkAtMost, UPDATES_DEFAULT, UPDATES_MAX, WAIT_MS_MAX } from "./limits.js";
import type { RpcStore } from "./ports.js";
import { type ScanHandlerOptions, scanHandlers } from "./scan-handlers.js";
import { type WatchHandlerOptions, watchHandlers } from "./watch-handlers.js";
import { type WriteHandlerOptions, writeHandlers } from "./write-handlers.js";

export interface KvOptions extends ScanHandlerOptions, BatchHandlerOptions, WatchHandlerOptions {
  readonly store: Pick<RpcStore, "readPoint" | "get" | "updates" | "history"> &
    ScanHandlerOptions["store"] &
    WriteHandlerOptions["store"];
}

export function kvHandlers(options: KvOptions): ServiceImpl<typeof KVStore> {
  const { store, limits, reads, large } = options;
  const bytesAt = (key: Uint8Array): number => store.get(key)?.value.byteLength ?? 0;
  const getOne: ServiceImpl<typeof KVStore>["get"] = (request, context) => {
    const key = checkedGet(request, limits);
    const wait = reads.admit(request.consistency, context.signal);
    const read = (): GetResponse | Promise<GetResponse> =>
      large.give(bytesAt(key), request, context, () => {
        const found = readOne(key, options);
        if (context.requestMethod === "GET") tagAnswer(context, store, found.entry);
        return getResponse(found);
      });
    return wait ? wait.then(read) : read();
  };
  return {
    get: getOne,

    batchGet(request, context) {
      const keys = checkedBatchGet(request, limits);
      const wait = reads.admit(request.consistency, context.signal);
      const read = (): BatchGetResponse | Promise<BatchGetResponse> => {
        const bytes = keys.reduce((sum, key) => sum + bytesAt(key), 0);
        return large.give(bytes, request, context, () => batchGetResponse(readMany(keys, options)));
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

function getResponse({ point, entry, stalenessMs }: FoundOne): GetResponse {
  return create(GetResponseSchema, {
    ...entryToWire(entry, point.nowMs),
    position: positionToWire(point.position),
    ...stalenessToWire(stalenessMs),
    token: point.token,
  });
}

function batchGetResponse({ point, entries, stalenessMs }: FoundMany): BatchGetResponse {
  return create(BatchGetResponseSchema, {
    entries: entries.map((entry) => create(BatchGetEntrySchema, entryToWire(entry, point.nowMs))),
    position: positionToWire(point.position),
    ...stalenessToWire(stalenessMs),
    token: point.token,
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
