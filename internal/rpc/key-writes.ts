/** How writes are carried out, whichever way they came and whatever their answers are written in. */
import type { DeleteRequest, IncrementRequest, SetRequest } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Acknowledge as WireAcknowledge } from "../../api/gen/cambium/v1/types_pb.js";
import type { WriteCommand, WriteOptions, WriteReceipt } from "../store/store.js";
import { type Acknowledge, acknowledgeFromWire, type AcknowledgedWrites } from "./acknowledged.js";
import type { CallContext } from "./caller.js";
import { ANSWER_OVERHEAD_BYTES, ENTRY_OVERHEAD_BYTES } from "./entries.js";
import type { Limits } from "./limits.js";
import type { RpcStore } from "./ports.js";
import { checkedDelete, checkedIncrement, checkedRetry, checkedSet } from "./write-requests.js";

export interface KeyWriteOptions {
  readonly store: Pick<RpcStore, "write">;
  readonly limits: Limits;
  readonly writes: Pick<AcknowledgedWrites, "write">;
}

/** How a caller wants its write carried out. */
export interface Way {
  readonly acknowledge: Acknowledge;
  readonly retry?: WriteOptions["retry"];
}

/** A write of one command. */
export interface OneWrite {
  readonly command: WriteCommand;
  readonly way: Way;
}

export function checkedWay(request: {
  readonly acknowledge: WireAcknowledge;
  readonly clientId: string;
  readonly clientSeq: bigint;
}): Way {
  return { acknowledge: acknowledgeFromWire(request.acknowledge, "acknowledge"), retry: checkedRetry(request) };
}

export function checkedSetOf(request: SetRequest, limits: Limits): OneWrite {
  return { command: checkedSet(request, "", limits), way: checkedWay(request) };
}

export function checkedDeleteOf(request: DeleteRequest, limits: Limits): OneWrite {
  return { command: checkedDelete(request, "", limits), way: checkedWay(request) };
}

export function checkedIncrementOf(request: IncrementRequest, limits: Limits): OneWrite {
  return { command: checkedIncrement(request, "", limits), way: checkedWay(request) };
}

/** Resolves when the write of one command is acknowledged. */
export function writeOne(
  { command, way }: OneWrite,
  context: CallContext,
  options: KeyWriteOptions,
): Promise<WriteReceipt> {
  return propose(1, way, context, options, (how) => options.store.write([command], how));
}

/** Resolves when the write is acknowledged. `count`: how many results it has at most. */
export function propose<R extends WriteReceipt>(
  count: number,
  { acknowledge, retry }: Way,
  context: CallContext,
  { limits, writes }: Omit<KeyWriteOptions, "store">,
  write: (how: WriteOptions) => Promise<R>,
): Promise<R> {
  const storedBytesMax = Math.max(0, limits.messageBytesMax - ANSWER_OVERHEAD_BYTES - count * ENTRY_OVERHEAD_BYTES);
  // Objects that are put together of others are of another shape each time, which costs whoever reads them as much as a small write.
  return writes.write(acknowledge, context, ({ acknowledge: whenDone, timeoutMs, confirm }) =>
    write({ acknowledge: whenDone, timeoutMs, confirm, storedBytesMax, retry }),
  );
}
