/** Source files as trees, by a real parser, so that no comment, string or type can be mistaken for an import. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parseAst } from "vitest/node";

export const root = path.resolve(import.meta.dirname, "..", "..");

export interface SourceFile {
  /** Relative to the repository, with `/` between its parts. */
  readonly path: string;
  readonly text: string;
}

export interface Import {
  readonly specifier: string;
  /** The names that are taken out of it, where it says; undefined where it takes all there is. */
  readonly names: readonly string[] | undefined;
  readonly line: number;
}

/** A node of the parser's tree: a bag of fields with a type and a place. */
type Node = { readonly type: string; readonly start: number } & Readonly<Record<string, unknown>>;

/** Every TypeScript file under the folders. */
export function readSources(folders: readonly string[]): SourceFile[] {
  return folders.flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
      .map((name) => ({ path: name, text: readFileSync(path.join(root, name), "utf8") })),
  );
}

/** What a file imports, in all the ways that there are: types, re-exports, `import()`, `import("…")` types, `require`. */
export function importsOf(file: SourceFile): Import[] {
  const found: Import[] = [];
  visit(file, (node) => {
    const specifier = specifierOf(node);
    if (specifier !== undefined) found.push({ specifier, names: namesOf(node), line: lineOf(file, node) });
  });
  return found;
}

/** Lines where a file is not synchronous, or draws randomness; with what stands there. */
export function impuritiesOf(file: SourceFile): { what: string; line: number }[] {
  const found: { what: string; line: number }[] = [];
  visit(file, (node) => {
    const what = impurityOf(node);
    if (what !== undefined) found.push({ what, line: lineOf(file, node) });
  });
  return found;
}

const impureGlobals: ReadonlySet<unknown> = new Set([
  "Date",
  "Promise",
  "performance",
  "process",
  "crypto",
  "fetch",
  "console",
  "globalThis",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
  "AbortController",
  "AbortSignal",
]);

function impurityOf(node: Node): string | undefined {
  if (node.async === true) return "async";
  if (node.type === "AwaitExpression") return "await";
  if (node.type === "Identifier" && impureGlobals.has(node.name)) return String(node.name);
  if (node.type !== "MemberExpression") return undefined;
  const object = field(node, "object");
  const property = field(node, "property");
  return object?.name === "Math" && property?.name === "random" ? "Math.random" : undefined;
}

function specifierOf(node: Node): string | undefined {
  switch (node.type) {
    case "ImportDeclaration":
    case "ExportNamedDeclaration":
    case "ExportAllDeclaration":
    case "TSImportType":
      return literal(field(node, "source"));
    case "ImportExpression":
      return literal(field(node, "source")) ?? "(computed)";
    case "TSExternalModuleReference":
      return literal(field(node, "expression"));
    case "CallExpression": {
      if (field(node, "callee")?.name !== "require") return undefined;
      const [argument] = node.arguments as Node[];
      return literal(argument) ?? "(computed)";
    }
    default:
      return undefined;
  }
}

function namesOf(node: Node): string[] | undefined {
  if (node.type !== "ImportDeclaration") return undefined;
  const specifiers = node.specifiers as Node[];
  if (specifiers.length === 0 || specifiers.some(({ type }) => type !== "ImportSpecifier")) return undefined;
  return specifiers.map((specifier) => String(field(specifier, "imported")?.name));
}

function field(node: Node, name: string): Node | undefined {
  return (node[name] ?? undefined) as Node | undefined;
}

function literal(node: Node | undefined): string | undefined {
  return typeof node?.value === "string" ? node.value : undefined;
}

function lineOf(file: SourceFile, node: Node): number {
  return file.text.slice(0, node.start).split("\n").length;
}

function visit(file: SourceFile, see: (node: Node) => void): void {
  const walk = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    if (Array.isArray(value)) {
      for (const item of value) walk(item);
      return;
    }
    if ("type" in value && typeof value.type === "string") see(value as Node);
    for (const child of Object.values(value)) walk(child);
  };
  walk(parseAst(file.text, { lang: "ts" }, file.path));
}
