/** Makes wishes to change keys, by chance, and says what a wish and its answer mean for the single keys, taken as registers. */
import { seq as toSeq } from "../../internal/base/position.js";
import { INT64_MAX, INT64_MIN } from "../../internal/store/counter.js";
import type {
  Compare,
  Condition,
  StoreError,
  TxnOperation,
  TxnReceipt,
  WriteCommand,
  WriteReceipt,
} from "../../internal/store/store.js";
import { isWithin } from "./ledger.js";
import type { RegisterOperation } from "./linearizability.js";
import type { Wish } from "./oracle.js";
import type { Random } from "./random.js";

export const KEYS: readonly string[] = ["a", "b", "c", "d", "e", "f"];
/** A key that is only ever counted up, and removed. */
export const COUNTER = "n";
/** All that are judged as registers. */
export const REGISTERS: readonly string[] = [...KEYS, COUNTER];
/** Keys that have deadlines now and then; they are no registers. */
export const EXPIRING_KEYS: readonly string[] = ["x", "y"];

/** A key as a client has seen it. */
export interface Seen {
  readonly value: string;
  readonly modSeq: number;
  /** Of the record that changed it last, where the client has written that itself. */
  readonly token?: Uint8Array;
}

export type WishKind =
  "set" | "setIf" | "setExpiring" | "delete" | "deleteRange" | "touch" | "increment" | "batch" | "txn";

/** What an operation does to one key, or may. */
export type KeyEffect = Pick<RegisterOperation, "found" | "existed" | "leaves" | "adds"> & {
  readonly key: string;
  readonly what: string;
};

type Operation = WriteCommand | TxnOperation;

export class WishMaker {
  readonly #random: Random;
  /** A value that was never written before. */
  readonly #value: () => string;
  readonly #seen: ReadonlyMap<string, Seen>;
  /** By condition or comparison: what the key holds if it holds. */
  readonly #implied = new WeakMap<object, string | null>();

  constructor(random: Random, value: () => string, seen: ReadonlyMap<string, Seen>) {
    this.#random = random;
    this.#value = value;
    this.#seen = seen;
  }

