/** Buffers for what is too large for a slab, each found by its number. */
import { assert } from "../base/assert.js";
import { freeNow } from "./free-now.js";

const NO_BYTES = new Uint8Array(0);

export class OwnBuffers {
  readonly #buffers: Uint8Array<ArrayBuffer>[] = [];
  readonly #free: number[] = [];
  #bytesTotal = 0;

  get bytesTotal(): number {
    return this.#bytesTotal;
  }

  at(number: number): Uint8Array {
    return this.#buffers[number]!;
  }

  add(bytes: number): number {
    assert(bytes > 0, "a buffer is for something");
    const number = this.#free.pop() ?? this.#buffers.length;
    this.#buffers[number] = new Uint8Array(bytes);
    this.#bytesTotal += bytes;
    return number;
  }

  remove(number: number): void {
    const { buffer } = this.#buffers[number]!;
    assert(buffer.byteLength > 0, "a buffer is removed once");
    this.#bytesTotal -= buffer.byteLength;
    this.#buffers[number] = NO_BYTES;
    this.#free.push(number);
    freeNow(buffer);
  }
}
