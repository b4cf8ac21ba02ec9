/**
 * The messages of `KVStore.Batch`, in binary. A batch is made of many small ones, and there the protobuf library, which looks each field
 * up in its schema, takes more time than all the rest of a call; so gets and plain sets are written and read by hand here, and
 * everything that is rare goes through the library.
 *
 * How the bytes get past it: it passes on fields that a schema does not have. `batchMethod` is `Batch` with empty messages, whose
 * fields are all of that kind.
 */
import { create, type DescMethodUnary, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Empty, EmptySchema } from "@bufbuild/protobuf/wkt";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  type BatchError,
  BatchOperationSchema,
  BatchResultSchema,
  type DeleteRequestSchema,
  type DeleteResponse,
  type GetRequestSchema,
  type GetResponse,
  type IncrementRequestSchema,
  type IncrementResponse,
  KVStore,
  type Previous,
  PreviousSchema,
  type SetRequestSchema,
  type SetResponse,
  type TouchRequestSchema,
  type TouchResponse,
} from "../gen/cambium/v1/kvstore_pb.js";
import { Acknowledge } from "../gen/cambium/v1/types_pb.js";

/** What the calls that can be gathered ask, and what they answer. */
export interface Requests {
  readonly get: MessageInitShape<typeof GetRequestSchema>;
  readonly set: MessageInitShape<typeof SetRequestSchema>;
  readonly delete: MessageInitShape<typeof DeleteRequestSchema>;
  readonly touch: MessageInitShape<typeof TouchRequestSchema>;
  readonly increment: MessageInitShape<typeof IncrementRequestSchema>;
}

interface WirePosition {
  readonly epoch: bigint;
  readonly seq: bigint;
}

/** What of a message is not the library's own. */
type Content<T> = Omit<T, "$typeName" | "$unknown" | "position"> & { readonly position?: WirePosition | undefined };

export interface Answers {
  readonly get: Content<GetResponse>;
  readonly set: Content<SetResponse>;
  readonly delete: Content<DeleteResponse>;
  readonly touch: Content<TouchResponse>;
  readonly increment: Content<IncrementResponse>;
}

export type Kind = keyof Requests;

/** One operation: its kind, and what is asked. */
export type Asked = { readonly [K in Kind]: { readonly kind: K; readonly request: Requests[K] } }[Kind];

/** What became of one operation. */
export type Told =
  | { readonly kind: Kind; readonly answer: Answers[Kind] }
  | { readonly kind: "error"; readonly error: BatchError }
  | { readonly kind: "left-out" };

export const batchMethod: DescMethodUnary<typeof EmptySchema, typeof EmptySchema> = Object.assign(
  Object.create(KVStore.method.batch) as DescMethodUnary<typeof EmptySchema, typeof EmptySchema>,
  { input: EmptySchema, output: EmptySchema },
);

// The numbers of the fields, and tags: a field's number, and the form of its value in the last three bits.
const OPERATIONS = 1;
const RESULTS = 1;
const tagOf = (field: number, form: WireType): number => (field << 3) | form;
const LENGTH_BYTES = 3;
const LENGTH_MAX = 2 ** (7 * LENGTH_BYTES);

/** One that ends before the batch does has its own time. */
export interface Operation {
  readonly asked: Asked;
  readonly timeoutMs?: number;
}

export function writeBatch(
  operations: readonly Operation[],
  options: { readonly maxBytes: number; readonly noWaiting: boolean },
): Empty {
  return writer.write(operations, options);
}

/** Each operation less than 2 MiB. */
class BatchWriter {
  /** It serves one batch after the other. */
  #bytes = new Uint8Array(16 * 1024);
  #at = 0;

