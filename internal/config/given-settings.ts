/** What the file and the environment set together, and where each of it came from. */
import path from "node:path";
import type { ConfigProblem } from "./config-error.js";
import type { Source } from "./document.js";
import type { Override } from "./environment.js";
import type { Layout } from "./layout.js";
import type { Settings } from "./node-config.js";

/** Keys whose relative paths begin at the working directory. */
const paths = new Set([
  "wal.directory",
  "server.identity_file",
  "cluster.secret_file",
  "tls.cert_file",
  "tls.key_file",
  "tls.ca_file",
  "replication.cert_file",
  "replication.key_file",
  "replication.ca_file",
]);

export class GivenSettings {
  /** What `complain` was told. */
  readonly problems: ConfigProblem[] = [];
  readonly #file: string;
  readonly #source: Source;
  readonly #overrides: ReadonlyMap<string, Override>;

  constructor(file: string, source: Source, overrides: readonly Override[]) {
    this.#file = file;
    this.#source = source;
    this.#overrides = new Map(overrides.map((override) => [`${override.section}.${override.key}`, override]));
  }

  /** The value of one setting, as written. */
  written(section: string, key: string): unknown {
    const override = this.#overrides.get(`${section}.${key}`);
    return override ? override.value : this.#source.settings.get(section)?.get(key);
  }

  /** What was written, in every section that there is; the environment goes before the file. */
  settings(layout: Layout): Record<string, Record<string, unknown>> {
    return this.#collect(layout, (_name, written) => written);
  }

  /** What counts: the written and the defaults, paths absolute. */
  effective(layout: Layout): Settings {
    return this.#collect(layout, (name, written, preset) => {
      const value = written ?? preset;
      return paths.has(name) && typeof value === "string" ? path.resolve(value) : value;
    });
  }

  /** Notes a problem at the place of the setting, or the nearest there is. A value that could not be made out has been told. */
  complain(setting: readonly PropertyKey[], message: string): void {
    const key = setting.slice(0, 2).join(".");
    const override = this.#overrides.get(key);
    if (override) {
      this.problems.push({ variable: override.variable, key, message });
      return;
    }
    const ways = setting.map((_, index) => setting.slice(0, setting.length - index).join("."));
    if (["", ...ways].some((way) => this.#source.spoiled.has(way))) return;
    const place = ways.map((way) => this.#source.places.get(way)).find((found) => found !== undefined);
    this.problems.push({ ...(place ?? { file: this.#file, line: 1, column: 1 }), key, message });
  }

  #collect(
    layout: Layout,
    choose: (name: string, written: unknown, preset: unknown) => unknown,
  ): Record<string, Record<string, unknown>> {
    const sections = [...layout].map(([section, keys]) => {
      const values = [...keys].map(([key, { preset }]) => {
        return [key, choose(`${section}.${key}`, this.written(section, key), preset)] as const;
      });
      return [section, Object.fromEntries(values.filter(([, value]) => value !== undefined))] as const;
    });
    return Object.fromEntries(sections);
  }
}

/** By line and column, what belongs to no line first, variables last. */
export function inOrder(problems: readonly ConfigProblem[]): ConfigProblem[] {
  const rank = (problem: ConfigProblem): [number, number] =>
    "variable" in problem ? [Number.MAX_SAFE_INTEGER, 0] : [problem.line ?? 0, problem.column ?? 0];
  return [...problems].sort((a, b) => {
    const [[lineA, columnA], [lineB, columnB]] = [rank(a), rank(b)];
    return lineA - lineB || columnA - columnB;
  });
}
