/** KVStore.Batch as callers see it, over a store that does what the test says: what one call of its own gets, each operation gets. */
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createConnectTransport } from "@connectrpc/connect-node";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import { describe, expect, onTestFinished, test } from "vitest";
import { type BatchOperationSchema, type BatchResult, KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Acknowledge, NotFreshEnoughSchema, OutcomeUnknownSchema } from "../../api/gen/cambium/v1/types_pb.js";
import { FakeClock } from "../base/clock.js";
import { epochMs, seq } from "../base/position.js";
import { bearerToken, bearerTokenHash } from "../identity/bearer-token.js";
import { Identities } from "../identity/identities.js";
import type { Role } from "../identity/role.js";
import { StoreError } from "../store/store.js";
import { callJson, send, startTestServer, type TestServer } from "./testing/test-server.js";

type Operation = MessageInitShape<typeof BatchOperationSchema>;

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const started = await startTestServer(options);
  onTestFinished(async () => {
    await started.server.close();
    expect(started.bugs).toEqual([]);
  });
  return started;
}

const clientOf = ({ url }: { readonly url: string }, authorization?: string): Client<typeof KVStore> =>
  createClient(
    KVStore,
    createConnectTransport({
      baseUrl: url,
      httpVersion: "1.1",
      interceptors: [
        (next) => (request) => {
          if (authorization !== undefined) request.header.set("authorization", authorization);
          return next(request);
        },
      ],
    }),
  );

const bytes = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text));
const get = (key: string, more = {}): Operation => ({ operation: { case: "get", value: { key, ...more } } });
const set = (key: string, value = "v", more = {}): Operation => ({
  operation: { case: "set", value: { key, value: bytes(value), ...more } },
});
const remove = (key: string, more = {}): Operation => ({ operation: { case: "delete", value: { key, ...more } } });
const touch = (key: string, more = {}): Operation => ({ operation: { case: "touch", value: { key, ...more } } });
const increment = (key: string, more = {}): Operation => ({
  operation: { case: "increment", value: { key, ...more } },
});

/** An answer, or the error as code, message and details. */
type Told = { readonly answer: unknown } | { readonly error: unknown };

const errorOf = (error: ConnectError): Told => ({
  error: {
    code: error.code,
    message: error.rawMessage,
    details: error.details.map((detail) => "type" in detail && { type: detail.type, value: Array.from(detail.value) }),
  },
});

function told({ result }: BatchResult): Told {
  if (result.case !== "error") return { answer: result.value };
  const { code, message, details } = result.value;
  const shown = details.map(({ type, value }) => ({ type, value: Array.from(value) }));
  return { error: { code: codeFromString(code), message, details: shown } };
}

/** For comparison: the library gives some bytes as Buffers. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

/** The same operation by a call of its own. */
async function alone(kv: Client<typeof KVStore>, { operation }: Operation): Promise<Told> {
  try {
    switch (operation?.case) {
      case "get":
        return { answer: await kv.get(operation.value) };
      case "set":
        return { answer: await kv.set(operation.value) };
      case "delete":
        return { answer: await kv.delete(operation.value) };
      case "touch":
        return { answer: await kv.touch(operation.value) };
      case "increment":
        return { answer: await kv.increment(operation.value) };
      default:
        throw new Error("an empty operation has no call");
    }
  } catch (error) {
    return errorOf(ConnectError.from(error));
  }
}

const cases = ({ results }: { readonly results: readonly BatchResult[] }): unknown[] =>
  results.map(({ result }) => (result.case === "error" ? result.value.code : result.case));

