/** Calls that are made at the same time: how they travel, and that none of them can tell. */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { CambiumError, type CallOptions, createClient, type CambiumClient } from "./index.js";
import { FakeCluster } from "./testing/fake-cluster.js";
import { type NodeState, ScriptedNode } from "./testing/scripted-node.js";
import { createClient as createNodeClient } from "./node.js";

const immediate = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function connect(node: ScriptedNode, options: Partial<Parameters<typeof createClient>[0]> = {}): CambiumClient {
  const client = createClient({ endpoints: ["node:1"], transport: node.transport, ...options });
  onTestFinished(() => client.close());
  return client;
}

/** How many operations each call had that came. */
const sizes = (node: ScriptedNode): number[] => node.calls.map(({ parts }) => parts.length);
const keysOf = (node: ScriptedNode): string[][] => node.calls.map(({ parts }) => parts.map(({ value }) => value.key));

describe("calls of one tick", () => {
  test("travel as one, in their order, and each has its own answer", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    const answers = await Promise.all([kv.getText("ok:a"), kv.getText("absent"), kv.getText("ok:b"), kv.get("ok:a")]);
    expect(answers).toMatchObject(["ok:a", undefined, "ok:b", { position: { epoch: 1 } }]);
    expect(keysOf(node)).toEqual([["ok:a", "absent", "ok:b", "ok:a"]]);
    const written = await Promise.all([kv.set("a", "1"), kv.delete("a"), kv.touch("a", 5), kv.increment("abc", 2)]);
    expect(written).toMatchObject([{}, { existed: true }, { existed: true }, { value: 3n }]);
    expect(node.calls[1]?.parts.map((part) => part.case)).toEqual(["set", "delete", "touch", "increment"]);
  });

  test("are those too that are made as soon as an answer is there", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    const one = async (): Promise<void> => {
      for (let i = 0; i < 5; i++) await kv.get("ok");
    };
    await Promise.all([one(), one(), one()]);
    expect(sizes(node)).toEqual([3, 3, 3, 3, 3]);
  });

  test("travel as they are when there is but one, or where that is wanted", async () => {
    const node = new ScriptedNode();
    await connect(node).get("ok");
    const kv = connect(node, { batch: false });
    await Promise.all([kv.get("ok"), kv.get("ok")]);
    expect(node.calls.map(({ isBatch }) => isBatch)).toEqual([false, false, false]);
  });

  test("travel as they are over a transport that may not be binary", async () => {
    const node = new ScriptedNode();
    const kv = connect(node, { transport: () => ({ transport: node.transport().transport }) });
    await Promise.all([kv.get("ok"), kv.get("ok")]);
    expect(sizes(node)).toEqual([1, 1]);
  });

  test("do not mix reads and writes, levels of consistency, or when a write is answered", async () => {
    const node = new ScriptedNode();
    const kv = connect(node, { session: false });
    const token = new TextEncoder().encode("seq 1");
    await Promise.all([
      kv.get("1"),
      kv.get("2", { linearizable: true }),
      kv.get("3", { maxStalenessMs: 5 }),
      kv.get("4", { atLeast: token }),
      kv.set("5", "v"),
      kv.set("6", "v", { acknowledge: "all" }),
      kv.get("1"),
      kv.get("2", { linearizable: true }),
      kv.get("3", { maxStalenessMs: 50 }),
      kv.get("4", { atLeastSeq: 7 }),
      kv.increment("5"),
      kv.delete("6", { acknowledge: "all" }),
    ]);
    expect(keysOf(node)).toEqual([
      ["1", "1"],
      ["2", "2"],
      ["3", "3"],
      ["4", "4"],
      ["5", "5"],
      ["6", "6"],
    ]);
    // Reads that would have to wait come back, and wait alone: so none is kept waiting by what another one asks for.
    expect(node.calls.map(({ noWaiting }) => noWaiting)).toEqual([true, false, true, true, false, false]);
    expect(node.calls[3]?.parts.map(({ value }) => "consistency" in value && value.consistency)).toMatchObject([
      { atLeast: token },
      { atLeastSeq: 7n },
    ]);
  });

  test("go as several batches where they are many, or large; what is large goes alone", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    await Promise.all(Array.from({ length: 130 }, (_, i) => kv.get(`ok:${i}`)));
    expect(sizes(node)).toEqual([64, 64, 2]);
    expect(keysOf(node).flat()).toEqual(Array.from({ length: 130 }, (_, i) => `ok:${i}`));
    node.calls.length = 0;
    await Promise.all(Array.from({ length: 10 }, (_, i) => kv.set(`${i}`, new Uint8Array(10_000))));
    expect(sizes(node)).toEqual([4, 4, 2]);
    node.calls.length = 0;
    await Promise.all([
      kv.set("a", "v"),
      kv.set("b", new Uint8Array(100_000)),
      kv.set("c", "v", { wantPrevious: true }),
    ]);
    expect(node.calls.map(({ isBatch }) => isBatch)).toEqual([false, false, false]);
    await expect(Promise.all([kv.get("k".repeat(3_000_000)), kv.get("ok")])).resolves.toHaveLength(2);
  });

  test("are asked for again alone, where a batch had no room or time for them", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    expect(await Promise.all([kv.getText("ok"), kv.getText("large:1"), kv.getText("large:2")])).toEqual([
      "ok",
      "large:1",
      "large:2",
    ]);
    expect(keysOf(node)).toEqual([["ok", "large:1", "large:2"], ["large:1"], ["large:2"]]);
  });

  test("go alone to a node that knows no batches, and it is not asked for one again soon", async () => {
    const node = new ScriptedNode();
    node.knowsBatches = false;
    const kv = connect(node);
    for (let i = 0; i < 3; i++) expect(await Promise.all([kv.get("ok"), kv.get("absent")])).toHaveLength(2);
    expect(node.calls.map(({ isBatch }) => isBatch)).toEqual([true, ...Array.from({ length: 6 }, () => false)]);
  });

  test("of a client that is closed in the same tick are not made", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    const calls = Promise.allSettled([kv.get("ok"), kv.set("k", "v")]);
    kv.close();
    for (const outcome of await calls) {
      expect(outcome).toMatchObject({ reason: { code: "canceled", message: "the client is closed" } });
    }
    expect(node.calls).toEqual([]);
  });
});

