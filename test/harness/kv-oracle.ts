/**
 * What a cluster must say, by a plain map: it follows the log event by event, explains each record by the request that made it and
 * each answer by the state that it was judged on, and tells what a watch of any filter had to receive.
 */
import type { CambiumError, ChangeFilter, UpdateEvent } from "../../api/client/node.js";
import { type OracleEntry, type OracleState, plain } from "../../internal/store/testing/write-oracle.js";
import {
  type Answer,
  isWithin,
  judgeRequest,
  order,
  refusalOf,
  type Request,
  shownOf,
  textRange,
} from "./kv-requests.js";

/** A request, and what became of it. */
export interface Call {
  readonly request: Request;
  readonly answer?: Answer;
  readonly error?: CambiumError;
}

/** An event as text, without its times. */
export interface OracleEvent {
  readonly seq: number;
  readonly type: UpdateEvent["type"];
  readonly key: string;
  readonly rangeEnd: string | undefined;
  readonly value: string;
  readonly expiresAtMs: number | undefined;
  /** The value before, where there was one, and it is told of this type. */
  readonly previous: string | undefined;
}

/** A read of all that the oracle knows. */
export interface Visible extends OracleEntry {
  readonly key: string;
}

export interface OracleOptions {
  /** Whether times are those of a clock that stands still, so that all are known to the millisecond. Default true. */
  readonly exactTimes?: boolean;
}

export class KvOracle {
  /** Every event that there was, in order. */
  readonly log: OracleEvent[] = [];
  /** Events may say that the value before is no longer in the log. */
  mayBeCompacted = false;
  /** The last record that is explained. */
  seq = 0;
  readonly #exactTimes: boolean;
  readonly #makers = new Set<Answer>();
  readonly #seqOfToken = new Map<string, number>();
  /** The state after each record that carried events; the first is before all. */
  readonly #states: { readonly seq: number; readonly state: OracleState }[] = [{ seq: 0, state: new Map() }];

  constructor({ exactTimes = true }: OracleOptions = {}) {
    this.#exactTimes = exactTimes;
  }

  get state(): OracleState {
    return this.#states.at(-1)!.state;
  }

  /** Takes in calls that were made together at `nowMs`, and what the log has got since, up to `seq`. Throws where they do not agree. */
  explain(calls: readonly Call[], events: readonly UpdateEvent[], seq: number, nowMs: number): void {
    const from = this.#states.length - 1;
    const unexplained = new Set(calls);
    for (const { answer } of calls) if (answer) this.#seqOfToken.set(nameOf(answer.token), answer.seq);
    for (const record of byRecord(events)) this.#explainRecord(record, unexplained, nowMs);
    this.seq = seq;
    for (const call of unexplained) this.#explainUnwritten(call, this.#states.slice(from), nowMs);
  }

  /** Whether this answer was to what made its record. */
  isMaker(answer: Answer): boolean {
    return this.#makers.has(answer);
  }

  /** What there is at `nowMs`, in the order of the keys. */
  visible(nowMs: number): Visible[] {
    return [...this.state]
      .filter(([, { expiresAtMs = Infinity }]) => expiresAtMs > nowMs)
      .map(([key, entry]) => Object.assign({ key }, entry))
      .sort((a, b) => order(a.key, b.key));
  }

  /** What a watch gets of the records after `after`, up to `upTo`. */
  watched(filter: ChangeFilter, after: number, upTo = Infinity): OracleEvent[] {
    const { key: only } = filter;
    const range = textRange(filter);
    return this.log.flatMap((event): OracleEvent[] => {
      if (event.seq <= after || event.seq > upTo) return [];
      if (event.type !== "delete-range") {
        return (only === undefined ? isWithin(event.key, range) : event.key === only) ? [event] : [];
      }
      const removed = { start: event.key, ...(event.rangeEnd !== undefined && { end: event.rangeEnd }) };
      if (only !== undefined) {
        return isWithin(only, removed) ? [{ ...event, type: "delete", key: only, rangeEnd: undefined }] : [];
      }
      const key = order(range.start, removed.start) > 0 ? range.start : removed.start;
      const ends = [range.end, removed.end].filter((end) => end !== undefined).sort(order);
      const [rangeEnd] = ends;
      return rangeEnd === undefined || order(key, rangeEnd) < 0 ? [{ ...event, key, rangeEnd }] : [];
    });
  }