describe("a batch", () => {
  test("answers each operation as a call of its own is answered, in the order of the request", async () => {
    const operations = [
      set("k", "one"),
      get("k", { consistency: { linearizable: false } }),
      get("absent"),
      remove("k"),
      remove("k"),
      touch("k", { ttlMs: 5n }),
      increment("n", { delta: -3n }),
    ];
    const [one, other] = [await start(), await start()];
    for (const { store } of [one, other]) {
      store.entries.set("6b", { value: bytes("zero"), createSeq: seq(1), modSeq: seq(1) });
    }
    const { results } = await clientOf(one).batch({ operations });
    const singles = [];
    for (const operation of operations) singles.push(await alone(clientOf(other), operation));
    // Of answers that came one after the other the positions are others; and the get of the batch sees what was there before it.
    const comparable = (all: readonly Told[]): unknown[] =>
      all
        .map((each) => ("answer" in each ? { ...(each.answer as object), position: 0 } : each))
        .filter((_, index) => index !== 1);
    expect(told(results[1]!)).toMatchObject({ answer: { exists: true, value: bytes("zero") } });
    expect(comparable(results.map(told))).toEqual(comparable(singles));
    expect(one.store.writes).toEqual(other.store.writes);
    expect(one.store.writeOptions.length).toBe(5);
  });

  test("gives each operation the error that a call of its own gets, and lets the others go on", async () => {
    const { port, ...running } = await start({ limits: { keyBytesMax: 8, valueBytesMax: 4, messageBytesMax: 4096 } });
    const kv = clientOf(running);
    const operations = [
      get(""),
      get("123456789"),
      set("k", "12345"),
      set("k", "1", { ifAbsent: true, ifSeq: 4n }),
      set("k", "1", { clientId: "c" }),
      set("k", "1", { acknowledge: 9 as Acknowledge }),
      touch("k", { ttlMs: 2n ** 63n }),
      touch("k", { ifSeq: 0n }),
      increment("k", { min: 5n, max: 4n }),
      get("k", { consistency: { atLeastSeq: 2n ** 63n } }),
      get("k"),
      remove("k"),
    ];
    const { results } = await kv.batch({ operations });
    const singles = [];
    for (const operation of operations) singles.push(await alone(kv, operation));
    expect(results.map(told).slice(0, 10)).toEqual(singles.slice(0, 10));
    expect(cases({ results })).toEqual([...Array.from({ length: 10 }, () => "invalid_argument"), "get", "delete"]);
    const { json } = await callJson(port, "cambium.v1.KVStore/Batch", {
      operations: [{ get: { key: "123456789" } }, { get: { key: "k" } }],
    });
    expect(json).toMatchObject({
      results: [
        { error: { code: "invalid_argument", details: [{ type: "cambium.v1.LimitExceeded" }] } },
        { get: { position: { seq: expect.any(String) } } },
      ],
    });
  });

  test("gives the store's refusals with their details, as calls of their own get them", async () => {
    const running = await start();
    const kv = clientOf(running);
    const key = bytes("k");
    const refusals: [Operation, StoreError][] = [
      [
        set("k"),
        new StoreError("condition_failed", "why", {
          failedCondition: { key, exists: true, modSeq: seq(2), operation: 0 },
        }),
      ],
      [increment("k"), new StoreError("not_an_integer", "why", { counter: { key, operation: 0 } })],
      [
        increment("k"),
        new StoreError("out_of_bounds", "why", { counter: { key, operation: 0, value: 1n, min: 0n, max: 1n } }),
      ],
      [remove("k"), new StoreError("retry_too_old", "why", { oldestClientSeq: 3 })],
      [touch("k"), new StoreError("outcome_unknown", "why")],
      [set("k"), new StoreError("storage_full", "why")],
      [set("k"), new StoreError("overloaded", "why")],
      [set("k"), new StoreError("not_master", "why")],
      [get("k"), new StoreError("lineage_lost", "why")],
    ];
    for (const [operation, failure] of refusals) {
      running.store.failure = failure;
      const { results } = await kv.batch({ operations: [operation, get("")] });
      expect(told(results[0]!)).toEqual(await alone(kv, operation));
      expect(told(results[0]!)).toHaveProperty("error");
      expect(cases({ results })[1]).toBe("invalid_argument");
    }
  });

  test("writes in its own order, without waiting for one write before the next", async () => {
    const running = await start();
    let open = (): void => undefined;
    running.store.gate = new Promise((resolve) => (open = resolve));
    const operations = [set("a", "1"), remove("b"), set("a", "2"), increment("c"), touch("a")];
    const answer = clientOf(running).batch({ operations });
    while (running.store.writing < operations.length) await new Promise((resolve) => setImmediate(resolve));
    expect(running.store.writes.map(([command]) => command?.kind)).toEqual([
      "set",
      "delete",
      "set",
      "increment",
      "touch",
    ]);
    open();
    const { results } = await answer;
    const seqs = results.map(({ result }) =>
      result.case === "error" || result.case === undefined || result.case === "leftOut"
        ? 0n
        : result.value.position?.seq,
    );
    expect(seqs).toEqual(seqs.toSorted((a, b) => Number(a! - b!)));
  });

  test("carries out each write under its own number, and answers it when it is wanted", async () => {
    const running = await start();
    const operations = [
      set("a", "1", { clientId: "c", clientSeq: 7n, acknowledge: Acknowledge.MASTER }),
      remove("a", { clientId: "c", clientSeq: 8n }),
      increment("n"),
    ];
    await clientOf(running).batch({ operations });
    expect(running.store.writeOptions).toMatchObject([
      { retry: { clientId: "c", clientSeq: 7 }, acknowledge: "kept" },
      { retry: { clientId: "c", clientSeq: 8 }, acknowledge: "committed" },
      { acknowledge: "committed" },
    ]);
    expect(running.store.writeOptions[2]?.retry).toBeUndefined();
  });

  test("of no operations, of too many, or with an empty one, is refused, the empty one alone", async () => {
    const running = await start();
    const kv = clientOf(running);
    for (const count of [0, 1025]) {
      const call = kv.batch({ operations: Array.from({ length: count }, () => set("k")) });
      await expect(call).rejects.toMatchObject({
        code: Code.InvalidArgument,
        rawMessage: `operations has ${count} entries; 1 to 1024 are possible`,
      });
    }
    expect(running.store.writes).toEqual([]);
    const { results } = await kv.batch({ operations: [set("k"), {}, get("k")] });
    expect(cases({ results })).toEqual(["set", "invalid_argument", "get"]);
    expect(told(results[1]!)).toMatchObject({ error: { message: expect.stringContaining("operations[1] is empty") } });
    expect(cases(await kv.batch({ operations: Array.from({ length: 1024 }, () => get("k")) }))).toHaveLength(1024);
  });
});

