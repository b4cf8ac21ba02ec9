/** What a ScanRequest asks of the store, and the token that leads from one of its pages to the next. */
import type { ScanRequest as WireRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { ScanRequest } from "../store/store.js";
import { checkAtMost, checkedKey, type Limits, SCAN_DEFAULT, SCAN_MAX } from "./limits.js";
import { RequestError } from "./request-error.js";

/** A page token is this byte, which leaves room for other forms, and the key that comes next. */
const NEXT_KEY_FORM = 1;

/** `overheadBytes`: what the answer has beside its entries and the token. */
export function checkedScan(request: WireRequest, overheadBytes: number, limits: Limits): ScanRequest {
  checkAtMost(request.limit, SCAN_MAX, "limit");
  const { start, end } = checkedRange(request, limits);
  return {
    start: request.pageToken.length === 0 ? start : nextKeyOf(request.pageToken, start, end),
    ...(end && { end }),
    limit: request.limit === 0 ? SCAN_DEFAULT : request.limit,
    // The token has a key in it.
    maxBytes: Math.min(request.maxBytes || Infinity, limits.messageBytesMax) - overheadBytes - limits.keyBytesMax,
    keysOnly: request.keysOnly,
  };
}

export function pageTokenOf(nextKey: Uint8Array): Uint8Array<ArrayBuffer> {
  const token = new Uint8Array(1 + nextKey.length);
  token[0] = NEXT_KEY_FORM;
  token.set(nextKey, 1);
  return token;
}

function nextKeyOf(token: Uint8Array, start: Uint8Array, end: Uint8Array | undefined): Uint8Array {
  const key = token.subarray(1);
  if (token[0] !== NEXT_KEY_FORM || key.length === 0) {
    throw new RequestError("invalid", "page_token is none that a node gave; send next_page_token of the page before");
  }
  if (Buffer.compare(key, start) < 0 || (end && Buffer.compare(key, end) >= 0)) {
    throw new RequestError(
      "invalid",
      "page_token belongs to another prefix or range; send it with those of the page before, or leave it out to begin anew",
    );
  }
  return key;
}

function checkedRange(
  { prefix, start, end }: WireRequest,
  limits: Limits,
): { readonly start: Uint8Array; readonly end?: Uint8Array } {
  if (prefix !== "") {
    if (start !== "" || end !== "") {
      throw new RequestError("invalid", "prefix is given together with start or end; give the one or the other");
    }
    const bytes = checkedKey(prefix, "prefix", limits);
    return { start: bytes, end: afterPrefix(bytes) };
  }
  const range = {
    start: start === "" ? new Uint8Array(0) : checkedKey(start, "start", limits),
    ...(end !== "" && { end: checkedKey(end, "end", limits) }),
  };
  if (range.end && Buffer.compare(range.end, range.start) < 0) {
    throw new RequestError("invalid", "end lies before start; exchange them");
  }
  return range;
}

/** The first bytes after all that begin with the prefix. UTF-8 has no byte 0xff, so that the last can always grow. */
function afterPrefix(prefix: Uint8Array): Uint8Array {
  const end = new Uint8Array(prefix);
  end[end.length - 1]! += 1;
  return end;
}
