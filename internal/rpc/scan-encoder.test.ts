/** Pages of a scan in binary and in JSON, small and large, as a caller of each protocol has them. */
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { seq } from "../base/position.js";
import { startTestServer, type TestServer } from "./testing/test-server.js";

let running: TestServer;
beforeEach(async () => {
  running = await startTestServer();
});
afterEach(() => running.server.close());

const forms = [
  ["binary", { useBinaryFormat: true }],
  ["JSON", { useBinaryFormat: false }],
] as const;

describe.each(forms)("in %s", (_name, form) => {
  test.each([0, 1, 500, 501, 1700])("a page of %i entries has them all, in order and exactly", async (count) => {
    const keys = Array.from({ length: count }, (_, i) => `ä"${String(i).padStart(5, "0")}`);
    const value = new Uint8Array(1100).fill(7);
    for (const [i, key] of keys.entries()) {
      running.store.entries.set(Buffer.from(key).toString("hex"), { value, createSeq: seq(i + 1), modSeq: seq(i + 2) });
    }
    const transport = createConnectTransport({ baseUrl: running.url, httpVersion: "2", ...form });
    const expected = keys.map((key, i) => [key, BigInt(i + 1), BigInt(i + 2), 1100n, 1100, 7]);
    const kv = createClient(KVStore, transport);
    const { entries, position } = await kv.scan({ limit: 10_000 });
    const read = entries.map((e) => [e.key, e.createSeq, e.modSeq, e.valueBytes, e.value.length, e.value[1099]]);
    expect(read).toEqual(expected);
    expect(position).toMatchObject({ epoch: 1n });
    const grpc = createClient(KVStore, createGrpcTransport({ baseUrl: running.url, ...form }));
    const streamed: string[] = [];
    for await (const { page } of grpc.scanStream({ scan: { keysOnly: true, maxBytes: 4_000_000 } })) {
      streamed.push(...page!.entries.map(({ key }) => key));
    }
    expect(streamed).toEqual(keys);
    // Of a stream the number of all entries is kept to, whatever form its pages have.
    const some: string[] = [];
    for await (const { page } of grpc.scanStream({ scan: { limit: 1200, maxBytes: 4_000_000, keysOnly: true } })) {
      some.push(...page!.entries.map(({ key }) => key));
    }
    expect(some).toEqual(keys.slice(0, 1200));
    expect(running.errors).toEqual([]);
  });
});
