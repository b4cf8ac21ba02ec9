/**
 * Carries out what a caller streams in, several at once, and gives the results in the order in which it came. A caller that
 * does not take the results is not read from any further; after a failure nothing more is begun.
 */
export interface InOrderOptions<Input, Result> {
  readonly inputs: AsyncIterable<Input>;
  readonly act: (input: Input) => Promise<Result>;
  readonly sizeOf: (input: Input) => number;
  /** Bytes of inputs whose results have not been taken: no more is read beyond it. */
  readonly bytesMax: number;
  /** The same as a number of inputs. */
  readonly countMax: number;
  /** When it aborts, what is under way is finished, and then the reason is thrown. */
  readonly signal: AbortSignal;
}

interface UnderWay<Result> {
  readonly result: Promise<Result>;
  readonly bytes: number;
}

export async function* inOrder<Input, Result>(options: InOrderOptions<Input, Result>): AsyncGenerator<Result> {
  const pipeline = new Pipeline(options);
  const { signal } = options;
  const abort = (): void => pipeline.end({ error: signal.reason });
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  pipeline.read().then(
    () => pipeline.end({}),
    (error: unknown) => pipeline.end({ error }),
  );
  try {
    for (;;) {
      const next = await pipeline.next();
      if (!next) return;
      yield await next.result;
      // Whoever iterates comes back once the network has taken the result.
      pipeline.taken(next);
    }
  } finally {
    signal.removeEventListener("abort", abort);
    pipeline.end({});
  }
}

class Pipeline<Input, Result> {
  readonly #options: InOrderOptions<Input, Result>;
  readonly #underWay: UnderWay<Result>[] = [];
  #bytes = 0;
  #count = 0;
  #failed = false;
  #end: { readonly error?: unknown } | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeTaker: (() => void) | undefined;

  constructor(options: InOrderOptions<Input, Result>) {
    this.#options = options;
  }

  /** Reads and begins, until the inputs end, something fails, or `end` is called. */
  async read(): Promise<void> {
    const { inputs, act, sizeOf, bytesMax, countMax } = this.#options;
    for await (const input of inputs) {
      while (!this.#stopped && (this.#bytes >= bytesMax || this.#count >= countMax)) {
        await new Promise<void>((resolve) => (this.#wakeReader = resolve));
      }
      if (this.#stopped) return;
      const result = act(input);
      // Told where it is taken; until then it must not count as unhandled.
      result.catch(() => (this.#failed = true));
      const bytes = sizeOf(input);
      this.#bytes += bytes;
      this.#count++;
      this.#underWay.push({ result, bytes });
      this.#wakeTaker?.();
    }
  }

  /** The oldest that is under way; undefined after the last. Throws what ended the inputs, after the last. */
  async next(): Promise<UnderWay<Result> | undefined> {
    for (;;) {
      const next = this.#underWay.shift();
      if (next) return next;
      if (this.#end) {
        if ("error" in this.#end) throw this.#end.error;
        return undefined;
      }
      await new Promise<void>((resolve) => (this.#wakeTaker = resolve));
    }
  }

  taken({ bytes }: UnderWay<Result>): void {
    this.#bytes -= bytes;
    this.#count--;
    this.#wakeReader?.();
  }

  /** Begins nothing more. The first call says how it ends. */
  end(end: { readonly error?: unknown }): void {
    this.#end ??= end;
    this.#wakeReader?.();
    this.#wakeTaker?.();
  }

  get #stopped(): boolean {
    return this.#failed || this.#end !== undefined;
  }
}
