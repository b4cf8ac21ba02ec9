/**
 * The master's way from a wish to a record in the log, and to its answer: pause, limits, conditions, deadlines. Nothing of it is
 * committed here; the applier answers what it applies.
 */
import { assert } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import { type Epoch, type EpochMs, epochMs, type Position, type Seq, seq as toSeq } from "../base/position.js";
import type { Log } from "../wal/log.js";
import type { Answer as RememberedAnswer } from "./answers.js";
import type { Applier } from "./applier.js";
import { type Change, encodeChanges, type Removal } from "./change.js";
import { evaluate, evaluateTxn, type Evaluation, type EvaluationView } from "./evaluate.js";
import type { Lineage } from "./lineage.js";
import type { LoggedCluster } from "./logged-cluster.js";
import { keyName } from "./overlay.js";
import type { Produced } from "./produced.js";
import type { Proposal, Proposals } from "./proposals.js";
import type { Reserve } from "./reserve.js";
import type { ClientVersion } from "./retries.js";
import { type Attempt, attemptOf, RetryGuard } from "./retry-guard.js";
import { type Growth, NO_GROWTH, Room } from "./room.js";
import { DISK_FULL, StoreError } from "./store-error.js";
import type { ProduceReceipt, TxnReceipt, WriteOptions, WriteReceipt } from "./store-types.js";
import type { Txn, TxnOperation, WriteCommand } from "./write-command.js";
import { WritePause } from "./write-pause.js";

/** A mastership that takes writes, and what it writes to. */
export interface Mastership {
  readonly epoch: Epoch;
  readonly firstSeq: Seq;
  readonly log: Log;
  readonly lineage: Lineage;
  readonly cluster: LoggedCluster;
  readonly produced: Produced;
}

export interface WritePathOptions {
  readonly clock: Clock;
  readonly pendingBytesMax: number;
  /** See `RetryLimits`. */
  readonly retryBytesMax: number;
  readonly proposals: Proposals;
  readonly applier: Applier;
  /** Lent to what makes things smaller. */
  readonly reserve: Reserve;
  /** The master's time. */
  readonly nowMs: () => EpochMs;
  /** Throws `StoreError` while no writes are taken. */
  readonly mastership: () => Mastership;
}

/** A record that is to be. */
interface Draft {
  readonly changes: readonly Change[];
  readonly growth: Growth;
  readonly timestampMs: EpochMs;
}

/** What a caller wants, how to judge it, and what to tell of that. */
interface Wish<T extends Evaluation, Kind extends "write" | "txn"> {
  readonly operations: readonly (WriteCommand | TxnOperation)[];
  readonly answer: Answer;
  readonly options: WriteOptions | undefined;
  readonly attempt: Attempt<Kind> | undefined;
  readonly judge: (view: EvaluationView) => T;
  readonly told: (evaluation: T) => Extract<RememberedAnswer, { kind: Kind }>;
}

interface CarriedOut<Kind extends "write" | "txn"> {
  readonly told: Extract<RememberedAnswer, { kind: Kind }>;
  readonly position: Position;
  readonly token: Uint8Array;
  readonly repeated?: true;
}

/** When a write is to be answered. */
interface Answer {
  readonly isDoneWhenKept: boolean;
  /** By the monotonic clock. */
  readonly deadlineMs: number;
}

const WHEN_COMMITTED: Answer = { isDoneWhenKept: false, deadlineMs: Infinity };
/** By the master's time: nothing is overdue then. */
const BEFORE_ALL_DEADLINES: EpochMs = epochMs(0);
const STORED_BYTES_MAX = 4 * 1024 * 1024;

export class WritePath {
  readonly #options: WritePathOptions;
  readonly #proposals: Proposals;
  readonly #room: Room;
  readonly #retries: RetryGuard;
  #pause: WritePause | undefined;
  /** For the earliest deadline of what is in flight, or for an earlier one that was kept. */
  #timer: Timer | undefined;
  #timerDueMs = Infinity;