describe("a call among others", () => {
  test("that is aborted ends at once, alone, and the others go on", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    const [before, within] = [new AbortController(), new AbortController()];
    const calls = Promise.allSettled([
      kv.get("ok:1", before),
      kv.get("ok:2", within),
      kv.getText("ok:3"),
      kv.getText("ok:4"),
    ]);
    before.abort();
    const [first] = await Promise.all([calls.then(([outcome]) => outcome), immediate().then(() => within.abort())]);
    expect(first).toMatchObject({ reason: { code: "canceled" } });
    expect(await calls).toMatchObject([
      { reason: { code: "canceled" } },
      { reason: { code: "canceled" } },
      { value: "ok:3" },
      { value: "ok:4" },
    ]);
    // What was aborted before the tick was over is not even sent.
    expect(keysOf(node)).toEqual([["ok:2", "ok:3", "ok:4"]]);
    expect(node.calls[0]?.isAborted).toBe(false);
  });

  test("lets the request be ended when none is left that waits for it", async () => {
    const node = new ScriptedNode();
    node.state = "hangs";
    const kv = connect(node);
    const aborts = [new AbortController(), new AbortController()];
    const calls = Promise.allSettled(aborts.map((abort) => kv.get("ok", abort)));
    while (node.calls.length === 0) await immediate();
    aborts[0]!.abort();
    await immediate();
    expect(node.calls[0]?.isAborted).toBe(false);
    aborts[1]!.abort();
    await calls;
    expect(node.calls[0]?.isAborted).toBe(true);
  });

  test("leaves nothing behind at a signal that lives for long", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    await Promise.all([kv.get("ok", { signal }), kv.get("ok", { signal }), kv.set("ok", "v")]);
    expect(added).toHaveBeenCalledTimes(2);
    expect(removed).toHaveBeenCalledTimes(2);
  });

  test("has its own time, of which the node is told, and at which it ends alone", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const node = new ScriptedNode();
    node.state = "hangs";
    const kv = connect(node, { readRounds: 1 });
    const ended: string[] = [];
    for (const timeoutMs of [70, 100]) {
      kv.get(`${timeoutMs}`, { timeoutMs }).catch(({ message }: CambiumError) => ended.push(message));
    }
    while (node.calls.length === 0) await immediate();
    expect(node.calls).toMatchObject([{ timeoutMs: 100, timeoutsMs: [70, 0] }]);
    await vi.advanceTimersByTimeAsync(69);
    expect(ended).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(ended).toEqual(["node:1 did not answer within 70 ms"]);
    expect(node.calls[0]?.isAborted).toBe(false);
    await vi.advanceTimersByTimeAsync(30);
    expect(ended[1]).toBe("node:1 did not answer within 100 ms");
  });

  test("does not travel with those that have far more time than it has", async () => {
    const node = new ScriptedNode();
    const kv = connect(node);
    await Promise.all([10_000, 100, 9_000, 120].map((timeoutMs) => kv.get(`${timeoutMs}`, { timeoutMs })));
    expect(keysOf(node)).toEqual([
      ["10000", "9000"],
      ["100", "120"],
    ]);
  });

  test("carries the number of its own write, and the token of its own session", async () => {
    const node = new ScriptedNode();
    const kv = connect(node, { retries: { clientId: "c", nextSeq: 5 } });
    await Promise.all([kv.set("a", "v"), kv.increment("b"), kv.set("c", "v", { ifSeq: 4 })]);
    const numbers = node.calls[0]?.parts.map(({ value }) => "clientSeq" in value && [value.clientId, value.clientSeq]);
    expect(numbers).toEqual([5n, 6n, 7n].map((seq) => ["c", seq]));
    const [one, other] = [kv.session(), kv.session()];
    await one.set("a", "v");
    await other.set("b", "v");
    node.calls.length = 0;
    await Promise.all([one.get("ok"), other.get("ok")]);
    const tokens = node.calls[0]?.parts.map(
      ({ value }) => "consistency" in value && new TextDecoder().decode(value.consistency?.atLeast),
    );
    expect(tokens).toEqual(["seq 4", "seq 5"]);
  });
});

