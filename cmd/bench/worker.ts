/** A process of the bench's own that does one job and is gone: `PROGRAM JOB`, the job as JSON. */
import { must } from "../../internal/base/assert.js";

export type WorkerReport =
  { readonly kind: "done"; readonly result: unknown } | { readonly kind: "failed"; readonly message: string };

/** Does the job that the process was started for, tells the bench, and ends the process. */
export function work(run: (job: unknown) => unknown): void {
  Promise.resolve()
    .then(() => run(JSON.parse(must(process.argv[2], "a job is given"))))
    .then(
      (result) => tell({ kind: "done", result }),
      (error: unknown) => tell({ kind: "failed", message: error instanceof Error ? error.message : String(error) }),
    );
}

function tell(report: WorkerReport): void {
  // Timers of what was measured may still wait.
  process.send?.(report, undefined, {}, () => process.exit());
}
