/**
 * The simulator as a program: many seeds, on several processes; or one seed, told line by line.
 *
 * Exit codes: 0 when every seed kept every rule, and everything happened that has to; 1 when not; 2 for wrong arguments.
 */
import { type ChildProcess, fork } from "node:child_process";
import os from "node:os";
import { parseArgs } from "node:util";
import { Counts } from "./counts.js";
import { outsideMicrotasks } from "./microtasks.js";
import { plantedFaults } from "./planted.js";
import { neverHappened } from "./required.js";
import { runSeed, type SeedResult } from "./simulation.js";

const USAGE = `usage: npm run simulate -- [options]
  --seeds N     run N seeds (default 200)
  --seed S      begin with seed S (default 1); alone: run this one, and tell what happened
  --jobs J      on so many processes (default: as many as there are processors)
  --verbose     with --seed alone: the whole trace; else: every count
  --planted     find each planted fault, within --seeds (default 2000); names (--planted=NAME,NAME) find those,
                and one of them with --seed alone runs that seed with the fault
  --known REGEX  look past bugs whose messages match: only the process ends in which one comes up
  --until-failure N   go on after failing seeds until there are N of them (default 1)`;

/** From so many seeds on, everything that has to happen must have happened. */
const SEEDS_FOR_ALL = 200;
/** Real time after which a seed hangs for sure; most take a fraction of a second. */
const SEED_MS_MAX = 180_000;

interface Arguments {
  readonly seeds: number | undefined;
  readonly seed: number | undefined;
  readonly jobs: number;
  readonly verbose: boolean;
  readonly planted: string | undefined;
  readonly known: string | undefined;
  readonly failuresMax: number;
}

/** Resolves to the exit code. `program` is the file that is running. */
export async function main(args: readonly string[], program: string): Promise<number> {
  if (args[0] === "--worker") return work();
  const parsed = readArguments(args);
  if (!parsed) {
    console.error(USAGE);
    return 2;
  }
  if (parsed.seed !== undefined && parsed.seeds === undefined) return replay(parsed, parsed.seed);
  if (parsed.planted !== undefined) return findPlanted(parsed, program);
  return runMany(parsed, program);
}

function readArguments(args: readonly string[]): Arguments | undefined {
  try {
    // "--planted" stands alone too, which parseArgs cannot tell of a text.
    const given = args.map((argument) => (argument === "--planted" ? "--planted=all" : argument));
    const { values } = parseArgs({
      args: given,
      options: {
        seeds: { type: "string" },
        seed: { type: "string" },
        jobs: { type: "string" },
        verbose: { type: "boolean" },
        planted: { type: "string" },
        known: { type: "string" },
        "until-failure": { type: "string" },
      },
    });
    const { planted } = values;
    for (const name of planted === undefined || planted === "all" ? [] : planted.split(",")) {
      if (name in plantedFaults) continue;
      throw new Error(`there is no planted fault "${name}"; there are:\n  ${Object.keys(plantedFaults).join("\n  ")}`);
    }
    return {
      seeds: numberOf(values.seeds),
      seed: numberOf(values.seed),
      jobs: numberOf(values.jobs) ?? os.availableParallelism(),
      verbose: values.verbose ?? false,
      planted,
      known: values.known,
      failuresMax: numberOf(values["until-failure"]) ?? 1,
    };
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

function numberOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d*$/.test(text)) throw new Error(`${text} is no number from 1 on`);
  return Number(text);
}

// ---- one seed --------------------------------------------------------------------------------------------------------

async function replay({ verbose, planted, known }: Arguments, seed: number): Promise<number> {
  const failed: unknown[] = [];
  process.on("unhandledRejection", (error) => failed.push(error));
  const result = await outsideMicrotasks(() =>
    runSeed({
      seed,
      tracing: true,
      ...(planted !== undefined && { planted }),
      ...(known !== undefined && { known }),
      ...(verbose && { onLine: (line: string) => console.log(line) }),
    }),
  );
  await outsideMicrotasks(() => undefined);
  const violation = result.violation ?? rejected(failed);
  if (violation && !verbose) console.log(result.trace.slice(-60).join("\n"));
  console.log(summaryOf(result));
  if (!violation) return 0;
  console.log(`\nseed ${seed} breaks the rule "${violation.rule}":\n  ${violation.detail}`);
  return 1;
}

