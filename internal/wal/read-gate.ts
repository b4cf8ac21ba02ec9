/** Lets many reads go on at once, and none while the log's end is being cut off. */
export class ReadGate {
  #readers = 0;
  #closed: { readonly opened: Promise<void>; readonly open: () => void } | undefined;
  #lastLeft: (() => void) | undefined;

  /** Runs a read, once the gate is open. */
  async pass<T>(read: () => Promise<T>): Promise<T> {
    while (this.#closed) await this.#closed.opened;
    this.#readers++;
    try {
      return await read();
    } finally {
      this.#readers--;
      if (this.#readers === 0) this.#lastLeft?.();
    }
  }

  /** Runs `act` while no read is under way, and no other act. */
  async alone<T>(act: () => Promise<T>): Promise<T> {
    while (this.#closed) await this.#closed.opened;
    let open = (): void => {};
    const opened = new Promise<void>((resolve) => (open = resolve));
    this.#closed = { opened, open };
    try {
      if (this.#readers > 0) await new Promise<void>((resolve) => (this.#lastLeft = resolve));
      return await act();
    } finally {
      this.#lastLeft = undefined;
      this.#closed = undefined;
      open();
    }
  }
}
