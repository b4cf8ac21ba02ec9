/** The record log through real processes: produced at the master, consumed anywhere, whatever happens to the nodes. */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { createClient as createConnectClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { expect, onTestFinished, test } from "vitest";
import { type CambiumClient, createClient, type ProducedRecord } from "../../api/client/node.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { type ClusterOptions, TestCluster } from "../harness/cluster.js";
import type { TestNode } from "../harness/node.js";
import { runProgram, spawnProgram } from "../harness/programs.js";
import { call } from "../harness/rpc.js";
import { until } from "../harness/until.js";

async function startCluster(options: ClusterOptions): Promise<TestCluster> {
  const cluster = await TestCluster.start(options);
  onTestFinished(() => cluster.close());
  return cluster;
}

/** A client that reads from the given nodes, the first of them first. */
function clientOf(...nodes: TestNode[]): CambiumClient {
  const client = createClient({ endpoints: nodes.map(({ address }) => address) });
  onTestFinished(() => client.close());
  return client;
}

const text = ({ record }: ProducedRecord): string => Buffer.from(record).toString();

/** Records from `offset` on, as many as `count`, waiting for them where they are not there yet. */
async function read(client: CambiumClient, offset: number, count: number): Promise<string[]> {
  const found: string[] = [];
  for await (const record of client.consume({ offset, limit: count })) {
    expect(record.offset).toBe(offset + found.length);
    found.push(text(record));
  }
  return found;
}

async function produceAll(client: CambiumClient, records: readonly string[]): Promise<void> {
  let next: number | undefined;
  for await (const { offset, count } of client.produceMany(records)) {
    expect(offset).toBe(next ?? offset);
    next = offset + count;
  }
}

const numbered = (count: number, from = 0, pad = 0): string[] =>
  Array.from({ length: count }, (_, index) => `record ${from + index} ${"x".repeat(pad)}`);

/** Bytes of the files of a node's record log. */
function recordBytes(node: TestNode): number {
  const directory = path.join(node.dataDirectory, "records");
  return readdirSync(directory).reduce((sum, name) => sum + statSync(path.join(directory, name)).size, 0);
}

test("what is produced at the master is consumed at every node, at the same offsets", async () => {
  const cluster = await startCluster({ replicas: 2 });
  const records = numbered(3000);
  await produceAll(clientOf(cluster.master), records);
  for (const node of cluster.nodes) expect(await read(clientOf(node), 0, 3000)).toEqual(records);
  const [master, replica] = await Promise.all(
    [cluster.master, cluster.replicas[0]!].map(
      async (node) => (await clientOf(node).consume({ offset: 2999 }).next()).value,
    ),
  );
  expect(replica).toEqual(master);
});

test("the forms in JSON are those that others rely on", async () => {
  const cluster = await startCluster({ replicas: 1 });
  const { address } = cluster.master;
  expect((await call(address, "Log/Produce", { record: "AQI=" })).body).toMatchObject({ offset: "0" });
  expect((await call(address, "Log/Consume", { offset: 0 })).body).toMatchObject({ offset: "0", record: "AQI=" });
  expect((await call(address, "Log/Consume", { offset: 1 })).body).toMatchObject({
    code: "out_of_range",
    details: [{ type: "cambium.v1.OffsetRange", debug: { start: "0", end: "1" } }],
  });
  expect((await call(cluster.replicas[0]!.address, "Log/Produce", { record: "AQI=" })).body).toMatchObject({
    code: "failed_precondition",
    details: [{ type: "cambium.v1.NotMaster", debug: { masterAddress: address } }],
  });
});

test("a truncation holds on every node, and what it removed is out of range there", async () => {
  const cluster = await startCluster({ replicas: 1 });
  const client = clientOf(cluster.master);
  await produceAll(client, numbered(10));
  expect(await client.truncateRecords(4)).toMatchObject({ start: 4 });
  for (const node of cluster.nodes) {
    const reader = clientOf(node);
    await until("the truncation is applied", async () => (await reader.recordRange()).start === 4);
    await expect(reader.consume({ offset: 3 }).next()).rejects.toMatchObject({
      code: "out_of_range",
      offsets: { start: 4, end: 10 },
    });
    expect(await read(reader, 4, 6)).toEqual(numbered(6, 4));
  }
  await expect(client.truncateRecords(11)).rejects.toMatchObject({ code: "out_of_range" });
});

test("records outlive the compaction of the log, restarts, and crashes of all nodes at once", async () => {
  const small = {
    wal: { max_file_size: "64KiB" },
    snapshots: { log_bytes: "64KiB" },
    records: { max_file_size: "64KiB" },
  };
  const cluster = await startCluster({ replicas: 1, masterConfig: small, replicaConfig: small });
  const client = clientOf(cluster.master);
  await produceAll(client, numbered(2000, 0, 200));
  const compacted = async (node: TestNode): Promise<boolean> => {
    const { body } = await call(node.address, "Cluster/Status");
    return Number((body as { node: { compactSeq: string } }).node.compactSeq) > 1;
  };
  for (const node of cluster.nodes) {
    let filled = 0;
    await until("the log is compacted", async () => {
      await call(cluster.master.address, "KVStore/Set", {
        key: "filler",
        value: Buffer.alloc(20_000, ++filled).toString("base64"),
      });
      return compacted(node);
    });
  }
  expect(await cluster.master.stop()).toBe(0);
  await cluster.master.start();
  await produceAll(client, numbered(100, 2000, 200));
  await Promise.all(cluster.nodes.map((node) => node.kill()));
  await Promise.all(cluster.nodes.map((node) => node.start()));
  for (const node of cluster.nodes) {
    await node.ready();
    expect(await read(clientOf(node), 0, 2100)).toEqual(numbered(2100, 0, 200));
  }
  expect(await client.produce("next")).toMatchObject({ offset: 2100 });
});

test("every acknowledged record is there after a crash of the master amid production", async () => {
  const cluster = await startCluster({ replicas: 1 });
  const client = clientOf(cluster.master);
  const acknowledged = new Map<number, string>();
  const leaving = new AbortController();
  let stopped = false;
  const producing = Promise.all(
    Array.from({ length: 8 }, async (_, producer) => {
      for (let index = 0; !stopped; index++) {
        const record = `${producer}-${index}`;
        try {
          acknowledged.set((await client.produce(record, { signal: leaving.signal })).offset, record);
        } catch {
          stopped = true;
        }
      }
    }),
  );
  await until("some are acknowledged", () => acknowledged.size > 200);
  await cluster.master.kill();
  // By themselves they would try on until their time is over.
  leaving.abort();
  await producing;
  await cluster.master.start();
  const { start, end } = await client.recordRange();
  expect(start).toBe(0);
  const records = await read(client, 0, end);
  for (const [offset, record] of acknowledged) expect(records[offset]).toBe(record);
  expect(await read(clientOf(cluster.replicas[0]!), 0, end)).toEqual(records);
});

test("a reader goes on by itself when its node is killed, without a hole or a repetition", async () => {
  const cluster = await startCluster({ replicas: 2 });
  const [first, second] = cluster.replicas as [TestNode, TestNode];
  const producer = clientOf(cluster.master);
  const reading = read(clientOf(first, second), 0, 300);
  await produceAll(producer, numbered(100));
  await until("the replica has them", async () => (await clientOf(first).recordRange()).end === 100);
  await first.kill();
  await produceAll(producer, numbered(100, 100));
  await first.start();
  await second.kill();
  await produceAll(producer, numbered(100, 200));
  expect(await reading).toEqual(numbered(300));
});

test("a producer's stream over gRPC is answered with dense offsets in order", async () => {
  const cluster = await startCluster({ replicas: 0 });
  const baseUrl = `http://${cluster.master.address}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  onTestFinished(() => sessionManager.abort());
  const client = createConnectClient(Log, createGrpcTransport({ baseUrl, sessionManager }));
  const records = numbered(5000);
  async function* requests(): AsyncGenerator<{ record: Uint8Array<ArrayBuffer> }> {
    for (const record of records) yield { record: new Uint8Array(Buffer.from(record)) };
  }
  const offsets: number[] = [];
  for await (const { offset } of client.produceStream(requests())) offsets.push(Number(offset));
  expect(offsets).toEqual(records.map((_, index) => index));
  expect(await read(clientOf(cluster.master), 0, 5000)).toEqual(records);
});

test("old records go by their age, and by the size of the log, and leave the disk", async () => {
  const shared = { snapshots: { log_bytes: "64KiB" }, wal: { max_file_size: "64KiB" } };
  const aged = await startCluster({
    replicas: 1,
    masterConfig: { ...shared, records: { max_file_size: "64KiB", retention_age: "1s" } },
  });
  await produceAll(clientOf(aged.master), numbered(50));
  for (const node of aged.nodes) {
    await until("all are too old", async () => (await clientOf(node).recordRange()).start === 50);
  }

  const sized = await startCluster({
    replicas: 0,
    masterConfig: { ...shared, records: { max_file_size: "64KiB", retention_bytes: "256KiB" } },
  });
  const client = clientOf(sized.master);
  await produceAll(client, numbered(2000, 0, 1000));
  const { start } = await until("the oldest are gone", async () => {
    const range = await client.recordRange();
    return range.start > 1700 && range;
  });
  expect(await read(client, start, 2000 - start)).toEqual(numbered(2000 - start, start, 1000));
  await until("their files are gone", async () => {
    await call(sized.master.address, "KVStore/Set", { key: "filler", value: Buffer.alloc(20_000).toString("base64") });
    return recordBytes(sized.master) < 512 * 1024;
  });
});

test("the command line produces lines, follows the log, truncates, and tells the range", async () => {
  const cluster = await startCluster({ replicas: 1 });
  const endpoints = ["--endpoints", cluster.endpoints];
  const produced = await runProgram("cambium", [...endpoints, "log", "produce", "-"], { input: "one\ntwo\nthree\n" });
  expect(produced).toMatchObject({ code: 0, stdout: "produced 3 records, the last at offset 2\n" });

  const follower = spawnProgram("cambium", ["--endpoints", cluster.replicas[0]!.address, "log", "consume", "--follow"]);
  let followed = "";
  follower.stdout!.setEncoding("utf8").on("data", (chunk: string) => (followed += chunk));
  onTestFinished(() => void follower.kill("SIGKILL"));
  await until("the records are followed", () => followed === "one\ntwo\nthree\n");
  await runProgram("cambium", [...endpoints, "log", "produce", "four"]);
  await until("the next one is followed", () => followed === "one\ntwo\nthree\nfour\n");

  expect(await runProgram("cambium", [...endpoints, "log", "truncate", "2"])).toMatchObject({
    code: 0,
    stdout: "the record log begins at offset 2\n",
  });
  const master = ["--endpoints", cluster.master.address];
  expect((await runProgram("cambium", [...master, "log", "range"])).stdout).toBe("2 records, offsets 2 to 3\n");
  expect((await runProgram("cambium", [...master, "log", "consume"])).stdout).toBe("three\nfour\n");
  expect(await runProgram("cambium", [...master, "log", "consume", "--offset", "1"])).toMatchObject({ code: 1 });
});

test("a node that shuts down ends the streams of its readers, and is gone in time", async () => {
  const cluster = await startCluster({ replicas: 0 });
  const reader = clientOf(cluster.master).consume({ timeoutMs: 500 });
  await clientOf(cluster.master).produce("a");
  expect(text((await reader.next()).value as ProducedRecord)).toBe("a");
  const ended = expect(reader.next()).rejects.toMatchObject({ code: "unreachable" });
  expect(await cluster.master.stop()).toBe(0);
  await ended;
});
