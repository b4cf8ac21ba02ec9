import { Code, ConnectError, createRouterTransport, type ConnectRouter } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore, type ScanRequest } from "../gen/cambium/v1/kvstore_pb.js";
import {
  Acknowledge,
  LineageLostSchema,
  LogRangeSchema,
  NotFreshEnoughSchema,
  OutcomeUnknownSchema,
} from "../gen/cambium/v1/types_pb.js";
import { CambiumError } from "./cambium-error.js";
import { type CambiumClient, createClient } from "./client.js";
import type { ClientOptions } from "./options.js";
import { createClient as createNodeClient } from "./node.js";
import { FakeCluster } from "./testing/fake-cluster.js";
import type { UpdatesPage } from "./message.js";

const closers: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(nodes = 1): Promise<FakeCluster> {
  const cluster = await new FakeCluster().start(nodes);
  closers.push(() => cluster.close());
  return cluster;
}

const quick = { retryDelayMs: 1, avoidMs: 60_000, session: false, retries: false };

function client(
  options: ClientOptions,
  make: (options: ClientOptions) => CambiumClient = createNodeClient,
): CambiumClient {
  const made = make({ ...quick, ...options });
  closers.push(() => made.close());
  return made;
}

async function failure(promise: Promise<unknown>): Promise<CambiumError> {
  const error: unknown = await promise.then(
    (value) => expect.fail(`expected an error, got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CambiumError);
  return error as CambiumError;
}

const text = (bytes: Uint8Array | undefined): string | undefined => bytes && new TextDecoder().decode(bytes);

/** A port where nobody listens. */
async function deadEndpoint(): Promise<string> {
  const cluster = await new FakeCluster().start(1);
  await cluster.close();
  return cluster.nodes[0]!.address;
}

const makers: [string, (options: ClientOptions) => CambiumClient][] = [
  ["fetch", createClient],
  ["HTTP/1.1 of Node", createNodeClient],
];

describe.each(makers)("over %s", (_, make) => {
  test("a value that was set is read back with its seqs, until it is deleted", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] }, make);
    const receipt = await kv.set("greeting", "hello");
    expect(receipt.position).toEqual({ epoch: 1, seq: 2 });
    await kv.set("greeting", new Uint8Array([0, 255, 10]), { ttlMs: 5000 });
    expect(await kv.get("greeting")).toEqual({
      value: new Uint8Array([0, 255, 10]),
      createSeq: 2,
      modSeq: 3,
      ttlMs: 5000,
      position: { epoch: 1, seq: 3 },
      token: new TextEncoder().encode("seq 3"),
    });
    expect(await kv.delete("greeting")).toMatchObject({ existed: true, position: { seq: 4 } });
    expect(await kv.delete("greeting")).toMatchObject({ existed: false });
    expect(await kv.get("greeting")).toBeUndefined();
    expect(await kv.getText("greeting")).toBeUndefined();
  });

  test("a batch is one record, and batchGet answers with those that exist", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] }, make);
    const receipt = await kv.write([
      { kind: "set", key: "a", value: "1" },
      { kind: "set", key: "__proto__", value: "2" },
      { kind: "delete", key: "a" },
      { kind: "delete", key: "never" },
    ]);
    expect(receipt.results).toEqual([{ existed: false }, { existed: false }, { existed: true }, { existed: false }]);
    const found = await kv.batchGet(["a", "__proto__", "__proto__"]);
    expect([...found].map(([key, entry]) => [key, text(entry.value), entry.modSeq])).toEqual([["__proto__", "2", 2]]);
  });

  test("a node that is not there is unreachable, and a write to it was certainly not done", async () => {
    const kv = client({ endpoints: [await deadEndpoint()] }, make);
    expect(await failure(kv.get("k"))).toMatchObject({ code: "unreachable" });
    expect(await failure(kv.set("k", "v"))).toMatchObject({ code: "unreachable", outcomeUnknown: false });
  });

  test("a connection that breaks before the answer leaves the outcome of a write unknown, and it is not sent again", async () => {
    const cluster = await start();
    const [node] = cluster.nodes;
    node!.before = () => {
      node!.cutConnections();
      return new Promise(() => {});
    };
    const kv = client({ endpoints: [node!.address] }, make);
    expect(await failure(kv.set("k", "v"))).toMatchObject({ code: "outcome_unknown", outcomeUnknown: true });
    expect(node!.requests.filter(({ method }) => method === "write")).toHaveLength(1);
  });

  test("an answer above readMaxBytes is an error", async () => {
    const cluster = await start();
    const endpoints = [cluster.nodes[0]!.address];
    await client({ endpoints }, make).set("large", new Uint8Array(10_000));
    const error = await failure(client({ endpoints, readMaxBytes: 5_000 }, make).get("large"));
    expect(error.code).toBe("resource_exhausted");
  });
});

test("a transport of one's own reaches a node without a network", async () => {
  const cluster = new FakeCluster();
  const node = cluster.addNode();
  const kv = client({ endpoints: ["fake:1"], transport: () => ({ transport: createRouterTransport(node.routes) }) });
  await Promise.all(Array.from({ length: 20 }, (_, i) => kv.set(`k${i}`, "v")));
  expect(cluster.stateAt(cluster.seq).size).toBe(20);
});

describe("reads", () => {
  test("go by GET when the key fits a URL, and by POST when it does not", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] }, createClient);
    await kv.get("short");
    await kv.get("é".repeat(513));
    expect(cluster.nodes[0]!.requests.map(({ http }) => http)).toEqual(["GET", "POST"]);
  });

  test("move on to the next endpoint at once, and ask the silent one last from then on", async () => {
    const cluster = await start(2);
    await client({ endpoints: [cluster.nodes[0]!.address] }).set("k", "v");
    const kv = client({ endpoints: [await deadEndpoint(), cluster.nodes[1]!.address] });
    expect(await kv.getText("k")).toBe("v");
    expect(await kv.getText("k")).toBe("v");
    expect(cluster.nodes[1]!.requests).toHaveLength(2);
  });

  test("move on from a node that is not ready, and from one that hangs", async () => {
    const cluster = await start(3);
    cluster.nodes[0]!.before = () => {
      throw new ConnectError("this node has never caught up", Code.Unavailable);
    };
    cluster.nodes[1]!.before = () => new Promise(() => {});
    const kv = client({ endpoints: cluster.nodes.map(({ address }) => address), timeoutMs: 200 });
    expect(await kv.get("absent")).toBeUndefined();
  });

  test("are tried again after a pause when no node answered", async () => {
    const cluster = await start();
    let calls = 0;
    cluster.nodes[0]!.before = () => {
      if (++calls < 3) throw new ConnectError("shutting down", Code.Unavailable);
    };
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    expect(await kv.get("k")).toBeUndefined();
    expect(calls).toBe(3);
  });

  test("end after a bounded number of rounds, saying what each node said", async () => {
    const cluster = await start(2);
    for (const node of cluster.nodes) {
      node.before = () => {
        throw new ConnectError(`${node.role} is not ready`, Code.Unavailable);
      };
    }
    const kv = client({ endpoints: cluster.nodes.map(({ address }) => address), readRounds: 3 });
    const error = await failure(kv.get("k"));
    expect(error.code).toBe("unavailable");
    const [a, b] = cluster.nodes.map(({ address }) => address);
    expect(error.message).toBe(`${a}: master is not ready; ${b}: replica is not ready`);
    expect(cluster.nodes.map(({ requests }) => requests.length)).toEqual([3, 3]);
  });

  test("that fail alike at several nodes say so once, and one that was not answered says who was silent for how long", async () => {
    const cluster = await start(3);
    const [a, b, silent] = cluster.nodes;
    a!.before = b!.before = () => {
      throw new ConnectError("this node is not ready", Code.Unavailable);
    };
    silent!.before = () => new Promise(() => {});
    const kv = client({ endpoints: cluster.nodes.map(({ address }) => address), timeoutMs: 900, readRounds: 1 });
    const { message } = await failure(kv.get("k"));
    expect(message).toMatch(
      new RegExp(
        `^${a!.address}, ${b!.address}: this node is not ready; ${silent!.address} did not answer within \\d+ ms$`,
      ),
    );
  });

  test("that the node refuses are not tried elsewhere", async () => {
    const cluster = await start(2);
    cluster.nodes[0]!.before = () => {
      throw new ConnectError("who are you", Code.PermissionDenied);
    };
    const kv = client({ endpoints: cluster.nodes.map(({ address }) => address) });
    expect(await failure(kv.get("k"))).toMatchObject({ code: "permission_denied", message: "who are you" });
    expect(cluster.nodes[1]!.requests).toHaveLength(0);
  });
});

describe("writes", () => {
  test("find the master by way of a replica, and go there directly from then on", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [replica!.address] });
    await kv.set("k", "1");
    await kv.set("k", "2");
    expect(text(cluster.stateAt(cluster.seq).get("k")?.value)).toBe("2");
    expect([master!, replica!].map(({ requests }) => requests.length)).toEqual([2, 1]);
  });

  test("follow the mastership when it moves", async () => {
    const cluster = await start(2);
    const [first, second] = cluster.nodes;
    const kv = client({ endpoints: [first!.address] });
    await kv.set("k", "1");
    first!.role = "replica";
    second!.role = "master";
    await kv.set("k", "2");
    expect(cluster.seq).toBe(3n);
  });

  test("end with not_master when two nodes name each other, each having been asked once a round", async () => {
    const cluster = await start(2);
    const [a, b] = cluster.nodes;
    a!.role = "replica";
    a!.masterHint = b!.address;
    b!.masterHint = a!.address;
    const error = await failure(client({ endpoints: [a!.address], writeRounds: 2 }).set("k", "v"));
    expect(error).toMatchObject({ code: "not_master", outcomeUnknown: false, masterAddress: a!.address });
    expect([a!, b!].map(({ requests }) => requests.length)).toEqual([2, 2]);
  });

  test("wait out a switchover: nobody is master for a while, and the next one is about to be", async () => {
    const cluster = await start(2);
    const [old, heir] = cluster.nodes;
    const kv = client({ endpoints: [old!.address, heir!.address] });
    await kv.set("k", "1");
    old!.role = "replica";
    old!.masterHint = heir!.address;
    heir!.masterHint = "";
    let calls = 0;
    heir!.before = () => {
      if (++calls === 1) return;
      heir!.role = "master";
      if (calls < 4) throw new ConnectError("the mastership of this node has not begun yet", Code.Unavailable);
    };
    await kv.set("k", "2");
    expect(calls).toBe(4);
    expect(cluster.seq).toBe(3n);
  });

  test("that nobody takes end after a bounded number of rounds, with what the one that would be master says", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    master!.before = () => {
      throw new ConnectError("the mastership of this node has not begun yet", Code.Unavailable);
    };
    const kv = client({ endpoints: [replica!.address, master!.address], writeRounds: 3 });
    const error = await failure(kv.set("k", "v"));
    expect(error).toMatchObject({ code: "unavailable", outcomeUnknown: false });
    expect(error.message).toContain("has not begun yet");
    expect(master!.requests).toHaveLength(3);
  });

  test("that a node may have taken are not sent again, whatever else it says", async () => {
    const cluster = await start(2);
    const detail = { desc: OutcomeUnknownSchema, value: { position: { epoch: 1n, seq: 7n } } };
    cluster.nodes[0]!.before = () => {
      throw new ConnectError("stepped down", Code.Unavailable, undefined, [detail]);
    };
    const error = await failure(client({ endpoints: cluster.nodes.map(({ address }) => address) }).set("k", "v"));
    expect(error).toMatchObject({ code: "outcome_unknown", outcomeUnknown: true, position: { epoch: 1, seq: 7 } });
    expect(cluster.nodes.map(({ requests }) => requests.length)).toEqual([1, 0]);
  });

  test("are sent again and again, an operator's command is not: what the master says of it stands", async () => {
    const cluster = await start(1);
    cluster.nodes[0]!.before = () => {
      throw new ConnectError("the other node did not take over", Code.Unavailable);
    };
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    expect(await failure(kv.transfer())).toMatchObject({ code: "unavailable" });
    expect(await failure(kv.addReplica("127.0.0.1:1"))).toMatchObject({ code: "unavailable" });
    expect(cluster.nodes[0]!.requests).toHaveLength(2);
  });

  test("end with not_master when no node knows a master, or names nonsense", async () => {
    const cluster = await start(2);
    const [a, b] = cluster.nodes;
    a!.role = "replica";
    a!.masterHint = "";
    b!.masterHint = "not an address/";
    const kv = client({ endpoints: [a!.address, b!.address] });
    expect((await failure(kv.set("k", "v"))).code).toBe("not_master");
  });

  test("say that the master cannot be reached, and where it was", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    await master!.close();
    const error = await failure(client({ endpoints: [replica!.address] }).set("k", "v"));
    expect(error).toMatchObject({ code: "unreachable", outcomeUnknown: false, masterAddress: master!.address });
    expect(error.message).toContain(`${master!.address} cannot be reached`);
  });

  test("pass over an endpoint that refuses the connection", async () => {
    const cluster = await start(1);
    const kv = client({ endpoints: [await deadEndpoint(), cluster.nodes[0]!.address] });
    await kv.set("k", "v");
    expect(cluster.seq).toBe(2n);
  });

  test("are not repeated after a timeout, and say that the outcome is unknown", async () => {
    const cluster = await start(2);
    cluster.nodes[0]!.before = () => new Promise(() => {});
    const kv = client({ endpoints: cluster.nodes.map(({ address }) => address) });
    const error = await failure(kv.set("k", "v", { timeoutMs: 30 }));
    expect(error).toMatchObject({ code: "deadline_exceeded", outcomeUnknown: true });
    expect(error.message).toContain("did not answer within 30 ms; the write may or may not have been done");
    expect(cluster.nodes[1]!.requests).toHaveLength(0);
  });
});

describe("how fresh a read must be", () => {
  test("goes with every read that says so, and with no other", async () => {
    const cluster = await start();
    const [node] = cluster.nodes;
    const kv = client({ endpoints: [node!.address] });
    const { token } = await kv.set("k", "v");
    await kv.get("k");
    await kv.get("k", { atLeast: token, maxStalenessMs: 0 });
    await kv.batchGet(["k"], { atLeastSeq: 2 });
    await kv.scanPage({ linearizable: true });
    for await (const _ of kv.scan({ atLeast: token, pageSize: 1 }));
    expect(node!.consistencies).toMatchObject([
      undefined,
      { atLeast: token, atLeastSeq: 0n, maxStalenessMs: 0n, linearizable: false },
      { atLeastSeq: 2n },
      { linearizable: true },
      { atLeast: token },
    ]);
  });

  test("goes by GET too, from a browser", async () => {
    const cluster = await start();
    const [node] = cluster.nodes;
    const kv = client({ endpoints: [node!.address] }, createClient);
    const { token } = await kv.set("k", "v");
    expect(await kv.getText("k", { atLeast: token })).toBe("v");
    expect(node!.requests.at(-1)).toEqual({ method: "get", http: "GET" });
    expect(node!.consistencies).toMatchObject([{ atLeast: token }]);
  });

  test("leads to a node that has it, and the one that lags is asked first again afterwards", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [replica!.address, master!.address] });
    replica!.appliedSeq = 1n;
    const { token } = await kv.set("k", "v");
    expect(await kv.getText("k", { atLeast: token })).toBe("v");
    expect(await kv.getText("k")).toBeUndefined();
  });

  test("is asked for again after a pause where no node has it, and then said with how fresh the nodes are", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [replica!.address] });
    const { token } = await kv.set("k", "v");
    replica!.appliedSeq = 1n;
    expect(await failure(kv.get("k", { atLeast: token }))).toMatchObject({
      code: "not_fresh_enough",
      freshness: { applied: { epoch: 1, seq: 1 }, stalenessMs: 1500 },
    });
    let asked = 0;
    replica!.before = () => {
      if (++asked === 3) replica!.appliedSeq = undefined;
    };
    expect(await kv.getText("k", { atLeast: token })).toBe("v");
    expect(master!.consistencies).toEqual([]);
  });
});

describe("a session", () => {
  test("reads what it wrote and read, at a node that lags or at another, while other reads do not wait", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [replica!.address, master!.address] });
    const mine = kv.session();
    expect(mine.sessionToken).toBeUndefined();
    await mine.set("k", "1");
    replica!.appliedSeq = 1n;
    expect(await mine.getText("k")).toBe("1");
    expect(await kv.getText("k")).toBeUndefined();
    expect(await kv.session().getText("k")).toBeUndefined();
    // What another one wrote and this one has seen is not unseen again either.
    await client({ endpoints: [master!.address] }).set("k", "2");
    replica!.appliedSeq = 2n;
    expect((await mine.batchGet(["k"], { atLeastSeq: 3 })).get("k")).toMatchObject({ modSeq: 3 });
    expect((await mine.scanPage()).entries).toMatchObject([{ modSeq: 3 }]);
  });

  test("takes in the newest of its answers, in whatever order they come", async () => {
    const cluster = await start();
    const mine = client({ endpoints: [cluster.nodes[0]!.address] }).session();
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    await mine.set("a", "1");
    const first = mine.delete("absent");
    await mine.write([{ kind: "set", key: "b", value: "2" }]);
    await first;
    const newest = mine.sessionToken;
    cluster.nodes[0]!.appliedSeq = 1n;
    cluster.nodes[0]!.before = () => held;
    const old = mine.get("a", { atLeast: new TextEncoder().encode("seq 1") });
    release();
    await old;
    expect(text(mine.sessionToken)).toBe(text(newest));
    expect(text(newest)).toBe(`seq ${cluster.seq}`);
    expect((await mine.produce("record").catch(() => undefined))?.token).toBeDefined();
  });

  test("goes on elsewhere by its token, which an older read does not replace", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const endpoints = [replica!.address, master!.address];
    const before = client({ endpoints }).session();
    await before.set("k", "v");
    replica!.appliedSeq = 1n;
    const after = client({ endpoints }).session({ token: before.sessionToken });
    await after.get("k", { atLeast: new TextEncoder().encode("seq 1") });
    expect(text(after.sessionToken)).toBe("seq 2");
    expect(await after.getText("k")).toBe("v");
    expect(client({ endpoints }).session({ token: new Uint8Array() }).sessionToken).toBeUndefined();
  });

  describe("over a failover", () => {
    const startWithLoss = async (): Promise<[FakeCluster, CambiumClient]> => {
      const cluster = await start(2);
      const kv = client({ endpoints: cluster.nodes.map(({ address }) => address) });
      return [cluster, kv];
    };

    test("that lost nothing of it goes on, and shows the new master once what it had seen", async () => {
      const [cluster, kv] = await startWithLoss();
      const mine = kv.session();
      await mine.set("a", "1");
      cluster.failOver(cluster.nodes[1]!, 2n);
      await mine.set("b", "2");
      expect([await mine.getText("a"), await mine.getText("b")]).toEqual(["1", "2"]);
      const shown = cluster.nodes.flatMap(({ consistencies }) => consistencies.map((asked) => text(asked?.atLeast)));
      expect(shown).toEqual(["epoch 2 seq 4", "seq 2", "epoch 2 seq 4"]);
    });

    test.each<[string, (session: CambiumClient, kv: CambiumClient) => CambiumClient]>([
      ["here", (session) => session],
      ["and elsewhere, by its token", (session, kv) => kv.session({ token: session.sessionToken })],
    ])("that lost what it wrote is told so although it has written again, and again, %s", async (_where, goOn) => {
      const [cluster, kv] = await startWithLoss();
      let mine = kv.session();
      await mine.set("a", "1");
      cluster.failOver(cluster.nodes[1]!, 1n);
      await mine.set("b", "2");
      cluster.failOver(cluster.nodes[0]!, 3n);
      await mine.set("c", "3");
      mine = goOn(mine, kv);
      for (const read of [() => mine.get("a"), () => mine.batchGet(["b"]), () => mine.scanPage()]) {
        expect(await failure(read())).toMatchObject({ code: "lineage_lost", fork: { epoch: 1, seq: 1 } });
      }
      expect(await kv.session().getText("b")).toBe("2");
    });

    test("that lost what it read is told so by the next read", async () => {
      const [cluster, kv] = await startWithLoss();
      await kv.set("a", "1");
      const mine = kv.session();
      expect(await mine.getText("a")).toBe("1");
      cluster.failOver(cluster.nodes[1]!, 1n);
      expect(await failure(mine.get("a"))).toMatchObject({ code: "lineage_lost" });
      expect(await kv.getText("a")).toBeUndefined();
    });

    test("is not taken for proven by a read that was under way before its last write", async () => {
      const [cluster, kv] = await startWithLoss();
      const mine = kv.session();
      await mine.set("a", "1");
      let release = (): void => {};
      const held = new Promise<void>((resolve) => (release = resolve));
      cluster.nodes[0]!.before = (method) => (method === "get" ? held : undefined);
      const early = mine.get("a");
      await expect.poll(() => cluster.nodes[0]!.requests.length).toBe(2);
      cluster.nodes[0]!.before = () => {};
      await mine.set("a", "2");
      // Up to what the early read asks for it is all there, the later write is lost.
      cluster.failOver(cluster.nodes[1]!, 2n);
      await mine.set("b", "3");
      release();
      await early;
      expect(await failure(mine.get("a"))).toMatchObject({ code: "lineage_lost", fork: { epoch: 1, seq: 2 } });
    });

    test("goes on by no token that is damaged", async () => {
      const [, kv] = await startWithLoss();
      for (const token of [
        [0, 0, 5, 1],
        [0, 0, 0],
        [0, 1],
      ]) {
        expect(() => kv.session({ token: Uint8Array.from(token) })).toThrow(/damaged/);
      }
    });
  });

  test("shares the connections of its client, and does not close them", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    const mine = kv.session();
    mine.close();
    await mine.set("k", "v");
    expect(await kv.getText("k")).toBe("v");
    kv.close();
    expect((await failure(mine.get("k"))).code).toBe("canceled");
  });
});

test("a write says when it is to be answered", async () => {
  const cluster = await start();
  const [node] = cluster.nodes;
  const kv = client({ endpoints: [node!.address] });
  await kv.set("k", "v", { acknowledge: "master" });
  await kv.write([{ kind: "set", key: "k", value: "w" }], { acknowledge: "all" });
  await kv.delete("k", { acknowledge: "committed" });
  await kv.produce("record", { acknowledge: "all" });
  for await (const _ of kv.produceMany(["record"], { acknowledge: "master" }));
  await kv.set("k", "v");
  const { UNSPECIFIED, MASTER, ALL } = Acknowledge;
  expect(node!.acknowledges).toEqual([MASTER, ALL, UNSPECIFIED, ALL, MASTER, UNSPECIFIED]);
});

describe("a signal", () => {
  test("that fired before the call keeps it from being sent", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    const error = await failure(kv.set("k", "v", { signal: AbortSignal.abort() }));
    expect(error).toMatchObject({ code: "canceled", outcomeUnknown: false });
    expect(cluster.nodes[0]!.requests).toHaveLength(0);
  });

  test("ends a call in flight", async () => {
    const cluster = await start();
    const controller = new AbortController();
    const reason = new Error("changed my mind");
    cluster.nodes[0]!.before = () => {
      controller.abort(reason);
      return new Promise(() => {});
    };
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    const error = await failure(kv.delete("k", { signal: controller.signal }));
    expect(error).toMatchObject({ code: "canceled", outcomeUnknown: true, cause: reason });
  });

  test("ends the pause between two tries", async () => {
    const cluster = await start();
    const controller = new AbortController();
    cluster.nodes[0]!.before = () => {
      setImmediate(() => controller.abort());
      throw new ConnectError("not ready", Code.Unavailable);
    };
    const kv = client({ endpoints: [cluster.nodes[0]!.address], retryDelayMs: 1_000_000, timeoutMs: 10_000_000 });
    expect((await failure(kv.get("k", { signal: controller.signal }))).code).toBe("canceled");
  });
});

describe("errors of the node arrive typed", () => {
  const answering = (routes: (router: ConnectRouter) => void): CambiumClient =>
    client({ endpoints: ["fake:1"], transport: () => ({ transport: createRouterTransport(routes) }) });

  test("a passed limit with its name and numbers", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    const error = await failure(kv.set("k".repeat(5000), "v"));
    expect(error.code).toBe("limit_exceeded");
    expect(error.limit).toEqual({ name: "limits.max_key_bytes", maximum: 4096, actual: 5000 });
    expect(error.cause).toBeInstanceOf(ConnectError);
  });

  test("an unknown outcome with its position", async () => {
    const detail = create(OutcomeUnknownSchema, { position: { epoch: 3n, seq: 77n } });
    const kv = answering((router) =>
      router.service(KVStore, {
        set: () => {
          throw new ConnectError("the master stepped down", Code.Unavailable, undefined, [
            { desc: OutcomeUnknownSchema, value: detail },
          ]);
        },
      }),
    );
    expect(await failure(kv.set("k", "v"))).toMatchObject({
      code: "outcome_unknown",
      message: "the master stepped down",
      outcomeUnknown: true,
      position: { epoch: 3, seq: 77 },
    });
  });

  test("a lost history with the place where it parted, and a lost one without", async () => {
    for (const fork of [{ epoch: 3n, seq: 77n }, undefined]) {
      const kv = answering((router) =>
        router.service(KVStore, {
          get: () => {
            const value = create(LineageLostSchema, fork ? { fork } : {});
            throw new ConnectError("a failover lost it", Code.Aborted, undefined, [{ desc: LineageLostSchema, value }]);
          },
        }),
      );
      const error = await failure(kv.get("k", { atLeast: new Uint8Array([1]) }));
      expect(error).toMatchObject({ code: "lineage_lost", fork: fork && { epoch: 3, seq: 77 } });
    }
  });

  test("a node that is not fresh enough with how fresh it is, whichever time was over", async () => {
    for (const [code, expected] of [
      [Code.Unavailable, "not_fresh_enough"],
      [Code.DeadlineExceeded, "deadline_exceeded"],
    ] as const) {
      const kv = answering((router) =>
        router.service(KVStore, {
          get: () => {
            const value = create(NotFreshEnoughSchema, { applied: { epoch: 1n, seq: 5n }, stalenessMs: 900n });
            throw new ConnectError("it lags", code, undefined, [{ desc: NotFreshEnoughSchema, value }]);
          },
        }),
      );
      expect(await failure(kv.get("k", { maxStalenessMs: 100 }))).toMatchObject({
        code: expected,
        freshness: { applied: { epoch: 1, seq: 5 }, stalenessMs: 900 },
      });
    }
  });

  test("a compacted log with its range", async () => {
    const cluster = await start();
    cluster.compactSeq = 1n;
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    const error = await failure(kv.updates({ after: 0 }).next());
    expect(error).toMatchObject({ code: "out_of_range", range: { compactSeq: 1, appliedSeq: 1 } });
  });

  test.each([
    [Code.InvalidArgument, "invalid_argument", false],
    [Code.ResourceExhausted, "resource_exhausted", false],
    [Code.FailedPrecondition, "failed_precondition", false],
    [Code.AlreadyExists, "failed_precondition", false],
    [Code.NotFound, "not_found", false],
    [Code.OutOfRange, "out_of_range", false],
    [Code.Aborted, "lineage_lost", false],
    [Code.Unavailable, "unavailable", false],
    [Code.DeadlineExceeded, "deadline_exceeded", true],
    [Code.Canceled, "canceled", true],
    [Code.PermissionDenied, "permission_denied", false],
    [Code.Unauthenticated, "unauthenticated", false],
    [Code.Unimplemented, "unimplemented", false],
    [Code.Unknown, "internal", true],
    [Code.Internal, "internal", true],
    [Code.DataLoss, "internal", true],
  ] as const)("Connect's code %i as %s", async (code, expected, outcomeUnknown) => {
    const kv = answering((router) =>
      router.service(KVStore, {
        set: () => {
          throw new ConnectError("because", code);
        },
      }),
    );
    expect(await failure(kv.set("k", "v"))).toMatchObject({ code: expected, message: "because", outcomeUnknown });
  });

  test("a seq that no number can hold exactly is an error, not a rounded number", async () => {
    const kv = answering((router) => router.service(KVStore, { get: () => ({ exists: true, modSeq: 2n ** 53n }) }));
    expect(await failure(kv.get("k"))).toMatchObject({ code: "internal" });
  });

  test("an event of a type that this client does not know is an error", async () => {
    const kv = answering((router) =>
      router.service(KVStore, { getUpdates: () => ({ events: [{ type: 99 as never, key: "k" }], next: 2n }) }),
    );
    expect(await failure(kv.updates().next())).toMatchObject({ code: "internal" });
  });
});

describe("what makes no sense is refused before it is sent", () => {
  const nowhere = (): CambiumClient => client({ endpoints: ["127.0.0.1:9"] });

  test.each([
    ["a lone surrogate in a key", () => nowhere().set("\ud800", "v")],
    ["a lone surrogate in a read", () => nowhere().get("a\udc00")],
    ["a lone surrogate in a batch", () => nowhere().write([{ kind: "delete", key: "\ud800" }])],
    ["a deadline of 0", () => nowhere().set("k", "v", { ttlMs: 0 })],
    ["a deadline of half a millisecond", () => nowhere().set("k", "v", { ttlMs: 0.5 })],
    ["a negative place in the log", () => nowhere().updates({ after: -1 }).next()],
    ["a negative timeout", () => nowhere().get("k", { timeoutMs: -1 })],
    ["an empty token", () => nowhere().get("k", { atLeast: new Uint8Array() })],
    ["a negative seq", () => nowhere().batchGet(["k"], { atLeastSeq: -1 })],
    ["half a millisecond of staleness", () => nowhere().scanPage({ maxStalenessMs: 0.5 })],
    ["an acknowledgement of another kind", () => nowhere().set("k", "v", { acknowledge: "maybe" as "all" })],
    ["a promotion of one of several", () => client({ endpoints: ["a:1", "b:1"] }).promote()],
  ] as [string, () => Promise<unknown>][])("%s", async (_, call) => {
    expect((await failure(Promise.resolve().then(call))).code).toBe("invalid_argument");
  });

  test("a client without endpoints, or with a bad one", () => {
    expect(() => createClient({ endpoints: [] })).toThrow(CambiumError);
    expect(() => createClient({ endpoints: ["ftp://x"] })).toThrow(/"ftp:\/\/x" is no endpoint/);
  });

  test("a closed client", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    kv.close();
    expect((await failure(kv.get("k"))).code).toBe("canceled");
    expect((await failure(kv.set("k", "v"))).code).toBe("canceled");
  });
});

describe("updates", () => {
  const collect = async (pages: AsyncIterable<UpdatesPage>): Promise<UpdatesPage[]> => {
    const all: UpdatesPage[] = [];
    for await (const page of pages) all.push(page);
    return all;
  };

  test("come in pages of whole records, and end where the node is up to date", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    await kv.write(["a", "b", "c"].map((key) => ({ kind: "set", key, value: key })));
    await kv.set("d", "d", { ttlMs: 1000 });
    await kv.delete("a");
    const pages = await collect(kv.updates({ follow: false, limit: 2 }));
    expect(pages.map(({ events, next }) => [events.map(({ type, key }) => `${type} ${key}`), next])).toEqual([
      [["put a", "put b", "put c"], 2],
      [["put d", "delete a"], 4],
    ]);
    expect(pages[1]!.events[0]).toEqual({
      type: "put",
      key: "d",
      value: new TextEncoder().encode("d"),
      position: { epoch: 1, seq: 3 },
      timestampMs: 1_700_000_000_000,
      expiresAtMs: 1_700_000_001_000,
    });
  });

  test("of an empty log are one empty page that says where to go on", async () => {
    const cluster = await start();
    const pages = await collect(client({ endpoints: [cluster.nodes[0]!.address] }).updates({ follow: false }));
    expect(pages).toMatchObject([{ events: [], next: 1 }]);
  });

  test("that are followed wait for what is written later, and stop with their reader", async () => {
    const cluster = await start();
    const kv = client({ endpoints: [cluster.nodes[0]!.address] });
    const pages = kv.updates();
    const first = pages.next();
    await kv.set("later", "v");
    expect((await first).value).toMatchObject({ events: [{ key: "later" }], next: 2 });
    await pages.return();
    expect(await pages.next()).toEqual({ done: true, value: undefined });
  });

  test("go on at another node, waiting for it when it lags behind the place that was reached", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [master!.address, replica!.address] });
    await kv.set("a", "1");
    const pages = kv.updates({ waitMs: 50 });
    expect((await pages.next()).value).toMatchObject({ next: 2 });
    replica!.appliedSeq = 1n;
    let refused = 0;
    replica!.before = () => {
      if (++refused === 3) replica!.appliedSeq = undefined;
    };
    await kv.set("b", "2");
    await master!.close();
    expect((await pages.next()).value).toMatchObject({ events: [{ key: "b" }], next: 3 });
    expect(refused).toBeGreaterThanOrEqual(3);
    await pages.return();
  });
});

describe("updates over a failover", () => {
  test("go on where a node does not know the new mastership yet, although it has a record of that number", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [master!.address, replica!.address] });
    await kv.set("a", "1");
    const pages = kv.updates({ waitMs: 50 });
    expect((await pages.next()).value).toMatchObject({ next: 2 });
    let refused = 0;
    replica!.before = () => {
      if (++refused >= 3) return;
      const value = { compactSeq: 0n, appliedSeq: 7n };
      throw new ConnectError("it does not know of the mastership", Code.OutOfRange, undefined, [
        { desc: LogRangeSchema, value },
      ]);
    };
    await kv.set("b", "2");
    await master!.close();
    expect((await pages.next()).value).toMatchObject({ events: [{ key: "b" }], next: 3 });
    expect(refused).toBe(3);
    await pages.return();
  });

  test("end with lineage_lost, asking nobody else, where what was read is not in the history any more", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [master!.address, replica!.address] });
    await kv.set("a", "1");
    const pages = kv.updates({ waitMs: 50 });
    await pages.next();
    master!.before = () => {
      throw new ConnectError("lost", Code.Aborted, undefined, [
        { desc: LineageLostSchema, value: { fork: { epoch: 1n, seq: 1n } } },
      ]);
    };
    expect(await failure(pages.next())).toMatchObject({ code: "lineage_lost", fork: { epoch: 1, seq: 1 } });
    expect(replica!.requests).toEqual([]);
    expect(await pages.next()).toEqual({ done: true, value: undefined });
  });

  test("end with out_of_range where the log has been compacted beyond the place", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [master!.address, replica!.address] });
    await kv.set("a", "1");
    const pages = kv.updates({ waitMs: 50 });
    await pages.next();
    await kv.set("b", "2");
    await kv.set("c", "3");
    cluster.compactSeq = 3n;
    expect(await failure(pages.next())).toMatchObject({ code: "out_of_range", range: { compactSeq: 3 } });
  });
});

describe("scan", () => {
  async function startWith(keys: readonly string[], nodes = 1): Promise<[FakeCluster, CambiumClient]> {
    const cluster = await start(nodes);
    const kv = client({ endpoints: cluster.nodes.map(({ address }) => address) });
    await kv.write(keys.map((key) => ({ kind: "set", key, value: `value of ${key}` })));
    return [cluster, kv];
  }

  async function keysOf(scan: AsyncIterable<{ readonly key: string }>): Promise<string[]> {
    const keys: string[] = [];
    for await (const { key } of scan) keys.push(key);
    return keys;
  }

  test("gives the keys of a prefix or a range in their order, from as many pages as it takes", async () => {
    const [cluster, kv] = await startWith(["d", "a/2", "b", "a/1", "c", "a/3", "__proto__"]);
    expect(await keysOf(kv.scan())).toEqual(["__proto__", "a/1", "a/2", "a/3", "b", "c", "d"]);
    expect(await keysOf(kv.scan({ prefix: "a/", pageSize: 2 }))).toEqual(["a/1", "a/2", "a/3"]);
    expect(await keysOf(kv.scan({ start: "b", end: "d", pageSize: 1 }))).toEqual(["b", "c"]);
    expect(await keysOf(kv.scan({ prefix: "none" }))).toEqual([]);
    expect(cluster.nodes[0]!.requests.filter(({ method }) => method === "scan")).toHaveLength(1 + 2 + 2 + 1);
  });

  test("gives entries as get does, or without their values", async () => {
    const [cluster, kv] = await startWith(["a"]);
    await kv.set("b", "2", { ttlMs: 5000 });
    const entries = [];
    for await (const entry of kv.scan()) entries.push(entry);
    const position = { epoch: 1, seq: Number(cluster.seq) };
    expect(entries).toEqual([
      { key: "a", value: new TextEncoder().encode("value of a"), valueBytes: 10, createSeq: 2, modSeq: 2, position },
      { key: "b", value: new TextEncoder().encode("2"), valueBytes: 1, createSeq: 3, modSeq: 3, ttlMs: 5000, position },
    ]);
    for await (const entry of kv.scan({ keysOnly: true, prefix: "a" })) {
      expect(entry).toMatchObject({ key: "a", valueBytes: 10, value: new Uint8Array() });
    }
  });

  test("goes on at another node when one fails between two pages", async () => {
    const [cluster, kv] = await startWith(["a", "b", "c", "d", "e"], 2);
    const keys: string[] = [];
    for await (const { key } of kv.scan({ pageSize: 2 })) {
      keys.push(key);
      if (key === "b") await cluster.nodes[0]!.close();
    }
    expect(keys).toEqual(["a", "b", "c", "d", "e"]);
    expect(cluster.nodes[1]!.requests.map(({ method }) => method)).toEqual(["scan", "scan"]);
  });

  test("asks for no more than it reads, a page at a time for those who keep their place", async () => {
    const seen: ScanRequest[] = [];
    const routes = (router: ConnectRouter): void => {
      router.service(KVStore, {
        scan: (request) => {
          seen.push(request);
          return { nextPageToken: new Uint8Array([1, 9]) };
        },
      });
    };
    const transport: ClientOptions["transport"] = () => ({ transport: createRouterTransport(routes) });
    const kv = client({ endpoints: ["a:1"], transport, readMaxBytes: 5000 });
    const page = await kv.scanPage({ limit: 7, pageToken: new Uint8Array([1, 8]) });
    const nextPageToken = new Uint8Array([1, 9]);
    expect(page).toEqual({ entries: [], nextPageToken, position: { epoch: 0, seq: 0 }, token: new Uint8Array() });
    expect(seen).toMatchObject([{ limit: 7, maxBytes: 5000, pageToken: new Uint8Array([1, 8]), prefix: "" }]);
  });

  test("ends with the signal, and refuses what makes no sense", async () => {
    const [, kv] = await startWith(["a", "b"]);
    const controller = new AbortController();
    const scan = kv.scan({ pageSize: 1, signal: controller.signal });
    expect((await scan.next()).value).toMatchObject({ key: "a" });
    controller.abort();
    expect((await failure(scan.next())).code).toBe("canceled");
    for (const range of [{ prefix: "\ud800" }, { start: "\ud800" }, { end: "\ud800" }, { limit: -1 }, { limit: 1.5 }]) {
      expect((await failure(kv.scanPage(range))).code).toBe("invalid_argument");
    }
  });
});

describe("the cluster", () => {
  test("is described by whichever node answers, or by the one that is named", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [master!.address] });
    await kv.set("k", "v");
    replica!.appliedSeq = 1n;
    expect(await kv.status()).toMatchObject({
      clusterId: cluster.clusterId,
      node: { role: "master", address: master!.address, applied: { epoch: 1, seq: 2 }, keys: 1, durability: "always" },
      members: [
        { state: "self", source: "founder", voter: true },
        { state: "streaming", source: "listed", lagRecords: 1, lagMs: 1500 },
      ],
    });
    expect(await kv.status({ endpoint: replica!.address })).toMatchObject({ node: { role: "replica", keys: 0 } });
    expect((await failure(kv.status({ endpoint: await deadEndpoint() }))).code).toBe("unreachable");
  });

  test("gets another master where one is named, and only by force where the others do not answer", async () => {
    const cluster = await start(2);
    const [master, replica] = cluster.nodes;
    const kv = client({ endpoints: [replica!.address] });
    await kv.set("k", "v");
    replica!.appliedSeq = 1n;
    await master!.close();
    expect(await failure(kv.promote())).toMatchObject({ code: "failed_precondition", outcomeUnknown: false });
    expect(await kv.promote({ endpoint: replica!.address, force: true })).toEqual({
      position: { epoch: 2, seq: 2 },
      unreached: [master!.address],
      knownLostRecords: 1,
    });
    expect((await kv.status()).node.role).toBe("master");
    expect((await failure(kv.promote({ endpoint: master!.address }))).code).toBe("unreachable");
  });

  test("hands its mastership over by way of any node, and writes follow", async () => {
    const cluster = await start(3);
    const [master, replica, other] = cluster.nodes;
    const kv = client({ endpoints: [replica!.address] });
    expect(await kv.transfer({ address: other!.address })).toEqual({
      nodeId: other!.nodeId,
      address: other!.address,
      epoch: 2,
      pauseMs: 7,
    });
    await kv.set("k", "v");
    expect([master!, other!].map(({ acknowledges }) => acknowledges.length)).toEqual([1, 1]);
    expect((await failure(kv.transfer({ nodeId: "ff".repeat(16) }))).code).toBe("not_found");
  });

  test("takes and gives up replicas through the master", async () => {
    const cluster = await start(3);
    const [, replica, other] = cluster.nodes;
    const kv = client({ endpoints: [replica!.address] });
    expect(await kv.addReplica(other!.address)).toMatchObject({ address: other!.address, state: "streaming" });
    await kv.removeReplica({ nodeId: other!.nodeId });
    expect(cluster.removed).toEqual([other!.nodeId]);
    expect((await failure(kv.removeReplica({ address: "nobody:1" }))).code).toBe("not_found");
  });
});
