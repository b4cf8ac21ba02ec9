/** Clients that nobody here wrote. */
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCluster } from "../harness/cluster.js";
import { callUnary, health, serviceOf } from "../harness/grpc.js";
import { request, status } from "../harness/rpc.js";
import { paste } from "../harness/shell.js";

let cluster: TestCluster;
let master: string;
let replica: string;
beforeAll(async () => {
  cluster = await TestCluster.start({ replicas: 1 });
  master = cluster.master.address;
  replica = cluster.replicas[0]!.address;
});
afterAll(() => cluster?.close());

describe("curl", () => {
  const json = "-H 'content-type: application/json'";

  test("writes to the master and reads from a replica, in JSON", async () => {
    const set = `curl -s http://${master}/cambium.v1.KVStore/Set ${json} -d '{"key":"curl","value":"aGVsbG8="}'`;
    const written = JSON.parse(await paste(set, cluster.directory)) as { position: { epoch: string; seq: string } };
    expect(written.position).toEqual({ epoch: expect.any(String), seq: expect.stringMatching(/^\d+$/) });
    await cluster.replicas[0]!.applied(Number(written.position.seq));

    const get = `curl -s http://${replica}/cambium.v1.KVStore/Get ${json} -d '{"key":"curl"}'`;
    const read = JSON.parse(await paste(get, cluster.directory)) as unknown;
    expect(read).toMatchObject({ exists: true, value: "aGVsbG8=", modSeq: written.position.seq });
  });

  test("an absent key is an answer", async () => {
    const get = `curl -s http://${replica}/cambium.v1.KVStore/Get ${json} -d '{"key":"nobody wrote this"}'`;
    expect(JSON.parse(await paste(get, cluster.directory))).not.toHaveProperty("exists", true);
  });

  test("an error is JSON that says what to do", async () => {
    const set = `curl -s http://${master}/cambium.v1.KVStore/Set ${json} -d '{"key":"","value":""}'`;
    expect(JSON.parse(await paste(set, cluster.directory))).toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining("key"),
    });
  });

  test("reads by GET", async () => {
    await cluster.setEverywhere("by get", "1");
    const query = `encoding=json&message=${encodeURIComponent('{"key":"by get"}')}&connect=v1`;
    const line = `curl -s 'http://${replica}/cambium.v1.KVStore/Get?${query}'`;
    expect(JSON.parse(await paste(line, cluster.directory))).toMatchObject({ exists: true, value: "MQ==" });
  });

  test("is told whether a node lives and is ready", async () => {
    for (const node of [master, replica]) {
      expect((await request(node, "/livez")).status).toBe(200);
      expect((await request(node, "/readyz")).status).toBe(200);
    }
  });
});

describe("@grpc/grpc-js", () => {
  const KVStore = serviceOf("cambium.v1.KVStore");
  const Cluster = serviceOf("cambium.v1.Cluster");

  test("writes to the master and reads from a replica", async () => {
    const written = await callUnary(KVStore, master, "Set", { key: "grpc-js", value: Buffer.from("hello") });
    const { seq } = written.position as { seq: number };
    await cluster.replicas[0]!.applied(seq);
    const read = await callUnary(KVStore, replica, "Get", { key: "grpc-js" });
    expect(read).toMatchObject({ exists: true, value: Buffer.from("hello"), mod_seq: seq });
  });

  test("writes and reads batches", async () => {
    const operations = [{ set: { key: "one", value: Buffer.from("1") } }, { delete: { key: "nobody" } }];
    expect(await callUnary(KVStore, master, "Write", { operations })).toMatchObject({
      results: [{ existed: false }, { existed: false }],
    });
    const { entries } = await callUnary(KVStore, master, "BatchGet", { keys: ["one", "two"] });
    expect(entries).toMatchObject([{ exists: true, value: Buffer.from("1") }, { exists: false }]);
  });

  test("a write to a replica is FAILED_PRECONDITION", async () => {
    const refused = callUnary(KVStore, replica, "Set", { key: "a", value: Buffer.of(1) });
    await expect(refused).rejects.toMatchObject({ code: grpc.status.FAILED_PRECONDITION });
  });

  test("an empty key is INVALID_ARGUMENT", async () => {
    const refused = callUnary(KVStore, master, "Get", { key: "" });
    await expect(refused).rejects.toMatchObject({ code: grpc.status.INVALID_ARGUMENT });
  });

  test("is told the state of the cluster, and the health of each node", async () => {
    const { node } = await callUnary(Cluster, replica, "Status", {});
    expect(node).toMatchObject({ role: "NODE_ROLE_REPLICA", ready: true, master_address: master });
    expect((await status(master)).role).toBe("NODE_ROLE_MASTER");
    for (const address of [master, replica]) {
      expect(await health(address)).toBe("SERVING");
    }
  });
});