describe("reads of which none waits", () => {
  test.each([0, 12.3, undefined])(
    "are answered as calls of their own, in binary and in JSON, at a staleness of %s",
    async (staleness) => {
      const running = await start();
      running.replicator.staleness = staleness;
      const { store } = running;
      const value = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length).fill(7);
      const put = (
        name: string,
        entry: Omit<Parameters<typeof store.entries.set>[1], "createSeq" | "modSeq">,
      ): void => {
        const seqs = { createSeq: seq(3), modSeq: seq(2 ** 45) };
        store.entries.set(Buffer.from(name).toString("hex"), { ...entry, ...seqs });
      };
      put("empty", { value: value(0) });
      put("some", { value: value(100) });
      put("ending", { value: value(1), expiresAtMs: epochMs(store.nowMs + 70) });
      put("overdue", { value: value(1), expiresAtMs: epochMs(store.nowMs - 70) });
      put("sizeable", { value: value(60_000) });
      const keys = ["empty", "some", "absent", "ending", "overdue", "sizeable", "some"];
      const consistency = { atLeast: new Uint8Array([1]) };
      const kv = clientOf(running);
      for (const more of [{}, { consistency }]) {
        const operations = keys.map((key) => get(key, more));
        const { results } = await kv.batch({ operations, noWaiting: true });
        const waiting = await kv.batch({ operations });
        const singles = await Promise.all(operations.map((operation) => alone(kv, operation)));
        expect(plain(results.map(told))).toEqual(plain(singles));
        expect(plain(waiting.results.map(told))).toEqual(plain(singles));
      }
      const byJson = await callJson(running.port, "cambium.v1.KVStore/Batch", {
        operations: keys.map((key) => ({ get: { key } })),
        noWaiting: true,
      });
      const { results } = byJson.json as { results: { get: unknown }[] };
      for (const [index, key] of keys.entries()) {
        const { json } = await callJson(running.port, "cambium.v1.KVStore/Get", { key });
        expect(results[index]?.get).toEqual(json);
      }
    },
  );

  test("that ask for different places are judged each for itself", async () => {
    const running = await start();
    const at = (...token: number[]) => ({ consistency: { atLeast: new Uint8Array(token) } });
    const operations = [
      get("k", at(1)),
      get("k", at(9)),
      get("k", at(1)),
      get("k", at(9)),
      get("k", { consistency: { atLeast: new Uint8Array([1]), linearizable: true } }),
      get("k", { consistency: { atLeast: new Uint8Array([1]), maxStalenessMs: 5n } }),
    ];
    const { results } = await clientOf(running).batch({ operations, noWaiting: true });
    expect(cases({ results })).toEqual(["get", "leftOut", "get", "leftOut", "leftOut", "get"]);
    expect(running.replicator.confirmations.count).toBe(0);
  });

  test("and whose values are large are left out", async () => {
    const running = await start();
    running.store.entries.set("6b", { value: new Uint8Array(100_000), createSeq: seq(1), modSeq: seq(1) });
    const operations = [get("k"), get("absent")];
    expect(cases(await clientOf(running).batch({ operations, noWaiting: true }))).toEqual(["leftOut", "get"]);
    expect(cases(await clientOf(running).batch({ operations }))).toEqual(["get", "get"]);
  });
});

