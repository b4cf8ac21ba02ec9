/**
 * What a write is to be answered, and what it is to change, worked out anew from its words and the state before its record: a second
 * reading of the rules that `internal/store/evaluate.ts` follows, without an engine, and without anything in flight.
 */
import { unreachable } from "../../internal/base/assert.js";
import type { Request } from "../../internal/store/answers.js";
import { StoreError } from "../../internal/store/store.js";
import type {
  Compare,
  Condition,
  TxnOperation,
  TxnReceipt,
  WriteCommand,
  WriteReceipt,
  WriteResult,
} from "../../internal/store/store.js";
import { isWithin, type ModelEntry, type ModelEvent } from "./ledger.js";

/** What clients ask of keys. */
export type Wish = Extract<Request, { readonly kind: "write" | "txn" }>;

/** What is judged against. */
export interface OracleView {
  readonly state: ReadonlyMap<string, ModelEntry>;
  readonly nowMs: number;
  /** The seq of the record that is to be. */
  readonly ownSeq: number;
  /** The seq that a token stands for; undefined: it is of another history. */
  readonly seqOf: (token: Uint8Array) => number | undefined;
}

export interface Ruling {
  /** See `answerText` and `refusalText`. */
  readonly answer: string;
  /** See `eventText`; none: no record is made. */
  readonly events: readonly string[];
}

class Refusal extends Error {
  constructor(readonly answer: string) {
    super(answer);
  }
}

const OWN_SEQ = "its own";
const UNKNOWN_TOKEN = "refused: lineage_lost";

export function judge(wish: Wish, view: OracleView): Ruling {
  try {
    return new Judge(view).judge(wish);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { answer: error.answer, events: [] };
  }
}

/**
 * Whether an answer is what a ruling says. A token of another history may be called lost, or not the one that is there; and what the
 * refused write itself would have changed has the seq of its record, which nobody knows as there is none.
 */
export function agrees({ answer: ruled }: Ruling, answer: string): boolean {
  if (answer === ruled) return true;
  if (ruled === UNKNOWN_TOKEN) return answer.startsWith("refused: condition_failed");
  return ruled.endsWith(OWN_SEQ) && answer.startsWith(ruled.slice(0, -OWN_SEQ.length));
}

class Judge {
  readonly #view: OracleView;
  /** The keys that the operations before have changed. */
  readonly #changed = new Map<string, ModelEntry | undefined>();
  readonly #events: string[] = [];

  constructor(view: OracleView) {
    this.#view = view;
  }

  judge(wish: Wish): Ruling {
    if (wish.kind === "write") {
      const results = wish.commands.map((command, i) => this.#carryOut(command, i));
      return { answer: answerOf(results), events: this.#events };
    }
    const { compares } = wish.txn;
    const failed = compares.flatMap((compare, i) => (this.#holds(compare) ? [] : [i]));
    const results = wish.txn[failed.length === 0 ? "then" : "else"].map((operation, i) => this.#carryOut(operation, i));
    return { answer: `${failed.length === 0} but for ${failed.join()}: ${answerOf(results)}`, events: this.#events };
  }

  #find(key: string): ModelEntry | undefined {
    const entry = this.#changed.has(key) ? this.#changed.get(key) : this.#view.state.get(key);
    return entry && (entry.expiresAtMs === undefined || entry.expiresAtMs > this.#view.nowMs) ? entry : undefined;
  }

  #put(key: string, value: string, expiresAtMs: number | undefined): void {
    const { ownSeq } = this.#view;
    this.#changed.set(key, {
      value,
      createSeq: this.#find(key)?.createSeq ?? ownSeq,
      modSeq: ownSeq,
      expiresAtMs,
    });
    this.#events.push(eventText({ type: "put", key, value, expiresAtMs, rangeEnd: undefined }));
  }

  #remove(key: string): void {
    this.#changed.set(key, undefined);
    this.#events.push(
      eventText({ type: "delete", key, value: undefined, expiresAtMs: undefined, rangeEnd: undefined }),
    );
  }

  #deadline(ttlMs: number): number | undefined {
    return ttlMs > 0 ? this.#view.nowMs + ttlMs : undefined;
  }

