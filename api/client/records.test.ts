import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, test } from "vitest";
import { CambiumError } from "./cambium-error.js";
import { type CambiumClient, createClient } from "./client.js";
import type { ClientOptions } from "./options.js";
import { createClient as createNodeClient } from "./node.js";
import type { ProducedRecord } from "./record.js";
import { recordBatches } from "./record-batches.js";
import { FakeCluster } from "./testing/fake-cluster.js";
import { FakeRecordLog } from "./testing/fake-record-log.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const closers: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(nodes = 1): Promise<FakeCluster> {
  const cluster = await new FakeCluster().start(nodes);
  closers.push(() => cluster.close());
  return cluster;
}

type Maker = (options: ClientOptions) => CambiumClient;

function clientOf(
  cluster: FakeCluster,
  make: Maker = createNodeClient,
  options: Partial<ClientOptions> = {},
): CambiumClient {
  const endpoints = cluster.nodes.map(({ address }) => address);
  const client = make({ endpoints, retryDelayMs: 1, avoidMs: 60_000, ...options });
  closers.push(() => client.close());
  return client;
}

const text = ({ record }: ProducedRecord): string => Buffer.from(record).toString();

async function all(records: AsyncIterable<ProducedRecord>): Promise<string[]> {
  const found: string[] = [];
  for await (const record of records) found.push(text(record));
  return found;
}

