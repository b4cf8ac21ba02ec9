import { expect, test } from "vitest";
import { breaches, rooms } from "./import-map.js";
import { impuritiesOf, importsOf, readSources } from "./source.js";

/** Files that are there to be imported. */
const furniture = [
  { path: "internal/base/assert.ts", text: "" },
  { path: "internal/wal/log.ts", text: "" },
  { path: "internal/wal/testing/disk.ts", text: "" },
  { path: "internal/store/store.ts", text: "" },
  { path: "api/gen/cambium/v1/kvstore_pb.ts", text: "" },
];

function breachesOf(path: string, text: string): string[] {
  return breaches([...furniture, { path, text }]);
}

test("the sources keep to the map", () => {
  expect(breaches(readSources(["api", "cmd", "internal"]))).toEqual([]);
});

test("every room of the map that another room names is in the map", () => {
  const named = Object.values(rooms).flat();
  expect(named.filter((room) => !(room in rooms))).toEqual([]);
});

test("the core of replication is synchronous, and asks neither clock nor chance", () => {
  const core = readSources(["internal/replication/core"]).filter((file) => !file.path.endsWith(".test.ts"));
  const found = core.flatMap((file) => impuritiesOf(file).map(({ what, line }) => `${file.path}:${line}: ${what}`));
  expect(found).toEqual([]);
});

test("what a room may import is no breach", () => {
  expect(breachesOf("internal/store/a.ts", 'import { log } from "../wal/log.js";')).toEqual([]);
  expect(
    breachesOf("internal/rpc/a.ts", 'import http from "node:http"; import "@connectrpc/connect/protocol";'),
  ).toEqual([]);
  expect(breachesOf("internal/wal/node-file-system.ts", 'import * as fs from "node:fs";')).toEqual([]);
  expect(breachesOf("internal/identity/a.ts", 'import { isIP } from "node:net";')).toEqual([]);
  expect(breachesOf("cmd/master/main.ts", 'import { s } from "../../internal/store/store.js";')).toEqual([]);
});

test.each([
  ["a room above", "internal/wal/a.ts", 'import { s } from "../store/store.js";', "may not import internal/store"],
  ["a room beside", "internal/engine/a.ts", 'import type { L } from "../wal/log.js";', "may not import internal/wal"],
  ["a type in brackets", "internal/engine/a.ts", 'type L = import("../wal/log.js").L;', "may not import internal/wal"],
  ["a re-export", "internal/engine/a.ts", 'export * from "../wal/log.js";', "may not import internal/wal"],
  ["a dynamic import", "internal/engine/a.ts", 'await import("../wal/log.js");', "may not import internal/wal"],
  ["a require", "internal/engine/a.ts", 'const l = require("../wal/log.js");', "may not import internal/wal"],
  ["a computed import", "internal/engine/a.ts", "await import(name);", "computes"],
  ["a room that nobody knows", "internal/attic/a.ts", "", "stands in no room"],
  ["a file beside the rooms", "internal/a.ts", "", "stands in no room"],
  ["a file that is not there", "internal/wal/a.ts", 'import "./gone.js";', "not there"],
  ["an import without .js", "internal/wal/a.ts", 'import "../base/assert";', "not there"],
  [
    "Connect below rpc",
    "internal/store/a.ts",
    'import { Code } from "@connectrpc/connect";',
    "may not import @connect",
  ],
  ["YAML outside config", "cmd/master/a.ts", 'import { parse } from "yaml";', "may not import yaml"],
  [
    "files outside the file port",
    "internal/wal/log.ts",
    'import fs from "node:fs/promises";',
    "may not import node:fs",
  ],
  ["sockets below rpc", "internal/replication/a.ts", 'import net from "node:net";', "may not import node:net"],
  [
    "a socket beside isIP",
    "internal/identity/a.ts",
    'import { isIP, connect } from "node:net";',
    "may not import node:net",
  ],
  ["a package nobody listed", "cmd/demo/a.ts", 'import _ from "lodash";', "may not import lodash"],
  ["Node in the pure core", "internal/replication/core/a.ts", 'import "node:util";', "the core is pure"],
  [
    "the core above base",
    "internal/replication/core/a.ts",
    'import "../../store/store.js";',
    "may not import internal/store",
  ],
  ["a test's file", "internal/wal/a.ts", 'import "./testing/disk.js";', "belongs to the tests"],
  ["Node from a browser", "api/client/index.ts", 'import { Buffer } from "node:buffer";', "is for browsers too"],
])("%s is a breach", (_, path, text, complaint) => {
  expect(breachesOf(path, text)).toEqual([expect.stringContaining(complaint)]);
});

test("what a browser reaches through other files is found", () => {
  const files = [
    { path: "api/client/index.ts", text: 'export * from "./transport.js";' },
    { path: "api/client/transport.ts", text: '\nimport "@connectrpc/connect-node";' },
  ];
  expect(breaches(files)).toEqual([expect.stringMatching(/^api\/client\/transport\.ts:2: /)]);
});

test("a test may reach what its room reaches through others, and no further", () => {
  const reach = 'import { log } from "../wal/log.js"; import fc from "fast-check"; import fs from "node:fs";';
  expect(breachesOf("internal/rpc/a.test.ts", reach)).toEqual([]);
  expect(breachesOf("internal/engine/a.test.ts", reach)).toHaveLength(1);
});

test("the tests of a room inside another share its test material, and only they do", () => {
  const shared = { path: "internal/replication/testing/dialogue.ts", text: "" };
  const text = 'import "../testing/dialogue.js";';
  expect(breaches([shared, { path: "internal/replication/core/a.test.ts", text }])).toEqual([]);
  expect(breaches([shared, { path: "internal/replication/core/a.ts", text }])).toHaveLength(1);
});

test("imports in comments and strings are none", () => {
  const text = '// import "../wal/log.js";\nconst s = `import "yaml";`; /* export * from "zod" */';
  expect(importsOf({ path: "internal/engine/a.ts", text })).toEqual([]);
});

test("an import is reported with its line", () => {
  const text =
    'import a from "one";\n\nexport {\n  b,\n} from "two";\nimport c = require("three");\nimport { d, type f } from "four";';
  expect(importsOf({ path: "a.ts", text })).toEqual([
    { specifier: "one", names: undefined, line: 1 },
    { specifier: "two", names: undefined, line: 3 },
    { specifier: "three", names: undefined, line: 6 },
    { specifier: "four", names: ["d", "f"], line: 7 },
  ]);
});

test("time, promises and chance are impure", () => {
  const text = "async () => {\n await x;\n Date.now();\n setTimeout(f);\n Math.random();\n a.seq();\n}";
  const found = impuritiesOf({ path: "a.ts", text }).map(({ what }) => what);
  expect(found).toEqual(["async", "await", "Date", "setTimeout", "Math.random"]);
});
