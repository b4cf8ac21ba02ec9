/**
 * What a node does for clients, as the handlers of `rpc` do it, without the wire. Each answer is held against the ledger at
 * the moment at which the node gives it: whatever a node shows must be the state of its own branch at the position that it
 * names, and as fresh as was asked for.
 */
import type { Position } from "../../internal/base/position.js";
import { seq as toSeq } from "../../internal/base/position.js";
import type { ReadConsistency } from "../../internal/replication/read-gate.js";
import {
  StoreError,
  type ReadPoint,
  type RetryKey,
  type UpdateEvent,
  type UpdatesPage,
  type KeyFilter,
  type TxnReceipt,
  type WriteReceipt,
} from "../../internal/store/store.js";
import {
  forkOf,
  isPartOf,
  isWithin,
  type LedgerRecord,
  type ModelEntry,
  type ModelEvent,
  type ModelRange,
  recordOn,
  retryName,
  show,
} from "./ledger.js";
import type { Counts } from "./counts.js";
import { agrees, answerText, eventText, judge, refusalText, type Ruling, type Wish } from "./oracle.js";
import type { Rooms, SimNode } from "./sim-node.js";
import type { Watch } from "./watch.js";
import { described, hasChanged } from "./wishes.js";
import type { World } from "./world.js";

export interface KeyValue {
  readonly key: string;
  readonly value: string | null;
  /** 0: there is none. */
  readonly modSeq: number;
  readonly point: ReadPoint;
}

export interface WriteOptions {
  readonly acknowledge?: "kept" | "committed";
  readonly timeoutMs?: number;
  readonly retry?: RetryKey;
}

/** Where a follower stands. */
interface Place {
  readonly token?: Uint8Array;
  readonly seq: number;
  readonly record?: LedgerRecord | undefined;
}

/** Of which events a follower wants to know, and what of them. Neither `key` nor `range`: all. */
export interface EventView {
  readonly key?: string;
  readonly range?: ModelRange;
  readonly wantPrevious: boolean;
  readonly keysOnly: boolean;
}

const bytesOf = (text: string): Uint8Array => encoder.encode(text);
const textOf = (bytes: Uint8Array): string => decoder.decode(bytes);
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A page of updates holds no more bytes, beyond its first record. */
const PAGE_BYTES = 4096;

export class Service {
  readonly #world: World;
  readonly #watch: Watch;
  readonly #counts: Counts;

  constructor(world: World, watch: Watch, counts: Counts) {
    this.#world = world;
    this.#watch = watch;
    this.#counts = counts;
  }

  // ---- reads -----------------------------------------------------------------------------------------------------------

