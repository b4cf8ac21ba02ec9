/** Everything that is wrong with a configuration, at once, each problem with its place. */

/** What is wrong in the configuration file. */
export interface FileProblem {
  readonly file: string;
  /** From 1; absent when the file as a whole is wrong. */
  readonly line?: number;
  /** From 1, in UTF-16 code units. */
  readonly column?: number;
  /** As `wal.directory`; empty when the problem is no key's. */
  readonly key: string;
  /** What is wrong, and what is right. */
  readonly message: string;
}

/** What is wrong in an environment variable. */
export interface VariableProblem {
  readonly variable: string;
  readonly key: string;
  readonly message: string;
}

export type ConfigProblem = FileProblem | VariableProblem;

/** Problems that the message lists; the others are counted. */
const listedMax = 50;

/** A configuration that no node may start with. The message has a line for each problem. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** Never empty. */
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.slice(0, listedMax).map(lineOf);
    if (problems.length > listedMax) lines.push(`… and ${problems.length - listedMax} more`);
    super(lines.join("\n"));
    this.problems = problems;
  }
}

function lineOf(problem: ConfigProblem): string {
  const key = problem.key === "" ? "" : `${problem.key}: `;
  if ("variable" in problem) return `${problem.variable}: ${key}${problem.message}`;
  const { file, line, column } = problem;
  const place = line === undefined ? file : `${file}:${line}:${column ?? 1}`;
  return `${place}: ${key}${problem.message}`;
}
