/** Measures one thing of the engine, in a process of its own: `engine-process.js JOB`, the job as JSON. Needs `--expose-gc`. */
import { measureChurn } from "./engine-churn.js";
import { measureEviction } from "./engine-eviction.js";
import { measureFlood } from "./engine-flood.js";
import type { EngineJob, JobKind, Results } from "./engine-job.js";
import { measureOperations } from "./engine-operations.js";
import { measureExpiry, measureLimit } from "./engine-store.js";
import { work } from "./worker.js";

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

work((job) => run(job as EngineJob));
