/** A cluster that speaks TLS to clients, and mutual TLS on a listener for its nodes; certificates change while it runs. */
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { readFileSync } from "node:fs";
import { connect } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { createClient } from "../../api/client/node.js";
import { type ConfigSections, TestNode } from "../harness/node.js";
import { root, runProgram } from "../harness/programs.js";
import { until } from "../harness/until.js";

const fixture = (file: string): string => path.join(root, "internal/rpc/testing/tls", `test-only-${file}`);

async function startNode(program: "master" | "replica", directory: string, config: ConfigSections): Promise<TestNode> {
  const node = new TestNode({ program, directory, config });
  onTestFinished(async () => {
    if (node.running) await node.kill();
  });
  return node.start();
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test("clients and nodes speak TLS, writes are forwarded, and a renewed certificate counts without a restart", async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), "cambium-tls-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const [cert, key] = [path.join(folder, "node.crt"), path.join(folder, "node.key")];
  const install = async (name: string): Promise<void> => {
    await copyFile(fixture(`${name}.crt`), cert);
    await copyFile(fixture(`${name}.key`), key);
  };
  await install("node");
  const files = { cert_file: cert, key_file: key, ca_file: fixture("ca.crt") };
  const peerPort = await freePort();
  const config = (host: string): ConfigSections => ({
    tls: files,
    server: { forward_writes: true, advertise: `${host}:8080` },
    replication: { ...files, listen: `${host}:${peerPort}` },
  });
  // The nodes know each other by different hosts, and call at one port.
  const master = await startNode("master", path.join(folder, "master"), config("127.0.0.1"));
  const replica = await startNode("replica", path.join(folder, "replica"), {
    ...config("127.0.0.2"),
    master: { address: "127.0.0.1:8080" },
  });
  const ca = readFileSync(fixture("ca.crt"), "utf8");
  const clientOf = (node: TestNode) => {
    const client = createClient({ endpoints: [`https://${node.address}`], ca });
    onTestFinished(() => client.close());
    return client;
  };
  const [atMaster, atReplica] = [clientOf(master), clientOf(replica)];
  await until("the replica is ready", async () => (await atReplica.status()).node.ready);
  const { token } = await atReplica.set("a", "1");
  const read = await atReplica.get("a", { consistency: { atLeast: token } } as never);
  expect(Buffer.from(read?.value ?? "").toString()).toBe("1");
  expect(Buffer.from((await atMaster.get("a"))?.value ?? "").toString()).toBe("1");
  const plain = createClient({ endpoints: [master.address], timeoutMs: 2000, readRounds: 1 });
  onTestFinished(() => plain.close());
  await expect(plain.get("a")).rejects.toMatchObject({ code: "unreachable" });
  const told = await runProgram("cambium", [
    "get",
    "a",
    "-e",
    `https://${replica.address}`,
    "--ca-file",
    fixture("ca.crt"),
  ]);
  expect(told).toMatchObject({ code: 0, stdout: expect.stringContaining("1") });

  const serialOf = (port: number): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port, ca }, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.on("error", reject);
    });
  const before = await serialOf(master.port);
  await install("node-renewed");
  for (const node of [master, replica]) node.signal("SIGHUP");
  await until("the new certificate is shown", async () => (await serialOf(master.port)) !== before);
  expect(Buffer.from((await atMaster.get("a"))?.value ?? "").toString()).toBe("1");
  await atReplica.set("b", "2");
  expect(await replica.stop()).toBe(0);
  expect(await master.stop()).toBe(0);
}, 60_000);
