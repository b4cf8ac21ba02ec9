/**
 * The world of one simulation: virtual time, and one event after another. An event belongs to one process, or to nobody
 * (a client, a fault). After it has run, everything that it leads to without time passing has run too; then the watcher
 * looks at the process, and the next event comes.
 */
import { Agenda } from "./agenda.js";
import { drain, type EventLoop, withEventLoop } from "./microtasks.js";
import type { Random } from "./random.js";

/** A machine's stillness: while it is paused, its events wait. */
export interface Host {
  paused: boolean;
}

/** One life of a node's program. Once it is dead, nothing of it runs any more, whatever it still waits for. */
export class Process {
  readonly name: string;
  readonly host: Host;
  alive = true;
  /** Timers that have not fired; to see that they stay few. */
  timers = 0;

  constructor(name: string, host: Host) {
    this.name = name;
    this.host = host;
  }
}

/** What must never happen, and did. */
export interface Violation {
  readonly rule: string;
  readonly detail: string;
  readonly atMs: number;
}

interface Happening {
  readonly process: Process | undefined;
  readonly what: string;
  readonly run: () => void;
  cancelled: boolean;
}

/** Something that is going to happen, and may be called off. */
export interface Scheduled {
  cancel(): void;
}

export interface WorldOptions {
  readonly random: Random;
  /** Keeps the lines of the trace; without it, only their hash is kept. */
  readonly tracing: boolean;
  /** Called after every event with the process that it belonged to. */
  readonly look: (process: Process | undefined) => void;
  /** Bugs that are known: a process in which one comes up ends, as in production, and the simulation goes on. */
  readonly known: RegExp | undefined;
  readonly die: (process: Process, why: string) => void;
}

const TRACE_LINES_MAX = 400;
/** More than any seed needs. */
const EVENTS_MAX = 2_000_000;

export class World implements EventLoop {
  readonly random: Random;
  readonly #options: WorldOptions;
  readonly #agenda = new Agenda<Happening>();
  readonly #held = new Map<Host, Happening[]>();
  nowMs = 0;
  events = 0;
  #current: Process | undefined;
  #violation: Violation | undefined;
  #hash = 0x811c9dc5;
  #hash2 = 0x01000193;
  readonly #lines: string[] = [];
  /** Everything is written out as it happens. */
  onLine: ((line: string) => void) | undefined;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.random = options.random;
  }

  /** Whose event is being carried out. */
  get current(): Process | undefined {
    return this.#current;
  }

  get violation(): Violation | undefined {
    return this.#violation;
  }

  get tracing(): boolean {
    return this.#options.tracing;
  }

  /** Something goes round in circles. */
  get isTooLong(): boolean {
    return this.events > EVENTS_MAX;
  }

  /** Equal for two runs exactly when everything that mattered was the same in both. */
  get traceHash(): string {
    return [this.#hash, this.#hash2].map((hash) => (hash >>> 0).toString(16).padStart(8, "0")).join("");
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Lets something happen after a delay; with a process, only if that lives then, and not while its machine stands still. */
  after(delayMs: number, process: Process | undefined, what: string, run: () => void): Scheduled {
    const happening: Happening = { process, what, run, cancelled: false };
    this.#agenda.add(this.nowMs + Math.max(0, delayMs), happening);
    return { cancel: () => void (happening.cancelled = true) };
  }

  setImmediate(callback: () => void): void {
    this.#agenda.add(this.nowMs, { process: this.#current, what: "immediate", run: callback, cancelled: false });
  }

  uncaught(error: unknown): void {
    const { known, die } = this.#options;
    if (known?.test(String(error)) && this.#current) {
      die(this.#current, `a known bug: ${String(error)}`);
      return;
    }
    const where = this.#current?.name ?? "the simulation itself";
    this.violate("no process is ended by a bug", `${where}: ${error instanceof Error ? error.stack : String(error)}`);
  }

  violate(rule: string, detail: string): void {
    if (this.#violation) return;
    this.#violation = { rule, detail, atMs: this.nowMs };
    this.trace(() => `VIOLATION of "${rule}": ${detail}`);
  }

  check(condition: boolean, rule: string, detail: () => string): void {
    if (!condition) this.violate(rule, detail());
  }

  /** A line for whoever reads what happened. */
  trace(line: () => string): void {
    if (!this.#options.tracing) return;
    const text = `${this.nowMs.toFixed(3).padStart(11)}  ${line()}`;
    if (this.onLine) this.onLine(text);
    if (this.#lines.length >= 2 * TRACE_LINES_MAX) this.#lines.splice(0, TRACE_LINES_MAX);
    this.#lines.push(text);
  }

  /** A number that two runs of one seed must have in common at this point. */
  mix(value: number): void {
    this.#hash = Math.imul(this.#hash ^ value, 0x01000193);
    this.#hash2 = Math.imul((this.#hash2 << 5) ^ (this.#hash2 >>> 7) ^ value, 0x9e3779b1);
  }

  resume(host: Host): void {
    host.paused = false;
    const held = this.#held.get(host) ?? [];
    this.#held.delete(host);
    for (const happening of held) this.#agenda.add(this.nowMs, happening);
  }

  /** Carries out events until `done` says so, a rule is violated, or nothing is left. */
  run(done: () => boolean): void {
    withEventLoop(this, () => {
      while (!this.#violation && !done()) {
        const entry = this.#agenda.take();
        if (!entry) return;
        if (entry.item.cancelled) continue;
        this.nowMs = entry.atMs;
        this.#carryOut(entry.item);
      }
    });
  }

  #carryOut(happening: Happening): void {
    const { process, what, run } = happening;
    if (process && !process.alive) return;
    if (process?.host.paused) {
      const held = this.#held.get(process.host);
      if (held) held.push(happening);
      else this.#held.set(process.host, [happening]);
      return;
    }
    this.events++;
    this.mix(Math.floor(this.nowMs * 1024) ^ what.length);
    this.#current = process;
    try {
      run();
    } catch (error) {
      this.uncaught(error);
    }
    drain();
    this.#options.look(process);
    this.#current = undefined;
  }
}