  async get(node: SimNode, key: string, consistency: ReadConsistency, signal: AbortSignal): Promise<KeyValue> {
    const { top } = this.#watch.ledger;
    const { store } = await this.#admit(node, consistency, signal);
    const point = store.readPoint();
    const entry = store.get(bytesOf(key));
    const found = entry ? `${textOf(entry.value)} @${entry.createSeq}, ${entry.modSeq}` : "nothing";
    const record = this.#expectFresh(node, point, consistency, top);
    if (record) {
      const model = visible(record, key, point.nowMs);
      const expected = model ? `${model.value} @${model.createSeq}, ${model.modSeq}` : "nothing";
      if (expected !== found) {
        this.#world.violate(
          "a read shows the state of its position",
          `${node.name} shows ${key} = ${found} at ${show(record)}, where it is ${expected}`,
        );
      }
    }
    return { key, value: entry ? textOf(entry.value) : null, modSeq: entry?.modSeq ?? 0, point };
  }

  async scan(
    node: SimNode,
    { start, end, limit, reverse }: ModelRange & { readonly limit: number; readonly reverse: boolean },
    consistency: ReadConsistency,
    signal: AbortSignal,
  ): Promise<{ readonly keys: number; readonly point: ReadPoint }> {
    const { top } = this.#watch.ledger;
    const { store } = await this.#admit(node, consistency, signal);
    const range = { start: bytesOf(start), ...(end !== undefined && { end: bytesOf(end) }) };
    const page = store.scan({ ...range, limit, maxBytes: 1 << 20, keysOnly: false, reverse });
    const { point } = page;
    const found = page.entries.map(({ key, value }) => `${textOf(key)}=${textOf(value)}`);
    const record = this.#expectFresh(node, point, consistency, top);
    if (record) {
      const all = keysWithin(record, { start, end }, point.nowMs);
      if (reverse) all.reverse();
      const expected = all.slice(0, limit).map((key) => `${key}=${record.state.get(key)?.value}`);
      if (found.join() !== expected.join() || (page.next === undefined) !== all.length <= limit) {
        const rest = page.next ? `, and goes on at ${textOf(page.next)}` : "";
        this.#world.violate(
          "a read shows the state of its position",
          `${node.name} scans ${found.join()}${rest} at ${show(record)}, where there is ${expected.join()} of ${all.length}`,
        );
      }
    }
    return { keys: found.length, point };
  }

  async count(
    node: SimNode,
    { start, end }: ModelRange,
    consistency: ReadConsistency,
    signal: AbortSignal,
  ): Promise<{ readonly count: number; readonly point: ReadPoint }> {
    const { top } = this.#watch.ledger;
    const { store } = await this.#admit(node, consistency, signal);
    const range = { start: bytesOf(start), ...(end !== undefined && { end: bytesOf(end) }) };
    // So few keys are counted on the tick of the call.
    const counting = store.count(range, undefined, signal);
    const applied = this.#watch.appliedOn(node);
    const { count, point } = await counting;
    const record = this.#expectFresh(node, point, consistency, top, applied);
    if (record) {
      const expected = keysWithin(record, { start, end }, point.nowMs).length;
      if (count !== expected) {
        this.#world.violate(
          "a read shows the state of its position",
          `${node.name} counts ${count} keys from ${start} to ${end} at ${show(record)}, where there are ${expected}`,
        );
      }
    }
    return { count, point };
  }

  async #admit(node: SimNode, consistency: ReadConsistency, signal: AbortSignal): Promise<Rooms> {
    const rooms = node.mustRooms;
    const admitted = rooms.gate.admit(consistency, signal);
    if (admitted) {
      this.#counts.note("reads that waited");
      await this.#alive(node, admitted);
    }
    return rooms;
  }

  /** What a process that has ended would still answer reaches nobody. What it did in this event is looked at first. */
  async #alive<T>(node: SimNode, answer: Promise<T>): Promise<T> {
    const { process } = node;
    try {
      return await answer;
    } finally {
      if (!process?.alive) await new Promise(() => {});
      this.#watch.look(node);
    }
  }

  /** Checks the freshness that was promised; gives the record at the position. */
  #expectFresh(
    node: SimNode,
    point: ReadPoint,
    consistency: ReadConsistency,
    top: LedgerRecord,
    applied = this.#watch.appliedOn(node),
  ): LedgerRecord | undefined {
    const record = this.#watch.recordAt(node, point.position);
    if (!record || record !== applied) {
      this.#world.violate(
        "a read names the position that it shows",
        `${node.name} names (${point.position.epoch}, ${point.position.seq}), and has applied ${node.rooms?.store.appliedSeq}`,
      );
      return undefined;
    }
    if (consistency.linearizable === true) this.#expectSees(node, record, top);
    const seen = consistency.atLeast && this.#records.get(consistency.atLeast);
    if (seen && !isPartOf(seen, record)) {
      this.#world.violate(
        "a read with a token sees what the token has seen",
        `${node.name} shows ${show(record)} to one who has seen ${show(seen)}`,
      );
    }
    this.#records.set(point.token, record);
    const { atLeastSeq, maxStalenessMs } = consistency;
    if (atLeastSeq !== undefined && record.seq < atLeastSeq) {
      this.#world.violate(
        "a read waits for what it asks for",
        `${node.name} shows ${show(record)}, seq ${atLeastSeq} was asked for`,
      );
    }
    if (maxStalenessMs !== undefined) this.#expectYoung(node, record, maxStalenessMs);
    return record;
  }

  /** What is linearizable sees what had been committed when it came. */
  #expectSees(node: SimNode, record: LedgerRecord, top: LedgerRecord): void {
    const { commit } = record.cluster;
    if (commit === "master" && this.#watch.lossy.size > 0) return;
    if (isPartOf(top, record) || this.#mayMiss(record, top)) return;
    this.#world.violate(
      "a linearizable answer sees what was committed before it was asked for",
      `${node.name} shows ${show(record)}, ${show(top)} had been committed`,
    );
  }

  /** What was committed so long ago must be in what is shown, as far as the node's own master knew of it. */
  #expectYoung(node: SimNode, record: LedgerRecord, maxStalenessMs: number): void {
    const then = this.#watch.committedAt(this.#world.nowMs - maxStalenessMs / node.clock.rate - 1);
    const core = this.#watch.coreOf(node);
    const master = core?.role.kind === "replica" ? core.role.current?.master?.epoch : core?.promised.epoch;
    if (master === undefined || then.epoch > master || isPartOf(then, record) || this.#mayMiss(record, then)) return;
    this.#world.violate(
      "a bounded read is no older than it says",
      `${node.name} shows ${show(record)}, and ${show(then)} had been committed ${maxStalenessMs} ms before`,
    );
  }

  /** Whether a mastership that may lose stands between the two: it was forced beside the one that is read from, or after it. */
  #mayMiss(record: LedgerRecord, committed: LedgerRecord): boolean {
    return this.#wasLost(committed) || this.#watch.mayHaveLost(forkOf(committed, record), committed);
  }

  #wasLost(record: LedgerRecord): boolean {
    for (const start of this.#watch.lossy) if (!isPartOf(record, start) && start.epoch > record.epoch) return true;
    return false;
  }

  // ---- writes ----------------------------------------------------------------------------------------------------------

  async write(
    node: SimNode,
    wish: Wish,
    wanted: WriteOptions,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<WriteReceipt | TxnReceipt> {
    const { store, replicator } = node.mustRooms;
    const options = { ...wanted, confirm: () => replicator.linearizableSeq(signal) };
    const before = this.#watch.appliedOn(node);
    const { top } = this.#watch.ledger;
    const writing = wish.kind === "write" ? store.write(wish.commands, options) : store.transact(wish.txn, options);
    let receipt: WriteReceipt | TxnReceipt;
    try {
      receipt = await this.#alive<WriteReceipt | TxnReceipt>(node, writing);
    } catch (error) {
      const refusal = refusalText(error);
      if (refusal !== undefined) this.#expectRefusal(node, wish, before, refusal);
      throw error;
    }
    const record = this.#acknowledged(node, receipt.position, options);
    if (record) {
      this.#records.set(receipt.token, record);
      const answer = answerText(receipt);
      this.#expectSameAnswer(node, record, before, options, receipt, answer);
      this.#expectAnswer(node, wish, record, answer, hasChanged(wish, receipt));
      if (!receipt.repeated && wanted.acknowledge !== "kept") this.#expectSees(node, record, top);
    }
    return receipt;
  }

  /** What an answer says is fully determined by the state before its record; where it made none, by the state that its place names. */
  #expectAnswer(node: SimNode, wish: Wish, record: LedgerRecord, answer: string, hasMadeRecord: boolean): void {
    const { prev, timestampMs } = record;
    this.#counts.note(`answers of a ${wish.kind} judged${hasMadeRecord ? "" : " that changed nothing"}`);
    const rulings =
      hasMadeRecord && prev ? [this.#judge(wish, prev, timestampMs, record.seq)] : this.#judgeAt(wish, record);
    const made = record.events.filter(({ type }) => type !== "expire" && type !== "evict").map(eventText);
    const explains = (ruling: Ruling): boolean =>
      agrees(ruling, answer) && (hasMadeRecord ? ruling.events.join() === made.join() : ruling.events.length === 0);
    if (rulings.some(explains)) return;
    const [ruling] = rulings;
    const what = hasMadeRecord ? `, by a record that says ${made.join()}` : "";
    this.#world.violate(
      "an answer is what the state at its place says",
      `${node.name} answers ${described(wish)} with ${answer} at ${show(record)}${what}; it should be ${ruling?.answer} by ${ruling?.events.join()}`,
    );
  }

  /** A refusal names no place: it has to be right at one between the call and the answer. */
  #expectRefusal(node: SimNode, wish: Wish, before: LedgerRecord | undefined, refusal: string): void {
    const after = this.#watch.appliedOn(node);
    if (!before || !after || !isPartOf(before, after)) return;
    this.#counts.note("refusals judged");
    let at = after;
    for (;;) {
      if (this.#judgeAt(wish, at).some((ruling) => agrees(ruling, refusal))) return;
      if (at === before || !at.prev) break;
      at = at.prev;
    }
    const [ruling] = this.#judgeAt(wish, after);
    this.#world.violate(
      "a refusal is right at some place after its call",
      `${node.name} refuses ${described(wish)} with ${refusal}; it should be ${ruling?.answer} at ${show(after)}, and nowhere since ${show(before)} it is that`,
    );
  }

  #judge(wish: Wish, base: LedgerRecord, nowMs: number, ownSeq = base.seq + 1): Ruling {
    const { state } = base;
    const seqOf = (token: Uint8Array): number | undefined => {
      const record = this.#records.get(token);
      return record && isPartOf(record, base) ? record.seq : undefined;
    };
    return judge(wish, { state, nowMs, ownSeq, seqOf });
  }

  /** By all moments at which the state of a record may have been looked at: deadlines pass without a record. */
  #judgeAt(wish: Wish, record: LedgerRecord): readonly Ruling[] {
    const deadlines = [...record.state.values()].flatMap(({ expiresAtMs }) => expiresAtMs ?? []);
    const times = [record.timestampMs, ...deadlines.filter((deadline) => deadline > record.timestampMs)];
    return times.map((timeMs) => this.#judge(wish, record, timeMs));
  }

  async produce(
    node: SimNode,
    payloads: readonly string[],
    options: WriteOptions,
  ): Promise<{ readonly firstOffset: number; readonly position: Position; readonly token: Uint8Array }> {
    const { store } = node.mustRooms;
    const before = this.#watch.appliedOn(node);
    const receipt = await this.#alive(node, store.produce(payloads.map(bytesOf), options));
    const record = this.#acknowledged(node, receipt.position, options);
    if (record) {
      this.#records.set(receipt.token, record);
      this.#expectSameAnswer(node, record, before, options, receipt, `${receipt.firstOffset}`);
      const { produced } = record;
      const there = produced.payloads.slice(receipt.firstOffset, receipt.firstOffset + payloads.length);
      if (produced.end !== receipt.firstOffset + payloads.length || there.join() !== payloads.join()) {
        this.#world.violate(
          "produced records have the offsets that were told",
          `${node.name} gave offset ${receipt.firstOffset} to ${payloads.join()}; there stands ${there.join()}`,
        );
      }
    }
    return receipt;
  }

  async truncate(node: SimNode, below: number): Promise<void> {
    const { position } = await this.#alive(node, node.mustRooms.store.truncateRecords(below));
    this.#acknowledged(node, position, {});
  }

  /** However often a write is sent, and whoever answers: what made its record is told, and by each answer the same. */
  #expectSameAnswer(
    node: SimNode,
    record: LedgerRecord,
    before: LedgerRecord | undefined,
    { retry }: WriteOptions,
    { repeated }: { readonly repeated?: true },
    answer: string,
  ): void {
    if (!retry) return;
    const name = retryName(retry);
    if (repeated) {
      this.#counts.note("repeated answers");
      if (before && !isPartOf(record, before)) this.#counts.note("repeated answers of a write in flight");
      // It may be started anew by now.
      if (node.rooms && record.epoch !== node.rooms.store.last.epoch)
        this.#counts.note("repeated answers of another master");
      if (record.remembers !== name || !record.committed) {
        this.#world.violate(
          "a repeated answer names the committed record of its write",
          `${node.name} names ${show(record)} to ${name}, which is that of ${record.remembers}`,
        );
      }
    }
    // A write that changed nothing made no record: the position is that of another one.
    if (record.remembers !== name) return;
    const first = this.#answers.get(record);
    this.#answers.set(record, first ?? answer);
    if (first !== undefined && first !== answer) {
      this.#world.violate(
        "every answer to a write is the same",
        `${node.name} tells ${name} ${answer}, it was ${first}`,
      );
    }
  }

  /** What the write was told that made a record, and may be sent again. */
  readonly #answers = new WeakMap<LedgerRecord, string>();
  /** What tokens stand for. */
  readonly #records = new WeakMap<Uint8Array, LedgerRecord>();
  /** Every acknowledged write: where the audit at the end looks for it. */
  readonly acknowledged: { readonly record: LedgerRecord; readonly kept: boolean }[] = [];

  #acknowledged(node: SimNode, position: Position, options: WriteOptions): LedgerRecord | undefined {
    const record = this.#watch.recordAt(node, position);
    const kept = options.acknowledge === "kept";
    if (!record) {
      this.#world.violate(
        "acknowledged means kept",
        `${node.name} acknowledges (${position.epoch}, ${position.seq}), which it does not have`,
      );
      return undefined;
    }
    if (kept) {
      const view = this.#watch.viewOf(node);
      if (view && view.keptSeq < record.seq) {
        this.#world.violate(
          "acknowledged means kept",
          `${node.name} acknowledges ${show(record)}, keeps ${view.keptSeq}`,
        );
      }
    } else if (!record.committed) {
      this.#world.violate(
        "acknowledged means committed",
        `${node.name} acknowledges ${show(record)} before it is committed`,
      );
    }
    this.acknowledged.push({ record, kept });
    this.#counts.note(kept ? "writes acknowledged as kept" : "writes acknowledged as committed");
    return record;
  }

  /** Where the node's reads stand, to follow from there; undefined when it serves none. */
  readPoint(
    node: SimNode,
  ): { readonly token: Uint8Array; readonly seq: number; readonly record: LedgerRecord } | undefined {
    if (!node.rooms || node.state !== "running") return undefined;
    try {
      const { position, token } = node.rooms.store.readPoint();
      const record = this.#watch.recordAt(node, position);
      return record && { token, seq: position.seq, record };
    } catch (error) {
      if (error instanceof StoreError) return undefined;
      throw error;
    }
  }

  // ---- streams ---------------------------------------------------------------------------------------------------------

  /** A page of updates after a token, or after the beginning; checked to be all that there is up to where it ends. */
  async updates(
    node: SimNode,
    after: Place,
    view: EventView,
    limit: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<UpdatesPage & { readonly record: LedgerRecord }> {
    const { filter, wantPrevious } = eventsWanted(view);
    const page = await this.#alive(
      node,
      node.mustRooms.store.updates({
        after: toSeq(after.seq),
        ...(after.token && { afterToken: after.token }),
        ...(filter && { filter }),
        ...(wantPrevious && { wantPrevious }),
        limit,
        maxBytes: PAGE_BYTES,
        waitMs,
        signal,
      }),
    );
    const record = this.checkEvents(node, after, { ...view, keysOnly: false }, page.events, page.next);
    return { ...page, record: record ?? this.#watch.ledger.root };
  }

  /** Checks that events are all that the node's history has from one place to another; gives the record of that, if it has one. */
  checkEvents(
    node: SimNode,
    after: Pick<Place, "seq" | "record">,
    view: EventView,
    events: readonly UpdateEvent[],
    next: Position,
  ): LedgerRecord | undefined {
    const applied = this.#watch.appliedOn(node);
    if (!applied || applied.seq < next.seq) {
      this.#world.violate("updates are of committed records", `${node.name} gives updates up to ${next.seq}`);
      return undefined;
    }
    const end = recordOn(applied, next.seq);
    if (end.epoch !== next.epoch) {
      this.#world.violate(
        "updates name the place where they end",
        `${node.name} names (${next.epoch}, ${next.seq}), it is ${show(end)}`,
      );
    }
    if (after.record && !isPartOf(after.record, end)) {
      this.#world.violate(
        "updates never go over to another history unsaid",
        `${node.name} goes on from ${show(after.record)} to ${show(end)}`,
      );
    }
    const compactSeq = node.watched?.store.compactSeq ?? 0;
    const isCompacted = events.map(({ previousCompacted }) => previousCompacted === true);
    this.#counts.note("values before that were compacted", isCompacted.filter(Boolean).length);
    const records: LedgerRecord[] = [];
    for (let at = end; at.seq > after.seq && at.prev; at = at.prev) records.unshift(at);
    const wanted = records.flatMap((at) => eventsIn(at, view).map((event) => ({ at, event })));
    const isPart = wanted.map(({ at, event }) => !at.events.includes(event));
    this.#counts.note("ranges given in part", isPart.filter(Boolean).length);
    const expected = wanted.map(({ at, event }, i) => {
      const { previous } = event;
      // What the log no longer holds is said to be missing, and only that.
      const mayBeMissing = previous !== undefined && previous.modSeq <= compactSeq && isCompacted[i] === true;
      const before = !view.wantPrevious || !previous ? "" : mayBeMissing ? " compacted" : ` was ${previous.value}`;
      const shown = view.keysOnly && event.type === "put" ? { ...event, value: "" } : event;
      return `${at.epoch}/${at.seq} ${eventText(shown)}${before}`;
    });
    const found = events.map((event) => {
      const { position, key, value, type, rangeEnd, expiresAtMs, previous, previousCompacted } = event;
      const about = {
        type,
        key: textOf(key),
        value: textOf(value),
        rangeEnd: rangeEnd && textOf(rangeEnd),
        expiresAtMs,
      };
      const before = previous ? ` was ${textOf(previous)}` : previousCompacted ? " compacted" : "";
      return `${position.epoch}/${position.seq} ${eventText(about)}${before}`;
    });
    if (found.join() !== expected.join()) {
      this.#world.violate(
        "updates are complete and in order",
        `${node.name} gives ${found.join()} after seq ${after.seq} up to ${show(end)}, where there is ${expected.join()} (${JSON.stringify(view)})`,
      );
    }
    this.#counts.note("events given", found.length);
    if (view.range) this.#counts.note("events given through a filter", found.length);
    if (view.wantPrevious) this.#counts.note("values before that were given", events.filter((e) => e.previous).length);
    return end;
  }

  async consume(
    node: SimNode,
    from: number,
    maxRecords: number,
  ): Promise<{ readonly start: number; readonly end: number; readonly records: number }> {
    const page = await this.#alive(node, node.mustRooms.store.consume(from, 4096, maxRecords));
    const applied = this.#watch.appliedOn(node);
    for (const [i, { offset, record }] of page.records.entries()) {
      const expected = applied?.produced.payloads[offset];
      if (offset !== from + i || !applied || offset >= applied.produced.end || expected !== textOf(record)) {
        this.#world.violate(
          "what is consumed is what was produced",
          `${node.name} gives ${textOf(record)} at offset ${offset}, where there is ${expected}`,
        );
      }
    }
    return { start: page.start, end: page.end, records: page.records.length };
  }
}

