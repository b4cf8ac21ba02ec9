/** A record log in memory, as the nodes of a fake cluster show it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ConsumeStreamRequest, ConsumeStreamResponseSchema } from "../../gen/cambium/v1/log_pb.js";
import { OffsetRangeSchema } from "../../gen/cambium/v1/types_pb.js";

export class FakeRecordLog {
  readonly records: Uint8Array[] = [];
  start = 0;
  /** Records a message of a stream, at most. */
  pageRecords = 3;
  /** The epoch of all its records. */
  readonly epoch: bigint;
  readonly #waiting = new Set<() => void>();

  constructor(epoch = 1n) {
    this.epoch = epoch;
  }

  /** Appends and gives the first offset. */
  add(...records: (Uint8Array | string)[]): number {
    const first = this.records.length;
    for (const record of records) this.records.push(typeof record === "string" ? Buffer.from(record) : record);
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
    return first;
  }

  truncateBelow(offset: number): void {
    if (offset > this.records.length) throw this.#outOfRange(offset);
    this.start = Math.max(this.start, offset);
  }

  async *follow(
    request: Pick<ConsumeStreamRequest, "offset" | "limit" | "stopAtEnd">,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof ConsumeStreamResponseSchema>> {
    let next = Number(request.offset ?? this.start);
    const stop = request.stopAtEnd ? this.records.length : Number.POSITIVE_INFINITY;
    let left = Number(request.limit) || Number.POSITIVE_INFINITY;
    for (;;) {
      if (next < this.start || next > this.records.length) throw this.#outOfRange(next);
      const count = Math.min(this.pageRecords, left, this.records.length - next, stop - next);
      yield {
        records: this.records.slice(next, next + count).map((record, index) => ({
          offset: BigInt(next + index),
          record,
          position: { epoch: this.epoch, seq: BigInt(next + index + 2) },
          timestampMs: BigInt(1_700_000_000_000 + next + index),
        })),
        start: BigInt(this.start),
        end: BigInt(this.records.length),
      };
      next += count;
      left -= count;
      if (left === 0 || next >= stop) return;
      if (next < this.records.length) continue;
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      if (signal.aborted) return;
    }
  }

  #outOfRange(offset: number): ConnectError {
    const range = { start: BigInt(this.start), end: BigInt(this.records.length) };
    return new ConnectError(
      `offset ${offset} is not in the record log, which has ${range.start} up to, but without, ${range.end}`,
      Code.OutOfRange,
      undefined,
      [{ desc: OffsetRangeSchema, value: range }],
    );
  }
}
