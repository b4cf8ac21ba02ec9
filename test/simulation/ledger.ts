/**
 * Everything that was ever written to any log of the simulated cluster, as a tree: a record hangs below the one that it
 * continues, and two histories that part are two branches. Each record knows the state that applying it leads to, so that
 * whatever a node says can be held against the branch that it stands on.
 *
 * It is told by looking into the nodes; none of them knows of it.
 */
import { assert, must } from "../../internal/base/assert.js";
import type { EpochId, NodeId } from "../../internal/base/ids.js";
import { decodeChanges, type Member } from "../../internal/store/change.js";
import { accountedBytesOf } from "../../internal/engine/engine.js";
import type { StorageLimits } from "../../internal/store/room.js";
import type { RetryKey } from "../../internal/store/store-types.js";
import { decodeRecords, type LogRecord as RawRecord } from "../../internal/wal/record.js";

/** What a key holds. */
export interface ModelEntry {
  readonly value: string;
  readonly createSeq: number;
  readonly modSeq: number;
  readonly expiresAtMs: number | undefined;
}

/** How the cluster decides, as the whole log up to a record says. */
export interface ModelCluster {
  readonly commit: "master" | "majority";
  readonly voters: "listed" | "master";
  readonly members: ReadonlyMap<NodeId, Member>;
  readonly limits: StorageLimits | undefined;
  /** The record that said so last. */
  readonly limitedSeq: number;
}

export interface ModelEpoch {
  readonly epoch: number;
  readonly epochId: EpochId;
  readonly forced: boolean;
  readonly master: NodeId;
}

/** One change of a key, as GetUpdates tells it. */
export interface ModelEvent {
  /** Of a range, `key` is its start. */
  readonly type: "put" | "delete" | "expire" | "evict" | "delete-range";
  readonly key: string;
  /** Of a range: where it ends, without this key; undefined: after the last one. */
  readonly rangeEnd: string | undefined;
  /** What was put, or what was there when the key went; undefined: nothing was. */
  readonly value: string | undefined;
  readonly expiresAtMs: number | undefined;
  /** What the event replaced, as its master saw it; undefined: nothing, or a range. */
  readonly previous: ModelEntry | undefined;
}

/** Keys from `start` on, up to `end` without it. */
export interface ModelRange {
  readonly start: string;
  readonly end: string | undefined;
}

export const isWithin = (key: string, { start, end }: ModelRange): boolean =>
  key >= start && (end === undefined || key < end);

/** The record log after a record: the payloads by offset, shared between records; only `end` of them belong to this one. */
export interface ModelProduced {
  readonly start: number;
  readonly end: number;
  readonly payloads: readonly string[];
}

export interface LedgerRecord {
  readonly seq: number;
  readonly epoch: number;
  readonly chain: number;
  /** By the master's time. */
  readonly timestampMs: number;
  readonly prev: LedgerRecord | undefined;
  /** The newest epoch's first record, on this branch. */
  readonly start: LedgerRecord | undefined;
  /** Of a record that begins an epoch. */
  readonly begins: ModelEpoch | undefined;
  readonly events: readonly ModelEvent[];
  readonly state: ReadonlyMap<string, ModelEntry>;
  readonly produced: ModelProduced;
  readonly cluster: ModelCluster;
  /** The write that the record lets every node remember: client id and number. */
  readonly remembers: string | undefined;
  /** The ids of clients that are forgotten. */
  readonly forgets: readonly string[];
  /** Some master has said that it is committed, and that held; as everything before it. */
  committed: boolean;
}

type Complain = (detail: string) => void;

const text = new TextDecoder();

export class Ledger {
  readonly root: LedgerRecord = {
    seq: 0,
    epoch: 0,
    chain: 0,
    timestampMs: 0,
    prev: undefined,
    start: undefined,
    begins: undefined,
    events: [],
    state: new Map(),
    produced: { start: 0, end: 0, payloads: [] },
    cluster: { commit: "master", voters: "master", members: new Map(), limits: undefined, limitedSeq: 0 },
    remembers: undefined,
    forgets: [],
    committed: true,
  };
  /** By seq: the records of all branches. */
  readonly #bySeq: LedgerRecord[][] = [[this.root]];
  /** Masterships, in the order in which they came to be known. */
  readonly epochs: LedgerRecord[] = [];
  /** The committed record of the highest (epoch, seq). */
  top: LedgerRecord = this.root;
  records = 0;

  /** The record of that place and chain value; undefined when no node has ever written it. */
  find(seq: number, chain: number): LedgerRecord | undefined {
    if (seq === 0) return this.root;
    return this.#bySeq[seq]?.find((record) => record.chain === chain);
  }

  /** All records of a place, one for each branch that reaches it. */
  at(seq: number): readonly LedgerRecord[] {
    return this.#bySeq[seq] ?? [];
  }

