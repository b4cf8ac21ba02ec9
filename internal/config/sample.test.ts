/**
 * The committed files of configs/ against the schema. After a change of the schema: `npx vitest run internal/config -u`,
 * and commit what it writes.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { format } from "prettier";
import { describe, expect, test } from "vitest";
import { loadConfig, type NodeKind, parseConfig } from "./config.js";
import { layoutOf } from "./layout.js";
import { configJsonSchema } from "./schema.js";
import { sampleConfig } from "./testing/sample.js";

const folder = path.resolve(import.meta.dirname, "../../configs");
const pathOf = (name: string): string => path.join(folder, name);

/** What prettier would make of it, so that the format check of the whole tree has nothing to say. */
const pretty = (text: string, parser: "json" | "yaml"): Promise<string> => format(text, { parser, printWidth: 120 });

describe.each<NodeKind>(["master", "replica"])("configs/%s", (kind) => {
  test("the JSON Schema is current", async () => {
    const text = await pretty(JSON.stringify(configJsonSchema(kind)), "json");
    await expect(text).toMatchFileSnapshot(pathOf(`${kind}.schema.json`));
  });

  test("the sample is current", async () => {
    await expect(await pretty(sampleConfig(kind), "yaml")).toMatchFileSnapshot(pathOf(`${kind}.yaml`));
  });

  test("the sample loads as it is, and gives every default its real value", () => {
    const sample = loadConfig({ kind, file: pathOf(`${kind}.yaml`), environment: {} });
    const text = `wal: { directory: ./data/${kind} }\n${kind === "replica" ? `master: { address: "127.0.0.1:8080" }\n` : ""}`;
    expect(sample).toEqual({ ...parseConfig({ kind, file: sample.file, text, environment: {} }) });
  });

  test("the sample names every key once, and the default that it has in truth", () => {
    const lines = readFileSync(pathOf(`${kind}.yaml`), "utf8").split("\n");
    for (const [section, keys] of layoutOf(kind)) {
      const start = lines.findIndex((line) => line === `${section}:`);
      expect(start, section).toBeGreaterThanOrEqual(0);
      const length = lines.slice(start + 1).findIndex((line) => /^[a-z]/.test(line));
      const block = lines.slice(start + 1, length < 0 ? undefined : start + 1 + length);
      for (const [key, { preset }] of keys) {
        const at = block.findIndex((line) => new RegExp(`^ {2}(# )?${key}: `).test(line));
        expect(at, `${section}.${key}`).toBeGreaterThan(0);
        const stated = preset === undefined ? /(Required|No default|Default: .*)\.$/ : /Default: (.*)\.$/;
        const match = stated.exec(block[at - 1] ?? "");
        expect(match, `${section}.${key}`).not.toBeNull();
        if (preset !== undefined) expect(match?.[1]).toBe(typeof preset === "object" ? "empty" : String(preset));
      }
    }
  });

  test("what the sample shows in comments is valid too", () => {
    const shown = new Map<string, string[]>();
    let section = "";
    for (const line of readFileSync(pathOf(`${kind}.yaml`), "utf8").split("\n")) {
      section = /^([a-z]+):/.exec(line)?.[1] ?? section;
      const [, setting] = /^ {2}# ([a-z_]+: "[^"]*")$/.exec(line) ?? [];
      // The secret's file is not there; its path is all that can be right.
      if (setting === undefined || setting.startsWith("secret_file")) continue;
      shown.set(section, [...(shown.get(section) ?? []), setting]);
    }
    expect(shown.size).toBeGreaterThan(0);
    // Some of them need each other.
    for (const [name, settings] of shown) {
      const text = `${name}: { ${settings.join(", ")} }\nwal: { directory: d }\n`;
      expect(() => parseConfig({ kind, file: "f", text, environment: {} })).not.toThrow();
    }
  });
});
