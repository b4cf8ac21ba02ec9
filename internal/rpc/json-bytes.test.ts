import { create, fromJsonString, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { GetUpdatesResponseSchema, KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { JsonBytes } from "./json-bytes.js";
import { send, startTestServer, type TestServer } from "./testing/test-server.js";

const decoder = new TextDecoder();

describe("bytes in JSON", () => {
  test("are the same text as the library makes, whatever they are, and however many", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.uint8Array({ minLength: 1020, maxLength: 1030 }),
      fc.uint8Array({ minLength: 5000, maxLength: 6000 }),
    );
    fc.assert(
      fc.property(
        fc.array(fc.record({ key: fc.string(), value: bytes }), { maxLength: 8 }),
        bytes,
        (events, nextToken) => {
          const init = { events, nextToken: new Uint8Array(nextToken) };
          const expected = toJsonString(GetUpdatesResponseSchema, create(GetUpdatesResponseSchema, init as never));
          const jsonBytes = new JsonBytes();
          const message = create(GetUpdatesResponseSchema, init as never);
          jsonBytes.prepare(message);
          const text = decoder.decode(jsonBytes.encode(toJsonString(GetUpdatesResponseSchema, message)));
          expect(text).toBe(expected);
          expect(fromJsonString(GetUpdatesResponseSchema, text).nextToken).toEqual(new Uint8Array(nextToken));
        },
      ),
    );
  });

  test("that never became a text are forgotten, and a text that comes too late is no answer", async () => {
    const jsonBytes = new JsonBytes();
    const message = create(GetUpdatesResponseSchema, { nextToken: new Uint8Array(2000) });
    jsonBytes.prepare(message);
    const text = toJsonString(GetUpdatesResponseSchema, message);
    await new Promise((resolve) => setImmediate(resolve));
    jsonBytes.prepare(create(GetUpdatesResponseSchema, { nextToken: new Uint8Array(2000) }));
    expect(() => jsonBytes.encode(text)).toThrow(/stands for something/);
  });
});

describe("a large value", () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });
  const value = Uint8Array.from({ length: 1024 * 1024 - 1 }, (_, n) => (n * n) % 251);

  async function start(): Promise<TestServer> {
    const running = await startTestServer();
    cleanups.push(() => running.server.close());
    const client = createClient(KVStore, createConnectTransport({ baseUrl: running.url, httpVersion: "1.1" }));
    await client.set({ key: "k", value });
    return running;
  }

  test.each([
    ["JSON by POST", "POST", "/cambium.v1.KVStore/Get", "application/json", '{"key":"k"}'],
    [
      "JSON by GET",
      "GET",
      `/cambium.v1.KVStore/Get?encoding=json&message=${encodeURIComponent('{"key":"k"}')}`,
      "",
      "",
    ],
  ])("comes whole as %s", async (_name, method, path, type, body) => {
    const { port } = await start();
    const headers: Record<string, string> = type === "" ? {} : { "content-type": type };
    const { text } = await send(port, path, { method, headers, ...(body !== "" && { body }) });
    const answer = JSON.parse(text) as { value: string };
    expect(Buffer.from(answer.value, "base64").equals(value)).toBe(true);
  });

  test.each([
    ["binary", false],
    ["JSON", true],
  ])("comes whole to several callers at once, as %s, and in a batch", async (_name, isJson) => {
    const { url } = await start();
    const transport = createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat: !isJson });
    const client = createClient(KVStore, transport);
    const answers = await Promise.all([1, 2, 3].map(() => client.batchGet({ keys: ["k", "absent", "k"] })));
    for (const { entries } of answers) {
      expect(entries.map(({ exists }) => exists)).toEqual([true, false, true]);
      for (const n of [0, 2]) expect(Buffer.from(entries[n]?.value ?? []).equals(value)).toBe(true);
    }
  });

  test("comes whole as binary by a GET that only mentions JSON", async () => {
    const { port } = await start();
    const query = "encoding=proto&base64=1&message=CgFr&encoding=json";
    const { body } = await send(port, `/cambium.v1.KVStore/Get?${query}`, { method: "GET" });
    expect(body.includes(Buffer.from(value))).toBe(true);
  });
});
