/** What a ScanRequest asks of the store, and the token that leads from one of its pages to the next. */
import type { ScanRequest as WireRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { ScanRequest } from "../store/store.js";
import { checkedRange, type KeyRange } from "./key-range.js";
import { checkAtMost, type Limits, SCAN_DEFAULT, SCAN_MAX } from "./limits.js";
import { RequestError } from "./request-error.js";

/** A page token is one of these bytes, which leave room for other forms, and the key that comes next, upwards or downwards. */
const NEXT_KEY_UP_FORM = 1;
const NEXT_KEY_DOWN_FORM = 2;

/** `overheadBytes`: what the answer has beside its entries and the token. */
export function checkedScan(request: WireRequest, overheadBytes: number, limits: Limits): ScanRequest {
  checkAtMost(request.limit, SCAN_MAX, "limit");
  return {
    ...checkedScanRange(request, limits),
    limit: request.limit === 0 ? SCAN_DEFAULT : request.limit,
    // The token has a key in it.
    maxBytes: Math.min(request.maxBytes || Infinity, limits.messageBytesMax) - overheadBytes - limits.keyBytesMax,
    keysOnly: request.keysOnly,
    ...(request.reverse && { reverse: true }),
  };
}

/** What is left of the range from the request's page on. */
export function checkedScanRange(request: WireRequest, limits: Limits): KeyRange {
  const range = checkedRange(request, "", limits);
  return request.pageToken.length === 0 ? range : restOf(range, request.pageToken, request.reverse);
}

export function pageTokenOf(nextKey: Uint8Array, isReverse: boolean): Uint8Array<ArrayBuffer> {
  const token = new Uint8Array(1 + nextKey.length);
  token[0] = isReverse ? NEXT_KEY_DOWN_FORM : NEXT_KEY_UP_FORM;
  token.set(nextKey, 1);
  return token;
}

function restOf({ start, end }: KeyRange, token: Uint8Array, isReverse: boolean): KeyRange {
  const key = token.subarray(1);
  if ((token[0] !== NEXT_KEY_UP_FORM && token[0] !== NEXT_KEY_DOWN_FORM) || key.length === 0) {
    throw new RequestError("invalid", "page_token is none that a node gave; send next_page_token of the page before");
  }
  const isInside = Buffer.compare(key, start) >= 0 && (!end || Buffer.compare(key, end) < 0);
  if (!isInside || isReverse !== (token[0] === NEXT_KEY_DOWN_FORM)) {
    throw new RequestError(
      "invalid",
      "page_token belongs to another prefix, range or direction; send it with those of the page before, or leave it out to begin anew",
    );
  }
  // Downwards the next key is the last of what is left, and a range ends before its end.
  return isReverse ? { start, end: Buffer.concat([key, ONE_MORE]) } : { start: key, ...(end && { end }) };
}

const ONE_MORE = new Uint8Array(1);
