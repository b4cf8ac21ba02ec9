/** When writes are answered, as callers ask for it, and what they are told when that takes too long. */
import {
  type Client,
  Code,
  ConnectError,
  createClient,
  createContextValues,
  type HandlerContext,
  type Transport,
} from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { Acknowledge, OutcomeUnknownSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { AssertionError, must } from "../base/assert.js";
import { FakeClock } from "../base/clock.js";
import { epoch, type Seq, seq } from "../base/position.js";
import { ReplicationError } from "../replication/replicator.js";
import { StoreError } from "../store/store.js";
import { AcknowledgedWrites } from "./acknowledged.js";
import { callJson, startTestServer, type TestServer } from "./testing/test-server.js";

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

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => expect.fail("the call succeeded"),
    (error: unknown) => ConnectError.from(error),
  );
}

type Options = Parameters<Client<typeof KVStore>["set"]>[1];
const value = new Uint8Array([1]);

/** Every write that says when it is to be answered. */
const writes: [string, (url: string, acknowledge: Acknowledge, options?: Options) => Promise<unknown>][] = [
  ["Set", (url, acknowledge, options) => createClient(KVStore, http1(url)).set({ key: "k", acknowledge }, options)],
  [
    "Delete",
    (url, acknowledge, options) => createClient(KVStore, http1(url)).delete({ key: "k", acknowledge }, options),
  ],
  [
    "Write",
    (url, acknowledge, options) => {
      const operations = [{ operation: { case: "set" as const, value: { key: "k" } } }];
      return createClient(KVStore, http1(url)).write({ operations, acknowledge }, options);
    },
  ],
  [
    "Produce",
    (url, acknowledge, options) => createClient(Log, http1(url)).produce({ record: value, acknowledge }, options),
  ],
];

const optionsOf = ({ store, records }: TestServer) => [...store.writeOptions, ...records.writeOptions];

describe.each(writes)("%s", (_name, write) => {
  test("asks the store for what its caller asked for", async () => {
    const running = await start();
    const { UNSPECIFIED, MASTER, COMMITTED } = Acknowledge;
    for (const acknowledge of [UNSPECIFIED, COMMITTED, MASTER]) await write(running.url, acknowledge);
    expect(optionsOf(running)).toMatchObject([
      { acknowledge: "committed", timeoutMs: 10_000 },
      { acknowledge: "committed", timeoutMs: 10_000 },
      { acknowledge: "kept", timeoutMs: 10_000 },
    ]);
    expect(running.replicator.replications.count).toBe(0);
    expect(running.replicator.hastened).toBe(0);
  });

  test("that all are to keep is answered once they do, and not before", async () => {
    const running = await start();
    const { replicator } = running;
    let isAnswered = false;
    const call = write(running.url, Acknowledge.ALL).finally(() => (isAnswered = true));
    await expect.poll(() => replicator.replications.count).toBe(1);
    expect(isAnswered).toBe(false);
    expect(replicator.hastened).toBe(1);
    expect(optionsOf(running)).toMatchObject([{ acknowledge: "committed" }]);
    replicator.replications.release();
    await call;
    expect(replicator.replications.count).toBe(0);
  });

  test("that not all keep in time is told that it is committed, and where", async () => {
    const clock = new FakeClock();
    const { url, replicator } = await start({ clock });
    const call = failureOf(write(url, Acknowledge.ALL));
    await expect.poll(() => replicator.replications.count).toBe(1);
    clock.advance(10_000);
    const error = await call;
    expect(error.code).toBe(Code.Unavailable);
    expect(error.rawMessage).toMatch(/^the write is committed at seq \d+, but not every connected node/);
    const [detail] = error.findDetails(OutcomeUnknownSchema);
    expect(detail?.position).toMatchObject({ epoch: 1n });
    expect(replicator.replications.count).toBe(0);
  });

  test("whose mastership ends before all keep it is told so too, and never as a refusal", async () => {
    const { url, replicator } = await start();
    const call = failureOf(write(url, Acknowledge.ALL));
    await expect.poll(() => replicator.replications.count).toBe(1);
    replicator.replications.fail(new ReplicationError("not_master", "this node has stepped down"));
    const error = await call;
    expect(error.findDetails(OutcomeUnknownSchema)).toHaveLength(1);
    expect(error.rawMessage).toContain("stepped down");
  });

  test("that is to be answered in a way that this version does not know is refused, and not done", async () => {
    const running = await start();
    for (const unknown of [4, 99, -1]) {
      const error = await failureOf(write(running.url, unknown));
      expect(error.code).toBe(Code.InvalidArgument);
      expect(error.rawMessage).toContain(`acknowledge is ${unknown}`);
    }
    expect(optionsOf(running)).toEqual([]);
  });

  test("has a little less time than its caller waits, where that is less than a write may take", async () => {
    const running = await start();
    await write(running.url, Acknowledge.COMMITTED, { timeoutMs: 5000 });
    await write(running.url, Acknowledge.COMMITTED, { timeoutMs: 500 });
    await write(running.url, Acknowledge.COMMITTED, { timeoutMs: 60_000 });
    const [long, short, endless] = optionsOf(running).map((options) => options?.timeoutMs ?? 0);
    expect(long).toBeLessThanOrEqual(4900);
    expect(long).toBeGreaterThan(3000);
    expect(short).toBeLessThanOrEqual(450);
    expect(short).toBeGreaterThan(0);
    expect(endless).toBe(10_000);
  });

  test("that is over time in the store is told where its record is", async () => {
    const { url, store, records } = await start();
    const position = { epoch: epoch(3), seq: seq(77) };
    store.failure = records.failure = new StoreError("outcome_unknown", "not committed in time", { position });
    const error = await failureOf(write(url, Acknowledge.COMMITTED));
    expect(error.code).toBe(Code.Unavailable);
    expect(error.findDetails(OutcomeUnknownSchema)).toMatchObject([{ position: { epoch: 3n, seq: 77n } }]);
  });
});

