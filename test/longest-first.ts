/**
 * The order of test files: those that take long first, and the many short ones last, so that all processes end at about the same
 * time. Vitest knows how long a file took on this machine the last time; a fresh clone has no last time.
 */
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Longest first; where one is missing here the run takes longer, and nothing else. */
const long: readonly string[] = [
  "test/simulation/simulate.test.ts",
  "test/integration/mastership.test.ts",
  "internal/rpc/abuse.test.ts",
  "test/integration/record-log.test.ts",
  "test/integration/replication.test.ts",
  "test/integration/demo.test.ts",
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification): number => {
      const index = long.findIndex((file) => moduleId.endsWith(`/${file}`));
      if (index >= 0) return index;
      // Those that share processes come last, and together: a process goes on as long as the next file may share it.
      return project.config.isolate ? long.length : long.length + 1;
    };
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}
