/**
 * Whether a history of operations on one register is linearizable: whether there is an order of all of them, each at some moment
 * between its call and its answer, in which every answer is right. The algorithm is that of Wing and Gong, with Lowe's
 * memory of configurations that were reached before ("Testing for linearizability", 2016): go forward by linearizing any
 * operation that may come next; when none fits, take the last one back.
 *
 * An operation without an answer may have taken effect at any moment after its call, or never.
 */
import { assert } from "../../internal/base/assert.js";

/** What an operation does to a register: what it may have found, and what it leaves. */
export interface RegisterOperation {
  readonly invokedMs: number;
  /** Infinity: there was no answer. */
  readonly returnedMs: number;
  /** What the register must have held; absent: anything. null: nothing. */
  readonly found?: string | null;
  /** Whether the register must have held something; absent: that does not matter. */
  readonly existed?: boolean;
  /** What the register holds afterwards; absent: what it held before. null: nothing. */
  readonly leaves?: string | null;
  /** Instead of `leaves`: what is added to the number that the register must hold. Nothing counts as 0. */
  readonly adds?: bigint;
}

/** The answer that cannot be explained, or that the history is linearizable. */
export type Verdict =
  | { readonly linearizable: true; readonly steps: number }
  | {
      readonly linearizable: false;
      readonly steps: number;
      /** Operations of the longest order that was found, and the one that fits nowhere. */
      readonly longest: readonly RegisterOperation[];
      readonly stuckAt: RegisterOperation | undefined;
    };

/** A call or an answer, in the order of their times; a doubly linked list that operations leave and come back to. */
interface Moment {
  readonly operation: number;
  readonly isCall: boolean;
  /** Of a call: its answer; absent when there is none. */
  answer: Moment | undefined;
  before: Moment;
  after: Moment | undefined;
}

/** Against histories that would take for ever; none of a simulation comes near it. */
const STEPS_MAX = 5_000_000;

export function checkRegister(operations: readonly RegisterOperation[], initial: string | null = null): Verdict {
  const head = momentsOf(operations);
  const answersNeeded = operations.filter(({ returnedMs }) => returnedMs !== Infinity).length;
  const done = new Bits(operations.length);
  const seen = new Set<string>();
  /** What was linearized, with what the register held before it. */
  const order: { readonly moment: Moment; readonly before: string | null }[] = [];
  let value = initial;
  let answered = 0;
  let steps = 0;
  let longest: readonly RegisterOperation[] = [];
  let stuckAt: RegisterOperation | undefined;
  let at = head.after;
  // Those without an answer need not have happened, so all is well once every answer is explained.
  while (answered < answersNeeded) {
    assert(++steps <= STEPS_MAX, "a history can be judged in time");
    if (at?.isCall) {
      const operation = operations[at.operation]!;
      const after = outcome(operation, value);
      if (after !== undefined) {
        done.set(at.operation);
        const configuration = `${done.key()} ${after === null ? "" : `=${after}`}`;
        if (!seen.has(configuration)) {
          seen.add(configuration);
          order.push({ moment: at, before: value });
          value = after;
          if (at.answer) answered++;
          lift(at);
          at = head.after;
          continue;
        }
        done.clear(at.operation);
      }
      at = at.after;
      continue;
    }
    // An answer is reached whose operation fits nowhere before it, or nothing is left to try.
    if (order.length >= longest.length) {
      longest = order.map(({ moment }) => operations[moment.operation]!);
      stuckAt = at && operations[at.operation];
    }
    const last = order.pop();
    if (!last) return { linearizable: false, steps, longest, stuckAt };
    value = last.before;
    done.clear(last.moment.operation);
    if (last.moment.answer) answered--;
    unlift(last.moment);
    at = last.moment.after;
  }
  return { linearizable: true, steps };
}

/** What the register holds after the operation; undefined when the operation cannot have found what it holds. */
export function outcome(
  { found, existed, leaves, adds }: RegisterOperation,
  value: string | null,
): string | null | undefined {
  if (found !== undefined && found !== value) return undefined;
  if (existed !== undefined && existed !== (value !== null)) return undefined;
  if (adds !== undefined) return value === null || isNumber(value) ? `${BigInt(value ?? 0) + adds}` : undefined;
  return leaves === undefined ? value : leaves;
}

const isNumber = (value: string): boolean => /^-?\d+$/.test(value);

/** Calls and answers by their times; at equal times calls come first, since the operations then overlap. */
function momentsOf(operations: readonly RegisterOperation[]): Moment {
  const times = operations.flatMap(({ invokedMs, returnedMs }, operation) => {
    assert(invokedMs <= returnedMs, "an answer comes after its call");
    const call = { operation, isCall: true, atMs: invokedMs };
    return returnedMs === Infinity ? [call] : [call, { operation, isCall: false, atMs: returnedMs }];
  });
  times.sort((a, b) => a.atMs - b.atMs || Number(b.isCall) - Number(a.isCall) || a.operation - b.operation);
  const head = { operation: -1, isCall: false, answer: undefined, after: undefined } as unknown as Moment;
  head.before = head;
  const calls = new Map<number, Moment>();
  let last = head;
  for (const { operation, isCall } of times) {
    const moment: Moment = { operation, isCall, answer: undefined, before: last, after: undefined };
    last.after = moment;
    last = moment;
    if (isCall) calls.set(operation, moment);
    else calls.get(operation)!.answer = moment;
  }
  return head;
}

/** Takes an operation's call and answer out of the list. */
function lift(call: Moment): void {
  unlink(call);
  if (call.answer) unlink(call.answer);
}

/** Puts them back where they were; the last to be taken out is the first to come back. */
function unlift(call: Moment): void {
  if (call.answer) relink(call.answer);
  relink(call);
}

function unlink(moment: Moment): void {
  moment.before.after = moment.after;
  if (moment.after) moment.after.before = moment.before;
}

function relink(moment: Moment): void {
  moment.before.after = moment;
  if (moment.after) moment.after.before = moment;
}

/** A set of small numbers, with a name for each content. */
class Bits {
  readonly #words: Uint16Array;

  constructor(size: number) {
    this.#words = new Uint16Array(Math.ceil(size / 16));
  }

  set(bit: number): void {
    this.#words[bit >> 4]! |= 1 << (bit & 15);
  }

  clear(bit: number): void {
    this.#words[bit >> 4]! &= ~(1 << (bit & 15));
  }

  key(): string {
    return String.fromCharCode(...this.#words);
  }
}
