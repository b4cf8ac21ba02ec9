/** For tests: what writes find and do, over a plain map with whole states in it, as their definitions say. */
import { decodeChanges } from "../change.js";
import type { Compare, Condition, Txn, TxnOperation, WriteCommand } from "../write-command.js";
import { text } from "./stores.js";

export interface OracleEntry {
  readonly value: string;
  readonly createSeq: number;
  readonly modSeq: number;
  readonly expiresAtMs: number | undefined;
}

/** By key; keys that are overdue are in it until something removes them. */
export type OracleState = ReadonlyMap<string, OracleEntry>;

export type Wish = { readonly commands: readonly WriteCommand[] } | { readonly txn: Txn };

/** What is answered, with all bytes as text, so that it can be compared. */
export interface OracleAnswer {
  readonly refusal?: unknown;
  readonly results?: readonly unknown[];
  readonly failedCompares?: readonly number[];
  /** As they are in the log. */
  readonly changes: readonly unknown[];
  readonly state: OracleState;
}

class Refusal extends Error {
  constructor(readonly what: unknown) {
    super("refused");
  }
}

const INT64 = 2n ** 63n;

/** What the wish is answered when it is the record `ownSeq`, written at `nowMs` over `before`. */
export function judge(
  wish: Wish,
  at: {
    readonly before: OracleState;
    readonly nowMs: number;
    readonly ownSeq: number;
    readonly seqOfToken: (token: Uint8Array) => number;
  },
): OracleAnswer {
  const { before, nowMs, ownSeq, seqOfToken } = at;
  const state = new Map(before);
  const changes: unknown[] = [];
  const find = (key: Uint8Array): OracleEntry | undefined => {
    const entry = state.get(text(key));
    return entry && (entry.expiresAtMs ?? Infinity) > nowMs ? entry : undefined;
  };
  const deadline = (ttlMs = 0): number | undefined => (ttlMs > 0 ? nowMs + ttlMs : undefined);
  const put = (key: Uint8Array, value: string, expiresAtMs: number | undefined): void => {
    const found = find(key);
    changes.push({ kind: "put", key: text(key), value, expiresAtMs, previousSeq: found?.modSeq ?? 0 });
    state.set(text(key), { value, createSeq: found?.createSeq ?? ownSeq, modSeq: ownSeq, expiresAtMs });
  };
  const check = (condition: Condition | undefined, key: Uint8Array, operation: number): void => {
    if (!condition) return;
    const modSeq = find(key)?.modSeq ?? 0;
    const { ifAbsent, ifSeq, ifToken } = condition;
    const wanted = ifAbsent ? 0 : ifToken ? seqOfToken(ifToken) : ifSeq;
    if (modSeq === wanted) return;
    throw new Refusal({ code: "condition_failed", key: text(key), exists: modSeq > 0, modSeq, operation });
  };
  const shown = (entry: OracleEntry | undefined): unknown =>
    entry && { value: entry.value, createSeq: entry.createSeq, modSeq: entry.modSeq };
  const carryOut = (command: WriteCommand | TxnOperation, operation: number): unknown => {
    if (command.kind === "delete-range") {
      const start = text(command.range.start);
      const end = command.range.end && text(command.range.end);
      const within = [...state].filter(([key]) => key >= start && (end === undefined || key < end));
      const deleted = within.filter(([, { expiresAtMs = Infinity }]) => expiresAtMs > nowMs).length;
      if (deleted > 0) {
        changes.push({ kind: "delete-range", start, end });
        for (const [key] of within) state.delete(key);
      }
      return { existed: deleted > 0, deleted };
    }
    const { key } = command;
    const found = find(key);
    const existed = found !== undefined;
    switch (command.kind) {
      case "get":
        return { existed, entry: found && { ...(shown(found) as object), expiresAtMs: found.expiresAtMs } };
      case "set":
        check(command.condition, key, operation);
        put(key, text(command.value), command.keepTtl ? found?.expiresAtMs : deadline(command.ttlMs));
        return { existed, previous: command.wantPrevious ? shown(found) : undefined };
      case "delete":
        check(command.condition, key, operation);
        if (!found) return { existed };
        changes.push({ kind: "delete", key: text(key), previousSeq: found.modSeq });
        state.delete(text(key));
        return { existed, previous: command.wantPrevious ? shown(found) : undefined };
      case "touch":
        check(command.condition, key, operation);
        if (found) put(key, found.value, deadline(command.ttlMs));
        return { existed };
      case "increment": {
        const { initial, delta, min, max } = command;
        const number = /^(-?[1-9]\d*|0)$/.test(found?.value ?? "0") ? BigInt(found?.value ?? initial) : undefined;
        if (number === undefined || number < -INT64 || number >= INT64) {
          throw new Refusal({ code: "not_an_integer", key: text(key), operation });
        }
        const sum = number + delta;
        if (sum < min || sum > max) {
          throw new Refusal({ code: "out_of_bounds", key: text(key), operation, value: number, min, max });
        }
        if (!found || delta !== 0n) put(key, String(sum), found ? found.expiresAtMs : deadline(command.ttlMs));
        return { existed, sum };
      }
    }
  };
  try {
    if ("commands" in wish) return { results: wish.commands.map(carryOut), changes, state };
    const failedCompares = wish.txn.compares.flatMap((compare, i) => (holds(compare, find(compare.key)) ? [] : [i]));
    const list = failedCompares.length === 0 ? wish.txn.then : wish.txn.else;
    return { failedCompares, results: list.map(carryOut), changes, state };
  } catch (error) {
    if (error instanceof Refusal) return { refusal: error.what, changes: [], state: before };
    throw error;
  }
}

function holds({ comparison, target }: Compare, entry: OracleEntry | undefined): boolean {
  if (target.kind === "value" && !entry) return comparison === "not-equal";
  const [is, given] =
    target.kind === "value"
      ? [entry!.value, text(target.value)]
      : target.kind === "exists"
        ? [entry !== undefined, target.exists]
        : [(target.kind === "mod-seq" ? entry?.modSeq : entry?.createSeq) ?? 0, target.seq];
  switch (comparison) {
    case "equal":
      return is === given;
    case "not-equal":
      return is !== given;
    case "less":
      return is < given;
    case "greater":
      return is > given;
  }
}

/** The changes of a payload, with all bytes as text. */
export function changesOf(payload: Uint8Array): readonly Readonly<Record<string, unknown>>[] {
  return decodeChanges(payload).map((change) => plain(change) as Readonly<Record<string, unknown>>);
}

/** The same with all bytes as text. */
export function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return text(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
}