/** What a read at the master's time sees. */
function visible(record: LedgerRecord, key: string, nowMs: number): ModelEntry | undefined {
  const entry = record.state.get(key);
  return entry && (entry.expiresAtMs === undefined || entry.expiresAtMs > nowMs) ? entry : undefined;
}

function keysWithin(record: LedgerRecord, range: ModelRange, nowMs: number): string[] {
  return [...record.state.keys()].filter((key) => isWithin(key, range) && visible(record, key, nowMs)).sort();
}

/** What is wanted of events, in the words of the store. */
export function eventsWanted({ key, range, wantPrevious, keysOnly }: EventView): {
  readonly filter?: KeyFilter;
  readonly wantPrevious?: true;
  readonly keysOnly?: true;
} {
  const filter =
    key !== undefined
      ? { key: bytesOf(key) }
      : range && { range: { start: bytesOf(range.start), ...(range.end && { end: bytesOf(range.end) }) } };
  return {
    ...(filter && { filter }),
    ...(wantPrevious && { wantPrevious }),
    ...(keysOnly && { keysOnly }),
  };
}

/** The events of a record that a view lets through; of a removed range, what lies within it. */
function eventsIn({ events }: LedgerRecord, { key, range }: EventView): readonly ModelEvent[] {
  if (key === undefined && !range) return events;
  return events.flatMap((event): ModelEvent[] => {
    const isRange = event.type === "delete-range";
    const removed = { start: event.key, end: event.rangeEnd };
    if (key !== undefined) {
      if (!isRange) return event.key === key ? [event] : [];
      return isWithin(key, removed) ? [{ ...event, type: "delete", key, rangeEnd: undefined }] : [];
    }
    if (!range) return [event];
    if (!isRange) return isWithin(event.key, range) ? [event] : [];
    const start = event.key > range.start ? event.key : range.start;
    const ends = [event.rangeEnd, range.end].filter((end) => end !== undefined).sort();
    return ends[0] === undefined || start < ends[0] ? [{ ...event, key: start, rangeEnd: ends[0] }] : [];
  });
}
