import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import {
  credentials,
  loadPackageDefinition,
  type Client as GrpcClient,
  type GrpcObject,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { afterEach, describe, expect, test } from "vitest";
import { Cluster, MemberState, NodeRole } from "../../api/gen/cambium/v1/cluster_pb.js";
import { EventType, KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { PushRequestSchema } from "../../api/gen/cambium/v1/replication_pb.js";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../../api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { AssertionError } from "../base/assert.js";
import { FakeClock } from "../base/clock.js";
import { epoch } from "../base/position.js";
import { ReplicationError } from "../replication/replicator.js";
import { RpcListenError } from "./server.js";
import { CLUSTER, EPOCH_ID, NODE, OTHER_NODE } from "./testing/fake-rooms.js";
import { callJson, frame, send, startTestServer, type TestServer } from "./testing/test-server.js";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const heartbeat = toBinary(
  PushRequestSchema,
  create(PushRequestSchema, { sender: new Uint8Array(16), message: { case: "heartbeat", value: {} } }),
);
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(() => running.server.close());
  return running;
}

/** A session manager whose connection ends with the test. */
function manager(url: string): Http2SessionManager {
  const session = new Http2SessionManager(url);
  cleanups.push(() => session.abort());
  return session;
}

/** A way to a port that can be cut: nothing gets through then, and neither end is told. */
async function wayTo(port: number): Promise<{ readonly port: number; cut(): void }> {
  const sockets = new Set<Socket>();
  const proxy = createServer((from) => {
    const to = connectSocket(port, "127.0.0.1");
    for (const socket of [from, to]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    from.pipe(to);
    to.pipe(from);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => proxy.close(resolve));
  });
  return {
    port: (proxy.address() as AddressInfo).port,
    cut: () => {
      for (const socket of sockets) socket.unpipe().pause();
    },
  };
}

const transports: Record<string, (url: string) => Transport> = {
  "Connect over HTTP/1.1": (url) => createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
  "Connect over HTTP/1.1 as JSON": (url) =>
    createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat: false }),
  "Connect over HTTP/1.1 with GET": (url) =>
    createConnectTransport({ baseUrl: url, httpVersion: "1.1", useHttpGet: true }),
  "Connect over HTTP/2": (url) =>
    createConnectTransport({ baseUrl: url, httpVersion: "2", sessionManager: manager(url) }),
  gRPC: (url) => createGrpcTransport({ baseUrl: url, sessionManager: manager(url) }),
  "gRPC-web over HTTP/1.1": (url) => createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
  "gRPC-web over HTTP/2": (url) =>
    createGrpcWebTransport({ baseUrl: url, httpVersion: "2", sessionManager: manager(url) }),
};

