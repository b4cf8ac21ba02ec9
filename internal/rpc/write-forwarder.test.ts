/** Writes that come to a replica, and are passed on to its master. */
import { createServer as createHttp2 } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  connectNodeAdapter,
  createConnectTransport,
  createGrpcTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import {
  Acknowledge,
  ConditionFailedSchema,
  LimitExceededSchema,
  NotMasterSchema,
  OffsetRangeSchema,
  OutcomeUnknownSchema,
  RetryTooOldSchema,
} from "../../api/gen/cambium/v1/types_pb.js";
import { FakeClock } from "../base/clock.js";
import { epoch, seq } from "../base/position.js";
import { ReplicationError } from "../replication/replicator.js";
import { StoreError } from "../store/store.js";
import { NotingLogger } from "./testing/noting-logger.js";
import { callJson, startTestServer, type TestServer } from "./testing/test-server.js";
import { FORWARDED_HEADER } from "./write-forwarder.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Options = Parameters<typeof startTestServer>[0];

async function start(options: Options = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(() => running.server.close());
  return running;
}

const addressOf = ({ port }: { readonly port: number }): string => `127.0.0.1:${port}`;
const aReplica = (): StoreError => new StoreError("not_master", "this node is a replica");

/** A node that takes no writes and knows of a master at an address. */
async function startReplica(masterAddress: string | undefined, options: Options = {}): Promise<TestServer> {
  const replica = await start({ forwardWrites: true, ...options });
  replica.store.failure = replica.records.failure = aReplica();
  replica.replicator.masterAddress = masterAddress;
  return replica;
}

async function startPair(options: Options = {}): Promise<{ master: TestServer; replica: TestServer }> {
  const master = await start(options);
  return { master, replica: await startReplica(addressOf(master), options) };
}

const http1 = (url: string): Transport => createConnectTransport({ baseUrl: url, httpVersion: "1.1" });
const bytes = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text));

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => expect.fail("the call succeeded"),
    (error: unknown) => ConnectError.from(error),
  );
}

const set = (url: string, options?: Parameters<Client<typeof KVStore>["set"]>[1]) =>
  createClient(KVStore, http1(url)).set({ key: "k", value: bytes("v") }, options);

