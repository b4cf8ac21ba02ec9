/**
 * Reads the record log from an offset on, over as many streams as it takes: one that breaks off is followed by another, at
 * this node or the next. Between them it keeps to one history: the last record is read again, and must be the same.
 */
import type { ConsumeStreamResponse } from "../gen/cambium/v1/log_pb.js";
import { CambiumError } from "./cambium-error.js";
import type { EndpointPool, PoolCallOptions } from "./endpoint-pool.js";
import { isSameRecord, lostRecord, type ProducedRecord, toProducedRecord } from "./record.js";
import { toWire } from "./wire.js";

export interface RecordReaderOptions {
  readonly pool: EndpointPool;
  /** The first record; absent: the lowest that the first node has. */
  readonly offset: number | undefined;
  /** Records to read; 0: no end by number. */
  readonly limit: number;
  readonly follow: boolean;
  readonly call: PoolCallOptions;
}

export class RecordReader {
  readonly #options: RecordReaderOptions;
  /** The next record to give out; undefined until the first stream has said where it begins. */
  #next: number | undefined;
  #last: ProducedRecord | undefined;
  #left: number;
  /** What the present stream begins with is `#last` once more. */
  #overlaps = false;

  constructor(options: RecordReaderOptions) {
    this.#options = options;
    this.#next = options.offset;
    this.#left = options.limit === 0 ? Number.POSITIVE_INFINITY : options.limit;
  }

  async *records(): AsyncGenerator<ProducedRecord, void, undefined> {
    const { pool, call, follow } = this.#options;
    const messages = pool.stream<ConsumeStreamResponse>(
      (endpoint, options) => {
        const offset = this.#overlaps ? this.#last?.offset : this.#next;
        return endpoint.records.consumeStream(
          {
            ...(offset !== undefined && { offset: toWire(offset, "offset") }),
            ...(Number.isFinite(this.#left) && { limit: toWire(this.#left + (this.#overlaps ? 1 : 0), "limit") }),
            stopAtEnd: !follow,
          },
          options,
        );
      },
      {
        ...call,
        retry: (error) => this.#mayGoOn(error),
        broke: () => (this.#overlaps = this.#last !== undefined),
      },
    );
    for await (const message of messages) {
      this.#next ??= Number(message.records[0]?.offset ?? message.start);
      for (const wire of message.records) {
        const record = toProducedRecord(wire);
        if (this.#overlaps) {
          this.#overlaps = false;
          if (!this.#last || !isSameRecord(record, this.#last)) throw lostRecord(record.offset);
          continue;
        }
        if (record.offset !== this.#next) {
          throw new CambiumError("internal", `the node gave record ${record.offset} where ${this.#next} comes next`);
        }
        this.#next = record.offset + 1;
        this.#last = record;
        this.#left--;
        yield record;
      }
      if (this.#left <= 0) return;
    }
  }

  /** Whether another stream may do better, although a node has refused this one. */
  #mayGoOn({ offsets }: CambiumError): boolean {
    if (!offsets || this.#next === undefined) return false;
    // This node is behind the one that was read before; it, or another one, will have the record.
    if (offsets.end < this.#next) return true;
    // Only the record that was read already has been truncated.
    if (!this.#overlaps || offsets.start > this.#next) return false;
    this.#overlaps = false;
    return true;
  }
}
