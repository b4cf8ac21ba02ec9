/** What counts: an array write each time, and no memory after it was made. */
import { assert } from "../base/assert.js";

/** Counts what happens; never goes back. */
export class Counter {
  readonly #cell = new Float64Array(1);

  increment(by = 1): void {
    this.#cell[0]! += by;
  }

  get value(): number {
    return this.#cell[0]!;
  }
}

/** Counts values by size. */
export class Histogram {
  readonly #bounds: Float64Array;
  /** One count a bound, that of all above, and the sum. */
  readonly #cells: Float64Array;

  /** `bounds`: upper bounds, rising; a value equal to one belongs to it. */
  constructor(bounds: readonly number[]) {
    assert(bounds.length > 0, "a histogram has a bucket");
    bounds.forEach((bound, place) => {
      assert(Number.isFinite(bound), "a bucket has an end; that of the last one is added");
      assert(place === 0 || bound > bounds[place - 1]!, "buckets rise");
    });
    this.#bounds = Float64Array.from(bounds);
    this.#cells = new Float64Array(bounds.length + 2);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    const cells = this.#cells;
    let place = 0;
    while (place < bounds.length && value > bounds[place]!) place++;
    cells[place]! += 1;
    cells[bounds.length + 1]! += value;
  }

  get sum(): number {
    return this.#cells[this.#bounds.length + 1]!;
  }

  /** How many values were no larger than each bound; last, how many there were. */
  cumulativeCounts(): number[] {
    let count = 0;
    return [...this.#cells.subarray(0, -1)].map((of) => (count += of));
  }
}
