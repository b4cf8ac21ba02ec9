/** What the programs write to their logs, and how an operator changes that. */
import { mkdtemp, writeFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { TestCluster } from "../harness/cluster.js";
import type { TestNode } from "../harness/node.js";
import { runProgram } from "../harness/programs.js";
import { until } from "../harness/until.js";

const VALUE = "a-value-that-nobody-else-may-see";
const SECRET = "the-secret-of-this-cluster-1234567890";

const call = (address: string, method: string, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`http://${address}/cambium.v1.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });

test("neither values nor secrets are in the log of a node, however much it tells, nor in what it tells of itself", async () => {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-secret-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const secretFile = path.join(directory, "secret");
  await writeFile(secretFile, SECRET, { mode: 0o600 });
  const config = { log: { level: "debug", slow_threshold: "1ms" }, cluster: { secret_file: secretFile } };
  const cluster = await TestCluster.start({ replicas: 1, masterConfig: config, replicaConfig: config });
  onTestFinished(() => cluster.close());
  const { master } = cluster;
  await cluster.setEverywhere("key", VALUE);
  const value = Buffer.from(VALUE).toString("base64");
  // What is right, what is wrong, and what is no message at all.
  await call(master.address, "KVStore/Set", JSON.stringify({ key: "key", value, ifAbsent: true }));
  await call(master.address, "KVStore/Set", JSON.stringify({ key: "", value }));
  await call(master.address, "KVStore/Set", `{"key":"key","value":"${value}"`);
  await call(cluster.replicas[0]!.address, "KVStore/Set", JSON.stringify({ key: "key", value }));
  await call(master.address, "Replication/Survey", "{}", { authorization: `Bearer ${SECRET}-guessed` });
  await call(master.address, "Log/Produce", JSON.stringify({ record: value }));
  const slow = await (await call(master.address, "Cluster/SlowLog", "{}")).text();
  const metrics = await (await fetch(`http://${master.address}/metrics`)).text();
  await cluster.close();
  const told = [slow, metrics, ...cluster.nodes.flatMap(({ log, stderr }) => [JSON.stringify(log), stderr])].join("\n");
  expect(told).toContain('"level":"debug"');
  for (const hidden of [VALUE, value, SECRET, Buffer.from(SECRET).toString("base64")])
    expect(told).not.toContain(hidden);
});

test("cambium log-level changes what a node writes while it runs, which the audit tells", async () => {
  const cluster = await TestCluster.start({ replicas: 0 });
  onTestFinished(() => cluster.close());
  const { master } = cluster;
  const change = (level: string): ReturnType<typeof runProgram> =>
    runProgram("cambium", ["log-level", level, "--endpoints", master.address]);
  const audited = (): unknown[] => master.log.filter(({ msg }) => msg === "an operator's call").map(({ code }) => code);
  expect(await change("warn")).toMatchObject({ code: 0, stdout: expect.stringContaining("before: info") });
  expect(await change("info")).toMatchObject({ code: 0, stdout: expect.stringContaining("before: warn") });
  // That of the first change too, although lines of its kind were hidden by then.
  await until("the lines of both changes are there", () => audited().length === 2);
  expect(audited()).toEqual(["ok", "ok"]);
  expect(master.log.find(({ msg }) => msg === "an operator's call")).toMatchObject({
    audit: true,
    method: "cambium.v1.Cluster/SetLogLevel",
    caller: "127.0.0.1",
    request_id: expect.any(String),
  });
});

test("who leads, who follows, who belongs and how the cluster is set is in the audit of each node that it concerns", async () => {
  const cluster = await TestCluster.start({ replicas: 1 });
  onTestFinished(() => cluster.close());
  const [first, second] = [cluster.master, cluster.replicas[0]!];
  /** Of lines that say so, or undefined. */
  const audited = ({ log }: TestNode, msg: string): TestNode["log"] =>
    log.filter((line) => line.msg === msg && line["audit"] === true);
  const cambium = (...args: string[]): ReturnType<typeof runProgram> =>
    runProgram("cambium", [...args, "--endpoints", cluster.endpoints]);
  const last = (node: TestNode, msg: string) => (): TestNode["log"][number] | undefined => audited(node, msg).at(-1);

  expect(await cambium("limits", "--max-entries", "1000")).toMatchObject({ code: 0 });
  for (const node of cluster.nodes) {
    await until("the limits are told", () => last(node, "the replicated settings are")()?.["max_entries"] === 1000);
  }
  expect(await cambium("transfer", second.address)).toMatchObject({ code: 0 });
  await until("the new master says so", last(second, "this node is master"));
  await until("the old one says that it follows", last(first, "following a master"));
  expect(audited(first, "this node is master")).toHaveLength(1);
  expect(audited(first, "the mastership was handed over")).toMatchObject([{ address: second.address }]);
  expect(audited(first, "this node's mastership has ended")).toHaveLength(1);
  expect(audited(first, "an operator's call").map(({ method }) => method)).toEqual([
    "cambium.v1.Cluster/SetStorageLimits",
    "cambium.v1.Cluster/Transfer",
  ]);

  await first.kill();
  expect(await cambium("members", "remove", first.address)).toMatchObject({ code: 0 });
  await until("the removal is told", () => {
    const members = String(last(second, "the members are")()?.["members"]);
    return members.includes(second.address) && !members.includes(first.address);
  });
});
