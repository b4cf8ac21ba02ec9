/** A part of the bench: it measures one thing, shows what it found, and knows what is wanted. */
import type { Block } from "./blocks.js";
import { rounded } from "./format.js";
import type { Workbench } from "./workbench.js";

/** Says what is being done, in a few words. */
export type Progress = (text: string) => void;

export type Size = "quick" | "full";

/** What is wanted of a figure, as a number. */
export interface Goal<Result> {
  /** What is compared with what. */
  readonly figure: string;
  readonly unit: "×" | "ms" | "µs" | "bytes" | "per s" | "%";
  /** One of the two. */
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Beyond what has to be. */
  readonly aim?: number;
  /** NaN: this run did not measure it. */
  readonly measured: (result: Result) => number;
}

export interface SectionDefinition<Sizes, Result> {
  readonly name: string;
  /** One line. */
  readonly description: string;
  readonly sizes: Readonly<Record<Size, Sizes>>;
  /** Starts what it needs on the bench; what still runs when it is done is ended for it. */
  measure(bench: Workbench, sizes: Sizes, progress: Progress): Promise<Result>;
  render(result: Result): readonly Block[];
  readonly goals: readonly Goal<Result>[];
  /** What must never be, such as an answer before its write was durable, in whole sentences. */
  wrong?(result: Result): readonly string[];
}

export interface GoalOutcome {
  readonly figure: string;
  readonly unit: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly aim?: number;
  /** null: not measured. */
  readonly measured: number | null;
  readonly isMet: boolean | null;
}

export interface SectionOutcome {
  /** All that was measured, every sample of it. */
  readonly result: unknown;
  readonly blocks: readonly Block[];
  readonly goals: readonly GoalOutcome[];
  readonly wrong: readonly string[];
}

/** A section, whatever it measures. */
export interface Section {
  readonly name: string;
  readonly description: string;
  run(bench: Workbench, size: Size, progress: Progress): Promise<SectionOutcome>;
}

export function defineSection<Sizes, Result>(definition: SectionDefinition<Sizes, Result>): Section {
  const { name, description, sizes, goals } = definition;
  return {
    name,
    description,
    async run(bench, size, progress) {
      const result = await definition.measure(bench, sizes[size], progress);
      return {
        result,
        blocks: definition.render(result),
        goals: goals.map((goal) => outcomeOf(goal, result)),
        wrong: definition.wrong?.(result) ?? [],
      };
    },
  };
}

export function outcomeOf<Result>({ measured, ...goal }: Goal<Result>, result: Result): GoalOutcome {
  const value = measured(result);
  if (!Number.isFinite(value)) return { ...goal, measured: null, isMet: null };
  const isMet = value >= (goal.atLeast ?? -Infinity) && value <= (goal.atMost ?? Infinity);
  return { ...goal, measured: value, isMet };
}

/** All goals of a run in one table. */
export function goalBlocks(goals: readonly GoalOutcome[]): Block[] {
  const rows = goals.map(({ figure, unit, measured, atLeast, atMost, aim, isMet }) => [
    figure,
    measured === null ? "–" : `${rounded(measured)} ${unit}`,
    atLeast === undefined ? `≤ ${rounded(atMost ?? NaN)} ${unit}` : `≥ ${rounded(atLeast)} ${unit}`,
    aim === undefined ? "" : rounded(aim),
    isMet === null ? "not measured" : isMet ? "yes" : "NO",
  ]);
  return ["goals", { head: ["figure", "measured", "goal", "aim", "met"], rows }];
}