  constructor(options: WritePathOptions) {
    this.#options = options;
    this.#proposals = options.proposals;
    const { applier, proposals, clock, nowMs, retryBytesMax } = options;
    this.#retries = new RetryGuard({ table: applier.retries, proposals, clock, nowMs, bytesMax: retryBytesMax });
    this.#room = new Room({ engine: applier.engine, proposals, limits: () => applier.cluster.settings.limits });
  }

  /** See `Store.write`. */
  async write(commands: readonly WriteCommand[], options?: WriteOptions): Promise<WriteReceipt> {
    const answer = this.#answer(options);
    const attempt = attemptOf(options?.retry, { kind: "write", commands });
    const write = async (): Promise<WriteReceipt> => {
      const carriedOut = await this.#carryOut({
        operations: commands,
        answer,
        options,
        attempt,
        judge: (view) => evaluate(commands, view),
        told: ({ results }) => ({ kind: "write", results }),
      });
      const { told, ...place } = carriedOut;
      return { ...place, results: told.results };
    };
    if (commands.every(makesSmaller)) return this.#withReserve(write);
    this.#assertRoom();
    return write();
  }

  /** See `Store.transact`. */
  async transact(txn: Txn, options?: WriteOptions): Promise<TxnReceipt> {
    const answer = this.#answer(options);
    const operations = [...txn.then, ...txn.else];
    const attempt = attemptOf(options?.retry, { kind: "txn", txn });
    const write = async (): Promise<TxnReceipt> => {
      const carriedOut = await this.#carryOut({
        operations,
        answer,
        options,
        attempt,
        judge: (view) => evaluateTxn(txn, view),
        told: ({ results, succeeded, failedCompares }) => ({ kind: "txn", results, succeeded, failedCompares }),
      });
      const { told, ...place } = carriedOut;
      const { results, succeeded, failedCompares } = told;
      return { ...place, results, succeeded, failedCompares };
    };
    if (operations.every(makesSmaller)) return this.#withReserve(write);
    this.#assertRoom();
    return write();
  }

  /**
   * Judges a write, and makes it a record if it changes anything. What it only sees in flight it waits for; if that comes to
   * nothing, so does what was judged by it, and it is judged anew.
   */
  async #carryOut<T extends Evaluation, Kind extends "write" | "txn">(wish: Wish<T, Kind>): Promise<CarriedOut<Kind>> {
    const { operations, answer, options, attempt, judge, told } = wish;
    const { storedBytesMax = STORED_BYTES_MAX } = options ?? {};
    const { applier, nowMs } = this.#options;
    const { overlay } = this.#proposals;
    for (;;) {
      let mastership = this.#options.mastership();
      if (this.#pause) mastership = await this.#pauseOver(this.#pause, bytesOf(operations), answer);
      const { log, lineage } = mastership;
      const known = attempt && this.#retries.find(attempt);
      if (known?.kind === "in-flight") {
        await this.#retries.settled(known.position, log, answer.deadlineMs);
        continue;
      }
      if (known) return { ...placeOf(known.seq, mastership), told: known.answer, repeated: true };
      const timestampMs = recordTime(nowMs(), log);
      const evaluation = judge({
        engine: applier.engine,
        overlay,
        nowMs: timestampMs,
        ownSeq: toSeq(log.lastSeq + 1),
        storedBytesMax,
        seqOfToken: (token) => lineage.seqOf(token, log.lastSeq),
      });
      if (evaluation.changes.length > 0) {
        const admitted = this.#room.admit(evaluation.changes);
        const draft = this.#remembering({ ...admitted, timestampMs }, attempt, told(evaluation), mastership);
        const position = await this.#propose(mastership, draft, answer);
        return { told: told(evaluation), position, token: lineage.tokenAt(position) };
      }
      // What was judged holds there; what is written while it waits may change that.
      const position =
        applier.applied.seq >= evaluation.seenSeq ? applier.applied : lineage.positionAt(evaluation.seenSeq);
      if (!(await this.#seen(evaluation.seenSeq, answer))) continue;
      if (evaluation.refusal) throw evaluation.refusal;
      return { told: told(evaluation), position, token: lineage.tokenAt(position) };
    }
  }

  /** Lets the record that comes next in the log remember its answer. Throws `StoreError` "retries_full". */
  #remembering(draft: Draft, attempt: Attempt | undefined, told: RememberedAnswer, { log }: Mastership): Draft {
    if (!attempt) return draft;
    const { changes, retryBytes } = this.#retries.remember(draft.changes, attempt, told, toSeq(log.lastSeq + 1));
    return { ...draft, changes, growth: { ...draft.growth, retryBytes } };
  }

  /** See `Store.produce`. */
  async produce(records: readonly Uint8Array[], options?: WriteOptions): Promise<ProduceReceipt> {
    const attempt = attemptOf(options?.retry, { kind: "produce", records });
    return this.#produce(records, this.#answer(options), attempt);
  }

  async #produce(
    records: readonly Uint8Array[],
    answer: Answer,
    attempt: Attempt<"produce"> | undefined,
  ): Promise<ProduceReceipt> {
    let mastership = this.#options.mastership();
    this.#assertRoom();
    if (this.#pause) {
      const byteLength = records.reduce((sum, record) => sum + record.length, 0);
      mastership = await this.#pauseOver(this.#pause, byteLength, answer);
    }
    const known = attempt && this.#retries.find(attempt);
    if (known?.kind === "in-flight") {
      await this.#retries.settled(known.position, mastership.log, answer.deadlineMs);
      return this.#produce(records, answer, attempt);
    }
    if (known) return { ...placeOf(known.seq, mastership), firstOffset: known.answer.firstOffset, repeated: true };
    const { produced, lineage } = mastership;
    if (produced.unwrittenBytes > this.#options.pendingBytesMax) {
      const message = "the disk has no room for the record log; nothing was changed; free some and try again";
      throw new StoreError("disk_full", message);
    }
    const firstOffset = this.#nextOffset(produced);
    const changes = records.map((record, i) => ({ kind: "produce" as const, offset: firstOffset + i, record }));
    const told = { kind: "produce", firstOffset } as const;
    const draft = this.#remembering(this.#plain(mastership, changes), attempt, told, mastership);
    const position = await this.#propose(mastership, draft, answer);
    return { firstOffset, position, token: lineage.tokenAt(position) };
  }

  /** See `Store.truncateRecords`. */
  async truncateRecords(below: number, options?: WriteOptions): Promise<{ readonly position: Position }> {
    const answer = this.#answer(options);
    return { position: await this.#withReserve(() => this.#truncateRecords(below, answer)) };
  }

  async #truncateRecords(below: number, answer: Answer): Promise<Position> {
    let mastership = this.#options.mastership();
    if (this.#pause) mastership = await this.#pauseOver(this.#pause, 0, answer);
    const { start } = mastership.produced.range;
    const end = this.#nextOffset(mastership.produced);
    if (below > end) {
      const message = `the record log ends at offset ${end}, and cannot begin at ${below}`;
      throw new StoreError("offset_out_of_range", message, { offsets: { start, end } });
    }
    if (below <= start) return this.#options.applier.applied;
    return this.#propose(mastership, this.#plain(mastership, [{ kind: "truncate-records", below }]), answer);
  }

  /** Writes one change, as it is. */
  async proposeChange(change: Change): Promise<Position> {
    let mastership = this.#options.mastership();
    if (this.#pause) mastership = await this.#pauseOver(this.#pause, 0, WHEN_COMMITTED);
    const proposed = this.#propose(mastership, this.#plain(mastership, [change]), WHEN_COMMITTED);
    mastership.cluster.note(mastership.log.last.seq, [change]);
    return proposed;
  }

  /** See `Room.excess`. */
  excess(): readonly Removal[] {
    return this.#room.excess();
  }

  /**
   * Writes the removals of keys, as they are; on a full disk with what is kept back for that. Those of keys that have been written
   * while it waited are left out.
   */
  async proposeRemovals(removals: readonly Removal[]): Promise<void> {
    await this.#withReserve(async () => {
      let mastership = this.#options.mastership();
      if (this.#pause) mastership = await this.#pauseOver(this.#pause, 0, WHEN_COMMITTED);
      const changes = removals.filter((removal) => this.#findsItsKey(removal));
      if (changes.length > 0) await this.#propose(mastership, this.#plain(mastership, changes), WHEN_COMMITTED);
    });
  }

  /** Forgets clients; those that have written something while it waited stay. */
  async proposeForget(clients: readonly ClientVersion[]): Promise<void> {
    const { applier, proposals } = this.#options;
    await this.#withReserve(async () => {
      let mastership = this.#options.mastership();
      if (this.#pause) mastership = await this.#pauseOver(this.#pause, 0, WHEN_COMMITTED);
      const clientIds = clients
        .filter(({ id, lastSeq }) => !proposals.retries.isBusy(id) && applier.retries.lastSeqOf(id) === lastSeq)
        .map(({ id }) => id);
      if (clientIds.length === 0) return;
      await this.#propose(mastership, this.#plain(mastership, [{ kind: "forget", clientIds }]), WHEN_COMMITTED);
    });
  }

  #findsItsKey({ key, modSeq }: Removal): boolean {
    if (this.#proposals.overlay.look(keyName(key))) return false;
    return this.#options.applier.engine.get(key, BEFORE_ALL_DEADLINES)?.modSeq === modSeq;
  }

  /** Holds back what would be proposed from now on, until `resume`, or until the writes end. */
  pause(): { resume(): void } {
    assert(!this.#pause, "writes are paused once at a time");
    const pause = new WritePause(this.#options.clock, this.#options.pendingBytesMax);
    this.#pause = pause;
    return {
      resume: () => {
        if (this.#pause !== pause) return;
        this.#pause = undefined;
        pause.end();
      },
    };
  }

  /** This node takes no writes any more: those in flight have an unknown outcome, those that are held back are refused. */
  end(why: string, refusal: Error): void {
    const pause = this.#pause;
    this.#pause = undefined;
    pause?.end(refusal);
    this.#proposals.failFrom(toSeq(0), (proposal) => unknownOutcome(why, proposal));
    this.#timer?.cancel();
    this.#timerDueMs = Infinity;
  }

  /** The log has dropped what comes from `firstSeq` on, for lack of room. */
  drop(firstSeq: Seq, cause: Error): void {
    this.#proposals.failFrom(firstSeq, () => new StoreError("disk_full", DISK_FULL, { cause }));
  }

  #answer(options: WriteOptions | undefined): Answer {
    if (!options) return WHEN_COMMITTED;
    const { acknowledge, timeoutMs } = options;
    return {
      isDoneWhenKept: acknowledge === "kept",
      deadlineMs: timeoutMs === undefined ? Infinity : this.#options.clock.monotonicMs() + timeoutMs,
    };
  }

  /**
   * Waits while writes are held back; gives the mastership that takes them then. Only called when they are: otherwise a write is
   * proposed on the tick of its call, so that the log has the order of the calls.
   */
  async #pauseOver(first: WritePause, byteLength: number, { deadlineMs }: Answer): Promise<Mastership> {
    for (let pause: WritePause | undefined = first; pause; pause = this.#pause)
      await pause.wait(byteLength, deadlineMs);
    return this.#options.mastership();
  }

  /** Changes of which nobody had to judge the time, nor the room. */
  #plain({ log }: Mastership, changes: readonly Change[]): Draft {
    return { changes, growth: NO_GROWTH, timestampMs: recordTime(this.#options.nowMs(), log) };
  }

  #propose(mastership: Mastership, { changes, growth, timestampMs }: Draft, answer: Answer): Promise<Position> {
    const { epoch, log } = mastership;
    const { pendingBytesMax } = this.#options;
    const payload = encodeChanges(changes);
    const { size, byteLength } = this.#proposals;
    if (size > 0 && byteLength + payload.length > pendingBytesMax) {
      throw new StoreError(
        "overloaded",
        `${byteLength} bytes of writes are in flight, the limit (limits.max_pending_bytes) is ${pendingBytesMax}; nothing was changed, try again shortly`,
      );
    }
    const position = { epoch, seq: log.append({ epoch, timestampMs, payload }) };
    const { isDoneWhenKept, deadlineMs } = answer;
    return new Promise((resolve, reject) => {
      this.#proposals.add({
        position,
        timestampMs,
        changes,
        byteLength: payload.length,
        growth,
        isDoneWhenKept,
        deadlineMs,
        done: () => resolve(position),
        failed: reject,
      });
      if (deadlineMs < this.#timerDueMs) this.#expireAt(deadlineMs);
    });
  }

  /** Waits for the writes in flight that an answer has seen; resolves to whether they are applied, or have come to nothing. */
  #seen(seq: Seq, { deadlineMs }: Answer): Promise<boolean> {
    const { applier, clock } = this.#options;
    if (applier.applied.seq >= seq) return Promise.resolve(true);
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined = undefined;
      const forget = this.#proposals.observe(seq, (isApplied) => {
        timer?.cancel();
        resolve(isApplied);
      });
      if (deadlineMs === Infinity) return;
      timer = clock.after(Math.max(0, deadlineMs - clock.monotonicMs()), () => {
        forget();
        const message = `the write at seq ${seq} that this answer rests on was not committed in time; nothing was changed; try again`;
        reject(new StoreError("outcome_unknown", message));
      });
    });
  }

  /**
   * One timer serves all that is in flight. It is set for the earliest deadline and not unset when that is met, since the
   * next is about as far away: a timer a write would cost more than the write's own record.
   */
  #expireAt(deadlineMs: number): void {
    const { clock } = this.#options;
    this.#timer?.cancel();
    this.#timerDueMs = deadlineMs;
    this.#timer = clock.after(Math.max(0, deadlineMs - clock.monotonicMs()), () => {
      this.#timerDueMs = Infinity;
      const nextMs = this.#proposals.expire(clock.monotonicMs(), (proposal) =>
        unknownOutcome("the time for an answer was over", proposal),
      );
      if (nextMs < Infinity) this.#expireAt(nextMs);
    });
  }

  /** What makes things smaller is tried again, on a full disk, with what is kept back for it. */
  async #withReserve<T>(write: () => Promise<T>): Promise<T> {
    const { reserve } = this.#options;
    try {
      return await write();
    } catch (error) {
      if (!(error instanceof StoreError && error.code === "disk_full") || !reserve.exists) throw error;
      return reserve.lend(write);
    }
  }

  /** What grows leaves alone what is given up for what does not. */
  #assertRoom(): void {
    if (this.#options.reserve.isLent) throw new StoreError("disk_full", DISK_FULL);
  }

  #nextOffset(produced: Produced): number {
    return this.#proposals.nextOffset ?? produced.range.end;
  }
}

