import { connect as connectHttp2 } from "node:http2";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { type ConsumeStreamResponse, Log } from "../../api/gen/cambium/v1/log_pb.js";
import { LimitExceededSchema, OffsetRangeSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { StoreError } from "../store/store.js";
import { callJson, frame, send, startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(): Promise<TestServer> {
  const running = await startTestServer();
  cleanups.push(() => running.server.close());
  return running;
}

function http2Client(url: string): Client<typeof Log> {
  const sessionManager = new Http2SessionManager(url);
  cleanups.push(() => sessionManager.abort());
  return createClient(Log, createConnectTransport({ baseUrl: url, httpVersion: "2", sessionManager }));
}

const bytes = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text));
const text = (record: Uint8Array): string => Buffer.from(record).toString();
const textsOf = (message: ConsumeStreamResponse): string[] => message.records.map(({ record }) => text(record));

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => expect.fail("the call succeeded"),
    (error: unknown) => ConnectError.from(error),
  );
}

/** What a stream gives until it ends. */
async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const messages: T[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

const transports: Record<string, (url: string) => Transport> = {
  "Connect over HTTP/1.1": (url) => createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
  "Connect over HTTP/1.1 as JSON": (url) =>
    createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat: false }),
  "gRPC-web": (url) => createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
  gRPC: (url) => {
    const sessionManager = new Http2SessionManager(url);
    cleanups.push(() => sessionManager.abort());
    return createGrpcTransport({ baseUrl: url, sessionManager });
  },
};

describe.each(Object.entries(transports))("over %s", (_name, transport) => {
  test("what is produced is consumed", async () => {
    const { url } = await start();
    const client = createClient(Log, transport(url));
    expect((await client.produce({ record: bytes("a") })).offset).toBe(0n);
    const produced = await client.produce({ records: [bytes("b"), bytes("c")] });
    expect(produced).toMatchObject({ offset: 1n, position: { epoch: 1n, seq: 11n }, token: new Uint8Array([1, 2, 3]) });
    const consumed = await client.consume({ offset: 2n });
    expect(text(consumed.record)).toBe("c");
    expect(consumed).toMatchObject({ offset: 2n, position: { epoch: 1n, seq: 12n }, timestampMs: 1_700_000_000_002n });
    const messages = await all(client.consumeStream({ stopAtEnd: true }));
    expect(messages.map(textsOf)).toEqual([["a", "b", "c"]]);
    expect(messages[0]).toMatchObject({ start: 0n, end: 3n });
    expect(await client.truncate({ belowOffset: 2n })).toMatchObject({ start: 2n, position: { epoch: 1n } });
    expect(await client.getRange({})).toMatchObject({ start: 2n, end: 3n });
  });
});