  write(
    operations: readonly Operation[],
    { maxBytes, noWaiting }: { readonly maxBytes: number; readonly noWaiting: boolean },
  ): Empty {
    this.#at = 0;
    for (const { asked, timeoutMs } of operations) {
      const { kind, request } = asked;
      this.#reserve(64 + 3 * (request.key?.length ?? 0) + (kind === "set" ? (request.value?.length ?? 0) : 0));
      const operation = this.#begin(OPERATIONS);
      if (kind === "get") this.#get(request);
      else if (kind === "set" && isPlain(request)) this.#set(request);
      else this.#otherwise(asked);
      if (timeoutMs !== undefined) this.#number(6, timeoutMs);
      this.#end(operation);
    }
    this.#reserve(16);
    this.#number(2, maxBytes);
    if (noWaiting) this.#number(3, 1);
    // The library writes the tag of the first field itself, and the rest as it is.
    const data = this.#bytes.slice(1, this.#at);
    return Object.assign(create(EmptySchema), {
      $unknown: [{ no: OPERATIONS, wireType: WireType.LengthDelimited, data }],
    });
  }

  #get({ key = "", consistency }: Requests["get"]): void {
    const get = this.#begin(1);
    this.#text(1, key);
    if (consistency) {
      const { atLeast, atLeastSeq = 0n, maxStalenessMs, linearizable = false } = consistency;
      this.#reserve(64 + (atLeast?.length ?? 0));
      const part = this.#begin(2);
      if (atLeast) this.#raw(1, atLeast);
      if (atLeastSeq > 0n) this.#number(2, Number(atLeastSeq));
      if (maxStalenessMs !== undefined) this.#number(3, Number(maxStalenessMs));
      if (linearizable) this.#number(4, 1);
      this.#end(part);
    }
    this.#end(get);
  }

  #set({
    key = "",
    value,
    ttlMs = 0n,
    acknowledge = Acknowledge.UNSPECIFIED,
    clientId = "",
    clientSeq = 0n,
  }: Requests["set"]): void {
    this.#reserve(64 + 3 * clientId.length);
    const set = this.#begin(2);
    this.#text(1, key);
    if (value && value.length > 0) this.#raw(2, value);
    if (ttlMs > 0n) this.#number(3, Number(ttlMs));
    if (acknowledge !== Acknowledge.UNSPECIFIED) this.#number(4, acknowledge);
    if (clientId !== "") this.#text(10, clientId);
    if (clientSeq > 0n) this.#number(11, Number(clientSeq));
    this.#end(set);
  }

  #otherwise({ kind, request }: Asked): void {
    const operation = { case: kind, value: request } as MessageInitShape<typeof BatchOperationSchema>["operation"];
    const bytes = toBinary(BatchOperationSchema, create(BatchOperationSchema, { operation: operation! }));
    this.#reserve(bytes.length + 16);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** Begins a message within the message; `#end` puts its length before it, in as many bytes as were left for that. */
  #begin(field: number): number {
    this.#bytes[this.#at++] = tagOf(field, WireType.LengthDelimited);
    this.#at += LENGTH_BYTES;
    return this.#at;
  }

  #end(began: number): void {
    let length = this.#at - began;
    if (length >= LENGTH_MAX) throw new RangeError(`an operation of ${length} bytes is too large for a batch`);
    // Numbers have seven bits in a byte, the lowest first; the eighth says that more follow, which may be zeros.
    for (let at = began - LENGTH_BYTES; at < began - 1; at++, length >>>= 7) this.#bytes[at] = (length & 0x7f) | 0x80;
    this.#bytes[began - 1] = length;
  }

  #text(field: number, text: string): void {
    const began = this.#begin(field);
    const bytes = this.#bytes;
    let at = began;
    for (; at - began < text.length; at++) {
      const code = text.charCodeAt(at - began);
      if (code > 0x7f) break;
      bytes[at] = code;
    }
    this.#at = at;
    if (at - began < text.length) {
      this.#at += encoder.encodeInto(text.slice(at - began), bytes.subarray(at)).written;
    }
    this.#end(began);
  }

  #raw(field: number, value: Uint8Array): void {
    const began = this.#begin(field);
    this.#bytes.set(value, began);
    this.#at += value.length;
    this.#end(began);
  }

  /** Whole, from 0 to 2^53 - 1. */
  #number(field: number, value: number): void {
    const bytes = this.#bytes;
    bytes[this.#at++] = tagOf(field, WireType.Varint);
    let left = value;
    for (; left > 0x7f; left = Math.floor(left / 128)) bytes[this.#at++] = (left % 128) | 0x80;
    bytes[this.#at++] = left;
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#at + bytes, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}

const encoder = new TextEncoder();
const writer = new BatchWriter();

/** Whether a set has nothing that is rare. */
function isPlain({ keepTtl, ifAbsent, ifSeq, ifToken, wantPrevious }: Requests["set"]): boolean {
  return !keepTtl && !ifAbsent && ifSeq === undefined && ifToken === undefined && !wantPrevious;
}

/** The results of an answer, in their order. Throws where the bytes make no sense. */
export function readResults({ $unknown = [] }: Empty): Told[] {
  const results: Told[] = [];
  const shared: Shared = {};
  for (const { no, data } of $unknown) {
    if (no === RESULTS) results.push(readResult(new BinaryReader(data).bytes(), shared));
  }
  return results;
}

/** What the results of one answer often have in common, so that there need not be one of each. */
interface Shared {
  token?: Uint8Array<ArrayBuffer>;
}

function readResult(bytes: Uint8Array, shared: Shared): Told {
  const reader = new BinaryReader(bytes);
  const [field] = reader.tag();
  if (field === 1) return { kind: "get", answer: readGet(reader, reader.uint32() + reader.pos, shared) };
  if (field === 2) return { kind: "set", answer: readSet(reader, reader.uint32() + reader.pos, shared) };
  const { result } = fromBinary(BatchResultSchema, bytes);
  switch (result.case) {
    case "error":
      return { kind: "error", error: result.value };
    case "leftOut":
      return { kind: "left-out" };
    case undefined:
      throw new Error("a result is of a kind that this client does not know");
    default:
      return { kind: result.case, answer: result.value };
  }
}

function readGet(reader: BinaryReader, end: number, shared: Shared): Answers["get"] {
  const answer = { exists: false, value: nothing, createSeq: 0n, modSeq: 0n, token: nothing };
  const more: { position?: WirePosition; ttlMs?: bigint; stalenessMs?: bigint } = {};
  while (reader.pos < end) {
    const [field, form] = reader.tag();
    switch (field) {
      case 1:
        answer.exists = reader.bool();
        break;
      case 2:
        // The answer has many values: one that is kept must not keep the others.
        answer.value = new Uint8Array(reader.bytes());
        break;
      case 3:
        more.position = readPosition(reader);
        break;
      case 4:
        answer.createSeq = BigInt(reader.uint64());
        break;
      case 5:
        answer.modSeq = BigInt(reader.uint64());
        break;
      case 6:
        more.ttlMs = BigInt(reader.uint64());
        break;
      case 7:
        more.stalenessMs = BigInt(reader.uint64());
        break;
      case 8:
        answer.token = readToken(reader, shared);
        break;
      default:
        reader.skip(form, field);
    }
  }
  return Object.assign(answer, more);
}

function readSet(reader: BinaryReader, end: number, shared: Shared): Answers["set"] {
  const answer = { token: nothing, repeated: false };
  const more: { position?: WirePosition; previous?: Previous } = {};
  while (reader.pos < end) {
    const [field, form] = reader.tag();
    switch (field) {
      case 1:
        more.position = readPosition(reader);
        break;
      case 2:
        answer.token = readToken(reader, shared);
        break;
      case 3:
        more.previous = fromBinary(PreviousSchema, reader.bytes());
        break;
      case 4:
        answer.repeated = reader.bool();
        break;
      default:
        reader.skip(form, field);
    }
  }
  return Object.assign(answer, more);
}

function readPosition(reader: BinaryReader): WirePosition {
  const end = reader.uint32() + reader.pos;
  let [epoch, seq] = [0n, 0n];
  while (reader.pos < end) {
    const [field, form] = reader.tag();
    if (field === 1) epoch = BigInt(reader.uint64());
    else if (field === 2) seq = BigInt(reader.uint64());
    else reader.skip(form, field);
  }
  return { epoch, seq };
}

function readToken(reader: BinaryReader, shared: Shared): Uint8Array<ArrayBuffer> {
  const token = reader.bytes();
  const known = shared.token;
  if (known?.length === token.length && known.every((byte, at) => byte === token[at])) return known;
  return (shared.token = new Uint8Array(token));
}

const nothing = new Uint8Array(0);