  /** Throws unless these are the events that a watch had to get. */
  expectWatched(
    received: readonly UpdateEvent[],
    expected: readonly OracleEvent[],
    { wantPrevious = false, keysOnly = false }: { readonly wantPrevious?: boolean; readonly keysOnly?: boolean },
  ): void {
    const found = received.map((event) => this.#asText(event));
    for (let i = 0; i < Math.max(found.length, expected.length); i++) {
      const [got, wanted] = [found[i], expected[i]];
      const isPrevious =
        (got?.previous === undefined && (!wantPrevious || wanted?.previous === undefined)) ||
        (wantPrevious && got?.previous === wanted?.previous) ||
        (wantPrevious && this.mayBeCompacted && received[i]?.previousCompacted === true && got?.previous === undefined);
      const isSame =
        got &&
        wanted &&
        isPrevious &&
        (received[i]!.previousCompacted === undefined || (wantPrevious && wanted.previous !== undefined)) &&
        got.value === (keysOnly ? "" : wanted.value) &&
        same({ ...got, value: "", previous: "" }, { ...wanted, value: "", previous: "" });
      if (!isSame) throw new Error(`event ${i} is ${json(received[i])}, and ought to be ${json(wanted)}`);
    }
  }

  #explainRecord(events: readonly UpdateEvent[], unexplained: Set<Call>, nowMs: number): void {
    const { seq } = events[0]!.position;
    if (seq <= this.seq) throw new Error(`record ${seq} comes again, after ${this.seq}`);
    const before = this.state;
    const expected: OracleEvent[] = [];
    const state =
      this.#exactTimes && events.every(({ type }) => type === "expire") ? expired(before, events) : undefined;
    if (state) {
      for (const { key } of events) expected.push(this.#event(seq, "expire", key, before.get(key)?.value));
    } else {
      const call = [...unexplained].find((each) => this.#hasMade(each, seq, before, nowMs));
      if (!call) throw new Error(`nobody made record ${seq}: ${json(events)}; ${json([...unexplained])}`);
      unexplained.delete(call);
      if (call.answer) this.#makers.add(call.answer);
      const judged = this.#judge(call.request, before, nowMs, seq);
      const values = new Map([...before].map(([key, { value }]) => [key, value]));
      for (const change of judged.changes as readonly OracleChange[]) {
        if (change.kind === "delete-range") {
          expected.push({ ...this.#event(seq, "delete-range", change.start, undefined), rangeEnd: change.end });
          continue;
        }
        const { key, previousSeq, value = "", expiresAtMs } = change;
        const previous = previousSeq > 0 ? values.get(key) : undefined;
        expected.push({ ...this.#event(seq, change.kind, key, previous), value, expiresAtMs: this.#time(expiresAtMs) });
        values.set(key, value);
      }
      // Deadlines are the node's, where the oracle's clock is not: they are read from the log.
      this.#states.push({ seq, state: this.#exactTimes ? judged.state : withDeadlines(judged.state, events) });
    }
    if (state) this.#states.push({ seq, state });
    this.expectWatched(events, expected, { wantPrevious: true });
    this.log.push(...expected);
    this.seq = seq;
  }

  #hasMade({ request, answer, error }: Call, seq: number, before: OracleState, nowMs: number): boolean {
    // Who got no answer may have made any record that is such as it would have made.
    if (error) return error.outcomeUnknown && this.#judge(request, before, nowMs, seq).changes.length > 0;
    if (answer?.seq !== seq) return false;
    const judged = this.#judge(request, before, nowMs, seq);
    return judged.changes.length > 0 && !judged.refusal && this.#isAnswer(request, answer, judged, nowMs);
  }

  /** A call that made no record: some state that was committed meanwhile has to say the same. */
  #explainUnwritten(
    { request, answer, error }: Call,
    states: readonly { readonly seq: number; readonly state: OracleState }[],
    nowMs: number,
  ): void {
    if (error?.outcomeUnknown) return;
    const last = answer ? states.findLastIndex(({ seq }) => seq <= answer.seq) : states.length - 1;
    const possible = answer ? states.slice(last, last + 1) : states;
    const isExplained = possible.some(({ state, seq }) => {
      const judged = this.#judge(request, state, nowMs, seq + 1);
      if (error) return this.#isRefusal(request, state, nowMs, error);
      return judged.changes.length === 0 && !judged.refusal && this.#isAnswer(request, answer!, judged, nowMs);
    });
    if (isExplained) return;
    const tried = possible.map(({ seq, state }) => `${seq}: ${json([...state])}`).join("\n");
    throw new Error(`${json({ request, answer, error, nowMs })}\nis explained by none of\n${tried}`);
  }

  /** What a refusal says of a key that the very request wrote has the seq that its record would have had. */
  #isRefusal(request: Request, state: OracleState, nowMs: number, error: CambiumError): boolean {
    for (let ownSeq = 1; ownSeq <= this.seq + 20; ownSeq++) {
      if (same(refusalOf(error), this.#judge(request, state, nowMs, ownSeq).refusal)) return true;
    }
    return false;
  }

  #isAnswer(request: Request, answer: Answer, judged: ReturnType<typeof judgeRequest>, nowMs: number): boolean {
    const shown = shownOf(request, judged, nowMs);
    const { results, failedCompares } = answer;
    if (this.#exactTimes) return same({ results, failedCompares }, shown);
    return same(untimed({ results, failedCompares }), untimed(shown));
  }

  #judge(request: Request, before: OracleState, nowMs: number, ownSeq: number): ReturnType<typeof judgeRequest> {
    const seqOfToken = (token: Uint8Array): number => this.#seqOfToken.get(nameOf(token)) ?? -1;
    return judgeRequest(request, { before, nowMs, ownSeq, seqOfToken });
  }

  #event(seq: number, type: OracleEvent["type"], key: string, previous: string | undefined): OracleEvent {
    return { seq, type, key, rangeEnd: undefined, value: "", expiresAtMs: undefined, previous };
  }

  #asText({ type, key, rangeEnd, value, position, expiresAtMs, previous }: UpdateEvent): OracleEvent {
    const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
    return {
      seq: position.seq,
      type,
      key,
      rangeEnd,
      value: text(value),
      expiresAtMs: this.#time(expiresAtMs),
      previous: previous && text(previous),
    };
  }

  /** Where times are not known to the millisecond, only whether there is one. */
  #time(ms: number | undefined): number | undefined {
    return this.#exactTimes || ms === undefined ? ms : 0;
  }
}

/** As the store's oracle says what stands in the log. */
type OracleChange =
  | { readonly kind: "delete-range"; readonly start: string; readonly end?: string }
  | {
      readonly kind: "put" | "delete";
      readonly key: string;
      readonly value?: string;
      readonly expiresAtMs?: number;
      readonly previousSeq: number;
    };

function* byRecord(events: readonly UpdateEvent[]): Generator<readonly UpdateEvent[]> {
  for (let at = 0; at < events.length;) {
    const { seq } = events[at]!.position;
    const record = events.filter(({ position }) => position.seq === seq);
    if (events.slice(at, at + record.length).some(({ position }) => position.seq !== seq)) {
      throw new Error(`the events of record ${seq} do not follow each other`);
    }
    yield record;
    at += record.length;
  }
}

/** Without the keys that these events removed; each of them was there, and its time was over. */
function expired(before: OracleState, events: readonly UpdateEvent[]): OracleState {
  const state = new Map(before);
  for (const { key, timestampMs } of events) {
    const { expiresAtMs = Infinity } = state.get(key) ?? {};
    if (expiresAtMs > timestampMs)
      throw new Error(`${key} is removed at ${timestampMs}, and stays until ${expiresAtMs}`);
    state.delete(key);
  }
  return state;
}

function withDeadlines(state: OracleState, events: readonly UpdateEvent[]): OracleState {
  const timed = new Map(state);
  for (const { type, key, expiresAtMs } of events) {
    const entry = timed.get(key);
    if (type === "put" && entry) timed.set(key, { ...entry, expiresAtMs });
  }
  return timed;
}

/** With whether there is a time instead of how much. */
function untimed(value: unknown): unknown {
  return JSON.parse(json(value), (name, inner: unknown) => (name === "ttlMs" ? typeof inner : inner)) as unknown;
}

const nameOf = (token: Uint8Array): string => Buffer.from(token).toString("hex");

/** Fields that are undefined count as absent. */
const same = (a: unknown, b: unknown): boolean => json(sorted(a)) === json(sorted(b));

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, sorted(inner)]),
  );
}

function json(value: unknown): string {
  if (value === undefined) return "nothing";
  return JSON.stringify(plain(value), (_, inner: unknown) => {
    if (typeof inner === "bigint") return `${inner}n`;
    return inner instanceof Error ? Object.assign({ message: inner.message }, inner) : inner;
  });
}
