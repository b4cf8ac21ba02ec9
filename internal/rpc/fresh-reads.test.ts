/** How fresh reads are, as callers ask for it and are told. */
import { connect as connectSocket } from "node:net";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { LineageLostSchema, NotFreshEnoughSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { FakeClock } from "../base/clock.js";
import { epoch, seq } from "../base/position.js";
import { ReplicationError, type ReplicationErrorCode } from "../replication/replicator.js";
import { StoreError } from "../store/store.js";
import { callJson, send, startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(() => running.server.close());
  return running;
}

const http1 = (url: string): Transport => createConnectTransport({ baseUrl: url, httpVersion: "1.1" });

function grpc(url: string): Transport {
  const sessionManager = new Http2SessionManager(url);
  cleanups.push(() => sessionManager.abort());
  return createGrpcTransport({ baseUrl: url, sessionManager });
}

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => expect.fail("the call succeeded"),
    (error: unknown) => ConnectError.from(error),
  );
}

type Consistency = NonNullable<Parameters<ReturnType<typeof createClient<typeof KVStore>>["get"]>[0]["consistency"]>;

/** Every method that takes a consistency. */
const reads: Record<string, (transport: Transport, consistency: Consistency) => Promise<unknown>> = {
  Get: (transport, consistency) => createClient(KVStore, transport).get({ key: "k", consistency }),
  BatchGet: (transport, consistency) => createClient(KVStore, transport).batchGet({ keys: ["k"], consistency }),
  Scan: (transport, consistency) => createClient(KVStore, transport).scan({ consistency }),
  Consume: (transport, consistency) => createClient(Log, transport).consume({ offset: 0n, consistency }),
};

const waitersOf = ({ store, replicator }: TestServer): number => store.reads.count + replicator.confirmations.count;

describe.each(Object.entries(reads))("%s", (_name, read) => {
  async function startWithRecord(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
    const running = await start(options);
    running.records.add("a");
    return running;
  }

  test("is answered at once when what it asks for is there", async () => {
    const running = await startWithRecord();
    const transport = http1(running.url);
    await read(transport, {});
    await read(transport, { atLeast: new Uint8Array([1]), atLeastSeq: 1n, maxStalenessMs: 0n });
    expect(waitersOf(running)).toBe(0);
  });

  test("waits for a token, for a seq, and for the master's confirmation with what it confirmed", async () => {
    const running = await startWithRecord();
    const { store, replicator, url } = running;
    const byToken = read(http1(url), { atLeast: new Uint8Array([2]) });
    const bySeq = read(http1(url), { atLeastSeq: 2n });
    await expect.poll(() => store.reads.count).toBe(2);
    store.apply(2);
    await Promise.all([byToken, bySeq]);
    const confirmed = read(http1(url), { linearizable: true });
    await expect.poll(() => replicator.confirmations.count).toBe(1);
    replicator.confirmations.release(seq(3));
    await expect.poll(() => store.reads.count).toBe(1);
    store.apply(3);
    await confirmed;
    expect(waitersOf(running)).toBe(0);
  });

  test("is refused with what this node has when that is too old, or its age is not known", async () => {
    const { replicator, url, store } = await startWithRecord();
    store.apply(7);
    for (const [staleness, stalenessMs] of [
      [1500.2, 1501n],
      [undefined, undefined],
    ] as const) {
      replicator.staleness = staleness;
      const error = await failureOf(read(http1(url), { maxStalenessMs: 1000n }));
      expect(error.code).toBe(Code.Unavailable);
      expect(error.findDetails(NotFreshEnoughSchema)).toMatchObject([
        { applied: { epoch: 1n, seq: 7n }, ...(stalenessMs !== undefined && { stalenessMs }) },
      ]);
    }
  });

  test("is refused after the longest wait that this node allows, and leaves no waiter", async () => {
    const clock = new FakeClock();
    const running = await startWithRecord({ clock, maxReadWaitMs: 300 });
    for (const consistency of [{ atLeast: new Uint8Array([99]) }, { atLeastSeq: 99n }, { linearizable: true }]) {
      const call = failureOf(read(http1(running.url), consistency));
      await expect.poll(() => waitersOf(running)).toBe(1);
      clock.advance(300);
      const error = await call;
      expect(error.code).toBe(Code.Unavailable);
      expect(error.rawMessage).toContain("300 ms (limits.max_read_wait)");
      expect(error.findDetails(NotFreshEnoughSchema)).toMatchObject([{ applied: { seq: 1n }, stalenessMs: 0n }]);
      expect(waitersOf(running)).toBe(0);
    }
  });

  test("is told by the typed detail where a failover lost what the token stands for", async () => {
    const { store, url } = await startWithRecord();
    store.lost = new StoreError("lineage_lost", "lost", { fork: { epoch: epoch(1), seq: seq(5) } });
    const error = await failureOf(read(http1(url), { atLeast: new Uint8Array([1]) }));
    expect(error.code).toBe(Code.Aborted);
    expect(error.findDetails(LineageLostSchema)).toMatchObject([{ fork: { epoch: 1n, seq: 5n } }]);
    store.lost = new StoreError("lineage_lost", "lost");
    const [unknown] = (await failureOf(read(grpc(url), { atLeast: new Uint8Array([1]) }))).findDetails(
      LineageLostSchema,
    );
    expect(unknown).toBeDefined();
    expect(unknown?.fork).toBeUndefined();
  });

  test("of a token that is none, or of numbers beyond all, is the caller's mistake", async () => {
    const { store, url } = await startWithRecord();
    for (const consistency of [{ atLeastSeq: 2n ** 63n }, { maxStalenessMs: 2n ** 64n - 1n }]) {
      const error = await failureOf(read(http1(url), consistency));
      expect(error.code).toBe(Code.InvalidArgument);
      expect(error.rawMessage).toMatch(/^consistency\.(at_least_seq|max_staleness_ms) must be from 0 to/);
    }
    store.lost = new StoreError("invalid_token", "give back a token exactly as it came");
    expect((await failureOf(read(http1(url), { atLeast: new Uint8Array(5000) }))).code).toBe(Code.InvalidArgument);
  });

  test("of a node that has nothing to show is refused before it waits", async () => {
    const running = await startWithRecord();
    running.store.notReadyReason = "it has never caught up";
    const error = await failureOf(read(http1(running.url), { linearizable: true }));
    expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: "it has never caught up" });
    expect(waitersOf(running)).toBe(0);
  });

  test("whose master is not confirmed is refused as one that is not fresh, whatever the reason", async () => {
    const { replicator, url } = await startWithRecord();
    for (const code of ["not_master", "unreachable", "refused", "no_majority", "timeout"] as ReplicationErrorCode[]) {
      replicator.failure = new ReplicationError(code, `because of ${code}`);
      const error = await failureOf(read(http1(url), { linearizable: true }));
      expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: `because of ${code}` });
      expect(error.findDetails(NotFreshEnoughSchema)).toHaveLength(1);
    }
    replicator.failure = new ReplicationError("closing", "this node is shutting down");
    expect((await failureOf(read(http1(url), { linearizable: true }))).findDetails(NotFreshEnoughSchema)).toEqual([]);
  });
});