describe("produce and consume", () => {
  test("have the forms in JSON that others rely on, and consume works by GET", async () => {
    const { port } = await start();
    const produced = await callJson(port, "cambium.v1.Log/Produce", { record: "AQI=" });
    expect(produced.json).toMatchObject({ offset: "0" });
    const consumed = await callJson(port, "cambium.v1.Log/Consume", { offset: 0 });
    expect(consumed.json).toMatchObject({ offset: "0", record: "AQI=" });
    const message = encodeURIComponent('{"offset":"0"}');
    const got = await send(port, `/cambium.v1.Log/Consume?encoding=json&message=${message}`, { method: "GET" });
    expect(got.status).toBe(200);
    expect(JSON.parse(got.text)).toMatchObject({ record: "AQI=" });
  });

  test("an empty record is a record", async () => {
    const { url, records } = await start();
    const client = http2Client(url);
    await client.produce({});
    expect(records.records).toHaveLength(1);
    expect((await client.consume({ offset: 0n })).record).toEqual(new Uint8Array(0));
  });

  test("a record that is too long is refused with the limit, and both forms at once are", async () => {
    const { url, records } = await start();
    const client = http2Client(url);
    const tooLong = new Uint8Array(1024 * 1024 + 1);
    const refused = await failureOf(client.produce({ records: [bytes("a"), tooLong] }));
    expect(refused.code).toBe(Code.InvalidArgument);
    expect(refused.rawMessage).toMatch(/^records\[1\] has 1048577 bytes, a record may have 1048576/);
    expect(refused.findDetails(LimitExceededSchema)).toMatchObject([{ limit: "limits.max_value_bytes" }]);
    const both = await failureOf(client.produce({ record: bytes("a"), records: [bytes("b")] }));
    expect(both.code).toBe(Code.InvalidArgument);
    const many = await failureOf(client.produce({ records: Array.from({ length: 1025 }, () => bytes("")) }));
    expect(many.rawMessage).toContain("1 to 1024");
    expect(records.records).toEqual([]);
  });

  test("an offset that is not there yet is out of range, with what is there", async () => {
    const { url, records } = await start();
    const client = http2Client(url);
    records.add("a", "b", "c");
    records.start = 1;
    const refused = await failureOf(client.consume({ offset: 3n }));
    expect(refused.code).toBe(Code.OutOfRange);
    expect(refused.findDetails(OffsetRangeSchema)).toMatchObject([{ start: 1n, end: 3n }]);
  });

  test("consume waits for the next record when it is asked to, and no longer than that", async () => {
    const { url, records } = await start();
    const client = http2Client(url);
    const waiting = client.consume({ offset: 0n, waitMs: 60_000 });
    await expect.poll(() => records.waiting).toBe(1);
    records.add("a");
    expect(text((await waiting).record)).toBe("a");
    const late = failureOf(client.consume({ offset: 1n, waitMs: 5 }));
    await expect.poll(() => records.waiting).toBe(1);
    records.wake();
    expect((await late).code).toBe(Code.OutOfRange);
    expect(records.waits).toEqual([60_000, 5]);
    expect((await failureOf(client.consume({ offset: 1n, waitMs: 60_001 }))).code).toBe(Code.InvalidArgument);
  });

  test("an offset beyond what numbers hold is refused", async () => {
    const { url } = await start();
    const refused = await failureOf(http2Client(url).consume({ offset: 2n ** 53n }));
    expect(refused.code).toBe(Code.InvalidArgument);
  });
});

describe("a consumer's stream", () => {
  test("begins at once, follows the end, and says now and then that it is there", async () => {
    const { url, records } = await start();
    const left = new AbortController();
    const stream = http2Client(url).consumeStream({}, { signal: left.signal })[Symbol.asyncIterator]();
    const next = async (): Promise<ConsumeStreamResponse> => {
      const result = await stream.next();
      if (result.done) throw new Error("the stream ended");
      return result.value;
    };
    expect(await next()).toMatchObject({ records: [], start: 0n, end: 0n });
    await expect.poll(() => records.waiting).toBe(1);
    records.add("a");
    expect(textsOf(await next())).toEqual(["a"]);
    await expect.poll(() => records.waiting).toBe(1);
    records.wake();
    expect(textsOf(await next())).toEqual([]);
    expect(records.waits.every((waitMs) => waitMs === 5000)).toBe(true);
    await expect.poll(() => records.waiting).toBe(1);
    left.abort();
    await expect.poll(() => records.waiting).toBe(0);
  });

  test("gives pages that end at their bytes and their number", async () => {
    const { url, records } = await start();
    for (let index = 0; index < 5; index++) records.add("x".repeat(100_000));
    for (let index = 0; index < 1500; index++) records.add("y");
    const messages = await all(http2Client(url).consumeStream({ stopAtEnd: true }));
    expect(messages.map((message) => message.records.length)).toEqual([2, 2, 1000, 501]);
    expect(messages.flatMap((message) => message.records.map(({ offset }) => Number(offset)))).toEqual(
      Array.from({ length: 1505 }, (_, index) => index),
    );
  });

  test("ends after the limit, or at the end of the time, whichever comes first", async () => {
    const { url, records } = await start();
    const client = http2Client(url);
    records.add("a", "b", "c");
    expect((await all(client.consumeStream({ offset: 1n, limit: 1n }))).map(textsOf)).toEqual([["b"]]);
    expect((await all(client.consumeStream({ limit: 3n }))).map(textsOf)).toEqual([["a", "b", "c"]]);
    expect((await all(client.consumeStream({ limit: 9n, stopAtEnd: true }))).map(textsOf)).toEqual([["a", "b", "c"]]);
    expect((await all(client.consumeStream({ offset: 3n, stopAtEnd: true }))).map(textsOf)).toEqual([[]]);
  });

  test("begins with the lowest offset that there is, unless it is asked for another", async () => {
    const { url, records } = await start();
    records.add("a", "b", "c");
    records.start = 2;
    expect((await all(http2Client(url).consumeStream({ stopAtEnd: true }))).map(textsOf)).toEqual([["c"]]);
  });

  test("does not read ahead of a caller that takes nothing, and ends when that one leaves", async () => {
    const { port, records } = await start();
    for (let index = 0; index < 100; index++) records.add("x".repeat(200_000));
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    cleanups.push(() => session.destroy());
    const stream = session.request({
      ":method": "POST",
      ":path": "/cambium.v1.Log/ConsumeStream",
      "content-type": "application/connect+proto",
    });
    stream.on("error", () => undefined);
    stream.end(frame(new Uint8Array(0)));
    // The head has come, and nothing of the body is read: the window of the connection, 64 KiB, holds no page.
    await new Promise((resolve) => stream.once("response", resolve));
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    const { consumed } = records;
    expect(consumed).toBeLessThan(5);
    session.destroy();
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(records.consumed).toBe(consumed);
    expect(records.waiting).toBe(0);
  });

  test("ends when the node shuts down", async () => {
    const { url, server, records } = await start();
    const ended = failureOf(all(http2Client(url).consumeStream({})));
    await expect.poll(() => records.waiting).toBe(1);
    await server.close();
    expect((await ended).code).toBe(Code.Unavailable);
  });
});

