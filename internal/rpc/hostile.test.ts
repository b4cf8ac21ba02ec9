/** What a caller can leave half done, as long as it likes: it ends, in words, and keeps nobody else waiting. */
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { FakeClock } from "../base/clock.js";
import { callJson, startTestServer, type TestServer } from "./testing/test-server.js";

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

function connect(port: number): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => undefined);
  cleanups.push(() => session.destroy());
  return session;
}

describe("answers that are not read", () => {
  const value = new Uint8Array(1024 * 1024);
  const keys = ["k", "k", "k"];

  async function startWithValue(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
    const running = await start(options);
    const transport = createConnectTransport({ baseUrl: running.url, httpVersion: "1.1" });
    await createClient(KVStore, transport).set({ key: "k", value });
    return running;
  }

  /** Asks for far more than it ever reads. */
  function askOverHttp1(port: number): Socket {
    const body = JSON.stringify({ keys });
    const head = "POST /cambium.v1.KVStore/BatchGet HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    const socket = connectSocket(port, "127.0.0.1", () => {
      socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`.repeat(50));
    });
    socket.pause().on("error", () => undefined);
    cleanups.push(() => socket.destroy());
    return socket;
  }

  function askOverHttp2(port: number): ClientHttp2Session {
    const session = connect(port);
    for (let n = 0; n < 200; n++) {
      const stream = session.request({
        ":method": "POST",
        ":path": "/cambium.v1.KVStore/BatchGet",
        "content-type": "application/json",
      });
      stream.on("error", () => undefined);
      stream.end(JSON.stringify({ keys }));
    }
    return session;
  }

  test("take no more memory than one connection may have, and keep nobody else waiting", async () => {
    const { port } = await startWithValue();
    const rssBefore = process.memoryUsage.rss();
    askOverHttp1(port);
    askOverHttp2(port);
    for (let n = 0; n < 20; n++) {
      expect(await callJson(port, "cambium.v1.KVStore/Get", { key: "other" })).toMatchObject({ status: 200 });
      const large = await callJson(port, "cambium.v1.KVStore/Get", { key: "k" });
      expect(large.json).toMatchObject({ exists: true });
    }
    // All of it would be a gigabyte.
    expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(400 * 1024 * 1024);
  });

  test.each([
    ["HTTP/1.1", askOverHttp1],
    ["HTTP/2", askOverHttp2],
  ])("end with their connection when nothing of them is taken for a minute, over %s", async (_name, ask) => {
    const clock = new FakeClock();
    const { port } = await startWithValue({ clock });
    const connection = ask(port);
    let isClosed = false;
    // Not by what it reads, for it reads nothing.
    const alive = setInterval(() => {
      if ("ping" in connection && !connection.destroyed) connection.ping(() => undefined);
    }, 50);
    connection.on("close", () => (isClosed = true));
    if ("read" in connection) connection.on("end", () => (isClosed = true));
    const startMs = clock.monotonicMs();
    await expect
      .poll(
        () => {
          clock.advance(1000);
          // What was sent before is read now, so that the end is seen.
          if ("read" in connection && clock.monotonicMs() - startMs > 120_000) connection.resume();
          return isClosed;
        },
        // Two minutes of the fake clock, a second a look.
        { timeout: 30_000, interval: 10 },
      )
      .toBe(true);
    clearInterval(alive);
    expect(clock.monotonicMs() - startMs).toBeGreaterThanOrEqual(60_000);
  });
});
