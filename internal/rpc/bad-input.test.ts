/** What anybody can send: each piece gets the right answer, and the server goes on as if nothing had been. */
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { connect as connectSocket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, type ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GetRequestSchema, KVStore, SetRequestSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { LimitExceededSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { callJson, frame, send, sendHttp2, sendRaw, startTestServer, type TestServer } from "./testing/test-server.js";

const GET = "/cambium.v1.KVStore/Get";
const SET = "/cambium.v1.KVStore/Set";
const GRPC = { "content-type": "application/grpc", te: "trailers" };
/** More than the largest message, far less than what a bomb or a length prefix asks for. */
const RSS_GROWTH_MAX = 64 * 1024 * 1024;

let running: TestServer;

beforeAll(async () => {
  running = await startTestServer();
});

afterAll(() => running.server.close());

afterEach(() => expectUnharmed());

/** After whatever was sent the server answers as before, and has found no mistake in itself. */
async function expectUnharmed(): Promise<void> {
  const { status, json } = await callJson(running.port, "cambium.v1.KVStore/Get", { key: "still-there" });
  expect({ status, json }).toMatchObject({ status: 200, json: { position: {} } });
  expect(running.bugs).toEqual([]);
  expect(running.errors).toEqual([]);
}

function expectSameMemory(rssBefore: number): void {
  expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(RSS_GROWTH_MAX);
}

const grpcStatus = ({ headers, trailers }: Awaited<ReturnType<typeof sendHttp2>>): [number, string] => {
  const from = trailers["grpc-status"] === undefined ? headers : trailers;
  return [Number(from["grpc-status"]), decodeURIComponent(String(from["grpc-message"] ?? ""))];
};

describe("fields", () => {
  const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
  const client = () => createClient(KVStore, createConnectTransport({ baseUrl: running.url, httpVersion: "1.1" }));
  const first = async (stream: AsyncIterable<unknown>): Promise<unknown> => {
    for await (const message of stream) return message;
    return undefined;
  };
  const set = (key: string, value = new Uint8Array(0), ttlMs = 0n) => client().set({ key, value, ttlMs });

  test.each([
    ["an empty key", () => client().get({ key: "" }), "key is empty; a key has 1 to 4096 bytes"],
    [
      "a key of 4097 bytes",
      () => set("k".repeat(4097)),
      "key has at least 4097 bytes, a key may have 4096 (limits.max_key_bytes)",
    ],
    ["a key that is too long only as UTF-8", () => set("ä".repeat(2049)), "key has 4098 bytes"],
    ["a value above its limit", () => set("k", new Uint8Array(1024 * 1024 + 1)), "value has 1048577 bytes"],
    ["a TTL above 100 years", () => set("k", undefined, 3_155_760_000_001n), "ttl_ms is 3155760000001"],
    [
      "a TTL beyond safe integers",
      () => set("k", undefined, 2n ** 64n - 1n),
      "ttl_ms must be from 0 to 9007199254740991",
    ],
    ["a batch of nothing", () => client().batchGet({ keys: [] }), "keys has 0 entries; 1 to 1024 are possible"],
    ["a batch of too many", () => client().batchGet({ keys: Array(1025).fill("k") }), "keys has 1025 entries"],
    ["an empty key inside a batch", () => client().batchGet({ keys: ["a", ""] }), "keys[1] is empty"],
    ["a write of nothing", () => client().write({}), "operations has 0 entries"],
    [
      "a write of too many",
      () => client().write({ operations: Array.from({ length: 1025 }, () => ({})) }),
      "operations has 1025 entries",
    ],
    ["an operation without content", () => client().write({ operations: [{}] }), "operations[0] is empty"],
    [
      "an empty key inside a write",
      () => client().write({ operations: [{ operation: { case: "set", value: { key: "" } } }] }),
      "operations[0].set.key is empty",
    ],
    [
      "the token of a scan upwards for one downwards",
      () => client().scan({ pageToken: new Uint8Array([1, 97]), reverse: true }),
      "page_token belongs to another prefix, range or direction",
    ],
    [
      "the token of a scan downwards for one upwards",
      () => client().scan({ pageToken: new Uint8Array([2, 97]) }),
      "page_token belongs to another prefix, range or direction",
    ],
    ["a token of nobody's", () => client().scan({ pageToken: new Uint8Array([3, 97]) }), "page_token is none"],
    [
      "a count as a stream",
      () => first(client().scanStream({ scan: { countOnly: true } })),
      "scan.count_only is given",
    ],
    [
      "a stream of pages of a key that is too long",
      () => first(client().scanStream({ scan: { prefix: "k".repeat(4097) } })),
      "prefix has at least 4097 bytes",
    ],
    [
      "updates of a key and a prefix",
      () => client().getUpdates({ key: "k", prefix: "p" }),
      "key is given together with prefix, start or end",
    ],
    ["a watch of a key and an end", () => first(client().watch({ key: "k", end: "e" })), "key is given together with"],
    [
      "a watch after two places",
      () => first(client().watch({ after: 1n, afterToken: utf8("token") })),
      "after and after_token are both given",
    ],
    ["a watch after no seq", () => first(client().watch({ after: 2n ** 53n })), "after must be from 0"],
    [
      "watches with one id",
      () =>
        first(
          client().watchMany({
            watches: [
              { watchId: 5n, watch: {} },
              { watchId: 5n, watch: {} },
            ],
          }),
        ),
      "watches[1].watch_id is 5, as that of a watch before it",
    ],
    [
      "too many watches",
      () => first(client().watchMany({ watches: Array.from({ length: 129 }, (_, i) => ({ watchId: BigInt(i) })) })),
      "the number of watches is 129; at most 128",
    ],
    [
      "a named watch of nothing",
      () => first(client().watchMany({ watches: [{ watchId: 5n }] })),
      "watches[0].watch is missing",
    ],
    [
      "a named watch of what cannot be",
      () => first(client().watchMany({ watches: [{ watchId: 5n, watch: { prefix: "p", start: "s" } }] })),
      "watches[0].watch.prefix is given together with start",
    ],
    ["a stream's id that is none", () => client().addWatch({ streamId: utf8("short") }), "stream_id has 5 bytes"],
    ["a stream's id that is empty", () => client().removeWatch({}), "stream_id has 0 bytes"],
    ["a limit above its own", () => client().getUpdates({ limit: 10_001 }), "limit is 10001; at most 10000"],
    ["a scan of a prefix and a range", () => client().scan({ prefix: "a", end: "b" }), "prefix is given together with"],
    ["a prefix that is too long", () => client().scan({ prefix: "k".repeat(4097) }), "prefix has at least 4097 bytes"],
    ["a start that is too long", () => client().scan({ start: "ä".repeat(2049) }), "start has 4098 bytes"],
    ["an end that is too long", () => client().scan({ end: "k".repeat(4097) }), "end has at least 4097 bytes"],
    ["an end before the start", () => client().scan({ start: "b", end: "a" }), "end lies before start"],
    ["a page of too many", () => client().scan({ limit: 10_001 }), "limit is 10001; at most 10000"],
    ["an empty page token", () => client().scan({ pageToken: new Uint8Array([1]) }), "none that a node gave"],
    ["a page token of no form", () => client().scan({ pageToken: utf8("k") }), "none that a node gave"],
    [
      "the page token of a range before",
      () => client().scan({ start: "m", pageToken: utf8("\u0001b") }),
      "another prefix",
    ],
    [
      "the page token of a range after",
      () => client().scan({ prefix: "a", pageToken: utf8("\u0001b") }),
      "another prefix",
    ],
    ["a wait of more than a minute", () => client().getUpdates({ waitMs: 60_001 }), "wait_ms is 60001"],
    ["a place beyond safe integers", () => client().getUpdates({ after: 2n ** 63n }), "after must be from 0"],
  ])("%s is an invalid argument, and the message names it", async (_what, call, message) => {
    const error = await call().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code: Code.InvalidArgument, rawMessage: expect.stringContaining(message) });
  });

  test("a passed limit is told as a detail too", async () => {
    const error = await set("k".repeat(5000)).catch((reason: unknown) => reason);
    expect((error as ConnectError).findDetails(LimitExceededSchema)).toMatchObject([
      { limit: "limits.max_key_bytes", maximum: 4096n, actual: 5000n },
    ]);
  });

  test("an answer that would pass the limit of a message is refused before it is made", async () => {
    await set("large", new Uint8Array(1024 * 1024));
    const error = await client()
      .batchGet({ keys: Array(1024).fill("large") })
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: Code.ResourceExhausted,
      rawMessage: expect.stringContaining("ask for fewer keys"),
    });
    expect((error as ConnectError).findDetails(LimitExceededSchema)).toMatchObject([
      { limit: "limits.max_message_bytes" },
    ]);
    expect((await client().batchGet({ keys: Array(3).fill("large") })).entries).toHaveLength(3);
  });

  test("a page of updates whose one record is larger than a message by itself is still given", async () => {
    const value = Buffer.alloc(1024 * 1024 - 100);
    const before = running.store.position.seq;
    const sets = [1, 2, 3, 4].map((n) => ({ operation: { case: "set" as const, value: { key: `${n}`, value } } }));
    await client().write({ operations: sets });
    const page = await callJson(running.port, "cambium.v1.KVStore/GetUpdates", { after: String(before), limit: 4 });
    expect(page.status).toBe(200);
    expect(page.json.events).toHaveLength(4);
  });
});