describe("a write that changes nothing", () => {
  /** What the store asks when it has made no record, and who is asked. */
  async function ask(clock: FakeClock, caller = new AbortController()) {
    const asked: { readonly signal: AbortSignal; readonly yes: () => void }[] = [];
    const linearizableSeq = (signal: AbortSignal): Promise<Seq> =>
      new Promise((resolve, reject) => {
        asked.push({ signal, yes: () => resolve(seq(1)) });
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    const replicator = { linearizableSeq, whenReplicated: () => Promise.resolve(), hasten: () => undefined };
    const writes = new AcknowledgedWrites({ replicator, clock, timeoutMs: 1000 });
    const values = createContextValues();
    const context = { signal: caller.signal, timeoutMs: () => undefined, values } as HandlerContext;
    const receipt = { position: { epoch: epoch(1), seq: seq(1) } };
    const written = writes.write("committed", context, async ({ confirm }) => {
      clock.advance(400);
      await confirm?.();
      return receipt;
    });
    await expect.poll(() => asked.length).toBe(1);
    return { written, receipt, asked: must(asked[0], "somebody is asked") };
  }

  test("is answered once it is confirmed that this node is master", async () => {
    const { written, receipt, asked } = await ask(new FakeClock());
    asked.yes();
    expect(await written).toBe(receipt);
  });

  test("is told so where nobody confirms it within the time of a write", async () => {
    const clock = new FakeClock();
    const { written } = await ask(clock);
    clock.advance(600);
    await expect(written).rejects.toMatchObject({
      code: "timeout",
      message: expect.stringContaining("nothing was changed") as string,
    });
  });

  test("and whose caller leaves asks nobody any longer", async () => {
    const caller = new AbortController();
    const { written, asked } = await ask(new FakeClock(), caller);
    caller.abort(new Error("gone"));
    await expect(written).rejects.toThrow("gone");
    expect(asked.signal.aborted).toBe(true);
  });
});

test("a batch is answered as a whole: an operation in it that says when is refused, and nothing is done", async () => {
  const running = await start();
  const client = createClient(KVStore, http1(running.url));
  for (const operation of [
    { case: "set" as const, value: { key: "k", acknowledge: Acknowledge.COMMITTED } },
    { case: "delete" as const, value: { key: "k", acknowledge: Acknowledge.ALL } },
    { case: "delete" as const, value: { key: "k", acknowledge: 99 as Acknowledge } },
  ]) {
    const fine = { operation: { case: "set" as const, value: { key: "a" } } };
    const error = await failureOf(client.write({ operations: [fine, { operation }] }));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.rawMessage).toMatch(/^operations\[1\]\.(set|delete)\.acknowledge is given/);
  }
  expect(optionsOf(running)).toEqual([]);
});

test("a truncation, and each record of a stream, has the time of a write and is committed", async () => {
  const running = await start();
  running.records.add("a", "b");
  await createClient(Log, http1(running.url)).truncate({ belowOffset: 1n });
  const sessionManager = new Http2SessionManager(running.url);
  cleanups.push(() => sessionManager.abort());
  const client = createClient(Log, createGrpcTransport({ baseUrl: running.url, sessionManager }));
  async function* records() {
    yield { record: value };
  }
  for await (const { offset } of client.produceStream(records())) expect(offset).toBe(2n);
  expect(running.records.writeOptions).toMatchObject([
    { acknowledge: "committed", timeoutMs: 10_000 },
    { acknowledge: "committed", timeoutMs: 10_000 },
  ]);
});

test("a word of JSON that is no acknowledgement is refused, and those of the contract are taken", async () => {
  const running = await start();
  const set = (acknowledge: unknown) => callJson(running.port, "cambium.v1.KVStore/Set", { key: "k", acknowledge });
  expect(await set("ACKNOWLEDGE_MASTER")).toMatchObject({ status: 200 });
  for (const nonsense of ["MASTER", "all", 99, {}]) {
    expect(await set(nonsense)).toMatchObject({ status: 400, json: { code: "invalid_argument" } });
  }
  expect(running.store.writeOptions).toMatchObject([{ acknowledge: "kept" }]);
});

describe("a write that all are to keep", () => {
  test("and whose caller leaves, leaves no waiter behind", async () => {
    const { url, replicator } = await start();
    const leaving = new AbortController();
    const call = failureOf(
      createClient(KVStore, http1(url)).set({ key: "k", acknowledge: Acknowledge.ALL }, { signal: leaving.signal }),
    );
    await expect.poll(() => replicator.replications.count).toBe(1);
    leaving.abort();
    expect((await call).code).toBe(Code.Canceled);
    await expect.poll(() => replicator.replications.count).toBe(0);
  });

  test("goes on while the node shuts down, for its caller would not know what became of it", async () => {
    const { url, replicator, server } = await start();
    const call = createClient(KVStore, http1(url)).set({ key: "k", acknowledge: Acknowledge.ALL });
    await expect.poll(() => replicator.replications.count).toBe(1);
    const closed = server.close();
    expect(replicator.replications.count).toBe(1);
    replicator.replications.release();
    expect((await call).position).toBeDefined();
    await closed;
  });

  test("does not take a mistake of this node for an outcome", async () => {
    const { url, replicator, bugs } = await start();
    const call = failureOf(createClient(KVStore, http1(url)).set({ key: "k", acknowledge: Acknowledge.ALL }));
    await expect.poll(() => replicator.replications.count).toBe(1);
    const bug = new AssertionError("an ack goes back");
    replicator.replications.fail(bug);
    expect((await call).code).toBe(Code.Internal);
    expect(bugs).toEqual([bug]);
  });
});

test("a write whose caller waits no longer when it arrives is not begun", async () => {
  const running = await start();
  const answer = await callJson(running.port, "cambium.v1.KVStore/Set", { key: "k" }, { "connect-timeout-ms": "0" });
  expect(answer).toMatchObject({ status: 504, json: { code: "deadline_exceeded" } });
  expect(running.store.writeOptions).toEqual([]);
});
