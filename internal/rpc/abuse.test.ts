/** Hostile callers, a few of each; `test/prove/abuse.test.ts` has thousands of them. */
import { type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { connect as connectSocket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createClient, ConnectError, Code } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { FakeClock } from "../base/clock.js";
import { seq } from "../base/position.js";
import {
  attacks,
  frame as http2Frame,
  halfHandshakes,
  headersBlock,
  neverReading,
  normalCall,
} from "./testing/abuse.js";
import { certificate } from "./testing/certificates.js";
import { callJson, send, sendRaw, startTestServer, type TestServer } from "./testing/test-server.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Of the bytes that this process holds, those that somebody still needs. */
function keptBytes(): number {
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer & { host: string }> {
  const running = await startTestServer(options);
  cleanups.push(async () => {
    await running.server.close();
    expect(running.bugs).toEqual([]);
    expect(running.errors).toEqual([]);
  });
  return { ...running, host: "127.0.0.1" };
}

const impatient = {
  handshakeTimeoutMs: 1000,
  headersTimeoutMs: 1000,
  requestTimeoutMs: 1000,
  idleTimeoutMs: 1000,
  unreadTimeoutMs: 1000,
};

describe("attackers lose their connections, and others are served meanwhile", () => {
  /** These have the time that a connection has for its first bytes, which the node's own clock takes. */
  const silent = ["connections that say nothing", "half a preface of HTTP/2"];

  test.each(silent)("%s", async (name) => {
    const clock = new FakeClock();
    const target = await start({ clock, serverLimits: impatient });
    const attack = attacks[name]!(10, target);
    cleanups.push(() => attack.end());
    const metrics = async (): Promise<string> => (await send(target.port, "/metrics", { method: "GET" })).text;
    await expect.poll(metrics, { timeout: 30_000 }).toMatch(/^cambium_connections 11$/m);
    for (let n = 0; n < 5; n++) await normalCall(target);
    clock.advance(9_999);
    await normalCall(target);
    expect(attack.open).toBe(10);
    clock.advance(1);
    await attack.ended;
    expect(attack.open).toBe(0);
    await normalCall(target);
  });

  test.each(Object.entries(attacks).filter(([name]) => !silent.includes(name)))("%s", async (_name, begin) => {
    const target = await start({ serverLimits: impatient });
    const attack = begin(10, target);
    cleanups.push(() => attack.end());
    for (let n = 0; n < 5; n++) await normalCall(target);
    await attack.ended;
    expect(attack.open).toBe(0);
    await normalCall(target);
  });

  test("readers that never read", async () => {
    const target = await start({ serverLimits: impatient });
    const transport = createConnectTransport({ baseUrl: target.url, httpVersion: "1.1" });
    await createClient(KVStore, transport).set({ key: "large", value: new Uint8Array(1024 * 1024) });
    const attack = neverReading(5, target, "large");
    cleanups.push(() => attack.end());
    for (let n = 0; n < 5; n++) await normalCall(target);
    await attack.ended;
    expect(attack.open).toBe(0);
  });

  test("readers that do not read what they had to wait for", async () => {
    const clock = new FakeClock();
    const { store, port } = await start({ clock, serverLimits: { ...impatient, unreadBytesMax: Infinity } });
    const value = new Uint8Array(1024 * 1024);
    store.entries.set(Buffer.from("large").toString("hex"), { value, createSeq: seq(1), modSeq: seq(1) });
    // Of a token that this node has not reached yet.
    const attack = neverReading(1, { host: "127.0.0.1", port }, "large", { atLeast: "yA==" });
    cleanups.push(() => attack.end());
    await expect.poll(() => store.reads.count).toBe(50);
    // All of the answers are looked at while there is nothing of them.
    clock.advance(1000);
    store.apply(200);
    await expect
      .poll(
        () => {
          clock.advance(1000);
          return attack.open;
        },
        { timeout: 60_000 },
      )
      .toBe(0);
  });

  test("handshakes of TLS that stop half-way", async () => {
    const target = await start({ serverLimits: impatient, tls: { material: certificate("node"), clientAuth: "none" } });
    const attack = halfHandshakes(10, target);
    cleanups.push(() => attack.end());
    const session = connectHttp2(`https://127.0.0.1:${target.port}`, { ca: certificate("node").ca });
    cleanups.push(() => session.destroy());
    await new Promise((resolve, reject) => session.once("connect", resolve).once("error", reject));
    await attack.ended;
    expect(session.closed).toBe(false);
  });
});

describe("an answer that is not read", () => {
  test("is forgotten with its connection, those behind it included", async () => {
    const { port, url } = await start();
    const transport = createConnectTransport({ baseUrl: url, httpVersion: "1.1" });
    await createClient(KVStore, transport).set({ key: "large", value: new Uint8Array(1024 * 1024) });
    const before = keptBytes();
    const body = '{"keys":["large","large"]}';
    const head = `host: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
    const ask = `POST /cambium.v1.KVStore/BatchGet HTTP/1.1\r\n${head}\r\n\r\n${body}`;
    const sockets = Array.from({ length: 10 }, () => connectSocket(port, "127.0.0.1").pause());
    for (const socket of sockets) socket.on("error", () => undefined).write(ask.repeat(30));
    // All but the first few bytes of the first wait in the server.
    await expect.poll(keptBytes, { timeout: 30_000 }).toBeGreaterThan(before + 25 * 1024 * 1024);
    for (const socket of sockets) socket.destroy();
    await expect.poll(keptBytes, { timeout: 30_000 }).toBeLessThan(before + 5 * 1024 * 1024);
    const metrics = async (): Promise<string> => (await send(port, "/metrics", { method: "GET" })).text;
    await expect.poll(metrics, { timeout: 30_000 }).toMatch(/^cambium_rpc_in_flight\{.*"BatchGet"\} 0$/m);
  });

  test("costs its caller the connection, also when there was nothing to read for long before", async () => {
    const clock = new FakeClock();
    const { port, records } = await start({ clock, serverLimits: { unreadTimeoutMs: 5000 } });
    const socket = connectSocket(port, "127.0.0.1");
    cleanups.push(() => socket.destroy());
    const body = Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from("{}")]);
    const head = "host: localhost\r\ncontent-type: application/connect+json\r\n";
    socket.write(`POST /cambium.v1.Log/ConsumeStream HTTP/1.1\r\n${head}content-length: ${body.length}\r\n\r\n`);
    socket.write(body);
    await new Promise((resolve) => socket.once("data", resolve));
    socket.pause();
    clock.advance(10_000);
    await records.produce(Array.from({ length: 40 }, () => Buffer.alloc(1024 * 1024)));
    const open = async (): Promise<string | undefined> => {
      clock.advance(1000);
      const { text } = await send(port, "/metrics", { method: "GET" });
      return /^cambium_rpc_open_streams\{.*ConsumeStream"\} (\d+)$/m.exec(text)?.[1];
    };
    expect(await open()).toBe("1");
    await expect.poll(open, { timeout: 30_000 }).toBe("0");
  });
});

test("calls that are broken off as they are begun, for whatever reason, disturb no other on their connection", async () => {
  const { port } = await start();
  const ids = Array.from({ length: 20 }, (_, n) => 2 * n + 1);
  const calls = ids.flatMap((id) => [
    http2Frame(1, 5, id, headersBlock()),
    http2Frame(3, 0, id, Buffer.from([0, 0, 0, id % 14])),
  ]);
  const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
  const settings = http2Frame(4, 0, 0, Buffer.alloc(0));
  const last = [http2Frame(1, 4, 99, headersBlock()), http2Frame(0, 1, 99, Buffer.from('{"key":"k"}'))];
  const received = await sendRaw(port, Buffer.concat([preface, settings, ...calls, ...last]), (text) =>
    text.includes('"position"'),
  );
  expect(received).toContain('"position"');
});

test("a length that is promised takes no memory before there is something of that length", async () => {
  const { url } = await start();
  const session = connectHttp2(url);
  cleanups.push(() => session.destroy());
  const call = (headers: Record<string, string>): ClientHttp2Stream =>
    session
      .request({
        ":method": "POST",
        ":path": "/cambium.v1.KVStore/Get",
        "content-type": "application/json",
        ...headers,
      })
      .on("error", () => undefined);
  await new Promise((resolve) => call({}).resume().once("close", resolve).end('{"key":"k"}'));
  const before = process.memoryUsage().arrayBuffers;
  for (let n = 0; n < 100; n++) call({ "content-length": String(4 * 1024 * 1024) }).write("{");
  // What came before it on the connection has been begun once it is answered.
  await new Promise((resolve) => call({}).resume().once("close", resolve).end('{"key":"k"}'));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 * 1024 * 1024);
});

describe("a limit", () => {
  test("of calls refuses those beyond it, with when to come again; health and other nodes are served", async () => {
    const { port, url } = await start({ serverLimits: { callsMax: 2 } });
    const transport = createGrpcTransport({ baseUrl: url });
    const leaving = new AbortController();
    const waiting = [1, 2].map(() =>
      createClient(Log, transport).consumeStream({}, { signal: leaving.signal })[Symbol.asyncIterator](),
    );
    await Promise.all(waiting.map((stream) => stream.next()));
    const refused = await callJson(port, "cambium.v1.KVStore/Get", { key: "k" });
    expect(refused).toMatchObject({
      status: 429,
      headers: { "retry-after": "1" },
      json: {
        code: "resource_exhausted",
        message: expect.stringContaining("limits.max_calls"),
        details: [{ type: "google.rpc.RetryInfo" }],
      },
    });
    const error = ConnectError.from(
      await createClient(KVStore, transport)
        .get({ key: "k" })
        .catch((reason: unknown) => reason),
    );
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(await callJson(port, "grpc.health.v1.Health/Check", {})).toMatchObject({ status: 200 });
    const survey = await callJson(port, "cambium.v1.Replication/Survey", {});
    expect(survey.status).not.toBe(429);
    const metrics = await send(port, "/metrics", { method: "GET" });
    expect(metrics.text).toContain('cambium_rpc_errors_total{reason="overloaded"} 2\n');
    leaving.abort();
    await expect.poll(async () => (await callJson(port, "cambium.v1.KVStore/Get", { key: "k" })).status).toBe(200);
  });

  test("of connections of one address cuts off those beyond it, and counts those that are gone no more", async () => {
    const warnings: string[] = [];
    const target = await start({
      serverLimits: { connectionsPerAddressMax: 3 },
      logger: {
        debug: () => undefined,
        info: () => undefined,
        warn: (message, fields) => void warnings.push(`${message} ${JSON.stringify(fields)}`),
        error: (message) => expect.fail(message),
      },
    });
    const open = [1, 2, 3].map(() => connectHttp2(target.url));
    await Promise.all(open.map((session) => new Promise((resolve) => session.once("remoteSettings", resolve))));
    await expect(normalCall(target)).rejects.toThrow(/answered with nothing|ECONNRESET|EPIPE|closed/);
    expect(warnings).toEqual([expect.stringContaining('"connections_per_address_max":3')]);
    for (const session of open) session.destroy();
    await expect
      .poll(() =>
        normalCall(target).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
  });

  test("of calls on one connection is announced, and holds", async () => {
    const { url } = await start({ serverLimits: { streamsMax: 7 } });
    const session = connectHttp2(url);
    cleanups.push(() => session.destroy());
    const settings = await new Promise((resolve) => session.once("remoteSettings", resolve));
    expect(settings).toMatchObject({ maxConcurrentStreams: 7 });
  });

  test("of idleness ends a connection of HTTP/2 with nothing on it, and none with a call", async () => {
    const { url } = await start({ serverLimits: { idleTimeoutMs: 1000 } });
    const [idle, busy] = [connectHttp2(url), connectHttp2(url)];
    cleanups.push(() => busy.destroy());
    const stream = busy.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Watch",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.resume().end(Buffer.alloc(5));
    const isClosed = new Promise((resolve) => idle.once("close", resolve));
    await isClosed;
    expect(busy.closed).toBe(false);
  });
});
