/**
 * The master's way from a wish to a record in the log, and to its answer: pause, limits, conditions, deadlines. Nothing of it is
 * committed here; the applier answers what it applies.
 */
import { assert } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import { type Epoch, type EpochMs, epochMs, type Position, type Seq, seq as toSeq } from "../base/position.js";
import type { Log } from "../wal/log.js";
import type { Answer as RememberedAnswer, Request } from "./answers.js";
import type { Applier } from "./applier.js";
import { type Change, encodeChanges, type Removal } from "./change.js";
import { evaluate, evaluateTxn, type Evaluation, type EvaluationView, type TxnEvaluation } from "./evaluate.js";
import type { Lineage } from "./lineage.js";
import type { LoggedCluster } from "./logged-cluster.js";
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

/** Where an answer stands. */
interface Place {
  readonly position: Position;
  readonly token: Uint8Array;
}

/** Writes and transactions go the same way. */
interface Kind<K extends "write" | "txn", Wish, E extends Evaluation, Receipt> {
  readonly operationsOf: (wish: Wish) => readonly (WriteCommand | TxnOperation)[];
  readonly requestOf: (wish: Wish) => Extract<Request, { kind: K }>;
  readonly judge: (wish: Wish, view: EvaluationView) => E;
  readonly answerOf: (evaluation: E) => Extract<RememberedAnswer, { kind: K }>;
  readonly receiptOf: (answer: Extract<RememberedAnswer, { kind: K }>, place: Place) => Receipt;
}

const WRITE: Kind<"write", readonly WriteCommand[], Evaluation, WriteReceipt> = {
  operationsOf: (commands) => commands,
  requestOf: (commands) => ({ kind: "write", commands }),
  judge: evaluate,
  answerOf: ({ results }) => ({ kind: "write", results }),
  receiptOf: ({ results }, { position, token }) => ({ position, token, results }),
};

const TRANSACTION: Kind<"txn", Txn, TxnEvaluation, TxnReceipt> = {
  operationsOf: (txn) => [...txn.then, ...txn.else],
  requestOf: (txn) => ({ kind: "txn", txn }),
  judge: evaluateTxn,
  answerOf: ({ results, succeeded, failedCompares }) => ({ kind: "txn", results, succeeded, failedCompares }),
  receiptOf: ({ results, succeeded, failedCompares }, { position, token }) => ({
    position,
    token,
    results,
    succeeded,
    failedCompares,
  }),
};

/** When a write is to be answered. */
interface Answer {
  readonly isDoneWhenKept: boolean;
  /** By the monotonic clock. */
  readonly deadlineMs: number;
}

const WHEN_COMMITTED: Answer = { isDoneWhenKept: false, deadlineMs: Infinity };
const STORED_BYTES_MAX = 4 * 1024 * 1024;

export class WritePath {
  readonly #options: WritePathOptions;
  readonly #proposals: Proposals;
  readonly #room: Room;
  readonly #retries: RetryGuard;
  #pause: WritePause | undefined;
  /** Stored values in answers that are not given yet. */
  #heldBytes = 0;
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
  write(commands: readonly WriteCommand[], options?: WriteOptions): Promise<WriteReceipt> {
    return this.#admitted(WRITE, commands, options);
  }

  /** See `Store.transact`. */
  transact(txn: Txn, options?: WriteOptions): Promise<TxnReceipt> {
    return this.#admitted(TRANSACTION, txn, options);
  }

