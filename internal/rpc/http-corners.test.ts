/** The corners of HTTP that programs written by others get into: each is answered, with a status and a sentence that helps. */
import { connect as connectHttp2 } from "node:http2";
import { connect as connectSocket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { GetRequestSchema, KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { LimitExceededSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { FakeClock } from "../base/clock.js";
import { callJson, frame, send, sendHttp2, sendRaw, startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(async () => {
    await running.server.close();
    expect(running.bugs).toEqual([]);
    expect(running.errors).toEqual([]);
  });
  return running;
}

const GET = "/cambium.v1.KVStore/Get";
const SET = "/cambium.v1.KVStore/Set";
const JSON_TYPE = { "content-type": "application/json" };
const KEY_JSON = '{"key":"k"}';
const KEY_FRAME = frame(toBinary(GetRequestSchema, create(GetRequestSchema, { key: "k" })));
const GRPC = { "content-type": "application/grpc", te: "trailers" };

/** A request as text, whose connection ends after the answer. */
const request = (line: string, head: readonly string[], body = ""): string =>
  [`${line} HTTP/1.1`, ...head, `content-length: ${body.length}`, "connection: close", "", body].join("\r\n");

describe("the name by which a caller on this machine addresses the node", () => {
  test.each(["localhost", "LOCALHOST:1", "localhost.", "127.0.0.1", "127.0.0.1:65535", "[::1]", "node-1.example:8080"])(
    "may be %s",
    async (host) => {
      const { port } = await start();
      expect(await callJson(port, "cambium.v1.KVStore/Get", { key: "k" }, { host })).toMatchObject({ status: 200 });
      const answer = await sendHttp2(port, { ...GRPC, ":path": GET, ":authority": host }, KEY_FRAME);
      expect(answer).toMatchObject({ headers: { ":status": 200 }, trailers: { "grpc-status": "0" } });
    },
  );

  // The last three are 127.0.0.1 to some programs: whoever lets a page be called so wants to get around this check.
  test.each(["evil.example", "localhost.evil.example", "localhost:80.evil.example", "0x7f.1", "2130706433", "127.1"])(
    "may not be %s, over any version of HTTP",
    async (host) => {
      const { port } = await start();
      const { status, text } = await send(port, GET, { headers: { ...JSON_TYPE, host }, body: KEY_JSON });
      expect([400, 403]).toContain(status);
      expect(text).toMatch(/does not answer to the name|needs a Host header/);
      const answer = await sendHttp2(port, { ...GRPC, ":path": GET, ":authority": host }, KEY_FRAME);
      // To a client of gRPC an error is no status of HTTP.
      const { ":status": httpStatus, "grpc-status": grpcStatus } = answer.headers;
      expect(Number(httpStatus) === 400 || grpcStatus === String(Code.PermissionDenied)).toBe(true);
    },
  );

  test("stands in one Host header: two of them are read in two ways by two programs", async () => {
    const { port } = await start();
    for (const second of ["localhost", "evil.example"]) {
      const bytes = request(`POST ${GET}`, ["host: localhost", `Host: ${second}`, "content-type: application/json"]);
      const received = await sendRaw(port, bytes);
      expect(received).toMatch(/^HTTP\/1\.1 400 .*connection: close.*has one Host header/is);
    }
  });

  test("is looked for behind thousands of headers too", async () => {
    const { port } = await start();
    const many = Array.from({ length: 2500 }, () => "a:");
    const type = "content-type: application/json";
    const served = await sendRaw(port, request(`POST ${GET}`, ["host: localhost", ...many, type], KEY_JSON));
    expect(served).toMatch(/^HTTP\/1\.1 200 /);
    const hidden = ["host: localhost", ...many, type, "host: evil.example"];
    expect(await sendRaw(port, request(`POST ${GET}`, hidden, KEY_JSON))).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe("a GET", () => {
  const message = encodeURIComponent(KEY_JSON);

  test.each([
    ["", "the query has no encoding"],
    ["connect=v1", "the query has no encoding"],
    [`message=${message}`, "the query has no encoding"],
    [`encoding=&message=${message}`, 'the encoding "" of the query is not known; it is json or proto'],
    [`encoding=JSON&message=${message}`, 'the encoding "JSON" of the query is not known'],
    ["encoding=json", "cannot decode message cambium.v1.GetRequest from JSON"],
    ["encoding=json&message=%7B%7D", "key is empty"],
    [`encoding=json&base64=2&message=x`, "cannot decode message cambium.v1.GetRequest from JSON"],
    ["encoding=proto&message=%0A%05k", "the message does not parse"],
  ])("with the query %j is told what it lacks", async (query, text) => {
    const { port } = await start();
    const { status, text: body } = await send(port, `${GET}?${query}`, { method: "GET" });
    expect(status).toBe(400);
    expect(JSON.parse(body)).toMatchObject({ code: "invalid_argument", message: expect.stringContaining(text) });
  });

  test("is answered in JSON, in binary, and compressed", async () => {
    const { port } = await start();
    for (const query of [`encoding=json&message=${message}`, "encoding=proto&base64=1&message=CgFr"]) {
      expect(await send(port, `${GET}?${query}`, { method: "GET" })).toMatchObject({ status: 200 });
    }
    const unknown = await send(port, `${GET}?encoding=json&compression=zstd&message=x`, { method: "GET" });
    expect(unknown).toMatchObject({ status: 501, text: expect.stringContaining("supported encodings are gzip,br") });
  });
});

describe("a content type", () => {
  test.each(["application/json", "APPLICATION/JSON", "application/json; charset=utf-8"])("may be %s", async (type) => {
    const { port } = await start();
    expect(await send(port, GET, { headers: { "content-type": type }, body: KEY_JSON })).toMatchObject({ status: 200 });
  });

  test.each([
    undefined,
    "text/plain",
    "application/json; charset=latin1",
    "application/json, text/plain",
    "application/jsonx",
    "application/grpc-web-text",
    "multipart/form-data; boundary=x",
    "x".repeat(8000),
  ])("may not be %j: the answer names those that may", async (type) => {
    const { port } = await start();
    const answer = await send(port, GET, {
      headers: type === undefined ? {} : { "content-type": type },
      body: KEY_JSON,
    });
    expect(answer).toMatchObject({
      status: 415,
      headers: { "accept-post": expect.stringContaining("application/grpc") },
    });
    expect(JSON.parse(answer.text)).toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining("gRPC-web"),
    });
  });
});

describe("JSON", () => {
  test.each([
    ["with a field twice", '{"key":"a","key":"b"}', "duplicate object key"],
    ["with something after it", '{"key":"k"} x', "cannot decode message"],
    ["with brackets 100,000 deep", `{"key":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, "GetRequest.key"],
    ["with a number below its range", '{"key":"k","consistency":{"maxStalenessMs":-1}}', "out of range"],
    [
      "with a number above its range",
      '{"key":"k","consistency":{"atLeastSeq":"18446744073709551616"}}',
      "out of range",
    ],
    ["with a number of JSON that is none", '{"key":"k","consistency":{"maxStalenessMs":1e400}}', "out of range"],
    ["with a part of a number", '{"key":"k","consistency":{"maxStalenessMs":1.5}}', "out of range"],
    ["with bytes that are no base64", '{"key":"k","consistency":{"atLeast":"***"}}', "invalid base64"],
    ["with a word for a boolean", '{"key":"k","consistency":{"linearizable":"yes"}}', "expected boolean"],
    ["with the name of a prototype", '{"__proto__":{"key":"k"}}', 'key "__proto__" is unknown'],
    ["that is null", "null", "cannot decode message"],
  ])("%s is refused with the place", async (_what, body, text) => {
    const { port } = await start();
    const { status, text: answer } = await send(port, GET, { headers: JSON_TYPE, body });
    expect(status).toBe(400);
    expect(JSON.parse(answer)).toMatchObject({ code: "invalid_argument", message: expect.stringContaining(text) });
  });
});

describe("a deadline", () => {
  test.each(["abc", "-1", "1.5", "1e3", "", "5, 6", "NaN", "00000000005"])(
    "of %j milliseconds is refused over Connect",
    async (value) => {
      const { port, store } = await start();
      const headers = { "connect-timeout-ms": value };
      const { status, json } = await callJson(port, "cambium.v1.KVStore/Set", { key: "k" }, headers);
      expect({ status, json }).toMatchObject({ status: 400, json: { code: "invalid_argument" } });
      expect(json.message).toContain("timeout");
      expect(store.writeOptions).toEqual([]);
    },
  );

  test.each(["", "5", "-5S", "999999999S", "1X", "1e3S", "1S,2S"])("of %j is refused over gRPC", async (value) => {
    const { port } = await start();
    const answer = await sendHttp2(port, { ...GRPC, ":path": GET, "grpc-timeout": value }, KEY_FRAME);
    expect(answer.trailers).toMatchObject({ "grpc-status": String(Code.InvalidArgument) });
    expect(answer.trailers["grpc-message"]).toContain("timeout");
  });

  test("that is over when the call arrives lets nothing be written, while a read that needs no time is answered", async () => {
    const { port, store } = await start();
    const over = { "connect-timeout-ms": "0" };
    const write = await callJson(port, "cambium.v1.KVStore/Set", { key: "k" }, over);
    expect(write).toMatchObject({ status: 504, json: { code: "deadline_exceeded" } });
    expect(store.writeOptions).toEqual([]);
    expect(await callJson(port, "cambium.v1.KVStore/Get", { key: "k" }, over)).toMatchObject({ status: 200 });
    const answer = await sendHttp2(port, { ...GRPC, ":path": SET, "grpc-timeout": "0n" }, KEY_FRAME);
    expect(answer.trailers).toMatchObject({ "grpc-status": String(Code.DeadlineExceeded) });
    expect(store.writeOptions).toEqual([]);
  });
});

describe("what is no call", () => {
  test("an expectation that nobody knows is refused in words, and its body not waited for", async () => {
    const { port } = await start();
    const head = ["host: localhost", "expect: 200-maybe", "content-length: 1000"];
    const received = await sendRaw(port, [`POST ${GET} HTTP/1.1`, ...head, "", ""].join("\r\n"));
    expect(received).toMatch(/^HTTP\/1\.1 417 .*connection: close.*"200-maybe"; 100-continue is all/is);
  });

  test("a body that waits for 100-continue is asked for, and taken", async () => {
    const { port } = await start();
    const head = ["host: localhost", "content-type: application/json", "expect: 100-continue"];
    const received = await sendRaw(port, request(`POST ${GET}`, head, KEY_JSON));
    expect(received).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /);
  });

  test("a tunnel to somewhere else is refused in words", async () => {
    const { port } = await start();
    const received = await sendRaw(port, "CONNECT evil.example:80 HTTP/1.1\r\nhost: localhost\r\n\r\nmore");
    expect(received).toMatch(/^HTTP\/1\.1 405 .*this node is no proxy/is);
  });

  test.each([
    ["a WebSocket", ["connection: upgrade", "upgrade: websocket"]],
    ["HTTP/2", ["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"]],
  ])("an upgrade to %s is passed over, as HTTP allows, and the call answered", async (_what, head) => {
    const { port } = await start();
    const type = "content-type: application/json";
    const bytes = [`POST ${GET} HTTP/1.1`, "host: localhost", type, ...head, `content-length: 11`, "", KEY_JSON];
    const received = await sendRaw(port, bytes.join("\r\n"), (text) => text.endsWith("}"));
    expect(received).toMatch(/^HTTP\/1\.1 200 /);
  });

  test.each([
    ["two lengths", "content-length: 11\r\ncontent-length: 5"],
    ["a length and chunks", "content-length: 11\r\ntransfer-encoding: chunked"],
    ["a length below nothing", "content-length: -11"],
    ["a header over two lines", "content-length: 11\r\nx: a\r\n b"],
    ["a header with a zero in it", "content-length: 11\r\nx: a\0b"],
  ])("a request with %s, which two programs read in two ways, ends the connection", async (_what, head) => {
    const { port } = await start();
    const bytes = `POST ${GET} HTTP/1.1\r\nhost: localhost\r\n${head}\r\n\r\n${KEY_JSON}GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n`;
    const received = await sendRaw(port, Buffer.from(bytes, "latin1"));
    expect(received).toMatch(/^HTTP\/1\.1 400 .*connection: close/is);
    // What follows on the connection is not taken for a request.
    expect(received.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
  });
});

describe.each([
  [
    "Connect over HTTP/1.1",
    (url: string, compressed: boolean): Transport =>
      createConnectTransport({ ...options(url, compressed), httpVersion: "1.1" }),
  ],
  [
    "Connect over HTTP/2",
    (url: string, compressed: boolean): Transport =>
      createConnectTransport({ ...options(url, compressed), httpVersion: "2", sessionManager: manager(url) }),
  ],
  [
    "gRPC",
    (url: string, compressed: boolean): Transport =>
      createGrpcTransport({ ...options(url, compressed), sessionManager: manager(url) }),
  ],
  [
    "gRPC-web",
    (url: string, compressed: boolean): Transport =>
      createGrpcWebTransport({ ...options(url, compressed), httpVersion: "1.1" }),
  ],
])("a message that is too large, over %s", (_name, transportOf) => {
  const value = new Uint8Array(5 * 1024 * 1024);
  const failureOf = (call: Promise<unknown>): Promise<ConnectError> =>
    call.then(
      () => expect.fail("it was taken"),
      (error: unknown) => ConnectError.from(error),
    );
  const limitOf = (error: ConnectError): unknown => error.findDetails(LimitExceededSchema)[0];

  test("is refused with the limit, its value and what to do", async () => {
    const { url, store } = await start();
    const error = await failureOf(createClient(KVStore, transportOf(url, false)).set({ key: "k", value }));
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.rawMessage).toMatch(
      /^the message has (more than )?\d+ bytes, 4194304 are possible \(limits\.max_message_bytes\); send less at once$/,
    );
    expect(limitOf(error)).toMatchObject({ limit: "limits.max_message_bytes", maximum: 4_194_304n });
    expect(store.writeOptions).toEqual([]);
  });

  test("is refused so too when only what it decompresses to is", async () => {
    const { url, store } = await start();
    const error = await failureOf(createClient(KVStore, transportOf(url, true)).set({ key: "k", value }));
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.rawMessage).toMatch(
      /^the message is larger than 4194304 bytes once decompressed \(limits\.max_message_bytes\); send less/,
    );
    expect(limitOf(error)).toMatchObject({
      limit: "limits.max_message_bytes",
      maximum: 4_194_304n,
      actual: 4_194_305n,
    });
    expect(store.writeOptions).toEqual([]);
  });
});

test.each([
  [
    "Connect",
    (url: string): Transport =>
      createConnectTransport({ ...options(url, false), httpVersion: "2", sessionManager: manager(url) }),
  ],
  ["gRPC", (url: string): Transport => createGrpcTransport({ ...options(url, false), sessionManager: manager(url) })],
])(
  "a message of a stream that is too large ends it with the limit, and keeps what came before, over %s",
  async (_name, transportOf) => {
    const { url } = await start();
    const client = createClient(Log, transportOf(url));
    async function* records() {
      yield { record: new Uint8Array(1) };
      yield { record: new Uint8Array(5 * 1024 * 1024) };
    }
    const offsets: bigint[] = [];
    const reading = (async () => {
      for await (const { offset } of client.produceStream(records())) offsets.push(offset);
    })();
    const error = ConnectError.from(await reading.catch((reason: unknown) => reason));
    expect(error).toMatchObject({
      code: Code.ResourceExhausted,
      rawMessage: expect.stringContaining("limits.max_message_bytes"),
    });
    expect(error.findDetails(LimitExceededSchema)).toHaveLength(1);
    expect(offsets).toHaveLength(1);
  },
);

describe("a request that goes on after its answer", () => {
  const tooLarge = frame(new Uint8Array(5 * 1024 * 1024));

  test("does not use up the connection: many that are too large, one after the other, all get theirs", async () => {
    const { port } = await start();
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    cleanups.push(() => session.destroy());
    // Several times what the window of the connection holds.
    for (let n = 0; n < 40; n++) {
      const stream = session.request({ ...GRPC, ":method": "POST", ":path": SET });
      const trailers = new Promise((resolve) => stream.once("trailers", resolve));
      const closed = new Promise((resolve) => stream.once("close", resolve));
      stream.resume().end(tooLarge);
      expect(await trailers).toMatchObject({ "grpc-status": String(Code.ResourceExhausted) });
      await closed;
    }
  });

  test("is ended over HTTP/2 when its caller does not end it", async () => {
    const { port } = await start();
    const answer = await sendHttp2(port, { ...GRPC, ":path": SET }, tooLarge, { end: false });
    expect(answer.trailers).toMatchObject({ "grpc-status": String(Code.ResourceExhausted) });
  });

  test("does not hold up a node that drains", async () => {
    // No deadline passes on this clock.
    const { server, port } = await start({ clock: new FakeClock() });
    const head = ["host: localhost", "content-type: application/proto", "content-length: 4294967296"];
    const socket = connectSocket(port, "127.0.0.1", () => {
      socket.write([`POST ${SET} HTTP/1.1`, ...head, "", ""].join("\r\n"));
    });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    expect(String(await new Promise((resolve) => socket.once("data", resolve)))).toContain("429");
    await server.close();
    await closed;
  });
});

describe("draining over HTTP/2", () => {
  test("says GOAWAY at once, refuses what comes after it, and lets the call in flight end", async () => {
    const { server, store, port } = await start();
    let release = (): void => undefined;
    store.gate = new Promise((resolve) => (release = resolve));
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    session.on("error", () => undefined);
    const stream = session.request({ ...GRPC, ":method": "POST", ":path": SET });
    const trailers = new Promise((resolve) => stream.once("trailers", resolve));
    stream.resume().end(KEY_FRAME);
    await expect.poll(() => store.writing).toBe(1);
    const goaway = new Promise((resolve) => session.once("goaway", (code: number) => resolve(code)));
    const ended = new Promise((resolve) => session.once("close", resolve));
    const closing = server.close();
    expect(await goaway).toBe(0);
    expect(() => session.request({ ...GRPC, ":method": "POST", ":path": GET })).toThrow(/GOAWAY|New streams cannot/);
    release();
    expect(await trailers).toMatchObject({ "grpc-status": "0" });
    await closing;
    await ended;
  });
});

function options(baseUrl: string, compressed: boolean) {
  return { baseUrl, ...(compressed && { sendCompression: compressionGzip, compressMinBytes: 1 }) };
}

function manager(url: string): Http2SessionManager {
  const sessions = new Http2SessionManager(url);
  cleanups.push(() => sessions.abort());
  return sessions;
}
