/** The lines of a stream, byte for byte, without their line breaks. */
import type { Readable } from "node:stream";
import { CliError } from "./cli-error.js";
import { VALUE_BYTES_MAX } from "./value-file.js";

const LINE_BREAK = 0x0a;

export async function* stdinLines(stdin: Readable): AsyncGenerator<Uint8Array> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : (chunk as Buffer);
    let from = 0;
    for (let at = bytes.indexOf(LINE_BREAK); at >= 0; at = bytes.indexOf(LINE_BREAK, from)) {
      yield Buffer.concat([...parts, bytes.subarray(from, at)]);
      parts = [];
      length = 0;
      from = at + 1;
    }
    if (from === bytes.length) continue;
    parts.push(bytes.subarray(from));
    length += bytes.length - from;
    if (length > VALUE_BYTES_MAX) throw new CliError("failed", "a line of stdin has more bytes than a record ever has");
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}
