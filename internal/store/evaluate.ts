/** From wishes to effects: what commands change, judged against the state as the writes in flight will leave it. */
import { assert, must, unreachable } from "../base/assert.js";
import { type EpochMs, epochMs, type Seq, seq as toSeq } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import type { Change } from "./change.js";
import { type Comparable, holds } from "./compare.js";
import { countRange } from "./count-range.js";
import { counterOf, counterText } from "./counter.js";
import { type InFlight, keyName, type Overlay } from "./overlay.js";
import { notOrderedError, StoreError } from "./store-error.js";
import type {
  Condition,
  DeleteCommand,
  DeleteRangeCommand,
  IncrementCommand,
  PreviousEntry,
  ReadEntry,
  SetCommand,
  TouchCommand,
  Txn,
  TxnOperation,
  WriteCommand,
  WriteResult,
} from "./write-command.js";

/** What is judged against. */
export interface EvaluationView {
  readonly engine: Engine;
  readonly overlay: Overlay;
  /** The time of the record that is to be: what is overdue then is absent. */
  readonly nowMs: EpochMs;
  /** The seq of the record that is to be. */
  readonly ownSeq: Seq;
  /** See `WriteOptions`. */
  readonly storedBytesMax: number;
  /** The record that a token stands for; undefined: none of this history. Throws `StoreError` "lineage_lost", "invalid_token". */
  readonly seqOfToken: (token: Uint8Array) => Seq | undefined;
}

export interface Evaluation {
  /** The effects, in order; none when the commands change nothing. */
  readonly changes: readonly Change[];
  /** One for each command. */
  readonly results: readonly WriteResult[];
  /** The highest seq in flight that the answer depends on; 0 when it depends on committed state alone. */
  readonly seenSeq: Seq;
  /** Why nothing of it is done; as much of an answer as any result. There are no changes then. */
  readonly refusal?: StoreError;
}

export interface TxnEvaluation extends Evaluation {
  readonly succeeded: boolean;
  readonly failedCompares: readonly number[];
}

/** Judges the commands in order, each against what the ones before it leave. */
export function evaluate(commands: readonly WriteCommand[], view: EvaluationView): Evaluation {
  const evaluator = new Evaluator(view, commands.length);
  return evaluator.run(commands);
}

/** Judges the comparisons, and then the operations of the list that they choose, in order, each against what the ones before it leave. */
export function evaluateTxn(txn: Txn, view: EvaluationView): TxnEvaluation {
  const evaluator = new Evaluator(view, txn.then.length + txn.else.length);
  const failedCompares = evaluator.failedOf(txn);
  const succeeded = failedCompares.length === 0;
  return { ...evaluator.run(succeeded ? txn.then : txn.else), succeeded, failedCompares };
}

/** A key that is there: committed, in flight, or written by this very record. */
interface Found {
  readonly value: Uint8Array;
  readonly modSeq: Seq;
  readonly createSeq?: Seq | undefined;
  readonly expiresAtMs?: EpochMs | undefined;
}

/** By the master's time: nothing is overdue then. */
const BEFORE_ALL_DEADLINES: EpochMs = epochMs(0);

class Evaluator {
  readonly #view: EvaluationView;
  readonly #changes: Change[] = [];
  readonly #results: WriteResult[] = [];
  /** How the commands before leave their keys. */
  readonly #own: Map<string, InFlight> | undefined;
  #seenSeq = 0;
  #storedBytes = 0;

  constructor(view: EvaluationView, commandCount: number) {
    this.#view = view;
    this.#own = commandCount > 1 ? new Map() : undefined;
  }

