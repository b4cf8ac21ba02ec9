/** What a whole node tells at /metrics, and that the dashboard, the alerts and the documentation know of it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { format } from "prettier";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import { createClient } from "../api/client/node.js";
import { SystemClock } from "../internal/base/clock.js";
import type { LogFields } from "../internal/base/logger.js";
import { silentLogger } from "../internal/base/logger.js";
import { parseConfig } from "../internal/config/config.js";
import { Credentials } from "./credentials.js";
import { RunningNode } from "./node.js";
import { processMetrics } from "./process-metrics.js";
import { selectedBy } from "./testing/promql.js";

const root = path.resolve(import.meta.dirname, "..");
const SECRET = "a value that nobody but its owner may see";

let node: RunningNode;
let address = "";
let directory = "";
const lines: { message: string; fields: LogFields | undefined }[] = [];

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "cambium-metrics-"));
  const text = `server: { port: 0 }\nwal: { directory: ${JSON.stringify(directory)} }\nlog: { slow_threshold: 1ms }\n`;
  const note = (message: string, fields?: LogFields): void => void lines.push({ message, fields });
  const config = parseConfig({ kind: "master", file: "node.yaml", text, environment: {} });
  node = new RunningNode({
    config,
    credentials: new Credentials(config, new SystemClock()),
    kind: "master",
    logger: { ...silentLogger, debug: note, info: note, warn: note, error: note, level: "debug" },
    processMetrics: processMetrics(),
  });
  await node.start();
  address = String(lines.find(({ message }) => message === "listening")!.fields!["address"]);
  const client = createClient({ endpoints: [address] });
  await client.setStorageLimits({ maxEntries: 2, evictionPolicy: "lru" });
  for (const key of ["a", "b", "c", "d"]) await client.set(key, SECRET);
  await client.get("a");
  await client.createSnapshot();
  client.close();
});

afterAll(async () => {
  await node.close();
  rmSync(directory, { recursive: true });
});

interface Page {
  readonly text: string;
  readonly types: ReadonlyMap<string, { type: string; help: string }>;
  readonly samples: ReadonlyMap<string, number>;
}

async function scrape(): Promise<Page> {
  const text = await (await fetch(`http://${address}/metrics`)).text();
  const types = new Map<string, { type: string; help: string }>();
  const samples = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [, kind, name, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind === "HELP") types.set(name!, { type: "", help: rest! });
    else if (kind === "TYPE") types.set(name!, { ...types.get(name!)!, type: rest! });
    else if (line !== "")
      samples.set(line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1)));
  }
  return { text, types, samples };
}

/** The metric of a sample's name. */
function metricOf(name: string, { types }: Page): { type: string; help: string } | undefined {
  const base = name.replace(/_(bucket|sum|count)$/, "");
  return types.get(name) ?? (types.get(base)?.type === "histogram" ? types.get(base) : undefined);
}