describe("what does not fit into the answer of a batch", () => {
  test("is left out, and what fits is not", async () => {
    const running = await start();
    const put = (name: string, length: number): void => {
      const key = Buffer.from(name).toString("hex");
      running.store.entries.set(key, { value: new Uint8Array(length), createSeq: seq(1), modSeq: seq(1) });
    };
    put("large", 5000);
    put("small", 300);
    const operations = [get("small"), get("large"), get("small"), set("k"), get("absent")];
    const kv = clientOf(running);
    expect(cases(await kv.batch({ operations, maxBytes: 4000 }))).toEqual(["get", "leftOut", "get", "set", "get"]);
    expect(cases(await kv.batch({ operations }))).toEqual(["get", "get", "get", "set", "get"]);
    expect(cases(await kv.batch({ operations: [get("large")], maxBytes: 1 }))).toEqual(["leftOut"]);
  });

  test("is not read without end", async () => {
    const running = await start();
    running.store.entries.set("6b", { value: new Uint8Array(50_000), createSeq: seq(1), modSeq: seq(1) });
    let reads = 0;
    const original = running.store.get.bind(running.store);
    running.store.get = (key) => {
      reads++;
      return original(key);
    };
    const operations = Array.from({ length: 1024 }, () => get("k"));
    const { results } = await clientOf(running).batch({ operations, maxBytes: 200_000 });
    expect(cases({ results }).filter((kind) => kind === "get")).toHaveLength(3);
    // A message's worth is read in vain at most; each read looks twice.
    expect(reads).toBeLessThan(2 * (3 + 90));
  });

  test("is no write that has been done, and none goes before one that was left out", async () => {
    const running = await start({ limits: { keyBytesMax: 64, valueBytesMax: 1000, messageBytesMax: 100_000 } });
    const wantPrevious = { wantPrevious: true };
    const operations = [set("a"), set("b", "v", wantPrevious), remove("c", wantPrevious), set("d"), get("a")];
    const { results } = await clientOf(running).batch({ operations, maxBytes: 2000 });
    expect(cases({ results })).toEqual(["set", "set", "leftOut", "leftOut", "get"]);
    expect(running.store.writes).toHaveLength(2);
  });

  test("of values is never more than a message, whatever is asked for", async () => {
    const running = await start({ limits: { keyBytesMax: 64, valueBytesMax: 50_000, messageBytesMax: 100_000 } });
    running.store.entries.set("6b", { value: new Uint8Array(40_000), createSeq: seq(1), modSeq: seq(1) });
    const operations = [get("k"), get("k"), get("k")];
    const kv = clientOf(running);
    expect(cases(await kv.batch({ operations, maxBytes: 4_000_000_000 }))).toEqual(["get", "get", "leftOut"]);
  });
});

