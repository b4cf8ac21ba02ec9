/**
 * Settings from environment variables: CAMBIUM_WAL__DIRECTORY is wal.directory. A list is comma-separated. Variables
 * without two underscores between words are other programs' business.
 */
import type { VariableProblem } from "./config-error.js";
import { shownKey } from "./document.js";
import { type Layout, meant, type SettingForm } from "./layout.js";
import type { NodeKind } from "./node-config.js";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Override {
  readonly variable: string;
  readonly section: string;
  readonly key: string;
  readonly value: unknown;
}

const prefix = "CAMBIUM_";

export function readEnvironment(options: { kind: NodeKind; environment: Environment; layout: Layout }): {
  overrides: Override[];
  problems: VariableProblem[];
} {
  const known = new Map<string, { section: string; key: string; form: SettingForm }>();
  for (const [section, keys] of options.layout) {
    for (const [key, { form }] of keys) known.set(variableOf(section, key), { section, key, form });
  }
  const overrides: Override[] = [];
  const problems: VariableProblem[] = [];
  for (const [variable, text] of Object.entries(options.environment)) {
    if (text === undefined || !variable.startsWith(prefix) || !variable.includes("__")) continue;
    const setting = known.get(variable);
    if (setting) {
      overrides.push({ variable, section: setting.section, key: setting.key, value: readText(text, setting.form) });
    } else if (variable.startsWith(`${prefix}MASTER__`) && options.kind === "master") {
      problems.push({ variable, key: "", message: "is a setting of replicas, and this is a master; unset it" });
    } else {
      const message = `is no setting; ${meant(variable, [...known.keys()], "unset it, or use one of")}`;
      problems.push({ variable: shownKey(variable), key: "", message });
    }
  }
  return { overrides, problems };
}

/** The variable that sets a key. */
export function variableOf(section: string, key: string): string {
  return `${prefix}${section.toUpperCase()}__${key.toUpperCase()}`;
}

/** The value that the text would have in a file. A text that is none stays what it is, and is refused as such. */
function readText(text: string, form: SettingForm): unknown {
  switch (form) {
    case "list":
      return text.trim() === "" ? [] : text.split(",").map((entry) => entry.trim());
    case "flag":
      return text === "true" ? true : text === "false" ? false : text;
    case "number":
    case "size":
      return /^-?\d{1,16}$/.test(text) ? Number(text) : text;
    case "text":
      return text;
  }
}
