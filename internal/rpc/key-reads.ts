/** What Get and BatchGet read, whichever way they came and whatever their answers are written in. */
import type { BatchGetRequest, GetRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { ANSWER_OVERHEAD_BYTES, ENTRY_OVERHEAD_BYTES } from "./entries.js";
import { checkCount, checkedKeyForNow, type Limits } from "./limits.js";
import type { RpcReplicator, RpcStore } from "./ports.js";
import { RequestError } from "./request-error.js";

export type Entry = NonNullable<ReturnType<RpcStore["get"]>>;

export interface KeyReadOptions {
  readonly store: Pick<RpcStore, "readPoint" | "get">;
  readonly replicator: Pick<RpcReplicator, "stalenessMs">;
  readonly limits: Limits;
}

/** Where a read stands, and how old that may be; undefined where this node cannot tell. */
export interface ReadPlace {
  readonly point: ReturnType<RpcStore["readPoint"]>;
  readonly stalenessMs: number | undefined;
}

/** Valid until the tick ends. */
export interface FoundOne extends ReadPlace {
  readonly entry: Entry | undefined;
}

/** Valid until the tick ends. */
export interface FoundMany extends ReadPlace {
  /** In the order of the keys. */
  readonly entries: readonly (Entry | undefined)[];
}

export function checkedGet(request: GetRequest, limits: Limits): Uint8Array {
  return checkedKeyForNow(request.key, "key", limits);
}

export function checkedBatchGet({ keys }: BatchGetRequest, limits: Limits): Uint8Array[] {
  checkCount(keys.length, "keys");
  return keys.map((key, index) => checkedKeyForNow(key, `keys[${index}]`, limits));
}

export function readOne(key: Uint8Array, { store, replicator }: KeyReadOptions): FoundOne {
  const point = store.readPoint();
  return { point, entry: store.get(key), stalenessMs: replicator.stalenessMs() };
}

export function readMany(keys: readonly Uint8Array[], { store, replicator, limits }: KeyReadOptions): FoundMany {
  const point = store.readPoint();
  let bytes = ANSWER_OVERHEAD_BYTES;
  const entries = keys.map((key) => {
    const entry = store.get(key);
    bytes += ENTRY_OVERHEAD_BYTES + (entry?.value.byteLength ?? 0);
    // Refused before the values are copied, or else 1024 keys of the largest value would be held at once.
    if (bytes > limits.messageBytesMax) throw answerTooLarge(bytes, limits);
    return entry;
  });
  return { point, entries, stalenessMs: replicator.stalenessMs() };
}

function answerTooLarge(bytes: number, limits: Limits): RequestError {
  return new RequestError(
    "answer_too_large",
    `the answer would have at least ${bytes} bytes, a message may have ${limits.messageBytesMax} (limits.max_message_bytes); ask for fewer keys`,
    { passed: { limit: "limits.max_message_bytes", maximum: limits.messageBytesMax, actual: bytes } },
  );
}
