/**
 * Who may import whom. The map is the design's: rooms know the rooms below them, each foreign package has the rooms that
 * may use it, and the tests of a room may reach as far down as the room itself does through others.
 */
import path from "node:path/posix";
import { type Import, importsOf, type SourceFile } from "./source.js";

/** What each room may import, besides itself. */
export const rooms: Readonly<Record<string, readonly string[]>> = {
  "api/gen": [],
  "api/client": ["api/gen"],
  "internal/base": [],
  "internal/config": ["internal/base"],
  "internal/wal": ["internal/base"],
  "internal/engine": ["internal/base"],
  "internal/identity": ["internal/base"],
  "internal/metrics": ["internal/base"],
  "internal/records": ["internal/wal", "internal/base"],
  "internal/store": ["internal/wal", "internal/engine", "internal/records", "internal/base"],
  "internal/watch": ["internal/store", "internal/base"],
  "internal/replication/core": ["internal/base"],
  "internal/replication": ["internal/replication/core", "internal/store", "internal/base"],
  "internal/rpc": [...served(), "internal/watch", "internal/rpc/fast-path"],
  "internal/rpc/fast-path": ["api/gen", "internal/base"],
  "internal/resp": served(),
  cmd: [
    "api/gen",
    "api/client",
    "internal/base",
    "internal/config",
    "internal/wal",
    "internal/engine",
    "internal/identity",
    "internal/metrics",
    "internal/records",
    "internal/store",
    "internal/watch",
    "internal/replication",
    "internal/replication/core",
    "internal/rpc",
    "internal/resp",
  ],
};

function served(): string[] {
  const below = ["store", "replication", "replication/core", "identity", "metrics", "base"];
  return ["api/gen", ...below.map((room) => `internal/${room}`)];
}

/** The places that may use a foreign package, each a room or a single file. A package that is not here may be used nowhere. */
export const packages: Readonly<Record<string, readonly string[]>> = {
  "@bufbuild/protobuf": ["api/gen", "api/client", "internal/rpc", "internal/rpc/fast-path", "cmd"],
  "@connectrpc/connect": ["internal/rpc", "api/client", "cmd"],
  "@connectrpc/connect-node": ["internal/rpc", "api/client", "cmd"],
  "@connectrpc/connect-web": ["api/client", "cmd"],
  "@opentelemetry/api": ["internal/rpc/tracing.ts"],
  "cli-table3": ["cmd"],
  commander: ["cmd"],
  "lru-cache": ["cmd"],
  picocolors: ["cmd"],
  pino: ["cmd"],
  "pino-pretty": ["cmd"],
  yaml: ["internal/config"],
  zod: ["internal/config"],
};

const filePort = "internal/wal/node-file-system.ts";
const servers = ["internal/rpc", "internal/resp", "cmd"];
/** The client's half for Node calls; its half for browsers may not, which `browserEntry` sees to. */
const callers = [...servers, "api/client"];

/** As `packages`, for the parts of Node that touch the machine. The others are free to all but the pure core. */
export const nodeModules: Readonly<Record<string, readonly string[]>> = {
  "node:fs": [filePort, "internal/config", "cmd"],
  "node:fs/promises": [filePort, "internal/config", "cmd"],
  "node:child_process": [filePort, "cmd"],
  "node:worker_threads": ["cmd"],
  "node:cluster": [],
  "node:os": [filePort, "internal/config", "cmd"],
  "node:process": ["cmd"],
  "node:http": callers,
  "node:https": callers,
  "node:http2": callers,
  "node:net": servers,
  "node:tls": servers,
  "node:dns": servers,
  "node:dgram": [],
  "node:module": [],
  "node:vm": [],
};

/** What of the above anybody may use, because it touches nothing. */
const harmless: Readonly<Record<string, readonly string[]>> = { "node:net": ["isIP", "isIPv4", "isIPv6"] };

const pureCore = "internal/replication/core";

/** The browser's way into the client: nothing of Node may be reached from here. */
export const browserEntry = "api/client/index.ts";

