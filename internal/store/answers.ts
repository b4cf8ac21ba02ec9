/**
 * The bytes of an answer that is remembered for safe retries. Where the record stands in the log, the table says; a seq of an entry that is
 * that record's own is 0 here. Numbers are LEB128, but for what is in parentheses; flags are one byte.
 *
 * ```
 * answer   = version (1): 1   kind (1)   request (4): see `requestSum`   body
 *
 * kind 1  write    count   count × result
 * kind 2  txn      flags: bit 0 = succeeded   count   count × index of a compare that failed   count   count × result
 * kind 3  produce  first offset
 *
 * result   = flags: bit 0 = existed, and of what follows: 1 = previous   2 = sum (8, signed)   3 = deleted   4 = entry   5 = deadline
 * previous = create seq   mod seq   length value         entry, the same
 * deadline = ms since 1970: of the entry
 * ```
 *
 * The version stands first so that a later one can change the rest: answers outlive an update of the nodes.
 */
import { assert, unreachable } from "../base/assert.js";
import { crc32Range } from "../base/crc32.js";
import { epochMs, type Seq, seq as toSeq } from "../base/position.js";
import { varintSize } from "../base/varint.js";
import { ByteReader, ByteWriter, FormatError, NewerFormatError, prefixedSize } from "./byte-codec.js";
import type {
  Compare,
  Condition,
  PreviousEntry,
  TxnOperation,
  Txn,
  WriteCommand,
  WriteResult,
} from "./write-command.js";

/** What a write that made a record was told, beside where the record stands. */
export type Answer =
  | { readonly kind: "write"; readonly results: readonly WriteResult[] }
  | {
      readonly kind: "txn";
      readonly succeeded: boolean;
      /** Places in the list of compares. */
      readonly failedCompares: readonly number[];
      readonly results: readonly WriteResult[];
    }
  | { readonly kind: "produce"; readonly firstOffset: number };

/** What somebody asks for who may ask for it again. */
export type Request =
  | { readonly kind: "write"; readonly commands: readonly WriteCommand[] }
  | { readonly kind: "txn"; readonly txn: Txn }
  | { readonly kind: "produce"; readonly records: readonly Uint8Array[] };

const VERSION = 1;
const KINDS = [undefined, "write", "txn", "produce"] as const;
const HEADER_BYTES = 6;
const FLAG_SUCCEEDED = 1;
const FLAG_EXISTED = 1;
const FLAG_PREVIOUS = 2;
const FLAG_SUM = 4;
const FLAG_DELETED = 8;
const FLAG_ENTRY = 16;
const FLAG_DEADLINE = 32;
const FLAGS = FLAG_EXISTED | FLAG_PREVIOUS | FLAG_SUM | FLAG_DELETED | FLAG_ENTRY | FLAG_DEADLINE;
/** Stands for the seq of the record that the answer is of. */
const OWN = 0;

/** The answer of the record `ownSeq` to a request of this sum. */
export function encodeAnswer(answer: Answer, request: number, ownSeq: Seq): Uint8Array {
  const writer = new ByteWriter(Buffer.allocUnsafe(HEADER_BYTES + sizeOf(answer, ownSeq)));
  writer.byte(VERSION);
  writer.byte(KINDS.indexOf(answer.kind));
  writer.uint32(request);
  switch (answer.kind) {
    case "write":
      writeResults(writer, answer.results, ownSeq);
      break;
    case "txn":
      writer.byte(answer.succeeded ? FLAG_SUCCEEDED : 0);
      writer.varint(answer.failedCompares.length);
      for (const index of answer.failedCompares) writer.varint(index);
      writeResults(writer, answer.results, ownSeq);
      break;
    case "produce":
      writer.varint(answer.firstOffset);
      break;
    default:
      unreachable(answer);
  }
  return writer.bytes;
}

/** Values are views. Throws `FormatError`. */
export function decodeAnswer(bytes: Uint8Array, ownSeq: Seq): { readonly answer: Answer; readonly request: number } {
  const reader = new ByteReader(bytes);
  const version = reader.byte();
  if (version > VERSION) throw new NewerFormatError(`an answer of version ${version} is remembered; use a newer one`);
  if (version !== VERSION) throw new FormatError(`an answer of version ${version} was never released`);
  const kind = KINDS[reader.byte()];
  const request = reader.uint32();
  const answer = readBody(reader, kind, ownSeq);
  if (!reader.atEnd) throw new FormatError("bytes follow on an answer");
  return { answer, request };
}