describe("a read that waits", () => {
  test("and whose deadline passes is told so, with how fresh this node is", async () => {
    const running = await start();
    const consistency = { atLeastSeq: "99" };
    const { status, json } = await callJson(
      running.port,
      "cambium.v1.KVStore/Get",
      { key: "k", consistency },
      { "connect-timeout-ms": "20" },
    );
    expect(status).toBe(504);
    expect(json).toMatchObject({
      code: "deadline_exceeded",
      details: [{ type: "cambium.v1.NotFreshEnough", debug: { applied: { epoch: "1", seq: "1" }, stalenessMs: "0" } }],
    });
    expect(waitersOf(running)).toBe(0);
  });

  test("and whose caller leaves, over HTTP/1.1 or HTTP/2, leaves no waiter behind", async () => {
    const running = await start();
    const body = '{"key":"k","consistency":{"atLeastSeq":"99"}}';
    const socket = connectSocket(running.port, "127.0.0.1", () => {
      socket.write(
        `POST /cambium.v1.KVStore/Get HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    });
    const leaving = new AbortController();
    const call = failureOf(
      createClient(KVStore, grpc(running.url)).get(
        { key: "k", consistency: { linearizable: true } },
        { signal: leaving.signal },
      ),
    );
    await expect.poll(() => waitersOf(running)).toBe(2);
    socket.destroy();
    leaving.abort();
    expect((await call).code).toBe(Code.Canceled);
    await expect.poll(() => waitersOf(running)).toBe(0);
  });

  test("ends when the node shuts down, with the reason", async () => {
    const running = await start();
    const call = failureOf(
      createClient(KVStore, http1(running.url)).get({ key: "k", consistency: { atLeastSeq: 99n } }),
    );
    await expect.poll(() => waitersOf(running)).toBe(1);
    await running.server.close();
    expect(await call).toMatchObject({ code: Code.Unavailable, rawMessage: expect.stringContaining("shutting down") });
    expect(waitersOf(running)).toBe(0);
  });

  test("is answered from the state that it waited for", async () => {
    const { url, store } = await start();
    const client = createClient(KVStore, http1(url));
    const read = client.get({ key: "k", consistency: { atLeastSeq: 2n } });
    await expect.poll(() => store.reads.count).toBe(1);
    await client.set({ key: "k", value: new Uint8Array([7]) });
    store.apply(2);
    expect(await read).toMatchObject({ exists: true, modSeq: 2n, position: { seq: 2n } });
  });
});

describe("the words of JSON", () => {
  test("are those of the contract, by POST and by GET", async () => {
    const { port } = await start();
    const consistency = { atLeast: "AQ==", atLeastSeq: "1", maxStalenessMs: "0", linearizable: false };
    expect((await callJson(port, "cambium.v1.KVStore/Get", { key: "k", consistency })).status).toBe(200);
    const message = encodeURIComponent(JSON.stringify({ key: "k", consistency }));
    const got = await send(port, `/cambium.v1.KVStore/Get?encoding=json&message=${message}`, { method: "GET" });
    expect(got.status).toBe(200);
  });

  test("that are misspelt are refused, or a read would be weaker than its caller thinks", async () => {
    const { port } = await start();
    for (const consistency of [{ linearisable: true }, { atLeastToken: "AQ==" }, { linearizable: "yes" }]) {
      const { status, json } = await callJson(port, "cambium.v1.KVStore/Get", { key: "k", consistency });
      expect(status).toBe(400);
      expect(json).toMatchObject({ code: "invalid_argument" });
    }
  });
});
