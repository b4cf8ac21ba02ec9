/** How fast the engine is, how much memory it takes, and how long it makes others wait, next to a `Map` in the same run. */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type EngineJob, type EngineKind, engineKinds, type EngineReport, type EngineResult } from "./engine-job.js";

export interface EngineRow extends EngineResult {
  readonly engine: EngineKind;
  readonly entries: number;
}

/** A `Map` of five million entries takes some 4 GB of heap. */
const HEAP_MB = 12_000;

export async function measureEngine(
  entryCounts: readonly number[],
  progress: (text: string) => void,
): Promise<EngineRow[]> {
  const rows: EngineRow[] = [];
  for (const entries of entryCounts) {
    for (const engine of engineKinds) {
      progress(`measuring the engine: ${engine}, ${entries} entries`);
      rows.push({ engine, entries, ...(await run({ engine, entries })) });
    }
  }
  return rows;
}

function run(job: EngineJob): Promise<EngineResult> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL("./engine-process.js", import.meta.url)), [JSON.stringify(job)], {
      execArgv: ["--expose-gc", `--max-old-space-size=${HEAP_MB}`],
    });
    const leave = (): void => void child.kill("SIGKILL");
    process.once("exit", leave);
    child.once("message", (report: EngineReport) => {
      if (report.kind === "done") resolve(report.result);
      else reject(new Error(`the engine ${job.engine}: ${report.message}`));
    });
    child.once("exit", (code, signal) => {
      process.off("exit", leave);
      reject(new Error(`the engine ${job.engine}: the process ended (${code ?? signal})`));
    });
  });
}