/** A port where somebody takes connections. */
async function listen(greet: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    greet(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  return `127.0.0.1:${typeof address === "object" && address ? address.port : 0}`;
}

describe("a replica that passes writes on", () => {
  test("gives its caller what the master answered, to every write", async () => {
    const { master, replica } = await startPair();
    master.records.add("a", "b");
    const kv = createClient(KVStore, http1(replica.url));
    const written = await kv.set({ key: "k", value: bytes("v"), ttlMs: 5000n });
    expect(written).toMatchObject({ position: { epoch: 1n, seq: 2n }, token: new Uint8Array([1, 2, 3]) });
    expect(master.store.entries.size).toBe(1);
    const operations = [{ operation: { case: "delete" as const, value: { key: "k" } } }];
    expect((await kv.write({ operations })).results).toMatchObject([{ existed: true }]);
    expect((await kv.delete({ key: "k" })).existed).toBe(false);
    const log = createClient(Log, http1(replica.url));
    expect((await log.produce({ records: [bytes("c"), bytes("d")] })).offset).toBe(2n);
    expect((await log.truncate({ belowOffset: 1n })).start).toBe(1n);
    expect(master.records.records).toHaveLength(4);
  });

  test("passes the id of a request on, so that the lines of both nodes are found by it", async () => {
    const logger = new NotingLogger();
    const { master, replica } = await startPair({ logger });
    master.store.failure = new TypeError("a mistake");
    const given = await callJson(replica.port, "cambium.v1.KVStore/Set", { key: "k" }, { "x-request-id": "mine" });
    expect([given.status, given.headers["x-request-id"]]).toEqual([500, "mine"]);
    const made = await callJson(replica.port, "cambium.v1.KVStore/Set", { key: "k" });
    // Of the master, which alone has found a mistake.
    expect(logger.lines.map(({ fields }) => fields["request_id"])).toEqual(["mine", made.headers["x-request-id"]]);
  });

  test("passes on every kind of write, with what makes it safe to repeat, and what the master refuses it with", async () => {
    const { master, replica } = await startPair();
    const kv = createClient(KVStore, http1(replica.url));
    const retry = { clientId: "c", clientSeq: 3n };
    const touch = { operation: { case: "touch" as const, value: { key: "k" } } };
    const txn = { then: [touch] };
    const calls = [
      () => kv.set({ key: "k", ifSeq: 4n, ...retry }),
      () => kv.delete({ key: "k", ...retry }),
      () => kv.deleteRange({ prefix: "p", ...retry }),
      () => kv.touch({ key: "k", ...retry }),
      () => kv.increment({ key: "k", ...retry }),
      () => kv.txn({ ...txn, ...retry }),
      () => kv.write({ operations: [touch], ...retry }),
    ];
    for (const call of calls) await call();
    expect(master.store.writes.map(([command]) => command?.kind)).toEqual([
      "set",
      "delete",
      "delete-range",
      "touch",
      "increment",
      "touch",
    ]);
    expect(master.store.txns).toMatchObject([{ then: [{ kind: "touch" }] }]);
    expect(master.store.writeOptions.map((options) => options?.retry)).toEqual(
      calls.map(() => ({ clientId: "c", clientSeq: 3 })),
    );
    const failedCondition = { key: bytes("k"), exists: true, modSeq: seq(6), operation: 1 };
    master.store.failure = new StoreError("condition_failed", "it has changed", { failedCondition });
    for (const call of calls) {
      const error = await failureOf(call());
      expect(error).toMatchObject({ code: Code.FailedPrecondition, rawMessage: "it has changed" });
      expect(error.findDetails(ConditionFailedSchema)).toMatchObject([{ key: "k", modSeq: 6n, operation: 1 }]);
    }
    master.store.failure = new StoreError("retry_too_old", "too old", { oldestClientSeq: 5 });
    expect((await failureOf(calls[0]!())).findDetails(RetryTooOldSchema)).toMatchObject([{ oldestClientSeq: 5n }]);
  });

  test("passes on when the write is to be answered, and for how long its caller waits", async () => {
    const { master, replica } = await startPair();
    const kv = createClient(KVStore, http1(replica.url));
    await kv.set({ key: "k", acknowledge: Acknowledge.MASTER }, { timeoutMs: 4000 });
    const [options] = master.store.writeOptions;
    expect(options?.acknowledge).toBe("kept");
    expect(options?.timeoutMs).toBeLessThanOrEqual(3800);
    await kv.set({ key: "k" });
    expect(master.store.writeOptions[1]).toMatchObject({ acknowledge: "committed", timeoutMs: 10_000 });
  });

  test("is called in any protocol, JSON included", async () => {
    const { master, replica } = await startPair();
    const { status, json } = await callJson(replica.port, "cambium.v1.KVStore/Set", { key: "k", value: "dg==" });
    expect(status).toBe(200);
    expect(json).toMatchObject({ position: { epoch: "1", seq: "2" }, token: "AQID" });
    const sessionManager = new Http2SessionManager(replica.url);
    cleanups.push(() => sessionManager.abort());
    const grpc = createGrpcTransport({ baseUrl: replica.url, sessionManager });
    expect((await createClient(KVStore, grpc).delete({ key: "k" })).existed).toBe(true);
    expect(master.store.entries.size).toBe(0);
  });

  test("carries a write of the largest size", async () => {
    const { master, replica } = await startPair();
    const value = new Uint8Array(1024 * 1024).fill(7);
    await createClient(KVStore, http1(replica.url)).set({ key: "large", value });
    const operations = [1, 2, 3].map((n) => ({
      operation: { case: "set" as const, value: { key: `large-${n}`, value } },
    }));
    await createClient(KVStore, http1(replica.url)).write({ operations });
    expect(master.store.entries.size).toBe(4);
  });

  test("carries more at once than Node by itself lets wait on a connection", async () => {
    const { master, replica } = await startPair();
    const client = createClient(KVStore, http1(replica.url));
    const value = new Uint8Array(1024 * 1024);
    await Promise.all(Array.from({ length: 40 }, (_, n) => client.set({ key: `k${n}`, value })));
    expect(master.store.writeOptions).toHaveLength(40);
  });

  test("refuses what its master is too slow for, and takes more as soon as that has answered", async () => {
    const { master, replica } = await startPair();
    let release = (): void => undefined;
    master.store.gate = new Promise((resolve) => (release = resolve));
    const client = createClient(KVStore, http1(replica.url));
    const set = { operation: { case: "set" as const, value: { key: "k", value: new Uint8Array(1024 * 1024) } } };
    const operations = [set, set, set];
    const held = Array.from({ length: 21 }, () => client.write({ operations }));
    await expect.poll(() => master.store.writing, { timeout: 30_000 }).toBe(21);
    const error = await failureOf(client.write({ operations }));
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.rawMessage).toMatch(/bytes of writes are on their way.*nothing was changed, try again shortly/);
    release();
    await Promise.all(held);
    await client.write({ operations });
    expect(master.store.writeOptions).toHaveLength(22);
  });

  test("refuses by itself what is malformed, and asks nobody", async () => {
    const { master, replica } = await startPair();
    const error = await failureOf(createClient(KVStore, http1(replica.url)).set({ key: "k".repeat(5000) }));
    expect(error.findDetails(LimitExceededSchema)).toHaveLength(1);
    expect(master.store.writeOptions).toEqual([]);
  });

  test("proves to the master that it is a peer, which protected mode does not concern", async () => {
    const clusterSecret = bytes("a secret of the cluster");
    const { master, replica } = await startPair({ clusterSecret });
    await set(replica.url);
    expect(master.store.entries.size).toBe(1);
  });

  test("does what it is asked by itself once it is the master", async () => {
    const { master, replica } = await startPair();
    replica.store.failure = undefined;
    await set(replica.url);
    expect(replica.store.entries.size).toBe(1);
    expect(master.store.writeOptions).toEqual([]);
  });

  test("takes the error of a mastership that has just ended for what it is", async () => {
    const { master, replica } = await startPair();
    replica.store.failure = new ReplicationError("not_master", "the mastership was handed over");
    await set(replica.url);
    expect(master.store.entries.size).toBe(1);
  });
});

