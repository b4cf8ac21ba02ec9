/** What a section shows: paragraphs and tables, written for a terminal or as Markdown. */
import CliTable from "cli-table3";

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** So many columns, from the first on, hold words; numbers stand to the right of them. 1 where it is absent. */
  readonly wordColumns?: number;
}

/** A paragraph, or a table. */
export type Block = string | Table;

export function textOf(blocks: readonly Block[]): string {
  return blocks.map((block) => `${typeof block === "string" ? block : tableText(block)}\n`).join("");
}

export function markdownOf(blocks: readonly Block[]): string {
  return blocks.map((block) => `${typeof block === "string" ? block : tableMarkdown(block)}\n`).join("\n");
}

function tableText({ head, rows, wordColumns = 1 }: Table): string {
  const table = new CliTable({
    head: [...head],
    colAligns: head.map((_, column) => (column < wordColumns ? "left" : "right")),
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) table.push([...row]);
  return table.toString();
}

function tableMarkdown({ head, rows, wordColumns = 1 }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const rule = head.map((_, column) => (column < wordColumns ? "---" : "---:"));
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}
