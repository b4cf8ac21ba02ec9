import { createServer, type Socket } from "node:net";
import { type CallOptions, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { NotMasterSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { type Clock, FakeClock } from "../base/clock.js";
import { StoreError } from "../store/store.js";
import { PeerCallError, PeerChannels } from "./peer-channels.js";
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

function newChannels(clock: Clock = new FakeClock()): PeerChannels {
  const channels = new PeerChannels({
    clock,
    connectTimeoutMs: 5000,
    pingIntervalMs: 10_000,
    pingTimeoutMs: 5000,
    headers: {},
  });
  cleanups.push(() => channels.close());
  return channels;
}

const never = new AbortController().signal;
const options = { signal: never, timeoutMs: 60_000, isKept: true };
const set = (transport: Transport, call: CallOptions) => createClient(KVStore, transport).set({ key: "k" }, call);
const failureOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => expect.fail("the call succeeded"),
    (error: unknown) => error,
  );

/** A port where somebody takes connections. */
async function listen(greet: (socket: Socket) => void): Promise<{ address: string; sockets: Set<Socket> }> {
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
  return { address: `127.0.0.1:${typeof address === "object" && address ? address.port : 0}`, sockets };
}

describe("a kept channel", () => {
  test("serves all calls to an address, one after the other and at once", async () => {
    const { address, store } = await start();
    const channels = newChannels();
    await channels.call(address, set, options);
    await Promise.all([1, 2, 3].map(() => channels.call(address, set, options)));
    expect(channels.count).toBe(1);
    expect(store.writeOptions).toHaveLength(4);
  });

  test("is given back when nobody has needed it for a minute, and not before", async () => {
    const clock = new FakeClock();
    const { address } = await start();
    const channels = newChannels(clock);
    await channels.call(address, set, options);
    clock.advance(9000);
    await channels.call(address, set, options);
    expect(channels.count).toBe(1);
    // Between the two the other end is asked whether it is there.
    for (let s = 0; s < 59; s++) {
      clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(channels.count).toBe(1);
    clock.advance(1000);
    await expect.poll(() => channels.count).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  test("that the other node has closed is followed by another", async () => {
    const first = await start();
    const channels = newChannels();
    await channels.call(first.address, set, options);
    await first.server.close();
    await expect.poll(() => channels.count).toBe(0);
    const second = await start({ port: first.port });
    await channels.call(second.address, set, options);
    expect(second.store.writeOptions).toHaveLength(1);
  });

  test("on which a call was in vain is not used for the next one", async () => {
    const { address, store } = await start();
    const channels = newChannels();
    // On a busy machine the time may else be over before there is a connection.
    await channels.call(address, set, options);
    store.gate = new Promise(() => undefined);
    const failure = await failureOf(channels.call(address, set, { ...options, timeoutMs: 30 }));
    expect(failure).toMatchObject({ code: "timeout", message: "nothing answered within 30 ms" });
    await expect.poll(() => channels.count).toBe(0);
    store.gate = Promise.resolve();
    await channels.call(address, set, options);
  });
});

describe("a call that has no answer", () => {
  test("because nothing listens was certainly not carried out", async () => {
    const { address, server } = await start();
    await server.close();
    const failure = await failureOf(newChannels().call(address, set, options));
    expect(failure).toBeInstanceOf(PeerCallError);
    expect(failure).toMatchObject({ code: "unreached", message: "nothing listens there" });
  });

  test.each(["nonsense", "127.0.0.1", "127.0.0.1:99999", "user@127.0.0.1:80", ""])(
    "because %j is no address was not either",
    async (address) => {
      const channels = newChannels();
      expect(await failureOf(channels.call(address, set, options))).toMatchObject({ code: "invalid_address" });
      expect(channels.count).toBe(0);
    },
  );

  test("because the node died after it was sent may have been carried out", async () => {
    const clock = new FakeClock();
    const { address, store, server } = await start({ clock });
    store.gate = new Promise(() => undefined);
    const call = failureOf(newChannels().call(address, set, options));
    await expect.poll(() => store.writing).toBe(1);
    const closed = server.close();
    clock.advance(5000);
    expect(await call).toMatchObject({ code: "broken" });
    await closed;
  });

  test("because somebody else listens there may have been carried out, for all that is known", async () => {
    const { address } = await listen((socket) => socket.end("220 mail.example ESMTP\r\n"));
    expect(await failureOf(newChannels().call(address, set, options))).toMatchObject({
      name: "PeerCallError",
      message: expect.stringMatching(/./),
    });
  });

  test("because its own caller has left rejects with that one's reason, and leaves the connection to others", async () => {
    const { address, store } = await start();
    const channels = newChannels();
    store.gate = new Promise(() => undefined);
    const caller = new AbortController();
    const call = failureOf(channels.call(address, set, { ...options, signal: caller.signal }));
    await expect.poll(() => store.writing).toBe(1);
    const gone = new Error("gone");
    caller.abort(gone);
    expect(await call).toBe(gone);
    expect(channels.count).toBe(1);
    expect(await failureOf(channels.call(address, set, { ...options, signal: caller.signal }))).toBe(gone);
  });

  test("because this node shuts down says so, and every socket is given back", async () => {
    const { address, sockets } = await listen(() => undefined);
    const channels = newChannels();
    const call = failureOf(channels.call(address, set, options));
    await expect.poll(() => sockets.size).toBe(1);
    await channels.close();
    expect(await call).toMatchObject({ name: "PeerCallError", message: "this node is shutting down" });
    expect(channels.count).toBe(0);
    expect(await failureOf(channels.call(address, set, options))).toMatchObject({ code: "closing" });
  });
});

test("what the other node answers comes as it is, with its details", async () => {
  const { address, store } = await start();
  store.failure = new StoreError("not_master", "a replica");
  const channels = newChannels();
  const error = ConnectError.from(await failureOf(channels.call(address, set, options)));
  expect(error.code).toBe(Code.FailedPrecondition);
  expect(error.findDetails(NotMasterSchema)).toMatchObject([{ masterAddress: "127.0.0.1:1" }]);
  expect(channels.count).toBe(1);
});

test("a call for which nothing is kept leaves no connection", async () => {
  const { address, store } = await start();
  const channels = newChannels();
  await channels.call(address, set, { ...options, isKept: false });
  expect(channels.count).toBe(0);
  store.failure = new StoreError("overloaded", "later");
  await failureOf(channels.call(address, set, { ...options, isKept: false }));
  expect(channels.count).toBe(0);
});
