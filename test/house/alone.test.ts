import { existsSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { alone } from "../alone.js";
import { readSources, root } from "./source.js";

/** What reaches beyond the modules of a test: memory, timers, globals, prototypes, signals, the environment, modules of others. */
const reaches =
  /memoryUsage|vi\.(mock|doMock|useFakeTimers|stubGlobal|stubEnv)\(|spyOn\((\w+\.prototype|Math|globalThis|process|console)\b|process\.(on|once|chdir|umask)\(|process\.env\[?[\w."]*\]? = /;

test("a unit test that changes or measures what its process shares has the process to itself", () => {
  const units = readSources(["api", "cmd", "internal", "test"]).filter(
    ({ path: file }) => file.endsWith(".test.ts") && !/^test\/(integration|prove)\//.test(file) && file !== self,
  );
  const reaching = units.filter(({ text }) => reaches.test(text)).map(({ path: file }) => file);
  expect(reaching.filter((file) => !alone.includes(file))).toEqual([]);
});

test("every test that is said to be alone is there", () => {
  expect(alone.filter((file) => !existsSync(path.join(root, file)))).toEqual([]);
});

const self = path.relative(root, import.meta.filename).replaceAll(path.sep, "/");