/** Every breach of the map, as a line that says where it is and what is wrong. */
export function breaches(files: readonly SourceFile[]): string[] {
  const found: string[] = [];
  const byPath = new Map(files.map((file) => [file.path, file]));
  for (const file of files) {
    const room = roomOf(file.path);
    if (room === undefined) {
      found.push(`${file.path}: stands in no room of the map`);
      continue;
    }
    for (const imported of importsOf(file)) {
      const wrong = breachOf(file.path, room, imported, byPath);
      if (wrong !== undefined) found.push(`${file.path}:${imported.line}: ${wrong}`);
    }
  }
  return [...found, ...browserBreaches(byPath)];
}

/** The room of a file: the longest one that it stands in. */
export function roomOf(file: string): string | undefined {
  const holding = Object.keys(rooms).filter((room) => file.startsWith(`${room}/`));
  return holding.sort((a, b) => b.length - a.length)[0];
}

function breachOf(
  from: string,
  room: string,
  { specifier, names }: Import,
  files: ReadonlyMap<string, SourceFile>,
): string | undefined {
  if (specifier === "(computed)") return "imports a name that it computes; write it out";
  if (specifier.startsWith(".")) return roomBreach(from, room, specifier, files);
  if (isTest(from)) return undefined;
  if (specifier.startsWith("node:")) {
    if (room === pureCore) return `the core is pure, and imports ${specifier}`;
    if (names?.every((name) => harmless[specifier]?.includes(name))) return undefined;
    return placeBreach(from, room, specifier, nodeModules[specifier]);
  }
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  return placeBreach(from, room, specifier, packages[name] ?? []);
}

function roomBreach(
  from: string,
  room: string,
  specifier: string,
  files: ReadonlyMap<string, SourceFile>,
): string | undefined {
  const target = path.join(path.dirname(from), specifier.replace(/\.js$/, ".ts"));
  if (!specifier.endsWith(".js") || !files.has(target)) return `imports ${specifier}, which is not there`;
  if (isTest(target) && !isTest(from)) return `imports ${specifier}, which belongs to the tests`;
  const targetRoom = roomOf(target);
  if (targetRoom === undefined) return `imports ${specifier}, which stands in no room of the map`;
  const allowed = isTest(from) ? reachOf(room) : new Set(rooms[room]);
  if (targetRoom === room || allowed.has(targetRoom)) return undefined;
  // The tests of a room inside another share what that one has written for tests.
  if (isTest(from) && room.startsWith(`${targetRoom}/`) && target.startsWith(`${targetRoom}/testing/`))
    return undefined;
  return `${room} may not import ${targetRoom} (${specifier})`;
}

function placeBreach(
  from: string,
  room: string,
  specifier: string,
  places: readonly string[] | undefined,
): string | undefined {
  if (places === undefined || places.includes(room) || places.includes(from)) return undefined;
  return `${room} may not import ${specifier}${places.length > 0 ? `: only ${places.join(", ")} may` : ""}`;
}

/** Test files, and what is written for them. */
function isTest(file: string): boolean {
  return /\.(test|bench)\.ts$/.test(file) || file.includes("/testing/");
}

/** The rooms that a room reaches, through others too. */
function reachOf(room: string, seen = new Set<string>()): Set<string> {
  for (const next of rooms[room] ?? []) {
    if (seen.has(next)) continue;
    seen.add(next);
    reachOf(next, seen);
  }
  return seen;
}

function browserBreaches(files: ReadonlyMap<string, SourceFile>): string[] {
  const found: string[] = [];
  const seen = new Set<string>();
  const follow = (file: SourceFile | undefined): void => {
    if (!file || seen.has(file.path)) return;
    seen.add(file.path);
    for (const { specifier, line } of importsOf(file)) {
      if (specifier.startsWith("node:") || specifier === "@connectrpc/connect-node") {
        found.push(`${file.path}:${line}: ${browserEntry} is for browsers too, and reaches ${specifier} here`);
      } else if (specifier.startsWith(".")) {
        follow(files.get(path.join(path.dirname(file.path), specifier.replace(/\.js$/, ".ts"))));
      }
    }
  };
  follow(files.get(browserEntry));
  return found;
}
