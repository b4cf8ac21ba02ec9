/** A cluster that knows who calls it: tokens, roles, and a file that is read again. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type ConfigSections, TestNode } from "../harness/node.js";
import { runProgram } from "../harness/programs.js";
import { request } from "../harness/rpc.js";
import { until } from "../harness/until.js";

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "cambium-identities-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function makeToken(file: string, ...args: string[]): Promise<string> {
  const made = await runProgram("cambium", ["token", "create", "--file", file, ...args]);
  expect(made.stderr).toContain("SIGHUP");
  return made.stdout.trim();
}

async function startNode(program: "master" | "replica", directory: string, config: ConfigSections): Promise<TestNode> {
  const node = new TestNode({ program, directory, config });
  onTestFinished(async () => {
    if (node.running) await node.kill();
  });
  return node.start();
}

test("a cluster serves who has a token, forwards their writes, and revokes a token without a restart", async () => {
  const folder = await makeFolder();
  const file = path.join(folder, "identities");
  const secretFile = path.join(folder, "secret");
  await writeFile(secretFile, randomBytes(32).toString("hex"), { mode: 0o600 });
  const web = await makeToken(file, "--role", "writer", "--name", "web", "--prefix", "web/");
  const ops = await makeToken(file, "--role", "admin", "--name", "ops");

  const config = { server: { identity_file: file, forward_writes: true }, cluster: { secret_file: secretFile } };
  const call = async (address: string, method: string, message: unknown, token?: string): Promise<number> => {
    const answer = await request(address, `/cambium.v1.${method}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(message),
    });
    return answer.status;
  };
  const master = await startNode("master", path.join(folder, "master"), config);
  const replica = await startNode("replica", path.join(folder, "replica"), {
    ...config,
    master: { address: master.address },
  });
  const nodes = [master, replica];
  const endpoints = nodes.map(({ address }) => address).join(",");
  const isReady = async (): Promise<boolean> => (await request(replica.address, "/readyz")).status === 200;
  await until("the replica is ready", isReady);

  for (const { address } of nodes) {
    expect(await call(address, "KVStore/Set", { key: "web/a" })).toBe(401);
    expect(await call(address, "KVStore/Set", { key: "other" }, web)).toBe(403);
    expect(await call(address, "KVStore/Set", { key: "web/a", value: "YQ==" }, web)).toBe(200);
    expect(await call(address, "Cluster/Promote", {}, web)).toBe(403);
    expect(await call(address, "Replication/Survey", {}, ops)).toBe(403);
  }

  const environment = { CAMBIUM_TOKEN: ops, CAMBIUM_ENDPOINTS: endpoints };
  const status = await runProgram("cambium", ["status"], { env: environment });
  expect(status.code).toBe(0);
  const tokenFile = path.join(folder, "token");
  await writeFile(tokenFile, `${web}\n`, { mode: 0o600 });
  const got = await runProgram("cambium", ["get", "web/a", "--token-file", tokenFile, "-e", endpoints]);
  expect(got).toMatchObject({ code: 0, stdout: expect.stringContaining("a") });

  const kept = (await readFile(file, "utf8")).split("\n").filter((line) => !line.startsWith("web "));
  await writeFile(file, kept.join("\n"), { mode: 0o600 });
  for (const node of nodes) node.signal("SIGHUP");
  for (const { address } of nodes) {
    await until(
      "the token is revoked",
      async () => (await call(address, "KVStore/Get", { key: "web/a" }, web)) === 401,
    );
    expect(await call(address, "KVStore/Get", { key: "web/a" }, ops)).toBe(200);
  }

  for (const { log } of nodes) {
    expect(log.find(({ msg }) => msg === "credentials are read again")).toMatchObject({ audit: true, identities: 1 });
    const refused = log.filter(({ msg }) => msg === "a call was refused");
    expect(refused.map(({ method, identity, reason }) => ({ method, identity, reason }))).toEqual([
      { method: "cambium.v1.KVStore/Set", reason: "no_credential" },
      { method: "cambium.v1.KVStore/Set", identity: "web", reason: "outside_prefixes" },
      { method: "cambium.v1.Cluster/Promote", identity: "web", reason: "not_allowed" },
      { method: "cambium.v1.Replication/Survey", identity: "ops", reason: "not_allowed" },
      { method: "cambium.v1.KVStore/Get", reason: "bad_credential" },
    ]);
    for (const line of refused) expect(line).toMatchObject({ audit: true, caller: "127.0.0.1" });
  }

  // A file that is wrong is told, and changes nothing.
  await writeFile(file, "nonsense", { mode: 0o600 });
  master.signal("SIGHUP");
  const told = await until("the node says what is wrong", () =>
    master.log.find(({ msg }) => msg.startsWith("credentials could not be read again")),
  );
  expect(told["audit"]).toBe(true);
  expect(told["error"]).toContain(`${file}:1: must have a name`);
  expect(await call(master.address, "KVStore/Get", { key: "k" }, ops)).toBe(200);
});

test("a node does not start with a file of identities that others can read, or that is wrong", async () => {
  const folder = await makeFolder();
  const file = path.join(folder, "identities");
  const config = path.join(folder, "node.yaml");
  await writeFile(config, `server: { identity_file: ${file} }\nwal: { directory: ${folder}/data }\n`);
  const check = () => runProgram("master", ["--config", config, "--check-config"]);
  expect(await check()).toMatchObject({ code: 2, stderr: expect.stringContaining("ENOENT") });
  await writeFile(file, "web writer sha256:1\n", { mode: 0o644 });
  expect(await check()).toMatchObject({ code: 2, stderr: expect.stringContaining("chmod 600") });
  await rm(file);
  await writeFile(file, "web writer sha256:1\n", { mode: 0o600 });
  expect(await check()).toMatchObject({ code: 2, stderr: expect.stringContaining(`${file}:1: has no credential`) });
});
