/** The order in which things are measured that are to be compared. */
import type { Progress } from "./section.js";

/** Of which the median counts. */
export const ROUNDS = 3;

/**
 * Measures all cases in turn, several rounds of it, so that a machine that is busy for a while is so for all. A round before the
 * first does not count: in it the programs compile their code.
 */
export async function interleave<Case, Sample>(
  cases: readonly Case[],
  measure: (each: Case, isSettling: boolean) => Promise<Sample>,
  progress: Progress,
  /** Called after each round that counts. */
  afterRound: () => Promise<void> = async () => undefined,
): Promise<Map<Case, Sample[]>> {
  const samples = new Map<Case, Sample[]>(cases.map((each) => [each, []]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [index, [each, found]] of [...samples].entries()) {
      progress(`${round === 0 ? "settling" : `round ${round} of ${ROUNDS}`}, ${index + 1} of ${cases.length}`);
      const sample = await measure(each, round === 0);
      if (round > 0) found.push(sample);
    }
    if (round > 0) await afterRound();
  }
  return samples;
}
