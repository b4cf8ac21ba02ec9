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
  type WriteCommand,
  type WriteReceipt,
} from "../../internal/store/store.js";
import { forkOf, isPartOf, type LedgerRecord, recordOn, retryName, show } from "./ledger.js";
import type { Counts } from "./counts.js";
import type { Rooms, SimNode } from "./sim-node.js";
import type { Watch } from "./watch.js";
import type { World } from "./world.js";

export interface KeyValue {
  readonly key: string;
  readonly value: string | null;
  readonly point: ReadPoint;
}

export interface WriteOptions {
  readonly acknowledge?: "kept" | "committed";
  readonly timeoutMs?: number;
  readonly retry?: RetryKey;
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
    const value = entry ? textOf(entry.value) : null;
    const record = this.#expectFresh(node, point, consistency, top);
    if (record) {
      const expected = visible(record, key, point.nowMs);
      if (expected !== value) {
        this.#world.violate(
          "a read shows the state of its position",
          `${node.name} shows ${key} = ${value} at ${show(record)}, where it is ${expected}`,
        );
      }
    }
    return { key, value, point };
  }

  async scan(
    node: SimNode,
    limit: number,
    consistency: ReadConsistency,
    signal: AbortSignal,
  ): Promise<{ readonly keys: number; readonly point: ReadPoint }> {
    const { top } = this.#watch.ledger;
    const { store } = await this.#admit(node, consistency, signal);
    const page = store.scan({ start: new Uint8Array(0), limit, maxBytes: 1 << 20, keysOnly: false });
    const { point } = page;
    const found = page.entries.map(({ key, value }) => `${textOf(key)}=${textOf(value)}`);
    const record = this.#expectFresh(node, point, consistency, top);
    if (record) {
      const all = [...record.state.keys()].sort().flatMap((key) => {
        const value = visible(record, key, point.nowMs);
        return value === null ? [] : [`${key}=${value}`];
      });
      const expected = all.slice(0, limit);
      if (found.join() !== expected.join()) {
        this.#world.violate(
          "a read shows the state of its position",
          `${node.name} scans ${found.join()} at ${show(record)}, where there is ${expected.join()}`,
        );
      }
    }
    return { keys: found.length, point };
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
  ): LedgerRecord | undefined {
    const record = this.#watch.recordAt(node, point.position);
    if (!record || record !== this.#watch.appliedOn(node)) {
      this.#world.violate(
        "a read names the position that it shows",
        `${node.name} names (${point.position.epoch}, ${point.position.seq}), and has applied ${node.rooms?.store.appliedSeq}`,
      );
      return undefined;
    }
    if (consistency.linearizable === true) {
      const { commit } = record.cluster;
      if (
        (commit === "majority" || this.#watch.lossy.size === 0) &&
        !isPartOf(top, record) &&
        !this.#mayMiss(record, top)
      ) {
        this.#world.violate(
          "a linearizable read sees what was committed before it came",
          `${node.name} shows ${show(record)}, ${show(top)} had been committed`,
        );
      }
    }
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

  async write(node: SimNode, commands: readonly WriteCommand[], options: WriteOptions): Promise<WriteReceipt> {
    const { store } = node.mustRooms;
    const before = this.#watch.appliedOn(node);
    const receipt = await this.#alive(node, store.write(commands, options));
    const record = this.#acknowledged(node, receipt.position, options);
    if (record) {
      this.#records.set(receipt.token, record);
      this.#expectSameAnswer(node, record, before, options, receipt, JSON.stringify(receipt.results));
    }
    return receipt;
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
      if (record.epoch !== node.mustRooms.store.last.epoch) this.#counts.note("repeated answers of another master");
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
    after: { readonly token?: Uint8Array; readonly seq: number; readonly record?: LedgerRecord | undefined },
    limit: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<UpdatesPage & { readonly record: LedgerRecord }> {
    const page = await this.#alive(
      node,
      node.mustRooms.store.updates({
        after: toSeq(after.seq),
        ...(after.token && { afterToken: after.token }),
        limit,
        maxBytes: PAGE_BYTES,
        waitMs,
        signal,
      }),
    );
    const record = this.checkEvents(node, after, page.events, page.next);
    return { ...page, record: record ?? this.#watch.ledger.root };
  }

  /** Checks that events are all that the node's history has from one place to another; gives the record of that, if it has one. */
  checkEvents(
    node: SimNode,
    after: { readonly seq: number; readonly record?: LedgerRecord | undefined },
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
    const expected: string[] = [];
    for (let at = end; at.seq > after.seq && at.prev; at = at.prev) {
      expected.unshift(
        ...at.events.map(
          ({ type, key, value }) => `${at.epoch}/${at.seq} ${type} ${key}=${type === "put" ? value : ""}`,
        ),
      );
    }
    const found = events.map(
      ({ position, key, value, type }) => `${position.epoch}/${position.seq} ${type} ${textOf(key)}=${textOf(value)}`,
    );
    if (found.join() !== expected.join()) {
      this.#world.violate(
        "updates are complete and in order",
        `${node.name} gives ${found.join()} after seq ${after.seq} up to ${show(end)}, where there is ${expected.join()}`,
      );
    }
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
function visible(record: LedgerRecord, key: string, nowMs: number): string | null {
  const entry = record.state.get(key);
  return entry && !(entry.expiresAtMs !== undefined && entry.expiresAtMs <= nowMs) ? entry.value : null;
}
