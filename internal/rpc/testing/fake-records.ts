/** A record log as simple as it can be, for tests of what stands before it. */
import { epoch, epochMs, seq } from "../../base/position.js";
import type { ProducedRecord, WriteOptions } from "../../store/store.js";
import type { RpcRecords } from "../ports.js";
import { EPOCH_ID } from "./fake-rooms.js";

export class FakeRecords implements RpcRecords {
  readonly records: ProducedRecord[] = [];
  start = 0;
  /** Thrown by the next calls instead of doing anything. */
  failure: Error | undefined;
  /** Each produce waits for it. */
  gate: Promise<void> = Promise.resolve();
  /** Calls of `produce` that were made. */
  produced = 0;
  /** With what each produce and each truncation was called. */
  readonly writeOptions: (WriteOptions | undefined)[] = [];
  /** Calls of `consume` that were made. */
  consumed = 0;
  /** Calls of `nextProduced` that wait. */
  waiting = 0;
  /** Times that `nextProduced` waits, in order. */
  readonly waits: number[] = [];
  #wake: (() => void)[] = [];

  add(...texts: string[]): void {
    for (const text of texts) this.#append(Buffer.from(text));
  }

  async produce(records: readonly Uint8Array[], options?: WriteOptions): ReturnType<RpcRecords["produce"]> {
    this.writeOptions.push(options);
    if (this.failure) throw this.failure;
    this.produced++;
    await this.gate;
    const firstOffset = this.records.length;
    for (const record of records) this.#append(new Uint8Array(record));
    return { firstOffset, position: positionOf(firstOffset), token: new Uint8Array([1, 2, 3]) };
  }

  async consume(offset: number, maxBytes: number, maxRecords: number): ReturnType<RpcRecords["consume"]> {
    if (this.failure) throw this.failure;
    this.consumed++;
    const found: ProducedRecord[] = [];
    let bytes = 0;
    for (const record of this.records.slice(offset, offset + maxRecords)) {
      bytes += record.record.byteLength;
      if (found.length > 0 && bytes > maxBytes) break;
      found.push(record);
    }
    return { records: found, ...this.recordRange() };
  }

  async truncateRecords(below: number, options?: WriteOptions): ReturnType<RpcRecords["truncateRecords"]> {
    this.writeOptions.push(options);
    if (this.failure) throw this.failure;
    this.start = Math.max(this.start, below);
    return { position: positionOf(this.records.length) };
  }

  recordRange(): { readonly start: number; readonly end: number } {
    if (this.failure) throw this.failure;
    return { start: this.start, end: this.records.length };
  }

  async nextProduced(end: number, waitMs: number, signal: AbortSignal): Promise<void> {
    this.waits.push(waitMs);
    if (this.records.length > end) return;
    this.waiting++;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#wake.push(resolve);
        const abort = (): void => reject(signal.reason as Error);
        signal.addEventListener("abort", abort);
        if (signal.aborted) abort();
      });
    } finally {
      this.waiting--;
    }
  }

  /** As when the time of every wait is over. */
  wake(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #append(record: Uint8Array): void {
    const offset = this.records.length;
    this.records.push({
      offset,
      record,
      position: positionOf(offset),
      epochId: EPOCH_ID,
      timestampMs: epochMs(1_700_000_000_000 + offset),
    });
    this.wake();
  }
}

function positionOf(offset: number): ProducedRecord["position"] {
  return { epoch: epoch(1), seq: seq(offset + 10) };
}
