/** `KVStore`: checks a request, asks the store, and puts the answer in the words of the wire. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  BatchGetEntrySchema,
  BatchGetResponseSchema,
  GetResponseSchema,
  GetUpdatesResponseSchema,
  type KVStore,
  ScanEntrySchema,
  ScanResponseSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { must } from "../base/assert.js";
import { type EpochMs, fromWire64, seq, toWire64 } from "../base/position.js";
import { eventToWire, keyToWire, positionToWire } from "./convert.js";
import {
  checkAtMost,
  checkCount,
  checkedDelete,
  checkedKey,
  checkedOperation,
  checkedSet,
  type Limits,
  UPDATES_DEFAULT,
  UPDATES_MAX,
  WAIT_MS_MAX,
} from "./limits.js";
import type { RpcReplicator, RpcStore } from "./ports.js";
import { RequestError } from "./request-error.js";
import { checkedScan, pageTokenOf } from "./scan-request.js";

type Entry = NonNullable<ReturnType<RpcStore["get"]>>;

export interface KvOptions {
  readonly store: RpcStore;
  readonly replicator: Pick<RpcReplicator, "stalenessMs">;
  readonly limits: Limits;
}

/** Bytes on the wire of an entry beside its value, and of an answer beside its entries, at most. */
const ENTRY_OVERHEAD_BYTES = 64;
const ANSWER_OVERHEAD_BYTES = 256;

export function kvHandlers({ store, replicator, limits }: KvOptions): ServiceImpl<typeof KVStore> {
  return {
    get(request, context) {
      const key = checkedKey(request.key, "key", limits);
      const { position, nowMs, token } = store.readPoint();
      const entry = store.get(key);
      if (context.requestMethod === "GET") tagAnswer(context, store, entry);
      return create(GetResponseSchema, {
        ...entryToWire(entry, nowMs),
        position: positionToWire(position),
        ...stalenessToWire(replicator.stalenessMs()),
        token,
      });
    },

    batchGet(request) {
      checkCount(request.keys.length, "keys");
      const keys = request.keys.map((key, index) => checkedKey(key, `keys[${index}]`, limits));
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
    },

    scan(request) {
      const { entries, next, point } = store.scan(checkedScan(request, ANSWER_OVERHEAD_BYTES, limits));
      return create(ScanResponseSchema, {
        entries: entries.map((entry) =>
          create(ScanEntrySchema, {
            key: keyToWire(entry.key),
            ...(!request.keysOnly && { value: copyOf(entry.value) }),
            ...aboutToWire(entry, point.nowMs),
            valueBytes: toWire64(entry.value.byteLength),
          }),
        ),
        ...(next && { nextPageToken: pageTokenOf(next) }),
        position: positionToWire(point.position),
        ...stalenessToWire(replicator.stalenessMs()),
        token: point.token,
      });
    },

    async set(request) {
      const { position, token } = await store.write([checkedSet(request, "", limits)]);
      return { position: positionToWire(position), token };
    },

    async delete(request) {
      const { position, token, results } = await store.write([checkedDelete(request, "", limits)]);
      const { existed } = must(results[0], "a result for each command");
      return { existed, position: positionToWire(position), token };
    },

    async write(request) {
      checkCount(request.operations.length, "operations");
      const commands = request.operations.map((operation, index) => checkedOperation(operation, index, limits));
      const { position, token, results } = await store.write(commands);
      return { results: results.map(({ existed }) => ({ existed })), position: positionToWire(position), token };
    },

    async getUpdates(request, context) {
      checkAtMost(request.limit, UPDATES_MAX, "limit");
      checkAtMost(request.waitMs, WAIT_MS_MAX, "wait_ms");
      const page = await store.updates({
        after: seq(fromWire64(request.after, "after")),
        ...(request.afterToken.length > 0 && { afterToken: request.afterToken }),
        limit: request.limit === 0 ? UPDATES_DEFAULT : request.limit,
        maxBytes: limits.messageBytesMax - ANSWER_OVERHEAD_BYTES,
        waitMs: request.waitMs,
        signal: context.signal,
      });
      return create(GetUpdatesResponseSchema, {
        events: page.events.map(eventToWire),
        next: toWire64(page.next.seq),
        nextToken: page.nextToken,
        position: positionToWire(page.position),
      });
    },
  };
}

/**
 * Lets caches of HTTP keep the answer, and ask whether it is still right. The record that wrote the value names it: its
 * seq, and the mastership that gave out that seq, since after a failover the seq alone may stand for another write.
 */
function tagAnswer(context: HandlerContext, store: RpcStore, entry: Entry | undefined): void {
  context.responseHeader.set("cache-control", "no-cache");
  if (!entry) return;
  const mastership = store.history.at(entry.modSeq);
  context.responseHeader.set("etag", `W/"${mastership?.epochId ?? 0}-${entry.modSeq}"`);
}

function entryToWire(
  entry: Entry | undefined,
  nowMs: EpochMs,
): { exists: boolean; value?: Uint8Array<ArrayBuffer>; createSeq?: bigint; modSeq?: bigint; ttlMs?: bigint } {
  if (!entry) return { exists: false };
  return { exists: true, value: copyOf(entry.value), ...aboutToWire(entry, nowMs) };
}

/** The answer is encoded later, and the engine's bytes may hold another value by then. */
function copyOf(value: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(value);
}

function aboutToWire(entry: Entry, nowMs: EpochMs): { createSeq: bigint; modSeq: bigint; ttlMs?: bigint } {
  return {
    createSeq: toWire64(entry.createSeq),
    modSeq: toWire64(entry.modSeq),
    ...(entry.expiresAtMs !== undefined && { ttlMs: toWire64(Math.max(0, entry.expiresAtMs - nowMs)) }),
  };
}

function stalenessToWire(stalenessMs: number | undefined): { stalenessMs?: bigint } {
  return stalenessMs === undefined ? {} : { stalenessMs: toWire64(Math.ceil(stalenessMs)) };
}

function answerTooLarge(bytes: number, limits: Limits): RequestError {
  return new RequestError(
    "answer_too_large",
    `the answer would have at least ${bytes} bytes, a message may have ${limits.messageBytesMax} (limits.max_message_bytes); ask for fewer keys`,
    { passed: { limit: "limits.max_message_bytes", maximum: limits.messageBytesMax, actual: bytes } },
  );
}
