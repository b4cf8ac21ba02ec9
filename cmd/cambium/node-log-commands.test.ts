import { afterEach, beforeEach, expect, test } from "vitest";
import { FakeCluster } from "../../api/client/testing/fake-cluster.js";
import { cambium, type Outcome } from "./testing/test-terminal.js";

let cluster: FakeCluster;
beforeEach(async () => {
  cluster = await new FakeCluster().start(1);
});
afterEach(() => cluster.close());

const run = (...args: string[]): Promise<Outcome> =>
  cambium(["--endpoints", cluster.nodes.map(({ address }) => address).join(","), ...args]);

test("log-level changes the level of a node, and says what it was", async () => {
  const [node] = cluster.nodes;
  expect(await run("log-level", "debug")).toMatchObject({
    exitCode: 0,
    stdout: `http://${node!.address} writes lines from debug on; before: info\n`,
  });
  expect(node!.logLevel).toBe("debug");
});

test("log-level refuses another word as wrong usage", async () => {
  const { exitCode, stderr } = await run("log-level", "loud");
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining("debug, info, warn, error")]);
  expect(cluster.nodes[0]!.requests).toEqual([]);
});

const call = {
  method: "cambium.v1.KVStore/Set",
  startedMs: 1_700_000_000_000n,
  durationMs: 1500n,
  code: "unavailable",
  requestId: "id-1",
  callerAddress: "10.0.0.1",
  identity: "web",
  keys: 1n,
  keyBytes: 4n,
  valueBytes: 2044n,
  firstKey: "a\u001b[2Jb\u009b",
};

test("slowlog shows the calls that took long, and lets no key write to the terminal", async () => {
  cluster.nodes[0]!.slow = { calls: [call], thresholdMs: 100n, total: 12n };
  const { exitCode, stdout } = await run("slowlog");
  const [title, , head, row] = stdout.split("\n");
  expect(exitCode).toBe(0);
  expect(title).toBe(`12 calls took longer than 100 ms at http://${cluster.nodes[0]!.address}`);
  expect(head!.split(/ {2,}/)).toEqual([
    "STARTED",
    "TOOK",
    "METHOD",
    "CODE",
    "KEYS",
    "BYTES",
    "IDENTITY",
    "CALLER",
    "REQUEST",
    "FIRST KEY",
  ]);
  expect(row!.split(/ {2,}/)).toEqual([
    "2023-11-14T22:13:20.000Z",
    "1.5 s",
    "KVStore/Set",
    "unavailable",
    "1",
    "2 KiB",
    "web",
    "10.0.0.1",
    "id-1",
    '"a\\u001b[2Jb?"',
  ]);
});

test("slowlog as JSON has all of it", async () => {
  cluster.nodes[0]!.slow = { calls: [call], thresholdMs: 100n, total: 12n };
  expect(JSON.parse((await run("slowlog", "--json")).stdout)).toEqual({
    endpoint: `http://${cluster.nodes[0]!.address}`,
    thresholdMs: 100,
    total: 12,
    calls: [{ ...call, startedMs: 1_700_000_000_000, durationMs: 1500, keys: 1, keyBytes: 4, valueBytes: 2044 }],
  });
});

test("slowlog says when there is nothing to show, and why", async () => {
  const { address } = cluster.nodes[0]!;
  expect((await run("slowlog")).stdout).toBe(`no call took longer than 100 ms at http://${address}\n`);
  cluster.nodes[0]!.slow = {};
  expect((await run("slowlog")).stdout).toBe(`http://${address} keeps no slow calls: log.slow_threshold is 0s\n`);
});
