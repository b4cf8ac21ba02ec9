/**
 * The master's time as one node has it, and what its node file keeps of that between runs: without the last time that this node
 * was up, a quiet time would look like a jump of the clock to the next start.
 */
import type { Timer } from "../base/clock.js";
import { type EpochMs, epochMs } from "../base/position.js";
import { MasterTime } from "./master-time.js";
import type { NodeFile, NodeRun } from "./node-file.js";
import type { StoreOptions } from "./store-types.js";

/** A clock that jumps less than this is believed in any case; see `clock.max_jump`. */
const NOTE_EVERY_MS = 60 * 60 * 1000;

export class NodeTime {
  readonly #node: NodeFile;
  readonly #options: Pick<StoreOptions, "clock" | "clockJumpMsMax" | "logger">;
  readonly #time: MasterTime;
  #aheadMs = 0;
  #timer: Timer | undefined;

  constructor(node: NodeFile, options: Pick<StoreOptions, "clock" | "clockJumpMsMax" | "logger">) {
    this.#node = node;
    this.#options = options;
    this.#time = new MasterTime(options.clock);
  }

  now(): EpochMs {
    return this.#time.now();
  }

  /** By how much this machine's clock was ahead of the data at the start, where that is not believed; else 0. */
  get clockAheadMs(): number {
    return this.#aheadMs;
  }

  /** Takes over what the master says. */
  observe(masterMs: EpochMs): void {
    this.#time.observe(masterMs);
  }

  /** Lets time go on from what the data knows. `lastTimestampMs`: of the log's last record. */
  start(lastTimestampMs: EpochMs): void {
    const { clock, clockJumpMsMax = Infinity, logger } = this.#options;
    const lastMs = epochMs(Math.max(lastTimestampMs, this.#node.state.timeMs ?? 0));
    this.#aheadMs = this.#time.start(lastMs, clockJumpMsMax);
    if (this.#aheadMs > 0) {
      logger.error(
        "the clock of this machine is too far ahead of the data; keys with a deadline are kept until that is settled",
        {
          clock: new Date(clock.wallMs()).toISOString(),
          data: new Date(lastMs).toISOString(),
          what_to_do:
            "set the clock right and start again; or, if it is right, start once with a larger clock.max_jump, or 0s",
        },
      );
    }
    this.#noteLater();
  }

  /** Time goes on, and is not noted any more. */
  stop(): void {
    this.#timer?.cancel();
  }

  /** The run ends in order: the log is closed, and all of it synced. */
  noteEnd(): Promise<void> {
    const { run } = this.#node.state;
    const isUnsynced = run !== undefined && run.durability !== "always";
    return this.#note(isUnsynced ? { ...run, isOver: true } : undefined);
  }

  #noteLater(): void {
    this.#timer = this.#options.clock.after(NOTE_EVERY_MS, () => {
      void this.#note();
      this.#noteLater();
    });
  }

  async #note(run?: NodeRun): Promise<void> {
    try {
      await this.#node.save({ timeMs: this.now(), ...(run && { run }) });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.logger.warn(
        "the time and the end of this run could not be written down; the next start may not believe the clock, or that the log is whole",
        { reason },
      );
    }
  }
}
