/** What a ScanRequest asks of the store, and the token that leads from one of its pages to the next. */
import type { ScanRequest as WireRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { ScanRequest } from "../store/store.js";
import { checkedRange, type KeyRange } from "./key-range.js";
import { checkAtMost, type Limits, SCAN_A_TURN, SCAN_DEFAULT, SCAN_MAX } from "./limits.js";
import { RequestError } from "./request-error.js";

/** A page token is one of these bytes, which leave room for other forms, and where the rest begins, or downwards where it ends. */
const START_FORM = 1;
const END_FORM = 2;

/** `overheadBytes`: what the answer has beside its entries and the token. */
export function checkedScan(request: WireRequest, overheadBytes: number, limits: Limits): ScanRequest {
  checkAtMost(request.limit, SCAN_MAX, "limit");
  return {
    ...checkedScanRange(request, limits),
    limit: Math.min(SCAN_A_TURN, request.limit === 0 ? SCAN_DEFAULT : request.limit),
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

export function pageTokenOf(next: Uint8Array, isReverse: boolean): Uint8Array<ArrayBuffer> {
  const token = new Uint8Array(1 + next.length);
  token[0] = isReverse ? END_FORM : START_FORM;
  token.set(next, 1);
  return token;
}

function restOf({ start, end }: KeyRange, token: Uint8Array, isReverse: boolean): KeyRange {
  const [form] = token;
  const next = token.subarray(1);
  if ((form !== START_FORM && form !== END_FORM) || next.length === 0) {
    throw new RequestError("invalid", "page_token is none that a node gave; send next_page_token of the page before");
  }
  const atStart = Buffer.compare(next, start);
  const atEnd = end ? Buffer.compare(next, end) : -1;
  const isInside = isReverse ? atStart > 0 && atEnd <= 0 : atStart >= 0 && atEnd < 0;
  if (!isInside || isReverse !== (form === END_FORM)) {
    throw new RequestError(
      "invalid",
      "page_token belongs to another prefix, range or direction; send it with those of the page before, or leave it out to begin anew",
    );
  }
  return isReverse ? { start, end: next } : { start: next, ...(end && { end }) };
}
