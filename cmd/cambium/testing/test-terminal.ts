/** A terminal whose streams are memory. */
import { Readable, Writable } from "node:stream";
import { runCambium } from "../program.js";
import type { OutputStream, Terminal } from "../terminal.js";

/** What a command left behind. */
export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly stdoutBytes: Buffer;
}

export interface TestTerminalOptions {
  readonly stdin?: string | Uint8Array;
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  readonly isTerminal?: boolean;
  /** Called with everything that is written to stdout; what it throws is the stream's error. */
  readonly onStdout?: (text: string) => void;
  readonly onStderr?: (text: string) => void;
}

export class MemoryStream extends Writable {
  readonly chunks: Buffer[] = [];
  readonly isTTY: boolean;
  readonly columns = 100;
  readonly #onText: ((text: string) => void) | undefined;

  constructor(options: { isTTY?: boolean; onText?: ((text: string) => void) | undefined } = {}) {
    super();
    this.isTTY = options.isTTY ?? false;
    this.#onText = options.onText;
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.chunks.push(chunk);
    try {
      this.#onText?.(chunk.toString());
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

/** Runs a command to its end. */
export async function cambium(args: readonly string[], options: TestTerminalOptions = {}): Promise<Outcome> {
  const stdout = new MemoryStream({ isTTY: options.isTerminal ?? false, onText: options.onStdout });
  const stderr = new MemoryStream({ isTTY: options.isTerminal ?? false, onText: options.onStderr });
  // As main.ts does: the command hears of a broken stream by its failed write.
  stdout.on("error", () => {});
  const terminal: Terminal = {
    stdin: Object.assign(Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]), {
      isTTY: options.isTerminal ?? false,
    }),
    stdout: stdout satisfies OutputStream,
    stderr: stderr satisfies OutputStream,
    environment: options.environment ?? {},
    platform: "linux",
    signal: options.signal ?? new AbortController().signal,
  };
  const exitCode = await runCambium(args, terminal);
  return { exitCode, stdout: stdout.bytes.toString(), stderr: stderr.bytes.toString(), stdoutBytes: stdout.bytes };
}
