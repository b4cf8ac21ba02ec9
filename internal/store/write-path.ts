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
import { type Change, encodeChanges } from "./change.js";
import { evaluate } from "./evaluate.js";
import type { Lineage } from "./lineage.js";
import type { LoggedCluster } from "./logged-cluster.js";
import type { Produced } from "./produced.js";
import type { Proposal, Proposals } from "./proposals.js";
import type { Reserve } from "./reserve.js";
import { type Attempt, attemptOf, RetryGuard } from "./retry-guard.js";
import { type Admitted, type Growth, NO_GROWTH, Room } from "./room.js";
import { DISK_FULL, StoreError } from "./store-error.js";
import type { ProduceReceipt, ReadPoint, WriteOptions, WriteReceipt } from "./store-types.js";
import type { WriteCommand } from "./write-command.js";
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
  readonly readPoint: () => ReadPoint;
}

/** When a write is to be answered. */
interface Answer {
  readonly isDoneWhenKept: boolean;
  /** By the monotonic clock. */
  readonly deadlineMs: number;
}

const WHEN_COMMITTED: Answer = { isDoneWhenKept: false, deadlineMs: Infinity };

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
    if (commands.every(({ kind }) => kind === "delete"))
      return this.#withReserve(() => this.#write(commands, answer, attempt));
    this.#assertRoom();
    return this.#write(commands, answer, attempt);
  }

  async #write(
    commands: readonly WriteCommand[],
    answer: Answer,
    attempt: Attempt<"write"> | undefined,
  ): Promise<WriteReceipt> {
    let mastership = this.#options.mastership();
    if (this.#pause) mastership = await this.#pauseOver(this.#pause, bytesOf(commands), answer);
    const known = attempt && this.#retries.find(attempt);
    if (known?.kind === "in-flight") {
      await this.#retries.settled(known.position, mastership.log, answer.deadlineMs);
      return this.#write(commands, answer, attempt);
    }
    if (known) return { ...placeOf(known.seq, mastership), results: known.answer.results, repeated: true };
    const { applier, nowMs, readPoint } = this.#options;
    const { changes, results, seenSeq } = evaluate(commands, {
      engine: applier.engine,
      proposals: this.#proposals,
      nowMs: nowMs(),
    });
    if (changes.length > 0) {
      const admitted = this.#remembering(this.#room.admit(changes), attempt, { kind: "write", results }, mastership);
      const position = await this.#propose(mastership, admitted.changes, answer, admitted.growth);
      return { position, token: mastership.lineage.tokenAt(position), results };
    }
    await this.#seen(seenSeq, mastership.log, answer);
    const { position, token } = readPoint();
    return { position, token, results };
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
    const admitted = this.#remembering({ changes, growth: NO_GROWTH }, attempt, told, mastership);
    const position = await this.#propose(mastership, admitted.changes, answer, admitted.growth);
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
    return this.#propose(mastership, [{ kind: "truncate-records", below }], answer);
  }

  /** Writes one change, as it is. */
  async proposeChange(change: Change): Promise<Position> {
    let mastership = this.#options.mastership();
    if (this.#pause) mastership = await this.#pauseOver(this.#pause, 0, WHEN_COMMITTED);
    const proposed = this.#propose(mastership, [change], WHEN_COMMITTED);
    mastership.cluster.note(mastership.log.last.seq, [change]);
    return proposed;
  }

  /** See `Room.excess`. */
  excess(): readonly Change[] {
    return this.#room.excess();
  }

  /** Writes the removals of keys, as they are; on a full disk with what is kept back for that. */
  async proposeRemovals(changes: readonly Change[]): Promise<Position> {
    return this.#withReserve(async () => {
      let mastership = this.#options.mastership();
      if (this.#pause) mastership = await this.#pauseOver(this.#pause, 0, WHEN_COMMITTED);
      return this.#propose(mastership, changes, WHEN_COMMITTED);
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

  #propose(
    mastership: Mastership,
    changes: readonly Change[],
    answer: Answer,
    growth: Growth = NO_GROWTH,
  ): Promise<Position> {
    const { epoch, log } = mastership;
    const { pendingBytesMax, nowMs } = this.#options;
    const payload = encodeChanges(changes);
    const { size, byteLength } = this.#proposals;
    if (size > 0 && byteLength + payload.length > pendingBytesMax) {
      throw new StoreError(
        "overloaded",
        `${byteLength} bytes of writes are in flight, the limit (limits.max_pending_bytes) is ${pendingBytesMax}; nothing was changed, try again shortly`,
      );
    }
    const timestampMs = recordTime(nowMs(), log);
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

  /** Lets the record that comes next in the log remember its answer. Throws `StoreError` "retries_full". */
  #remembering(
    admitted: Admitted,
    attempt: Attempt | undefined,
    answer: RememberedAnswer,
    { log }: Mastership,
  ): Admitted {
    if (!attempt) return admitted;
    const ownSeq = toSeq(log.last.seq + 1);
    const { changes, retryBytes } = this.#retries.remember(admitted.changes, attempt, answer, ownSeq);
    return { changes, growth: { ...admitted.growth, retryBytes } };
  }

  /** Waits until the writes in flight are applied that an answer has seen. */
  async #seen(seq: Seq, log: Log, { deadlineMs }: Answer): Promise<void> {
    const { applier, clock } = this.#options;
    if (applier.applied.seq >= seq) return;
    const isApplied = (): boolean => {
      if (applier.applied.seq >= seq) return true;
      if (log.lastSeq >= seq) return false;
      const message = `the write at seq ${seq} that this answer rests on was not committed; try again`;
      throw new StoreError("outcome_unknown", message);
    };
    const waitMs = deadlineMs - clock.monotonicMs();
    if (await applier.until(isApplied, deadlineMs === Infinity ? {} : { waitMs })) return;
    const message = `the write at seq ${seq} that this answer rests on was not committed in time; try again`;
    throw new StoreError("outcome_unknown", message);
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

/** The committed record `seq`, and the token that stands for it. */
function placeOf(seq: Seq, { lineage }: Mastership): { readonly position: Position; readonly token: Uint8Array } {
  const position = lineage.positionAt(seq);
  return { position, token: lineage.tokenAt(position) };
}

function bytesOf(commands: readonly WriteCommand[]): number {
  let bytes = 0;
  for (const command of commands) {
    if (command.kind === "delete-range") bytes += command.range.start.length + (command.range.end?.length ?? 0);
    else bytes += command.key.length + (command.kind === "set" ? command.value.length : 0);
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
