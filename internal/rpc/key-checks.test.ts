/** Somebody who may use the keys below one prefix, at every method that is about keys, wherever in a request they stand. */
import { type DescMethodServerStreaming, type DescMethodUnary, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cluster } from "../../api/gen/cambium/v1/cluster_pb.js";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { bearerToken, bearerTokenHash } from "../identity/bearer-token.js";
import { Identities } from "../identity/identities.js";
import { StoreError } from "../store/store.js";
import { methodName } from "./method-name.js";
import { startTestServer, type TestServer } from "./testing/test-server.js";

const token = bearerToken(new Uint8Array(32).fill(1));
const watch = (of: JsonValue): JsonValue => ({ watchId: "1", watch: of });

interface Requests {
  readonly method: DescMethodUnary | DescMethodServerStreaming;
  readonly within: readonly JsonValue[];
  readonly outside: readonly JsonValue[];
}

/** Whatever asks for a part of the keys by a prefix or a range. */
const ranges = {
  within: [{ prefix: "web/" }, { prefix: "web/a" }, { start: "web/a", end: "web/b" }, { start: "web/a", end: "web0" }],
  outside: [
    {},
    { prefix: "web" },
    { prefix: "other/" },
    { start: "web/a" },
    { start: "web/a", end: "web1" },
    { start: "a", end: "web/b" },
    { end: "web/b" },
  ],
} as const;
const single = { within: [{ key: "web/a" }], outside: [{ key: "web" }, { key: "other" }, { key: "WEB/a" }] } as const;
const operations = (key: string): JsonValue[] => [
  { set: { key } },
  { delete: { key } },
  { touch: { key } },
  { increment: { key } },
];
const inside = operations("web/a");

const { method: kv } = KVStore;
const all: readonly Requests[] = [
  { method: kv.get, ...single },
  { method: kv.set, ...single },
  { method: kv.delete, ...single },
  { method: kv.touch, ...single },
  { method: kv.increment, ...single },
  {
    method: kv.batchGet,
    within: [{ keys: ["web/a", "web/b"] }],
    outside: [{ keys: ["web/a", "other"] }, { keys: ["other", "web/a"] }],
  },
  { method: kv.scan, ...ranges },
  { method: kv.deleteRange, within: ranges.within, outside: [...ranges.outside.slice(1), { all: true }] },
  {
    method: kv.scanStream,
    within: ranges.within.map((scan) => ({ scan })),
    outside: ranges.outside.map((scan) => ({ scan })),
  },
  { method: kv.getUpdates, within: ranges.within, outside: ranges.outside },
  {
    method: kv.watch,
    within: [...ranges.within, ...single.within],
    outside: [...ranges.outside, ...single.outside],
  },
  {
    method: kv.watchMany,
    within: [{ watches: ranges.within.map((of) => watch(of)) }],
    outside: [...ranges.outside, ...single.outside].map((of) => ({ watches: [watch({ key: "web/a" }), watch(of)] })),
  },
  {
    method: kv.addWatch,
    within: ranges.within.map((of) => ({ watch: watch(of) })),
    outside: [...ranges.outside, ...single.outside].map((of) => ({ watch: watch(of) })),
  },
  {
    method: kv.write,
    within: [{ operations: inside }],
    outside: operations("other").map((operation) => ({ operations: [...inside, operation] })),
  },
  {
    method: kv.txn,
    within: [{ compares: [{ key: "web/a", exists: true }], then: inside, else: [{ get: { key: "web/a" } }] }],
    outside: [
      {
        compares: [
          { key: "web/a", exists: true },
          { key: "other", exists: true },
        ],
        then: inside,
      },
      ...[...operations("other"), { get: { key: "other" } }].flatMap((operation) => [
        { then: [...inside, operation] },
        { then: inside, else: [operation] },
      ]),
    ],
  },
  // They are about all there is.
  ...[Log.method.produce, Log.method.consume, Log.method.consumeStream, Log.method.truncate, Log.method.getRange].map(
    (method): Requests => ({ method, within: [], outside: [{}] }),
  ),
];

let running: TestServer;
let transport: Transport;

beforeAll(async () => {
  const credential = { kind: "token", sha256: bearerTokenHash(token) } as const;
  const web = { name: "web", roles: ["reader", "writer"], prefixes: ["web/"], credential } as const;
  running = await startTestServer({ identities: new Identities([web], () => 0) });
  transport = createGrpcTransport({ baseUrl: running.url });
  // Or they would go on, and say nothing until something happens.
  running.watches.onOpen = (opened) => opened.fail(new StoreError("closing", "the node shuts down"));
});
afterAll(async () => {
  await running.server.close();
  expect(running.bugs).toEqual([]);
});

/** How a call ends, or that it has begun to answer. */
async function codeOf(method: Requests["method"], json: JsonValue): Promise<Code | "ok"> {
  const message = fromJson(method.input, json);
  const headers = { authorization: `Bearer ${token}` };
  const leaving = new AbortController();
  try {
    if (method.methodKind === "unary") await transport.unary(method, leaving.signal, undefined, headers, message);
    else {
      const messages = (async function* () {
        yield message;
      })();
      const answer = await transport.stream(method, leaving.signal, undefined, headers, messages);
      await answer.message[Symbol.asyncIterator]().next();
    }
    return "ok";
  } catch (error) {
    return ConnectError.from(error).code;
  } finally {
    leaving.abort();
  }
}

test("every method that is about keys is among them", () => {
  const known = [...KVStore.methods, ...Log.methods].map(methodName);
  // The first takes away what AddWatch gave; the second is a stream both ways, and is about all records, as Produce is; of a batch each
  // operation is judged for itself (`batch.test.ts`).
  const left = new Set([kv.removeWatch, Log.method.produceStream, kv.batch].map(methodName));
  expect(all.map(({ method }) => methodName(method)).toSorted()).toEqual(
    known.filter((name) => !left.has(name)).toSorted(),
  );
});

describe("a caller with a prefix", () => {
  test.each(all.map((requests) => [methodName(requests.method), requests] as const))(
    "is held to it by %s",
    async (_name, { method, within, outside }) => {
      for (const json of within)
        expect(await codeOf(method, json), JSON.stringify(json)).not.toBe(Code.PermissionDenied);
      const before = [running.store.writes.length, running.records.records.length];
      for (const json of outside) expect(await codeOf(method, json), JSON.stringify(json)).toBe(Code.PermissionDenied);
      expect([running.store.writes.length, running.records.records.length]).toEqual(before);
    },
  );

  test("sees no key of others in the log of slow calls, and takes no backup", async () => {
    for (const method of [Cluster.method.slowLog, Cluster.method.backup]) {
      expect(await codeOf(method, {})).toBe(Code.PermissionDenied);
    }
  });
});