// ---- by chance ----------------------------------------------------------------------------------------------------------

const words = ["ok", "absent", "refused", "denied", "broken", "stale", "unknown", "large"] as const;
const call = fc.record({
  kind: fc.constantFrom("get", "get", "set", "delete", "touch", "increment"),
  key: fc.tuple(fc.constantFrom(...words), fc.nat(3)).map(([word, n]) => `${word}:${n}`),
  timeoutMs: fc.constantFrom(undefined, undefined, 50, 60, 300),
  /** When it is aborted: before it is made, in the tick in which it is made, or while it is under way. */
  abort: fc.constantFrom(undefined, undefined, undefined, "before", "at once", "later"),
  level: fc.constantFrom({}, {}, {}, { linearizable: true }, { maxStalenessMs: 9 }, { atLeastSeq: 3 }),
  acknowledge: fc.constantFrom(undefined, undefined, undefined, "all" as const),
});
type AnyCall = typeof call extends fc.Arbitrary<infer T> ? T : never;
const step = fc.record({
  state: fc.constantFrom<NodeState>("answers", "answers", "answers", "hangs", "breaks", "overloaded", "closing"),
  calls: fc.array(call, { minLength: 1, maxLength: 16 }),
});

/** What the caller gets, without what depends on the order in which calls came to the node. */
async function outcomeOf(client: CambiumClient, each: AnyCall, signal: AbortSignal): Promise<unknown> {
  const { kind, key, timeoutMs, level, acknowledge } = each;
  const options: CallOptions = { signal, timeoutMs };
  const write = { ...options, acknowledge };
  const make = (): Promise<unknown> => {
    switch (kind) {
      case "get":
        return client.getText(key, { ...options, ...level });
      case "set":
        return client.set(key, "v", write);
      case "delete":
        return client.delete(key, write);
      case "touch":
        return client.touch(key, 5, write);
      default:
        return client.increment(key, 1, write);
    }
  };
  try {
    const answer = await make();
    return typeof answer === "object" ? { ...answer, position: 0, token: 0 } : answer;
  } catch (error) {
    if (!(error instanceof CambiumError)) throw error;
    const { code, message, endpoint, outcomeUnknown, condition, freshness, position } = error;
    // When it ended counts where it was time that ended it.
    const atMs = code === "deadline_exceeded" ? performance.now() : 0;
    return { code, message, endpoint, outcomeUnknown, condition, freshness, position, atMs };
  }
}