describe("a replica that passes nothing on", () => {
  test("because it is not set up so, names the master", async () => {
    const master = await start();
    const replica = await startReplica(addressOf(master), { forwardWrites: false });
    const error = await failureOf(set(replica.url));
    expect(error.code).toBe(Code.FailedPrecondition);
    expect(error.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: addressOf(master) }]);
    expect(master.store.writeOptions).toEqual([]);
  });

  test("because it knows no master, says so", async () => {
    const replica = await startReplica(undefined);
    const error = await failureOf(set(replica.url));
    expect(error.code).toBe(Code.FailedPrecondition);
    expect(error.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: "" }]);
  });

  test("because the store refuses for another reason, gives that reason", async () => {
    const { master, replica } = await startPair();
    replica.store.failure = new StoreError("disk_full", "no room");
    expect((await failureOf(set(replica.url))).code).toBe(Code.ResourceExhausted);
    expect(master.store.writeOptions).toEqual([]);
  });

  test("because it is a stream of records, names the master", async () => {
    const { replica } = await startPair();
    const sessionManager = new Http2SessionManager(replica.url);
    cleanups.push(() => sessionManager.abort());
    const client = createClient(Log, createGrpcTransport({ baseUrl: replica.url, sessionManager }));
    async function* records() {
      yield { record: bytes("a") };
    }
    const error = await failureOf(client.produceStream(records())[Symbol.asyncIterator]().next());
    expect(error.findDetails(NotMasterSchema)).toHaveLength(1);
  });
});

