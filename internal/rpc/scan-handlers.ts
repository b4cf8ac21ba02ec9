/** Scans of `KVStore`: a page, pages in a row, and counts, none of which keeps others waiting for long. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type KVStore,
  type ScanRequest as WireRequest,
  ScanRequestSchema,
  type ScanResponse,
  ScanResponseSchema,
  type ScanStreamRequest,
  type ScanStreamResponse,
  ScanStreamResponseSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { toWire64 } from "../base/position.js";
import type { ReadPoint, ScanRequest } from "../store/store.js";
import { positionToWire, stalenessToWire } from "./convert.js";
import { ANSWER_OVERHEAD_BYTES, copyOf } from "./entries.js";
import { jsonKey } from "./adapter.js";
import type { FreshReads } from "./fresh-reads.js";
import type { LargeAnswers } from "./large-answers.js";
import { type Limits, SCAN_DEFAULT } from "./limits.js";
import type { RpcReplicator, RpcStore } from "./ports.js";
import { RequestError } from "./request-error.js";
import type { ScanEncoder } from "./scan-encoder.js";
import { checkedScan, checkedScanRange, pageTokenOf } from "./scan-request.js";

export interface ScanHandlerOptions {
  readonly store: Pick<RpcStore, "scan" | "count">;
  readonly replicator: Pick<RpcReplicator, "stalenessMs">;
  readonly limits: Limits;
  readonly reads: Pick<FreshReads, "admit">;
  readonly large: LargeAnswers;
  readonly scanEncoder: ScanEncoder;
}

/** What a page of a stream may have, unless the request says so: enough for the network, and little for the memory. */
const STREAM_PAGE_BYTES = 256 * 1024;

export function scanHandlers(options: ScanHandlerOptions): Pick<ServiceImpl<typeof KVStore>, "scan" | "scanStream"> {
  const { limits, reads, large } = options;
  return {
    scan(request, context) {
      if (request.countOnly) return count(request, context, options);
      const range = checkedScan(request, ANSWER_OVERHEAD_BYTES, limits);
      const wait = reads.admit(request.consistency, context.signal);
      // How large a page is, is known when it has been made only.
      const read = async (): Promise<ScanResponse> => {
        const made = await large.give(Number.POSITIVE_INFINITY, request, context, () =>
          scanPage(range, context, options),
        );
        return made.page;
      };
      return wait ? wait.then(read) : read();
    },

    scanStream: (request, context) => scanStream(request, context, options),
  };
}

/** Holds one page at a time: the next is read once the network has taken the one before. */
async function* scanStream(
  { scan = create(ScanRequestSchema) }: ScanStreamRequest,
  context: HandlerContext,
  options: ScanHandlerOptions,
): AsyncGenerator<ScanStreamResponse> {
  const { limits, reads, large } = options;
  if (scan.countOnly) throw new RequestError("invalid", "scan.count_only is given; call Scan to have keys counted");
  const maxBytes = scan.maxBytes === 0 ? STREAM_PAGE_BYTES : scan.maxBytes;
  let left = scan.limit === 0 ? Number.POSITIVE_INFINITY : scan.limit;
  let { pageToken } = scan;
  for (;;) {
    const request = { ...scan, limit: Math.min(SCAN_DEFAULT, left), maxBytes, pageToken };
    const range = checkedScan(request, ANSWER_OVERHEAD_BYTES, limits);
    await reads.admit(scan.consistency, context.signal);
    const { page, count: given } = await large.give(Number.POSITIVE_INFINITY, request, context, () =>
      scanPage(range, context, options),
    );
    yield create(ScanStreamResponseSchema, { page });
    left -= given;
    if (page.nextPageToken.length === 0 || left <= 0) return;
    context.signal.throwIfAborted();
    pageToken = page.nextPageToken;
  }
}

async function count(
  request: WireRequest,
  { signal }: HandlerContext,
  { store, replicator, limits, reads }: ScanHandlerOptions,
): Promise<ScanResponse> {
  const rest = checkedScanRange(request, limits);
  await reads.admit(request.consistency, signal);
  const { count: keys, point } = await store.count(rest, undefined, signal);
  return create(ScanResponseSchema, { ...aboutRead(point, replicator), count: toWire64(keys) });
}

/** What is read is read at once; what takes long is made of it by turns. */
async function scanPage(
  range: ScanRequest,
  { values, signal }: HandlerContext,
  { store, replicator, scanEncoder }: ScanHandlerOptions,
): Promise<{ readonly page: ScanResponse; readonly count: number }> {
  const { entries, next, point } = store.scan(range);
  const page = create(ScanResponseSchema, {
    ...(next && { nextPageToken: pageTokenOf(next, range.reverse === true) }),
    ...aboutRead(point, replicator),
  });
  const form = values.get(jsonKey) ? "json" : "binary";
  await scanEncoder.fill(page, entries, { form, nowMs: point.nowMs, keysOnly: range.keysOnly, signal });
  // The page itself may have them as bytes.
  return { page, count: entries.length };
}

function aboutRead({ position, token }: ReadPoint, replicator: Pick<RpcReplicator, "stalenessMs">) {
  return {
    position: positionToWire(position),
    ...stalenessToWire(replicator.stalenessMs()),
    token: copyOf(token),
  };
}
