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
  KVStore,
  ScanEntrySchema,
  type ScanResponse,
  ScanResponseSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { must } from "../base/assert.js";
import { type EpochMs, fromWire64, seq, toWire64 } from "../base/position.js";
import type { ScanRequest, WriteCommand, WriteReceipt } from "../store/store.js";
import { type Acknowledge, acknowledgeFromWire, type AcknowledgedWrites } from "./acknowledged.js";
import { eventToWire, keyToWire, positionToWire } from "./convert.js";
import type { FreshReads } from "./fresh-reads.js";
import type { LargeAnswers } from "./large-answers.js";
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
import type { WriteForwarder } from "./write-forwarder.js";

type Entry = NonNullable<ReturnType<RpcStore["get"]>>;

export interface KvOptions {
  readonly store: Pick<RpcStore, "readPoint" | "get" | "scan" | "write" | "updates" | "history">;
  readonly replicator: Pick<RpcReplicator, "stalenessMs">;
  readonly limits: Limits;
  readonly reads: Pick<FreshReads, "admit">;
  readonly large: LargeAnswers;
  readonly writes: Pick<AcknowledgedWrites, "write">;
  readonly forwarder: Pick<WriteForwarder, "hereOrForward">;
}

/** Bytes on the wire of an entry beside its value, and of an answer beside its entries, at most. */
const ENTRY_OVERHEAD_BYTES = 64;
const ANSWER_OVERHEAD_BYTES = 256;

export function kvHandlers(options: KvOptions): ServiceImpl<typeof KVStore> {
  const { store, limits, reads, large } = options;
  const bytesAt = (key: Uint8Array): number => store.get(key)?.value.byteLength ?? 0;
  return {
    get(request, context) {
      const key = checkedKey(request.key, "key", limits);
      const wait = reads.admit(request.consistency, context.signal);
      const read = (): GetResponse | Promise<GetResponse> =>
        large.give(bytesAt(key), request, context, () => get(key, context, options));
      return wait ? wait.then(read) : read();
    },

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

    scan(request, context) {
      const range = checkedScan(request, ANSWER_OVERHEAD_BYTES, limits);
      const wait = reads.admit(request.consistency, context.signal);
      // How large a page is, is known when it has been made only.
      const read = (): ScanResponse | Promise<ScanResponse> =>
        large.give(Number.POSITIVE_INFINITY, request, context, () => scan(range, options));
      return wait ? wait.then(read) : read();
    },

    ...writeHandlers(options),

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
      const bytes = page.events.reduce((sum, { key, value }) => sum + key.byteLength + value.byteLength, 0);
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

function scan(range: ScanRequest, { store, replicator }: KvOptions): ScanResponse {
  const { entries, next, point } = store.scan(range);
  return create(ScanResponseSchema, {
    entries: entries.map((entry) =>
      create(ScanEntrySchema, {
        key: keyToWire(entry.key),
        ...(!range.keysOnly && { value: copyOf(entry.value) }),
        ...aboutToWire(entry, point.nowMs),
        valueBytes: toWire64(entry.value.byteLength),
      }),
    ),
    ...(next && { nextPageToken: pageTokenOf(next) }),
    position: positionToWire(point.position),
    ...stalenessToWire(replicator.stalenessMs()),
    token: point.token,
  });
}

function writeHandlers({
  store,
  limits,
  writes,
  forwarder,
}: KvOptions): Pick<ServiceImpl<typeof KVStore>, "set" | "delete" | "write"> {
  const write = (
    commands: readonly WriteCommand[],
    acknowledge: Acknowledge,
    context: HandlerContext,
  ): Promise<WriteReceipt> => writes.write(acknowledge, context, (options) => store.write(commands, options));
  return {
    set(request, context) {
      const commands = [checkedSet(request, "", limits)];
      const acknowledge = acknowledgeFromWire(request.acknowledge, "acknowledge");
      return forwarder.hereOrForward(KVStore.method.set, request, context, async () => {
        const { position, token } = await write(commands, acknowledge, context);
        return { position: positionToWire(position), token: copyOf(token) };
      });
    },

    delete(request, context) {
      const commands = [checkedDelete(request, "", limits)];
      const acknowledge = acknowledgeFromWire(request.acknowledge, "acknowledge");
      return forwarder.hereOrForward(KVStore.method.delete, request, context, async () => {
        const { position, token, results } = await write(commands, acknowledge, context);
        const { existed } = must(results[0], "a result for each command");
        return { existed, position: positionToWire(position), token: copyOf(token) };
      });
    },

    write(request, context) {
      checkCount(request.operations.length, "operations");
      const commands = request.operations.map((operation, index) => checkedOperation(operation, index, limits));
      const acknowledge = acknowledgeFromWire(request.acknowledge, "acknowledge");
      return forwarder.hereOrForward(KVStore.method.write, request, context, async () => {
        const { position, token, results } = await write(commands, acknowledge, context);
        return {
          results: results.map(({ existed }) => ({ existed })),
          position: positionToWire(position),
          token: copyOf(token),
        };
      });
    },
  };
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
