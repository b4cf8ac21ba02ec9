/** As much of PromQL as it takes to say which metrics, with which labels, an expression looks at. */

/** A metric that an expression names, and the labels by which it picks some of it. */
export interface Selected {
  readonly name: string;
  readonly labels: readonly string[];
}

const KEYWORDS: ReadonlySet<string> = new Set(
  ["and", "or", "unless", "bool", "offset", "inf", "nan", "atan2", "start", "end"].concat([
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
  ]),
);
/** What follows in parentheses are labels. */
const BEFORE_LABELS: ReadonlySet<string> = new Set(["by", "without", "on", "ignoring", "group_left", "group_right"]);
const TOKEN = /\s+|"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][\w:]*|\d[\w.]*|[=!<>]=|=~|!~|\$\w+|[-+*/%^(){},=<>@]/gy;

/** Throws where it understands something not. */
export function selectedBy(expression: string): Selected[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < expression.length) {
    const at = TOKEN.lastIndex;
    const token = TOKEN.exec(expression)?.[0];
    if (token === undefined) throw new Error(`what is this: ${expression.slice(at, at + 30)}`);
    if (token.trim() !== "") tokens.push(token);
  }
  const found: Selected[] = [];
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at]!;
    if (!/^[a-zA-Z_:]/.test(token)) continue;
    const next = tokens[at + 1];
    if (BEFORE_LABELS.has(token)) {
      while (at < tokens.length && tokens[at] !== ")") at++;
    } else if (KEYWORDS.has(token) || next === "(" || next === "by" || next === "without") continue;
    else {
      const labels: string[] = [];
      if (next === "{") {
        for (at += 2; at < tokens.length && tokens[at] !== "}"; at++) {
          if (/^[=!]/.test(tokens[at + 1] ?? "")) labels.push(tokens[at]!);
        }
        if (tokens[at] !== "}") throw new Error(`a brace is not closed: ${expression}`);
      }
      found.push({ name: token, labels });
    }
  }
  return found;
}
