/** What a node must not take: a foreign cluster, data of a newer version, a peer that speaks a newer protocol. */
import { randomBytes } from "node:crypto";
import { cp, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type ClusterOptions, TestCluster } from "../harness/cluster.js";
import { digestOf } from "../harness/digest.js";
import { type Message, serviceOf } from "../harness/grpc.js";
import { TestNode } from "../harness/node.js";
import { runProgram } from "../harness/programs.js";
import { call, get, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";

async function startCluster(options: ClusterOptions): Promise<TestCluster> {
  const cluster = await TestCluster.start(options);
  onTestFinished(() => cluster.close());
  return cluster;
}

async function clusterIdOf(node: TestNode): Promise<string> {
  return String((await call(node.address, "Cluster/Status")).body["clusterId"]);
}

test("a replica of another cluster is taken by no master, is told which two clusters, and keeps what it has", async () => {
  const [own, foreign] = await Promise.all([startCluster({ replicas: 1 }), startCluster({ replicas: 0 })]);
  const [replica] = own.replicas as [TestNode];
  await own.setEverywhere("kept", "1");
  await own.setEverywhere("last", "1");
  const ids = { own: await clusterIdOf(replica), foreign: await clusterIdOf(foreign.master) };

  // The master asks.
  const added = await runProgram("cambium", ["members", "add", replica.address, "--endpoints", foreign.master.address]);
  expect(added.code).toBe(1);
  expect(added.stderr).toContain(ids.own);
  expect(added.stderr).toContain(ids.foreign);
  expect(added.stderr.trimEnd().split("\n")).toHaveLength(1);

  // The replica asks.
  expect(await replica.stop()).toBe(0);
  const lost = new TestNode({ ...replica.options, config: { master: { address: foreign.master.address } } });
  onTestFinished(async () => {
    if (lost.running) await lost.kill();
  });
  await lost.start();
  const refusal = await until("the node says why", () =>
    lost.log.find(({ msg }) => msg.startsWith("the master does not take this replica")),
  );
  expect(refusal["reason"]).toContain(ids.own);
  expect(refusal["reason"]).toContain(ids.foreign);
  expect(await get(lost.address, "kept")).toBe("1");
  expect((await status(foreign.master.address)).members).toHaveLength(1);
  expect(await lost.stop()).toBe(0);

  await replica.start();
  await own.setEverywhere("after", "1");
});

/** Raises a format's number at `at`, and writes the checksum at `crcAt` anew. */
function raiseFormat(file: Buffer, at: number, crcAt: number, headerBytes: number): void {
  file.writeUInt32LE(file.readUInt32LE(at) + 1, at);
  const header = Buffer.from(file.subarray(0, headerBytes));
  const withoutCrc = Buffer.concat([header.subarray(0, crcAt), header.subarray(crcAt + 4)]);
  file.writeUInt32LE(crc32(withoutCrc), crcAt);
}

/** What a later version may write, by the file that tells it. */
const newer: readonly { what: string; file: RegExp; raise: (file: Buffer) => Buffer }[] = [
  {
    what: "the log",
    file: /^wal\/\d+\.wal$/,
    raise: (file) => {
      raiseFormat(file, 8, 12, 80);
      return file;
    },
  },
  {
    what: "the record log",
    file: /^records\/\d+\.wal$/,
    raise: (file) => {
      raiseFormat(file, 8, 12, 80);
      return file;
    },
  },
  {
    what: "a snapshot",
    file: /^snapshots\/.*\.snap(shot)?$/,
    raise: (file) => {
      file.writeUInt32LE(file.readUInt32LE(8) + 1, 8);
      const header = Buffer.from(file.subarray(0, 80));
      header.writeUInt32LE(0, 12);
      file.writeUInt32LE(crc32(header), 12);
      return file;
    },
  },
  {
    what: "what the node knows of itself",
    file: /^node\.json$/,
    raise: (file) => {
      const [, body] = file.toString().split("\n");
      const raised = JSON.stringify({ ...(JSON.parse(body!) as object), format: 1000 });
      return Buffer.from(`${JSON.stringify({ crc32: crc32(raised) })}\n${raised}\n`);
    },
  },
];

describe("data of a newer version keep a node from starting, with one line that says so, and no byte changes", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await TestCluster.start({ replicas: 1 });
    await call(cluster.master.address, "Log/Produce", { records: ["AQ=="] });
    await cluster.setEverywhere("k", "1");
    for (const node of cluster.nodes) {
      expect((await call(node.address, "Cluster/CreateSnapshot")).status).toBe(200);
      expect(await node.stop()).toBe(0);
    }
  });
  afterAll(() => cluster.close());

  test.each(newer)("$what", async ({ what, file, raise }) => {
    for (const { dataDirectory, options } of cluster.nodes) {
      const copy = new TestNode({ ...options, directory: path.join(options.directory, what) });
      await cp(dataDirectory, copy.dataDirectory, { recursive: true });
      const names = Object.keys(await digestOf(copy.dataDirectory)).filter((name) => file.test(name));
      expect(names).not.toEqual([]);
      for (const name of names) {
        const full = path.join(copy.dataDirectory, name);
        await writeFile(full, raise(await readFile(full)));
      }
      const before = await digestOf(copy.dataDirectory);
      await expect(copy.start()).rejects.toThrow(/newer/);
      expect(await copy.ended()).toBe(1);
      expect(copy.stderr.trimEnd().split("\n")).toHaveLength(1);
      expect(await digestOf(copy.dataDirectory)).toEqual(before);
    }
  });
});

