/** The bench's end of the load generator. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { HoldJob, Job, LoadJob, LoadResult, Report, PairJob, PairResult, TellJob, WatchJob } from "./job.js";

export class LoadProcess {
  readonly #child: ChildProcess;
  #listener: (report: Report) => void = () => undefined;

  constructor() {
    this.#child = fork(fileURLToPath(new URL("./load.js", import.meta.url)));
    this.#child.on("message", (report: Report) => this.#listener(report));
    this.#child.on("exit", (code, signal) => {
      this.#listener({ kind: "failed", message: `the load generator ended (${code ?? signal})` });
    });
  }

  /** `measuring` is called when the measurement begins, as soon as this process hears of it. */
  load(job: LoadJob | TellJob, measuring: () => void = () => undefined): Promise<LoadResult> {
    return this.#run(job, (report) => {
      if (report.kind === "measuring") measuring();
      return report.kind === "measured" ? report.result : undefined;
    });
  }

  pair(job: PairJob): Promise<PairResult> {
    return this.#run(job, (report) => (report.kind === "paired" ? report.result : undefined));
  }

  /** Resolves once they stand. */
  async hold(job: HoldJob | WatchJob): Promise<void> {
    await this.#run(job, (report) => (report.kind === "standing" ? report : undefined));
  }

  close(): void {
    this.#listener = () => undefined;
    this.#child.kill("SIGKILL");
  }

  #run<Result>(job: Job, resultOf: (report: Report) => Result | undefined): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#listener = (report) => {
        if (report.kind === "failed") reject(new Error(report.message));
        const result = resultOf(report);
        if (result !== undefined) resolve(result);
      };
      this.#child.send(job);
    });
  }
}