describe("text that is none", () => {
  test("half a surrogate pair in JSON is refused", async () => {
    const answer = await send(running.port, GET, {
      headers: { "content-type": "application/json" },
      body: '{"key":"a\\ud800"}',
    });
    expect(answer).toMatchObject({ status: 400, text: expect.stringContaining("GetRequest.key") });
  });

  test.each([
    ["application/json", Buffer.concat([Buffer.from('{"key":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')])],
    ["application/proto", Buffer.from([0x0a, 0x02, 0xc3, 0x28])],
  ])("invalid UTF-8 in %s is refused", async (type, body) => {
    const answer = await send(running.port, GET, { headers: { "content-type": type }, body });
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({ code: "invalid_argument" });
  });

  test("invalid UTF-8 over gRPC is refused", async () => {
    const answer = await sendHttp2(
      running.port,
      { ...GRPC, ":path": GET },
      frame(Buffer.from([0x0a, 0x02, 0xc3, 0x28])),
    );
    expect(grpcStatus(answer)).toEqual([Code.InvalidArgument, expect.stringContaining("not valid UTF-8")]);
  });

  test.each([
    "message=%7B%22key%22%3A%22%FF%22%7D&encoding=json",
    "message=%&encoding=json",
    "message=***&base64=1&encoding=proto",
  ])("a query that does not decode is refused: %s", async (query) => {
    const answer = await send(running.port, `${GET}?connect=v1&${query}`, { method: "GET" });
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({ code: "invalid_argument" });
  });
});