function summaryOf({ seed, events, virtualMs, traceHash, counts }: SeedResult): string {
  return `seed ${seed}: ${events} events in ${(virtualMs / 1000).toFixed(1)} s of virtual time, ${counts["operations"] ?? 0} operations, ${counts["faults"] ?? 0} faults, trace ${traceHash}`;
}

/** A promise that failed with nobody to hear of it is a bug too. */
function rejected(failed: readonly unknown[]): SeedResult["violation"] {
  const first = failed[0];
  if (first === undefined) return undefined;
  const detail = first instanceof Error ? (first.stack ?? first.message) : JSON.stringify(first);
  return { rule: "no failure goes unheard", detail, atMs: 0 };
}

// ---- workers ---------------------------------------------------------------------------------------------------------

interface Task {
  readonly seed: number;
  readonly planted?: string;
  readonly known?: string;
}

/** Runs the seeds that it is sent, one after another. Never resolves: the process ends when its parent goes. */
async function work(): Promise<number> {
  let failed: unknown[] = [];
  process.on("unhandledRejection", (error) => failed.push(error));
  process.on("uncaughtException", (error) => failed.push(error));
  process.on("disconnect", () => process.exit(0));
  process.on("message", (task: Task) => {
    void outsideMicrotasks(() => runToItsEnd(task)).then(async (result) => {
      await outsideMicrotasks(() => undefined);
      process.send?.({ ...result, violation: result.violation ?? rejected(failed) });
      failed = [];
    });
  });
  return new Promise(() => {});
}

class Workers {
  readonly #program: string;
  readonly #jobs: number;
  readonly #next: () => Task | undefined;
  readonly #done: (result: SeedResult, task: Task) => void;

  constructor(
    program: string,
    jobs: number,
    next: () => Task | undefined,
    done: (result: SeedResult, task: Task) => void,
  ) {
    this.#program = program;
    this.#jobs = jobs;
    this.#next = next;
    this.#done = done;
  }

  /** Resolves when there is nothing left to do. */
  async run(): Promise<void> {
    await Promise.all(Array.from({ length: this.#jobs }, () => this.#employ()));
  }

  /** One worker after another, since one that hangs must be ended. */
  async #employ(): Promise<void> {
    for (let task = this.#next(); task; task = this.#next()) {
      const worker = this.#fork();
      try {
        for (; task; task = this.#next()) {
          const result = await this.#carryOut(worker, task);
          this.#done(result ?? hung(task), task);
          if (!result) break;
        }
      } finally {
        worker.kill("SIGKILL");
      }
    }
  }

  #fork(): ChildProcess {
    const launcher = `const { main } = await import(process.argv[1]); await main(["--worker"], process.argv[1]);`;
    return fork(this.#program, [], {
      // Most of what a simulation allocates dies young.
      execArgv: ["--max-semi-space-size=32", "--enable-source-maps", "--input-type=module", "--eval", launcher],
    });
  }

  /** Resolves to undefined when the seed does not come to its end. */
  #carryOut(worker: ChildProcess, task: Task): Promise<SeedResult | undefined> {
    return new Promise((resolve, reject) => {
      const patience = setTimeout(() => settle(() => resolve(undefined)), SEED_MS_MAX);
      const settle = (act: () => void): void => {
        clearTimeout(patience);
        worker.off("message", answered);
        worker.off("exit", ended);
        act();
      };
      const answered = (result: SeedResult): void => settle(() => resolve(result));
      const ended = (code: number | null): void =>
        settle(() => reject(new Error(`a worker ended with ${code} at seed ${task.seed}`)));
      worker.on("message", answered);
      worker.on("exit", ended);
      worker.send(task);
    });
  }
}

/** What the judges themselves can make nothing of is a violation too. */
function runToItsEnd(task: Task): SeedResult {
  try {
    return runSeed(task);
  } catch (error) {
    return broken(task, "what happens makes sense", error instanceof Error ? (error.stack ?? "") : String(error));
  }
}

