import { createServer, type Socket } from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { FakeClock, type Timer } from "../base/clock.js";
import { silentLogger } from "../base/logger.js";
import { epoch, epochMs, seq } from "../base/position.js";
import {
  type MasterMessage,
  type PeerListener,
  type ReplicaMessage,
  ReplicationError,
} from "../replication/replicator.js";
import type { PromiseRequest } from "../replication/peer.js";
import { ConnectPeerNetwork, type ConnectPeerNetworkOptions } from "./peer-network.js";
import { CLUSTER, EPOCH_ID, type FakePush, NODE, OTHER_NODE } from "./testing/fake-rooms.js";
import { startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer & { address: string }> {
  const running = await startTestServer(options);
  cleanups.push(() => running.server.close());
  return { ...running, address: `127.0.0.1:${running.port}` };
}

function newNetwork(options: Partial<ConnectPeerNetworkOptions> = {}): ConnectPeerNetwork {
  const network = new ConnectPeerNetwork({ logger: silentLogger, ...options });
  cleanups.push(() => network.close());
  return network;
}

/** A listener that writes down what it is told, and lets a test wait for it. */
class Notes implements PeerListener {
  readonly all: string[] = [];
  readonly messages: ReplicaMessage[] = [];
  opened(): void {
    this.all.push("opened");
  }
  message(message: ReplicaMessage): void {
    this.all.push(message.kind);
    this.messages.push(message);
  }
  closed(reason: string): void {
    this.all.push(`closed: ${reason}`);
  }
  drained(): void {
    this.all.push("drained");
  }
  async until(text: string): Promise<void> {
    await vi.waitUntil(() => this.all.some((line) => line.includes(text)), { interval: 2 });
  }
}

const from = { clusterId: CLUSTER, epoch: epoch(3), sender: NODE };
const hello = {
  kind: "hello" as const,
  ...from,
  protocolVersion: 1,
  epochId: EPOCH_ID,
  masterAddress: "node-1:8080",
  history: [{ epoch: epoch(3), epochId: EPOCH_ID, firstSeq: seq(1) }],
  last: { epoch: epoch(3), seq: seq(9) },
} satisfies MasterMessage;
const append = (records: Uint8Array): MasterMessage => ({
  kind: "append",
  ...from,
  previous: { epoch: epoch(3), seq: seq(1), chain: 5 },
  records,
  commitSeq: seq(1),
  echo: 0,
  masterTimeMs: epochMs(1),
  round: 0,
});
const welcome: ReplicaMessage = {
  kind: "welcome",
  clusterId: CLUSTER,
  epoch: epoch(3),
  sender: OTHER_NODE,
  protocolVersion: 1,
  history: [],
  last: { epoch: epoch(0), seq: seq(0) },
  heartbeatIntervalMs: 500,
  floorSeq: seq(0),
};
const ack = (matchSeq: number): ReplicaMessage => ({
  kind: "ack",
  clusterId: CLUSTER,
  epoch: epoch(3),
  sender: OTHER_NODE,
  matchSeq: seq(matchSeq),
  appliedSeq: seq(0),
  probe: matchSeq,
  round: 0,
});
/** Welcomes a master, and acknowledges what it appends. */
function answer({ replicator }: TestServer): FakePush[] {
  let appended = 0;
  replicator.onPush = (push, message) => {
    if (message?.kind === "hello") push.send(welcome);
    if (message?.kind === "append") push.send(ack(++appended));
  };
  return replicator.pushes;
}

describe("a push", () => {
  test("carries messages both ways, in their order", async () => {
    const server = await start();
    const pushes = answer(server);
    const notes = new Notes();
    const connection = newNetwork().connect(server.address, notes);
    expect(notes.all).toEqual([]);
    connection.send(hello);
    for (let n = 1; n <= 50; n++) connection.send(append(new Uint8Array([n])));
    await expect.poll(() => notes.messages.length, { interval: 2 }).toBe(51);
    expect(pushes[0]?.received[0]).toEqual(hello);
    expect(pushes[0]?.received.slice(1).map((m) => m.kind === "append" && m.records[0])).toEqual(
      Array.from({ length: 50 }, (_, n) => n + 1),
    );
    expect(notes.messages[0]).toEqual(welcome);
    expect(notes.messages.at(-1)).toEqual(ack(50));
  });

  test("carries batches larger than a client's message, and counts what the system has not taken", async () => {
    const server = await start();
    const pushes = answer(server);
    const notes = new Notes();
    const connection = newNetwork().connect(server.address, notes);
    const records = new Uint8Array(9 * 1024 * 1024).map((_, index) => index % 251);
    connection.send(hello);
    connection.send(append(records));
    expect(connection.bufferedBytes).toBeGreaterThan(records.length);
    await notes.until("ack");
    await notes.until("drained");
    expect(connection.bufferedBytes).toBe(0);
    const received = pushes[0]?.received[1];
    expect(received?.kind === "append" && Buffer.compare(received.records, records)).toBe(0);
  });

  test("that is closed here ends at once on both sides, says so once and last, and sends nothing more", async () => {
    const server = await start();
    const pushes = answer(server);
    const notes = new Notes();
    const connection = newNetwork().connect(server.address, notes);
    connection.send(hello);
    await notes.until("welcome");
    connection.close();
    connection.close();
    expect(notes.all).not.toContain("closed: this node closed the connection");
    connection.send(append(new Uint8Array(1)));
    await notes.until("closed");
    await expect.poll(() => pushes[0]?.isClosed).toBe(true);
    expect(notes.all.filter((line) => line.startsWith("closed"))).toEqual(["closed: this node closed the connection"]);
    expect(notes.all.at(-1)).toMatch(/^closed/);
    expect(pushes[0]?.received).toHaveLength(1);
  });

  test("that the replica ends tells the master its reason", async () => {
    const server = await start();
    const pushes = answer(server);
    const notes = new Notes();
    newNetwork().connect(server.address, notes).send(hello);
    await notes.until("welcome");
    pushes[0]?.close("a newer master has connected");
    await notes.until("closed");
    expect(notes.all.at(-1)).toBe("closed: a newer master has connected");
    expect(pushes[0]?.isClosed).toBe(true);
  });

  test("to a node that shuts down ends with that reason, and does not hold the node up", async () => {
    const server = await start();
    answer(server);
    const notes = new Notes();
    newNetwork().connect(server.address, notes).send(hello);
    await notes.until("welcome");
    await server.server.close();
    await notes.until("closed");
    expect(notes.all.at(-1)).toMatch(/^closed: .*shutting down/);
  });

  test.each(["nonsense", "127.0.0.1", "127.0.0.1:65536", "a b[:80", "user@127.0.0.1:80", "127.0.0.1:80/x", ""])(
    "to an address that is none ends with the reason, and never throws: %j",
    async (address) => {
      const notes = new Notes();
      const connection = newNetwork().connect(address, notes);
      connection.send(hello);
      expect(notes.all).toEqual([]);
      await notes.until("closed");
      expect(notes.all).toEqual([`closed: ${JSON.stringify(address)} is no host:port`]);
    },
  );

  test("to a place where nothing listens ends with the reason", async () => {
    const server = await start();
    await server.server.close();
    const notes = new Notes();
    newNetwork().connect(server.address, notes);
    await notes.until("closed");
    expect(notes.all).toEqual(["closed: nothing listens there"]);
  });

  test("to something that is no node ends with a reason", async () => {
    const { address } = await listenSilently((socket) => socket.end("220 mail.example ESMTP\r\n"));
    const notes = new Notes();
    newNetwork().connect(address, notes);
    await notes.until("closed");
    expect(notes.all.at(-1)).toMatch(/^closed: ./);
  });

  test("with the secret of the cluster is let in, without it or with another one it is told why not", async () => {
    const secret = new TextEncoder().encode("one secret of some length");
    const server = await start({ clusterSecret: secret });
    answer(server);
    const right = new Notes();
    newNetwork({ clusterSecret: secret }).connect(server.address, right).send(hello);
    await right.until("welcome");
    for (const clusterSecret of [undefined, new TextEncoder().encode("another secret")]) {
      const wrong = new Notes();
      newNetwork(clusterSecret ? { clusterSecret } : {})
        .connect(server.address, wrong)
        .send(hello);
      await wrong.until("closed");
      expect(wrong.all.at(-1)).toContain("did not prove that it knows the secret of this cluster");
    }
    expect(server.replicator.pushes).toHaveLength(1);
  });

  test("whose message makes no sense is ended by the replica, which goes on", async () => {
    const server = await start();
    const pushes = answer(server);
    const notes = new Notes();
    const connection = newNetwork().connect(server.address, notes);
    connection.send({ ...hello, history: [...hello.history, ...hello.history] });
    await notes.until("closed");
    expect(notes.all.at(-1)).toContain("history does not rise");
    expect(pushes[0]).toMatchObject({ isClosed: true, received: [] });
    expect(server.bugs).toEqual([]);
  });

  test("whose listener fails is a bug that is reported, never taken for the network's", async () => {
    const server = await start();
    answer(server);
    const bugs: Error[] = [];
    const notes = new Notes();
    const broken = new Error("in the listener");
    notes.message = () => {
      throw broken;
    };
    newNetwork({ onBug: (error) => bugs.push(error) })
      .connect(server.address, notes)
      .send(hello);
    await notes.until("closed");
    expect(bugs).toEqual([broken]);
  });

  test("to a node that hangs is ended when it does not answer a ping", async () => {
    const { address } = await listenSilently();
    const clock = new FakeClock();
    const notes = new Notes();
    newNetwork({ clock, pingIntervalMs: 1000, pingTimeoutMs: 300 }).connect(address, notes);
    await notes.until("opened");
    clock.advance(1000);
    clock.advance(300);
    await notes.until("closed");
    expect(notes.all.at(-1)).toBe("closed: the other node did not answer within 300 ms");
    expect(clock.pendingTimers).toBe(0);
  });

  test("is kept while the other node answers pings, however long it says nothing else", async () => {
    const server = await start();
    answer(server);
    const clock = new RecordingClock();
    const notes = new Notes();
    const connection = newNetwork({ clock, pingIntervalMs: 1000, pingTimeoutMs: 300 }).connect(server.address, notes);
    connection.send(hello);
    await notes.until("welcome");
    for (let n = 0; n < 5; n++) {
      clock.advance(1000);
      expect(clock.lastDelayMs).toBe(300);
      // The answer puts a timer for the next ping in place of the one that waits for it.
      await expect.poll(() => clock.lastDelayMs, { interval: 2 }).toBe(1000);
    }
    connection.send(append(new Uint8Array(1)));
    await notes.until("ack");
  });

  test("trap 3: a timer that fires after the connection is gone does nothing", async () => {
    const server = await start();
    answer(server);
    const clock = new FakeClock();
    const notes = new Notes();
    newNetwork({ clock, pingIntervalMs: 1000, pingTimeoutMs: 300 }).connect(server.address, notes).send(hello);
    await notes.until("welcome");
    await server.server.close();
    await notes.until("closed");
    expect(clock.pendingTimers).toBe(0);
    clock.advance(10_000);
    expect(notes.all.filter((line) => line.startsWith("closed"))).toHaveLength(1);
  });

  test("trap 4: is open before the replica has said anything", async () => {
    const server = await start();
    const notes = new Notes();
    const connection = newNetwork().connect(server.address, notes);
    await notes.until("opened");
    connection.send(hello);
    await expect.poll(() => server.replicator.pushes[0]?.received.length).toBe(1);
    expect(notes.all.filter((line) => line !== "drained")).toEqual(["opened"]);
  });
});

describe("a registration", () => {
  const request = { clusterId: CLUSTER, nodeId: OTHER_NODE, address: "node-2:8081" };
  const never = new AbortController().signal;

  test("tells the master who and where the replica is, and the replica whom it follows", async () => {
    const server = await start();
    const network = newNetwork();
    expect(await network.register(server.address, request, never)).toEqual({
      clusterId: CLUSTER,
      masterNodeId: NODE,
      epoch: 7,
    });
    await network.register(server.address, { nodeId: OTHER_NODE, address: "node-2:8081" }, never);
    expect(server.replicator.registered).toEqual([request, { nodeId: OTHER_NODE, address: "node-2:8081" }]);
  });

  test("trap 8: that is refused rejects with an error of this node's own, which carries the master's sentence", async () => {
    const server = await start();
    server.replicator.failure = new ReplicationError("removed", "this node was removed; add it again first");
    const error = await newNetwork()
      .register(server.address, request, never)
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ReplicationError);
    expect(error).toMatchObject({ code: "refused", message: expect.stringContaining("this node was removed") });
  });

  test("with a master that does not answer rejects with the reason", async () => {
    const server = await start();
    await server.server.close();
    await expect(newNetwork().register(server.address, request, never)).rejects.toMatchObject({
      code: "unreachable",
      message: `the master at ${server.address} did not take this node: nothing listens there`,
    });
    await expect(newNetwork().register("nonsense", request, never)).rejects.toMatchObject({ code: "invalid_address" });
  });

  test("ends when its signal is aborted, and when the network is closed", async () => {
    const { address } = await listenSilently();
    const controller = new AbortController();
    const aborted = newNetwork().register(address, request, controller.signal);
    controller.abort(new Error("no longer wanted"));
    await expect(aborted).rejects.toThrow("no longer wanted");
    const network = newNetwork();
    const closed = network.register(address, request, never);
    const outcome = closed.catch((reason: unknown) => reason);
    await network.close();
    expect(await outcome).toBeInstanceOf(ReplicationError);
    await expect(network.register(address, request, never)).rejects.toMatchObject({ code: "closing" });
  });
});