/** Timestamps never go back along the log, whatever the clocks do. */
export function recordTime(nowMs: EpochMs, log: Log): EpochMs {
  return epochMs(Math.max(nowMs, log.lastTimestampMs));
}

/** Whether an operation only ever removes. */
function makesSmaller({ kind }: WriteCommand | TxnOperation): boolean {
  return kind === "delete" || kind === "delete-range" || kind === "get";
}

/** The committed record `seq`, and the token that stands for it. */
function placeOf(seq: Seq, { lineage }: Mastership): { readonly position: Position; readonly token: Uint8Array } {
  const position = lineage.positionAt(seq);
  return { position, token: lineage.tokenAt(position) };
}

function bytesOf(operations: readonly (WriteCommand | TxnOperation)[]): number {
  let bytes = 0;
  for (const operation of operations) {
    if (operation.kind === "delete-range") bytes += operation.range.start.length + (operation.range.end?.length ?? 0);
    else bytes += operation.key.length + (operation.kind === "set" ? operation.value.length : 0);
  }
  return bytes;
}

function unknownOutcome(why: string, { position }: Proposal): StoreError {
  return new StoreError(
    "outcome_unknown",
    `${why} before the write at epoch ${position.epoch}, seq ${position.seq} was known to be committed; read the key before you write again`,
    { position },
  );
}
