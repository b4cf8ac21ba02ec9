import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CambiumClient, createClient } from "./node.js";
import { FakeCluster } from "./testing/fake-cluster.js";

let cluster: FakeCluster;
let client: CambiumClient;

beforeEach(async () => {
  cluster = await new FakeCluster().start(2);
  client = createClient({ endpoints: cluster.nodes.map(({ address }) => address), retryDelayMs: 1 });
});

afterEach(async () => {
  client.close();
  await cluster.close();
});

const urlOf = (node: number): string => `http://${cluster.nodes[node]!.address}`;

test("a snapshot is taken by the first node that answers, whatever its role", async () => {
  await client.set("a", "1");
  expect(await client.createSnapshot()).toEqual({
    endpoint: urlOf(0),
    fromSeq: 2,
    toSeq: 2,
    entries: 1,
    bytes: 2048,
    durationMs: 12,
  });
  await cluster.nodes[0]!.close();
  expect(await client.createSnapshot()).toMatchObject({ endpoint: urlOf(1) });
});

test("a backup comes from one node, in order and to its end", async () => {
  await cluster.nodes[0]!.close();
  cluster.nodes[1]!.backupChunks = [1, 2, 3].map((byte) => new Uint8Array(1000).fill(byte));
  const { chunks, ...about } = await client.backup();
  expect(about).toEqual({
    endpoint: urlOf(1),
    clusterId: cluster.clusterId,
    position: { epoch: 1, seq: 1 },
    formatVersion: 1,
    bytesEstimate: 3000,
  });
  const found: number[] = [];
  for await (const chunk of chunks) found.push(chunk[0]!, chunk.byteLength);
  expect(found).toEqual([1, 1000, 2, 1000, 3, 1000]);
});

test("a backup that breaks off is not gone on with at another node", async () => {
  for (const node of cluster.nodes) node.backupChunks = [new Uint8Array(10), new Uint8Array(10)];
  let read = (): void => undefined;
  const firstRead = new Promise<void>((resolve) => (read = resolve));
  cluster.nodes[0]!.beforeChunk = async (index) => {
    if (index === 0) return;
    await firstRead;
    cluster.nodes[0]!.cutConnections();
  };
  const { chunks } = await client.backup();
  await chunks.next();
  read();
  await expect(chunks.next()).rejects.toMatchObject({ name: "CambiumError", endpoint: urlOf(0) });
  expect(cluster.nodes[1]!.requests).toEqual([]);
});

test("a node that cannot send a backup now says why", async () => {
  for (const node of cluster.nodes) {
    node.before = () => {
      throw new ConnectError("no room", Code.ResourceExhausted);
    };
  }
  await expect(client.backup()).rejects.toMatchObject({ code: "resource_exhausted", message: "no room" });
});
