/**
 * The mistakes of the library and of Node that this room works around, a test for each: what the library does by itself,
 * so that an upgrade shows when a workaround can go, and what this server does instead. Those of connections between
 * nodes are in peer-network.test.ts.
 */
import { EventEmitter } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { connect as connectHttp2, type Settings } from "node:http2";
import { connect as connectSocket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createConnectTransport, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { validateReadWriteMaxBytes } from "@connectrpc/connect/protocol";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { PushRequestSchema } from "../../api/gen/cambium/v1/replication_pb.js";
import { epoch } from "../base/position.js";
import { CLUSTER, OTHER_NODE } from "./testing/fake-rooms.js";
import { frame, send, sendRaw, startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(): Promise<TestServer> {
  const running = await startTestServer();
  cleanups.push(() => running.server.close());
  return running;
}

describe("trap 1: a Host that is none", () => {
  const routes = (): Parameters<typeof connectNodeAdapter>[0] => ({
    routes: (router) => void router.service(KVStore, {}),
  });

  test.each([["a b["], [undefined]])("throws in the library's adapter, which would end the process: %j", (host) => {
    const request = {
      headers: { host },
      url: "/cambium.v1.KVStore/Get",
      method: "POST",
      httpVersion: "1.1",
      socket: {},
      once: () => undefined,
    };
    const response = { once: () => undefined };
    const call = (): void => {
      connectNodeAdapter(routes())(request as unknown as IncomingMessage, response as unknown as ServerResponse);
    };
    expect(call).toThrow(/Invalid URL|unable to determine request authority/);
  });

  test("is answered with 400 and a sentence here", async () => {
    const { port } = await start();
    const received = await sendRaw(port, "GET /x HTTP/1.1\r\nhost: a b[\r\nconnection: close\r\n\r\n");
    expect(received).toMatch(/^HTTP\/1\.1 400 /);
    expect(await sendRaw(port, "POST /x HTTP/1.0\r\n\r\n")).toContain("the request needs a Host header");
  });
});

describe("trap 2: a slow client that leaves", () => {
  test("never ends the handler's stream in the library", async () => {
    // A response whose client has stopped reading, and then closes the connection.
    const response = Object.assign(new EventEmitter(), {
      headersSent: false,
      writeHead: () => undefined,
      write: () => false,
      end: () => undefined,
    });
    let ended = false;
    async function* body(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield new Uint8Array(1);
      } finally {
        ended = true;
      }
    }
    const writing = universalResponseToNodeResponse(
      { status: 200, body: body() },
      response as unknown as ServerResponse,
    );
    await expect.poll(() => response.listenerCount("drain")).toBe(1);
    response.emit("close");
    await new Promise((resolve) => setImmediate(resolve));
    expect(ended).toBe(false);
    response.emit("error", new Error("to end this test"));
    await expect(writing).rejects.toThrow("to end this test");
  });

  test("runs the handler's finally here", async () => {
    const { replicator, port } = await start();
    const detail = "x".repeat(100_000);
    replicator.onPush = (push, message) => {
      if (!message) return;
      // Far more than the windows of the connection hold, and less than what ends a push of which nothing is read.
      for (let n = 0; n < 5; n++) {
        push.send({
          kind: "reject",
          clusterId: CLUSTER,
          epoch: epoch(1),
          sender: OTHER_NODE,
          reason: "misaligned",
          detail,
        });
      }
    };
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    cleanups.push(() => session.destroy());
    const stream = session.request({
      ":method": "POST",
      ":path": "/cambium.v1.Replication/Push",
      "content-type": "application/grpc",
    });
    stream.on("error", () => undefined);
    const request = create(PushRequestSchema, {
      sender: new Uint8Array(16),
      message: { case: "heartbeat", value: {} },
    });
    stream.write(frame(toBinary(PushRequestSchema, request)));
    // The head has come, and nothing of the body is read.
    await new Promise((resolve) => stream.once("response", resolve));
    await expect.poll(() => replicator.pushes[0]?.received.length).toBe(1);
    expect(replicator.pushes[0]?.isClosed).toBe(false);
    session.destroy();
    await expect.poll(() => replicator.pushes[0]?.isClosed).toBe(true);
  });

  test("gives back what its call waits for here, over HTTP/1.1 too", async () => {
    const { store, port } = await start();
    const body = '{"after":"1","waitMs":60000}';
    const socket = connectSocket(port, "127.0.0.1", () => {
      socket.write(
        `POST /cambium.v1.KVStore/GetUpdates HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    });
    await expect.poll(() => store.waiting).toBe(1);
    socket.destroy();
    await expect.poll(() => store.waiting).toBe(0);
  });
});

test("trap 6: a key too large for a GET is answered with 431, and is read by POST", async () => {
  const { port } = await start();
  const message = JSON.stringify({ key: "k".repeat(20_000) });
  const query = new URLSearchParams({ connect: "v1", encoding: "json", message }).toString();
  const got = await send(port, `/cambium.v1.KVStore/Get?${query}`, { method: "GET" });
  expect(got).toMatchObject({ status: 431, text: expect.stringContaining("send large keys with POST") });
  const posted = await send(port, "/cambium.v1.KVStore/Get", {
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ key: "k".repeat(4096) }),
  });
  expect(posted.status).toBe(200);
});

test("trap 9: the library reads messages of 4 GiB unless it is told not to", () => {
  expect(validateReadWriteMaxBytes(undefined, undefined, undefined)).toMatchObject({
    readMaxBytes: 0xffffffff,
    writeMaxBytes: 0xffffffff,
    compressMinBytes: 1024,
  });
});

test("trap 10: the windows of HTTP/2 are wide at this end", async () => {
  const { port } = await start();
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  cleanups.push(() => session.destroy());
  const settings = await new Promise<Settings>((resolve) => session.once("remoteSettings", resolve));
  expect(settings.initialWindowSize).toBe(4 * 1024 * 1024);
  await expect.poll(() => session.state.remoteWindowSize).toBe(32 * 1024 * 1024);
});

test("trap 13: it listens on the address that it is told, and on no other", async () => {
  const { port } = await start();
  const refused = await new Promise<string>((resolve) => {
    const socket = connectSocket(port, "::1");
    socket.on("connect", () => {
      socket.destroy();
      resolve("connected");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
  });
  expect(refused).toMatch(/^E(CONNREFUSED|ADDRNOTAVAIL|AFNOSUPPORT|NETUNREACH)$/);
});

test("a byte order mark at the beginning of a key is a part of it, which decoding by default would drop", async () => {
  const { url } = await start();
  expect(new TextDecoder().decode(Uint8Array.of(0xef, 0xbb, 0xbf, 0x78))).toBe("x");
  const client = createClient(KVStore, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
  await client.set({ key: "\ufeffx", value: new Uint8Array([1]) });
  expect((await client.get({ key: "x" })).exists).toBe(false);
  expect((await client.get({ key: "\ufeffx" })).exists).toBe(true);
});