describe("a producer's stream", () => {
  test("is answered with offsets in order, many under way at once", async () => {
    const { url, records } = await start();
    let open = (): void => undefined;
    records.gate = new Promise((resolve) => (open = resolve));
    async function* requests(): AsyncGenerator<{ record: Uint8Array<ArrayBuffer> }> {
      for (let index = 0; index < 20; index++) yield { record: bytes(`record ${index}`) };
    }
    const answers = all(http2Client(url).produceStream(requests()));
    await expect.poll(() => records.produced).toBe(20);
    open();
    expect((await answers).map(({ offset }) => Number(offset))).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(records.records.map(({ record }) => text(record))[19]).toBe("record 19");
  });

  test("takes no more than so much before it has answered", async () => {
    const { url, records } = await start();
    let open = (): void => undefined;
    records.gate = new Promise((resolve) => (open = resolve));
    const record = new Uint8Array(1024 * 1024);
    async function* requests(): AsyncGenerator<{ record: Uint8Array<ArrayBuffer> }> {
      for (let index = 0; index < 12; index++) yield { record };
    }
    const answers = all(http2Client(url).produceStream(requests()));
    await expect.poll(() => records.produced).toBe(4);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(records.produced).toBe(4);
    open();
    expect(await answers).toHaveLength(12);
  });

  test("ends with the first failure, and begins nothing after it", async () => {
    const { url, records } = await start();
    const client = http2Client(url);
    const got: number[] = [];
    async function* requests(): AsyncGenerator<{ record: Uint8Array<ArrayBuffer> }> {
      yield { record: bytes("a") };
      await expect.poll(() => got).toEqual([0]);
      records.failure = new StoreError("overloaded", "too much at once");
      yield { record: bytes("b") };
      await new Promise(() => undefined);
    }
    const failed = failureOf(
      (async () => {
        for await (const { offset } of client.produceStream(requests())) got.push(Number(offset));
      })(),
    );
    expect((await failed).code).toBe(Code.ResourceExhausted);
    expect(records.records).toHaveLength(1);
  });

  test("with a record that is too long ends with the limit", async () => {
    const { url } = await start();
    async function* requests(): AsyncGenerator<{ record: Uint8Array<ArrayBuffer> }> {
      yield { record: new Uint8Array(1024 * 1024 + 1) };
    }
    const failed = await failureOf(all(http2Client(url).produceStream(requests())));
    expect(failed.findDetails(LimitExceededSchema)).toMatchObject([{ actual: 1048577n }]);
  });

  test("answers what is under way when the node shuts down, and then ends", async () => {
    const { url, server, records } = await start();
    let open = (): void => undefined;
    records.gate = new Promise((resolve) => (open = resolve));
    const got: number[] = [];
    async function* requests(): AsyncGenerator<{ record: Uint8Array<ArrayBuffer> }> {
      yield { record: bytes("a") };
      await new Promise(() => undefined);
    }
    const failed = failureOf(
      (async () => {
        for await (const { offset } of http2Client(url).produceStream(requests())) got.push(Number(offset));
      })(),
    );
    await expect.poll(() => records.produced).toBe(1);
    const closed = server.close();
    open();
    expect((await failed).code).toBe(Code.Unavailable);
    expect(got).toEqual([0]);
    await closed;
  });
});
