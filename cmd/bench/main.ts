#!/usr/bin/env node
/**
 * `npm run bench`: how fast a master answers, recovers and takes snapshots, and its engine is, next to processes that do nothing
 * but what cannot be avoided, all of them started and ended by this command. What is compared is measured in turn, several rounds of it, so
 * that a machine that is busy for a while is so for all.
 *
 * Exit codes: 0, 1 when something failed or a set was answered before it was durable, 2 for bad flags, 130 when interrupted.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { measureCalls } from "./calls.js";
import { measureClients } from "./client.js";
import { renderClients } from "./client-report.js";
import { type EngineExtras, type EngineRow, type EngineSizes, measureEngine, measureEngineExtras } from "./engine.js";
import { renderEngine, renderEngineExtras } from "./engine-report.js";
import { measureRecovery } from "./recovery.js";
import { renderRecovery } from "./recovery-report.js";
import { answersTooEarly, jsonReport, machineName, renderCalls } from "./report.js";
import { measureSnapshot } from "./snapshot.js";
import { renderSnapshot } from "./snapshot-report.js";
import { Workbench } from "./workbench.js";

const sectionNames = ["calls", "client", "recovery", "snapshot", "engine"] as const;
type Section = (typeof sectionNames)[number];

interface Flags {
  readonly quick?: true;
  readonly only: readonly Section[];
  readonly json?: string;
  readonly data: string;
}

interface Sizes {
  readonly calls: { readonly warmupMs: number; readonly measureMs: number };
  readonly recovery: readonly number[];
  readonly snapshot: readonly { readonly entries: number; readonly measureMs: number }[];
  readonly engine: EngineSizes;
}

const full: Sizes = {
  calls: { warmupMs: 500, measureMs: 2000 },
  recovery: [100_000, 1_000_000],
  snapshot: [
    { entries: 100_000, measureMs: 5000 },
    { entries: 1_000_000, measureMs: 15_000 },
  ],
  engine: {
    entryCounts: [10_000, 100_000, 1_000_000, 5_000_000],
    churn: { entries: 1_000_000, overwrites: 10_000_000 },
    flood: { keys: 1_000_000, bits: 10 },
    eviction: { entriesMax: 100_000, keys: 1_000_000, requests: 6_000_000 },
    expiry: { entries: 1_000_000 },
    limit: { bytesMax: 100_000_000, times: 10 },
  },
};
const quick: Sizes = {
  calls: { warmupMs: 80, measureMs: 320 },
  recovery: [100_000],
  snapshot: [{ entries: 100_000, measureMs: 3000 }],
  engine: {
    entryCounts: [10_000, 100_000],
    churn: { entries: 100_000, overwrites: 1_000_000 },
    flood: { keys: 100_000, bits: 8 },
    eviction: { entriesMax: 20_000, keys: 200_000, requests: 1_000_000 },
    expiry: { entries: 100_000 },
    limit: { bytesMax: 20_000_000, times: 10 },
  },
};

/** What has to end with this program, whatever happens. */
let bench: Workbench | undefined;

async function main(): Promise<number> {
  const flags = parseFlags();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      bench?.leave();
      process.exit(130);
    });
  }
  try {
    bench = new Workbench(flags.data);
    return await run(bench, flags);
  } catch (error) {
    process.stderr.write(`cambium bench: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    bench?.leave();
  }
}

async function run(bench: Workbench, flags: Flags): Promise<number> {
  const options = flags.quick ? quick : full;
  const isWanted = (section: Section): boolean => flags.only.includes(section);
  const show = (text: string): void => {
    clearProgress();
    process.stdout.write(text);
  };
  const machine = machineName();
  show(`${machine}\n`);
  const calls = isWanted("calls") ? await measureCalls(bench, options.calls, progress) : undefined;
  if (calls) show(renderCalls(calls));
  const clients = isWanted("client") ? await measureClients(bench, options.calls, progress) : undefined;
  if (clients) show(renderClients(clients));
  const recovery = isWanted("recovery") ? await measureRecovery(bench, options.recovery, progress) : undefined;
  if (recovery) show(renderRecovery(recovery));
  const snapshots = [];
  for (const each of isWanted("snapshot") ? options.snapshot : []) {
    const cost = await measureSnapshot(bench, each, progress);
    show(renderSnapshot(cost));
    snapshots.push(cost);
  }
  const operations: EngineRow[] = [];
  for (const entries of isWanted("engine") ? options.engine.entryCounts : []) {
    const rows = await measureEngine(entries, progress);
    show(renderEngine(rows));
    operations.push(...rows);
  }
  let engine: ({ readonly operations: readonly EngineRow[] } & EngineExtras) | undefined;
  if (isWanted("engine")) {
    const extras = await measureEngineExtras(bench.directory, options.engine, progress);
    show(renderEngineExtras(extras));
    engine = { operations, ...extras };
  }
  if (flags.json !== undefined)
    writeFileSync(flags.json, jsonReport({ machine, calls, clients, recovery, snapshots, engine }));
  await bench.stopServers();
  return calls && answersTooEarly(calls.durability) ? 1 : 0;
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
}

function clearProgress(): void {
  progress("");
}

function parseFlags(): Flags {
  const command = new Command("npm run bench --")
    .description("Measures a master next to bare processes, all on this machine.")
    .option("--quick", "a minute or so, with less data and more noise")
    .option("--only <sections>", `some of ${sectionNames.join(",")}`, parseSections, [...sectionNames])
    .option("--json <file>", "write the numbers there too")
    .option(
      "--data <folder>",
      "where the master keeps its data meanwhile; on the disk that is to be measured",
      "data/bench",
    )
    .exitOverride();
  try {
    const flags = command.parse().opts<Flags>();
    return { ...flags, data: path.resolve(flags.data) };
  } catch (error) {
    // Commander has said what is wrong already.
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
}

function parseSections(text: string): Section[] {
  return text.split(",").map((name) => {
    const section = sectionNames.find((known) => known === name.trim());
    if (section === undefined) throw new InvalidArgumentError(`there are ${sectionNames.join(", ")}.`);
    return section;
  });
}

process.exitCode = await main();
