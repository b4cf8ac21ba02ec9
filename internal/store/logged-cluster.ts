/**
 * How the cluster decides, and who belongs to it, as the whole log says: a record counts from the moment it is in the log, committed
 * or not, since votes and quorums must go by the newest that a node knows (Ongaro's dissertation on Raft, §4.1).
 */
import { assert } from "../base/assert.js";
import { type Seq, seq as toSeq } from "../base/position.js";
import { asBuffer } from "../wal/bytes.js";
import { RECORD_HEADER_BYTES, recordEnd, recordSeq } from "../wal/record.js";
import {
  type Change,
  type ClusterSettings,
  decodeChanges,
  INITIAL_SETTINGS,
  isClusterPayload,
  type Member,
} from "./change.js";
import { ClusterState } from "./cluster-state.js";

/** Who decides, as far as something says. It does not change; there is a new one instead. */
export interface LoggedState {
  readonly settings: ClusterSettings;
  readonly members: readonly Member[];
}

export const NOTHING_LOGGED: LoggedState = { settings: INITIAL_SETTINGS, members: [] };

/** What one record says of the cluster. */
export interface LoggedChanges {
  readonly seq: Seq;
  readonly changes: readonly Change[];
}

export class LoggedCluster {
  /** What a snapshot says, and as of when. */
  #base: LoggedState = NOTHING_LOGGED;
  #baseSeq = toSeq(0);
  /** Of the log, in its order. What lies at or before the base is kept for a cut that goes back behind it. */
  #logged: LoggedChanges[];
  #state: LoggedState | undefined;

  constructor(logged: readonly LoggedChanges[]) {
    this.#logged = [...logged];
  }

  /** The same object until something of it changes. */
  get state(): LoggedState {
    this.#state ??= this.#asOf(toSeq(Number.MAX_SAFE_INTEGER));
    return this.#state;
  }

  /** A snapshot has been loaded, which tells the state at `seq`. */
  restore(base: LoggedState, seq: Seq): void {
    this.#base = base;
    this.#baseSeq = seq;
    this.#state = undefined;
  }

  /** A record has been appended. */
  note(seq: Seq, changes: readonly Change[]): void {
    if (!changes.some(({ kind }) => kind === "epoch" || kind === "member" || kind === "settings")) return;
    assert(seq > (this.#logged.at(-1)?.seq ?? 0), "changes are noted in the order of the log");
    this.#logged.push({ seq, changes });
    this.#state = undefined;
  }

  /** Encoded records have been appended. */
  noteRecords(records: Uint8Array): void {
    const buffer = asBuffer(records);
    for (let at = 0; at < buffer.length;) {
      const payload = at + RECORD_HEADER_BYTES;
      const end = recordEnd(buffer, at);
      // All that a replica is sent comes by here, and a view of each record would cost more than the look at it.
      if (payload < end && isClusterPayload(buffer, payload)) {
        this.note(toSeq(recordSeq(buffer, at)), decodeChanges(buffer.subarray(payload, end)));
      }
      at = end;
    }
  }

  /** The log has been cut. Where that lies before the base, `restore` follows, and until then things are as they were. */
  cutAfter(seq: Seq): void {
    const kept = this.#logged.filter((logged) => logged.seq <= seq);
    if (kept.length === this.#logged.length) return;
    const before = this.state;
    this.#logged = kept;
    this.#state = seq < this.#baseSeq ? before : undefined;
  }

  /** Nothing goes back behind `seq` any more. */
  forgetBefore(seq: Seq): void {
    if (seq > this.#baseSeq) {
      this.#base = this.#asOf(seq);
      this.#baseSeq = seq;
    }
    this.#logged = this.#logged.filter((logged) => logged.seq > seq);
  }

  #asOf(seq: Seq): LoggedState {
    const state = new ClusterState();
    state.applySettings(this.#base.settings);
    for (const member of this.#base.members) state.applyMember(member);
    for (const { seq: at, changes } of this.#logged) {
      if (at > this.#baseSeq && at <= seq) for (const change of changes) state.apply(change);
    }
    return { settings: state.settings, members: state.members };
  }
}