async function failure(promise: Promise<unknown>): Promise<CambiumError> {
  const error: unknown = await promise.then(
    (value) => expect.fail(`expected an error, got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CambiumError);
  return error as CambiumError;
}

/** The next record of a reader. */
async function next(records: AsyncGenerator<ProducedRecord>): Promise<string> {
  const result = await records.next();
  return result.done ? "(the end)" : text(result.value);
}

const makers: [string, Maker][] = [
  ["fetch", createClient],
  ["HTTP/1.1 of Node", createNodeClient],
];

describe.each(makers)("over %s", (_, make) => {
  test("what is produced is consumed, from the start or from an offset, to the end or up to a limit", async () => {
    const client = clientOf(await start(), make);
    expect(await client.produce("a")).toMatchObject({ offset: 0, count: 1, position: { epoch: 1 } });
    for (const record of ["b", "c", "d", new Uint8Array([255])]) await client.produce(record);
    const follow = false;
    const first = await client.consume({ follow, limit: 1 }).next();
    expect(first.value).toEqual({
      offset: 0,
      record: new Uint8Array([97]),
      position: { epoch: 1, seq: 2 },
      timestampMs: 1_700_000_000_000,
    });
    expect(await all(client.consume({ follow, offset: 1, limit: 3 }))).toEqual(["b", "c", "d"]);
    expect(await all(client.consume({ follow, offset: 5 }))).toEqual([]);
    expect(await all(client.consume({ follow }))).toHaveLength(5);
    expect(await client.recordRange()).toEqual({ start: 0, end: 5 });
    expect(await client.truncateRecords(3)).toMatchObject({ start: 3 });
    expect(await client.recordRange()).toEqual({ start: 3, end: 5 });
    expect(await all(client.consume({ follow, limit: 1 }))).toEqual(["d"]);
  });

  test("a reader follows the end, and the node hears when it leaves", async () => {
    const cluster = await start();
    const client = clientOf(cluster, make);
    let ended: Promise<void> | undefined;
    cluster.nodes[0]!.before = (_method, signal) => {
      ended = new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
    };
    cluster.records.add("a");
    const reader = client.consume();
    expect(await next(reader)).toBe("a");
    const waiting = next(reader);
    cluster.records.add("b");
    expect(await waiting).toBe("b");
    await reader.return();
    await ended;
  });

  test("a signal ends a reader that waits", async () => {
    const cluster = await start();
    const aborting = new AbortController();
    const reader = clientOf(cluster, make).consume({ signal: aborting.signal });
    const waiting = failure(reader.next());
    await expect.poll(() => cluster.nodes[0]!.requests).toHaveLength(1);
    aborting.abort();
    expect(await waiting).toMatchObject({ code: "canceled" });
  });

  test("a signal ends a reader that waits, also when all was collected that nobody holds", async () => {
    const cluster = await start();
    const client = clientOf(cluster, make);
    // Moments after the request has come: before there is an answer, and later.
    for (const [index, turns] of [0, 3, 6].entries()) {
      const aborting = new AbortController();
      const reader = client.consume({ signal: aborting.signal });
      const waiting = failure(reader.next());
      await expect.poll(() => cluster.nodes[0]!.requests).toHaveLength(index + 1);
      for (let i = 0; i < turns; i++) {
        collectGarbage();
        await turn();
      }
      aborting.abort();
      expect(await waiting).toMatchObject({ code: "canceled" });
    }
  });

  test("a reader goes on where its connection was cut, without a hole or a repetition", async () => {
    const cluster = await start(2);
    const client = clientOf(cluster, make);
    const reader = client.consume();
    const got: string[] = [];
    for (let index = 0; index < 12; index++) {
      cluster.records.add(`record ${index}`);
      got.push(await next(reader));
      if (index % 3 === 2) for (const node of cluster.nodes) node.cutConnections();
    }
    expect(got).toEqual(Array.from({ length: 12 }, (_unused, index) => `record ${index}`));
    await reader.return();
  });

  test("a message above readMaxBytes is an error", async () => {
    const cluster = await start();
    cluster.records.add("x".repeat(3000));
    const client = clientOf(cluster, make, { readMaxBytes: 2000 });
    expect(await failure(all(client.consume({ follow: false })))).toMatchObject({ code: "resource_exhausted" });
    cluster.records.start = 1;
    for (let index = 0; index < 9; index++) cluster.records.add("x".repeat(500));
    // Each message by itself is within it, all of them together are not.
    expect(await all(client.consume({ follow: false }))).toHaveLength(9);
  });
});

describe("a reader", () => {
  test("goes on at another node when its own is gone, and waits for the one that lags", async () => {
    const cluster = await start(2);
    const [first, second] = cluster.nodes;
    const lagging = new FakeRecordLog();
    second!.ownRecords = lagging;
    cluster.records.add("a", "b", "c");
    lagging.add("a");
    const reader = clientOf(cluster, createNodeClient).consume();
    for (const expected of ["a", "b", "c"]) expect(await next(reader)).toBe(expected);
    await first!.close();
    const waiting = next(reader);
    await expect.poll(() => second!.requests.length).toBeGreaterThan(1);
    lagging.add("b", "c", "d");
    expect(await waiting).toBe("d");
    await reader.return();
  });

  test("does not go on in a history that lost what it has read", async () => {
    const cluster = await start(2);
    const [first, second] = cluster.nodes;
    second!.ownRecords = new FakeRecordLog(2n);
    cluster.records.add("a", "b");
    second!.ownRecords.add("a", "other", "more");
    const reader = clientOf(cluster).consume();
    expect(await next(reader)).toBe("a");
    expect(await next(reader)).toBe("b");
    await first!.close();
    expect(await failure(reader.next())).toMatchObject({ code: "lineage_lost" });
  });

  test("goes on when only what it has read was truncated, and says so when more was", async () => {
    const cluster = await start();
    const [node] = cluster.nodes;
    cluster.records.add("a");
    const reader = clientOf(cluster).consume();
    expect(await next(reader)).toBe("a");
    await node!.close();
    cluster.records.truncateBelow(1);
    cluster.records.add("b");
    await node!.listen();
    expect(await next(reader)).toBe("b");
    await node!.close();
    cluster.records.add("c");
    cluster.records.truncateBelow(3);
    await node!.listen();
    expect(await failure(reader.next())).toMatchObject({ code: "out_of_range", offsets: { start: 3, end: 3 } });
  });

  test("of an offset that is not there hears what is, without waiting long", async () => {
    const cluster = await start(2);
    cluster.records.add("a", "b");
    cluster.records.truncateBelow(1);
    const client = clientOf(cluster);
    expect(await failure(client.consume({ offset: 0 }).next())).toMatchObject({
      code: "out_of_range",
      offsets: { start: 1, end: 2 },
    });
    expect(await failure(client.consume({ offset: 3 }).next())).toMatchObject({
      code: "out_of_range",
      offsets: { start: 1, end: 2 },
    });
  });

  test("of no node at all hears that none can be reached", async () => {
    const cluster = await start(2);
    await cluster.close();
    expect(await failure(clientOf(cluster).consume().next())).toMatchObject({ code: "unreachable" });
  });

  test("gives up when no node is found in time after a break", async () => {
    const cluster = await start();
    cluster.records.add("a");
    const reader = clientOf(cluster).consume({ timeoutMs: 300 });
    expect(await next(reader)).toBe("a");
    await cluster.close();
    expect(await failure(reader.next())).toMatchObject({ code: "unreachable" });
  });

  test("waits for a node that restarts", async () => {
    const cluster = await start();
    cluster.records.add("a");
    const reader = clientOf(cluster).consume();
    expect(await next(reader)).toBe("a");
    await cluster.nodes[0]!.close();
    const waiting = next(reader);
    cluster.records.add("b");
    await cluster.nodes[0]!.listen();
    expect(await waiting).toBe("b");
    await reader.return();
  });

  test("counts its limit over all streams", async () => {
    const cluster = await start();
    cluster.records.add("a", "b", "c", "d");
    cluster.records.pageRecords = 1;
    const reader = clientOf(cluster).consume({ limit: 3 });
    expect(await next(reader)).toBe("a");
    cluster.nodes[0]!.cutConnections();
    expect(await all(reader)).toEqual(["b", "c"]);
  });

  test("takes offsets and limits that are whole numbers only", () => {
    const client = createClient({ endpoints: ["127.0.0.1:1"] });
    expect(() => client.consume({ offset: -1 })).toThrow("offset must be a whole number");
    expect(() => client.consume({ limit: 0.5 })).toThrow("limit must be a whole number");
    client.close();
  });
});

describe("producing", () => {
  test("goes to the master, wherever it is", async () => {
    const cluster = await start(2);
    const replica = cluster.nodes[1]!.address;
    const client = clientOf(cluster, createNodeClient, { endpoints: [replica] });
    expect(await client.produce("a")).toMatchObject({ offset: 0 });
    expect(await client.truncateRecords(1)).toMatchObject({ start: 1 });
  });

  test("many at once gives a receipt a batch", async () => {
    const cluster = await start();
    const records = Array.from({ length: 2500 }, (_, index) => `record ${index}`);
    const receipts: [number, number][] = [];
    for await (const { offset, count } of clientOf(cluster).produceMany(records)) receipts.push([offset, count]);
    expect(receipts).toEqual([
      [0, 1024],
      [1024, 1024],
      [2048, 452],
    ]);
    expect(cluster.records.records.map((record) => Buffer.from(record).toString())).toEqual(records);
  });

  test("is not tried again when its outcome is unknown and retries are off", async () => {
    const cluster = await start();
    const [node] = cluster.nodes;
    node!.before = () => {
      node!.cutConnections();
      return new Promise(() => {});
    };
    expect(await failure(clientOf(cluster, createNodeClient, { retries: false }).produce("a"))).toMatchObject({
      code: "outcome_unknown",
    });
    expect(node!.requests).toHaveLength(1);
  });

  test("of a record that is too long tells the limit", async () => {
    const cluster = await start();
    cluster.limits.valueBytesMax = 10;
    expect(await failure(clientOf(cluster).produce("x".repeat(11)))).toMatchObject({
      code: "limit_exceeded",
      limit: { name: "limits.max_value_bytes", maximum: 10, actual: 11 },
    });
  });

  test("that a node cannot do ends with the node's words", async () => {
    const cluster = await start();
    cluster.nodes[0]!.before = () => {
      throw new ConnectError("the disk has no room", Code.ResourceExhausted);
    };
    expect(await failure(clientOf(cluster).produce("a"))).toMatchObject({
      code: "resource_exhausted",
      outcomeUnknown: false,
    });
  });
});

describe("batches", () => {
  const lengths = async (batches: AsyncIterable<Uint8Array[]>): Promise<number[]> => {
    const found: number[] = [];
    for await (const batch of batches) found.push(batch.length);
    return found;
  };

  test("end at their bytes, and nothing makes none", async () => {
    expect(await lengths(recordBatches([]))).toEqual([]);
    const large = new Uint8Array(200 * 1024);
    expect(await lengths(recordBatches([large, large, large, "a"]))).toEqual([2, 2]);
  });

  test("of a source that comes bit by bit do not wait to be full", async () => {
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    async function* source(): AsyncGenerator<string> {
      yield* ["a", "b", "c"];
      await gate;
      yield "d";
    }
    const batches = recordBatches(source());
    expect((await batches.next()).value).toHaveLength(3);
    go();
    expect((await batches.next()).value).toHaveLength(1);
    expect((await batches.next()).done).toBe(true);
  });

  test("pass on the failure of their source, and end it when they are not wanted any more", async () => {
    async function* failing(): AsyncGenerator<string> {
      yield "a";
      throw new Error("no more");
    }
    await expect(lengths(recordBatches(failing()))).rejects.toThrow("no more");
    let ended = false;
    async function* endless(): AsyncGenerator<string> {
      try {
        for (;;) yield "a";
      } finally {
        ended = true;
      }
    }
    const batches = recordBatches(endless());
    await batches.next();
    await batches.return(undefined);
    expect(ended).toBe(true);
  });
});
