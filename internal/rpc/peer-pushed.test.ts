import {
  connect as connectHttp2,
  type ClientHttp2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from "node:http2";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type PushRequest, Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import { crc32 } from "../base/crc32.js";
import { epoch, epochMs, seq } from "../base/position.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import { Registry } from "../metrics/registry.js";
import type { MasterMessage, ReplicaMessage } from "../replication/replicator.js";
import { masterMessageToWire } from "./peer-messages.js";
import { frameOfMaster } from "./peer-wire.js";
import { CLUSTER, EPOCH_ID, type FakePush, NODE, OTHER_NODE } from "./testing/fake-rooms.js";
import { frame, send, startTestServer, type TestServer } from "./testing/test-server.js";

const SECRET = new TextEncoder().encode("one secret of some length");
const from = { clusterId: CLUSTER, epoch: epoch(3), sender: NODE };
const hello: MasterMessage = {
  kind: "hello",
  ...from,
  protocolVersion: 1,
  epochId: EPOCH_ID,
  masterAddress: "node-1:8080",
  history: [{ epoch: epoch(3), epochId: EPOCH_ID, firstSeq: seq(1) }],
  last: { epoch: epoch(3), seq: seq(9) },
};
const append = (length: number): MasterMessage => ({
  kind: "append",
  ...from,
  previous: { epoch: epoch(3), seq: seq(1), chain: 5 },
  records: new Uint8Array(length).map((_, index) => index % 251),
  commitSeq: seq(1),
  echo: 0,
  masterTimeMs: epochMs(1),
  round: 0,
});
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
const bytesOf = (message: MasterMessage): Buffer => Buffer.concat(frameOfMaster(message));
const PUSH: OutgoingHttpHeaders = {
  ":method": "POST",
  ":path": "/cambium.v1.Replication/Push",
  "content-type": "application/grpc+proto",
  te: "trailers",
};

/** What a master sees of a push, and what replication does. */
interface Outcome {
  readonly status: unknown;
  readonly headers: IncomingHttpHeaders;
  readonly hasRequestId: boolean;
  readonly trailers: IncomingHttpHeaders;
  readonly body: string;
  readonly received: readonly unknown[];
  readonly isClosed: readonly boolean[];
  readonly metrics: readonly string[];
  readonly bugs: number;
}

interface Push {
  readonly headers?: OutgoingHttpHeaders;
  readonly pieces: readonly Uint8Array[];
  /** The master ends its half after that. */
  readonly ends?: boolean;
  /** What replication does with what comes. */
  readonly onPush?: (push: FakePush, message: MasterMessage | undefined) => void;
}

/** Acknowledges what is appended, by its number of bytes, and ends with a heartbeat. */
function acknowledge(push: FakePush, message: MasterMessage | undefined): void {
  if (message?.kind === "append") push.send(ack(message.records.length));
  if (message?.kind === "takeOver") push.close("a newer master has connected");
}

function shown(message: MasterMessage): unknown {
  if (message.kind !== "append") return message;
  return { ...message, records: `${message.records.length} bytes with the sum ${crc32(message.records)}` };
}

class Side {
  readonly #running: TestServer;
  readonly #session: ClientHttp2Session;

  private constructor(running: TestServer) {
    this.#running = running;
    this.#session = connectHttp2(`http://127.0.0.1:${running.port}`);
  }

  static async start(fastPath: boolean, clusterSecret?: Uint8Array): Promise<Side> {
    return new Side(
      await startTestServer({ fastPath, registry: new Registry(), ...(clusterSecret && { clusterSecret }) }),
    );
  }

  async push({ headers, pieces, ends = true, onPush = acknowledge }: Push): Promise<Outcome> {
    const { replicator, bugs, port } = this.#running;
    replicator.onPush = onPush;
    replicator.pushes.length = 0;
    const stream = this.#session.request({ ...PUSH, ...headers });
    const chunks: Buffer[] = [];
    let answer: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (received) => (answer = received));
    stream.on("trailers", (received: IncomingHttpHeaders) => (trailers = received));
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", () => undefined);
    const ended = new Promise<void>((resolve) => stream.on("end", resolve).on("close", resolve));
    for (const piece of pieces) {
      stream.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (ends) stream.end();
    await ended;
    stream.close();
    await vi.waitUntil(() => replicator.pushes.every(({ isClosed }) => isClosed), { interval: 2 });
    const { ":status": status, date: _date, "x-request-id": requestId, ...rest } = answer;
    const page = await send(port, "/metrics", { method: "GET" });
    return {
      status,
      headers: rest,
      hasRequestId: requestId !== undefined,
      trailers: { ...trailers },
      body: Buffer.concat(chunks).toString("hex"),
      received: replicator.pushes.flatMap(({ received }) => received.map(shown)),
      isClosed: replicator.pushes.map(({ isClosed }) => isClosed),
      metrics: page.text.split("\n").filter((line) => /Replication.*Push|rpc_errors/.test(line)),
      bugs: bugs.length,
    };
  }

  async close(): Promise<void> {
    this.#session.destroy();
    await this.#running.server.close();
  }
}

const many = Array.from({ length: 40 }, (_, n) => bytesOf(append(n)));
const right = Buffer.concat([bytesOf(hello), ...many]);
const proof = { authorization: peerAuthorization(SECRET) };
const cases: readonly (readonly [string, Push])[] = [
  ["what is right, in one piece", { pieces: [right] }],
  [
    "what is right, cut anywhere",
    {
      pieces: [3, 7, 61, 62, 300, 1000]
        .map((at, n, all) => right.subarray(n ? all[n - 1] : 0, at))
        .concat(right.subarray(1000)),
    },
  ],
  ["nothing", { pieces: [] }],
  ["a large batch", { pieces: [bytesOf(hello), bytesOf(append(3_000_000))] }],
  ["a push that replication ends", { pieces: [bytesOf(hello), bytesOf({ kind: "takeOver", ...from })] }],
  [
    "a push that replication ends at once",
    { pieces: [], onPush: (push) => push.close("16 masters are connected already") },
  ],
  [
    "an answer, and the end after it",
    { pieces: [bytesOf(hello)], onPush: (push) => (push.send(ack(1)), push.close("a reason; with % and ü in it")) },
  ],
  [
    "a handler that fails",
    {
      pieces: [bytesOf(hello)],
      onPush: (_push, message) => {
        if (message) throw new Error("a mistake");
      },
    },
  ],
  ["a content type without a format", { headers: { "content-type": "application/grpc" }, pieces: [right] }],
  [
    "an identity encoding",
    { headers: { "grpc-encoding": "identity", "grpc-accept-encoding": "gzip" }, pieces: [right] },
  ],
  ["an encoding that nobody knows", { headers: { "grpc-encoding": "snappy" }, pieces: [right] }],
  ["gzip", { headers: { "grpc-encoding": "gzip" }, pieces: [right] }],
  ["a deadline", { headers: { "grpc-timeout": "5S" }, pieces: [right] }],
  ["JSON", { headers: { "content-type": "application/grpc+json" }, pieces: [frame(Buffer.from("{}"))] }],
  ["another protocol", { headers: { "content-type": "application/connect+proto" }, pieces: [right] }],
  ["gRPC-web", { headers: { "content-type": "application/grpc-web+proto" }, pieces: [right] }],
  ["a type that is none", { headers: { "content-type": "text/plain" }, pieces: [right] }],
  ["GET", { headers: { ":method": "GET" }, pieces: [], ends: false }],
  ["an origin", { headers: { origin: "https://a.example" }, pieces: [right] }],
  ["another host", { headers: { ":authority": "evil.example" }, pieces: [right] }],
  ["a host that is none", { headers: { ":authority": "a b[" }, pieces: [right] }],
  [
    "a wrong proof",
    { headers: { authorization: peerAuthorization(Buffer.from("another secret of some length")) }, pieces: [right] },
  ],
  ["a right proof", { headers: proof, pieces: [right] }],
  ["a token that nobody knows", { headers: { authorization: "Bearer cambium_x" }, pieces: [right] }],
  ["a compressed frame", { pieces: [bytesOf(hello), frame(Buffer.from([1, 2]), 1)] }],
  [
    "flags that nobody knows",
    { pieces: [bytesOf(hello), frame(bytesOf(append(3)).subarray(5), 4), bytesOf(append(4))] },
  ],
  ["a frame that is too large", { pieces: [bytesOf(hello), Buffer.from([0, 4, 0, 0, 1])] }],
  ["a frame that is cut off", { pieces: [bytesOf(hello), bytesOf(append(9)).subarray(0, 40)] }],
  ["a message that does not parse", { pieces: [bytesOf(hello), frame(Buffer.from([0xff, 0xff, 0xff]))] }],
  ["an empty message", { pieces: [bytesOf(hello), frame(Buffer.alloc(0))] }],
  [
    "a message that makes no sense",
    {
      pieces: [
        bytesOf({ ...hello, history: [], last: { epoch: epoch(3), seq: seq(9) } }),
        frame(Buffer.from([0x0a, 1, 7])),
      ],
    },
  ],
  ["noise", { pieces: [Buffer.from(Array.from({ length: 500 }, (_, n) => (n * 7919) % 256))] }],
];

describe.each([
  ["a node without a secret", undefined, cases],
  ["a node with a secret", SECRET, cases.filter(([what]) => /proof|one piece/.test(what))],
])("a push to %s", (_name, secret, cases) => {
  let short: Side;
  let long: Side;
  beforeAll(async () => {
    [short, long] = [await Side.start(true, secret), await Side.start(false, secret)];
  });
  afterAll(async () => {
    await short.close();
    await long.close();
  });

  test.each(cases)("is answered, and counted, as the library's handler does it: %s", async (_what, push) => {
    expect(await short.push(push)).toEqual(await long.push(push));
  });
});

describe("a push by the library's client", () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  async function* requests(messages: readonly MasterMessage[]): AsyncGenerator<PushRequest> {
    for (const message of messages) yield masterMessageToWire(message);
  }

  test("is understood, and understands", async () => {
    const running = await startTestServer({ fastPath: true });
    cleanups.push(() => running.server.close());
    running.replicator.onPush = acknowledge;
    const client = createClient(Replication, createGrpcTransport({ baseUrl: running.url }));
    const answers: bigint[] = [];
    const sent = [hello, append(1), append(200_000), append(3)];
    for await (const { message } of client.push(requests(sent))) {
      answers.push(message.case === "ack" ? message.value.matchSeq : -1n);
    }
    expect(answers).toEqual([1n, 200_000n, 3n]);
    expect(running.replicator.pushes[0]?.received.map(({ kind }) => kind)).toEqual([
      "hello",
      "append",
      "append",
      "append",
    ]);
    const failed = async (): Promise<void> => {
      for await (const _ of client.push(requests([hello, { kind: "takeOver", ...from }]))) void _;
    };
    const error = await failed().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toMatchObject({ code: Code.Aborted, rawMessage: "a newer master has connected" });
  });

  test("has what it brings written as soon as the piece is read that it came in", async () => {
    const running = await startTestServer({ fastPath: true });
    cleanups.push(() => running.server.close());
    const { replicator, store } = running;
    const written: number[] = [];
    store.onEndTurn = () => void written.push(replicator.pushes[0]?.received.length ?? 0);
    const session = connectHttp2(`http://127.0.0.1:${running.port}`);
    cleanups.push(() => session.destroy());
    const stream = session.request(PUSH);
    stream.on("error", () => undefined);
    stream.write(Buffer.concat([bytesOf(hello), bytesOf(append(1)), bytesOf(append(2))]));
    await vi.waitUntil(() => written.length > 0, { interval: 2 });
    expect(written).toEqual([3]);
    stream.write(bytesOf(append(3)));
    await vi.waitUntil(() => written.length > 1, { interval: 2 });
    expect(written).toEqual([3, 4]);
  });

  test("has only the first piece of a turn written early, and the others together at its end", async () => {
    const running = await startTestServer({ fastPath: true });
    cleanups.push(() => running.server.close());
    const { replicator, store } = running;
    let turn = 0;
    let isOver = false;
    const count = (): void => {
      turn++;
      if (!isOver) setImmediate(count);
    };
    count();
    const begun: number[] = [];
    store.onEndTurn = () => void begun.push(turn);
    const session = connectHttp2(`http://127.0.0.1:${running.port}`);
    cleanups.push(() => session.destroy());
    const stream = session.request(PUSH);
    stream.on("error", () => undefined);
    // Each is more than one frame of HTTP/2 holds, so that what comes by one read of the socket comes in several pieces.
    stream.write(Buffer.concat([bytesOf(hello), ...Array.from({ length: 8 }, () => bytesOf(append(20_000)))]));
    await vi.waitUntil(() => replicator.pushes[0]?.received.length === 9, { interval: 2 });
    isOver = true;
    expect(begun.length).toBeGreaterThan(0);
    expect(begun).toEqual([...new Set(begun)]);
  });

  test("whose other end does not read its answers is ended", async () => {
    const running = await startTestServer({ fastPath: true });
    cleanups.push(() => running.server.close());
    running.replicator.onPush = (push, message) => {
      for (let n = 0; message && n < 200_000; n++) push.send(ack(n));
    };
    const session = connectHttp2(`http://127.0.0.1:${running.port}`, { settings: { initialWindowSize: 0 } });
    cleanups.push(() => session.destroy());
    const stream = session.request(PUSH);
    stream.on("error", () => undefined);
    stream.write(bytesOf(hello));
    await expect.poll(() => running.replicator.pushes[0]?.isClosed, { interval: 2 }).toBe(true);
  });

  test("that comes while nothing but the request's head is there is taken, and left, without a trace", async () => {
    const running = await startTestServer({ fastPath: true });
    cleanups.push(() => running.server.close());
    const session = connectHttp2(running.url);
    cleanups.push(() => session.destroy());
    const stream = session.request(PUSH);
    stream.on("error", () => undefined);
    await vi.waitUntil(() => running.replicator.pushes.length === 1, { interval: 2 });
    stream.close(8);
    await vi.waitUntil(() => running.replicator.pushes[0]?.isClosed === true, { interval: 2 });
    expect(running.bugs).toEqual([]);
  });
});
