/**
 * What the master does so that a write which is sent again is not executed again (Lee et al., "Implementing Linearizability at Large Scale
 * and Low Latency", SOSP 2015): it looks into what is remembered and what is in flight before it judges a write, and lets the write's own
 * record remember the answer. Whoever is master has applied all records of those before it, and so remembers what they answered.
 */
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { EpochMs, Position, Seq } from "../base/position.js";
import type { Log } from "../wal/log.js";
import { type Answer, decodeAnswer, encodeAnswer, type Request, requestSum } from "./answers.js";
import { FormatError } from "./byte-codec.js";
import type { Change } from "./change.js";
import type { Proposals } from "./proposals.js";
import type { RetryTable } from "./retries.js";
import { StoreError } from "./store-error.js";
import type { RetryKey } from "./store-types.js";

export interface RetryLimits {
  /** Of `RetryTable.bytes`. */
  readonly bytesMax: number;
  /** A client that has written nothing for so long is forgotten. */
  readonly retentionMs: number;
}

export const RETRY_LIMITS: RetryLimits = { bytesMax: 64_000_000, retentionMs: 60 * 60 * 1000 };

/** A client that has written within that time is not forgotten to make room for others. */
export const SPARED_MS = 60_000;
/** A record forgets no more clients: carrying it out must not hold up the event loop. */
export const CLIENTS_A_RECORD_MAX = 2000;

/** A write that may have been sent before. */
export interface Attempt<Kind extends Request["kind"] = Request["kind"]> extends RetryKey {
  readonly kind: Kind;
  /** See `requestSum`. */
  readonly request: number;
}

export type Known<Kind extends Request["kind"]> =
  | { readonly kind: "answered"; readonly answer: Extract<Answer, { kind: Kind }>; readonly seq: Seq }
  | { readonly kind: "in-flight"; readonly position: Position };

export interface RetryGuardOptions {
  readonly table: RetryTable;
  readonly proposals: Proposals;
  readonly clock: Clock;
  /** The master's time. */
  readonly nowMs: () => EpochMs;
  readonly bytesMax: number;
}

export class RetryGuard {
  readonly #options: RetryGuardOptions;

  constructor(options: RetryGuardOptions) {
    this.#options = options;
  }

  /** What is known of a write; undefined: it is new, as long as this tick lasts. Throws `StoreError` "retry_too_old", "retry_differs", "outcome_unknown". */
  find<Kind extends Request["kind"]>(attempt: Attempt<Kind>): Known<Kind> | undefined {
    const { clientId, clientSeq } = attempt;
    const { table, proposals } = this.#options;
    const position = proposals.retries.find(clientId, clientSeq);
    if (position) return { kind: "in-flight", position };
    const found = table.find(clientId, clientSeq);
    if (!found) return undefined;
    if (found.kind === "too-old") {
      const message = `the write ${clientSeq} of this client is not remembered any more, nor executed; its writes from ${found.floor} on are`;
      throw new StoreError("retry_too_old", message, { oldestClientSeq: found.floor });
    }
    const { answer, request } = decoded(found.answer, found.seq);
    if (!isOf(answer, attempt.kind) || request !== attempt.request) {
      const message = `another write was made as ${clientSeq} of this client; every write takes a number of its own, and every client an id of its own`;
      throw new StoreError("retry_differs", message);
    }
    return { kind: "answered", answer, seq: found.seq };
  }

  /**
   * Waits until it is known what becomes of a record in flight, to ask `find` again then. Rejects with `StoreError` "outcome_unknown" where
   * that will not be known here, or not by the deadline.
   */
  async settled(position: Position, log: Log, deadlineMs: number): Promise<void> {
    const { clock, proposals } = this.#options;
    const waitMs = deadlineMs - clock.monotonicMs();
    const outcome = await new Promise<boolean | "late">((resolve) => {
      const timer = waitMs === Infinity ? undefined : clock.after(Math.max(0, waitMs), () => tell("late"));
      const leave = proposals.observe(position.seq, (isApplied) => tell(isApplied));
      const tell = (told: boolean | "late"): void => {
        timer?.cancel();
        leave();
        resolve(told);
      };
    });
    // What the log has dropped has not been written, and may be tried again.
    if (outcome === true || (outcome === false && log.lastSeq < position.seq)) return;
    const why = outcome === "late" ? "the time for an answer was over" : "the node is no longer master";
    const message = `${why} before the write at epoch ${position.epoch}, seq ${position.seq} was known to be committed; send it again`;
    throw new StoreError("outcome_unknown", message, { position });
  }