function hung(task: Task): SeedResult {
  return broken(task, "a seed comes to its end", `it was still running after ${SEED_MS_MAX / 1000} s`);
}

function broken({ seed }: Task, rule: string, detail: string): SeedResult {
  const violation = { rule, detail, atMs: 0 };
  return { seed, violation, counts: {}, events: 0, virtualMs: 0, traceHash: "", trace: [] };
}

// ---- many seeds ------------------------------------------------------------------------------------------------------

async function runMany(
  { seeds = 200, seed: first = 1, jobs, verbose, known, failuresMax }: Arguments,
  program: string,
): Promise<number> {
  const counts = new Counts();
  const failures: SeedResult[] = [];
  const startMs = performance.now();
  let next = first;
  let done = 0;
  let events = 0;
  let toldMs = startMs;
  const rate = (): string => (done / ((performance.now() - startMs) / 1000)).toFixed(1);
  const workers = new Workers(
    program,
    Math.min(jobs, seeds),
    () =>
      next < first + seeds && failures.length < failuresMax
        ? { seed: next++, ...(known !== undefined && { known }) }
        : undefined,
    (result) => {
      done++;
      events += result.events;
      counts.add(result.counts);
      if (result.violation) {
        failures.push(result);
        console.log(failureOf(result));
      }
      if (performance.now() - toldMs < 5000) return;
      toldMs = performance.now();
      console.log(
        `${done} of ${seeds} seeds, ${rate()} a second${failures.length > 0 ? `, ${failures.length} failed` : ""}`,
      );
    },
  );
  await workers.run();
  const shown = Object.entries(counts.asRecord()).filter(([what]) => verbose || !what.startsWith("log: "));
  for (const [what, times] of shown) console.log(`${String(times).padStart(10)}  ${what}`);
  console.log(`\n${done} seeds from ${first} on, ${events} events, ${rate()} seeds a second on ${jobs} processes`);
  failures.sort((a, b) => a.seed - b.seed);
  for (const failure of failures) console.log(failureOf(failure));
  const shortest = failures[0];
  if (shortest?.traceHash) {
    console.log("\nits last events:");
    const { trace } = await outsideMicrotasks(() => runSeed({ seed: shortest.seed, tracing: true }));
    console.log(trace.slice(-60).join("\n"));
  }
  if (shortest) return 1;
  const missing = done >= SEEDS_FOR_ALL ? neverHappened(counts) : [];
  if (missing.length > 0) {
    console.log(`\nthese never happened, so nothing is shown about them:\n  ${missing.join("\n  ")}`);
    return 1;
  }
  console.log("every rule was kept");
  return 0;
}

function failureOf({ seed, violation }: SeedResult): string {
  const broken = `seed ${seed} breaks the rule "${violation?.rule}":\n  ${violation?.detail}`;
  return `\n${broken}\nreplay it:  npm run simulate -- --seed ${seed}`;
}

// ---- planted faults --------------------------------------------------------------------------------------------------

async function findPlanted(
  { seeds = 2000, seed: first = 1, jobs, planted }: Arguments,
  program: string,
): Promise<number> {
  const names = planted === "all" ? Object.keys(plantedFaults) : planted!.split(",");
  let missed = 0;
  for (const name of names) {
    let next = first;
    const found: SeedResult[] = [];
    let done = 0;
    const workers = new Workers(
      program,
      jobs,
      () => (next < first + seeds && found.length === 0 ? { seed: next++, planted: name } : undefined),
      (result) => {
        done++;
        if (result.violation) found.push(result);
      },
    );
    await workers.run();
    const result = found.sort((a, b) => a.seed - b.seed)[0];
    if (!result) missed++;
    const what = result
      ? `found after ${result.seed - first + 1} seeds: "${result.violation?.rule}"`
      : `NOT FOUND in ${done} seeds`;
    console.log(`${name.padEnd(44)} ${what}`);
  }
  console.log(
    missed === 0 ? `\nall ${names.length} planted faults were found` : `\n${missed} of ${names.length} were not found`,
  );
  return missed === 0 ? 0 : 1;
}
