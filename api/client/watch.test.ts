import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { WatchEndedSchema } from "../gen/cambium/v1/kvstore_pb.js";
import { CambiumError } from "./cambium-error.js";
import { type CambiumClient, createClient as createFetchClient } from "./client.js";
import type { ClientOptions } from "./options.js";
import type { UpdateEvent } from "./message.js";
import { createClient } from "./node.js";
import { FakeCluster, type FakeNode } from "./testing/fake-cluster.js";
import type { Watch, WatchBatch } from "./watch.js";

const closers: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function failure(promise: Promise<unknown>): Promise<CambiumError> {
  const error: unknown = await promise.then(
    (value) => expect.fail(`expected an error, got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CambiumError);
  return error as CambiumError;
}

const text = (bytes: Uint8Array | undefined): string | undefined => bytes && new TextDecoder().decode(bytes);
const shown = ({ type, key, value }: UpdateEvent): string => `${type} ${key}${type === "put" ? `=${text(value)}` : ""}`;

async function take(watch: Watch, count: number): Promise<string[]> {
  const events: string[] = [];
  for await (const event of watch) {
    events.push(shown(event));
    if (events.length === count) break;
  }
  return events;
}

/** Begins a watch; the rest of its batches. */
async function begin(watch: Watch): Promise<AsyncGenerator<WatchBatch, void, undefined>> {
  const batches = watch.batches();
  expect((await batches.next()).value).toMatchObject({ events: [] });
  return batches;
}

async function nextEvents(batches: AsyncGenerator<WatchBatch, void, undefined>): Promise<string[]> {
  for (;;) {
    const { value } = await batches.next();
    if (!value) throw new Error("the watch ended");
    if (value.events.length > 0) return value.events.map(shown);
  }
}

describe.each([
  ["on streams of their own", false],
  ["that share one stream", true],
])("watches %s", (_, sharedWatches) => {
  /** In memory: node 0 is reached at fake:0, and so on. */
  function start(
    nodes = 1,
    options: Partial<ClientOptions> = {},
  ): { cluster: FakeCluster; nodes: FakeNode[]; kv: CambiumClient } {
    const cluster = new FakeCluster();
    for (let i = 0; i < nodes; i++) cluster.addNode();
    const kv = createFetchClient({
      endpoints: cluster.nodes.map((_node, index) => `fake:${index}`),
      transport: (url) => ({ transport: createRouterTransport(cluster.nodes[Number(new URL(url).port)]!.routes) }),
      retryDelayMs: 1,
      avoidMs: 1,
      sharedWatches,
      ...options,
    });
    closers.push(() => kv.close());
    return { cluster, nodes: cluster.nodes, kv };
  }

  test("see a key, a prefix, a range or all, from now on", async () => {
    const { nodes, kv } = start();
    await kv.set("a:0", "before");
    const watches = await Promise.all(
      [{ key: "a:1" }, { prefix: "a:" }, { start: "a:2", end: "b" }, {}].map((filter) => begin(kv.watch(filter))),
    );
    expect(nodes[0]!.watches.count).toBe(4);
    expect(nodes[0]!.watches.streams).toBe(sharedWatches ? 1 : 0);
    await kv.write(["a:1", "a:2", "b"].map((key) => ({ kind: "set", key, value: key })));
    expect(await Promise.all(watches.map(nextEvents))).toEqual([
      ["put a:1=a:1"],
      ["put a:1=a:1", "put a:2=a:2"],
      ["put a:2=a:2"],
      ["put a:1=a:1", "put a:2=a:2", "put b=b"],
    ]);
    await kv.deleteRange({ prefix: "a:" });
    expect(await Promise.all(watches.slice(0, 2).map(nextEvents))).toEqual([["delete a:1"], ["delete-range a:"]]);
    for (const watch of watches) await watch.return();
  });

  test("begin after a seq, after a token, or with the log, with previous values or without any", async () => {
    const { kv } = start();
    const { token } = await kv.set("k", "1");
    await kv.set("k", "2");
    expect(await take(kv.watch({ after: 0 }), 2)).toEqual(["put k=1", "put k=2"]);
    expect(await take(kv.watch({ after: 2 }), 1)).toEqual(["put k=2"]);
    expect(await take(kv.watch({ after: token, keysOnly: true }), 1)).toEqual(["put k="]);
    for await (const event of kv.watch({ after: token, wantPrevious: true })) {
      expect(text(event.previous)).toBe("1");
      break;
    }
  });

  test("tell how far they are, so that another one goes on there", async () => {
    const { kv } = start();
    const watch = kv.watch({ after: 0 });
    expect([watch.position, watch.token]).toEqual([undefined, undefined]);
    await kv.set("a", "1");
    await kv.set("b", "2");
    const seen: (number | undefined)[] = [];
    for await (const event of watch) {
      // What is still in hand is not behind the place yet.
      seen.push(watch.position?.seq);
      if (event.key === "b") break;
    }
    expect(seen).toEqual([0, 2]);
    expect(await take(kv.watch({ after: watch.token }), 1)).toEqual(["put b=2"]);
    expect(await failure(watch.batches().next())).toMatchObject({ code: "invalid_argument" });
  });

  test("go on from the token when the node ends them, at the same one or another, without gap or repeat", async () => {
    const { nodes, kv } = start(2);
    const batches = await begin(kv.watch());
    await kv.set("a", "1");
    expect(await nextEvents(batches)).toEqual(["put a=1"]);
    nodes[0]!.watches.endAll();
    nodes[0]!.before = (method) => {
      if (method.startsWith("watch")) throw new ConnectError("shutting down", Code.Unavailable);
    };
    await kv.set("b", "2");
    expect(await nextEvents(batches)).toEqual(["put b=2"]);
    expect(nodes[1]!.watches.count).toBe(1);
    expect(text(nodes[1]!.watches.requests[0]!.afterToken)).toBe("seq 2");
    await batches.return();
  });

  test("that stand before their first event when the node is lost miss nothing that comes meanwhile", async () => {
    const { nodes, kv } = start();
    const batches = await begin(kv.watch());
    nodes[0]!.watches.endAll();
    await kv.set("a", "1");
    expect(await nextEvents(batches)).toEqual(["put a=1"]);
    await batches.return();
  });

  test("give a record that came in parts as a whole, also where it broke off in the middle", async () => {
    const { nodes, kv } = start();
    nodes[0]!.watches.eventsMax = 2;
    let messages = 0;
    nodes[0]!.watches.beforeMessage = () => {
      // The first says where it begins; the third is the second part of the record.
      if (++messages === 3) throw new ConnectError("gone", Code.Unavailable);
    };
    const batches = await begin(kv.watch());
    await kv.write(["a", "b", "c", "d", "e"].map((key) => ({ kind: "set", key, value: "1" })));
    expect(await nextEvents(batches)).toEqual(["a", "b", "c", "d", "e"].map((key) => `put ${key}=1`));
    await kv.set("f", "2");
    expect(await nextEvents(batches)).toEqual(["put f=2"]);
    await batches.return();
  });

  test("wait for a node that lags behind the place", async () => {
    const { cluster, nodes, kv } = start(2);
    const batches = await begin(kv.watch());
    await kv.set("a", "1");
    await nextEvents(batches);
    nodes[1]!.appliedSeq = 1n;
    nodes[0]!.watches.endAll();
    let refused = 0;
    nodes[0]!.before = (method) => {
      if (method.startsWith("watch")) throw new ConnectError("shutting down", Code.Unavailable);
    };
    nodes[1]!.before = (method) => {
      if ((method === "watch" || method === "addWatch" || method === "watchMany") && ++refused === 4) {
        nodes[1]!.appliedSeq = undefined;
      }
    };
    await kv.set("b", "2");
    const next = nextEvents(batches);
    await expect.poll(() => nodes[1]!.watches.requests.length).toBeGreaterThan(0);
    nodes[1]!.appliedSeq = undefined;
    expect(await next).toEqual(["put b=2"]);
    expect(cluster.seq).toBe(3n);
    await batches.return();
  });

  test("end where the log has been compacted beyond the place, and say what there is", async () => {
    const { cluster, nodes, kv } = start();
    await kv.set("a", "1");
    cluster.compactSeq = 2n;
    const range = { compactSeq: 2, appliedSeq: 2 };
    expect(await failure(take(kv.watch({ after: 0 }), 1))).toMatchObject({ code: "out_of_range", range });
    const batches = await begin(kv.watch());
    nodes[0]!.before = (method) => {
      if (method.startsWith("watch")) cluster.compactSeq = 9n;
    };
    nodes[0]!.watches.endAll();
    expect(await failure(nextEvents(batches))).toMatchObject({ code: "out_of_range", range: { compactSeq: 9 } });
  });

  test("end with lineage_lost where what they have shown is not in the history any more", async () => {
    const { cluster, nodes, kv } = start(2);
    const batches = await begin(kv.watch());
    await kv.set("a", "1");
    await nextEvents(batches);
    cluster.failOver(nodes[1]!, 1n);
    nodes[0]!.watches.endAll();
    expect(await failure(nextEvents(batches))).toMatchObject({ code: "lineage_lost" });
  });

  test("that no node takes end typed, soon, and leave the others alone", async () => {
    const { nodes, kv } = start(1, { timeoutMs: 500 });
    const batches = await begin(kv.watch());
    nodes[0]!.before = (method) => {
      if (method === "watch" || method === "addWatch") throw new ConnectError("not you", Code.PermissionDenied);
    };
    expect(await failure(take(kv.watch({ key: "k" }), 1))).toMatchObject({ code: "permission_denied" });
    nodes[0]!.before = (method) => (method === "watch" || method === "addWatch" ? new Promise(() => {}) : undefined);
    const silent = await failure(take(kv.watch({ key: "k" }), 1));
    expect(["unavailable", "unreachable"]).toContain(silent.code);
    await kv.set("a", "1");
    expect(await nextEvents(batches)).toEqual(["put a=1"]);
    await batches.return();
  });

  test("that are too many for every node end typed, and say where to go on", async () => {
    const { nodes, kv } = start(2);
    for (const { watches } of nodes) {
      watches.beforeMessage = () => {
        throw new ConnectError("limits.max_watches", Code.ResourceExhausted, undefined, [
          { desc: WatchEndedSchema, value: { token: new TextEncoder().encode("seq 1"), seq: 1n } },
        ]);
      };
    }
    const error = await failure(take(kv.watch({ timeoutMs: 3_000 }), 1));
    expect(error).toMatchObject({ code: "watch_ended", resume: { seq: 1 } });
    for (const { watches } of nodes) watches.beforeMessage = () => {};
    await kv.set("k", "v");
    expect(await take(kv.watch({ after: error.resume!.token }), 1)).toEqual(["put k=v"]);
  });

  test("end with their signal, with the loop, and with the client", async () => {
    const { nodes, kv } = start();
    const controller = new AbortController();
    const batches = await begin(kv.watch({ signal: controller.signal }));
    const ended = failure(nextEvents(batches));
    controller.abort();
    expect(await ended).toMatchObject({ code: "canceled" });
    expect(await failure(take(kv.watch({ signal: AbortSignal.abort() }), 1))).toMatchObject({ code: "canceled" });
    await expect.poll(() => nodes[0]!.watches.count).toBe(0);
    const last = await begin(kv.watch());
    const closed = failure(nextEvents(last));
    kv.close();
    expect(await closed).toMatchObject({ code: "canceled" });
    await expect.poll(() => nodes[0]!.watches.count).toBe(0);
  });

  test("are refused where they make no sense", async () => {
    const { kv } = start();
    for (const options of [
      { key: "" },
      { after: -1 },
      { after: 0.5 },
      { after: new Uint8Array() },
      { prefix: "\ud800" },
      { timeoutMs: 0 },
    ]) {
      expect(() => kv.watch(options), JSON.stringify(options)).toThrow(CambiumError);
    }
  });

  test("let reads after an event see at least that event", async () => {
    const { nodes, kv } = start(2);
    const batches = await begin(kv.watch());
    await kv.session().set("k", "1");
    await nextEvents(batches);
    nodes[0]!.appliedSeq = 1n;
    expect(await kv.getText("k")).toBe("1");
    await batches.return();
  });

  test("give exactly the events of the log, in order, whatever breaks in between", async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant("write"), keys: fc.integer({ min: 1, max: 4 }) }) },
      fc.record({ kind: fc.constant("end"), node: fc.nat(1) }),
      fc.record({ kind: fc.constant("refuse"), node: fc.nat(1) }),
      fc.record({ kind: fc.constant("break"), node: fc.nat(1), messages: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ kind: fc.constant("lag"), node: fc.nat(1) }),
      fc.record({ kind: fc.constant("turn") }),
    ) as fc.Arbitrary<{ kind: string; keys?: number; node?: number; messages?: number }>;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
        const { cluster, nodes, kv } = start(2);
        for (const node of nodes) node.watches.eventsMax = 2;
        const filters = [{}, { prefix: "k1" }];
        const readers = filters.map((filter) => {
          const got: UpdateEvent[] = [];
          const run = async (): Promise<void> => {
            for await (const event of kv.watch({ ...filter, after: 0 })) {
              got.push(event);
              if (event.key === "k1 end") return;
            }
          };
          return { got, done: run() };
        });
        for (const { kind, keys = 0, node = 0, messages = 0 } of steps) {
          const broken = nodes[node]!;
          if (kind === "write") {
            const operations = Array.from({ length: keys }, (_value, i) => `k${i}`);
            cluster.write(
              operations.map((key) => ({
                operation: { case: "set", value: { key, value: new Uint8Array([Number(cluster.seq)]), ttlMs: 0n } },
              })) as never,
            );
          } else if (kind === "end") broken.watches.endAll();
          else if (kind === "refuse") {
            let left = 2;
            broken.before = () => {
              if (left-- > 0) throw new ConnectError("not now", Code.Unavailable);
            };
          } else if (kind === "break") {
            let left = messages;
            broken.watches.beforeMessage = () => {
              if (--left === 0) throw new ConnectError("cut", Code.Unavailable);
            };
          } else if (kind === "lag") broken.appliedSeq = broken.appliedSeq === undefined ? cluster.seq : undefined;
          else await new Promise((resolve) => setImmediate(resolve));
        }
        for (const node of nodes) {
          node.appliedSeq = undefined;
          node.watches.endAll();
        }
        const end = { key: "k1 end", value: new Uint8Array(), ttlMs: 0n };
        cluster.write([{ operation: { case: "set", value: end } }] as never);
        await Promise.all(readers.map(({ done }) => done));
        for (const [index, { got }] of readers.entries()) {
          const log = cluster.events.filter(({ key }) => index === 0 || key.startsWith("k1"));
          expect(got.map(({ key, position }) => `${position.seq} ${key}`)).toEqual(
            log.map(({ key, position }) => `${position.seq} ${key}`),
          );
        }
        kv.close();
      }),
      { numRuns: 60 },
    );
  });
});

describe("a shared stream", () => {
  async function page(): Promise<{ cluster: FakeCluster; node: FakeNode; kv: CambiumClient }> {
    const cluster = await new FakeCluster().start(1);
    closers.push(() => cluster.close());
    const node = cluster.nodes[0]!;
    const kv = createFetchClient({ endpoints: [node.address], retryDelayMs: 1 });
    closers.push(() => kv.close());
    return { cluster, node, kv };
  }

  test("carries twelve watches of a page over one connection, and all of them again after it was cut", async () => {
    const { node, kv } = await page();
    const watches = await Promise.all(Array.from({ length: 12 }, (_, i) => begin(kv.watch({ key: `k${i}` }))));
    expect([node.watches.streams, node.watches.alone, node.watches.count]).toEqual([1, 0, 12]);
    node.cutConnections();
    await kv.write(watches.map((_, i) => ({ kind: "set", key: `k${i}`, value: "1" })));
    expect((await Promise.all(watches.map(nextEvents))).flat()).toEqual(watches.map((_, i) => `put k${i}=1`));
    await expect.poll(() => node.watches.streams).toBe(1);
    // One stream before, one after.
    expect(node.requests.filter(({ method }) => method === "watchMany").length).toBeGreaterThanOrEqual(2);
    for (const watch of watches) await watch.return();
    await expect.poll(() => node.watches.streams).toBe(0);
  });

  test("takes off a watch whose reader has left, and goes on for the others", async () => {
    const { node, kv } = await page();
    const [gone, stays] = [await begin(kv.watch({ key: "k" })), await begin(kv.watch({ key: "k" }))];
    await gone.return();
    await expect.poll(() => node.watches.count).toBe(1);
    await kv.set("k", "1");
    expect(await nextEvents(stays)).toEqual(["put k=1"]);
    await stays.return();
  });

  test("holds a bounded part for a reader that is slow, who misses nothing, and the others do not wait", async () => {
    const { cluster, node, kv } = await page();
    const [slow, quick] = [kv.watch({ prefix: "large" }), await begin(kv.watch({ key: "small" }))];
    const batches = await begin(slow);
    for (let i = 0; i < 12; i++) await kv.set(`large ${i}`, new Uint8Array(200_000));
    await expect.poll(() => node.watches.count).toBe(1);
    await kv.set("small", "1");
    expect(await nextEvents(quick)).toEqual(["put small=1"]);
    const keys: string[] = [];
    while (keys.length < 12) {
      const { value } = await batches.next();
      keys.push(...(value?.events ?? []).map(({ key }) => key));
    }
    expect(keys).toEqual(Array.from({ length: 12 }, (_, i) => `large ${i}`));
    expect(cluster.seq).toBe(14n);
    await batches.return();
    await quick.return();
  });
});

test.each<[string, (options: ClientOptions) => CambiumClient, boolean]>([
  ["fetch", createFetchClient, false],
  ["fetch, shared", createFetchClient, true],
  ["Node's HTTP", createClient, false],
  ["Node's HTTP, shared", createClient, true],
])("over %s the node hears of it when a reader leaves", async (_, make, sharedWatches) => {
  const cluster = await new FakeCluster().start(1);
  closers.push(() => cluster.close());
  const { address, watches } = cluster.nodes[0]!;
  const kv = make({ endpoints: [address], sharedWatches });
  closers.push(() => kv.close());
  await kv.set("k", "v");
  const open = await begin(kv.watch());
  expect(await take(kv.watch({ after: 0 }), 1)).toEqual(["put k=v"]);
  await expect.poll(() => watches.count).toBe(1);
  await open.return();
  await expect.poll(() => [watches.count, watches.streams]).toEqual([0, 0]);
});

test("over Node's HTTP a watch goes on after its connection was cut", async () => {
  const cluster = await new FakeCluster().start(2);
  closers.push(() => cluster.close());
  const kv = createClient({ endpoints: cluster.nodes.map(({ address }) => address), retryDelayMs: 1 });
  closers.push(() => kv.close());
  const batches = await begin(kv.watch());
  await kv.set("a", "1");
  expect(await nextEvents(batches)).toEqual(["put a=1"]);
  cluster.makeMaster(cluster.nodes[1]!);
  await cluster.nodes[0]!.close();
  await kv.set("b", "2");
  expect(await nextEvents(batches)).toEqual(["put b=2"]);
  await batches.return();
});
