import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { OutcomeUnknownSchema, RetryTooOldSchema } from "../gen/cambium/v1/types_pb.js";
import { CambiumError } from "./cambium-error.js";
import { type CambiumClient, createClient as createFetchClient } from "./client.js";
import type { ClientOptions } from "./options.js";
import { createClient } from "./node.js";
import { FakeCluster } from "./testing/fake-cluster.js";

const closers: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(nodes = 1): Promise<FakeCluster> {
  const cluster = await new FakeCluster().start(nodes);
  closers.push(() => cluster.close());
  return cluster;
}

function client(
  cluster: FakeCluster,
  options: Partial<ClientOptions> = {},
  make: (options: ClientOptions) => CambiumClient = createClient,
): CambiumClient {
  const made = make({ endpoints: cluster.nodes.map(({ address }) => address), retryDelayMs: 1, ...options });
  closers.push(() => made.close());
  return made;
}

async function failure(promise: Promise<unknown>): Promise<CambiumError> {
  const error: unknown = await promise.then(
    () => expect.fail("expected an error"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CambiumError);
  return error as CambiumError;
}

const unknownOutcome = (): ConnectError =>
  new ConnectError("stepped down", Code.Unavailable, undefined, [
    { desc: OutcomeUnknownSchema, value: { position: { epoch: 1n, seq: 7n } } },
  ]);

describe.each<[string, (options: ClientOptions) => CambiumClient]>([
  ["fetch", createFetchClient],
  ["Node", createClient],
])("over %s", (_, make) => {
  test("a write whose answer was lost is sent again, and done once", async () => {
    const cluster = await start();
    const [node] = cluster.nodes;
    let lost = 0;
    node!.afterWrite = () => {
      if (++lost > 1) return;
      node!.cutConnections();
      return new Promise(() => {});
    };
    const kv = client(cluster, {}, make);
    const receipt = await kv.increment("visits");
    expect(receipt).toMatchObject({ value: 1n, repeated: true, position: { seq: 2 } });
    expect(await kv.increment("visits")).not.toHaveProperty("repeated");
    expect(node!.retries.map(({ clientSeq }) => clientSeq)).toEqual([1n, 1n, 2n]);
    expect(node!.retries[0]!.clientId).toMatch(/^[0-9a-f]{32}$/);
  });
});

test("every kind of write carries a number of its own, under one id a client and its sessions", async () => {
  const cluster = await start();
  const kv = client(cluster);
  await kv.set("k", "v");
  await kv.session().delete("k");
  await kv.touch("k", 1);
  await kv.increment("n");
  await kv.deleteRange({ all: true });
  await kv.txn().do({ kind: "set", key: "k", value: "v" }).commit();
  await kv.write([{ kind: "delete", key: "k" }]);
  await kv.produce("record");
  for await (const _ of kv.produceMany(["record"]));
  const { retries } = cluster.nodes[0]!;
  expect(retries.map(({ clientSeq }) => Number(clientSeq))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(new Set(retries.map(({ clientId }) => clientId)).size).toBe(1);
  await client(cluster).set("k", "v");
  expect(retries.at(-1)!.clientId).not.toBe(retries[0]!.clientId);
});

test("a write that was done before the master was lost is answered by the next one as it was then", async () => {
  const cluster = await start(2);
  const [old, heir] = cluster.nodes;
  old!.afterWrite = () => {
    cluster.makeMaster(heir!);
    throw unknownOutcome();
  };
  expect(await client(cluster).set("k", "v")).toMatchObject({ repeated: true, position: { seq: 2 } });
  expect(cluster.seq).toBe(2n);
});

test("a node that swallows a write does not take all of its time", async () => {
  const cluster = await start(2);
  const [silent, heir] = cluster.nodes;
  silent!.before = () => {
    cluster.makeMaster(heir!);
    return new Promise(() => {});
  };
  await client(cluster, { timeoutMs: 4_000 }).set("k", "v");
  expect(heir!.retries).toMatchObject([{ clientSeq: 1n }]);
});

test("a write that may have been done stays unknown whatever is heard after it, until its time is over", async () => {
  const cluster = await start();
  const [node] = cluster.nodes;
  const answers = [unknownOutcome, () => new ConnectError("disk full", Code.ResourceExhausted)];
  node!.before = () => {
    throw answers.shift()!();
  };
  const error = await failure(client(cluster).set("k", "v"));
  expect(error).toMatchObject({ code: "outcome_unknown", outcomeUnknown: true, position: { epoch: 1, seq: 7 } });
  expect(error.message).toMatch(/stepped down; then disk full/);

  let tries = 0;
  node!.before = () => {
    tries++;
    throw tries === 1 ? unknownOutcome() : new ConnectError("not ready", Code.Unavailable);
  };
  const patient = failure(client(cluster, { writeRounds: 2, timeoutMs: 300 }).set("k", "v"));
  // On a busy machine the last of the tries may be what its time is over in.
  expect(await patient).toMatchObject({ outcomeUnknown: true, position: { epoch: 1, seq: 7 } });
  expect(tries).toBeGreaterThan(2);
});

test("a write whose place was told once keeps it, although the node is silent from then on", async () => {
  const cluster = await start();
  let tries = 0;
  cluster.nodes[0]!.before = () => {
    if (++tries === 1) throw unknownOutcome();
    return new Promise(() => {});
  };
  const error = await failure(client(cluster, { timeoutMs: 300 }).set("k", "v"));
  expect(error).toMatchObject({ outcomeUnknown: true, position: { epoch: 1, seq: 7 } });
  expect(error.message).toMatch(/stepped down; then .* did not answer within/);
  expect(tries).toBeGreaterThan(1);
});

test("a signal ends the tries, and the outcome is as unknown as it was", async () => {
  const cluster = await start();
  const controller = new AbortController();
  cluster.nodes[0]!.before = () => {
    setImmediate(() => controller.abort());
    throw unknownOutcome();
  };
  const kv = client(cluster, { retryDelayMs: 1_000_000, timeoutMs: 10_000_000 });
  const error = await failure(kv.set("k", "v", { signal: controller.signal }));
  expect(error).toMatchObject({ code: "canceled", outcomeUnknown: true });
});

test("what the master refuses by the state of the key is known not to be done, after an unknown try too", async () => {
  const cluster = await start();
  const [node] = cluster.nodes;
  const kv = client(cluster);
  await kv.set("k", "v");
  node!.before = () => {
    node!.before = () => {};
    throw unknownOutcome();
  };
  const error = await failure(kv.set("k", "w", { ifAbsent: true }));
  expect(error).toMatchObject({ code: "condition_failed", outcomeUnknown: false });
});

test("a retry that comes too late says so, and that nobody knows", async () => {
  const cluster = await start();
  cluster.nodes[0]!.before = () => {
    throw new ConnectError("forgotten", Code.FailedPrecondition, undefined, [
      { desc: RetryTooOldSchema, value: { oldestClientSeq: 9n } },
    ]);
  };
  const kv = client(cluster, { retries: { clientId: "job 7", nextSeq: 20 } });
  expect(await failure(kv.set("k", "v", { clientSeq: 3 }))).toMatchObject({
    code: "retry_too_old",
    outcomeUnknown: true,
    oldestClientSeq: 9,
  });
});

test("an id and numbers of the caller's own outlive the process", async () => {
  const cluster = await start();
  const first = client(cluster, { retries: { clientId: "job 7", nextSeq: 1 } });
  const receipt = await first.increment("n", 5, { clientSeq: 3 });
  await first.set("k", "v");
  const second = client(cluster, { retries: { clientId: "job 7", nextSeq: 5 } });
  expect(await second.increment("n", 5, { clientSeq: 3 })).toEqual({ ...receipt, repeated: true });
  await second.set("k", "w");
  const { retries } = cluster.nodes[0]!;
  expect(retries.map(({ clientId, clientSeq }) => `${clientId} ${clientSeq}`)).toEqual([
    "job 7 3",
    "job 7 4",
    "job 7 3",
    "job 7 5",
  ]);
  for (const retries of [
    { clientId: "", nextSeq: 1 },
    { clientId: "ü".repeat(33), nextSeq: 1 },
    { clientId: "\ud800", nextSeq: 1 },
    { clientId: "a", nextSeq: 0 },
  ]) {
    expect(() => client(cluster, { retries })).toThrow(CambiumError);
  }
  expect(await failure(second.set("k", "v", { clientSeq: 0 }))).toMatchObject({ code: "invalid_argument" });
  const plain = client(cluster, { retries: false });
  expect(await failure(plain.set("k", "v", { clientSeq: 1 }))).toMatchObject({ code: "invalid_argument" });
});

test("switched off, a write carries no number, and is not sent again", async () => {
  const cluster = await start();
  const [node] = cluster.nodes;
  const kv = client(cluster, { retries: false });
  await kv.set("k", "v");
  expect(node!.retries).toEqual([{ clientId: "", clientSeq: 0n }]);
  node!.before = () => {
    throw unknownOutcome();
  };
  expect(await failure(kv.set("k", "v"))).toMatchObject({ code: "outcome_unknown" });
  expect(node!.requests).toHaveLength(2);
});

describe("a write that would leave an unanswered one behind by 128", () => {
  /** The first write is held until it is let go. */
  const held = async (): Promise<{
    cluster: FakeCluster;
    kv: CambiumClient;
    letGo: () => void;
    all: Promise<unknown>[];
  }> => {
    const cluster = await start();
    const [node] = cluster.nodes;
    const kv = client(cluster);
    let letGo = (): void => {};
    const released = new Promise<void>((resolve) => (letGo = resolve));
    let writes = 0;
    node!.before = () => (++writes === 1 ? released : undefined);
    const all = [kv.set("first", "v")];
    await expect.poll(() => node!.requests.length).toBe(1);
    for (let i = 2; i <= 128; i++) all.push(kv.set(`k${i}`, "v"));
    await Promise.all(all.slice(1));
    return { cluster, kv, letGo, all };
  };

  test("waits for it, and those behind wait in their order", async () => {
    const { cluster, kv, letGo, all } = await held();
    const { retries, requests } = cluster.nodes[0]!;
    all.push(kv.set("k129", "v"), kv.set("k130", "v"));
    // A read passes by.
    await kv.get("k2");
    expect(requests.filter(({ method }) => method === "write")).toHaveLength(128);
    letGo();
    await Promise.all(all);
    expect(retries.slice(-2).map(({ clientSeq }) => clientSeq)).toEqual([129n, 130n]);
  });

  test("waits no longer than its own time, or its signal, and has certainly not been done", async () => {
    const { cluster, kv, letGo, all } = await held();
    const late = await failure(kv.set("late", "v", { timeoutMs: 20 }));
    expect(late).toMatchObject({ code: "deadline_exceeded", outcomeUnknown: false });
    const controller = new AbortController();
    const canceled = failure(kv.set("canceled", "v", { signal: controller.signal }));
    const last = kv.set("last", "v");
    controller.abort();
    expect(await canceled).toMatchObject({ code: "canceled", outcomeUnknown: false });
    expect(await failure(kv.set("k", "v", { signal: AbortSignal.abort() }))).toMatchObject({ code: "canceled" });
    letGo();
    await Promise.all([...all, last]);
    expect(cluster.nodes[0]!.retries.at(-1)!.clientSeq).toBe(129n);
  });
});

describe("a client's own session", () => {
  test("is kept by default: what was written is read at a node that lags, once it has it, or at another", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const endpoints = [replica!.address, master!.address];
    const kv = client(cluster, { endpoints });
    await kv.increment("n");
    replica!.appliedSeq = 1n;
    expect(await kv.getText("n")).toBe("1");
    await kv.txn().do({ kind: "set", key: "n", value: "2" }).commit();
    replica!.appliedSeq = 2n;
    expect(await kv.getText("n")).toBe("2");
    await kv.deleteRange({ prefix: "n" });
    replica!.appliedSeq = 3n;
    expect(await kv.count()).toBe(0);
    expect(await client(cluster, { endpoints, session: false }).count()).toBe(1);
  });

  test("tells once what a failover has lost, and begins anew", async () => {
    const cluster = await start(2);
    const kv = client(cluster);
    const mine = kv.session();
    await kv.set("a", "1");
    await mine.get("a");
    cluster.failOver(cluster.nodes[1]!, 1n);
    expect(await failure(kv.get("a"))).toMatchObject({ code: "lineage_lost" });
    expect(await kv.get("a")).toBeUndefined();
    for (const _ of [1, 2]) expect(await failure(mine.get("a"))).toMatchObject({ code: "lineage_lost" });
  });
});

test("whatever is lost on the way, each write was done once, and has its own answer", async () => {
  const fault = fc.record({
    node: fc.nat(1),
    at: fc.constantFrom("before", "after"),
    kind: fc.constantFrom("unknown", "unavailable", "moved"),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fault, { maxLength: 10 }), fc.integer({ min: 1, max: 3 }), async (faults, calls) => {
      const cluster = new FakeCluster();
      const nodes = [cluster.addNode(), cluster.addNode()];
      const left = [...faults];
      const fail = (at: string, node: number): void => {
        if (left[0]?.at !== at || left[0].node !== node) return;
        const { kind } = left.shift()!;
        if (kind === "moved") cluster.makeMaster(nodes[1 - node]!);
        // Whoever has done it must not say that it has not.
        else if (kind === "unavailable" && at === "before") throw new ConnectError("not now", Code.Unavailable);
        else throw unknownOutcome();
      };
      for (const [index, node] of nodes.entries()) {
        node.before = () => fail("before", index);
        node.afterWrite = () => fail("after", index);
      }
      const kv = createFetchClient({
        endpoints: ["fake:0", "fake:1"],
        transport: (url) => ({ transport: createRouterTransport(nodes[Number(new URL(url).port)]!.routes) }),
        retryDelayMs: 1,
        writeRounds: 50,
      });
      const add = async (): Promise<bigint[]> => {
        const sums: bigint[] = [];
        for (let i = 0; i < 5; i++) sums.push((await kv.increment("n")).value);
        return sums;
      };
      const sums = (await Promise.all(Array.from({ length: calls }, add))).flat();
      expect(sums.toSorted((a, b) => Number(a - b))).toEqual(sums.map((_, index) => BigInt(index + 1)));
      kv.close();
    }),
    { numRuns: 60 },
  );
});
