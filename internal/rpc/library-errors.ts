/**
 * Errors that the protocol library makes by itself, before or after a handler runs, put right: a message that does not
 * parse is the caller's mistake, not this node's, and a limit is named as the operator knows it. They are found in the
 * finished answer, since the library offers no other place; only what ends an answer is looked into.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { encodeEnvelope, type UniversalServerResponse } from "@connectrpc/connect/protocol";
import {
  codeToHttpStatus,
  endStreamFlag,
  endStreamFromJson,
  endStreamToJson,
  errorFromJsonBytes,
  errorToJsonBytes,
} from "@connectrpc/connect/protocol-connect";
import { findTrailerError, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerParse, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import { limitDetail } from "./errors.js";

const ENVELOPE_BYTES = 5;
const MESSAGE_LIMIT = "limits.max_message_bytes";

/** What should be said instead of an error of the library; undefined when it is right as it is. */
export function corrected(error: ConnectError): ConnectError | undefined {
  const { rawMessage, code } = error;
  if (code === Code.Internal && rawMessage.startsWith("parse binary: ")) {
    return new ConnectError(
      `the message does not parse: ${rawMessage.slice("parse binary: ".length)}; encode it by the .proto files of this API`,
      Code.InvalidArgument,
    );
  }
  if (code === Code.Internal && rawMessage.startsWith("received compressed envelope")) {
    return new ConnectError(
      "the message is marked as compressed, but no header says how; name the encoding",
      Code.InvalidArgument,
    );
  }
  const size = /^message size (?:(\d+) )?is larger than configured (read|write)MaxBytes (\d+)/.exec(rawMessage);
  if (!size) return undefined;
  const [, actual, direction, maximum] = size;
  const [what, advice] = direction === "read" ? ["message", "send"] : ["answer", "ask for"];
  return new ConnectError(
    `the ${what} has ${actual ?? `more than ${maximum}`} bytes, ${maximum} are possible (${MESSAGE_LIMIT}); ${advice} less at once`,
    Code.ResourceExhausted,
    undefined,
    // Where the library gave up reading, there was one byte more at least.
    [limitDetail({ limit: MESSAGE_LIMIT, maximum: Number(maximum), actual: Number(actual ?? Number(maximum) + 1) })],
  );
}

/** Puts right what ends a stream of frames of this content type; undefined for types that have no such frame. */
export function frameCorrector(contentType: string): ((frame: Uint8Array) => Uint8Array) | undefined {
  if (contentType.startsWith("application/grpc-web")) return correctWebTrailer;
  if (contentType.startsWith("application/connect+")) return correctEndStream;
  return undefined;
}

/** Puts right the status of a gRPC answer; false when there was nothing to do. */
export function correctStatus(trailer: Headers): boolean {
  if (trailer.get("grpc-status") === "0") return false;
  const error = errorOf(() => findTrailerError(trailer));
  if (!error) return false;
  const instead = corrected(error);
  if (instead) {
    trailer.delete("grpc-status-details-bin");
    setTrailerStatus(trailer, instead);
  }
  trailer.set("grpc-message", encodeStatusMessage((instead ?? error).rawMessage));
  return true;
}

/**
 * A message as gRPC sends it: only `%` and what is no printable ASCII is percent-encoded, as UTF-8. Clients of gRPC may
 * leave in place what should not have been encoded, as the library does with `;` and more.
 */
export function encodeStatusMessage(message: string): string {
  // A character of latin1 is a byte. Spaces at the ends would be lost, as they are of every header.
  return Buffer.from(message)
    .toString("latin1")
    .replace(/[^\x20-\x7e]|%|^ | $/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);
}

/** Puts right an error of the Connect protocol that is sent as JSON. */
export async function correctJson(answer: UniversalServerResponse): Promise<UniversalServerResponse> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of answer.body ?? []) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const error = errorOf(() => errorFromJsonBytes(body, undefined, new ConnectError("")));
  const instead = error && corrected(error);
  if (!instead) return { ...answer, body: single(body) };
  const bytes = errorToJsonBytes(instead, undefined);
  const header = new Headers(answer.header);
  header.set("content-length", String(bytes.byteLength));
  return { ...answer, status: codeToHttpStatus(instead.code), header, body: single(bytes) };
}

// The library gives out one frame a chunk, and neither of these frames is compressed: no error of the library is so large.

function correctWebTrailer(frame: Uint8Array): Uint8Array {
  if (frame[0] !== trailerFlag) return frame;
  const trailer = trailerParse(frame.subarray(ENVELOPE_BYTES));
  return correctStatus(trailer) ? encodeEnvelope(trailerFlag, trailerSerialize(trailer)) : frame;
}

function correctEndStream(frame: Uint8Array): Uint8Array {
  if (frame[0] !== endStreamFlag) return frame;
  const end = endStreamFromJson(frame.subarray(ENVELOPE_BYTES));
  const instead = end.error && corrected(end.error);
  return instead ? endOfStream(instead, end.metadata) : frame;
}

/** What ends a stream of the Connect protocol with an error. */
export function endOfStream(error: ConnectError, metadata = new Headers()): Uint8Array {
  const content = JSON.stringify(endStreamToJson(metadata, error, undefined));
  return encodeEnvelope(endStreamFlag, new TextEncoder().encode(content));
}

/** The error that `read` finds; none where it throws because it finds none. */
function errorOf(read: () => ConnectError | undefined): ConnectError | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

async function* single(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
