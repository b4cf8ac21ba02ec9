/**
 * What asks a process to leave, heard from the process's first moment on: a signal that comes while the program is still
 * being loaded or started would otherwise end it without a word.
 */

/** `stdin`: standard input has ended, where that is watched. */
export type LeaveSignal = "SIGTERM" | "SIGINT" | "stdin";

export class LeaveSignals {
  readonly #came: LeaveSignal[] = [];
  #listener: ((signal: LeaveSignal) => void) | undefined;

  constructor() {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => this.#tell(signal));
  }

  /** Takes the end of standard input for a wish to leave. */
  watchStdin(): void {
    // A pipe whose other end is gone fails or ends, by the system; both mean that nobody is there any more.
    for (const event of ["end", "close", "error"]) process.stdin.once(event, () => this.#tell("stdin"));
    process.stdin.resume();
  }

  /** Told of every signal, of those that came before at once. */
  listen(listener: (signal: LeaveSignal) => void): void {
    this.#listener = listener;
    for (const signal of this.#came.splice(0)) listener(signal);
  }

  #tell(signal: LeaveSignal): void {
    if (this.#listener) this.#listener(signal);
    else this.#came.push(signal);
  }
}
