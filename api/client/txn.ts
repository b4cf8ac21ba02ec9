/** Transactions: comparisons, and two lists of operations, put together step by step and typed by what was put in. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CompareSchema,
  Comparison as WireComparison,
  type TxnOperationSchema,
  type TxnRequestSchema,
  type TxnResponse,
} from "../gen/cambium/v1/kvstore_pb.js";
import { CambiumError } from "./cambium-error.js";
import type { WriteOptions } from "./options.js";
import { encodeKey, type Entry, toEntry } from "./message.js";
import {
  toReceipt,
  toResult,
  toWireOperation,
  type WriteOperation,
  type WriteReceipt,
  type WriteResult,
} from "./operation.js";
import { toWire } from "./wire.js";

/** Reads a key inside a transaction, as the operations before it left it. */
export interface GetOperation {
  readonly kind: "get";
  readonly key: string;
}

export type TxnOperation = GetOperation | WriteOperation;

/** The key's, compared with the one given: equal, different, less, greater. */
export type Comparison = "=" | "!=" | "<" | ">";

/** One comparison. Of an absent key both seqs are 0, and of its value only `!=` holds. */
export type Compare = { readonly key: string; readonly is: Comparison } & (
  | { readonly target: "modSeq" | "createSeq"; readonly to: number }
  | { readonly target: "value"; readonly to: Uint8Array | string }
  | { readonly target: "exists"; readonly to: boolean }
);

/** What an operation of a transaction answers. */
export type TxnResultOf<Operation extends TxnOperation> = Operation extends { readonly kind: "get" }
  ? Entry | undefined
  : Operation extends { readonly kind: "increment" }
    ? bigint
    : WriteResult;

export type TxnResultsOf<Operations extends readonly TxnOperation[]> = {
  readonly [Place in keyof Operations]: TxnResultOf<Operations[Place]>;
};

/** What became of a transaction. That comparisons fail is an answer. */
export type TxnReceipt<
  Then extends readonly TxnOperation[] = readonly TxnOperation[],
  Else extends readonly TxnOperation[] = readonly TxnOperation[],
> = WriteReceipt &
  (
    | { readonly succeeded: true; readonly failedCompares: readonly []; readonly results: TxnResultsOf<Then> }
    | {
        readonly succeeded: false;
        /** Which comparisons did not hold: their places, from 0 on. */
        readonly failedCompares: readonly number[];
        readonly results: TxnResultsOf<Else>;
      }
  );

/** A transaction as data. */
export interface TxnPlan {
  readonly compares: readonly Compare[];
  readonly operations: readonly TxnOperation[];
  readonly otherwise: readonly TxnOperation[];
}

type Commit = (plan: TxnPlan, options: WriteOptions) => Promise<TxnReceipt>;

/**
 * A transaction that is put together: each step gives another one, so that a beginning can be used for several. Nothing
 * is sent before `commit`.
 */
export class Txn<
  Then extends readonly TxnOperation[] = readonly [],
  Else extends readonly TxnOperation[] = readonly [],
