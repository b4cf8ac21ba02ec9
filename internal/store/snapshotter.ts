/** Decides when a snapshot is taken, and takes one at a time. */
import type { Clock, Timer } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { Seq } from "../base/position.js";
import { FileSystemError } from "../wal/file-system.js";
import { isDiskFull } from "../wal/wal-error.js";
import type { SnapshotContent, SnapshotSummary } from "./snapshot-file.js";
import type { Snapshots } from "./snapshots.js";
import { StoreError } from "./store-error.js";

export interface SnapshotPolicy {
  /** A snapshot is taken this often, if anything has changed; 0: not by time. */
  readonly intervalMs: number;
  /**
   * One is taken when the log has grown by this since the last, and by as much as that one holds; after a second without
   * writes, a quarter of what that one holds is enough, or that more than half of it has been deleted. Infinity: growth alone
   * takes none.
   */
  readonly logBytes: number;
  /** How many are kept, each with the log that it needs; at least 1. */
  readonly keep: number;
}

export interface SnapshotterOptions {
  readonly snapshots: Snapshots;
  readonly policy: SnapshotPolicy;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly appliedSeq: () => Seq;
  /** Bytes of log that were applied since the process began. */
  readonly appliedBytes: () => number;
  /** Of all keys and values. */
  readonly dataBytes: () => number;
  /** Takes the state to be written. */
  readonly capture: () => Promise<SnapshotContent>;
  /** Makes the log and the record log durable up to their ends. */
  readonly flushLogs: () => Promise<void>;
  /** Removes the log that nobody needs any more. */
  readonly compact: () => Promise<void>;
  /** A snapshot was taken, in so long. */
  readonly taken?: (seconds: number) => void;
}

/** Writes have ended for now when nothing was applied for this long. */
const QUIET_MS = 1000;
/** What the log may then have grown by, at most: as a part of what the newest snapshot holds … */
const QUIET_PART = 1 / 4;
/** … and of `logBytes`, but no more bytes than these. */
const QUIET_BYTES = 64 * 1024;
/** Or what the newest snapshot holds may be so much more than there is now. */
const SHRUNK_TIMES = 2;
/** After a failure, growth alone does not try again sooner than this. */
const PAUSE_AFTER_FAILURE_MS = 60_000;

export class Snapshotter {
  readonly #options: SnapshotterOptions;
  #running: Promise<SnapshotSummary> | undefined;
  #abort = new AbortController();
  /** What replaces the state that would be walked. */
  #acting: Promise<unknown> | undefined;
  #timer: Timer | undefined;
  #quietTimer: Timer | undefined;
  #appliedMs = 0;
  /** `appliedBytes` when the newest snapshot began. */
  #bytesAtNewest: number;
  /** `dataBytes` at that time. */
  #dataAtNewest: number;
  #pausedUntilMs = -Infinity;
  #closed = false;

  constructor(options: SnapshotterOptions) {
    this.#options = options;
    this.#bytesAtNewest = options.appliedBytes();
    this.#dataAtNewest = options.dataBytes();
    this.#schedule();
  }

  /** Whether the log has grown enough is looked at here; call it whenever something was applied. */
  noteApplied(): void {
    if (this.#running || this.#closed) return;
    this.#appliedMs = this.#options.clock.monotonicMs();
    if (this.#hasGrown(this.#options.policy.logBytes, 1)) this.#createInBackground();
    else this.#watchForQuiet();
  }

  #hasGrown(bytes: number, part: number): boolean {
    const { snapshots, appliedBytes, clock } = this.#options;
    const grown = appliedBytes() - this.#bytesAtNewest;
    return grown >= bytes && grown >= part * snapshots.newestBytes && clock.monotonicMs() >= this.#pausedUntilMs;
  }

  #isEnoughWhenQuiet(): boolean {
    const { logBytes } = this.#options.policy;
    if (logBytes === Infinity) return false;
    const leastBytes = Math.min(QUIET_BYTES, QUIET_PART * logBytes);
    return this.#hasGrown(leastBytes, QUIET_PART) || (this.#hasShrunk(leastBytes) && this.#hasGrown(1, 0));
  }

