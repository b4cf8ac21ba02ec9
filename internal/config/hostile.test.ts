/** Texts that no configuration is like. Whatever comes in, a `ConfigError` comes out, or a configuration, and soon. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ConfigError, type NodeKind, parseConfig } from "./config.js";

const mebibyte = 1 << 20;

function outcome(text: string, kind: NodeKind = "master", environment: Record<string, string> = {}): string {
  try {
    parseConfig({ kind, file: "f", text, environment });
    return "valid";
  } catch (error) {
    // Nothing but this may come, and a line of it stays a line.
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).problems.length).toBeGreaterThan(0);
    return (error as ConfigError).message;
  }
}

test.each<[string, string]>([
  ["[", "["],
  ["{a: ", "{a: "],
  ["- ", "- "],
  ["? ", "? "],
  [": ", ": "],
  ["a: ", "a: b: "],
])("endless nesting by %j is refused", (_, unit) => {
  expect(outcome(unit.repeat(mebibyte / unit.length))).toMatch(/^f:1:\d+: is nested too deeply/);
});

test("endless nesting by indentation is refused", () => {
  const text = Array.from({ length: 1400 }, (_, depth) => `${" ".repeat(depth)}a:`).join("\n");
  expect(outcome(text)).toMatch(/^f:\d+:\d+: is nested too deeply/);
});

test.each(["&a ", "*a ", "!a ", "}", '"', "---\n", "#\n", "\n", "k: 1\n"])("%j without end is refused", (unit) => {
  expect(outcome(unit.repeat(mebibyte / unit.length))).toMatch(/^f:\d+:\d+: has more than 50000 words and signs/);
});

test("aliases of aliases cannot multiply", () => {
  const layers = Array.from({ length: 25 }, (_, layer) =>
    layer === 0 ? "a0: &a0 [x, x]" : `a${layer}: &a${layer} [*a${layer - 1}, *a${layer - 1}]`,
  );
  const text = `wal: { directory: d }\nserver: { cors_origins: &s [*s, *s] }\n${layers.join("\n")}\n`;
  expect(outcome(text).split("\n")).toHaveLength(27);
});

test("a value that contains itself is refused", () => {
  expect(outcome("wal: &wal { directory: *wal }")).toContain("wal.directory: must be a path, not a mapping");
  expect(outcome("&all { wal: *all }")).toContain("wal.wal: is unknown");
});

test("a list without end is refused by its length", () => {
  const list = `[${Array.from({ length: 1001 }, (_, index) => `a:${index + 1}`).join(", ")}]`;
  expect(outcome(`wal: { directory: d }\nreplication: { replicas: ${list} }`)).toContain(
    "f:2:26: replication.replicas: has 1001 entries; at most 1000 are allowed",
  );
});

test.each<[string, string]>([
  ["a: b: c", "f:1:4: is no valid YAML here: "],
  ["server: { port: 1", "is no valid YAML here: "],
  ["server:\n\tport: 1", "f:2:1: is no valid YAML here: "],
  ['wal: { directory: "d', "is no valid YAML here: "],
  ["wal: { directory: @d }", "f:1:19: is no valid YAML here: "],
  ["wal: { directory: !!js/function d }", "is no valid YAML here: Unresolved tag"],
  ["%YAML 9.9\n---\nwal: {}", "is no valid YAML here: "],
  ["wal: { directory: d }\n---\nwal: { directory: e }", "f:2:1: begins a second document"],
])("%j is told where it stops to be YAML", (text, why) => {
  expect(outcome(text)).toContain(why);
});

test.each(["hello", "[1, 2]", "5", '"wal: 1"', "- wal:"])("%j holds no sections", (text) => {
  expect(outcome(text)).toBe('f:1:1: must hold sections, like "server:" or "wal:", each with keys below it');
});

test.each(["", "\n", "# nothing\n", "---\n", "~", "{}"])("%j lacks only the directory", (text) => {
  expect(outcome(text)).toBe("f:1:1: wal.directory: is required: it must be a path");
});

const kind = fc.constantFrom<NodeKind>("master", "replica");

test("any text at all gives a configuration or a ConfigError", () => {
  const signs = "[ ] { } : , - ? & * ! | > ' \" % @ ` # ~ --- ... << !! null true .inf 1 1s 1MB x:1 é \uD800".split(
    " ",
  );
  const words = "server wal cluster replication directory port replicas address __proto__".split(" ");
  const spaces = [" ", "\n", "\n  ", "\r\n", "\t", "\0", "\uFEFF"];
  const sign = fc.constantFrom(...signs, ...words, ...spaces);
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(sign, { maxLength: 60 }).map((signs) => signs.join("")),
  );
  fc.assert(
    fc.property(text, kind, (input, kind) => {
      expect(outcome(input, kind)).not.toBe("");
    }),
    { numRuns: 300 },
  );
});

test("any value of any key gives a configuration or a ConfigError", () => {
  const sections = ["server", "master", "wal", "storage", "limits", "replication", "log", "__proto__", "constructor"];
  const keys = ["address", "port", "advertise", "cors_origins", "directory", "max_bytes", "sync_interval", "replicas"];
  const section = fc.constantFrom(...sections);
  const key = fc.oneof(fc.constantFrom(...keys, "commit", "level", "max_key_bytes", "batch_bytes"), fc.string());
  const value = fc.oneof(fc.jsonValue(), fc.string(), fc.nat(), fc.constantFrom("1s", "1MiB", "a:1", "127.0.0.1"));
  const file = fc.dictionary(
    section,
    fc.oneof({ weight: 9, arbitrary: fc.dictionary(key, value) }, { weight: 1, arbitrary: value }),
  );
  fc.assert(
    fc.property(file, kind, (input, kind) => {
      expect(outcome(JSON.stringify(input), kind)).not.toBe("");
    }),
    { numRuns: 300 },
  );
});

test("any environment gives a configuration or a ConfigError", () => {
  const name = fc.oneof(
    fc.constantFrom("CAMBIUM_WAL__DIRECTORY", "CAMBIUM_SERVER__PORT", "CAMBIUM_REPLICATION__REPLICAS", "CAMBIUM___"),
    fc.string().map((rest) => `CAMBIUM_${rest}`),
    fc.tuple(fc.string(), fc.string()).map((words) => `CAMBIUM_${words.join("__")}`),
  );
  const value = fc.oneof(fc.string(), fc.constantFrom("", "1", "true", "a:1,b:2", "1s"));
  fc.assert(
    fc.property(fc.dictionary(name, value), (environment) => {
      expect(outcome("wal: { directory: d }", "replica", environment)).not.toBe("");
    }),
  );
});