/**
 * By what a request is told from another one that is sent under the same number by mistake: equal for equal requests, and hardly
 * ever equal for others. Unsigned 32 bits.
 */
export function requestSum(request: Request): number {
  switch (request.kind) {
    case "write":
      return request.commands.reduce(sumOfOperation, sumOfText("write", 0));
    case "txn": {
      const { txn } = request;
      let sum = txn.compares.reduce(sumOfCompare, sumOfText("txn", 0));
      sum = txn.then.reduce(sumOfOperation, sumOfText("then", sum));
      return txn.else.reduce(sumOfOperation, sumOfText("else", sum));
    }
    case "produce":
      return request.records.reduce(
        (sum, record) => sumOfBytes(record, sumOfText(`record ${record.length}`, sum)),
        sumOfText("produce", 0),
      );
    default:
      return unreachable(request);
  }
}

function sizeOf(answer: Answer, ownSeq: Seq): number {
  switch (answer.kind) {
    case "write":
      return sizeOfResults(answer.results, ownSeq);
    case "txn": {
      const { failedCompares, results } = answer;
      const failed = failedCompares.reduce((sum, index) => sum + varintSize(index), varintSize(failedCompares.length));
      return 1 + failed + sizeOfResults(results, ownSeq);
    }
    case "produce":
      return varintSize(answer.firstOffset);
    default:
      return unreachable(answer);
  }
}

function readBody(reader: ByteReader, kind: (typeof KINDS)[number], ownSeq: Seq): Answer {
  switch (kind) {
    case "write":
      return { kind, results: readResults(reader, ownSeq) };
    case "txn": {
      const succeeded = reader.flags(FLAG_SUCCEEDED) !== 0;
      const failedCompares: number[] = [];
      for (let left = reader.varint(); left > 0; left--) failedCompares.push(reader.varint());
      return { kind, succeeded, failedCompares, results: readResults(reader, ownSeq) };
    }
    case "produce":
      return { kind, firstOffset: reader.varint() };
    case undefined:
      throw new FormatError("the kind of an answer is unknown to this version");
    default:
      return unreachable(kind);
  }
}

// ---- results ---------------------------------------------------------------------------------------------------------

function sizeOfResults(results: readonly WriteResult[], ownSeq: Seq): number {
  let size = varintSize(results.length);
  for (const { previous, sum, deleted, entry } of results) {
    size += 1;
    if (previous) size += sizeOfEntry(previous, ownSeq);
    if (sum !== undefined) size += 8;
    if (deleted !== undefined) size += varintSize(deleted);
    if (entry) size += sizeOfEntry(entry, ownSeq);
    if (entry?.expiresAtMs !== undefined) size += varintSize(entry.expiresAtMs);
  }
  return size;
}

function writeResults(writer: ByteWriter, results: readonly WriteResult[], ownSeq: Seq): void {
  writer.varint(results.length);
  for (const { existed, previous, sum, deleted, entry } of results) {
    writer.byte(
      (existed ? FLAG_EXISTED : 0) |
        (previous ? FLAG_PREVIOUS : 0) |
        (sum === undefined ? 0 : FLAG_SUM) |
        (deleted === undefined ? 0 : FLAG_DELETED) |
        (entry ? FLAG_ENTRY : 0) |
        (entry?.expiresAtMs === undefined ? 0 : FLAG_DEADLINE),
    );
    if (previous) writeEntry(writer, previous, ownSeq);
    if (sum !== undefined) {
      writer.bytes.writeBigInt64LE(sum, writer.at);
      writer.at += 8;
    }
    if (deleted !== undefined) writer.varint(deleted);
    if (entry) writeEntry(writer, entry, ownSeq);
    if (entry?.expiresAtMs !== undefined) writer.varint(entry.expiresAtMs);
  }
}

function readResults(reader: ByteReader, ownSeq: Seq): WriteResult[] {
  const results: WriteResult[] = [];
  for (let left = reader.varint(); left > 0; left--) {
    const flags = reader.flags(FLAGS);
    const has = (flag: number): boolean => (flags & flag) !== 0;
    if (has(FLAG_DEADLINE) && !has(FLAG_ENTRY)) throw new FormatError("a deadline is of no entry");
    results.push({
      existed: has(FLAG_EXISTED),
      ...(has(FLAG_PREVIOUS) && { previous: readEntry(reader, ownSeq) }),
      ...(has(FLAG_SUM) && { sum: readInt64(reader) }),
      ...(has(FLAG_DELETED) && { deleted: reader.varint() }),
      ...(has(FLAG_ENTRY) && {
        entry: {
          ...readEntry(reader, ownSeq),
          ...(has(FLAG_DEADLINE) && { expiresAtMs: epochMs(reader.varint()) }),
        },
      }),
    });
  }
  return results;
}