  /** Whether most of the newest snapshot is of no use any more, and that is worth another one. */
  #hasShrunk(leastBytes: number): boolean {
    const bytes = this.#options.dataBytes();
    return this.#dataAtNewest - bytes >= leastBytes && this.#dataAtNewest > SHRUNK_TIMES * bytes;
  }

  #watchForQuiet(): void {
    if (!this.#quietTimer && !this.#closed && this.#isEnoughWhenQuiet()) this.#awaitQuiet(QUIET_MS);
  }

  /** One timer for all writes: it is set anew only when it fires too early. */
  #awaitQuiet(waitMs: number): void {
    const { clock } = this.#options;
    this.#quietTimer = clock.after(waitMs, () => {
      this.#quietTimer = undefined;
      if (this.#running || this.#closed || !this.#isEnoughWhenQuiet()) return;
      const leftMs = this.#appliedMs + QUIET_MS - clock.monotonicMs();
      if (leftMs > 0) this.#awaitQuiet(leftMs);
      else this.#createInBackground();
    });
  }

  /**
   * Takes a snapshot now, or joins the one that is being taken. Rejects with `StoreError` "disk_full" or "failed", with
   * `WalError`, and with the reason of `abortFor` or `close`.
   */
  create(): Promise<SnapshotSummary> {
    this.#running ??= this.#create()
      .catch((error: unknown) => {
        throw translated(error);
      })
      .finally(() => {
        this.#running = undefined;
        // The last write may have come while the snapshot was being taken.
        this.#watchForQuiet();
      });
    return this.#running;
  }

  /**
   * Ends the snapshot that is being taken, because the state that it walks is about to be replaced by `act`; one that is asked
   * for meanwhile waits until that is done.
   */
  async abortFor(reason: Error, act: () => Promise<void>): Promise<void> {
    await this.#end(reason);
    const acting = act();
    this.#acting = acting.catch(() => "whoever acts is told");
    await acting;
  }

  async close(reason: Error): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#quietTimer?.cancel();
    await this.#end(reason);
  }

  async #end(reason: Error): Promise<void> {
    while (this.#running) {
      this.#abort.abort(reason);
      await this.#running.catch(() => "its failure is told to whoever asked for it");
    }
    this.#abort = new AbortController();
  }

  async #create(): Promise<SnapshotSummary> {
    const { snapshots, capture, flushLogs, compact, appliedBytes, dataBytes, clock, logger } = this.#options;
    const { signal } = this.#abort;
    await this.#acting;
    signal.throwIfAborted();
    const startMs = clock.monotonicMs();
    const bytesAtStart = appliedBytes();
    const dataAtStart = dataBytes();
    const content = await capture();
    const summary = await snapshots.create(content, { beforeNaming: flushLogs, signal });
    this.#bytesAtNewest = bytesAtStart;
    this.#dataAtNewest = dataAtStart;
    const durationMs = clock.monotonicMs() - startMs;
    this.#options.taken?.(durationMs / 1000);
    logger.info("snapshot taken", {
      from_seq: summary.header.from.seq,
      to_seq: summary.end.to,
      entries: summary.end.entries,
      bytes: summary.bytes,
      duration_ms: Math.round(durationMs),
    });
    await compact();
    return summary;
  }

  #createInBackground(): void {
    this.create().catch((error: unknown) => {
      if (this.#closed || this.#abort.signal.aborted) return;
      this.#pausedUntilMs = this.#options.clock.monotonicMs() + PAUSE_AFTER_FAILURE_MS;
      this.#options.logger.error("no snapshot could be taken; the log is kept whole until one is", {
        error: error instanceof Error ? error.message : String(error),
      });
    });
  }

  #schedule(): void {
    const { policy, clock, snapshots, appliedSeq } = this.#options;
    if (policy.intervalMs === 0) return;
    this.#timer = clock.after(policy.intervalMs, () => {
      if (appliedSeq() > (snapshots.newest?.from ?? 0) && !this.#running) this.#createInBackground();
      this.#schedule();
    });
  }
}

/** What goes wrong, as a caller from outside is told. */
function translated(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof StoreError) return error;
  if (isDiskFull(error) || ("code" in error && error.code === "disk_full")) {
    const message = `the disk has no room for a snapshot; free some and try again: ${error.message}`;
    return new StoreError("disk_full", message, { cause: error });
  }
  if (!(error instanceof FileSystemError)) return error;
  return new StoreError("failed", `no snapshot could be taken: ${error.message}`, { cause: error });
}