describe("a read that waits", () => {
  const late = { consistency: { atLeast: new Uint8Array([9]) } };

  test("is left out where none is to hold up the others, and waits for nothing then", async () => {
    const running = await start();
    const { results } = await clientOf(running).batch({
      operations: [get("k", late), get("k"), set("k")],
      noWaiting: true,
    });
    expect(cases({ results })).toEqual(["leftOut", "get", "set"]);
    expect(running.store.reads.count).toBe(0);
  });

  test("ends at its own time, with the error that a call of its own ends with", async () => {
    const clock = new FakeClock();
    const running = await start({ clock });
    const answer = clientOf(running).batch({ operations: [{ ...get("k", late), timeoutMs: 40 }, get("k")] });
    while (running.store.reads.count === 0) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(40);
    const { results } = await answer;
    expect(cases({ results })).toEqual(["deadline_exceeded", "get"]);
    const single = clientOf(running).get({ key: "k", ...late }, { headers: { "connect-timeout-ms": "5" } });
    const error = ConnectError.from(await single.catch((reason: unknown) => reason));
    expect(error.findDetails(NotFreshEnoughSchema)).toHaveLength(1);
    expect(told(results[0]!)).toEqual(errorOf(error));
  });

  test("is not ended by a time that is longer than that of the batch", async () => {
    const running = await start();
    const operations = [{ ...get("k", late), timeoutMs: 4_000_000_000 }];
    const { results } = await clientOf(running).batch({ operations }, { headers: { "connect-timeout-ms": "20" } });
    expect(cases({ results })).toEqual(["deadline_exceeded"]);
  });

  test("lets a write whose time is over say that its outcome is not known", async () => {
    const running = await start();
    running.store.failure = new StoreError("outcome_unknown", "too late");
    const { results } = await clientOf(running).batch({ operations: [{ ...set("k"), timeoutMs: 500 }] });
    expect(told(results[0]!)).toMatchObject({ error: { details: [{ type: OutcomeUnknownSchema.typeName }] } });
    expect(running.store.writeOptions[0]?.timeoutMs).toBeLessThan(500);
  });
});

describe("the rights in a batch", () => {
  const token = (name: string): string => bearerToken(new Uint8Array(32).fill(name.length));
  const identity = (name: string, role: Role, prefixes?: readonly string[]) => ({
    name,
    roles: [role],
    credential: { kind: "token", sha256: bearerTokenHash(token(name)) } as const,
    ...(prefixes && { prefixes }),
  });
  const identities = new Identities(
    [identity("reading", "reader"), identity("web", "writer", ["web/"]), identity("everything", "writer")],
    () => 0,
  );

  test("are those of each operation's own method and key, and what one lacks is refused to it alone", async () => {
    const running = await start({ identities });
    const operations = [get("web/a"), set("web/a"), get("other"), increment("web/n"), set("other")];
    const outcomes = async (name: string): Promise<unknown> =>
      cases(await clientOf(running, `Bearer ${token(name)}`).batch({ operations }));
    const no = "permission_denied";
    expect(await outcomes("reading")).toEqual(["get", no, "get", no, no]);
    expect(await outcomes("web")).toEqual(["get", "set", no, "increment", no]);
    expect(await outcomes("everything")).toEqual(["get", "set", "get", "increment", "set"]);
    expect(running.store.writes).toHaveLength(5);
  });

  test("are told as to calls of their own", async () => {
    const running = await start({ identities });
    for (const [name, operation] of [
      ["reading", set("k")],
      ["web", get("k")],
    ] as const) {
      const kv = clientOf(running, `Bearer ${token(name)}`);
      const { results } = await kv.batch({ operations: [operation] });
      expect(told(results[0]!)).toEqual(await alone(kv, operation));
    }
  });

  test("are asked for before anything is read: who is nobody gets no batch", async () => {
    const running = await start({ identities });
    await expect(clientOf(running).batch({ operations: [get("k")] })).rejects.toMatchObject({
      code: Code.Unauthenticated,
    });
  });
});