> {
  readonly #plan: TxnPlan;
  readonly #commit: Commit;

  constructor(plan: TxnPlan, commit: Commit) {
    this.#plan = plan;
    this.#commit = commit;
  }

  /** Begins a comparison, which the next call says. All comparisons must hold. */
  when(key: string): TxnCompare<Then, Else> {
    return new TxnCompare(key, (compare) => this.compare(compare));
  }

  /** Adds comparisons as data. */
  compare(...compares: readonly Compare[]): Txn<Then, Else> {
    return new Txn({ ...this.#plan, compares: [...this.#plan.compares, ...compares] }, this.#commit);
  }

  /** Adds operations for when all comparisons hold. */
  do<const Operations extends readonly TxnOperation[]>(
    ...operations: Operations
  ): Txn<readonly [...Then, ...Operations], Else> {
    return new Txn({ ...this.#plan, operations: [...this.#plan.operations, ...operations] }, this.#commit);
  }

  /** Adds operations for when one comparison does not hold. */
  otherwise<const Operations extends readonly TxnOperation[]>(
    ...operations: Operations
  ): Txn<Then, readonly [...Else, ...Operations]> {
    return new Txn({ ...this.#plan, otherwise: [...this.#plan.otherwise, ...operations] }, this.#commit);
  }

  /**
   * Carries it out: at one place of the log, as one record, or not at all. A condition of an operation itself (`ifSeq`, …)
   * that fails refuses the whole transaction with `condition_failed`.
   */
  async commit(options: WriteOptions = {}): Promise<TxnReceipt<Then, Else>> {
    // One result an operation, of its kind: `toTxnReceipt` has seen to that.
    return (await this.#commit(this.#plan, options)) as TxnReceipt<Then, Else>;
  }
}

/** What of a key is compared. */
export class TxnCompare<Then extends readonly TxnOperation[], Else extends readonly TxnOperation[]> {
  readonly #key: string;
  readonly #add: (compare: Compare) => Txn<Then, Else>;

  constructor(key: string, add: (compare: Compare) => Txn<Then, Else>) {
    this.#key = key;
    this.#add = add;
  }

  /** There is such a key. */
  exists(): Txn<Then, Else> {
    return this.#add({ key: this.#key, is: "=", target: "exists", to: true });
  }

  /** There is no such key. */
  isAbsent(): Txn<Then, Else> {
    return this.#add({ key: this.#key, is: "=", target: "exists", to: false });
  }

  /** The seq of the record that last changed the key. */
  modSeq(is: Comparison, to: number): Txn<Then, Else> {
    return this.#add({ key: this.#key, is, target: "modSeq", to });
  }

  /** The seq of the record that created the key. */
  createSeq(is: Comparison, to: number): Txn<Then, Else> {
    return this.#add({ key: this.#key, is, target: "createSeq", to });
  }

  /** The value, by its bytes. */
  value(is: Comparison, to: Uint8Array | string): Txn<Then, Else> {
    return this.#add({ key: this.#key, is, target: "value", to });
  }
}

export function txnRequest({ compares, operations, otherwise }: TxnPlan): MessageInitShape<typeof TxnRequestSchema> {
  return {
    compares: compares.map(toWireCompare),
    // A list, which no `await` takes for a promise's.
    then: operations.map(toWireTxnOperation),
    else: otherwise.map(toWireTxnOperation),
  };
}

export function toTxnReceipt(answer: TxnResponse, plan: TxnPlan): TxnReceipt {
  const operations = answer.succeeded ? plan.operations : plan.otherwise;
  const results = operations.map((operation, index) => toTxnResult(operation, answer, index));
  if (answer.results.length !== operations.length) throw oddAnswer(operations.length);
  return answer.succeeded
    ? { ...toReceipt(answer), succeeded: true, failedCompares: [], results }
    : { ...toReceipt(answer), succeeded: false, failedCompares: answer.failedCompares, results };
}

function toTxnResult(
  operation: TxnOperation,
  answer: TxnResponse,
  index: number,
): Entry | undefined | bigint | WriteResult {
  const result = answer.results[index]?.result;
  if (operation.kind === "get" && result?.case === "get") return toEntry(result.value, answer);
  if (operation.kind === "increment" && result?.case === "value") return result.value;
  if (operation.kind !== "get" && operation.kind !== "increment" && result?.case === "write") {
    return toResult(result.value);
  }
  throw oddAnswer(index);
}

function oddAnswer(index: number): CambiumError {
  return new CambiumError("internal", `the node's answer to operation ${index} of the transaction does not fit it`);
}

function toWireTxnOperation(operation: TxnOperation): MessageInitShape<typeof TxnOperationSchema> {
  if (operation.kind !== "get") return toWireOperation(operation);
  encodeKey(operation.key);
  return { operation: { case: "get", value: { key: operation.key } } };
}

const COMPARISONS: Readonly<Record<Comparison, WireComparison>> = {
  "=": WireComparison.EQUAL,
  "!=": WireComparison.NOT_EQUAL,
  "<": WireComparison.LESS,
  ">": WireComparison.GREATER,
};

function toWireCompare(compare: Compare): MessageInitShape<typeof CompareSchema> {
  const { key, is } = compare;
  encodeKey(key);
  if (!Object.hasOwn(COMPARISONS, is)) {
    throw new CambiumError("invalid_argument", `a comparison is =, !=, < or >, not ${JSON.stringify(is)}`);
  }
  return { key, comparison: COMPARISONS[is], target: toWireTarget(compare) };
}

function toWireTarget(compare: Compare): NonNullable<MessageInitShape<typeof CompareSchema>["target"]> {
  switch (compare.target) {
    case "modSeq":
    case "createSeq":
      return { case: compare.target, value: toWire(compare.to, compare.target) };
    case "exists":
      return { case: "exists", value: compare.to };
    case "value":
      return {
        case: "value",
        value: typeof compare.to === "string" ? new TextEncoder().encode(compare.to) : compare.to,
      };
    default:
      throw new CambiumError("invalid_argument", `nothing is compared by ${JSON.stringify(compare)}`);
  }
}
