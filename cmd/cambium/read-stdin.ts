/** All of stdin, as one value. */
import { addAbortSignal } from "node:stream";
import { CliError } from "./cli-error.js";
import type { Terminal } from "./terminal.js";
import { VALUE_BYTES_MAX } from "./value-file.js";

export async function readStdin(stdin: Terminal["stdin"], signal: AbortSignal): Promise<Uint8Array> {
  addAbortSignal(signal, stdin);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : (chunk as Uint8Array);
    length += bytes.byteLength;
    if (length > VALUE_BYTES_MAX) throw new CliError("failed", "stdin has more bytes than a value ever has");
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}
