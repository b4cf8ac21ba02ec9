import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterEach, expect, test } from "vitest";
import { type CambiumClient, createClient } from "./node.js";
import { FakeCluster } from "./testing/fake-cluster.js";

const closers: (() => void | Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Http2Node {
  readonly endpoint: string;
  readonly sessions: Set<http2.ServerHttp2Session>;
  connections: number;
}

async function listen(cluster: FakeCluster, settings: http2.Settings = {}): Promise<Http2Node> {
  const server = http2.createServer({ settings }, connectNodeAdapter({ routes: cluster.addNode().routes }));
  const node: Http2Node = { endpoint: "", sessions: new Set(), connections: 0 };
  server.on("session", (session) => {
    node.connections++;
    node.sessions.add(session);
    session.once("close", () => node.sessions.delete(session));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    for (const session of node.sessions) session.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return {
    ...node,
    endpoint: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return node.connections;
    },
  };
}

test("over HTTP/2 all calls to a node share one connection", async () => {
  const cluster = new FakeCluster();
  const node = await listen(cluster);
  const kv = createClient({ endpoints: [node.endpoint], httpVersion: "2" });
  closers.push(() => kv.close());
  await Promise.all(Array.from({ length: 20 }, (_, i) => kv.set(`k${i}`, "v")));
  expect((await kv.batchGet(["k0", "k19"])).size).toBe(2);
  expect(node.connections).toBe(1);
});

test("a lost HTTP/2 connection is made again, after a goodbye as after a cut", async () => {
  const cluster = new FakeCluster();
  const node = await listen(cluster);
  const kv = createClient({ endpoints: [node.endpoint], httpVersion: "2", retryDelayMs: 1 });
  closers.push(() => kv.close());
  await kv.set("k", "v");
  for (const session of node.sessions) session.destroy();
  expect(await kv.getText("k")).toBe("v");
  for (const session of node.sessions) session.goaway();
  expect(await kv.getText("k")).toBe("v");
  expect(node.connections).toBe(3);
});

test("over HTTP/2 too a node that is not there is unreachable", async () => {
  const cluster = new FakeCluster();
  await cluster.addNode().listen();
  await cluster.close();
  const kv = createClient({ endpoints: [cluster.nodes[0]!.address], httpVersion: "2", readRounds: 1 });
  closers.push(() => kv.close());
  await expect(kv.get("k")).rejects.toMatchObject({ code: "unreachable" });
  await expect(kv.set("k", "v")).rejects.toMatchObject({ code: "unreachable", outcomeUnknown: false });
});

test("over HTTP/2 more can wait on the one connection than Node by itself lets", async () => {
  const cluster = new FakeCluster();
  const node = await listen(cluster);
  const kv = createClient({ endpoints: [node.endpoint], httpVersion: "2" });
  closers.push(() => kv.close());
  const value = new Uint8Array(1024 * 1024);
  await Promise.all(Array.from({ length: 40 }, (_, n) => kv.set(`k${n}`, value)));
  expect(cluster.seq).toBe(41n);
});

/** Opens watches, each on a stream of its own; resolves once a node has taken all of them. */
async function openWatches(kv: CambiumClient, count: number): Promise<void> {
  const watches = Array.from({ length: count }, () => kv.watch().batches());
  await Promise.all(watches.map((watch) => watch.next()));
}

test("over HTTP/2 more streams stay open than a node takes on one connection, and calls get through", async () => {
  const cluster = new FakeCluster();
  const node = await listen(cluster, { maxConcurrentStreams: 5 });
  const kv = createClient({ endpoints: [node.endpoint], httpVersion: "2", timeoutMs: 5000 });
  closers.push(() => kv.close());
  // From the first call on the node's limit is known.
  await kv.set("k", "1");
  await openWatches(kv, 12);
  await kv.set("k", "2");
  expect(await kv.getText("k")).toBe("2");
  expect(node.connections).toBe(3);
});

test("over HTTP/2 also those get through that come before the node has told how many it takes", async () => {
  const cluster = new FakeCluster();
  const node = await listen(cluster, { maxConcurrentStreams: 5 });
  const kv = createClient({ endpoints: [node.endpoint], httpVersion: "2", timeoutMs: 5000 });
  closers.push(() => kv.close());
  await openWatches(kv, 12);
  await kv.set("k", "1");
  expect(node.connections).toBe(3);
});

test("over HTTP/1.1 streams that stay open take no connection from calls", async () => {
  const cluster = new FakeCluster();
  const node = cluster.addNode();
  await node.listen();
  closers.push(() => cluster.close());
  const kv = createClient({ endpoints: [node.address], connectionsMax: 2, timeoutMs: 5000 });
  closers.push(() => kv.close());
  await openWatches(kv, 12);
  await kv.set("k", "1");
  expect(await kv.getText("k")).toBe("1");
});