  /**
   * Takes in whole encoded records that follow `before` in some log; gives the last. `each` is told which of them no log had before,
   * `contradiction` of two records of one epoch and seq that differ. `nonsense` of a record that does what no master may have
   * written.
   */
  learn(
    before: LedgerRecord,
    bytes: Uint8Array,
    each: (record: LedgerRecord, isNew: boolean) => void,
    contradiction: (one: LedgerRecord, other: LedgerRecord) => void,
    nonsense: Complain,
  ): LedgerRecord {
    let last = before;
    for (const raw of decodeRecords(bytes, false)) {
      assert(raw.seq === last.seq + 1, `record ${raw.seq} is read after ${last.seq}`);
      const known: LedgerRecord | undefined = this.#bySeq[raw.seq]?.find(
        (record) => record.chain === raw.chain && record.epoch === raw.epoch,
      );
      if (known) {
        last = known;
      } else {
        const record = recordAfter(last, raw, nonsense);
        const twin = this.#bySeq[raw.seq]?.find(({ epoch }) => epoch === raw.epoch);
        (this.#bySeq[raw.seq] ??= []).push(record);
        this.records++;
        if (record.begins) this.epochs.push(record);
        if (twin) contradiction(twin, record);
        last = record;
      }
      each(last, !known);
    }
    return last;
  }

  /** Marks a record, and everything before it, as committed; gives those that were not yet, newest first. */
  commit(record: LedgerRecord): LedgerRecord[] {
    const marked: LedgerRecord[] = [];
    for (let at: LedgerRecord | undefined = record; at && !at.committed; at = at.prev) {
      at.committed = true;
      marked.push(at);
    }
    if (record.epoch > this.top.epoch || (record.epoch === this.top.epoch && record.seq > this.top.seq))
      this.top = record;
    return marked;
  }
}

/** Whether `record` is `of`, or comes before it on its branch. */
export function isPartOf(record: LedgerRecord, of: LedgerRecord): boolean {
  let at = of;
  while (at.seq > record.seq) {
    // Over whole masterships at a time, since most of them are common to both.
    const start = at.start;
    at =
      start && start !== at && start.seq >= record.seq ? start : must(at.prev, "a record after another has one before");
  }
  return at === record;
}

/** The last record that two branches have in common. */
export function forkOf(a: LedgerRecord, b: LedgerRecord): LedgerRecord {
  let [one, other] = [a, b];
  while (one !== other) {
    if (one.seq >= other.seq) one = must(one.prev, "all branches have the root in common");
    else other = must(other.prev, "all branches have the root in common");
  }
  return one;
}

/** The record of that place on the branch that ends with `end`. */
export function recordOn(end: LedgerRecord, seq: number): LedgerRecord {
  let at = end;
  while (at.seq > seq) at = must(at.prev, "a record after another has one before");
  assert(at.seq === seq, `seq ${seq} lies on the branch`);
  return at;
}

/** What a write that may be sent again is known by. */
export const retryName = ({ clientId, clientSeq }: RetryKey): string => `${clientId} ${clientSeq}`;

export const show = (record: LedgerRecord): string =>
  `(${record.epoch}, ${record.seq}, ${record.chain.toString(16).padStart(8, "0")})`;

