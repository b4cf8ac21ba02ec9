/** Numbers by chance, quick rather than hard to guess (Marsaglia's xorshift): for choosing samples, not secrets. */
export class Chance {
  #state: number;

  /** The same seed gives the same numbers. */
  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** 32 bits, signed. */
  bits(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state;
  }

  isOneIn(n: number): boolean {
    return (this.bits() >>> 0) % n === 0;
  }
}
