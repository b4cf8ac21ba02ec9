/**
 * What a page in a browser can send without asking first (a "simple" request: GET, or POST with one of three content types, or
 * none), held against every method: none of it changes anything, whoever the browser says that sends it. So each call that
 * changes something needs a preflight, which pages of other origins do not get.
 */
import { request as httpRequest } from "node:http";
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { afterEach, describe, expect, test } from "vitest";
import { Cluster } from "../../api/gen/cambium/v1/cluster_pb.js";
import { methodName } from "./method-name.js";
import { methodTable } from "./method-table.js";
import { sendHttp2, startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(() => running.server.close());
  return running;
}

/** Types that browsers take for one of the three, and those by which a sloppy server might take them for its own. */
const simpleTypes: readonly (string | undefined)[] = [
  undefined,
  "text/plain",
  "text/plain;charset=UTF-8",
  "TEXT/PLAIN; application/json",
  "text/plain;charset=application/json",
  "text/plain, application/json",
  "application/x-www-form-urlencoded",
  "multipart/form-data; boundary=application/json",
  "multipart/form-data;boundary=application/grpc",
];

/** Beside those, what a page can send that its browser has asked for. */
const someTypes: readonly (string | undefined)[] = [
  undefined,
  "text/plain",
  "application/json",
  "application/connect+json",
  "application/grpc-web+proto",
];

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly type?: string | undefined;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** Over HTTP/1.1, with no header that was not asked for. */
function sendPlain(port: number, { method, path, type, headers = {}, body }: Sent): Promise<number> {
  return new Promise((resolve, reject) => {
    const all = { ...headers, ...(type !== undefined && { "content-type": type }) };
    const options = { host: "127.0.0.1", port, path, method, headers: all, agent: false };
    const request = httpRequest(options, (answer) => answer.resume().on("end", () => resolve(answer.statusCode ?? 0)));
    request.on("error", reject);
    request.end(body);
  });
}

async function sendMultiplexed(port: number, { method, path, type, headers, body }: Sent): Promise<number> {
  const head = { ":method": method, ":path": path, ...headers, ...(type !== undefined && { "content-type": type }) };
  const answer = await sendHttp2(port, head, Buffer.from(body ?? ""));
  return Number(answer.headers[":status"]);
}

const isRead = ({ idempotency }: DescMethod): boolean => idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
const all = [...methodTable.values()].map(({ method }) => method);
const changing = all.filter((method) => !isRead(method)).map(methodName);

/** What a test server was asked to do by anybody. */
const done = ({ store, records, replicator }: TestServer): unknown => ({
  entries: store.entries.size,
  writes: store.writes.length,
  records: records.records.length,
  asked: replicator.asked.length,
  pushes: replicator.pushes.length,
});

test("what has no side effects is declared so, and nothing else is: these may be asked by GET", () => {
  const names = all.filter(isRead).map(methodName);
  expect(names.toSorted()).toEqual([
    "cambium.v1.Cluster/SlowLog",
    "cambium.v1.Cluster/Status",
    "cambium.v1.KVStore/BatchGet",
    "cambium.v1.KVStore/Get",
    "cambium.v1.KVStore/GetUpdates",
    "cambium.v1.KVStore/Scan",
    "cambium.v1.KVStore/ScanStream",
    "cambium.v1.KVStore/Watch",
    "cambium.v1.KVStore/WatchMany",
    "cambium.v1.Log/Consume",
    "cambium.v1.Log/ConsumeStream",
    "cambium.v1.Log/GetRange",
  ]);
});

describe("a simple request of a page does not get to a method that changes something", () => {
  test.each(changing)("%s", async (name) => {
    const server = await start();
    const before = done(server);
    const path = `/${name}`;
    const query = `${path}?connect=v1&encoding=json&message=${encodeURIComponent('{"key":"k"}')}`;
    for (const sendBy of [sendPlain, sendMultiplexed]) {
      for (const type of simpleTypes) {
        const status = await sendBy(server.port, { method: "POST", path, type, body: '{"key":"k"}' });
        // A stream both ways is refused over HTTP/1.1 whatever its type.
        expect([415, 505], type).toContain(status);
      }
    }
    for (const method of ["GET", "HEAD"]) {
      expect([405, 505]).toContain(await sendPlain(server.port, { method, path: query }));
    }
    expect(done(server)).toEqual(before);
  });
});

describe("a page of another origin", () => {
  const origins: readonly Record<string, string>[] = [
    { origin: "https://evil.example" },
    // Of a sandboxed frame, a file, or a redirect.
    { origin: "null" },
    { origin: "http://localhost:1", "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" },
  ];

  test.each(changing)("is refused before its request is looked at: %s", async (name) => {
    const server = await start();
    const before = done(server);
    for (const headers of origins) {
      for (const type of someTypes) {
        const head = { ":path": `/${name}`, ...headers, ...(type !== undefined && { "content-type": type }) };
        const answer = await sendHttp2(server.port, head, Buffer.from("{}"));
        const isRefused =
          Number(answer.headers[":status"]) === 403 ||
          // gRPC, and streams of Connect, say so inside of an answer with status 200.
          answer.headers["grpc-status"] === "7" ||
          answer.body.includes("permission_denied") ||
          answer.body.includes("grpc-status: 7");
        expect(isRefused, JSON.stringify(head)).toBe(true);
        expect(answer.headers).not.toHaveProperty("access-control-allow-origin");
      }
    }
    expect(done(server)).toEqual(before);
  });

  test("is not granted what it asks for in a preflight, whatever that is", async () => {
    const { port } = await start();
    for (const name of all.map(methodName)) {
      const headers = {
        origin: "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,connect-protocol-version",
      };
      const answer = await sendHttp2(port, { ":method": "OPTIONS", ":path": `/${name}`, ...headers }, Buffer.alloc(0));
      expect(Number(answer.headers[":status"])).toBe(403);
      expect(Object.keys(answer.headers).filter((header) => header.startsWith("access-control"))).toEqual([]);
    }
  });

  test("gets no read by GET either where its browser tells of it", async () => {
    const { port } = await start();
    const query = `?connect=v1&encoding=json&message=${encodeURIComponent("{}")}`;
    for (const headers of origins) {
      for (const name of all.filter((method) => isRead(method) && method.methodKind === "unary").map(methodName)) {
        expect(await sendPlain(port, { method: "GET", path: `/${name}${query}`, headers })).toBe(403);
      }
    }
  });
});

test("the protocol's own header in a query would keep out no page, which can write it there", async () => {
  const { port } = await start();
  const path = `/${methodName(Cluster.method.status)}?encoding=json&message=${encodeURIComponent("{}")}`;
  for (const query of [path, `${path}&connect=v1`])
    expect(await sendPlain(port, { method: "GET", path: query })).toBe(200);
});