describe("messages that are none", () => {
  const broken = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x41]);

  test("over Connect", async () => {
    const answer = await send(running.port, GET, { headers: { "content-type": "application/proto" }, body: broken });
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({
      code: "invalid_argument",
      message: expect.stringMatching(/^the message does not parse: .*encode it by the \.proto files/),
    });
  });

  test("over gRPC", async () => {
    const answer = await sendHttp2(running.port, { ...GRPC, ":path": GET }, frame(broken));
    expect(grpcStatus(answer)).toEqual([Code.InvalidArgument, expect.stringContaining("does not parse")]);
  });

  test("over gRPC-web", async () => {
    const answer = await send(running.port, GET, {
      headers: { "content-type": "application/grpc-web+proto" },
      body: frame(broken),
    });
    expect(answer.text).toContain("grpc-status: 3");
    expect(decodeURIComponent(answer.text)).toContain("does not parse");
  });

  test("as a stream of Connect", async () => {
    const answer = await send(running.port, "/grpc.health.v1.Health/Watch", {
      headers: { "content-type": "application/connect+proto" },
      body: frame(broken),
    });
    expect(answer.text).toContain('"code":"invalid_argument"');
  });

  test.each([
    ["Set", { key: "k", value: "dg==", ifMissing: true }, "ifMissing"],
    ["Write", { operations: [{ set: { key: "k", ttl: "5" } }] }, "ttl"],
  ])(
    "JSON for %s with a field that there is not is refused, and the message names it",
    async (method, message, field) => {
      const { status, json } = await callJson(running.port, `cambium.v1.KVStore/${method}`, message);
      expect({ status, json }).toMatchObject({
        status: 400,
        json: { code: "invalid_argument", message: expect.stringContaining(`key "${field}" is unknown`) },
      });
    },
  );

  test("a query with a field that there is not is refused, and the message names it", async () => {
    const message = encodeURIComponent('{"key":"k","fresh":true}');
    const answer = await send(running.port, `${GET}?connect=v1&encoding=json&message=${message}`, { method: "GET" });
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining('key "fresh" is unknown'),
    });
  });

  test("JSON that is cut, and JSON of another shape", async () => {
    for (const body of ['{"key":', '{"key":7}', "[]", "", '{"nobody":1}'.repeat(2)]) {
      const answer = await send(running.port, GET, { headers: { "content-type": "application/json" }, body });
      expect(answer).toMatchObject({ status: 400, text: expect.stringContaining("invalid_argument") });
    }
  });

  test("fields that nobody knows are passed over, so that newer clients can talk to older nodes", async () => {
    const bytes = Buffer.concat([
      toBinary(GetRequestSchema, create(GetRequestSchema, { key: "k" })),
      Buffer.from([0x78, 1]),
    ]);
    const answer = await send(running.port, GET, { headers: { "content-type": "application/proto" }, body: bytes });
    expect(answer.status).toBe(200);
  });
});