describe("/metrics of a node", () => {
  test("has lines that the format allows, and no others", async () => {
    const { text } = await scrape();
    const sample =
      /^[a-z_][a-z_0-9]*(\{([a-z_]+="([^"\\\n]|\\[\\"n])*",?)+\})? (-?[0-9.]+(e[-+]?[0-9]+)?|[+-]Inf|NaN)$/;
    const comment = /^# (HELP [a-z_0-9]+ .+|TYPE [a-z_0-9]+ (counter|gauge|histogram))$/;
    expect(text.endsWith("\n")).toBe(true);
    const wrong = text
      .slice(0, -1)
      .split("\n")
      .filter((line) => !sample.test(line) && !comment.test(line));
    expect(wrong).toEqual([]);
  });

  test("tells each value once, under a metric that it has described before", async () => {
    const page = await scrape();
    const names = page.text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    expect(page.samples.size).toBe(names.length);
    for (const sample of page.samples.keys()) expect(metricOf(sample.split("{")[0]!, page), sample).toBeDefined();
  });

  test("tells what has happened", async () => {
    const { samples } = await scrape();
    expect(Object.fromEntries(samples)).toMatchObject({
      cambium_ready: 1,
      cambium_serving_master: 1,
      cambium_master_known: 1,
      'cambium_role{role="master"}': 1,
      'cambium_role{role="replica"}': 0,
      cambium_epoch: 1,
      cambium_keys: 2,
      cambium_limit_keys: 2,
      cambium_limit_bytes: 0,
      cambium_data_bytes: 2 * (1 + SECRET.length),
      cambium_evicted_keys_total: 2,
      cambium_expired_keys_total: 0,
      cambium_snapshot_duration_seconds_count: 1,
      cambium_wal_sync_failures_total: 0,
      cambium_pending_writes: 0,
      'cambium_rpc_duration_seconds_count{service="cambium.v1.KVStore",method="Set",code="ok"}': 4,
      'cambium_rpc_duration_seconds_count{service="cambium.v1.KVStore",method="Get",code="ok"}': 1,
    });
    const value = (name: string): number => samples.get(name) ?? Number.NaN;
    expect(value("cambium_commit_seq")).toBe(value("cambium_applied_seq"));
    for (const name of [
      "cambium_wal_records_total",
      "cambium_wal_written_bytes_total",
      "cambium_wal_sync_duration_seconds_count",
      "cambium_wal_size_bytes",
      "cambium_snapshot_size_bytes",
      "cambium_snapshot_last_time_seconds",
      "cambium_disk_free_bytes",
      "process_start_time_seconds",
      "process_cpu_seconds_total",
      "process_resident_memory_bytes",
      "nodejs_heap_size_used_bytes",
    ])
      expect(value(name), name).toBeGreaterThan(0);
    expect(Math.abs(value("cambium_snapshot_last_time_seconds") - Date.now() / 1000)).toBeLessThan(3600);
  });

  test("has units in the names, and keys in no label", async () => {
    const { types, samples } = await scrape();
    for (const name of types.keys()) expect(name).not.toMatch(/_(ms|millis|kb|mb|kib|mib)(_|$)/);
    const names = new Set(
      [...samples.keys()].flatMap((sample) => [...sample.matchAll(/[{,]([a-z_]+)="/g)].map(([, label]) => label)),
    );
    expect([...names].toSorted()).toEqual(["code", "kind", "le", "method", "reason", "role", "service", "version"]);
  });

  test("is documented, name by name", async () => {
    const { types } = await scrape();
    const file = path.join(root, "docs", "metrics.md");
    const rows = [...types].map(
      ([name, { type, help }]) => `| \`${name}\` | ${type} | ${help.replaceAll("|", "\\|")} |`,
    );
    const table = ["| Name | Type | Meaning |", "| --- | --- | --- |", ...rows].join("\n");
    const marks = [
      "<!-- The table is held against a node by cmd/node-metrics.test.ts: run it with -u. -->",
      "<!-- End of the table. -->",
    ] as const;
    const text = readFileSync(file, "utf8");
    const [head, rest] = text.split(marks[0]) as [string, string];
    const tail = rest.split(marks[1])[1]!;
    const wanted = await format(`${head}${marks[0]}\n\n${table}\n\n${marks[1]}${tail}`, {
      parser: "markdown",
      printWidth: 120,
    });
    await expect(wanted).toMatchFileSnapshot(file);
  });
});

describe("what the log tells", () => {
  test("of changes of role, of members and of settings is marked for the audit", () => {
    const audited = lines.filter(({ fields }) => fields?.["audit"] === true).map(({ message }) => message);
    expect(audited).toEqual([
      "a mastership begins",
      "this node is master",
      "the members are",
      "the replicated settings are",
      "an operator's call",
    ]);
  });

  test("is never a value", () => {
    expect(lines.length).toBeGreaterThan(5);
    expect(JSON.stringify(lines)).not.toContain(SECRET);
    expect(JSON.stringify(lines)).not.toContain(Buffer.from(SECRET).toString("base64"));
  });
});

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly type: string;
    readonly targets?: readonly { readonly expr: string }[];
  }[];
  readonly templating: { readonly list: readonly { readonly query: string }[] };
}

interface Alerts {
  readonly groups: readonly {
    readonly name: string;
    readonly rules: readonly {
      readonly alert: string;
      readonly expr: string;
      readonly annotations: { readonly summary: string; readonly description: string };
      readonly labels: { readonly severity: string };
    }[];
  }[];
}

const dashboard = JSON.parse(readFileSync(path.join(root, "configs/grafana-dashboard.json"), "utf8")) as Dashboard;
const alerts = parseYaml(readFileSync(path.join(root, "configs/alerts.yaml"), "utf8")) as Alerts;
const rules = alerts.groups.flatMap((group) => group.rules);

/** What Prometheus itself adds. */
const FOREIGN_METRICS = new Set(["up"]);
const FOREIGN_LABELS = new Set(["job", "instance", "le"]);

async function unknownIn(expressions: readonly string[]): Promise<string[]> {
  const page = await scrape();
  const known = new Set(
    [...page.samples.keys()].flatMap((sample) => [...sample.matchAll(/[{,]([a-z_]+)="/g)].map(([, label]) => label!)),
  );
  const unknown: string[] = [];
  for (const { name, labels } of expressions.flatMap(selectedBy)) {
    if (!FOREIGN_METRICS.has(name) && !metricOf(name, page)) unknown.push(name);
    for (const label of labels) if (!known.has(label) && !FOREIGN_LABELS.has(label)) unknown.push(`${name}{${label}}`);
  }
  return unknown;
}

describe("the dashboard", () => {
  const expressions = dashboard.panels.flatMap(({ targets }) => targets?.map(({ expr }) => expr) ?? []);

  test("looks at metrics that there are, in each of its panels", async () => {
    for (const { title, type, targets } of dashboard.panels) {
      if (type !== "row") expect(targets?.length, title).toBeGreaterThan(0);
    }
    expect(expressions.length).toBeGreaterThan(30);
    for (const expression of expressions) expect(selectedBy(expression).length, expression).toBeGreaterThan(0);
    expect(await unknownIn(expressions)).toEqual([]);
    const queries = dashboard.templating.list.flatMap(
      ({ query }) => /^label_values\((.*), \w+\)$/.exec(query)?.[1] ?? [],
    );
    expect(queries.length).toBe(2);
    expect(await unknownIn(queries)).toEqual([]);
  });
});

describe("the alerts", () => {
  test("look at metrics that there are, and say what is wrong", async () => {
    expect(rules.length).toBeGreaterThan(10);
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    for (const { alert, expr, annotations, labels } of rules) {
      expect(selectedBy(expr).length, alert).toBeGreaterThan(0);
      expect(annotations.summary && annotations.description, alert).toBeTruthy();
      expect(["critical", "warning", "info"], alert).toContain(labels.severity);
    }
    expect(await unknownIn(rules.map(({ expr }) => expr))).toEqual([]);
  });

  const promtool = ((): boolean => {
    try {
      execFileSync("promtool", ["--version"], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  })();

  test.skipIf(!promtool)("and the page are right in the eyes of promtool", async () => {
    const file = path.join(root, "configs/alerts.yaml");
    expect(() => execFileSync("promtool", ["check", "rules", file])).not.toThrow();
    const { text } = await scrape();
    expect(() => execFileSync("promtool", ["check", "metrics"], { input: text })).not.toThrow();
  });
});

test("a name or a label that no node tells is noticed", async () => {
  const expression = 'cambium_keys{nothing="a"} + rate(cambium_nothing_total[5m]) + cambium_keys_bucket';
  expect(await unknownIn([expression])).toEqual([
    "cambium_keys{nothing}",
    "cambium_nothing_total",
    "cambium_keys_bucket",
  ]);
});

test("the names in an expression are found, and nothing else is taken for one", () => {
  expect(
    selectedBy('sum by (a, b) (rate(x_total{c="d,e}f",g!~"h"}[5m])) / on (i) group_left(j) (k > 0) or l offset 5m'),
  ).toEqual([
    { name: "x_total", labels: ["c", "g"] },
    { name: "k", labels: [] },
    { name: "l", labels: [] },
  ]);
  expect(selectedBy("sum(m) without (n) > 1e9")).toEqual([{ name: "m", labels: [] }]);
  expect(() => selectedBy("x ? y")).toThrow("what is this: ? y");
});
