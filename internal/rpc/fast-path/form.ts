/** Whether the head of a request is one of those that this room knows all about. */
/** By their names in lower case. */
type Headers = Readonly<Record<string, string | string[] | undefined>>;

export interface Form {
  readonly isJson: boolean;
  /** Else it is Connect's protocol for single messages. */
  readonly isGrpc: boolean;
  /** How long the caller waits, from the head on; undefined: for as long as it takes. */
  readonly timeoutMs: number | undefined;
}

/** Bytes of a body; larger ones are given to be parsed by turns. */
export const BODY_BYTES_MAX = 64 * 1024;
/** Answers from here on may be compressed, or are given by turns. */
export const ANSWER_BYTES_MAX = 16 * 1024 - 1;
/** Before a message of gRPC: the flag that says whether it is compressed, and its length. */
export const ENVELOPE_BYTES = 5;

const BINARY: Form = { isJson: false, isGrpc: false, timeoutMs: undefined };
const JSON_TEXT: Form = { isJson: true, isGrpc: false, timeoutMs: undefined };
const GRPC: Form = { isJson: false, isGrpc: true, timeoutMs: undefined };

const FORMS: ReadonlyMap<string, Form> = new Map([
  ["application/proto", BINARY],
  ["application/json", JSON_TEXT],
  ["application/grpc", GRPC],
  ["application/grpc+proto", GRPC],
]);

const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 };
/** Timers fire at once when they are set for longer. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** Undefined: something in the head wants more than is done here, or may. */
export function formOf(headers: Headers): Form | undefined {
  if (
    headers["content-encoding"] !== undefined ||
    (headers["transfer-encoding"] ?? "chunked") !== "chunked" ||
    headers["expect"] !== undefined ||
    headers["upgrade"] !== undefined ||
    // Whether a page may call, and what it is told of that, is a matter of its own.
    headers["origin"] !== undefined ||
    headers["sec-fetch-site"] !== undefined
  ) {
    return undefined;
  }
  const type = headers["content-type"];
  const form = typeof type === "string" ? FORMS.get(type) : undefined;
  if (!form) return undefined;
  if (form.isGrpc) {
    const encoding = headers["grpc-encoding"];
    if (encoding !== undefined && encoding !== "identity") return undefined;
    return withTimeout(form, headers["grpc-timeout"], grpcTimeoutMs);
  }
  return withTimeout(form, headers["connect-timeout-ms"], connectTimeoutMs);
}

function withTimeout(
  form: Form,
  timeout: string | string[] | undefined,
  timeoutMsOf: (text: string) => number | undefined,
): Form | undefined {
  if (timeout === undefined) return form;
  const timeoutMs = typeof timeout === "string" ? timeoutMsOf(timeout) : undefined;
  if (timeoutMs === undefined || timeoutMs < 1 || timeoutMs > TIMEOUT_MS_MAX) return undefined;
  return { isJson: form.isJson, isGrpc: form.isGrpc, timeoutMs };
}

function connectTimeoutMs(text: string): number | undefined {
  return /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

function grpcTimeoutMs(text: string): number | undefined {
  return /^\d{1,8}[HMSmun]$/.test(text) ? Number(text.slice(0, -1)) * UNIT_MS[text.at(-1)!]! : undefined;
}

/** The message within a body of gRPC; undefined: there is not exactly one, or it is compressed. */
export function unwrapped(body: Buffer): Buffer | undefined {
  if (body.length < ENVELOPE_BYTES || body[0] !== 0 || body.readUInt32BE(1) !== body.length - ENVELOPE_BYTES) {
    return undefined;
  }
  return body.subarray(ENVELOPE_BYTES);
}