function recordAfter(
  prev: LedgerRecord,
  { epoch, chain, payload, timestampMs }: RawRecord,
  nonsense: Complain,
): LedgerRecord {
  const seq = prev.seq + 1;
  let { state, produced, cluster } = prev;
  let begins: ModelEpoch | undefined;
  let remembers: string | undefined;
  const forgets: string[] = [];
  const events: ModelEvent[] = [];
  const changeState = (): Map<string, ModelEntry> => {
    if (state === prev.state) state = new Map(state);
    return state as Map<string, ModelEntry>;
  };
  for (const change of decodeChanges(payload)) {
    switch (change.kind) {
      case "put": {
        const key = text.decode(change.key);
        const value = text.decode(change.value);
        const { previousSeq, expiresAtMs } = change;
        const entry = state.get(key);
        assertReplaces(key, previousSeq, entry, timestampMs);
        const previous = previousSeq === 0 ? undefined : entry;
        changeState().set(key, { value, createSeq: previous?.createSeq ?? seq, modSeq: seq, expiresAtMs });
        events.push({ type: "put", key, rangeEnd: undefined, value, expiresAtMs, previous });
        break;
      }
      case "delete":
      case "expire":
      case "evict": {
        const key = text.decode(change.key);
        const entry = state.get(key);
        if (change.kind === "delete") {
          assertReplaces(key, change.previousSeq, entry, timestampMs);
        } else {
          // Whoever follows the changes is told that the key goes, so it has to be what its master saw.
          if (entry?.modSeq !== change.modSeq)
            nonsense(`${key} goes (${change.kind}) as of ${change.modSeq}, and is of ${entry?.modSeq} at ${seq}`);
          if (change.kind === "expire" && (entry?.expiresAtMs ?? 0) > timestampMs)
            nonsense(`${key} expires early at ${seq}`);
        }
        const [value, previous] = [entry?.value, entry];
        events.push({ type: change.kind, key, rangeEnd: undefined, value, expiresAtMs: undefined, previous });
        changeState().delete(key);
        break;
      }
      case "delete-range": {
        const range = { start: text.decode(change.start), end: change.end && text.decode(change.end) };
        for (const key of [...state.keys()].filter((name) => isWithin(name, range))) changeState().delete(key);
        const about = { type: change.kind, key: range.start, rangeEnd: range.end };
        events.push({ ...about, value: undefined, expiresAtMs: undefined, previous: undefined });
        break;
      }
      case "produce": {
        assert(change.offset === produced.end, `offset ${change.offset} follows ${produced.end}`);
        const payloads =
          produced.payloads.length === produced.end ? produced.payloads : produced.payloads.slice(0, produced.end);
        // Shared with the records before, which end earlier.
        (payloads as string[]).push(text.decode(change.record));
        produced = { start: produced.start, end: produced.end + 1, payloads };
        break;
      }
      case "remember":
        assert(remembers === undefined, "a record is one write");
        remembers = retryName(change);
        break;
      case "forget":
        forgets.push(...change.clientIds);
        break;
      case "truncate-records":
        produced = { ...produced, start: Math.max(produced.start, change.below) };
        break;
      case "epoch":
        begins = { epoch, epochId: change.epochId, forced: change.forced, master: change.master };
        if (cluster.voters === "master") cluster = withVote(cluster, change.master);
        break;
      case "member":
        cluster = { ...cluster, members: new Map([...cluster.members, [change.member.nodeId, change.member]]) };
        break;
      case "settings":
        cluster = { ...cluster, ...change.settings, limits: change.settings.limits, limitedSeq: seq };
        break;
    }
  }
  checkLimits(prev, state, cluster, seq, nonsense);
  const record: LedgerRecord & { start: LedgerRecord | undefined } = {
    seq,
    epoch,
    chain,
    timestampMs,
    prev,
    start: prev.start,
    begins,
    events,
    state,
    produced,
    cluster,
    remembers,
    forgets,
    committed: false,
  };
  if (begins) (record as { start: LedgerRecord | undefined }).start = record;
  return record;
}

/** Whoever wants to know what was there before looks where the change says. */
function assertReplaces(key: string, previousSeq: number, entry: ModelEntry | undefined, timestampMs: number): void {
  const isThere = entry !== undefined && (entry.expiresAtMs ?? Infinity) > timestampMs;
  const seq = isThere ? entry.modSeq : 0;
  assert(previousSeq === seq, `a change of ${key} is said to replace what seq ${previousSeq} left; that is ${seq}`);
}

/** Writes that were on their way when limits were lowered are not held to them. */
const IN_FLIGHT_MAX = 50;

/** A record that stores more than the one before it leaves no more than the limits allow. */
function checkLimits(
  prev: LedgerRecord,
  state: ReadonlyMap<string, ModelEntry>,
  { limits, limitedSeq }: ModelCluster,
  seq: number,
  nonsense: Complain,
): void {
  if (!limits || state === prev.state || seq <= limitedSeq + IN_FLIGHT_MAX) return;
  const [before, after] = [bytesHeld(prev.state), bytesHeld(state)];
  const { entriesMax, bytesMax } = limits;
  if (entriesMax > 0 && state.size > Math.max(entriesMax, prev.state.size))
    nonsense(`${state.size} keys are held after ${seq}, and ${entriesMax} are allowed`);
  if (bytesMax > 0 && after > Math.max(bytesMax, before))
    nonsense(`${after} bytes are held after ${seq}, and ${bytesMax} are allowed`);
}

function bytesHeld(state: ReadonlyMap<string, ModelEntry>): number {
  let bytes = 0;
  for (const [key, { value }] of state) bytes += accountedBytesOf(key.length, value.length);
  return bytes;
}

/** The vote goes with the mastership. */
function withVote(cluster: ModelCluster, master: NodeId): ModelCluster {
  const members = [...cluster.members].map(
    ([id, member]) => [id, member.voter === (id === master) ? member : { ...member, voter: id === master }] as const,
  );
  return { ...cluster, members: new Map(members) };
}

/** Whose votes count, as a log that ends with the record says. */
export function votersOf(record: LedgerRecord): NodeId[] {
  const { cluster } = record;
  if (cluster.voters === "master") {
    const master = record.start?.begins?.master;
    return master === undefined ? [] : [master];
  }
  return [...cluster.members.values()].filter(({ voter, removed }) => voter && !removed).map(({ nodeId }) => nodeId);
}
