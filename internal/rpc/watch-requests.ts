/** What requests for watches ask for: every field checked, and named where it cannot be. */
import type { NamedWatch, WatchManyRequest, WatchRequest as WireRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { fromWire64, seq } from "../base/position.js";
import type { WatchRequest } from "../watch/watch-types.js";
import { checkedFilter } from "./key-range.js";
import { checkAtMost, type Limits, WATCHES_MAX } from "./limits.js";
import { RequestError } from "./request-error.js";

/** Bytes of the name of a stream of WatchMany. */
export const STREAM_ID_BYTES = 16;

export type CheckedWatch = Omit<WatchRequest, "signal">;

/** `prefix` stands before the names of the fields in errors. */
export function checkedWatch(request: WireRequest, prefix: string, limits: Limits): CheckedWatch {
  const filter = checkedFilter(request, prefix, limits);
  const { wantPrevious, keysOnly } = request;
  return {
    ...(filter && { filter }),
    after: checkedAfter(request, prefix),
    ...(wantPrevious && { wantPrevious }),
    ...(keysOnly && { keysOnly }),
  };
}

export interface CheckedNamedWatch {
  readonly watchId: bigint;
  readonly watch: CheckedWatch;
}

export function checkedNamedWatch(named: NamedWatch | undefined, field: string, limits: Limits): CheckedNamedWatch {
  if (!named?.watch) {
    throw new RequestError("invalid", `${named ? `${field}.watch` : field} is missing; an empty one watches all keys`);
  }
  return { watchId: named.watchId, watch: checkedWatch(named.watch, `${field}.watch.`, limits) };
}

/** The watches with which a stream begins. */
export function checkedWatches({ watches }: WatchManyRequest, limits: Limits): CheckedNamedWatch[] {
  checkAtMost(watches.length, WATCHES_MAX, "the number of watches");
  const ids = new Set<bigint>();
  return watches.map((named, index) => {
    const checked = checkedNamedWatch(named, `watches[${index}]`, limits);
    if (ids.has(checked.watchId)) {
      throw new RequestError(
        "invalid",
        `watches[${index}].watch_id is ${checked.watchId}, as that of a watch before it; give each its own`,
      );
    }
    ids.add(checked.watchId);
    return checked;
  });
}

export function checkedStreamId(streamId: Uint8Array): string {
  if (streamId.byteLength === STREAM_ID_BYTES) return Buffer.from(streamId).toString("hex");
  throw new RequestError(
    "invalid",
    `stream_id has ${streamId.byteLength} bytes, it is one of ${STREAM_ID_BYTES}; give it as the first message of WatchMany has it`,
  );
}

function checkedAfter({ after, afterToken }: WireRequest, prefix: string): WatchRequest["after"] {
  if (afterToken.length === 0) {
    return after === undefined ? "now" : { seq: seq(fromWire64(after, `${prefix}after`)) };
  }
  if (after === undefined) return { token: afterToken };
  throw new RequestError("invalid", `${prefix}after and ${prefix}after_token are both given; give one of them`);
}
