#!/usr/bin/env node
/**
 * `npm run bench`: how fast Cambium is, next to processes that do nothing but what cannot be avoided and to other stores, all of
 * them started and ended by this command. What is compared is measured in turn, several rounds of it, so that a machine that is
 * busy for a while is so for all.
 *
 * Exit codes: 0, also where a goal is missed; 1 when something failed, or something was found that must never be, such as a set
 * that was answered before it was durable; 2 for bad flags, 130 when interrupted.
 */
import { writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { type Block, markdownOf, textOf } from "./blocks.js";
import { machine, machineText } from "./machine.js";
import { goalBlocks, type Section, type SectionOutcome } from "./section.js";
import { sections } from "./sections.js";
import { Workbench } from "./workbench.js";

/** More than this before anything was started, and somebody else is at work. */
const BUSY_LOAD_AVERAGE = 1;

interface Flags {
  readonly quick?: true;
  readonly only: readonly Section[];
  readonly json?: string;
  readonly markdown?: string;
  readonly data: string;
}

interface SectionReport extends SectionOutcome {
  readonly seconds: number;
  /** Every program that was started for it. */
  readonly commands: readonly string[];
}

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
    clearProgress();
    process.stderr.write(`cambium bench: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    bench?.leave();
  }
}

async function run(bench: Workbench, flags: Flags): Promise<number> {
  const startedAt = new Date().toISOString();
  const size = flags.quick ? "quick" : "full";
  const command = ["npm run bench --", ...process.argv.slice(2)].join(" ");
  const measuredOn = machine();
  const shown: Block[] = [];
  const show = (blocks: readonly Block[]): void => {
    clearProgress();
    process.stdout.write(`${textOf(blocks)}\n`);
    shown.push(...blocks);
  };
  const [loadAverage = 0] = os.loadavg();
  const isBusy = loadAverage > BUSY_LOAD_AVERAGE;
  show([
    machineText(measuredOn),
    command,
    ...(isBusy
      ? [`Others use this machine (load average ${loadAverage.toFixed(1)}): the figures are not to be trusted.`]
      : []),
  ]);

  const reports: Record<string, SectionReport> = {};
  for (const [index, section] of flags.only.entries()) {
    const startMs = performance.now();
    const where = `${section.name} (${index + 1} of ${flags.only.length})`;
    const outcome = await section
      .run(bench, size, (text) => progress(`${where}: ${text}`))
      .catch((error: unknown) => {
        throw new Error(`${section.name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      });
    await bench.clear();
    const seconds = (performance.now() - startMs) / 1000;
    reports[section.name] = { ...outcome, seconds, commands: bench.commands.splice(0) };
    show(outcome.blocks);
    // After each, so that what was found is kept should a later one fail.
    write(flags, { startedAt, command, size, machine: measuredOn, reports, shown });
  }
  const all = Object.values(reports);
  const wrong = all.flatMap((report) => report.wrong);
  show([
    ...goalBlocks(all.flatMap(({ goals }) => goals)),
    `seconds: ${Object.entries(reports)
      .map(([name, { seconds }]) => `${name} ${seconds.toFixed(0)}`)
      .join(", ")}`,
    ...wrong.map((sentence) => `WRONG: ${sentence}`),
  ]);
  write(flags, { startedAt, command, size, machine: measuredOn, reports, shown });
  return wrong.length > 0 ? 1 : 0;
}

interface RunReport {
  readonly startedAt: string;
  readonly command: string;
  readonly size: string;
  readonly machine: ReturnType<typeof machine>;
  readonly reports: Readonly<Record<string, SectionReport>>;
  readonly shown: readonly Block[];
}

function write({ json, markdown }: Flags, { shown, reports, ...run }: RunReport): void {
  if (markdown !== undefined) writeFileSync(markdown, markdownOf(shown));
  if (json === undefined) return;
  writeFileSync(json, `${JSON.stringify({ ...run, sections: reports }, null, 2)}\n`);
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
}

function clearProgress(): void {
  progress("");
}

function parseFlags(): Flags {
  const names = sections.map(({ name }) => name);
  const command = new Command("npm run bench --")
    .description("Measures Cambium next to bare processes and to other stores, all on this machine.")
    .option("--quick", "less than a minute, with less data and more noise")
    .option("--only <sections>", `some of ${names.join(",")}; without it all of them`, parseSections)
    .option("--json <file>", "write the machine, the commands, and every sample there")
    .option("--markdown <file>", "write the tables there too")
    .option(
      "--data <folder>",
      "where the servers keep their data meanwhile; on the disk that is to be measured",
      "data/bench",
    )
    .addHelpText(
      "after",
      `\nSections:\n${sections.map(({ name, description }) => `  ${name.padEnd(12)} ${description}\n`).join("")}`,
    )
    .exitOverride();
  try {
    const flags = command.parse().opts<Omit<Flags, "only"> & Partial<Flags>>();
    return { ...flags, only: flags.only ?? sections, data: path.resolve(flags.data) };
  } catch (error) {
    // Commander has said what is wrong already.
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
}

function parseSections(text: string): Section[] {
  return text.split(",").map((name) => {
    const section = sections.find((known) => known.name === name.trim());
    if (section === undefined) {
      throw new InvalidArgumentError(`there are ${sections.map((known) => known.name).join(", ")}.`);
    }
    return section;
  });
}

process.exitCode = await main();