describe("sizes that nobody has", () => {
  let rssBefore = 0;

  beforeEach(() => {
    rssBefore = process.memoryUsage.rss();
  });

  afterEach(() => expectSameMemory(rssBefore));

  test.each([
    ["4 GiB", Buffer.from([0, 0xff, 0xff, 0xff, 0xff])],
    ["one byte more than a message", Buffer.from([0, 0, 0x40, 0, 1])],
  ])("a length prefix of %s is refused at once, with nothing of the message read", async (_what, prefix) => {
    const answer = await sendHttp2(running.port, { ...GRPC, ":path": SET }, prefix, { end: false });
    expect(grpcStatus(answer)).toEqual([Code.ResourceExhausted, expect.stringContaining("limits.max_message_bytes")]);
  });

  test("the same over gRPC-web and HTTP/1.1 reaches its caller before the request has ended", async () => {
    const head = `POST ${SET} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\ntransfer-encoding: chunked\r\n\r\n`;
    const received = await sendRaw(
      running.port,
      Buffer.concat([Buffer.from(`${head}5\r\n`), Buffer.from([0, 0xff, 0xff, 0xff, 0xff]), Buffer.from("\r\n")]),
      (text) => text.includes("grpc-message"),
    );
    expect(received).toContain("grpc-status: 8");
  });

  test("a content length of 4 GiB is refused before anything is read", async () => {
    const head = `POST ${SET} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/proto\r\ncontent-length: 4294967296\r\n\r\n`;
    const received = await sendRaw(running.port, head, (text) => text.includes("}"));
    expect(received).toMatch(/^HTTP\/1\.1 429 /);
    expect(received).toContain("the message has 4294967296 bytes, 4194304 are possible (limits.max_message_bytes)");
  });

  test("a body that grows past the limit without announcing its length is refused", async () => {
    const answer = await send(running.port, SET, {
      headers: { "content-type": "application/proto", "transfer-encoding": "chunked" },
      body: new Uint8Array(5 * 1024 * 1024),
    });
    expect(answer.status).toBe(429);
    expect(JSON.parse(answer.text)).toMatchObject({ code: "resource_exhausted" });
  });

  test("a content length that is not kept is refused", async () => {
    const head = `POST ${SET} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/proto\r\ncontent-length: 100\r\n\r\nshort`;
    const socket = connectSocket({ port: running.port, host: "127.0.0.1", allowHalfOpen: true });
    socket.end(head);
    const received = await new Promise<string>((resolve) => {
      let text = "";
      socket.on("data", (chunk) => (text += chunk.toString()));
      socket.on("close", () => resolve(text));
      socket.on("error", () => undefined);
    });
    expect(received).toMatch(/^(HTTP\/1\.1 400 |$)/);
  });

  // A file of gzip may have many members: 1024 of a mebibyte of zeros each are a gibibyte, in little more than a megabyte.
  const mebibyte = gzipSync(Buffer.alloc(1024 * 1024), { level: 9 });
  const gibibyte = Buffer.concat(Array<Buffer>(1024).fill(mebibyte));

  test("a bomb of gzip is given up at the limit of a message, over Connect", async () => {
    const answer = await send(running.port, SET, {
      headers: { "content-type": "application/proto", "content-encoding": "gzip" },
      body: gibibyte,
    });
    expect(answer.status).toBe(429);
    expect(JSON.parse(answer.text)).toMatchObject({
      code: "resource_exhausted",
      message: expect.stringContaining("once decompressed"),
    });
  });

  test("a bomb of gzip is given up over gRPC", async () => {
    const answer = await sendHttp2(
      running.port,
      { ...GRPC, ":path": SET, "grpc-encoding": "gzip" },
      frame(gibibyte, 1),
    );
    expect(grpcStatus(answer)).toEqual([Code.ResourceExhausted, expect.stringContaining("once decompressed")]);
  });

  test("a bomb of Brotli is given up", async () => {
    const answer = await send(running.port, SET, {
      headers: { "content-type": "application/proto", "content-encoding": "br" },
      body: brotliCompressSync(Buffer.alloc(16 * 1024 * 1024), { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
    });
    expect(answer.status).toBe(429);
  });

  test("what does not decompress is the caller's mistake", async () => {
    for (const body of [Buffer.from("no gzip"), mebibyte.subarray(0, 500)]) {
      const answer = await send(running.port, SET, {
        headers: { "content-type": "application/proto", "content-encoding": "gzip" },
        body,
      });
      expect(answer).toMatchObject({ status: 400, text: expect.stringContaining("does not decompress") });
    }
  });

  test("an encoding that nobody knows is refused with those that are", async () => {
    const answer = await send(running.port, SET, {
      headers: { "content-type": "application/proto", "content-encoding": "zstd" },
    });
    expect(answer.status).toBe(501);
    expect(answer.text).toContain("supported encodings are gzip,br");
  });

  test("a request that is compressed and fits is taken", async () => {
    const body = gzipSync(
      toBinary(SetRequestSchema, create(SetRequestSchema, { key: "z", value: new Uint8Array(1000) })),
    );
    const answer = await send(running.port, SET, {
      headers: { "content-type": "application/proto", "content-encoding": "gzip" },
      body,
    });
    expect(answer.status).toBe(200);
  });
});

describe("requests for nothing", () => {
  test("an unknown method is told over Connect which services there are", async () => {
    const { status, json } = await callJson(running.port, "cambium.v1.KVStore/Missing", {});
    expect(status).toBe(404);
    expect(json).toMatchObject({ code: "unimplemented", message: expect.stringContaining("cambium.v1.KVStore") });
  });

  test("an unknown method is told over gRPC", async () => {
    const answer = await sendHttp2(
      running.port,
      { ...GRPC, ":path": "/cambium.v1.KVStore/Missing" },
      frame(Buffer.alloc(0)),
    );
    expect(answer.headers[":status"]).toBe(200);
    expect(grpcStatus(answer)).toEqual([Code.Unimplemented, expect.stringContaining("there is no method")]);
  });

  test("a wrong content type is told the right ones", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/connect+json"]) {
      const answer = await send(running.port, GET, { headers: { "content-type": type }, body: "{}" });
      expect(answer).toMatchObject({ status: 415, text: expect.stringContaining("application/json") });
    }
  });

  test("a wrong HTTP method is told the right ones", async () => {
    for (const method of ["PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]) {
      const answer = await send(running.port, SET, { method });
      expect(answer).toMatchObject({ status: 405, headers: { allow: "POST" } });
    }
    expect(await send(running.port, "/readyz", {})).toMatchObject({ status: 405, headers: { allow: "GET, HEAD" } });
  });

  test("a stream both ways over HTTP/1.1 is told to use HTTP/2", async () => {
    const answer = await send(running.port, "/cambium.v1.Replication/Push", {
      headers: { "content-type": "application/connect+proto" },
    });
    expect(answer).toMatchObject({ status: 505, text: expect.stringContaining("needs HTTP/2") });
  });

  test("a deadline further away than timers reach is none, and does not pass at once", async () => {
    const { status } = await callJson(
      running.port,
      "cambium.v1.KVStore/Get",
      { key: "k" },
      { "connect-timeout-ms": "9999999999" },
    );
    expect(status).toBe(200);
    const bytes = toBinary(GetRequestSchema, create(GetRequestSchema, { key: "k" }));
    const answer = await sendHttp2(running.port, { ...GRPC, ":path": GET, "grpc-timeout": "99999999S" }, frame(bytes));
    expect(grpcStatus(answer)[0]).toBe(0);
  });

  test("a deadline that passes while the call waits is told as such", async () => {
    const { status, json } = await callJson(
      running.port,
      "cambium.v1.KVStore/GetUpdates",
      { after: String(running.store.position.seq), waitMs: 10_000 },
      { "connect-timeout-ms": "20" },
    );
    expect(status).toBe(504);
    expect(json).toMatchObject({ code: "deadline_exceeded" });
  });
});

describe("HTTP that is none", () => {
  test.each([
    [
      "a Host with a blank and a bracket",
      `POST ${GET} HTTP/1.1\r\nhost: a b[\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
    ],
    ["HTTP/1.0 without a Host", `POST ${GET} HTTP/1.0\r\ncontent-length: 0\r\n\r\n`],
    ["HTTP/1.1 without a Host", `POST ${GET} HTTP/1.1\r\ncontent-length: 0\r\n\r\n`],
    ["a Host with credentials", `GET ${GET} HTTP/1.1\r\nhost: a@b\r\nconnection: close\r\n\r\n`],
    ["a Host with a path", `GET ${GET} HTTP/1.1\r\nhost: localhost/x\r\nconnection: close\r\n\r\n`],
    ["an absolute target", `GET http://localhost${GET} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`],
    ["a target that is a star", "OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"],
    ["garbage", "\x00\x01\x02 this is nothing\r\n\r\n"],
    ["the beginning of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"],
    ["a preface of HTTP/2 with a mistake in it", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"],
  ])("%s is answered with 400", async (_what, bytes) => {
    const received = await sendRaw(running.port, Buffer.from(bytes, "latin1"));
    expect(received).toMatch(/^HTTP\/1\.1 400 /);
    expect(received.split("\r\n\r\n")[1]?.length).toBeGreaterThanOrEqual(0);
  });

  test("a head that is too large is answered with 431", async () => {
    const received = await sendRaw(
      running.port,
      `GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ${"x".repeat(20_000)}\r\n\r\n`,
    );
    expect(received).toMatch(/^HTTP\/1\.1 431 /);
    expect(received).toContain("send large keys with POST");
  });

  test("HTTP/1.0 with a Host is served, and probes need none", async () => {
    const body = '{"key":"k"}';
    const served = await sendRaw(
      running.port,
      `POST ${GET} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    expect(served).toMatch(/^HTTP\/1\.1 200 /);
    expect(await sendRaw(running.port, "GET /readyz HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 /);
  });

  test("garbage after a request does not become a part of the answer", async () => {
    const body = '{"service":""}';
    const frameOfBody = Buffer.concat([Buffer.from([0, 0, 0, 0, body.length]), Buffer.from(body)]);
    const head = `POST /grpc.health.v1.Health/Watch HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/connect+json\r\ncontent-length: ${frameOfBody.length}\r\n\r\n`;
    const socket = connectSocket(running.port, "127.0.0.1", () => {
      socket.write(Buffer.concat([Buffer.from(head), frameOfBody]));
    });
    let received = "";
    const closed = new Promise((resolve) => socket.on("close", resolve));
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      // The stream goes on; what follows on the connection makes no sense.
      if (received === "") socket.write("\x00\x01\x02\r\n\r\n");
      received += chunk.toString("latin1");
    });
    await closed;
    expect(received).toMatch(/^HTTP\/1\.1 200 /);
    expect(received).not.toContain("400 Bad Request");
  });

  test("a preface of HTTP/2 with garbage after it ends that connection only", async () => {
    const bytes = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.alloc(4096, 0xff)]);
    await expect(sendRaw(running.port, bytes)).resolves.toBeTypeOf("string");
  });

  test("a preface that comes byte by byte is understood", async () => {
    const preface = Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    ]);
    const socket = connectSocket({ port: running.port, host: "127.0.0.1", noDelay: true });
    const settings = new Promise<Buffer>((resolve) => socket.once("data", resolve));
    for (const byte of preface) await new Promise((resolve) => socket.write(Buffer.from([byte]), resolve));
    // A frame of the kind SETTINGS, which every server of HTTP/2 sends first.
    expect((await settings)[3]).toBe(4);
    socket.destroy();
  });

  test("an HTTP/2 request with a bad authority is answered with 400", async () => {
    const body = frame(toBinary(GetRequestSchema, create(GetRequestSchema, { key: "k" })));
    // One that the HTTP/2 library of every Node lets pass; newer ones close the stream on others, such as a@b, themselves.
    const answer = await sendHttp2(running.port, { ...GRPC, ":path": GET, ":authority": "[::1" }, body);
    expect(answer.headers[":status"]).toBe(400);
  });

  test("a caller that ends its half in the middle of a preface is let go", async () => {
    const socket = connectSocket({ port: running.port, host: "127.0.0.1", allowHalfOpen: true });
    const closed = new Promise((resolve) => socket.on("close", resolve));
    socket.resume().on("end", () => socket.destroy());
    socket.end("PRI * HTTP/2.0\r\n");
    await closed;
    expect(socket.destroyed).toBe(true);
  });

  test("a caller that ends its half of a connection of HTTP/2 is let go", async () => {
    const preface = Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    ]);
    const socket = connectSocket({ port: running.port, host: "127.0.0.1", allowHalfOpen: true });
    const ended = new Promise((resolve) => socket.resume().on("end", () => resolve("ended")));
    socket.end(preface);
    expect(await ended).toBe("ended");
    socket.destroy();
  });
});