const Replication = serviceOf("cambium.v1.Replication");

test("a master that speaks a newer protocol is refused, with both versions named", async () => {
  const cluster = await startCluster({ replicas: 1 });
  const [replica] = cluster.replicas as [TestNode];
  await cluster.setEverywhere("k", "1");
  const client = new Replication(replica.address, grpc.credentials.createInsecure());
  onTestFinished(() => client.close());
  const stream = (client["push"] as () => grpc.ClientDuplexStream<Message, Message>).call(client);
  const answer = new Promise<Message>((resolve, reject) => {
    stream.on("data", resolve);
    stream.on("error", reject);
  });
  stream.on("error", () => undefined);
  const history = [{ epoch: 9_000_000, epoch_id: 7, first_seq: 1 }];
  stream.write({
    cluster_id: Buffer.from(await clusterIdOf(replica), "hex"),
    epoch: 9_000_000,
    sender: randomBytes(16),
    hello: { protocol_version: 2, epoch_id: 7, master_address: "127.0.0.1:1", history, last: { epoch: 1, seq: 1 } },
  });
  expect(await answer).toMatchObject({
    reject: {
      reason: "REJECT_REASON_PROTOCOL_VERSION",
      detail: expect.stringMatching(/version 1 of the protocol, the master 2/) as string,
    },
  });
  // It was heard, and nothing more: the replica goes on with its own master.
  await cluster.setEverywhere("k", "2");
});

test("a replica that speaks a newer protocol is not pushed to, and the master's status says why", async () => {
  const cluster = await startCluster({ replicas: 0 });
  const envelope = {
    cluster_id: Buffer.from(await clusterIdOf(cluster.master), "hex"),
    epoch: 1,
    sender: randomBytes(16),
  };
  const server = new grpc.Server();
  onTestFinished(() => server.forceShutdown());
  server.addService(Replication.service, {
    push: (stream: grpc.ServerDuplexStream<Message, Message>) => {
      stream.on("error", () => undefined);
      stream.on("data", () =>
        stream.write({
          ...envelope,
          welcome: { protocol_version: 2, history: [], last: { epoch: 0, seq: 0 }, heartbeat_interval_ms: 1000 },
        }),
      );
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  const added = await runProgram("cambium", [
    "members",
    "add",
    `127.0.0.1:${port}`,
    "--endpoints",
    cluster.master.address,
  ]);
  expect(added.code).toBe(1);
  expect(added.stderr).toMatch(/speaks version 2 of the protocol, this one 1/);
  expect(cluster.master.log.some(({ reason }) => String(reason).includes("version 2 of the protocol"))).toBe(true);
});
