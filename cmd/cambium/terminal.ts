/** Where a command reads and writes: the process's own streams, or those of a test. */
import type { Readable, Writable } from "node:stream";
import pc from "picocolors";

/** A stream that may be a terminal. */
export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

export interface Terminal {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
  /** Fires when the user has had enough. */
  readonly signal: AbortSignal;
}

export type Colors = ReturnType<typeof pc.createColors>;

/** Colours for a stream: on terminals only, and never against NO_COLOR. */
export function colorsFor(stream: OutputStream, { environment }: Terminal): Colors {
  return pc.createColors(stream.isTTY === true && !environment["NO_COLOR"] && environment["TERM"] !== "dumb");
}

/** Writes all of it, at the reader's pace. Rejects with the stream's error, EPIPE when the reader has gone. */
export function write(stream: Writable, data: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => (error ? reject(error) : resolve()));
  });
}

/** Writes one line of JSON. */
export function writeJson(stream: Writable, value: unknown): Promise<void> {
  return write(stream, `${JSON.stringify(value)}\n`);
}

/** Bytes as JSON has them: text where they are UTF-8, else base64, under the name that says which. */
export function jsonValue(bytes: Uint8Array): { value: string } | { valueBase64: string } {
  try {
    return { value: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { valueBase64: Buffer.from(bytes).toString("base64") };
  }
}