describe("a write goes one hop and no further", () => {
  test("when two replicas take each other for the master", async () => {
    const first = await startReplica(undefined);
    const second = await startReplica(addressOf(first));
    first.replicator.masterAddress = addressOf(second);
    const error = await failureOf(set(first.url));
    expect(error.code).toBe(Code.FailedPrecondition);
    expect(error.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: addressOf(first) }]);
    expect([first, second].map(({ store }) => store.writeOptions.length)).toEqual([1, 1]);
  });

  test("when a replica takes itself for the master", async () => {
    const replica = await startReplica(undefined);
    replica.replicator.masterAddress = addressOf(replica);
    expect((await failureOf(set(replica.url))).code).toBe(Code.FailedPrecondition);
    expect(replica.store.writeOptions).toHaveLength(2);
  });

  test("when it says that it has gone one, whoever says so", async () => {
    const { master, replica } = await startPair();
    const error = await failureOf(set(replica.url, { headers: { [FORWARDED_HEADER]: "0" } }));
    expect(error.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: addressOf(master) }]);
    expect(master.store.writeOptions).toEqual([]);
  });

  test("when the master has changed meanwhile: the caller learns the new address", async () => {
    const { master, replica } = await startPair();
    master.store.failure = new StoreError("not_master", "the mastership was handed over");
    master.replicator.masterAddress = "node-3.example:8080";
    const error = await failureOf(set(replica.url));
    expect(error.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: "node-3.example:8080" }]);
  });
});

describe("what the master refuses is refused in its words", () => {
  test.each([
    [
      "too many writes in flight",
      new StoreError("overloaded", "too many writes are in flight"),
      Code.ResourceExhausted,
    ],
    ["shutting down", new StoreError("closing", "this node is shutting down"), Code.Unavailable],
    ["a bug there", new TypeError("x is not a function"), Code.Internal],
  ])("%s", async (_what, failure, code) => {
    const { master, replica } = await startPair();
    master.store.failure = failure;
    const direct = await failureOf(set(master.url));
    const error = await failureOf(set(replica.url));
    expect(error.code).toBe(code);
    expect(error.rawMessage).toBe(direct.rawMessage);
    expect(error.details).toEqual(direct.details);
    expect(replica.bugs).toEqual([]);
  });

  test("with its typed details", async () => {
    const { master, replica } = await startPair();
    const position = { epoch: epoch(3), seq: seq(9) };
    master.store.failure = new StoreError("outcome_unknown", "stepped down", { position });
    expect((await failureOf(set(replica.url))).findDetails(OutcomeUnknownSchema)).toMatchObject([
      { position: { epoch: 3n, seq: 9n } },
    ]);
    master.records.failure = new StoreError("offset_out_of_range", "no", { offsets: { start: 2, end: 5 } });
    const truncated = createClient(Log, http1(replica.url)).truncate({ belowOffset: 9n });
    expect((await failureOf(truncated)).findDetails(OffsetRangeSchema)).toMatchObject([{ start: 2n, end: 5n }]);
  });

  test("and nothing of the call between the nodes gets out", async () => {
    const { master, replica } = await startPair();
    master.store.failure = new StoreError("disk_full", "no room; ü and % and\nmore");
    const error = await failureOf(set(replica.url));
    expect(error.rawMessage).toBe("no room; ü and % and\nmore");
    expect([...error.metadata.keys()].filter((name) => name.startsWith("grpc-"))).toEqual([]);
  });

  test("but a refusal that is this node's own fault is told as such", async () => {
    const adapter = connectNodeAdapter({
      routes: (router) =>
        router.service(KVStore, {
          set: () => {
            throw new ConnectError("prove yourself", Code.PermissionDenied);
          },
        }),
    });
    const master = createHttp2(adapter);
    await new Promise<void>((resolve) => master.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => master.close());
    const { port } = master.address() as AddressInfo;
    const replica = await startReplica(addressOf({ port }));
    cleanups.push(() => replica.server.close());
    const error = await failureOf(set(replica.url));
    expect(error.code).toBe(Code.Unavailable);
    expect(error.rawMessage).toBe(
      `the master at 127.0.0.1:${port} does not take what this node passes on: prove yourself`,
    );
  });
});