  /**
   * The changes of the record `ownSeq` with what lets it be remembered, and what is forgotten for that; gives also what the table grows by.
   * Throws `StoreError` "retries_full".
   */
  remember(
    changes: readonly Change[],
    { clientId, clientSeq, request }: Attempt,
    answer: Answer,
    ownSeq: Seq,
  ): { readonly changes: readonly Change[]; readonly retryBytes: number } {
    const remember = {
      kind: "remember" as const,
      clientId,
      clientSeq,
      answer: encodeAnswer(answer, request, ownSeq),
    };
    const { table, proposals, bytesMax } = this.#options;
    const growth = table.growthBy(remember);
    const over = table.bytes + (proposals.growth.retryBytes ?? 0) + growth - bytesMax;
    // What an answer pushes out is counted once it is gone: others of the client in flight push out the same.
    if (growth <= 0 || over <= 0) return { changes: [...changes, remember], retryBytes: Math.max(0, growth) };
    const { clientIds, freedBytes } = this.#idle(over, clientId);
    if (freedBytes < over) {
      const passed = { limit: "retries.max_bytes", maximum: bytesMax, actual: bytesMax + over };
      const message = `the answers of so many clients are remembered that there is no room for another one (retries.max_bytes: ${bytesMax}); nothing was changed; try again in a minute, write without client_id, or raise the limit`;
      throw new StoreError("retries_full", message, { passed });
    }
    return {
      changes: [{ kind: "forget", clientIds }, ...changes, remember],
      retryBytes: growth - freedBytes,
    };
  }

  /** Those who have written nothing for longest, until `bytes` come together. */
  #idle(bytes: number, except: string): { readonly clientIds: readonly string[]; readonly freedBytes: number } {
    const { table, proposals, nowMs } = this.#options;
    const clientIds: string[] = [];
    let freedBytes = 0;
    const sparedMs = nowMs() - SPARED_MS;
    for (const client of table.byLastUse()) {
      if (freedBytes >= bytes || client.lastMs > sparedMs || clientIds.length === CLIENTS_A_RECORD_MAX) break;
      if (client.id === except || proposals.retries.isBusy(client.id)) continue;
      clientIds.push(client.id);
      freedBytes += client.bytes;
    }
    return { clientIds, freedBytes };
  }
}

/** A write that may be sent again; undefined where its caller does not say so. */
export function attemptOf<Kind extends Request["kind"]>(
  retry: RetryKey | undefined,
  request: Extract<Request, { kind: Kind }>,
): Attempt<Kind> | undefined {
  if (!retry) return undefined;
  const { clientSeq } = retry;
  assert(Number.isSafeInteger(clientSeq) && clientSeq > 0, `a write has a number from 1 on, not ${clientSeq}`);
  // As every node will read it in the record, whatever the text was.
  const clientId = Buffer.from(retry.clientId).toString();
  return { clientId, clientSeq, kind: request.kind, request: requestSum(request) };
}

function isOf<Kind extends Request["kind"]>(answer: Answer, kind: Kind): answer is Extract<Answer, { kind: Kind }> {
  return answer.kind === kind;
}

function decoded(bytes: Uint8Array, seq: Seq): ReturnType<typeof decodeAnswer> {
  try {
    return decodeAnswer(bytes, seq);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    const message = `this write was made at seq ${seq}, and its answer cannot be read by this version: ${error.message}`;
    throw new StoreError("outcome_unknown", message, { cause: error });
  }
}
