/** `Log`: checks a request, asks the store's record log, and puts the answer in the words of the wire. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  ConsumeResponseSchema,
  type ConsumeStreamRequest,
  type ConsumeStreamResponse,
  ConsumeStreamResponseSchema,
  Log,
  type ProduceResponse,
  type ProduceStreamResponse,
  ProducedRecordSchema,
} from "../../api/gen/cambium/v1/log_pb.js";
import { fromWire64, toWire64 } from "../base/position.js";
import { type Acknowledge, acknowledgeFromWire, type AcknowledgedWrites } from "./acknowledged.js";
import { bytesToWire, positionToWire } from "./convert.js";
import type { FreshReads } from "./fresh-reads.js";
import { inOrder } from "./in-order.js";
import type { LargeAnswers } from "./large-answers.js";
import { checkAtMost, checkedRecord, checkedRecords, type Limits, WAIT_MS_MAX } from "./limits.js";
import type { OffsetRange, ProducedRecord, WriteOptions } from "../store/store.js";
import type { RpcRecords } from "./ports.js";
import { RequestError } from "./request-error.js";
import type { WriteForwarder } from "./write-forwarder.js";
import { checkedRetry } from "./write-requests.js";

export interface LogOptions {
  readonly store: RpcRecords;
  readonly limits: Limits;
  readonly reads: Pick<FreshReads, "admit">;
  readonly large: LargeAnswers;
  readonly writes: Pick<AcknowledgedWrites, "write">;
  readonly forwarder: Pick<WriteForwarder, "hereOrForward">;
}

/** Records that one message of a stream carries, and their bytes, at most; but one record at least. */
const PAGE_RECORDS = 1000;
const PAGE_BYTES = 256 * 1024;
/** How often a stream that waits for the next record says that it is still there. */
const PROGRESS_MS = 5000;
/** What a stream of a producer may have under way. */
const UNDER_WAY_BYTES = 4 * 1024 * 1024;
const UNDER_WAY_RECORDS = 1024;
/** Reckoned for a record under way beside its bytes. */
const RECORD_OVERHEAD_BYTES = 256;

export function logHandlers({ store, limits, reads, large, writes, forwarder }: LogOptions): ServiceImpl<typeof Log> {
  const produce = async (
    records: readonly Uint8Array[],
    { acknowledge, retry }: { readonly acknowledge: Acknowledge; readonly retry?: WriteOptions["retry"] },
    context: HandlerContext,
  ): Promise<Omit<ProduceResponse, "$typeName">> => {
    const { firstOffset, position, token, repeated } = await writes.write(acknowledge, context, (options) =>
      store.produce(records, { ...options, ...(retry && { retry }) }),
    );
    return {
      offset: toWire64(firstOffset),
      position: positionToWire(position),
      token: bytesToWire(token),
      repeated: repeated === true,
    };
  };
  return {
    produce(request, context) {
      const records = checkedRecords(request, limits);
      const acknowledge = acknowledgeFromWire(request.acknowledge, "acknowledge");
      const how = { acknowledge, retry: checkedRetry(request) };
      return forwarder.hereOrForward(Log.method.produce, request, context, () => produce(records, how, context));
    },

    async consume(request, context) {
      checkAtMost(request.waitMs, WAIT_MS_MAX, "wait_ms");
      const offset = fromWire64(request.offset, "offset");
      await reads.admit(request.consistency, context.signal);
      if (request.waitMs > 0 && offset === store.recordRange().end) {
        await store.nextProduced(offset, request.waitMs, context.signal);
      }
      const { records, start, end } = await store.consume(offset, 1, 1);
      const [record] = records;
      if (!record) throw notThereYet(offset, { start, end });
      await large.turnFor(record.record.byteLength, context);
      return create(ConsumeResponseSchema, recordToWire(record));
    },

    produceStream: (requests, context) =>
      inOrder<{ readonly record: Uint8Array }, Omit<ProduceStreamResponse, "$typeName">>({
        inputs: requests,
        act: async ({ record }) => {
          const { offset, position, token } = await produce(
            [checkedRecord(record, "record", limits)],
            { acknowledge: "committed" },
            context,
          );
          return { offset, position, token };
        },
        sizeOf: ({ record }) => record.byteLength + RECORD_OVERHEAD_BYTES,
        bytesMax: UNDER_WAY_BYTES,
        countMax: UNDER_WAY_RECORDS,
        signal: context.signal,
      }),

    consumeStream: (request, context) => consumeStream(request, context, { store, large }),

    truncate(request, context) {
      const below = fromWire64(request.belowOffset, "below_offset");
      return forwarder.hereOrForward(Log.method.truncate, request, context, async () => {
        const { position } = await writes.write("committed", context, (options) =>
          store.truncateRecords(below, options),
        );
        return { position: positionToWire(position), start: toWire64(store.recordRange().start) };
      });
    },

    getRange() {
      const { start, end } = store.recordRange();
      return { start: toWire64(start), end: toWire64(end) };
    },
  };
}

/** Holds one page at a time: the next is read once the network has taken the one before. */
async function* consumeStream(
  request: ConsumeStreamRequest,
  context: HandlerContext,
  { store, large }: Pick<LogOptions, "store" | "large">,
): AsyncGenerator<ConsumeStreamResponse> {
  const { signal } = context;
  const range = store.recordRange();
  let next = request.offset === undefined ? range.start : fromWire64(request.offset, "offset");
  const stop = request.stopAtEnd ? range.end : Number.POSITIVE_INFINITY;
  const limit = fromWire64(request.limit, "limit");
  let left = limit === 0 ? Number.POSITIVE_INFINITY : limit;
  for (;;) {
    const wanted = Math.max(0, Math.min(PAGE_RECORDS, left, stop - next));
    // Also where nothing is wanted any more, since it judges the offset.
    const { records, start, end } = await store.consume(next, PAGE_BYTES, Math.max(1, wanted));
    const page = records.slice(0, wanted);
    await large.turnFor(
      page.reduce((sum, { record }) => sum + record.byteLength, 0),
      context,
    );
    yield create(ConsumeStreamResponseSchema, {
      records: page.map((record) => create(ProducedRecordSchema, recordToWire(record))),
      start: toWire64(start),
      end: toWire64(end),
    });
    next += page.length;
    left -= page.length;
    if (left === 0 || next >= stop) return;
    signal.throwIfAborted();
    if (next >= end) await store.nextProduced(next, PROGRESS_MS, signal);
  }
}

function recordToWire({ offset, record, position, timestampMs }: ProducedRecord) {
  return {
    offset: toWire64(offset),
    // What the record log hands out stays as it is.
    record: bytesToWire(record),
    position: positionToWire(position),
    timestampMs: toWire64(timestampMs),
  };
}

function notThereYet(offset: number, range: OffsetRange): RequestError {
  return new RequestError(
    "offset_ahead",
    `there is no record at offset ${offset} yet, this node has ${range.start} up to, but without, ${range.end}; wait for it with wait_ms, or follow the log with ConsumeStream`,
    { range },
  );
}
