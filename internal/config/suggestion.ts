/** What somebody meant who wrote a word that is not there. */

/** Longer words are compared by this many characters at most. */
const comparedMax = 64;

/** The candidate nearest to `word`, when it is near enough for a slip of the finger; undefined when none is. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  // A third of the letters may be wrong.
  let bestDistance = Math.ceil(Math.min(word.length, comparedMax) / 3) + 1;
  for (const candidate of candidates) {
    const away = distance(normalized(word), normalized(candidate));
    if (away < bestDistance) [best, bestDistance] = [candidate, away];
  }
  return best;
}

/** camelCase, kebab-case and SNAKE_CASE are all near to snake_case. */
function normalized(word: string): string {
  const snake = word.slice(0, comparedMax).replace(/([a-z])([A-Z])/g, "$1_$2");
  return snake.replaceAll("-", "_").toLowerCase();
}

/** Letters to insert, remove, replace, or swap with their neighbour, until `a` is `b`. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(previous[j]! + 1, current[j - 1]! + 1, previous[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2]! + 1);
      current.push(cost);
    }
    [before, previous] = [previous, current];
  }
  return previous[b.length]!;
}
