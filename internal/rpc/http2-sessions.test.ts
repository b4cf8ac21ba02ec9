import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { frame, headersBlock, PREFACE, SETTINGS } from "./testing/abuse.js";
import { send, startTestServer, type TestServer } from "./testing/test-server.js";

/** CONTINUATION of a head that never began: an error of the whole connection. */
const MISPLACED = frame(9, 0, 77, Buffer.alloc(10));

const HEADERS_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 65_000;
const UNREAD_TIMEOUT_MS = 60_000;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(): Promise<TestServer & { readonly clock: FakeClock }> {
  const clock = new FakeClock();
  const running = await startTestServer({ clock });
  cleanups.push(async () => {
    await running.server.close();
    expect(running.bugs).toEqual([]);
    expect(running.errors).toEqual([]);
  });
  return { ...running, clock };
}

/** What the node counts as connections of others than who asks. */
async function connectionsAt(port: number): Promise<number> {
  const { text } = await send(port, "/metrics", { method: "GET", headers: { connection: "close" } });
  return Number(/^cambium_connections (\d+)$/m.exec(text)?.[1]) - 1;
}

/** Says this, and comes back once the node has answered with something. */
function say(port: number, bytes: Uint8Array): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket(port, "127.0.0.1", () => socket.write(bytes));
    socket.on("error", () => undefined).once("close", () => reject(new Error("the node hung up")));
    socket.once("data", () => resolve(socket));
  });
}

/** A client of HTTP/2, and how often it has been asked whether it is there. */
async function client(url: string): Promise<{ readonly session: ClientHttp2Session; readonly pings: () => number }> {
  const session = connectHttp2(url);
  cleanups.push(() => session.destroy());
  let pings = 0;
  session.on("ping", () => pings++);
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  return { session, pings: () => pings };
}

describe("a session that is over, of which nobody is told,", () => {
  const HEALTH_WATCH = Buffer.concat([
    frame(1, 4, 1, headersBlock("/grpc.health.v1.Health/Watch", "application/grpc")),
    frame(0, 1, 1, Buffer.alloc(5)),
  ]);

  test.each([
    ["without a call", [PREFACE, SETTINGS], HEADERS_TIMEOUT_MS],
    ["with a call", [PREFACE, SETTINGS, HEALTH_WATCH], UNREAD_TIMEOUT_MS],
  ])("is closed: %s", async (_name, frames, patienceMs) => {
    const { port, clock } = await start();
    const sockets = await Promise.all(Array.from({ length: 20 }, () => say(port, Buffer.concat(frames))));
    // All that it has said has been dealt with, and the call is being carried out.
    for (const socket of sockets) await new Promise((resolve) => socket.write(MISPLACED, resolve));
    await expect.poll(() => connectionsAt(port)).toBe(20);
    for (const socket of sockets) socket.destroy();
    // At the first look it has just spoken, at the second one it is asked.
    for (let ms = 0; ms < 2 * HEADERS_TIMEOUT_MS + patienceMs; ms += HEADERS_TIMEOUT_MS) {
      expect(await connectionsAt(port)).toBe(20);
      clock.advance(HEADERS_TIMEOUT_MS);
    }
    await expect.poll(() => connectionsAt(port)).toBe(0);
  });
});

describe("a session that is there", () => {
  test("without a call is asked once, and left when it has been idle for its time", async () => {
    const { url, port, clock } = await start();
    const { session, pings } = await client(url);
    const isClosed = new Promise((resolve) => session.once("close", resolve));
    clock.advance(HEADERS_TIMEOUT_MS);
    await expect.poll(pings).toBe(1);
    for (let ms = HEADERS_TIMEOUT_MS; ms + HEADERS_TIMEOUT_MS < IDLE_TIMEOUT_MS; ms += HEADERS_TIMEOUT_MS) {
      // What the client has said until now has been read when this is answered.
      expect(await connectionsAt(port)).toBe(1);
      clock.advance(HEADERS_TIMEOUT_MS);
    }
    expect(session.closed).toBe(false);
    clock.advance(IDLE_TIMEOUT_MS % HEADERS_TIMEOUT_MS);
    await isClosed;
    expect(pings()).toBe(1);
  });

  test("with a call is asked now and then, and kept", async () => {
    const { url, port, clock } = await start();
    const { session, pings } = await client(url);
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Watch",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => undefined);
    stream.resume().end(Buffer.alloc(5));
    await new Promise((resolve) => stream.once("response", resolve));
    let asked = 0;
    for (let ms = HEADERS_TIMEOUT_MS; ms <= 4 * IDLE_TIMEOUT_MS; ms += HEADERS_TIMEOUT_MS) {
      clock.advance(HEADERS_TIMEOUT_MS);
      // Soon after what it has said last, and then at the first look after it has been silent for its time.
      if ((ms - 2 * HEADERS_TIMEOUT_MS) % (7 * HEADERS_TIMEOUT_MS) === 0) await expect.poll(pings).toBe(++asked);
      expect(await connectionsAt(port)).toBe(1);
    }
    expect(pings()).toBe(4);
    expect(session.closed).toBe(false);
    expect(stream.closed).toBe(false);
  });

  test("but says nothing when it is asked is closed", async () => {
    const { port, clock } = await start();
    const socket = await say(port, Buffer.concat([PREFACE, SETTINGS]));
    const isClosed = new Promise((resolve) => socket.once("close", resolve));
    socket.resume();
    await expect.poll(() => connectionsAt(port)).toBe(1);
    clock.advance(HEADERS_TIMEOUT_MS);
    expect(await connectionsAt(port)).toBe(1);
    clock.advance(HEADERS_TIMEOUT_MS);
    await isClosed;
  });
});
