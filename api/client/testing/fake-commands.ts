/** What the operations of a write find and do, on a state in memory. */
import { Code, ConnectError } from "@connectrpc/connect";
import { type Compare, Comparison, EventType, type TxnOperation } from "../../gen/cambium/v1/kvstore_pb.js";
import { ConditionFailedSchema, NotAnIntegerSchema, OutOfBoundsSchema } from "../../gen/cambium/v1/types_pb.js";

export interface FakeEntry {
  readonly value: Uint8Array;
  readonly createSeq: bigint;
  readonly modSeq: bigint;
  readonly expiresAtMs?: bigint;
}

export interface FakeResult {
  readonly existed: boolean;
  readonly previous?: { readonly value: Uint8Array; readonly createSeq: bigint; readonly modSeq: bigint };
  readonly value?: bigint;
  readonly entry?: FakeEntry;
}

interface Effect {
  readonly type: EventType;
  readonly key: string;
  readonly value?: Uint8Array;
  readonly expiresAtMs?: bigint;
}

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

export class FakeCommands {
  readonly effects: Effect[] = [];
  readonly #state: Map<string, FakeEntry>;
  readonly #seq: bigint;
  readonly #nowMs: bigint;

  constructor(state: Map<string, FakeEntry>, seq: bigint, nowMs: bigint) {
    this.#state = state;
    this.#seq = seq;
    this.#nowMs = nowMs;
  }

  carryOut(operation: TxnOperation["operation"], index: number): FakeResult {
    if (operation.case === undefined) return refuse("an operation is empty");
    const { key } = operation.value;
    const entry = this.#state.get(key);
    const existed = entry !== undefined;
    switch (operation.case) {
      case "get":
        return { existed, ...(entry && { entry }) };
      case "set": {
        const { value, ttlMs, keepTtl, wantPrevious } = operation.value;
        this.#assertCondition(operation.value, entry, index);
        this.#put(key, value, keepTtl ? entry?.expiresAtMs : this.#deadline(ttlMs));
        return { existed, ...(wantPrevious && entry && { previous: entry }) };
      }
      case "delete": {
        this.#assertCondition(operation.value, entry, index);
        if (!entry) return { existed };
        this.#state.delete(key);
        this.effects.push({ type: EventType.DELETE, key });
        return { existed, ...(operation.value.wantPrevious && { previous: entry }) };
      }
      case "touch":
        this.#assertCondition(operation.value, entry, index);
        if (entry) this.#put(key, entry.value, this.#deadline(operation.value.ttlMs));
        return { existed };
      case "increment": {
        const { delta = 1n, initial, min = INT64_MIN, max = INT64_MAX, ttlMs } = operation.value;
        const text = entry && new TextDecoder().decode(entry.value);
        if (text !== undefined && !/^-?\d{1,19}$/.test(text)) {
          throw new ConnectError(`${key} holds no integer`, Code.FailedPrecondition, undefined, [
            { desc: NotAnIntegerSchema, value: { key, operation: index } },
          ]);
        }
        const value = text === undefined ? initial : BigInt(text);
        const sum = value + delta;
        if (sum < min || sum > max) {
          throw new ConnectError(`${sum} is out of bounds`, Code.FailedPrecondition, undefined, [
            { desc: OutOfBoundsSchema, value: { key, value, min, max, operation: index } },
          ]);
        }
        const deadline = entry ? entry.expiresAtMs : this.#deadline(ttlMs);
        if (!entry || delta !== 0n) this.#put(key, new TextEncoder().encode(String(sum)), deadline);
        return { existed, value: sum };
      }
    }
  }

  #put(key: string, value: Uint8Array, expiresAtMs: bigint | undefined): void {
    const deadline = expiresAtMs === undefined ? {} : { expiresAtMs };
    const createSeq = this.#state.get(key)?.createSeq ?? this.#seq;
    this.#state.set(key, { value, createSeq, modSeq: this.#seq, ...deadline });
    this.effects.push({ type: EventType.PUT, key, value, ...deadline });
  }

  #deadline(ttlMs: bigint): bigint | undefined {
    return ttlMs > 0n ? this.#nowMs + ttlMs : undefined;
  }

  #assertCondition(
    condition: { key: string; ifAbsent?: boolean; ifSeq?: bigint | undefined; ifToken: Uint8Array },
    entry: FakeEntry | undefined,
    operation: number,
  ): void {
    const { key, ifAbsent = false, ifSeq, ifToken } = condition;
    const token = /seq (\d+)$/.exec(new TextDecoder().decode(ifToken))?.[1];
    const wanted = ifAbsent ? 0n : token === undefined ? ifSeq : BigInt(token);
    const modSeq = entry?.modSeq ?? 0n;
    if (wanted === undefined || wanted === modSeq) return;
    throw new ConnectError(`${key} has mod seq ${modSeq}, not ${wanted}`, Code.FailedPrecondition, undefined, [
      { desc: ConditionFailedSchema, value: { key, exists: entry !== undefined, modSeq, operation } },
    ]);
  }
}

export function refuse(message: string): never {
  throw new ConnectError(message, Code.InvalidArgument);
}

/** Whether a comparison holds. */
export function holds({ comparison, target }: Compare, entry: FakeEntry | undefined): boolean {
  const difference = differenceOf(target, entry);
  switch (comparison) {
    case Comparison.NOT_EQUAL:
      return difference !== 0;
    case Comparison.LESS:
      return difference < 0;
    case Comparison.GREATER:
      return difference > 0;
    default:
      return difference === 0;
  }
}

function differenceOf(target: Compare["target"], entry: FakeEntry | undefined): number {
  switch (target.case) {
    case "modSeq":
      return Number((entry?.modSeq ?? 0n) - target.value);
    case "createSeq":
      return Number((entry?.createSeq ?? 0n) - target.value);
    case "exists":
      return (entry !== undefined) === target.value ? 0 : 1;
    case "value":
      return entry ? Buffer.compare(entry.value, target.value) : NaN;
    default:
      return refuse("a compare has no target");
  }
}

/** The keys of a prefix or a range, as a range. */
export function rangeOf({ prefix, start, end }: { prefix: string; start: string; end: string }): {
  readonly start: string;
  readonly end: string;
} {
  if (prefix === "") return { start, end };
  // Enough for the keys of tests, which are ASCII.
  return { start: prefix, end: prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1) };
}