  make(kind: WishKind): Wish {
    if (kind === "txn") return this.#txn();
    return { kind: "write", commands: this.#commands(kind) };
  }

  #commands(kind: Exclude<WishKind, "txn">): readonly WriteCommand[] {
    const random = this.#random;
    const key = random.pick(KEYS);
    switch (kind) {
      case "set":
        return [this.#set(key, 0)];
      case "setIf":
        return [random.chance(0.8) ? this.#set(key, 1) : this.#delete(key, 1)];
      case "delete":
        return [this.#delete(random.pick(REGISTERS), 0)];
      case "touch":
        return [this.#touch(key, 0)];
      case "increment":
        // What is no number says so.
        return [this.#increment(random.chance(0.05) ? key : COUNTER)];
      case "deleteRange":
        return [this.#deleteRange()];
      case "setExpiring":
        return [this.#expiring(random.pick(EXPIRING_KEYS))];
      case "batch":
        return random
          .shuffled(KEYS)
          .slice(0, random.between(2, 3))
          .map((each) => (random.chance(0.7) ? this.#set(each, 0.1) : this.#delete(each, 0.1)));
    }
  }

  #set(key: string, conditions: number): WriteCommand & { readonly kind: "set" } {
    return { kind: "set", key: bytesOf(key), value: bytesOf(this.#value()), ...this.#about(key, conditions) };
  }

  #delete(key: string, conditions: number): WriteCommand & { readonly kind: "delete" } {
    return { kind: "delete", key: bytesOf(key), ...this.#about(key, conditions) };
  }

  #touch(key: string, ttlMs: number): WriteCommand & { readonly kind: "touch" } {
    return { kind: "touch", key: bytesOf(key), ttlMs, ...this.#conditionOn(key, 0.2) };
  }

  #increment(key: string): WriteCommand & { readonly kind: "increment" } {
    const random = this.#random;
    // Hardly two of them the same, so that a sum tells which it is made of.
    const delta = BigInt(random.between(1, 1_000_000) * (random.chance(0.2) ? -1 : 1));
    const max = random.chance(0.1) ? 1_000_000n : INT64_MAX;
    return { kind: "increment", key: bytesOf(key), delta, initial: 0n, min: INT64_MIN, max, ttlMs: 0 };
  }

  #expiring(key: string): WriteCommand {
    const random = this.#random;
    const ttlMs = random.between(1, 2000);
    if (random.chance(0.2)) return this.#touch(key, random.pick([0, ttlMs]));
    const set = this.#set(key, 0);
    return random.chance(0.2) ? { ...set, keepTtl: true } : { ...set, ttlMs };
  }

  #deleteRange(): WriteCommand {
    const random = this.#random;
    const start = random.pick(KEYS);
    const end = random.pick([...KEYS, COUNTER, "x", undefined].slice(KEYS.indexOf(start) + 1));
    return { kind: "delete-range", range: { start: bytesOf(start), ...(end && { end: bytesOf(end) }) } };
  }

  #about(key: string, conditions: number): { readonly condition?: Condition; readonly wantPrevious?: true } {
    return { ...this.#conditionOn(key, conditions), ...(this.#random.chance(0.2) && { wantPrevious: true as const }) };
  }

  #conditionOn(key: string, part: number): { readonly condition?: Condition } {
    const random = this.#random;
    if (!random.chance(part)) return {};
    const seen = this.#seen.get(key);
    if (!seen || random.chance(0.3))
      return { condition: this.#implies(random.pick([{ ifAbsent: true }, { ifSeq: toSeq(0) }]), null) };
    const condition = seen.token && random.chance(0.5) ? { ifToken: seen.token } : { ifSeq: toSeq(seen.modSeq) };
    return { condition: this.#implies(condition, seen.value) };
  }

  #implies<C extends object>(condition: C, value: string | null): C {
    this.#implied.set(condition, value);
    return condition;
  }

  #txn(): Wish {
    const random = this.#random;
    const compares = Array.from({ length: random.between(0, 2) }, () => this.#compare());
    const then = Array.from({ length: random.between(1, 4) }, () => this.#operation());
    if (random.chance(0.3)) then.push(this.#increment(COUNTER));
    const others = Array.from({ length: random.between(0, 2) }, () => this.#operation());
    return { kind: "txn", txn: { compares, then: random.shuffled(then), else: others } };
  }

  #operation(): TxnOperation {
    const random = this.#random;
    // Few keys, so that what is read is often what the same transaction writes.
    const key = random.pick(random.chance(0.5) ? KEYS.slice(0, 2) : KEYS);
    const kind = random.weighted({ get: 5, set: 4, delete: 1, touch: 1 });
    if (kind === "get") return { kind, key: bytesOf(random.chance(0.2) ? random.pick([COUNTER, "x", "y"]) : key) };
    if (kind === "set") return this.#set(key, 0.05);
    return kind === "delete" ? this.#delete(key, 0) : this.#touch(key, 0);
  }

  #compare(): Compare {
    const random = this.#random;
    const name = random.pick(REGISTERS);
    const key = bytesOf(name);
    const seen = this.#seen.get(name);
    const seq = toSeq(seen?.modSeq ?? 0);
    const value = bytesOf(seen?.value ?? "");
    const comparison = random.pick(["equal", "equal", "not-equal", "less", "greater"] as const);
    switch (random.below(seen ? 4 : 3)) {
      case 0: {
        const exists = random.chance(0.5);
        const compare: Compare = {
          key,
          comparison: random.pick(["equal", "not-equal"]),
          target: { kind: "exists", exists },
        };
        const mustExist = exists === (compare.comparison === "equal");
        return mustExist ? compare : this.#implies(compare, null);
      }
      case 1: {
        const compare: Compare = { key, comparison, target: { kind: "mod-seq", seq } };
        return comparison === "equal" ? this.#implies(compare, seen?.value ?? null) : compare;
      }
      case 2:
        return { key, comparison, target: { kind: "create-seq", seq } };
      default: {
        const compare: Compare = { key, comparison, target: { kind: "value", value } };
        return comparison === "equal" ? this.#implies(compare, seen?.value ?? null) : compare;
      }
    }
  }

  // ---- what they mean ------------------------------------------------------------------------------------------------

  /** What a wish may do, as long as nobody has said what it did. */
  hoped(wish: Wish): readonly KeyEffect[] {
    const operations = wish.kind === "write" ? wish.commands : [...wish.txn.then, ...wish.txn.else];
    return operations.flatMap((operation): KeyEffect[] => {
      const what = `perhaps ${operation.kind}`;
      switch (operation.kind) {
        case "set":
          return [{ key: textOf(operation.key), what, leaves: textOf(operation.value) }];
        case "delete":
          return [{ key: textOf(operation.key), what, leaves: null }];
        case "increment":
          return [{ key: textOf(operation.key), what, adds: operation.delta }];
        case "delete-range":
          return registersIn(operation.range).map((key) => ({ key, what, leaves: null }));
        default:
          return [];
      }
    });
  }

  /** What a wish has found and done, as its answer says. */
  told(wish: Wish, receipt: WriteReceipt | TxnReceipt): readonly KeyEffect[] {
    const effects = new Effects();
    const operations = carriedOut(wish, receipt);
    if (wish.kind === "txn" && "succeeded" in receipt) {
      for (const [i, compare] of wish.txn.compares.entries()) {
        const implied = this.#implied.get(compare);
        if (implied !== undefined && !receipt.failedCompares.includes(i))
          effects.saw(textOf(compare.key), { found: implied });
      }
    }
    for (const [i, operation] of operations.entries()) {
      const { existed, previous, entry, sum } = receipt.results[i]!;
      if (operation.kind === "delete-range") {
        for (const key of registersIn(operation.range)) {
          if (!existed) effects.saw(key, { existed: false });
          effects.left(key, null);
        }
        continue;
      }
      const key = textOf(operation.key);
      effects.saw(key, { existed });
      const shown = previous ?? entry;
      if (shown) effects.saw(key, { found: textOf(shown.value) });
      const condition = "condition" in operation ? operation.condition : undefined;
      const implied = condition && this.#implied.get(condition);
      if (implied !== undefined) effects.saw(key, { found: implied });
      if (operation.kind === "set") effects.left(key, textOf(operation.value));
      else if (operation.kind === "delete") effects.left(key, null);
      else if (operation.kind === "increment" && sum !== undefined) {
        if (existed) effects.saw(key, { found: `${sum - operation.delta}` });
        effects.left(key, `${sum}`);
      }
    }
    return effects.all;
  }
}

/** What a refusal says of a key. */
export function refused(wish: Wish, { failedCondition }: StoreError): readonly KeyEffect[] {
  // An operation of a transaction may come after others that it sees.
  if (!failedCondition || wish.kind === "txn") return [];
  return [{ key: textOf(failedCondition.key), what: "refused", existed: failedCondition.exists }];
}

/** Whether an answer says that something was changed, so that there is a record which remembers it. */
export function hasChanged(wish: Wish, receipt: WriteReceipt | TxnReceipt): boolean {
  return carriedOut(wish, receipt).some(
    ({ kind }, i) => kind !== "get" && (kind === "set" || kind === "increment" || receipt.results[i]!.existed),
  );
}

export function carriedOut(wish: Wish, receipt: WriteReceipt | TxnReceipt): readonly Operation[] {
  if (wish.kind === "write") return wish.commands;
  return "succeeded" in receipt && receipt.succeeded ? wish.txn.then : wish.txn.else;
}

export function described(wish: Wish): string {
  const one = (operation: Operation): string => {
    if (operation.kind === "delete-range")
      return `${textOf(operation.range.start)}..${operation.range.end ? textOf(operation.range.end) : ""}=(deleted)`;
    const key = textOf(operation.key);
    if (operation.kind === "set") return `${key}=${textOf(operation.value)}`;
    if (operation.kind === "increment") return `${key}+${operation.delta}`;
    return operation.kind === "delete" ? `${key}=(deleted)` : `${operation.kind} ${key}`;
  };
  if (wish.kind === "write") return wish.commands.map(one).join(" ");
  const { compares, then, else: others } = wish.txn;
  const ifs = compares.map(({ key, comparison, target }) => `${textOf(key)} ${target.kind} ${comparison}`);
  return `if ${ifs.join(", ")} then ${then.map(one).join(" ")} else ${others.map(one).join(" ")}`;
}

/** What one record has found and left of each key: found before it left anything. */
class Effects {
  readonly #byKey = new Map<string, KeyEffect>();

  get all(): readonly KeyEffect[] {
    return [...this.#byKey.values()];
  }

  saw(key: string, what: Pick<KeyEffect, "found" | "existed">): void {
    const effect = this.#of(key);
    if (effect.leaves === undefined) this.#byKey.set(key, { ...effect, ...what });
  }

  left(key: string, leaves: string | null): void {
    this.#byKey.set(key, { ...this.#of(key), leaves });
  }

  #of(key: string): KeyEffect {
    return this.#byKey.get(key) ?? { key, what: "write" };
  }
}

function registersIn({ start, end }: { readonly start: Uint8Array; readonly end?: Uint8Array }): readonly string[] {
  const range = { start: textOf(start), end: end && textOf(end) };
  return REGISTERS.filter((key) => isWithin(key, range));
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const bytesOf = (text: string): Uint8Array => encoder.encode(text);
const textOf = (bytes: Uint8Array): string => decoder.decode(bytes);
