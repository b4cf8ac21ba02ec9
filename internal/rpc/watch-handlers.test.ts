/** Watches as callers see them, over a hub that does what the test says. */
import { request as httpRequest } from "node:http";
import { type CallOptions, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { EventType, KVStore, type WatchManyResponse, WatchEndedSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { LimitExceededSchema, LogRangeSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { epoch, epochMs, seq } from "../base/position.js";
import { bearerToken, bearerTokenHash } from "../identity/bearer-token.js";
import { Identities } from "../identity/identities.js";
import { StoreError, type UpdateEvent } from "../store/store.js";
import { type WatchBatch, WatchError } from "../watch/watch-types.js";
import type { FakeWatch, FakeWatches } from "./testing/fake-watches.js";
import { startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(() => running.server.close());
  return running;
}

const bytes = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text));
const client = ({ url }: TestServer, transport?: Transport) =>
  createClient(KVStore, transport ?? createConnectTransport({ baseUrl: url, httpVersion: "2" }));

const tokenAt = (at: number): Uint8Array<ArrayBuffer> => bytes(`token ${at}`);
const positionAt = (at: number) => ({ epoch: epoch(1), seq: seq(at) });

function put(at: number, key: string, more: Partial<UpdateEvent> = {}): UpdateEvent {
  const about = { position: positionAt(at), timestampMs: epochMs(1_000 + at) };
  return { type: "put", key: bytes(key), value: bytes(`value ${at}`), ...about, ...more };
}

function batch(at: number, ...events: UpdateEvent[]): WatchBatch {
  return { events, position: positionAt(at), token: tokenAt(at) };
}

/** The hub gives these to every watch that is opened. */
function giveAll(watches: FakeWatches, ...batches: WatchBatch[]): void {
  watches.onOpen = (watch) => void watch.give(...batches);
}

/** The first messages of a stream, which is left then; the library does not leave by itself when nobody reads any more. */
async function take<T>(open: (options: CallOptions) => AsyncIterable<T>, count: number): Promise<T[]> {
  const controller = new AbortController();
  const messages: T[] = [];
  for await (const message of open({ signal: controller.signal })) {
    messages.push(message);
    if (messages.length === count) break;
  }
  controller.abort();
  return messages;
}

async function failureOf(stream: AsyncIterable<unknown>): Promise<ConnectError> {
  try {
    for await (const _ of stream);
  } catch (error) {
    return ConnectError.from(error);
  }
  return expect.fail("the stream ended without an error");
}

/** Resolves when it holds; looks again whenever the process has had its turn. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

const transports: [string, (url: string) => Transport][] = [
  ["Connect in binary over HTTP/1.1", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
  [
    "Connect in JSON over HTTP/1.1",
    (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
  ],
  [
    "Connect in JSON over HTTP/2",
    (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false }),
  ],
  ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
  ["gRPC in JSON", (baseUrl) => createGrpcTransport({ baseUrl, useBinaryFormat: false })],
  ["gRPC-web", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
];

describe.each(transports)("over %s", (_name, transportTo) => {
  // More than the library is left to turn into base64 by itself.
  const large = bytes("x".repeat(3000));
  const events: UpdateEvent[] = [
    put(7, "kä", { expiresAtMs: epochMs(9_000_000_000_000), previous: bytes("") }),
    put(7, '"\\/\u0000', { value: large, previous: large }),
    put(7, "compacted", { previousCompacted: true }),
    put(7, "", { type: "delete-range", value: bytes("") }),
    put(7, "from", { type: "delete-range", value: bytes(""), rangeEnd: bytes("to") }),
    ...(["delete", "expire", "evict"] as const).map((type) => put(7, type, { type, value: bytes("") })),
  ];

  test("a watch gives what happened, exactly", async () => {
    const running = await start();
    giveAll(running.watches, batch(3), batch(7, ...events), {
      events: [put(8, "k")],
      position: positionAt(7),
      more: true,
    });
    const messages = await take((options) => client(running, transportTo(running.url)).watch({}, options), 3);
    const about = { position: { epoch: 1n, seq: 7n }, timestampMs: 1007n };
    expect(messages).toMatchObject([
      { events: [], position: { epoch: 1n, seq: 3n }, token: tokenAt(3), more: false },
      {
        events: [
          { type: EventType.PUT, key: "kä", value: bytes("value 7"), expiresAtMs: 9_000_000_000_000n, ...about },
          { type: EventType.PUT, key: '"\\/\u0000', value: large, previous: large },
          { key: "compacted", previousCompacted: true },
          { type: EventType.DELETE_RANGE, key: "", rangeEnd: "" },
          { type: EventType.DELETE_RANGE, key: "from", rangeEnd: "to", value: bytes("") },
          { type: EventType.DELETE, key: "delete", ...about },
          { type: EventType.EXPIRE },
          { type: EventType.EVICT },
        ],
        position: { epoch: 1n, seq: 7n },
        token: tokenAt(7),
        more: false,
      },
      { events: [{ key: "k" }], token: bytes(""), more: true },
    ]);
    const [first, second] = messages[1]!.events;
    // There was one, and it was empty; and of the other nobody asked.
    expect([first!.previous, second!.expiresAtMs]).toEqual([bytes(""), undefined]);
    expect(messages[1]!.events[2]!.previous).toBeUndefined();
  });

  test("a watch gives small and large batches in turn, in order, and says at last how it ended", async () => {
    const running = await start();
    const sizes = Array.from({ length: 40 }, (_, at) => (at % 3 === 2 ? 20_000 : at));
    const batches = sizes.map((size, at) => batch(at + 1, put(at + 1, `k${at}`, { value: bytes("v".repeat(size)) })));
    running.watches.onOpen = (watch) => {
      const resume = { seq: seq(40), token: tokenAt(40) };
      watch.give(batch(0), ...batches).fail(new WatchError("too_slow", "slow", { resume }));
    };
    const got: string[] = [];
    const failure = (async () => {
      for await (const { events } of client(running, transportTo(running.url)).watch({})) {
        got.push(...events.map(({ key, value }) => `${key} ${value.length}`));
      }
    })();
    await expect(failure).rejects.toMatchObject({ code: Code.ResourceExhausted });
    expect(got).toEqual(sizes.map((size, at) => `k${at} ${size}`));
  });

  test("a stream of many watches gives the same, and says whose it is", async () => {
    const running = await start();
    giveAll(running.watches, batch(3), batch(7, ...events));
    const alone = await take((options) => client(running, transportTo(running.url)).watch({}, options), 2);
    const watches = [
      { watchId: 2n ** 64n - 1n, watch: {} },
      { watchId: 0n, watch: { prefix: "p" } },
    ];
    const [head, ...rest] = await take(
      (options) => client(running, transportTo(running.url)).watchMany({ watches }, options),
      5,
    );
    expect(head).toMatchObject({ message: { case: undefined } });
    expect(head!.streamId).toHaveLength(16);
    for (const { watchId } of watches) {
      const mine = rest.filter((message) => message.watchId === watchId);
      expect(mine.map(({ message }) => message.value)).toEqual(alone);
    }
  });
});

describe("a watch", () => {
  test("asks the hub for what its request says", async () => {
    const running = await start();
    giveAll(running.watches, batch(1));
    const kv = client(running);
    const token = bytes("a token");
    const signal = expect.any(AbortSignal);
    await take((options) => kv.watch({}, options), 1);
    await take((options) => kv.watch({ key: "k", after: 0n, wantPrevious: true }, options), 1);
    await take((options) => kv.watch({ prefix: "p", after: 7n, keysOnly: true }, options), 1);
    await take((options) => kv.watch({ start: "a", end: "b", afterToken: token }, options), 1);
    expect(running.watches.opened.map(({ request }) => request)).toEqual([
      { signal, after: "now" },
      { signal, filter: { key: bytes("k") }, after: { seq: 0 }, wantPrevious: true },
      {
        signal,
        filter: { range: { start: bytes("p"), end: Buffer.from("q") } },
        after: { seq: 7 },
        keysOnly: true,
      },
      { signal, filter: { range: { start: bytes("a"), end: bytes("b") } }, after: { token } },
    ]);
  });

  test("is given up when its caller leaves, whether it waits or not", async () => {
    const running = await start();
    giveAll(running.watches, batch(1), batch(2));
    const kv = client(running);
    await take((options) => kv.watch({}, options), 1);
    const controller = new AbortController();
    const waiting = failureOf(kv.watch({}, { signal: controller.signal }));
    await until(() => running.watches.opened.length === 2 && running.watches.opened[1]!.taken === 2);
    controller.abort();
    expect((await waiting).code).toBe(Code.Canceled);
    await until(() => running.watches.openCount === 0);
    expect(running.errors).toEqual([]);
  });

  test("ends when its caller's time is over", async () => {
    const running = await start();
    const error = await failureOf(client(running).watch({}, { timeoutMs: 20 }));
    expect(error.code).toBe(Code.DeadlineExceeded);
    await until(() => running.watches.openCount === 0);
  });

  test("ends with what the hub says, as a typed error", async () => {
    const running = await start();
    const resume = { seq: seq(5), token: tokenAt(5) };
    running.watches.onOpen = (watch) =>
      watch.give(batch(5)).fail(new WatchError("too_slow", "read faster", { resume }));
    const slow = await failureOf(client(running).watch({}));
    expect(slow).toMatchObject({ code: Code.ResourceExhausted, rawMessage: "read faster" });
    expect(slow.findDetails(WatchEndedSchema)).toMatchObject([{ seq: 5n, token: tokenAt(5) }]);
    const range = { compactSeq: seq(3), appliedSeq: seq(8) };
    running.watches.failure = new WatchError("out_of_range", "read the keys", { range });
    const gone = await failureOf(client(running).watch({ after: 1n }));
    expect(gone.code).toBe(Code.OutOfRange);
    expect(gone.findDetails(LogRangeSchema)).toMatchObject([{ compactSeq: 3n, appliedSeq: 8n }]);
    running.watches.failure = new WatchError("too_many", "there are too many", { watchesMax: 4 });
    const full = await failureOf(client(running).watch({}));
    expect(full.findDetails(LimitExceededSchema)).toMatchObject([{ limit: "limits.max_watches", maximum: 4n }]);
    running.watches.failure = new StoreError("invalid_token", "no token");
    expect((await failureOf(client(running).watch({ afterToken: bytes("?") }))).code).toBe(Code.InvalidArgument);
  });

  test("ends when the node shuts down, and says where to go on", async () => {
    const running = await start();
    giveAll(running.watches, batch(4, put(4, "k")));
    const ended = failureOf(client(running).watch({}));
    await until(() => running.watches.opened[0]?.taken === 1);
    await new Promise((resolve) => setImmediate(resolve));
    await running.server.close();
    const error = await ended;
    expect(error.code).toBe(Code.Unavailable);
    expect(error.findDetails(WatchEndedSchema)).toMatchObject([{ seq: 4n, token: tokenAt(4) }]);
    expect(running.watches.openCount).toBe(0);
  });
});

describe("an event", () => {
  test("is encoded once for all its watchers, whatever else they are given", async () => {
    const running = await start();
    let looks = 0;
    const counted = (at: number): UpdateEvent => {
      const event = put(at, `key-${at}`);
      // Whoever encodes looks at it, and at nothing but its size where it has been encoded.
      return Object.defineProperty({ ...event }, "timestampMs", {
        enumerable: true,
        get: () => {
          looks++;
          return event.timestampMs;
        },
      });
    };
    const events = [counted(1), counted(2), counted(3)];
    const shared = batch(3, ...events);
    giveAll(running.watches, shared, batch(4, events[1]!));
    for (const useBinaryFormat of [true, false]) {
      looks = 0;
      const transport = createConnectTransport({ baseUrl: running.url, httpVersion: "2", useBinaryFormat });
      const kv = client(running, transport);
      for (let i = 0; i < 5; i++)
        expect((await take((options) => kv.watch({}, options), 2))[1]!.events[0]!.timestampMs).toBe(1002n);
      const watches = Array.from({ length: 10 }, (_, i) => ({ watchId: BigInt(i), watch: {} }));
      await take((options) => kv.watchMany({ watches }, options), 21);
      expect(looks).toBe(events.length);
    }
  });
});

describe("a stream of many watches", () => {
  const isOf = (watchId: bigint) => (message: WatchManyResponse) => message.watchId === watchId;

  /** A stream, its messages as they come, and its id. */
  async function open(
    running: TestServer,
    request: { watches?: { watchId: bigint; watch: object }[] } = {},
    options = {},
  ) {
    const controller = new AbortController();
    cleanups.push(() => controller.abort());
    const messages: WatchManyResponse[] = [];
    const ended = (async () => {
      for await (const message of client(running).watchMany(request, { signal: controller.signal, ...options })) {
        messages.push(message);
      }
    })();
    ended.catch(() => undefined);
    await until(() => messages.length > 0);
    return { messages, ended, streamId: messages[0]!.streamId, leave: () => controller.abort() };
  }

  const last = ({ watches }: TestServer): FakeWatch => watches.opened.at(-1)!;

  test("is added to and taken from while it goes on", async () => {
    const running = await start();
    const kv = client(running);
    const { messages, streamId } = await open(running);
    await kv.addWatch({ streamId, watch: { watchId: 7n, watch: { key: "k" } } });
    const watch = last(running);
    expect(watch.request).toMatchObject({ filter: { key: bytes("k") }, after: "now" });
    watch.give(batch(1), batch(2, put(2, "k")));
    await until(() => messages.filter(isOf(7n)).length === 2);
    await kv.removeWatch({ streamId, watchId: 7n });
    expect(watch.isEnded).toBe(true);
    // It is no error where there is none.
    await kv.removeWatch({ streamId, watchId: 7n });
    await kv.addWatch({ streamId, watch: { watchId: 7n, watch: {} } });
    last(running).give(batch(9));
    await until(() => messages.length === 4);
    expect(messages[3]).toMatchObject({ watchId: 7n, message: { case: "response", value: { token: tokenAt(9) } } });
  });

  test("refuses an id that one of its watches has, and a watch too many, and goes on", async () => {
    const running = await start();
    const kv = client(running);
    const { messages, streamId } = await open(running, { watches: [{ watchId: 1n, watch: {} }] });
    const add = (watchId: bigint) =>
      kv.addWatch({ streamId, watch: { watchId, watch: {} } }).catch((error: unknown) => ConnectError.from(error));
    expect(await add(1n)).toMatchObject({ code: Code.AlreadyExists, rawMessage: expect.stringContaining("watch 1") });
    running.watches.failure = new WatchError("too_many", "too many", { watchesMax: 1 });
    expect(await add(2n)).toMatchObject({ code: Code.ResourceExhausted });
    running.watches.failure = undefined;
    await add(2n);
    last(running).give(batch(3));
    await until(() => messages.some(isOf(2n)));
    expect(running.watches.openCount).toBe(2);
  });

  test("tells of a watch that ends, and goes on with the others", async () => {
    const running = await start();
    running.watches.failure = new WatchError("too_many", "too many", { watchesMax: 1 });
    const { messages, streamId } = await open(running, { watches: [{ watchId: 1n, watch: {} }] });
    await until(() => messages.length === 2);
    expect(messages[1]).toMatchObject({
      watchId: 1n,
      message: {
        case: "ended",
        value: { code: "resource_exhausted", message: "too many", detail: { case: undefined } },
      },
    });
    running.watches.failure = undefined;
    const kv = client(running);
    const resume = { seq: seq(5), token: tokenAt(5) };
    const fork = positionAt(2);
    const range = { compactSeq: seq(3), appliedSeq: seq(8) };
    const ends: [Error, object][] = [
      [
        new WatchError("out_of_range", "gone", { range }),
        { code: "out_of_range", detail: { case: "logRange", value: { compactSeq: 3n, appliedSeq: 8n } } },
      ],
      [
        new WatchError("lineage_lost", "lost", { fork }),
        { code: "aborted", detail: { case: "lineageLost", value: { fork: { seq: 2n } } } },
      ],
      [
        new WatchError("too_slow", "slow", { resume }),
        { code: "resource_exhausted", detail: { case: "watchEnded", value: { seq: 5n, token: tokenAt(5) } } },
      ],
      [
        new WatchError("ended", "over", { resume }),
        { code: "unavailable", detail: { case: "watchEnded", value: { seq: 5n } } },
      ],
      [new StoreError("invalid_token", "no token"), { code: "invalid_argument", message: "no token" }],
    ];
    for (const [error, value] of ends) {
      messages.length = 0;
      // The id is free again.
      await kv.addWatch({ streamId, watch: { watchId: 1n, watch: {} } });
      last(running).give(batch(5)).fail(error);
      await until(() => messages.length === 2);
      expect(messages).toMatchObject([
        { message: { case: "response" } },
        { watchId: 1n, message: { case: "ended", value } },
      ]);
      await kv.removeWatch({ streamId, watchId: 1n });
    }
    expect(running.watches.openCount).toBe(0);
  });

  test("is there for nobody else, whoever guesses its id, and for nobody once it has ended", async () => {
    const tokens = [1, 2].map((byte) => bearerToken(new Uint8Array(32).fill(byte)));
    const entries = tokens.map((token, i) => ({
      name: `caller ${i}`,
      roles: ["reader" as const],
      credential: { kind: "token", sha256: bearerTokenHash(token) } as const,
    }));
    const running = await start({ identities: new Identities(entries, () => 0) });
    const kv = client(running);
    const [secret, another] = tokens.map((token) => ({ authorization: `Bearer ${token}` }));
    const { streamId, leave } = await open(running, {}, { headers: secret! });
    const add = (id: Uint8Array, headers = {}) =>
      kv
        .addWatch({ streamId: new Uint8Array(id), watch: { watchId: 1n, watch: {} } }, { headers })
        .then(() => "added")
        .catch((error: unknown) => Code[ConnectError.from(error).code]);
    expect(await add(streamId, another)).toBe("NotFound");
    expect(await add(streamId)).toBe("Unauthenticated");
    expect(await add(new Uint8Array(16), secret)).toBe("NotFound");
    expect(await add(streamId, secret)).toBe("added");
    expect((await open(running, {}, { headers: another! })).streamId).not.toEqual(streamId);
    leave();
    await until(() => running.watches.openCount === 0);
    expect(await add(streamId, secret)).toBe("NotFound");
    const gone = await kv
      .removeWatch({ streamId, watchId: 1n }, { headers: secret })
      .catch((e: unknown) => ConnectError.from(e));
    expect(gone).toMatchObject({
      code: Code.NotFound,
      rawMessage: expect.stringContaining("open a new one with WatchMany"),
    });
  });

  test("ends all its watches when the node shuts down, which does not wait for it", async () => {
    const running = await start();
    const { ended } = await open(running, {
      watches: [
        { watchId: 1n, watch: {} },
        { watchId: 2n, watch: {} },
      ],
    });
    await running.server.close();
    expect(ConnectError.from(await ended.catch((error: unknown) => error)).code).toBe(Code.Unavailable);
    expect(running.watches.openCount).toBe(0);
  });
});

