/** Pages of keys, in plain types, and their translation from and to the messages of the wire. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ScanRequestSchema, ScanResponse } from "../gen/cambium/v1/kvstore_pb.js";
import type { consistencyOf } from "./consistency.js";
import { encodeKey, type Entry } from "./message.js";
import { fromWire, type Position, toPosition, toWire } from "./wire.js";

/** Which keys: those that begin with `prefix`, or those from `start` up to `end` without it. Default: all. */
export interface KeyRange {
  /** Not together with `start` or `end`. */
  readonly prefix?: string | undefined;
  readonly start?: string | undefined;
  readonly end?: string | undefined;
}

/** A key and what it holds. Its value is empty where only keys were asked for. */
export interface ScannedEntry extends Omit<Entry, "token"> {
  readonly key: string;
  /** The size of the value, also where it was left out. */
  readonly valueBytes: number;
}

/** Keys that follow each other, all read at one position. */
export interface ScanPage {
  /** It may be empty although more follow. */
  readonly entries: readonly ScannedEntry[];
  /** `pageToken` of the next page; absent when this was the last. */
  readonly nextPageToken?: Uint8Array;
  readonly position: Position;
  /** `position` with its lineage, opaque. */
  readonly token: Uint8Array;
}

export function scanRequest(
  options: KeyRange & {
    readonly limit?: number | undefined;
    readonly keysOnly?: boolean | undefined;
    readonly reverse?: boolean | undefined;
    readonly pageToken?: Uint8Array | undefined;
  },
  maxBytes: number,
  consistency: ReturnType<typeof consistencyOf>,
): MessageInitShape<typeof ScanRequestSchema> {
  const { prefix = "", start = "", end = "", limit = 0, keysOnly = false, reverse = false, pageToken } = options;
  for (const bound of [prefix, start, end]) encodeKey(bound);
  return {
    prefix,
    start,
    end,
    limit: Number(toWire(limit, "limit")),
    keysOnly,
    ...(reverse && { reverse }),
    maxBytes: Math.ceil(Math.min(maxBytes, UINT32_MAX)),
    ...(pageToken && { pageToken }),
    ...consistency,
  };
}

const UINT32_MAX = 0xffff_ffff;

export function toScanPage(answer: ScanResponse): ScanPage {
  const position = toPosition(answer.position);
  const { stalenessMs } = answer;
  return {
    entries: answer.entries.map((entry) => ({
      key: entry.key,
      value: entry.value,
      valueBytes: fromWire(entry.valueBytes, "value_bytes"),
      createSeq: fromWire(entry.createSeq, "create_seq"),
      modSeq: fromWire(entry.modSeq, "mod_seq"),
      ...(entry.ttlMs !== undefined && { ttlMs: fromWire(entry.ttlMs, "ttl_ms") }),
      position,
      ...(stalenessMs !== undefined && { stalenessMs: fromWire(stalenessMs, "staleness_ms") }),
    })),
    ...(answer.nextPageToken.length > 0 && { nextPageToken: answer.nextPageToken }),
    position,
    token: answer.token,
  };
}
