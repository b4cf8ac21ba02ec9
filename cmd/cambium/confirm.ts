/** Asks the person at the terminal. */
import { createInterface } from "node:readline";
import { CliError } from "./cli-error.js";
import { type Terminal, write } from "./terminal.js";

/**
 * Resolves when the answer is yes. Throws `CliError`: `failed` for any other answer, `usage` where nobody can be asked; there
 * `flag` is what says yes beforehand.
 */
export async function confirm(question: string, flag: string, { stdin, stderr, signal }: Terminal): Promise<void> {
  if (stdin.isTTY !== true) {
    throw new CliError("usage", `this asks for a confirmation, and standard input is no terminal; give ${flag}`);
  }
  await write(stderr, `${question} (yes or no) `);
  const lines = createInterface({ input: stdin, terminal: false });
  const stop = (): void => lines.close();
  signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const line of lines) {
      if (/^y(es)?$/i.test(line.trim())) return;
      break;
    }
  } finally {
    signal.removeEventListener("abort", stop);
    lines.close();
  }
  throw new CliError("failed", "nothing was done");
}
