/** Measures one thing of the engine, in a process of its own: `engine-process.js JOB`, the job as JSON. Needs `--expose-gc`. */
import { must } from "../../internal/base/assert.js";
import { measureChurn } from "./engine-churn.js";
import { measureEviction } from "./engine-eviction.js";
import { measureFlood } from "./engine-flood.js";
import type { EngineJob, EngineReport, JobKind, Results } from "./engine-job.js";
import { measureOperations } from "./engine-operations.js";
import { measureExpiry, measureLimit } from "./engine-store.js";

function run(job: EngineJob): Results[JobKind] | Promise<Results[JobKind]> {
  switch (job.kind) {
    case "operations":
      return measureOperations(job);
    case "churn":
      return measureChurn(job);
    case "flood":
      return measureFlood(job);
    case "eviction":
      return measureEviction(job);
    case "expiry":
      return measureExpiry(job);
    case "limit":
      return measureLimit(job);
  }
}

function tell(report: EngineReport): void {
  // Timers of what was measured may still wait.
  process.send?.(report, undefined, {}, () => process.exit());
}

Promise.resolve()
  .then(() => run(JSON.parse(must(process.argv[2], "a job is given")) as EngineJob))
  .then(
    (result) => tell({ kind: "done", result }),
    (error: unknown) => tell({ kind: "failed", message: error instanceof Error ? error.message : String(error) }),
  );