describe("on a replica that passes writes on, a batch", () => {
  async function startPair(): Promise<{ master: TestServer; replica: TestServer }> {
    const master = await start();
    const replica = await start({ forwardWrites: true });
    // Reads are served.
    replica.store.write = () => Promise.reject(new StoreError("not_master", "this node is a replica"));
    replica.replicator.masterAddress = `127.0.0.1:${master.port}`;
    return { master, replica };
  }

  const operations = [set("a"), get("a"), increment("n"), set(""), remove("a", { clientId: "c", clientSeq: 4n })];

  test("is read there, and its writes go to the master by one call, in their order", async () => {
    const { master, replica } = await startPair();
    replica.store.entries.set("61", { value: bytes("here"), createSeq: seq(1), modSeq: seq(1) });
    const { results } = await clientOf(replica).batch({ operations });
    expect(cases({ results })).toEqual(["set", "get", "increment", "invalid_argument", "delete"]);
    expect(told(results[1]!)).toMatchObject({ answer: { value: bytes("here") } });
    expect(told(results[4]!)).toMatchObject({ answer: { existed: true } });
    expect(master.store.writes.map(([command]) => command?.kind)).toEqual(["set", "increment", "delete"]);
    expect(master.store.writeOptions[2]?.retry).toEqual({ clientId: "c", clientSeq: 4 });
    const metrics = await send(master.port, "/metrics", { method: "GET" });
    expect(metrics.text).toContain(
      'cambium_rpc_duration_seconds_count{service="cambium.v1.KVStore",method="Batch",code="ok"} 1\n',
    );
    expect(metrics.text).toContain(
      'cambium_rpc_batch_operations_total{service="cambium.v1.KVStore",method="Set",code="ok"} 1\n',
    );
  });

  test("has the master's refusals for each write, and the lack of a master too", async () => {
    const { master, replica } = await startPair();
    master.store.failure = new StoreError("storage_full", "no room");
    const full = await clientOf(replica).batch({ operations });
    expect(cases(full)).toEqual([
      "resource_exhausted",
      "get",
      "resource_exhausted",
      "invalid_argument",
      "resource_exhausted",
    ]);
    replica.replicator.masterAddress = undefined;
    const lost = await clientOf(replica).batch({ operations });
    expect(told(lost.results[0]!)).toEqual(await alone(clientOf(replica), operations[0]!));
    expect(cases(lost).filter((kind) => kind === "failed_precondition")).toHaveLength(3);
    replica.replicator.masterAddress = "127.0.0.1:1";
    const unreached = await clientOf(replica).batch({ operations });
    expect(cases(unreached).filter((kind) => kind === "unavailable")).toHaveLength(3);
  });

  test("goes to a master that is older, and knows no batches, one write after the other", async () => {
    const { replica } = await startPair();
    const taken: string[] = [];
    const old = createServer(
      connectNodeAdapter({
        routes: (router) =>
          router.service(KVStore, {
            set: () => (taken.push("set"), { token: bytes("t") }),
            increment: () => (taken.push("increment"), { value: 5n }),
            delete: () => (taken.push("delete"), { existed: true }),
          }),
      }),
    );
    await new Promise<void>((resolve) => old.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void old.close());
    replica.replicator.masterAddress = `127.0.0.1:${(old.address() as AddressInfo).port}`;
    const { results } = await clientOf(replica).batch({ operations });
    expect(cases({ results })).toEqual(["set", "get", "increment", "invalid_argument", "delete"]);
    expect(taken.toSorted((a, b) => a.localeCompare(b))).toEqual(["delete", "increment", "set"]);
  });
});

test("what a batch was made of is counted by the methods of its operations, and by what became of them", async () => {
  const running = await start();
  await clientOf(running).batch({ operations: [get("a"), get("b"), get(""), set("k")] });
  const { text } = await send(running.port, "/metrics", { method: "GET" });
  const counted = text.split("\n").filter((line) => line.startsWith("cambium_rpc_batch_operations_total"));
  const labels = (method: string, code: string): string =>
    `cambium_rpc_batch_operations_total{service="cambium.v1.KVStore",method="${method}",code="${code}"}`;
  expect(counted.toSorted((a, b) => a.localeCompare(b))).toEqual([
    `${labels("Get", "invalid_argument")} 1`,
    `${labels("Get", "ok")} 2`,
    `${labels("Set", "ok")} 1`,
  ]);
});