  #carryOut(operation: WriteCommand | TxnOperation, index: number): ModelResult {
    if (operation.kind === "delete-range") return this.#removeRange(operation.range);
    const key = textOf(operation.key);
    const found = this.#find(key);
    const existed = found !== undefined;
    if ("condition" in operation && operation.condition) this.#expect(operation.condition, found, index);
    switch (operation.kind) {
      case "get":
        return { existed, entry: found };
      case "set":
        this.#put(
          key,
          textOf(operation.value),
          operation.keepTtl ? found?.expiresAtMs : this.#deadline(operation.ttlMs ?? 0),
        );
        return { existed, previous: operation.wantPrevious && found };
      case "delete":
        if (existed) this.#remove(key);
        return { existed, previous: operation.wantPrevious && found };
      case "touch":
        if (found) this.#put(key, found.value, this.#deadline(operation.ttlMs));
        return { existed };
      case "increment": {
        const { delta, initial, min, max, ttlMs } = operation;
        if (found && !/^(0|-?[1-9]\d{0,17})$/.test(found.value))
          throw new Refusal(`refused: not_an_integer at ${index}`);
        const sum = (found ? BigInt(found.value) : initial) + delta;
        if (sum < min || sum > max) throw new Refusal(`refused: out_of_bounds at ${index} from ${sum - delta}`);
        if (!found || delta !== 0n) this.#put(key, `${sum}`, found ? found.expiresAtMs : this.#deadline(ttlMs));
        return { existed, sum };
      }
      default:
        return unreachable(operation);
    }
  }

  #removeRange({ start, end }: { readonly start: Uint8Array; readonly end?: Uint8Array }): ModelResult {
    const range = { start: textOf(start), end: end && textOf(end) };
    const deleted = [...this.#view.state.keys()].filter((key) => isWithin(key, range) && this.#find(key)).length;
    const event = { type: "delete-range", key: range.start, rangeEnd: range.end } as const;
    if (deleted > 0) this.#events.push(eventText({ ...event, value: undefined, expiresAtMs: undefined }));
    return { existed: deleted > 0, deleted };
  }

  #expect({ ifAbsent, ifSeq, ifToken }: Condition, found: ModelEntry | undefined, index: number): void {
    const modSeq = found?.modSeq ?? 0;
    const wanted = ifToken ? this.#view.seqOf(ifToken) : ifSeq;
    if (ifToken && wanted === undefined) throw new Refusal(UNKNOWN_TOKEN);
    if (ifAbsent ? !found : modSeq === wanted) return;
    const changedAt = modSeq === this.#view.ownSeq ? OWN_SEQ : modSeq;
    throw new Refusal(`refused: condition_failed at ${index}, last changed at ${changedAt}`);
  }

  #holds({ key, comparison, target }: Compare): boolean {
    const found = this.#find(textOf(key));
    const compared = (is: number | string, wanted: number | string): boolean =>
      comparison === "equal"
        ? is === wanted
        : comparison === "not-equal"
          ? is !== wanted
          : comparison === "less"
            ? is < wanted
            : is > wanted;
    switch (target.kind) {
      case "mod-seq":
        return compared(found?.modSeq ?? 0, target.seq);
      case "create-seq":
        return compared(found?.createSeq ?? 0, target.seq);
      case "exists":
        return (found !== undefined) === (target.exists === (comparison === "equal"));
      case "value":
        return found ? compared(found.value, textOf(target.value)) : comparison === "not-equal";
      default:
        return unreachable(target);
    }
  }
}

// ---- answers and events as text, to be compared ------------------------------------------------------------------------

type Shown<V> = {
  readonly value: V;
  readonly createSeq: number;
  readonly modSeq: number;
  readonly expiresAtMs?: number | undefined;
};

interface ModelResult<V = string> {
  readonly existed: boolean;
  readonly previous?: Shown<V> | false | undefined;
  readonly sum?: bigint | undefined;
  readonly deleted?: number | undefined;
  readonly entry?: Shown<V> | undefined;
}

/** Everything that the receipt of a write says, but for its place. */
export function answerText(receipt: WriteReceipt | TxnReceipt): string {
  const results = answerOf(receipt.results.map(asText));
  return "succeeded" in receipt ? `${receipt.succeeded} but for ${receipt.failedCompares.join()}: ${results}` : results;
}

/** What a write was refused with, where that depends on the keys; undefined: it was for something else. */
export function refusalText(error: unknown): string | undefined {
  if (!(error instanceof StoreError)) return undefined;
  const { code, failedCondition, counter } = error;
  if (code === "lineage_lost") return UNKNOWN_TOKEN;
  if (failedCondition)
    return `refused: ${code} at ${failedCondition.operation}, last changed at ${failedCondition.modSeq}`;
  if (counter)
    return `refused: ${code} at ${counter.operation}${counter.value === undefined ? "" : ` from ${counter.value}`}`;
  return undefined;
}

/** A change as the log has it. */
export function eventText({
  type,
  key,
  value,
  rangeEnd,
  expiresAtMs,
}: Pick<ModelEvent, "type" | "key" | "value" | "rangeEnd" | "expiresAtMs">): string {
  if (type === "delete-range") return `${type} ${key} to ${rangeEnd ?? "the end"}`;
  return type === "put" ? `put ${key}=${value} until ${expiresAtMs ?? "ever"}` : `${type} ${key}`;
}

function answerOf(results: readonly ModelResult[]): string {
  return results.map(resultText).join("; ");
}

function resultText({ existed, previous, sum, deleted, entry }: ModelResult): string {
  const found = previous ? ` ${previous.value} @${previous.createSeq}, ${previous.modSeq}` : "";
  const read = entry ? ` ${entry.value} @${entry.createSeq}, ${entry.modSeq} until ${entry.expiresAtMs ?? "ever"}` : "";
  return `${existed}${found}${sum === undefined ? "" : ` =${sum}`}${deleted === undefined ? "" : ` -${deleted}`}${read}`;
}

function asText({ previous, entry, existed, sum, deleted }: WriteResult): ModelResult {
  const shown = (of: Shown<Uint8Array> | undefined): Shown<string> | undefined =>
    of && { ...of, value: textOf(of.value) };
  return { existed, sum, deleted, previous: shown(previous), entry: shown(entry) };
}

const decoder = new TextDecoder();
const textOf = (bytes: Uint8Array): string => decoder.decode(bytes);
