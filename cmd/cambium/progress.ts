/**
 * How far a long command is, on stderr: one line that redraws itself on a terminal, plain lines now and then elsewhere.
 * Notes come out above the line, so that the two never mix.
 */
import type { Clock, Timer } from "../../internal/base/clock.js";
import type { OutputStream } from "./terminal.js";
import { counted, formatBytes, formatDuration } from "./units.js";

/** What there is to do, as far as it is known. */
export interface ProgressTotal {
  /** Absent where it is bytes alone. */
  readonly files?: number;
  readonly bytes: number;
}

export interface ProgressState {
  readonly label: string;
  readonly files: number;
  readonly bytes: number;
  readonly elapsedMs: number;
  readonly total?: ProgressTotal | undefined;
}

const REDRAW_MS = 100;
const LINE_MS = 5_000;
const BAR_COLUMNS_MAX = 30;

/** One line of at most `columns`, with a bar as far as there is room for it. */
export function renderProgress(state: ProgressState, columns: number): string {
  const { label, files, bytes, elapsedMs, total } = state;
  const perSecond = elapsedMs > 0 ? (bytes * 1000) / elapsedMs : 0;
  const rate = `${formatBytes(perSecond)}/s`;
  if (!total) return clip(`${label} ${counted(files, "file")}, ${formatBytes(bytes)}, ${rate}`, columns);
  const share = shareOf(state, total);
  const etaMs = share > 0 && share < 1 ? (elapsedMs * (1 - share)) / share : 0;
  const numbers =
    `${String(Math.floor(share * 100)).padStart(3)}%  ` +
    (total.files === undefined ? "" : `${files.toLocaleString("en-US")}/${counted(total.files, "file")}, `) +
    `${formatBytes(bytes)}/${formatBytes(total.bytes)}, ${rate}${etaMs > 0 ? `, ${formatDuration(etaMs)} left` : ""}`;
  const room = Math.min(BAR_COLUMNS_MAX, columns - label.length - numbers.length - 4);
  if (room < 5) return clip(`${label} ${numbers}`, columns);
  const filled = Math.round(share * room);
  return `${label} [${"#".repeat(filled)}${"-".repeat(room - filled)}] ${numbers}`;
}

/** Small files cost by number, large ones by size: the mean of both is a fair guess of the time. */
function shareOf({ files, bytes }: ProgressState, total: ProgressTotal): number {
  if (total.files === undefined) return total.bytes > 0 ? Math.min(1, bytes / total.bytes) : 0;
  const ofFiles = total.files > 0 ? files / total.files : 1;
  const ofBytes = total.bytes > 0 ? bytes / total.bytes : ofFiles;
  return Math.min(1, (ofFiles + ofBytes) / 2);
}

const clip = (line: string, columns: number): string => line.slice(0, Math.max(0, columns));

export class Progress {
  readonly #stream: OutputStream;
  readonly #clock: Clock;
  readonly #startMs: number;
  #label: string;
  #total: ProgressTotal | undefined;
  #files = 0;
  #bytes = 0;
  #isDrawn = false;
  #timer: Timer | undefined;

  constructor(options: { stream: OutputStream; clock: Clock; label: string; total?: ProgressTotal }) {
    this.#stream = options.stream;
    this.#clock = options.clock;
    this.#label = options.label;
    this.#total = options.total;
    this.#startMs = this.#clock.monotonicMs();
    this.#arm();
  }

  /** Whether anybody watches, so that it is worth finding out how much there is to do. */
  get isTerminal(): boolean {
    return this.#stream.isTTY === true;
  }

  get elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#startMs;
  }

  set total(total: ProgressTotal) {
    this.#total = total;
  }

  /** Begins another part of the work at zero; the clock runs on. */
  begin(label: string, total?: ProgressTotal): void {
    this.#label = label;
    this.#total = total;
    this.#files = 0;
    this.#bytes = 0;
  }

  add(files: number, bytes: number): void {
    this.#files += files;
    this.#bytes += bytes;
  }

  /** Says something that stays. */
  note(line: string): void {
    this.#erase();
    this.#stream.write(`${line}\n`);
    if (this.isTerminal) this.#draw();
  }

  /** Takes the line away. Nothing is drawn afterwards. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#erase();
  }

  #arm(): void {
    this.#timer = this.#clock.after(this.isTerminal ? REDRAW_MS : LINE_MS, () => {
      this.#draw();
      this.#arm();
    });
  }

  #draw(): void {
    const state = {
      label: this.#label,
      files: this.#files,
      bytes: this.#bytes,
      elapsedMs: this.elapsedMs,
      total: this.#total,
    };
    if (!this.isTerminal) {
      this.#stream.write(`${renderProgress(state, 200)}\n`);
      return;
    }
    // The last column stays free: a full line makes some terminals scroll.
    this.#stream.write(`\r\u001b[K${renderProgress(state, (this.#stream.columns ?? 80) - 1)}`);
    this.#isDrawn = true;
  }

  #erase(): void {
    if (this.#isDrawn) this.#stream.write("\r\u001b[K");
    this.#isDrawn = false;
  }
}