describe.each(Object.entries(transports))("%s", (_name, transportOf) => {
  test("writes, reads, batches and follows the log on the one port", async () => {
    const { url } = await start();
    const client = createClient(KVStore, transportOf(url));
    const set = await client.set({ key: "a", value: utf8("1"), ttlMs: 1500n });
    expect(set.position).toMatchObject({ epoch: 1n, seq: 2n });
    expect(await client.get({ key: "a" })).toMatchObject({
      exists: true,
      value: utf8("1"),
      createSeq: 2n,
      modSeq: 2n,
      ttlMs: 1500n,
      stalenessMs: 0n,
      token: new Uint8Array([1, 2, 3]),
    });
    const write = await client.write({
      operations: [
        { operation: { case: "set", value: { key: "b", value: utf8("2") } } },
        { operation: { case: "delete", value: { key: "a" } } },
      ],
    });
    expect(write.results.map(({ existed }) => existed)).toEqual([false, true]);
    const batch = await client.batchGet({ keys: ["b", "a", "b"] });
    expect(batch.entries.map(({ exists, value }) => [exists, text(value)])).toEqual([
      [true, "2"],
      [false, ""],
      [true, "2"],
    ]);
    const scan = await client.scan({ prefix: "b" });
    expect(scan.entries.map(({ key, value }) => [key, text(value)])).toEqual([["b", "2"]]);
    const page = await client.getUpdates({ after: 0n });
    expect(page.events.map(({ type, key }) => [type, key])).toEqual([
      [EventType.PUT, "a"],
      [EventType.PUT, "b"],
      [EventType.DELETE, "a"],
    ]);
    expect(page).toMatchObject({ next: 3n, position: { seq: 3n } });
    expect((await client.delete({ key: "b" })).existed).toBe(true);
  });

  test("carries a value of the largest size, and large answers that are compressed", async () => {
    const { url } = await start();
    const client = createClient(KVStore, transportOf(url));
    const value = new Uint8Array(1024 * 1024).fill(7);
    await client.set({ key: "large", value });
    expect(Buffer.compare((await client.get({ key: "large" })).value, value)).toBe(0);
  });

  test("tells errors with their code, sentence and typed detail", async () => {
    const { url } = await start();
    const client = createClient(KVStore, transportOf(url));
    const error = await client.get({ key: "" }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toMatchObject({ code: Code.InvalidArgument, rawMessage: expect.stringContaining("key is empty") });
  });

  test("watches health, and learns of draining", async () => {
    const { url, server } = await start();
    const seen: Serving[] = [];
    const watch = createClient(Health, transportOf(url)).watch({ service: "cambium.v1.KVStore" });
    const error = await (async () => {
      for await (const { status } of watch) {
        seen.push(status);
        if (seen.length === 1) void server.close();
      }
      return undefined;
    })().catch((reason: unknown) => reason);
    expect(seen[0]).toBe(Serving.SERVING);
    expect(error).toMatchObject({ code: Code.Unavailable });
  });
});

describe("clients that others wrote", () => {
  test("grpc-js, with the .proto files alone, calls unary methods", async () => {
    const { port } = await start();
    const include = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../api");
    const definition = loadSync("cambium/v1/kvstore.proto", { includeDirs: [include], keepCase: true, longs: String });
    type Call = (
      request: object,
      callback: (error: ServiceError | null, answer: Record<string, unknown>) => void,
    ) => void;
    const types = loadPackageDefinition(definition) as unknown as {
      cambium: { v1: { KVStore: new (...args: unknown[]) => GrpcClient & Record<"Get" | "Set", Call> } };
    } & GrpcObject;
    const client = new types.cambium.v1.KVStore(`127.0.0.1:${port}`, credentials.createInsecure());
    cleanups.push(() => client.close());
    const call = (method: "Get" | "Set", request: object): Promise<Record<string, unknown>> =>
      new Promise((resolve, reject) => {
        client[method](request, (error, answer) => (error ? reject(error) : resolve(answer)));
      });
    await call("Set", { key: "k", value: Buffer.from("v") });
    expect(await call("Get", { key: "k" })).toMatchObject({ exists: true, value: Buffer.from("v"), mod_seq: "2" });
    await expect(call("Get", { key: "" })).rejects.toMatchObject({
      code: 3,
      // As the library by itself encodes it, grpc-js would show "%3B".
      details: "key is empty; a key has 1 to 4096 bytes",
    });
  });

  test("curl speaks JSON by POST", async () => {
    const { port } = await start();
    await callJson(port, "cambium.v1.KVStore/Set", { key: "k", value: "dg==" });
    const { status, json } = await callJson(port, "cambium.v1.KVStore/Get", { key: "k" });
    expect(status).toBe(200);
    expect(json).toMatchObject({ exists: true, value: "dg==", modSeq: "2", position: { epoch: "1", seq: "2" } });
  });

  test("JSON shows fields with the value of nothing, since an absent key is an answer", async () => {
    const { port } = await start();
    const { json } = await callJson(port, "cambium.v1.KVStore/Get", { key: "absent" });
    expect(json).toMatchObject({ exists: false, value: "", modSeq: "0", stalenessMs: "0" });
    expect(json).not.toHaveProperty("ttlMs");
    expect((await callJson(port, "cambium.v1.KVStore/GetUpdates", { after: "1" })).json).toMatchObject({ events: [] });
  });

  test("odd keys are keys like any other, in JSON and in binary", async () => {
    const { port, url } = await start();
    const client = createClient(KVStore, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    const keys = ["__proto__", "constructor", "../../x", "\u0000", "a\u0000b", "\ufeffx", "x", "🌱", " "];
    for (const [index, key] of keys.entries()) await client.set({ key, value: utf8(String(index)) });
    for (const [index, key] of keys.entries()) {
      expect(text((await client.get({ key })).value)).toBe(String(index));
      const { json } = await callJson(port, "cambium.v1.KVStore/Get", { key });
      expect(json.value).toBe(Buffer.from(String(index)).toString("base64"));
    }
    const { events } = await client.getUpdates({});
    expect(events.map(({ key }) => key)).toEqual(keys);
  });
});

describe("a GET", () => {
  const target = (query: Record<string, string>): string =>
    `/cambium.v1.KVStore/Get?${new URLSearchParams({ connect: "v1", encoding: "json", ...query }).toString()}`;

  test("carries a weak tag of the record that wrote the value, and none for an absent key", async () => {
    const { port } = await start();
    await callJson(port, "cambium.v1.KVStore/Set", { key: "k", value: "dg==" });
    const found = await send(port, target({ message: '{"key":"k"}' }), { method: "GET" });
    expect(found).toMatchObject({ status: 200, headers: { etag: `W/"${EPOCH_ID}-2"`, "cache-control": "no-cache" } });
    const absent = await send(port, target({ message: '{"key":"other"}' }), { method: "GET" });
    expect(absent.status).toBe(200);
    expect(absent.headers).not.toHaveProperty("etag");
  });

  test("of what the caller has already is answered with 304 and nothing else", async () => {
    const { port } = await start();
    await callJson(port, "cambium.v1.KVStore/Set", { key: "k", value: "dg==" });
    const ask = (tag: string) =>
      send(port, target({ message: '{"key":"k"}' }), { method: "GET", headers: { "if-none-match": tag } });
    const same = await ask(`"other", W/"${EPOCH_ID}-2"`);
    expect(same).toMatchObject({ status: 304, text: "", headers: { etag: `W/"${EPOCH_ID}-2"` } });
    await callJson(port, "cambium.v1.KVStore/Set", { key: "k", value: "dw==" });
    const changed = await ask(`W/"${EPOCH_ID}-2"`);
    expect(changed).toMatchObject({ status: 200, headers: { etag: `W/"${EPOCH_ID}-3"` } });
  });

  test("is for methods without side effects only", async () => {
    const { port } = await start();
    const answer = await send(port, "/cambium.v1.KVStore/Set?message=%7B%7D&encoding=json&connect=v1", {
      method: "GET",
    });
    expect(answer).toMatchObject({ status: 405, headers: { allow: "POST" } });
    expect(answer.text).toContain("is called with POST");
  });

  test("of other methods is not to be kept by caches", async () => {
    const { port } = await start();
    const answer = await send(port, "/cambium.v1.Cluster/Status?message=%7B%7D&encoding=json&connect=v1", {
      method: "GET",
    });
    expect(answer).toMatchObject({ status: 200, headers: { "cache-control": "no-store" } });
  });
});

test("a bug is told to the caller as such and to the process as it is, and the other calls go on", async () => {
  const { port, store, bugs, errors } = await start();
  const bug = new AssertionError("applied ≤ commit");
  store.failure = bug;
  const { status, json } = await callJson(port, "cambium.v1.KVStore/Get", { key: "k" });
  expect(status).toBe(500);
  expect(json).toMatchObject({ code: "internal", message: expect.not.stringContaining("applied") });
  expect(bugs).toEqual([bug]);
  expect(errors.join()).toContain("applied ≤ commit");
  store.failure = undefined;
  expect((await callJson(port, "cambium.v1.KVStore/Get", { key: "k" })).status).toBe(200);
});

describe("Cluster", () => {
  test("describes the node and its members", async () => {
    const { url, replicator } = await start();
    const client = createClient(Cluster, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    const { member } = await client.addReplica({ address: "node-2:8080" });
    expect(member).toMatchObject({ nodeId: OTHER_NODE, address: "node-2:8080", state: MemberState.PROBING, lagMs: 2n });
    const status = await client.status({});
    expect(status.node).toMatchObject({
      nodeId: NODE,
      role: NodeRole.MASTER,
      address: "node-1.example:8080",
      ready: true,
      notReadyReason: "",
      masterAddress: "127.0.0.1:1",
      version: "1.2.3",
      durability: "always",
    });
    expect(status.members).toHaveLength(1);
    await client.removeReplica({ nodeId: OTHER_NODE.toUpperCase() });
    expect(replicator.view).toHaveLength(0);
  });

  test("tells of promises, lag, what was cut or set aside, what it holds for clients, and the room on the disk", async () => {
    const { url, store, replicator, watches } = await start();
    watches.open({ after: "now", signal: new AbortController().signal });
    const client = createClient(Cluster, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    replicator.lagRecords = 12;
    replicator.isCandidate = true;
    store.divergedRecords = 4;
    store.setAside = "set-aside-1700000000000";
    expect((await client.status({})).node).toMatchObject({
      lagRecords: 12n,
      promisedEpoch: 3n,
      divergedRecords: 4n,
      setAside: "set-aside-1700000000000",
      diskFreeBytes: 5_000_000_000n,
      isCandidate: true,
      commit: "majority",
      watches: 1n,
      retryClients: 3n,
      retryBytes: 1234n,
    });
    replicator.lagRecords = undefined;
    store.diskFreeBytes = undefined;
    store.apply(0);
    const { node } = await client.status({});
    expect(node).toMatchObject({ commit: "" });
    expect(node?.lagRecords).toBeUndefined();
    expect(node?.diskFreeBytes).toBeUndefined();
    store.diskFreeBytes = 2 ** 60;
    expect((await client.status({})).node?.diskFreeBytes).toBe(BigInt(Number.MAX_SAFE_INTEGER));
  });

  test("makes this node the master, by force where that is asked for, and says what that costs", async () => {
    const { url, replicator } = await start();
    const client = createClient(Cluster, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    expect(await client.promote({})).toMatchObject({
      position: { epoch: 8n, seq: 20n },
      unreached: ["node-3:8080"],
      knownLostRecords: 2n,
    });
    await client.promote({ force: true });
    expect(replicator.asked).toEqual([{ force: false }, { force: true }]);
    for (const [code, expected] of [
      ["no_majority", Code.FailedPrecondition],
      ["behind", Code.FailedPrecondition],
      ["not_caught_up", Code.FailedPrecondition],
      ["closing", Code.Unavailable],
    ] as const) {
      replicator.failure = new ReplicationError(code, "what force would lose");
      await expect(client.promote({})).rejects.toMatchObject({ code: expected, rawMessage: "what force would lose" });
    }
  });

  test("hands the mastership over to the member that is named, or to whichever is fit", async () => {
    const { url, replicator } = await start();
    const client = createClient(Cluster, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    const result = { nodeId: OTHER_NODE, address: "node-2:8080", epoch: epoch(9), pauseMs: 12.4 };
    for (const which of [{}, { nodeId: OTHER_NODE.toUpperCase() }, { nodeId: OTHER_NODE, address: "node-2:8080" }]) {
      const transfer = client.transfer(which);
      await expect.poll(() => replicator.transfers.count).toBe(1);
      replicator.transfers.release(result);
      expect(await transfer).toMatchObject({ ...result, epoch: 9n, pauseMs: 13n });
    }
    const named = { nodeId: OTHER_NODE, address: "node-2:8080" };
    expect(replicator.asked).toEqual([{}, { nodeId: OTHER_NODE }, named]);
    await expect(client.transfer({ nodeId: "xyz" })).rejects.toMatchObject({ code: Code.InvalidArgument });
    await expect(client.transfer({ address: "x".repeat(301) })).rejects.toMatchObject({ code: Code.InvalidArgument });
    for (const [code, expected] of [
      ["not_master", Code.FailedPrecondition],
      ["no_target", Code.FailedPrecondition],
      ["not_found", Code.NotFound],
      ["handover_failed", Code.Unavailable],
    ] as const) {
      replicator.failure = new ReplicationError(code, "why not");
      await expect(client.transfer({})).rejects.toMatchObject({ code: expected });
    }
  });

  test("ends a handover whose caller has left", async () => {
    const { url, replicator } = await start();
    const client = createClient(Cluster, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    const leaving = new AbortController();
    const transfer = client.transfer({}, { signal: leaving.signal }).catch((error: unknown) => error);
    await expect.poll(() => replicator.transfers.count).toBe(1);
    leaving.abort();
    expect(await transfer).toMatchObject({ code: Code.Canceled });
    await expect.poll(() => replicator.transfers.count).toBe(0);
  });

  test("wants a replica named in a form that can be one", async () => {
    const { url } = await start();
    const client = createClient(Cluster, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    await expect(client.removeReplica({})).rejects.toMatchObject({ code: Code.InvalidArgument });
    await expect(client.removeReplica({ nodeId: "xyz" })).rejects.toThrow("32 hexadecimal digits");
    await expect(client.addReplica({ address: "" })).rejects.toThrow("address is empty");
    await expect(client.addReplica({ address: "x".repeat(301) })).rejects.toThrow("at most 300");
  });
});

describe("health", () => {
  test("follows the node's readiness, for every service by its name", async () => {
    const { url, store, port } = await start();
    const client = createClient(Health, createGrpcTransport({ baseUrl: url, sessionManager: manager(url) }));
    expect((await client.check({})).status).toBe(Serving.SERVING);
    expect(await send(port, "/readyz", { method: "GET" })).toMatchObject({ status: 200, text: "ok\n" });
    store.notReadyReason = "it has never caught up";
    expect((await client.check({ service: "cambium.v1.KVStore" })).status).toBe(Serving.NOT_SERVING);
    expect(await send(port, "/readyz", { method: "GET" })).toMatchObject({
      status: 503,
      text: "not ready: it has never caught up\n",
    });
    expect(await send(port, "/livez", { method: "GET" })).toMatchObject({ status: 200, text: "ok\n" });
    expect(Object.keys((await client.list({})).statuses)).toEqual([
      "",
      "cambium.v1.KVStore",
      "cambium.v1.Log",
      "cambium.v1.Cluster",
      "cambium.v1.Replication",
    ]);
    await expect(client.check({ service: "nobody" })).rejects.toMatchObject({ code: Code.NotFound });
  });
});

describe("readiness", () => {
  const probe = ({ port }: TestServer) => send(port, "/readyz", { method: "GET" });
  const health = async ({ url }: TestServer): Promise<Serving> =>
    (await createClient(Health, createConnectTransport({ baseUrl: url, httpVersion: "1.1" })).check({})).status;

  test("says why a node that is meant to be master does not serve yet", async () => {
    const running = await start();
    running.replicator.whyNotServing = "no majority of the voters answers: node-2:8080 and node-3:8080 do not";
    expect(await probe(running)).toMatchObject({
      status: 503,
      text: "not ready: no majority of the voters answers: node-2:8080 and node-3:8080 do not\n",
    });
    expect(await health(running)).toBe(Serving.NOT_SERVING);
    const client = createClient(Cluster, createConnectTransport({ baseUrl: running.url, httpVersion: "1.1" }));
    expect((await client.status({})).node).toMatchObject({
      ready: false,
      notReadyReason: expect.stringMatching(/^no/),
    });
    // What keeps it from being master comes first: a founder without a cluster waits for the others, not for a master.
    running.store.notReadyReason = "it has never caught up";
    expect((await probe(running)).text).toMatch(/^not ready: no majority/);
    running.replicator.whyNotServing = "";
    expect((await probe(running)).text).toBe("not ready: it has never caught up\n");
    running.store.notReadyReason = "";
    expect((await probe(running)).status).toBe(200);
  });

  test("ends where the state is older than is allowed, or its age is not known, and returns with it", async () => {
    const running = await start({ readyMaxStalenessMs: 2000 });
    running.replicator.staleness = 2000;
    expect((await probe(running)).status).toBe(200);
    running.replicator.staleness = 2000.5;
    expect(await probe(running)).toMatchObject({
      status: 503,
      text: "not ready: the state of this node may be 2001 ms old; 2000 ms are allowed (server.ready_max_staleness)\n",
    });
    expect(await health(running)).toBe(Serving.NOT_SERVING);
    running.replicator.staleness = undefined;
    expect((await probe(running)).text).toContain("cannot tell how old its state is");
    running.replicator.staleness = 0;
    expect(await health(running)).toBe(Serving.SERVING);
  });

  test("does not depend on staleness where no limit is set, and reads are served in any case", async () => {
    const running = await start();
    running.replicator.staleness = undefined;
    expect((await probe(running)).status).toBe(200);
    const old = await start({ readyMaxStalenessMs: 1 });
    old.replicator.staleness = 10_000;
    expect((await callJson(old.port, "cambium.v1.KVStore/Get", { key: "k" })).json).toMatchObject({
      stalenessMs: "10000",
    });
  });
});

describe.each([
  ["v1", ServerReflection],
  ["v1alpha", ServerReflectionAlpha],
] as const)("reflection %s", (_version, service) => {
  test("gives the services, and the files by name and by symbol with all that they import", async () => {
    const { url } = await start();
    const transport = createGrpcTransport({ baseUrl: url, sessionManager: manager(url) });
    const client = createClient(service as typeof ServerReflection, transport);
    async function* requests() {
      yield create(ServerReflection.method.serverReflectionInfo.input, {
        messageRequest: { case: "listServices", value: "" },
      });
      for (const value of ["cambium.v1.KVStore", "cambium.v1.KVStore.Get", "cambium.v1.GetRequest.key", "no.such"]) {
        yield create(ServerReflection.method.serverReflectionInfo.input, {
          messageRequest: { case: "fileContainingSymbol", value },
        });
      }
      yield create(ServerReflection.method.serverReflectionInfo.input, {
        messageRequest: { case: "fileByFilename", value: "cambium/v1/types.proto" },
      });
    }
    const answers = [];
    for await (const { messageResponse } of client.serverReflectionInfo(requests())) answers.push(messageResponse);
    const names = answers.map((answer) => {
      switch (answer.case) {
        case "listServicesResponse":
          return answer.value.service.map(({ name }) => name);
        case "fileDescriptorResponse":
          return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
        case "errorResponse":
          return answer.value.errorCode;
        default:
          return answer.case;
      }
    });
    const kvstore = ["cambium/v1/kvstore.proto", "cambium/v1/types.proto"];
    expect(names).toEqual([
      expect.arrayContaining(["cambium.v1.KVStore", "cambium.v1.Cluster", "cambium.v1.Replication", service.typeName]),
      kvstore,
      kvstore,
      kvstore,
      Code.NotFound,
      ["cambium/v1/types.proto"],
    ]);
  });
});

describe("web pages", () => {
  const preflight = { origin: "https://app.example", "access-control-request-method": "POST" };

  test("of a listed origin are granted what every protocol needs", async () => {
    const { port } = await start({ corsOrigins: ["https://app.example"] });
    const granted = await send(port, "/cambium.v1.KVStore/Get", { method: "OPTIONS", headers: preflight });
    expect(granted).toMatchObject({
      status: 204,
      headers: {
        "access-control-allow-origin": "https://app.example",
        vary: "origin",
        "access-control-max-age": "7200",
      },
    });
    const allowed = String(granted.headers["access-control-allow-headers"]).toLowerCase();
    for (const name of ["content-type", "connect-protocol-version", "x-grpc-web", "authorization"]) {
      expect(allowed).toContain(name);
    }
    const { headers } = await callJson(port, "cambium.v1.KVStore/Get", { key: "k" }, { origin: "https://app.example" });
    expect(headers["access-control-allow-origin"]).toBe("https://app.example");
    expect(String(headers["access-control-expose-headers"]).toLowerCase()).toContain("grpc-status");
  });

  test("of any other origin are refused, whatever they ask and however, and nothing is done for them", async () => {
    const { port, store } = await start({ corsOrigins: ["https://app.example"] });
    const set = "cambium.v1.KVStore/Set";
    const before = store.position;
    for (const origin of [
      "https://evil.example",
      "null",
      "file://",
      "http://localhost.evil.example",
      "https://app.example:444",
    ]) {
      const answer = await callJson(port, set, { key: "k" }, { origin });
      expect(answer).toMatchObject({ status: 403, json: { code: "permission_denied" } });
      expect(answer.headers).not.toHaveProperty("access-control-allow-origin");
      const query = `?connect=v1&encoding=json&message=${encodeURIComponent('{"key":"k"}')}`;
      const read = await send(port, `/cambium.v1.KVStore/Get${query}`, { method: "GET", headers: { origin } });
      expect(read.status).toBe(403);
    }
    for (const site of ["cross-site", "same-site"]) {
      expect(await callJson(port, set, { key: "k" }, { "sec-fetch-site": site })).toMatchObject({ status: 403 });
    }
    expect(store.position).toEqual(before);
  });

  test("that this node seems to have given out may call, under its own names only", async () => {
    const { port } = await start();
    const get = (host: string, origin: string) =>
      callJson(port, "cambium.v1.KVStore/Get", { key: "k" }, { host, origin }).then(({ status }) => status);
    expect(await get(`localhost:${port}`, `http://localhost:${port}`)).toBe(200);
    expect(await get("node-1.example", "https://node-1.example")).toBe(200);
    expect(await get("node-1.example:80", "http://node-1.example")).toBe(200);
    expect(await get(`localhost:${port}`, `http://127.0.0.1:${port}`)).toBe(403);
    // A name that was made to resolve to this node.
    expect(await get(`evil.example:${port}`, `http://evil.example:${port}`)).toBe(403);
    expect(
      await callJson(port, "cambium.v1.KVStore/Get", { key: "k" }, { "sec-fetch-site": "same-origin" }),
    ).toMatchObject({ status: 200 });
  });

  test("of any other origin are granted nothing, and told where the list is", async () => {
    const { port } = await start();
    const refused = await send(port, "/cambium.v1.KVStore/Get", { method: "OPTIONS", headers: preflight });
    expect(refused.status).toBe(403);
    expect(refused.text).toContain("server.cors_origins");
    expect(refused.headers).not.toHaveProperty("access-control-allow-origin");
  });

  test("that let their own name point to this machine are refused by that name", async () => {
    const { port } = await start();
    const refused = await callJson(port, "cambium.v1.KVStore/Get", { key: "k" }, { host: `evil.example:${port}` });
    expect(refused).toMatchObject({ status: 403, json: { code: "permission_denied" } });
    const named = await callJson(port, "cambium.v1.KVStore/Get", { key: "k" }, { host: "node-1.example:8080" });
    expect(named.status).toBe(200);
  });
});

describe("listening", () => {
  test("on a port in use fails with one clear line", async () => {
    const { port } = await start();
    const error = await startTestServer({ port }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RpcListenError);
    expect(error).toMatchObject({ code: "address_in_use" });
    expect((error as Error).message).toBe(
      `cannot listen on 127.0.0.1:${port}: the port is in use; stop the program that has it, or choose another server.port`,
    );
  });

  test("on an address of another machine fails with one clear line", async () => {
    await expect(startTestServer({ host: "192.0.2.1" })).rejects.toMatchObject({ code: "address_not_available" });
  });

  test("is refused in words for every way in which the system refuses it", () => {
    const refused = (code: string, host = "0.0.0.0"): string =>
      `${RpcListenError.from(Object.assign(new Error("listen"), { code }), host, 80).code}: ${RpcListenError.from(Object.assign(new Error("listen"), { code }), host, 80).message}`;
    expect(refused("EACCES")).toMatch(/^permission_denied: cannot listen on 0\.0\.0\.0:80: not permitted; choose/);
    expect(refused("EADDRINUSE", "::1")).toMatch(/^address_in_use: cannot listen on \[::1\]:80: /);
    expect(refused("ENOTFOUND")).toMatch(/^address_not_available: /);
    expect(refused("EMFILE")).toMatch(/^failed: cannot listen on 0\.0\.0\.0:80: listen$/);
  });
});

describe("draining", () => {
  test("lets a write in flight end, and resolves after its answer", async () => {
    const { server, store, port } = await start();
    let open = (): void => undefined;
    store.gate = new Promise((resolve) => {
      open = resolve;
    });
    const write = callJson(port, "cambium.v1.KVStore/Set", { key: "k", value: "" });
    await expect.poll(() => store.writing).toBe(1);
    let closed = false;
    const closing = server.close().then(() => {
      closed = true;
    });
    expect(closed).toBe(false);
    open();
    expect(await write).toMatchObject({ status: 200, headers: { connection: "close" } });
    await closing;
    expect(closed).toBe(true);
  });

  test("answers probes that were on their way with 503", async () => {
    const { server, port } = await start();
    const socket = connectSocket(port, "127.0.0.1");
    const received = new Promise<string>((resolve) => {
      let text = "";
      socket.on("data", (chunk) => (text += chunk.toString()));
      socket.on("close", () => resolve(text));
    });
    socket.write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nhost: local");
    await new Promise((resolve) => socket.once("data", resolve));
    const closing = server.close();
    socket.write("host\r\n\r\n");
    await closing;
    const [, probe] = (await received).split("ok\n");
    expect(probe).toMatch(/^HTTP\/1\.1 503 .*connection: close.*not ready: this node is shutting down\n$/is);
  });

  test.each([
    ["an answer", "POST /cambium.v1.KVStore/Get", "application/json", '{"key":"k"}', 200],
    ["an error of a call", "POST /cambium.v1.KVStore/Get", "application/json", '{"key":""}', 400],
    [
      "an answer of gRPC-web",
      "POST /cambium.v1.KVStore/Get",
      "application/grpc-web+proto",
      "\0\0\0\0\u0003\n\u0001k",
      200,
    ],
    ["a stream that ends", "POST /grpc.health.v1.Health/Watch", "application/connect+json", "\0\0\0\0\u0002{}", 200],
    ["a query without an encoding", "GET /cambium.v1.KVStore/Get?message=x", "", "", 400],
    ["a content type that nobody takes", "POST /cambium.v1.KVStore/Get", "text/plain", "x", 415],
    ["a method that nobody has", "POST /cambium.v1.KVStore/Nothing", "application/json", "{}", 404],
    ["a name that is not this node's", "POST /x", "host: evil.example", "", 403],
    ["a stream both ways", "POST /cambium.v1.Log/ProduceStream", "application/connect+json", "", 505],
    ["a target that is none", "OPTIONS *", "", "", 400],
  ])("tells over HTTP/1.1 that the connection ends, with %s", async (_what, request, type, body, status) => {
    const { server, port, store } = await start();
    let release = (): void => undefined;
    store.gate = new Promise((resolve) => (release = resolve));
    // Holds the node up, while the other connection, on which a request is on its way, goes on.
    const write = callJson(port, "cambium.v1.KVStore/Set", { key: "k" });
    await expect.poll(() => store.writing).toBe(1);
    const socket = connectSocket(port, "127.0.0.1");
    const received = new Promise<string>((resolve) => {
      let all = "";
      socket.on("data", (chunk) => (all += chunk.toString("latin1")));
      socket.on("close", () => resolve(all));
    });
    const host = type.startsWith("host:") ? type : "host: localhost";
    const contentType = type === "" || type.startsWith("host:") ? "" : `content-type: ${type}\r\n`;
    const head = `${request} HTTP/1.1\r\n${host}\r\n${contentType}content-length: ${body.length}\r\n`;
    socket.write(`GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n${head.slice(0, 10)}`);
    await new Promise((resolve) => socket.once("data", resolve));
    const closing = server.close();
    socket.write(`${head.slice(10)}\r\n${body}`);
    const [, answer = ""] = (await received).split("ok\n");
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toMatch(/^connection: close\r$/im);
    release();
    await write;
    await closing;
  });

  test("ends calls that only wait, with UNAVAILABLE and the reason", async () => {
    const { server, store, port } = await start();
    const waiting = callJson(port, "cambium.v1.KVStore/GetUpdates", { after: "1", waitMs: 60_000 });
    await expect.poll(() => store.waiting).toBe(1);
    await server.close();
    expect(await waiting).toMatchObject({
      status: 503,
      json: { code: "unavailable", message: expect.stringContaining("shutting down") },
    });
    expect(store.waiting).toBe(0);
  });

  test("tells connections of HTTP/2 to go away, and those that are idle end at once", async () => {
    const { server, url } = await start();
    const client = createClient(KVStore, createGrpcTransport({ baseUrl: url, sessionManager: manager(url) }));
    await client.get({ key: "k" });
    await server.close();
    await expect(client.get({ key: "k" })).rejects.toMatchObject({ code: Code.Unavailable });
  });

  test("is not held up by silent and idle connections", async () => {
    const { server, port } = await start();
    const sockets = ["", "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HT"].map((bytes) => {
      const socket = connectSocket(port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(bytes);
      return socket;
    });
    await new Promise((resolve) => sockets[1]?.once("data", resolve));
    const closed = sockets.map(
      (socket) => new Promise((resolve) => socket.resume().on("close", () => resolve("closed"))),
    );
    await server.close();
    expect(await Promise.all(closed)).toEqual(["closed", "closed", "closed"]);
  });

  test.each([
    ["a stream of gRPC that it neither ends nor reads", "/cambium.v1.Replication/Push", "application/grpc"],
    ["a stream of gRPC that it does not end", "/cambium.v1.Log/ProduceStream", "application/grpc"],
  ])("is not held up by a caller that is cut off, with %s", async (_what, path, type) => {
    const clock = new FakeClock();
    const { server, port, replicator } = await start({ clock, drainTimeoutMs: 3_600_000 });
    const detail = "x".repeat(100_000);
    replicator.onPush = (push, message) => {
      if (!message) return;
      // Far more than the windows of the connection hold, so that it cannot get out.
      const about = {
        kind: "reject",
        clusterId: CLUSTER,
        epoch: epoch(1),
        sender: OTHER_NODE,
        reason: "misaligned",
      } as const;
      for (let n = 0; n < 200; n++) push.send({ ...about, detail });
    };
    const way = await wayTo(port);
    const session = connectHttp2(`http://127.0.0.1:${way.port}`);
    session.on("error", () => undefined);
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type, te: "trailers" });
    stream.on("error", () => undefined);
    stream.write(frame(path.endsWith("Push") ? heartbeat : new Uint8Array(0)));
    await new Promise((resolve) => stream.once("response", resolve));
    way.cut();
    const closing = server.close();
    let closed = false;
    void closing.then(() => (closed = true));
    await expect
      .poll(() => {
        clock.advance(1000);
        return closed;
      })
      .toBe(true);
    expect(clock.monotonicMs()).toBeLessThan(3_600_000);
    session.destroy();
  });

  test("lets an answer that is still on its way come to its end", async () => {
    const clock = new FakeClock();
    const { server, port, url } = await start({ clock, drainTimeoutMs: 3_600_000 });
    const value = new Uint8Array(1024 * 1024).fill(7);
    const client = createClient(KVStore, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    await client.set({ key: "k", value });
    const body = `{"keys":["k","k"]}`;
    const head = `POST /cambium.v1.KVStore/BatchGet HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
    const socket = connectSocket(port, "127.0.0.1", () => {
      socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`);
    });
    let received = 0;
    // Takes a little at a time.
    await new Promise((resolve) => socket.once("readable", () => resolve(undefined)));
    const closing = server.close();
    await new Promise<void>((resolve) => {
      socket.on("readable", () => {
        for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) received += (chunk as Buffer).length;
        clock.advance(100);
      });
      socket.on("close", () => resolve());
    });
    await closing;
    expect(received).toBeGreaterThan((2 * value.length * 4) / 3);
  });

  test("breaks off what does not end in time", async () => {
    const clock = new FakeClock();
    const { server, store, port } = await start({ clock, drainTimeoutMs: 5000 });
    store.gate = new Promise(() => undefined);
    const write = callJson(port, "cambium.v1.KVStore/Set", { key: "k", value: "" }).catch((error: unknown) => error);
    await expect.poll(() => store.writing).toBe(1);
    const closing = server.close();
    clock.advance(5000);
    await closing;
    expect(await write).toBeInstanceOf(Error);
  });
});

test("a caller that is busy for seconds between connecting and asking gets its answer, and one that stays silent is cut off", async () => {
  const clock = new FakeClock();
  const { port } = await start({ clock });
  const [busy, silent] = [0, 1].map(() => connectSocket(port, "127.0.0.1").setEncoding("latin1"));
  const isCut = new Promise<boolean>((resolve) => silent!.resume().on("close", () => resolve(true)));
  // Connections are taken in their order: both of those have been when this one has its answer.
  await send(port, "/livez", { method: "GET" });
  clock.advance(9000);
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  const answer = new Promise<string>((resolve) => busy!.once("data", resolve));
  busy!.write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
  expect(await answer).toContain("200 OK");
  clock.advance(1000);
  expect(await isCut).toBe(true);
  busy!.destroy();
});