describe("a caller that does not read", () => {
  const value = bytes("x".repeat(200_000));

  /** Asks over HTTP/1.1 and takes nothing of the answer. */
  function ask(running: TestServer, method: string, message: string): Promise<{ destroy: () => void }> {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    return new Promise((resolve) => {
      const request = httpRequest(
        {
          port: running.port,
          host: "127.0.0.1",
          path: `/cambium.v1.KVStore/${method}`,
          method: "POST",
          headers: { "content-type": "application/connect+json" },
          agent: false,
        },
        (response) => {
          response.pause();
          resolve({ destroy: () => request.destroy() });
        },
      );
      request.on("error", () => undefined);
      request.end(Buffer.concat([head, Buffer.from(message)]));
      cleanups.push(() => request.destroy());
    });
  }

  const many = (): WatchBatch[] => Array.from({ length: 500 }, (_, i) => batch(i + 1, put(i + 1, "k", { value })));

  test.each([
    ["Watch", "{}"],
    ["WatchMany", `{"watches":[{"watchId":"1","watch":{}},{"watchId":"2","watch":{}}]}`],
  ])(
    "of %s is given no more than its connection takes, and does not keep the node from closing",
    async (method, message) => {
      const running = await start();
      giveAll(running.watches, ...many());
      await ask(running, method, message);
      const taken = () => running.watches.opened.reduce((sum, watch) => sum + watch.taken, 0);
      // What the two sockets hold, and no more: it stands still, however long it is waited for.
      let before = -1;
      for (let still = 0; still < 200; still = taken() === before ? still + 1 : 0) {
        before = taken();
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(taken()).toBeLessThan(200);
      await running.server.close();
      expect(running.watches.openCount).toBe(0);
      expect(running.bugs).toEqual([]);
    },
  );
});