describe("a question to another node", () => {
  const never = new AbortController().signal;
  const asker = { clusterId: CLUSTER, nodeId: OTHER_NODE };
  const request: PromiseRequest = {
    clusterId: CLUSTER,
    candidate: OTHER_NODE,
    address: "node-2:8081",
    epoch: epoch(4),
    epochId: EPOCH_ID,
    last: { epoch: epoch(3), seq: seq(9) },
    forced: true,
    promisedEpoch: epoch(3),
  };
  /** Each question, asked of a node. */
  const questions: [string, (network: ConnectPeerNetwork, address: string, signal: AbortSignal) => Promise<unknown>][] =
    [
      ["survey", (network, address, signal) => network.survey(address, asker, signal)],
      ["requestPromise", (network, address, signal) => network.requestPromise(address, request, signal)],
      ["readIndex", (network, address, signal) => network.readIndex(address, asker, signal)],
      [
        "register",
        (network, address, signal) => network.register(address, { ...asker, address: "node-2:8081" }, signal),
      ],
    ];
  const failureOf = (call: Promise<unknown>): Promise<unknown> =>
    call.then(
      () => expect.fail("the question was answered"),
      (error: unknown) => error,
    );

  test("what it is and has, is answered", async () => {
    const { address, replicator } = await start();
    expect(await newNetwork().survey(address, asker, never)).toEqual(replicator.surveyReply);
    expect(await newNetwork().survey(address, { nodeId: OTHER_NODE }, never)).toEqual(replicator.surveyReply);
    expect(replicator.asked).toEqual([asker, { nodeId: OTHER_NODE }]);
  });

  test("for its promise, is answered by a grant, or by a refusal with its reason", async () => {
    const { address, replicator } = await start();
    expect(await newNetwork().requestPromise(address, request, never)).toEqual(replicator.promiseReply);
    expect(replicator.asked).toEqual([request]);
    replicator.promiseReply = {
      ...replicator.promiseReply,
      refusal: "no_vote",
      detail: "it went to a1",
      unclean: true,
    };
    expect(await newNetwork().requestPromise(address, request, never)).toEqual(replicator.promiseReply);
  });

  test("where to read at, is answered once that is confirmed", async () => {
    const { address, replicator } = await start();
    const network = newNetwork();
    const reads = [1, 2, 3].map(() => network.readIndex(address, asker, never));
    await expect.poll(() => replicator.confirmations.count).toBe(3);
    replicator.confirmations.release(seq(12));
    for (const read of reads) expect(await read).toEqual({ epoch: 3, seq: 12 });
  });

  test("where to read at, leaves no waiter there when the one that asks has gone", async () => {
    const { address, replicator } = await start();
    const gone = new AbortController();
    const read = failureOf(newNetwork().readIndex(address, asker, gone.signal));
    await expect.poll(() => replicator.confirmations.count).toBe(1);
    gone.abort(new Error("gone"));
    expect(await read).toBe(gone.signal.reason);
    await expect.poll(() => replicator.confirmations.count).toBe(0);
  });

  test.each(questions)("%s: needs the proof of a peer", async (_name, ask) => {
    const clusterSecret = Buffer.from("a secret");
    const { address, replicator } = await start({ clusterSecret });
    const refused = await failureOf(ask(newNetwork(), address, never));
    expect(refused).toBeInstanceOf(ReplicationError);
    expect(refused).toMatchObject({ code: "refused", message: expect.stringContaining("cluster.secret_file") });
    expect(replicator.asked).toEqual([]);
    replicator.failure = new ReplicationError("foreign_cluster", "it belongs to another cluster");
    const known = await failureOf(ask(newNetwork({ clusterSecret }), address, never));
    expect(known).toMatchObject({ code: "refused", message: expect.stringContaining("another cluster") });
  });

  test.each(questions)("%s: of a node that is no master tells which one is", async (_name, ask) => {
    const { address, replicator } = await start();
    replicator.failure = new ReplicationError("not_master", "this node is a replica");
    replicator.masterAddress = "node-3.example:8080";
    const error = await failureOf(ask(newNetwork(), address, never));
    expect(error).toBeInstanceOf(ReplicationError);
    expect(error).toMatchObject({ code: "not_master", masterAddress: "node-3.example:8080" });
    for (const masterAddress of [undefined, "no address at all"]) {
      replicator.masterAddress = masterAddress;
      const unknown = await failureOf(ask(newNetwork(), address, never));
      expect(unknown).toMatchObject({ code: "not_master", masterAddress: undefined });
    }
  });

  test.each(questions)(
    "%s: where nothing listens, or no address is meant, fails at once with the reason",
    async (_name, ask) => {
      const { address, server } = await start();
      await server.close();
      expect(await failureOf(ask(newNetwork(), address, never))).toMatchObject({
        name: "ReplicationError",
        code: "unreachable",
        message: expect.stringMatching(/^the (node|master) at 127\.0\.0\.1:\d+ did not .*: nothing listens there$/),
      });
      expect(await failureOf(ask(newNetwork(), "nonsense", never))).toMatchObject({ code: "invalid_address" });
    },
  );

  test.each(questions)("%s: ends with its signal, and with the network", async (_name, ask) => {
    const { address } = await listenSilently();
    const controller = new AbortController();
    const aborted = failureOf(ask(newNetwork(), address, controller.signal));
    controller.abort(new Error("no longer wanted"));
    expect(await aborted).toBe(controller.signal.reason);
    const network = newNetwork();
    const closed = failureOf(ask(network, address, never));
    await network.close();
    expect(await closed).toBeInstanceOf(ReplicationError);
    expect(await failureOf(ask(network, address, never))).toMatchObject({ code: "closing" });
  });

  test("an answer that contradicts itself is no answer", async () => {
    const { address, replicator } = await start();
    replicator.promiseReply = { ...replicator.promiseReply, promisedEpoch: epoch(3) };
    const error = await failureOf(newNetwork().requestPromise(address, request, never));
    expect(error).toBeInstanceOf(ReplicationError);
    expect(error).toMatchObject({ code: "refused", message: expect.stringContaining("makes no sense") });
  });
});

test("closing the network ends every push, and resolves once their sockets are given back", async () => {
  const server = await start();
  answer(server);
  const network = newNetwork();
  const all = [new Notes(), new Notes()];
  for (const notes of all) network.connect(server.address, notes).send(hello);
  for (const notes of all) await notes.until("welcome");
  await network.close();
  for (const notes of all) expect(notes.all.at(-1)).toBe("closed: this node closed the connection");
  const late = new Notes();
  network.connect(server.address, late);
  await late.until("closed");
  expect(late.all).toEqual(["closed: this node is shutting down"]);
});

/** A port where somebody takes connections and says nothing, or something that is no HTTP/2. */
async function listenSilently(greet: (socket: Socket) => void = () => undefined): Promise<{ address: string }> {
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
  return { address: `127.0.0.1:${typeof address === "object" && address ? address.port : 0}` };
}

/** Remembers for how long it was last asked to wait. */
class RecordingClock extends FakeClock {
  lastDelayMs = 0;
  override after(delayMs: number, fire: () => void): Timer {
    this.lastDelayMs = delayMs;
    return super.after(delayMs, fire);
  }
}
