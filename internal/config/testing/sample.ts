/**
 * The sample configurations of configs/, made of the schema: every key with its meaning, range and default. A test holds
 * the committed files to it.
 */
import { configJsonSchema } from "../schema.js";
import type { Preset } from "../layout.js";
import type { NodeKind } from "../node-config.js";
import { variableOf } from "../environment.js";

/** As far as the schemas of configurations go. */
export interface Property {
  readonly description?: string;
  readonly type?: string;
  readonly default?: Preset;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly range?: string;
  readonly otherwise?: string;
  readonly examples?: readonly string[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Property>>;
}

const lineWidth = 110;

/** Keys without a default that a sample sets all the same, so that it runs as it is. */
const set = new Set(["wal.directory", "master.address"]);

export function sampleConfig(kind: NodeKind): string {
  const sections = Object.entries((configJsonSchema(kind) as Property).properties ?? {});
  const header = [
    `# yaml-language-server: $schema=./${kind}.schema.json`,
    "",
    ...comment(
      `The configuration of a Cambium ${kind}. Every key is here, with what it means; a key that is left out has its default, and those in comments have none. Only wal.directory must be set.`,
      "",
    ),
    "#",
    ...comment(`Run it:    npx cambium-${kind} --config configs/${kind}.yaml`, ""),
    ...comment("Check it:  add --check-config. See what is in effect: add --print-config.", ""),
    "#",
    ...comment(
      `A duration is a number and its unit: ms, s, m, h or d. A size is a number of bytes, or a number and its unit: KB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB powers of 1024. Environment variables go before this file: ${variableOf("wal", "directory")} sets wal.directory, and so on; lists are comma-separated there.`,
      "",
    ),
  ];
  const blocks = sections.map(([name, section]) => sectionLines(name, section).join("\n"));
  return `${[header.join("\n"), ...blocks].join("\n\n")}\n`;
}

function sectionLines(name: string, section: Property): string[] {
  const keys = Object.entries(section.properties ?? {});
  const blocks = keys.map(([key, property]) => {
    const facts = `${kindOf(property)}${presetOf(property, section.required?.includes(key) ?? false)}`;
    const comments = [comment(property.description ?? "", "  "), comment(facts, "  ")].flat();
    return `${comments.join("\n")}\n${lineOf(`${name}.${key}`, key, property)}`;
  });
  return [...comment(section.description ?? "", ""), `${name}:`, blocks.join("\n\n")];
}

function lineOf(setting: string, key: string, property: Property): string {
  const value = JSON.stringify(property.default ?? property.examples?.[0] ?? property.enum?.at(-1)).replace(
    /^"([a-z][\w]*)"$/,
    "$1",
  );
  return isSet(setting, property) ? `  ${key}: ${value}` : `  # ${key}: ${value}`;
}

function isSet(setting: string, property: Property): boolean {
  return property.default !== undefined || set.has(setting);
}

function kindOf(property: Property): string {
  const { type, range, minimum, maximum } = property;
  if (property.enum) return `One of: ${property.enum.join(", ")}. `;
  if (range !== undefined) return `${type === "string" ? "A duration" : "A size"}, ${range}. `;
  if (type === "boolean") return "true or false. ";
  if (type === "array") return "A list. ";
  if (type !== "integer") return "";
  return `A whole number, ${maximum === Number.MAX_SAFE_INTEGER ? `${minimum} or more` : `${minimum} to ${maximum}`}. `;
}

function presetOf(property: Property, required: boolean): string {
  if (required) return "Required.";
  if (property.otherwise !== undefined) return `Default: ${property.otherwise}.`;
  if (property.default === undefined) return "No default.";
  return `Default: ${typeof property.default === "object" ? "empty" : String(property.default)}.`;
}

/** The text as comment lines, wrapped between words. */
function comment(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line.length > 0 && indent.length + 2 + line.length + 1 + word.length > lineWidth) {
      lines.push(line);
      line = word;
    } else line = lines.length === 0 && line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].map((content) => `${indent}# ${content}`.trimEnd());
}
