/** What the SDK of OpenTelemetry is given to see of calls, and that without one there is nothing. */
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { context, propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-node";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { Acknowledge } from "../../api/gen/cambium/v1/types_pb.js";
import { StoreError } from "../store/store.js";
import { callJson, startTestServer, type TestServer } from "./testing/test-server.js";
import { Tracing } from "./tracing.js";

test("where no SDK is registered there is no tracing", () => {
  expect(Tracing.find()).toBeUndefined();
});

describe("where one is", () => {
  const exporter = new InMemorySpanExporter();
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });

  beforeAll(() => provider.register());
  beforeEach(() => exporter.reset());
  afterAll(async () => {
    await provider.shutdown();
    for (const api of [trace, propagation, context]) api.disable();
  });

  async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
    const started = await startTestServer(options);
    onTestFinished(() => started.server.close());
    return started;
  }

  /** So many have ended: a caller has its answer before that. */
  async function spans(count: number): Promise<ReadableSpan[]> {
    await expect.poll(() => exporter.getFinishedSpans().length).toBe(count);
    return exporter.getFinishedSpans();
  }

  test("a call is a span of a server, with who asked for what and how it ended", async () => {
    const { port } = await start();
    await callJson(port, "cambium.v1.KVStore/Get", { key: "a" }, { "x-request-id": "mine" });
    const [span] = await spans(1);
    expect(span).toMatchObject({
      name: "cambium.v1.KVStore/Get",
      kind: SpanKind.SERVER,
      attributes: {
        "rpc.system": "connect_rpc",
        "rpc.service": "cambium.v1.KVStore",
        "rpc.method": "Get",
        "client.address": "127.0.0.1",
        "cambium.request_id": "mine",
      },
      status: { code: SpanStatusCode.UNSET },
    });
    expect(span!.parentSpanContext).toBeUndefined();
  });

  test("it belongs to the trace that its caller names, and a header that names none is harmless", async () => {
    const { port } = await start();
    const [traceId, spanId] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
    const get = (traceparent: string): Promise<unknown> =>
      callJson(port, "cambium.v1.KVStore/Get", { key: "a" }, { traceparent });
    await get(`00-${traceId}-${spanId}-01`);
    await get("00-nonsense");
    const [named, unnamed] = await spans(2);
    expect(named!.spanContext().traceId).toBe(traceId);
    expect(named!.parentSpanContext).toMatchObject({ traceId, spanId, isRemote: true });
    expect(unnamed!.parentSpanContext).toBeUndefined();
  });

  test("over gRPC and for streams too; one that is its caller's fault has not failed, and one that the node is to blame for has", async () => {
    const { port, url, store } = await start();
    const grpc = createGrpcTransport({ baseUrl: url });
    await createClient(KVStore, grpc).get({ key: "a" });
    const leaving = new AbortController();
    const stream = createClient(Log, grpc).consumeStream({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    await stream.next();
    leaving.abort();
    await stream.next().catch(() => undefined);
    await callJson(port, "cambium.v1.KVStore/Get", { key: "" });
    store.failure = new StoreError("failed", "the disk has failed");
    await callJson(port, "cambium.v1.KVStore/Set", { key: "a" });
    const told = (await spans(4)).map(({ name, attributes, status }) => [
      name.split("/")[1],
      attributes["rpc.grpc.status_code"] ?? attributes["rpc.connect_rpc.error_code"],
      status.code,
    ]);
    const { UNSET, ERROR } = SpanStatusCode;
    expect(told.toSorted()).toEqual(
      [
        ["Get", 0, UNSET],
        ["ConsumeStream", 1, UNSET],
        ["Get", "invalid_argument", UNSET],
        ["Set", "unavailable", ERROR],
      ].toSorted(),
    );
  });

  test("a write tells when it was committed, and when all had it", async () => {
    const { url, replicator } = await start();
    const kv = createClient(KVStore, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    for (const acknowledge of [Acknowledge.MASTER, Acknowledge.COMMITTED]) await kv.set({ key: "a", acknowledge });
    const written = kv.set({ key: "a", acknowledge: Acknowledge.ALL });
    await expect.poll(() => replicator.replications.count).toBe(1);
    replicator.replications.release();
    await written;
    const events = (await spans(3)).map((span) => span.events.map(({ name }) => name));
    expect(events).toEqual([["kept"], ["committed"], ["committed", "replicated"]]);
  });

  test("a write that is passed on is one trace on both nodes, with one request id", async () => {
    const master = await start();
    const replica = await start({ forwardWrites: true });
    replica.store.failure = new StoreError("not_master", "this node is a replica");
    replica.replicator.masterAddress = `127.0.0.1:${master.port}`;
    const answer = await callJson(replica.port, "cambium.v1.KVStore/Set", { key: "a" });
    expect(answer.status).toBe(200);
    const [onMaster, onReplica] = await spans(2);
    expect(onMaster!.spanContext().traceId).toBe(onReplica!.spanContext().traceId);
    expect(onMaster!.parentSpanContext?.spanId).toBe(onReplica!.spanContext().spanId);
    expect([onMaster, onReplica].map((span) => span!.attributes["cambium.request_id"])).toEqual(
      Array.from({ length: 2 }, () => answer.headers["x-request-id"]),
    );
  });

  test("no span has a key or a value", async () => {
    const { port } = await start();
    const value = Buffer.from("hidden-value").toString("base64");
    await callJson(port, "cambium.v1.KVStore/Set", { key: "hidden-key", value });
    await callJson(port, "cambium.v1.KVStore/Set", { key: "hidden-key", value, ifAbsent: true });
    await callJson(port, "cambium.v1.KVStore/Scan", { prefix: "hidden" });
    const told = JSON.stringify(
      (await spans(3)).map(({ name, attributes, events, links, status }) => [name, attributes, events, links, status]),
    );
    expect(told).not.toMatch(new RegExp(`hidden|${value}`));
  });
});