  run(commands: readonly (WriteCommand | TxnOperation)[]): Evaluation {
    try {
      for (let i = 0; i < commands.length; i++) this.#results.push(this.#carryOut(commands[i]!, i));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return { changes: [], results: [], seenSeq: toSeq(this.#seenSeq), refusal: error };
    }
    return { changes: this.#changes, results: this.#results, seenSeq: toSeq(this.#seenSeq) };
  }

  failedOf({ compares }: Txn): number[] {
    const failed: number[] = [];
    for (const [i, compare] of compares.entries()) {
      const found = this.#find(compare.key, keyName(compare.key));
      if (!holds(compare, found && this.#comparable(compare.key, found))) failed.push(i);
    }
    return failed;
  }

  #carryOut(command: WriteCommand | TxnOperation, index: number): WriteResult {
    switch (command.kind) {
      case "set":
        return this.#set(command, index);
      case "delete":
        return this.#delete(command, index);
      case "touch":
        return this.#touch(command, index);
      case "increment":
        return this.#increment(command, index);
      case "get":
        return this.#get(command.key);
      case "delete-range":
        return this.#deleteRange(command);
      default:
        return unreachable(command);
    }
  }

  #set({ key, value, ttlMs = 0, keepTtl, condition, wantPrevious }: SetCommand, index: number): WriteResult {
    const name = keyName(key);
    const found = this.#find(key, name);
    if (condition) this.#judge(condition, key, found, index);
    const previous = wantPrevious && found && this.#previous(key, found);
    this.#put(key, name, value, found, keepTtl ? found?.expiresAtMs : this.#deadline(ttlMs));
    return previous ? { existed: true, previous } : { existed: found !== undefined };
  }

  #delete({ key, condition, wantPrevious }: DeleteCommand, index: number): WriteResult {
    const name = keyName(key);
    const found = this.#find(key, name);
    if (condition) this.#judge(condition, key, found, index);
    if (!found) return { existed: false };
    const previous = wantPrevious && this.#previous(key, found);
    this.#changes.push({ kind: "delete", key, previousSeq: found.modSeq });
    this.#own?.set(name, { modSeq: this.#view.ownSeq });
    return previous ? { existed: true, previous } : { existed: true };
  }

