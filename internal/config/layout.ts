/** The sections and keys of a configuration, and what each key takes, read off the schema. */
import { nearest } from "./suggestion.js";
import type { NodeKind } from "./node-config.js";
import { configJsonSchema } from "./schema.js";

/** What a setting takes, as far as it must be known to read it from a text without YAML. */
export type SettingForm = "text" | "number" | "size" | "flag" | "list";

/** A default. */
export type Preset = string | number | boolean | readonly string[];

export interface SettingShape {
  readonly form: SettingForm;
  /** As it would be written; undefined when there is none. */
  readonly preset: Preset | undefined;
}

/** Section → key → shape, in the order of the schema. */
export type Layout = ReadonlyMap<string, ReadonlyMap<string, SettingShape>>;

const layouts = new Map<NodeKind, Layout>();

export function layoutOf(kind: NodeKind): Layout {
  let layout = layouts.get(kind);
  if (!layout) layouts.set(kind, (layout = readLayout(kind)));
  return layout;
}

function readLayout(kind: NodeKind): Layout {
  const sections = Object.entries(propertiesOf(configJsonSchema(kind)));
  return new Map(
    sections.map(([section, schema]) => {
      const keys = Object.entries(propertiesOf(schema));
      return [
        section,
        new Map(keys.map(([key, property]) => [key, { form: formOf(property), preset: property.default }])),
      ];
    }),
  );
}

interface Property {
  readonly type?: string;
  readonly default?: Preset;
  readonly properties?: Readonly<Record<string, Property>>;
}

function propertiesOf(schema: Property): Readonly<Record<string, Property>> {
  return schema.properties ?? {};
}

function formOf({ type }: Property): SettingForm {
  switch (type) {
    case "integer":
      return "number";
    case "boolean":
      return "flag";
    case "array":
      return "list";
    // A number of bytes, or a text with a unit.
    case undefined:
      return "size";
    default:
      return "text";
  }
}

/** Why a section is unknown, and which was meant. */
export function unknownSection(name: string, kind: NodeKind, layout: Layout): string {
  if (name === "master" && kind === "master") {
    return "is a section of replicas, and this is the configuration of a master; remove it, or start a replica with it";
  }
  const owners = [...layout].filter(([, keys]) => keys.has(name)).map(([section]) => section);
  if (owners.length > 0) return `is no section; it belongs under ${owners.join(" or ")}`;
  return `is no section; ${meant(name, [...layout.keys()], "the sections are")}`;
}

/** Why a key is unknown in a known section, and which was meant. */
export function unknownKey(section: string, name: string, layout: Layout): string {
  const keys = [...(layout.get(section)?.keys() ?? [])];
  const near = nearest(name, keys);
  if (near === undefined) {
    const owners = [...layout].filter(([, others]) => others.has(name)).map(([other]) => other);
    if (owners.length > 0) return `is unknown; it belongs under ${owners.join(" or ")}`;
  }
  return `is unknown; ${meant(name, keys, `${section} has`)}`;
}

/** The candidate that was meant, or all that there are. */
export function meant(name: string, candidates: readonly string[], all: string): string {
  const near = nearest(name, candidates);
  return near === undefined ? `${all} ${candidates.join(", ")}` : `did you mean ${near}?`;
}