  /** Not async, as what carries it out is: each costs as much as the rest of a small write's way. */
  #admitted<K extends "write" | "txn", W, E extends Evaluation, R>(
    kind: Kind<K, W, E, R>,
    wish: W,
    options: WriteOptions | undefined,
  ): Promise<R> {
    const answer = this.#answer(options);
    const attempt = attemptOf(options?.retry, kind.requestOf(wish));
    const grows = !kind.operationsOf(wish).every(makesSmaller);
    const how = { answer, attempt, grows, options };
    return grows ? this.#carryOut(kind, wish, how) : this.#withReserve(() => this.#carryOut(kind, wish, how));
  }

  /**
   * Judges a write, and makes it a record if it changes anything. What it only sees in flight it waits for; if that comes to
   * nothing, so does what was judged by it, and it is judged anew.
   */
  async #carryOut<K extends "write" | "txn", W, E extends Evaluation, R>(
    kind: Kind<K, W, E, R>,
    wish: W,
    {
      answer,
      attempt,
      grows,
      options,
    }: {
      readonly answer: Answer;
      readonly attempt: Attempt<K> | undefined;
      /** See `#assertRoom`. */
      readonly grows: boolean;
      readonly options: WriteOptions | undefined;
    },
  ): Promise<R> {
    const { applier } = this.#options;
    for (;;) {
      let mastership = this.#options.mastership();
      if (this.#pause) mastership = await this.#pauseOver(this.#pause, bytesOf(kind.operationsOf(wish)), answer);
      const { log, lineage } = mastership;
      const known = attempt && this.#retries.find(attempt);
      if (known?.kind === "in-flight") {
        await this.#retries.settled(known.position, log, answer.deadlineMs);
        continue;
      }
      if (known) return { ...kind.receiptOf(known.answer, placeOf(known.seq, mastership)), repeated: true };
      if (grows) this.#assertRoom();
      const timestampMs = this.#recordTime(mastership);
      const evaluation = kind.judge(wish, {
        engine: applier.engine,
        overlay: this.#proposals.overlay,
        lineage,
        nowMs: timestampMs,
        ownSeq: toSeq(log.lastSeq + 1),
        storedBytesMax: options?.storedBytesMax ?? STORED_BYTES_MAX,
      });
      const { changes, seenSeq, storedBytes, refusal } = evaluation;
      this.#assertPending(storedBytes);
      this.#heldBytes += storedBytes;
      try {
        if (changes.length > 0) {
          const admitted = this.#room.admit(changes);
          const plain = { changes: admitted.changes, growth: admitted.growth, timestampMs };
          // Of what only makes room nothing is told. Others may write meanwhile, so that what is asked for is judged anew then.
          if (admitted.isRoomOnly) {
            await this.#propose(mastership, plain, answer);
            continue;
          }
          const told = kind.answerOf(evaluation);
          const draft = this.#remembering(plain, attempt, told, mastership);
          const position = await this.#propose(mastership, draft, answer);
          return kind.receiptOf(told, { position, token: lineage.tokenAt(position) });
        }
        // What was judged holds there; what is written while it waits may change that.
        const position = applier.applied.seq >= seenSeq ? applier.applied : lineage.positionAt(seenSeq);
        if (!(await this.#seen(seenSeq, answer))) continue;
        // A node that does not know yet that another one is master would answer from the past.
        if (options?.confirm && !answer.isDoneWhenKept) {
          await options.confirm();
          if (this.#options.mastership() !== mastership) continue;
        }
        if (refusal) throw refusal;
        return kind.receiptOf(kind.answerOf(evaluation), { position, token: lineage.tokenAt(position) });
      } finally {
        this.#heldBytes -= storedBytes;
      }
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
    this.#assertRoom();
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
      const changes: Removal[] = [];
      const growth = { entries: 0, bytes: 0 };
      const bytes = this.#options.applier.engine.bytesOfVersions(removals);
      for (const [at, removal] of removals.entries()) {
        if (bytes[at] === undefined || this.#proposals.overlay.touches(removal.key)) continue;
        changes.push(removal);
        growth.entries--;
        growth.bytes -= bytes[at];
      }
      if (changes.length === 0) return;
      // What is on its way out makes no write choose others to go.
      await this.#propose(mastership, { ...this.#plain(mastership, changes), growth }, WHEN_COMMITTED);
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

  /** What is in flight is bounded together with the answers that wait for it. */
  #assertPending(moreBytes: number): void {
    const { pendingBytesMax } = this.#options;
    const { size } = this.#proposals;
    const byteLength = this.#proposals.byteLength + this.#heldBytes;
    if (size === 0 || moreBytes === 0 || byteLength + moreBytes <= pendingBytesMax) return;
    throw new StoreError(
      "overloaded",
      `${byteLength} bytes of writes are in flight, the limit (limits.max_pending_bytes) is ${pendingBytesMax}; nothing was changed, try again shortly`,
    );
  }

  /** Of a record that would come now. */
  #recordTime({ log }: Mastership): EpochMs {
    return recordTime(this.#options.nowMs(), log);
  }

  /** What takes no room of what limits bound. */
  #plain(mastership: Mastership, changes: readonly Change[]): Draft {
    return { changes, growth: NO_GROWTH, timestampMs: this.#recordTime(mastership) };
  }

  #propose(mastership: Mastership, { changes, growth, timestampMs }: Draft, answer: Answer): Promise<Position> {
    const { epoch, log } = mastership;
    const payload = encodeChanges(changes);
    this.#assertPending(payload.length);
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
