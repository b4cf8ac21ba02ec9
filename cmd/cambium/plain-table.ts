/** A table of columns without borders: easy to read, and to take apart with awk. */
import Table from "cli-table3";

export interface Column {
  readonly head: string;
  readonly align?: "left" | "right";
}

const NO_BORDERS = Object.fromEntries(
  [
    ["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left", "bottom-right"],
    ["left", "left-mid", "mid", "mid-mid", "right", "right-mid"],
  ]
    .flat()
    .map((name) => [name, ""]),
);

/** The lines of the table, its head first. */
export function plainTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const table = new Table({
    head: columns.map(({ head }) => head),
    colAligns: columns.map(({ align }) => align ?? "left"),
    chars: { ...NO_BORDERS, middle: "  " },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  for (const row of rows) table.push([...row]);
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd());
}