describe("whatever is called at once, and whatever the node does", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    vi.spyOn(Math, "random").mockReturnValue(0.5);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  /** Time passes while everything happens that can. */
  async function pass(ms: number): Promise<void> {
    for (let gone = 0; gone < ms; gone += 10) {
      for (let turn = 0; turn < 4; turn++) await immediate();
      vi.advanceTimersByTime(10);
    }
    for (let turn = 0; turn < 4; turn++) await immediate();
  }

  async function outcomes(
    steps: readonly (typeof step extends fc.Arbitrary<infer T> ? T : never)[],
    batch: boolean,
    retries: boolean,
  ) {
    const node = new ScriptedNode();
    const client = createClient({
      endpoints: ["node:1"],
      transport: node.transport,
      batch,
      retries,
      session: false,
      timeoutMs: 400,
      retryDelayMs: 20,
      readRounds: 2,
      writeRounds: 2,
    });
    const all: unknown[] = [];
    const beganMs = performance.now();
    for (const { state, calls } of steps) {
      node.state = state;
      const aborts = calls.map(() => new AbortController());
      const abort = (when: AnyCall["abort"]): void => {
        for (const [at, each] of calls.entries()) if (each.abort === when) aborts[at]!.abort();
      };
      abort("before");
      const made = calls.map((each, at) => outcomeOf(client, each, aborts[at]!.signal));
      abort("at once");
      // Where the node does not answer at once, or is asked again.
      if (state !== "answers") {
        await pass(20);
        abort("later");
      }
      await pass(1000);
      const told = await Promise.all(made);
      for (const each of told) {
        if (typeof each === "object" && each && "atMs" in each && each.atMs)
          Object.assign(each, { atMs: Number(each.atMs) - beganMs });
      }
      all.push(told);
    }
    client.close();
    return { all, node };
  }

  test("each call ends as if it had travelled alone", async () => {
    let batches = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 3 }), fc.boolean(), async (steps, retries) => {
        const together = await outcomes(steps, true, retries);
        const alone = await outcomes(steps, false, retries);
        expect(together.all).toEqual(alone.all);
        batches += together.node.calls.filter(({ isBatch }) => isBatch).length;
        expect(alone.node.calls.some(({ isBatch }) => isBatch)).toBe(false);
      }),
      { numRuns: 100 },
    );
    expect(batches).toBeGreaterThan(100);
  }, 60_000);
});

describe("over Node's HTTP", () => {
  async function start(nodes: number): Promise<FakeCluster> {
    const cluster = await new FakeCluster().start(nodes);
    onTestFinished(() => cluster.close());
    return cluster;
  }

  test("reads go to the first endpoint and writes to the master, each together", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = createNodeClient({ endpoints: [replica!.address, master!.address] });
    onTestFinished(() => kv.close());
    await Promise.all([kv.set("a", "1"), kv.set("b", "2")]);
    const [a, b] = await Promise.all([kv.getText("a"), kv.getText("b"), kv.set("c", "3"), kv.set("d", "4")]);
    expect([a, b]).toEqual(["1", "2"]);
    // The first two were pointed to the master, each for itself and both together.
    expect(replica!.batches).toEqual([2, 2]);
    expect(master!.batches).toEqual([2, 2]);
  });

  test("one token is asked for, for all calls that travel together", async () => {
    const cluster = await start(1);
    let asked = 0;
    const token = (): string => {
      asked++;
      return "cambium_token";
    };
    const kv = createNodeClient({ endpoints: [cluster.nodes[0]!.address], token });
    onTestFinished(() => kv.close());
    await Promise.all([kv.set("a", "1"), kv.set("b", "2"), kv.increment("n")]);
    expect(asked).toBe(1);
    expect(cluster.nodes[0]!.batches).toEqual([3]);
  });

  test("a node that is gone and back has no write twice, and none is lost", async () => {
    const cluster = await start(1);
    const [node] = cluster.nodes;
    const kv = createNodeClient({ endpoints: [node!.address], retryDelayMs: 1 });
    onTestFinished(() => kv.close());
    let cuts = 0;
    node!.afterWrite = () => {
      if (cuts++ < 3) node!.cutConnections();
    };
    const sums = await Promise.all(Array.from({ length: 20 }, () => kv.increment("n")));
    expect(sums.map(({ value }) => value).toSorted((a, b) => Number(a - b))).toEqual(
      Array.from({ length: 20 }, (_, i) => BigInt(i + 1)),
    );
  });
});