const told = (seq: Seq, ownSeq: Seq): number => (seq === ownSeq ? OWN : seq);

function sizeOfEntry({ value, createSeq, modSeq }: PreviousEntry, ownSeq: Seq): number {
  return varintSize(told(createSeq, ownSeq)) + varintSize(told(modSeq, ownSeq)) + prefixedSize(value.length);
}

function writeEntry(writer: ByteWriter, { value, createSeq, modSeq }: PreviousEntry, ownSeq: Seq): void {
  writer.varint(told(createSeq, ownSeq));
  writer.varint(told(modSeq, ownSeq));
  writer.prefixed(value);
}

function readEntry(reader: ByteReader, ownSeq: Seq): PreviousEntry {
  const readSeq = (): Seq => {
    const found = reader.varint();
    return found === OWN ? ownSeq : toSeq(found);
  };
  return { createSeq: readSeq(), modSeq: readSeq(), value: reader.prefixed() };
}

function readInt64(reader: ByteReader): bigint {
  const view = reader.raw(8);
  return new DataView(view.buffer, view.byteOffset, 8).getBigInt64(0, true);
}

// ---- sums of requests ------------------------------------------------------------------------------------------------

// Each text has the lengths of what follows on it, so that what stands behind each other is told apart from what is one.

function sumOfOperation(sum: number, operation: TxnOperation | WriteCommand): number {
  switch (operation.kind) {
    case "set": {
      const { key, value, ttlMs = 0, keepTtl = false, condition, wantPrevious = false } = operation;
      const about = `set ${ttlMs} ${keepTtl} ${wantPrevious} ${key.length} ${value.length}`;
      return sumOfBytes(value, sumOfBytes(key, sumOfCondition(condition, sumOfText(about, sum))));
    }
    case "delete": {
      const { key, condition, wantPrevious = false } = operation;
      return sumOfBytes(key, sumOfCondition(condition, sumOfText(`delete ${wantPrevious} ${key.length}`, sum)));
    }
    case "touch": {
      const { key, ttlMs, condition } = operation;
      return sumOfBytes(key, sumOfCondition(condition, sumOfText(`touch ${ttlMs} ${key.length}`, sum)));
    }
    case "increment": {
      const { key, delta, initial, min, max, ttlMs } = operation;
      const about = `increment ${delta} ${initial} ${min} ${max} ${ttlMs} ${key.length}`;
      return sumOfBytes(key, sumOfText(about, sum));
    }
    case "delete-range": {
      const { start, end } = operation.range;
      const from = sumOfBytes(start, sumOfText(`delete-range ${start.length} ${end?.length}`, sum));
      return end ? sumOfBytes(end, from) : from;
    }
    case "get":
      return sumOfBytes(operation.key, sumOfText(`get ${operation.key.length}`, sum));
    default:
      return unreachable(operation);
  }
}

function sumOfCompare(sum: number, { key, comparison, target }: Compare): number {
  const about = sumOfBytes(key, sumOfText(`compare ${comparison} ${target.kind} ${key.length}`, sum));
  switch (target.kind) {
    case "mod-seq":
    case "create-seq":
      return sumOfText(`${target.seq}`, about);
    case "exists":
      return sumOfText(`${target.exists}`, about);
    case "value":
      return sumOfBytes(target.value, sumOfText(`${target.value.length}`, about));
    default:
      return unreachable(target);
  }
}

function sumOfCondition(condition: Condition | undefined, sum: number): number {
  if (!condition) return sum;
  const { ifAbsent = false, ifSeq, ifToken } = condition;
  const about = sumOfText(`if ${ifAbsent} ${ifSeq} ${ifToken?.length}`, sum);
  return ifToken ? sumOfBytes(ifToken, about) : about;
}

function sumOfBytes(bytes: Uint8Array, sum: number): number {
  return crc32Range(bytes, 0, bytes.length, sum);
}

/** Of digits and Latin letters. */
function sumOfText(text: string, sum: number): number {
  const end = SCRATCH.write(text, "latin1");
  assert(end === text.length, "the texts of requests are short");
  return crc32Range(SCRATCH, 0, end, sum);
}

const SCRATCH = Buffer.alloc(512);
