/** What a node tells of its calls: in `/metrics`, in the slow log, in its log, and to the caller. */
import { onTestFinished, expect, test, describe } from "vitest";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Cluster } from "../../api/gen/cambium/v1/cluster_pb.js";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { FakeClock } from "../base/clock.js";
import type { LogControl } from "../base/logger.js";
import { bearerToken, bearerTokenHash } from "../identity/bearer-token.js";
import { Identities } from "../identity/identities.js";
import type { IdentityEntry } from "../identity/identity-file.js";
import { Registry } from "../metrics/registry.js";
import { StoreError } from "../store/store.js";
import { NotingLogger } from "./testing/noting-logger.js";
import { callJson, send, startTestServer, type TestServer } from "./testing/test-server.js";

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const started = await startTestServer(options);
  onTestFinished(() => started.server.close());
  return started;
}

/** The samples of `/metrics`, by name and labels. */
async function scrape(port: number): Promise<Map<string, number>> {
  const { text } = await send(port, "/metrics", { method: "GET" });
  const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    samples.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
  );
}

const labels = (method: string, code: string): string =>
  `{service="cambium.v1.KVStore",method="${method}",code="${code}"}`;
const value = (text: string): string => Buffer.from(text).toString("base64");

describe("/metrics", () => {
  test("is text of the exposition format that nobody keeps, for GET and HEAD", async () => {
    const registry = new Registry();
    registry.gauge({ name: "cambium_keys", help: "Keys." }, () => 7);
    const { port } = await start({ registry });
    const answer = await send(port, "/metrics", { method: "GET" });
    expect(answer).toMatchObject({
      status: 200,
      headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8", "cache-control": "no-store" },
    });
    expect(answer.text).toMatch(/^# HELP cambium_keys Keys\.\n# TYPE cambium_keys gauge\ncambium_keys 7\n/);
    expect(answer.text.endsWith("\n")).toBe(true);
    const head = await send(port, "/metrics", { method: "HEAD" });
    expect(head).toMatchObject({ status: 200, text: "", headers: { "content-type": answer.headers["content-type"] } });
    expect(await send(port, "/metrics")).toMatchObject({ status: 405, headers: { allow: "GET, HEAD" } });
  });

  test("is not for pages of foreign origins or under foreign names", async () => {
    const { port } = await start();
    const rebound = await send(port, "/metrics", { method: "GET", headers: { host: "evil.example" } });
    expect(rebound.status).toBe(403);
    expect(rebound.text).not.toContain("cambium_");
    const foreign = await send(port, "/metrics", { method: "GET", headers: { origin: "https://evil.example" } });
    expect(foreign.headers["access-control-allow-origin"]).toBeUndefined();
  });

  test("counts calls by method and by how they ended, whatever the protocol, with those that reach no handler", async () => {
    const { port, url, store } = await start();
    await callJson(port, "cambium.v1.KVStore/Set", { key: "a", value: value("1") });
    await callJson(port, "cambium.v1.KVStore/Get", { key: "a" });
    const grpc = createClient(KVStore, createGrpcTransport({ baseUrl: url }));
    await grpc.get({ key: "a" });
    store.failure = new StoreError("storage_full", "no room");
    await callJson(port, "cambium.v1.KVStore/Set", { key: "a", value: value("1") });
    store.failure = undefined;
    await send(port, "/cambium.v1.KVStore/Get", { headers: { "content-type": "application/json" }, body: "{" });
    await callJson(port, "cambium.v1.Replication/Survey", {}, { authorization: "Cambium-Peer wrong" });
    const samples = await scrape(port);
    const count = (method: string, code: string): number | undefined =>
      samples.get(`cambium_rpc_duration_seconds_count${labels(method, code)}`);
    expect(count("Get", "ok")).toBe(2);
    expect(count("Get", "invalid_argument")).toBe(1);
    expect(count("Set", "ok")).toBe(1);
    expect(count("Set", "resource_exhausted")).toBe(1);
    expect(samples.get('cambium_rpc_errors_total{reason="storage_full"}')).toBe(1);
    expect(samples.get('cambium_rpc_errors_total{reason="disk_full"}')).toBe(0);
    expect(samples.get('cambium_rpc_in_flight{service="cambium.v1.KVStore",method="Get"}')).toBe(0);
    expect([...samples.keys()].filter((name) => name.includes("_bucket") && name.includes('"+Inf"')).length).toBe(
      [...samples.keys()].filter((name) => name.startsWith("cambium_rpc_duration_seconds_count")).length,
    );
  });

  test("shows calls in flight, and streams while they are open and when they have ended", async () => {
    const { port, url, store } = await start();
    let open!: () => void;
    store.gate = new Promise((resolve) => (open = resolve));
    const writing = callJson(port, "cambium.v1.KVStore/Set", { key: "a", value: "" });
    while (store.writing === 0) await new Promise((resolve) => setImmediate(resolve));
    const inFlight = 'cambium_rpc_in_flight{service="cambium.v1.KVStore",method="Set"}';
    expect((await scrape(port)).get(inFlight)).toBe(1);
    open();
    await writing;
    expect((await scrape(port)).get(inFlight)).toBe(0);

    const client = createClient(Cluster, createConnectTransport({ baseUrl: url, httpVersion: "2" }));
    for await (const message of client.backup({})) expect(message).toBeDefined();
    const samples = await scrape(port);
    const cluster = 'service="cambium.v1.Cluster",method="Backup"';
    expect(samples.get(`cambium_rpc_streams_total{${cluster},code="ok"}`)).toBe(1);
    expect(samples.get(`cambium_rpc_open_streams{${cluster}}`)).toBe(0);
  });

  test("counts connections, and bytes of those that are open and of those that are closed", async () => {
    const { port } = await start();
    const before = await scrape(port);
    await callJson(port, "cambium.v1.KVStore/Set", { key: "a", value: value("x".repeat(10_000)) });
    const after = await scrape(port);
    expect(after.get("cambium_connections_accepted_total")! - before.get("cambium_connections_accepted_total")!).toBe(
      2,
    );
    expect(after.get("cambium_connections")).toBeGreaterThan(0);
    const received = "cambium_network_received_bytes_total";
    expect(after.get(received)! - before.get(received)!).toBeGreaterThan(10_000);
    expect(after.get("cambium_network_sent_bytes_total")).toBeGreaterThan(
      before.get("cambium_network_sent_bytes_total")!,
    );
  });

  test("never tells a key or a value", async () => {
    const { port } = await start({ slowThresholdMs: 0 });
    for (const key of ["hidden-key-1", "hidden-key-2"]) {
      await callJson(port, "cambium.v1.KVStore/Set", { key, value: value("hidden-value") });
      await callJson(port, "cambium.v1.KVStore/Get", { key: `${key}-absent` });
    }
    const { text } = await send(port, "/metrics", { method: "GET" });
    expect(text).toContain('method="Get"');
    expect(text).not.toContain("hidden");
  });
});

describe("the id of a request", () => {
  test("is the caller's own where it is fit to be logged, or else a new one each time, and is returned", async () => {
    const { port } = await start();
    const idOf = async (given?: string): Promise<string> => {
      const headers = given === undefined ? {} : { "x-request-id": given };
      return String((await callJson(port, "cambium.v1.KVStore/Get", { key: "a" }, headers)).headers["x-request-id"]);
    };
    expect(await idOf("trace-1.2:3/4")).toBe("trace-1.2:3/4");
    const made = [await idOf(), await idOf(), await idOf("with space"), await idOf("x".repeat(129)), await idOf("")];
    expect(new Set(made).size).toBe(5);
    for (const id of made) expect(id).toMatch(/^[0-9a-f]{12}-[0-9a-z]+$/);
  });

  test("is returned over gRPC too, and with a refusal", async () => {
    const { port, url } = await start();
    const client = createClient(KVStore, createGrpcTransport({ baseUrl: url }));
    let header: Headers | undefined;
    await client.get({ key: "a" }, { headers: { "x-request-id": "mine" }, onHeader: (found) => (header = found) });
    expect(header?.get("x-request-id")).toBe("mine");
    const proof = { "x-request-id": "theirs", authorization: "Bearer wrong" };
    const refused = await start({ clusterSecret: new Uint8Array(32).fill(1) });
    const answer = await callJson(refused.port, "cambium.v1.Replication/Survey", {}, proof);
    expect([answer.status, answer.headers["x-request-id"]]).toEqual([401, "theirs"]);
    expect(port).toBeGreaterThan(0);
  });

  test("stands in the lines that concern the call", async () => {
    const logger = new NotingLogger();
    const { port, store } = await start({ logger });
    store.failure = new TypeError("a mistake");
    const { status } = await callJson(port, "cambium.v1.KVStore/Get", { key: "a" }, { "x-request-id": "broken" });
    expect(status).toBe(500);
    expect(logger.lines).toEqual([
      {
        level: "error",
        message: "a call failed for a reason that is a bug",
        fields: { method: "cambium.v1.KVStore/Get", request_id: "broken", error: expect.stringContaining("a mistake") },
      },
    ]);
  });
});

describe("the audit", () => {
  test("has a line for each call that changes the cluster or a node, how it ended included, and for no other", async () => {
    const logger = new NotingLogger();
    const { port } = await start({ logger });
    await callJson(port, "cambium.v1.KVStore/Get", { key: "a" });
    await callJson(port, "cambium.v1.Cluster/Status", {});
    await callJson(port, "cambium.v1.Cluster/SetStorageLimits", { maxEntries: "7" }, { "x-request-id": "one" });
    await callJson(port, "cambium.v1.Cluster/SetLogLevel", { level: "loud" }, { "x-request-id": "two" });
    const line = (method: string, code: string, id: string): object => ({
      level: "info",
      message: "an operator's call",
      fields: {
        audit: true,
        method: `cambium.v1.Cluster/${method}`,
        code,
        identity: "local",
        caller: "127.0.0.1",
        request_id: id,
      },
    });
    expect(logger.lines).toEqual([
      line("SetStorageLimits", "ok", "one"),
      line("SetLogLevel", "invalid_argument", "two"),
    ]);
  });

  describe("of a node that knows identities", () => {
    const token = (n: number): string => bearerToken(new Uint8Array(32).fill(n));
    const bearer = (n: number): Record<string, string> => ({ authorization: `Bearer ${token(n)}` });
    const hashOf = (n: number) => ({ kind: "token", sha256: bearerTokenHash(token(n)) }) as const;
    const entries: readonly IdentityEntry[] = [
      { name: "ops", roles: ["admin"], credential: hashOf(1) },
      { name: "web", roles: ["writer"], prefixes: ["web/"], credential: hashOf(2) },
    ];

    async function audited(): Promise<TestServer & { logger: NotingLogger; identities: Identities }> {
      const logger = new NotingLogger();
      const identities = new Identities(entries, () => 0);
      return { ...(await start({ logger, identities })), logger, identities };
    }

    /** Of the lines that a refusal wrote: what stands in them beside where they came from. */
    const refusals = ({ lines }: NotingLogger): unknown[] =>
      lines
        .filter(({ message }) => message === "a call was refused")
        .map(({ fields: { audit, caller, method, identity, reason, request_id: id } }) => {
          expect([audit, caller]).toEqual([true, "127.0.0.1"]);
          return { method, identity, reason, id };
        });

    test("names the operator who called", async () => {
      const { port, logger } = await audited();
      await callJson(port, "cambium.v1.Cluster/SetLogLevel", { level: "warn" }, bearer(1));
      expect(logger.lines).toMatchObject([
        { message: "an operator's call", fields: { identity: "ops", caller: "127.0.0.1", code: "ok" } },
      ]);
    });

    test("tells of whom it refused, for which call and why, and of a stranger where it called from", async () => {
      const { port, logger } = await audited();
      const call = (method: string, message: object, id: string, headers: Record<string, string> = {}) =>
        callJson(port, `cambium.v1.${method}`, message, { "x-request-id": id, ...headers });
      await call("Cluster/SetLogLevel", { level: "warn" }, "1");
      await call("Cluster/Promote", {}, "2", { authorization: `Bearer ${token(9)}` });
      await call("Cluster/Promote", {}, "3", bearer(2));
      await call("KVStore/Set", { key: "other" }, "4", bearer(2));
      await call("Replication/Survey", {}, "5", { authorization: "Cambium-Peer 00" });
      await call("KVStore/Set", { key: "web/a" }, "6", bearer(2));
      expect(refusals(logger)).toEqual([
        { method: "cambium.v1.Cluster/SetLogLevel", identity: undefined, reason: "no_credential", id: "1" },
        { method: "cambium.v1.Cluster/Promote", identity: undefined, reason: "bad_credential", id: "2" },
        { method: "cambium.v1.Cluster/Promote", identity: "web", reason: "not_allowed", id: "3" },
        { method: "cambium.v1.KVStore/Set", identity: "web", reason: "outside_prefixes", id: "4" },
      ]);
      // A caller who shows another thing that is none is told of with the first one; and no operator has called.
      expect(logger.lines).toHaveLength(4);
      expect(JSON.stringify(logger.lines)).not.toMatch(/cambium_[A-Za-z0-9_-]{20}|other/);
    });

    test("tells of streams that are refused: at once, by their keys, and when their identity is revoked", async () => {
      const { url, logger, identities, records } = await audited();
      const transport = createConnectTransport({ baseUrl: url, httpVersion: "2" });
      const [kv, log] = [createClient(KVStore, transport), createClient(Log, transport)];
      const readAll = async (stream: AsyncIterable<unknown>): Promise<unknown> => {
        try {
          for await (const message of stream) expect(message).toBeDefined();
          return undefined;
        } catch (error) {
          return error;
        }
      };
      const headers = (n: number, id: string) => ({ headers: { ...bearer(n), "x-request-id": id } });
      expect(await readAll(createClient(Cluster, transport).backup({}, headers(2, "1")))).toBeDefined();
      expect(await readAll(kv.watch({ prefix: "we" }, headers(2, "2")))).toBeDefined();
      await records.produce([Buffer.from("a")]);
      const stream = log.consumeStream({}, headers(1, "3"))[Symbol.asyncIterator]();
      await stream.next();
      identities.replace(entries.filter(({ name }) => name !== "ops"));
      await records.produce([Buffer.from("b")]);
      expect(await readAll({ [Symbol.asyncIterator]: () => stream })).toBeDefined();
      await expect
        .poll(() => refusals(logger))
        .toEqual([
          { method: "cambium.v1.Cluster/Backup", identity: "web", reason: "not_allowed", id: "1" },
          { method: "cambium.v1.KVStore/Watch", identity: "web", reason: "outside_prefixes", id: "2" },
          { method: "cambium.v1.Log/ConsumeStream", identity: "ops", reason: "bad_credential", id: "3" },
        ]);
    });

    test("tells of who may not see the page of the metrics", async () => {
      const { port, logger } = await audited();
      await send(port, "/metrics", { method: "GET" });
      expect(refusals(logger)).toEqual([
        { method: "/metrics", identity: undefined, reason: "no_credential", id: undefined },
      ]);
    });

    test("is not filled by whoever calls in vain: the rest is a number, told at the end at the latest", async () => {
      const { port, logger, server } = await audited();
      for (let n = 0; n < 50; n++) await callJson(port, "cambium.v1.Cluster/Promote", {});
      expect(logger.lines).toHaveLength(1);
      await server.close();
      expect(logger.lines.slice(1)).toMatchObject([
        {
          message: "calls were refused again",
          fields: { audit: true, caller: "127.0.0.1", reason: "no_credential", calls: 49 },
        },
      ]);
    });
  });

  test("of a node that knows nobody tells of whoever takes itself for a node of the cluster", async () => {
    const logger = new NotingLogger();
    const clusterSecret = new Uint8Array(32).fill(1);
    const { port } = await start({ logger, clusterSecret });
    await callJson(port, "cambium.v1.Replication/Survey", {});
    expect(logger.lines).toMatchObject([
      { message: "a call was refused", fields: { method: "cambium.v1.Replication/Survey", reason: "no_credential" } },
    ]);
  });
});

describe("Cluster.SetLogLevel", () => {
  test("changes which lines are written, and tells what it was", async () => {
    const logControl: LogControl = { level: "info" };
    const { port } = await start({ logControl });
    const answer = await callJson(port, "cambium.v1.Cluster/SetLogLevel", { level: "debug" });
    expect([answer.json, logControl.level]).toEqual([{ levelBefore: "info" }, "debug"]);
  });

  test("refuses another word, and names those that there are", async () => {
    const logControl: LogControl = { level: "info" };
    const { port } = await start({ logControl });
    const { status, json } = await callJson(port, "cambium.v1.Cluster/SetLogLevel", { level: "loud" });
    expect([status, json["message"]]).toEqual([400, 'level is "loud"; it is one of debug, info, warn, error']);
    expect(logControl.level).toBe("info");
  });
});

describe("Cluster.SlowLog", () => {
  /** A call of a method that takes so long by the server's clock. */
  async function slowly(
    { port, store }: TestServer,
    clock: FakeClock,
    ms: number,
    [method, message]: readonly [string, object],
    headers?: Record<string, string>,
  ): Promise<void> {
    let open!: () => void;
    store.gate = new Promise((resolve) => (open = resolve));
    const before = store.writing;
    const writing = callJson(port, `cambium.v1.KVStore/${method}`, message, headers);
    while (store.writing === before) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(ms);
    open();
    await writing;
  }

  test("tells the newest slow calls with their sizes and the beginning of a key, and no value", async () => {
    const clock = new FakeClock(1_700_000_000_000);
    const server = await start({ clock, slowThresholdMs: 100 });
    const set = { key: `${"k".repeat(63)}ä${"rest".repeat(20)}`, value: value("secret-value") };
    await slowly(server, clock, 151, ["Set", set], { "x-request-id": "first" });
    await slowly(server, clock, 100, ["Set", { key: "not-slow", value: "" }]);
    const operations = [{ delete: { key: "d1" } }, { set: { key: "s2", value: value("secret-2") } }];
    await slowly(server, clock, 2000, ["Write", { operations }], { "x-request-id": "second" });
    const { json } = await callJson(server.port, "cambium.v1.Cluster/SlowLog", {});
    expect(json).toEqual({
      calls: [
        {
          method: "cambium.v1.KVStore/Write",
          startedMs: "1700000000251",
          durationMs: "2000",
          code: "ok",
          requestId: "second",
          callerAddress: "127.0.0.1",
          identity: "local",
          keys: "2",
          keyBytes: "4",
          valueBytes: "8",
          firstKey: "d1",
        },
        {
          method: "cambium.v1.KVStore/Set",
          startedMs: "1700000000000",
          durationMs: "151",
          code: "ok",
          requestId: "first",
          callerAddress: "127.0.0.1",
          identity: "local",
          keys: "1",
          keyBytes: String(Buffer.byteLength(set.key)),
          valueBytes: "12",
          firstKey: `${"k".repeat(63)}ä`,
        },
      ],
      thresholdMs: "100",
      total: "2",
    });
    expect(JSON.stringify(json)).not.toContain("secret");
    expect((await scrape(server.port)).get("cambium_rpc_slow_calls_total")).toBe(2);
  });

  test("has no call in it when the threshold is 0", async () => {
    const clock = new FakeClock();
    const server = await start({ clock, slowThresholdMs: 0 });
    await slowly(server, clock, 10_000, ["Set", { key: "a", value: "" }]);
    const { json } = await callJson(server.port, "cambium.v1.Cluster/SlowLog", {});
    expect(json).toEqual({ calls: [], thresholdMs: "0", total: "0" });
  });
});
