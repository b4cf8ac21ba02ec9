#!/usr/bin/env node
/**
 * `npm run bench`: how fast a master answers, next to servers that do nothing, all of them processes that this command
 * starts and ends itself. Everything is measured in turn, several rounds of it, so that a machine that is busy for a
 * while is so for all.
 *
 * Exit codes: 0, 1 when something failed or a set was answered before it was durable, 2 for bad flags, 130 when interrupted.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Command, CommanderError } from "commander";
import type { BaselineKind } from "./baseline.js";
import { LoadProcess } from "./load-process.js";
import { type Case, cases, jobOf, measure, medianOf, type Sample } from "./measurement.js";
import { answersTooEarly, type BenchReport, jsonReport, machineName, renderReport, type Row } from "./report.js";
import { ServerProcess } from "./server-process.js";
import { median } from "./statistics.js";

interface Flags {
  readonly quick?: true;
  readonly json?: string;
  readonly data: string;
}

const rounds = 3;
const full = { warmupMs: 500, measureMs: 2000 };
const quick = { warmupMs: 80, measureMs: 320 };
/** Of a round that does not count, in which the servers' code is compiled. */
const settle = { warmupMs: 0, measureMs: 200 };
const syncs = { bytes: 200, count: 200 };

/** What has to end with this program, whatever happens. */
const servers: ServerProcess[] = [];
let load: LoadProcess | undefined;
let directory: string | undefined;

async function main(): Promise<number> {
  const flags = parseFlags();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      leave();
      process.exit(130);
    });
  }
  try {
    const report = await run(flags);
    process.stdout.write(renderReport(report));
    if (flags.json !== undefined) writeFileSync(flags.json, jsonReport(report));
    await Promise.all(servers.splice(0).map((server) => server.stop()));
    return answersTooEarly(report.durability) ? 1 : 0;
  } catch (error) {
    process.stderr.write(`cambium bench: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    leave();
  }
}

async function run(flags: Flags): Promise<BenchReport> {
  const times = flags.quick ? quick : full;
  mkdirSync(flags.data, { recursive: true });
  directory = mkdtempSync(path.join(flags.data, "run-"));
  load = new LoadProcess();
  const master = await startMaster(directory);
  const serverOf = await startBaselines(master);

  const preload = jobOf(
    { contestant: "cambium", protocol: "connect", operation: "set", connections: 16, streams: 1 },
    master.address,
    {
      warmupMs: 0,
      measureMs: 0,
    },
  );
  await load.load(preload);
  const samples = new Map<Case, Sample[]>(cases.map((each) => [each, []]));
  const syncP50s: number[] = [];
  const syncP99s: number[] = [];
  const steps = cases.length * (rounds + 1);
  let step = 0;
  for (let round = 0; round <= rounds; round++) {
    for (const [each, found] of samples) {
      progress(++step, steps);
      const server = serverOf(each);
      const sample = await measure(load, server, jobOf(each, server.address, round === 0 ? settle : times));
      if (round > 0) found.push(sample);
    }
    if (round === 0) continue;
    const { p50Us, p99Us } = await load.sync({ kind: "sync", directory, ...syncs });
    syncP50s.push(p50Us);
    syncP99s.push(p99Us);
  }
  const rows: Row[] = [];
  for (const [each, found] of samples) rows.push({ ...each, sample: medianOf(found) });
  const setAlone = rows.find((row) => row.protocol === "connect" && row.operation === "set" && row.connections === 1);
  return {
    machine: machineName(),
    rounds,
    measureMs: times.measureMs,
    rows,
    durability: {
      setP50Us: setAlone?.sample.p50Us ?? NaN,
      sync: { p50Us: median(syncP50s), p99Us: median(syncP99s) },
    },
  };
}

async function startMaster(directory: string): Promise<ServerProcess> {
  const config = path.join(directory, "master.yaml");
  // JSON is YAML too.
  const sections = { server: { port: 0 }, wal: { directory: path.join(directory, "master") }, log: { format: "json" } };
  writeFileSync(config, JSON.stringify(sections));
  // What a user has set for nodes of their own is none of the bench's business.
  const environment = Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      value === undefined || name.startsWith("CAMBIUM_") ? [] : [[name, value] as const],
    ),
  );
  return start({
    name: "the master",
    program: "master/main.js",
    args: ["--config", config],
    // It listens before its mastership has begun.
    readyMessage: "started",
    environment,
  });
}

/** Starts the others, and tells which server a case is for. */
async function startBaselines(master: ServerProcess): Promise<(each: Case) => ServerProcess> {
  const baseline = (kind: BaselineKind): Promise<ServerProcess> =>
    start({ name: `the baseline ${kind}`, program: "bench/baseline.js", args: [kind], readyMessage: "listening" });
  const [http, http2, connectHttp, connectHttp2] = await Promise.all([
    baseline("http"),
    baseline("http2"),
    baseline("connect-http"),
    baseline("connect-http2"),
  ]);
  return ({ contestant, protocol }) => {
    switch (contestant) {
      case "cambium":
        return master;
      case "connect-node":
        return protocol === "connect" ? connectHttp : connectHttp2;
      case "node:http":
        return http;
      case "node:http2":
        return http2;
    }
  };
}

async function start(options: Parameters<typeof ServerProcess.start>[0]): Promise<ServerProcess> {
  const server = await ServerProcess.start(options);
  servers.push(server);
  return server;
}

/** Ends and removes all that is left, at once. */
function leave(): void {
  for (const server of servers) server.kill();
  load?.close();
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
}

function progress(step: number, steps: number): void {
  if (!process.stderr.isTTY) return;
  process.stderr.write(step === steps ? "\r\u001B[K" : `\rmeasuring ${step} of ${steps}`);
}

function parseFlags(): Flags {
  const command = new Command("npm run bench --")
    .description("Measures a master next to bare servers, all on this machine.")
    .option("--quick", "under a minute, with more noise")
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

process.exitCode = await main();