  #touch({ key, ttlMs, condition }: TouchCommand, index: number): WriteResult {
    const name = keyName(key);
    const found = this.#find(key, name);
    if (condition) this.#judge(condition, key, found, index);
    if (!found) return { existed: false };
    this.#put(key, name, this.#copy(found.value), found, this.#deadline(ttlMs));
    return { existed: true };
  }

  #increment({ key, delta, initial, min, max, ttlMs }: IncrementCommand, index: number): WriteResult {
    const name = keyName(key);
    const found = this.#find(key, name);
    const value = found ? counterOf(found.value) : initial;
    if (value === undefined) throw notAnInteger(key, index);
    const sum = value + delta;
    if (sum < min || sum > max) throw outOfBounds({ key, operation: index, value, min, max });
    if (!found || delta !== 0n) {
      this.#put(key, name, counterText(sum), found, found ? found.expiresAtMs : this.#deadline(ttlMs));
    }
    return { existed: found !== undefined, sum };
  }

  #get(key: Uint8Array): WriteResult {
    const found = this.#find(key, keyName(key));
    if (!found) return { existed: false };
    const { expiresAtMs } = found;
    const entry: ReadEntry = { ...this.#previous(key, found), ...(expiresAtMs !== undefined && { expiresAtMs }) };
    return { existed: true, entry };
  }

  #deleteRange({ range }: DeleteRangeCommand): WriteResult {
    assert(!this.#own, "a range is removed alone");
    if (!this.#view.engine.isOrdered) throw notOrderedError();
    const { start, end } = range;
    if (end && Buffer.compare(start, end) >= 0) return { existed: false, deleted: 0 };
    const { count, seenSeq } = countRange(range, this.#view);
    this.#seenSeq = Math.max(this.#seenSeq, seenSeq);
    if (count === 0) return { existed: false, deleted: 0 };
    this.#changes.push({ kind: "delete-range", start, ...(end && { end }) });
    return { existed: true, ...(count !== undefined && { deleted: count }) };
  }

  /** How a key stands after the commands before; undefined when it is absent. What it gives is valid until the next operation of the engine. */
  #find(key: Uint8Array, name: string): Found | undefined {
    const own = this.#own?.get(name);
    const inFlight = own ?? this.#view.overlay.look(name);
    if (!inFlight) return this.#view.engine.get(key, this.#view.nowMs);
    if (!own) this.#seenSeq = Math.max(this.#seenSeq, inFlight.modSeq);
    const { value, expiresAtMs } = inFlight;
    if (!value || (expiresAtMs !== undefined && expiresAtMs <= this.#view.nowMs)) return undefined;
    return inFlight as InFlight & { readonly value: Uint8Array };
  }

  #put(
    key: Uint8Array,
    name: string,
    value: Uint8Array,
    found: Found | undefined,
    expiresAtMs: EpochMs | undefined,
  ): void {
    const previousSeq = found ? found.modSeq : toSeq(0);
    this.#changes.push(
      expiresAtMs === undefined
        ? { kind: "put", key, value, previousSeq }
        : { kind: "put", key, value, expiresAtMs, previousSeq },
    );
    const { ownSeq } = this.#view;
    this.#own?.set(name, { modSeq: ownSeq, value, createSeq: found ? found.createSeq : ownSeq, expiresAtMs });
  }

  #deadline(ttlMs: number): EpochMs | undefined {
    return ttlMs > 0 ? epochMs(this.#view.nowMs + ttlMs) : undefined;
  }

  #judge({ ifAbsent, ifSeq, ifToken }: Condition, key: Uint8Array, found: Found | undefined, index: number): void {
    const modSeq = found ? found.modSeq : toSeq(0);
    const isMet =
      (!ifAbsent || !found) &&
      (ifSeq === undefined || modSeq === ifSeq) &&
      (ifToken === undefined || modSeq === this.#view.seqOfToken(ifToken));
    if (isMet) return;
    const is = found ? `was changed last at seq ${modSeq}` : "is absent";
    const message = `the condition does not hold: the key ${is}; nothing was changed; read it, and decide anew`;
    throw new StoreError("condition_failed", message, {
      failedCondition: { key, exists: found !== undefined, modSeq, operation: index },
    });
  }

  #previous(key: Uint8Array, found: Found): PreviousEntry {
    const { value, modSeq, createSeq } = this.#comparable(key, found);
    return { value: this.#copy(value), createSeq, modSeq };
  }

  #comparable(key: Uint8Array, found: Found): Comparable {
    const createSeq = found.createSeq ?? this.#committedCreateSeq(key);
    return { value: found.value, modSeq: found.modSeq, createSeq };
  }

  /** Of a key that was changed in flight, and was there before that: it stays until what is in flight is applied. */
  #committedCreateSeq(key: Uint8Array): Seq {
    return must(this.#view.engine.get(key, BEFORE_ALL_DEADLINES), "a key that is changed is there").createSeq;
  }

  /** A value that outlives the next operation of the engine. */
  #copy(value: Uint8Array): Uint8Array {
    const { storedBytesMax } = this.#view;
    this.#storedBytes += value.length;
    if (this.#storedBytes > storedBytesMax) {
      const message = `the values that this write reads have more than ${storedBytesMax} bytes together; nothing was changed; divide it`;
      const passed = { limit: "limits.max_message_bytes", maximum: storedBytesMax, actual: this.#storedBytes };
      throw new StoreError("too_large", message, { passed });
    }
    return new Uint8Array(value);
  }
}

function notAnInteger(key: Uint8Array, operation: number): StoreError {
  const message = "the value of the key is no decimal number of 64 bits; nothing was changed; set it to one first";
  return new StoreError("not_an_integer", message, { counter: { key, operation } });
}

function outOfBounds(counter: NonNullable<StoreError["counter"]>): StoreError {
  const { value, min, max } = counter;
  const message = `the key holds, or counts as, ${value}, and the sum would not be within ${min} and ${max}; nothing was changed`;
  return new StoreError("out_of_bounds", message, { counter });
}