describe("a master that does not answer", () => {
  test("because nobody listens there: nothing was changed, and the caller may try again", async () => {
    const { master, replica } = await startPair();
    await master.server.close();
    const error = await failureOf(set(replica.url));
    expect(error.code).toBe(Code.Unavailable);
    expect(error.rawMessage).toMatch(
      /could not pass the write on to the master at 127.0.0.1:\d+: nothing listens there/,
    );
    expect(error.details).toEqual([]);
  });

  test.each(["", "nonsense", "a b", "x".repeat(1000)])("because %j is no address: the same", async (masterAddress) => {
    const replica = await startReplica(masterAddress);
    const error = await failureOf(set(replica.url));
    expect([Code.Unavailable, Code.FailedPrecondition]).toContain(error.code);
    expect(error.findDetails(OutcomeUnknownSchema)).toEqual([]);
  });

  test("because it dies while it has the write: nobody knows what became of it", async () => {
    const clock = new FakeClock();
    const master = await start({ clock });
    const replica = await startReplica(addressOf(master));
    master.store.gate = new Promise(() => undefined);
    const call = failureOf(set(replica.url));
    await expect.poll(() => master.store.writing).toBe(1);
    const closed = master.server.close();
    clock.advance(5000);
    const error = await call;
    expect(error.code).toBe(Code.Unavailable);
    expect(error.findDetails(OutcomeUnknownSchema)).toHaveLength(1);
    await closed;
  });

  test("because it hangs: the caller hears of the unknown outcome before its own time is over", async () => {
    const { master, replica } = await startPair();
    let release = (): void => undefined;
    master.store.gate = new Promise((resolve) => (release = resolve));
    cleanups.push(() => release());
    // No timer of its own ends this caller's waiting: on a busy machine that one may well be the first.
    const { status, json } = await callJson(
      replica.port,
      "cambium.v1.KVStore/Set",
      { key: "k" },
      { "connect-timeout-ms": "800" },
    );
    expect(status).toBe(503);
    expect(json).toMatchObject({ code: "unavailable", details: [{ type: "cambium.v1.OutcomeUnknown" }] });
  });

  test("because it is something else: nobody knows what it did", async () => {
    const address = await listen((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
    const replica = await startReplica(address);
    const error = await failureOf(set(replica.url));
    expect(error.code).toBe(Code.Unavailable);
  });

  test("because the caller has left: the master is told, and no call is left", async () => {
    const { master, replica } = await startPair();
    let release = (): void => undefined;
    master.store.gate = new Promise((resolve) => (release = resolve));
    const leaving = new AbortController();
    const call = failureOf(set(replica.url, { signal: leaving.signal }));
    await expect.poll(() => master.store.writing).toBe(1);
    leaving.abort();
    expect((await call).code).toBe(Code.Canceled);
    release();
    await set(replica.url);
  });
});

describe("draining", () => {
  test("of the replica lets a write that was passed on come back", async () => {
    const { master, replica } = await startPair();
    let release = (): void => undefined;
    master.store.gate = new Promise((resolve) => (release = resolve));
    const call = set(replica.url);
    await expect.poll(() => master.store.writing).toBe(1);
    const closed = replica.server.close();
    release();
    expect((await call).position).toMatchObject({ seq: 2n });
    await closed;
  });

  test("of the master lets its answer come through", async () => {
    const { master, replica } = await startPair();
    let release = (): void => undefined;
    master.store.gate = new Promise((resolve) => (release = resolve));
    const calls = [set(replica.url), set(replica.url)];
    await expect.poll(() => master.store.writing).toBe(2);
    const closed = master.server.close();
    release();
    for (const call of calls) expect((await call).position).toMatchObject({ epoch: 1n });
    await closed;
  });

  test("of the replica is not held up by a master that hangs", async () => {
    const { master, replica } = await startPair({ drainTimeoutMs: 50 });
    let release = (): void => undefined;
    master.store.gate = new Promise((resolve) => (release = resolve));
    const call = failureOf(set(replica.url));
    await expect.poll(() => master.store.writing).toBe(1);
    await replica.server.close();
    await call;
    release();
  });
});
